// SPDX-License-Identifier: Apache-2.0
// R5: why does it help? Measurements of Santurkar et al. 2018 (arXiv:1805.11604): how much loss and
// gradient change along the gradient, how much a layer's gradient changes when the layers before it
// have taken their step (their measure of covariate shift), and batch norm with noise behind it.
#include <algorithm>
#include <limits>

#include "evenflow/graph/compile.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/lab/bench.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/train/losses.h"

namespace evenflow::lab {
namespace {
using Values = std::vector<std::vector<double>>;  // of each trainable weight

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double s = 0;
  for (size_t i = 0; i < a.size(); ++i) s += a[i] * b[i];
  return s;
}
double norm(const std::vector<double>& a) { return std::sqrt(dot(a, a)); }
double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double s = 0;
  for (size_t i = 0; i < a.size(); ++i) s += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(s);
}
std::vector<double> flat(const Values& v) {
  std::vector<double> all;
  for (auto& x : v) all.insert(all.end(), x.begin(), x.end());
  return all;
}

// Loss and gradient of a batch at any weights; the model is left as it was.
class Landscape {
 public:
  explicit Landscape(const Model& model) : weights_(model.trainable_weights()) {
    for (auto& l : model.impl().leaves()) {
      for (auto& w : l.layer->weights) keep(w.variable);
      for (auto& w : l.layer->extra_state()) keep(w.variable);
    }
    std::vector<Wrt> by;
    for (auto& w : weights_) by.emplace_back(w.variable);
    const Loss loss = "sparse_categorical_crossentropy";
    step_ = [model, by, loss, f = std::make_shared<Function>()](const Tensor& x, const Tensor& y) {
      return (*f)({x, y}, [&](const Tensors& b) {
        Tensors r{loss(b[1], model(b[0], {.training = true}), Tensor())};
        for (const Tensor& g : gradient(r[0], by)) r.push_back(g);
        return r;
      });
    };
  }
  ~Landscape() { restore(); }
  struct Point {
    double loss;
    Values gradient;
  };
  Point here(const Tensors& batch) const {
    const Tensors r = step_(batch[0], batch[1]);
    Point p{r[0].item(), {}};
    for (size_t i = 1; i < r.size(); ++i) p.gradient.push_back(r[i].to_vector<double>());
    return p;
  }
  // Where a step of this rate leads; only the first `weights` take it.
  Point after(const Tensors& batch, const Values& gradient, double rate, size_t weights) const {
    for (size_t i = 0; i < std::min(weights, weights_.size()); ++i) {
      const Variable& v = weights_[i].variable;
      const Tensor start = cast(value(v), DType::f64);
      v.assign(
          cast(start - rate * constant(gradient[i], start.sig().shape, DType::f64), v.sig().dtype));
    }
    Point p = here(batch);
    restore();
    return p;
  }
  size_t size() const { return weights_.size(); }
  // The places of the kernels among the weights, in order of depth.
  std::vector<size_t> kernels() const {
    std::vector<size_t> k;
    for (size_t i = 0; i < weights_.size(); ++i)
      if (weights_[i].name == "kernel") k.push_back(i);
    return k;
  }

 private:
  void keep(const Variable& v) { kept_.emplace_back(v, v.read()); }
  void restore() const {
    for (auto& [v, value] : kept_) v.assign(value);
  }
  Tensor value(const Variable& v) const {
    for (auto& [k, t] : kept_)
      if (k == v) return t;
    return v.read();
  }
  std::vector<Weight> weights_;
  std::vector<std::pair<Variable, Tensor>> kept_;
  std::function<Tensors(const Tensor&, const Tensor&)> step_;
};

// At some steps of a training.
struct Look {
  std::vector<double> step, loss_range, gradient_change, smoothness, shift, cosine;
};
Look look_along(Bench& bench, const Net& net, uint64_t seed, double rate) {
  Look found;
  Training t = bench.training();
  t.rate = rate;
  const Dataset data = bench.train_batches(t.batch, seed + 1000);  // other batches than trained on
  const int64_t every = std::max<int64_t>(1, t.steps / bench.scaled(40, 12));
  bench.train(net.make(seed), t, seed, [&](const Model& model, int64_t step) {
    if (step % every) return;
    const Landscape land(model);
    const Tensors batch = data.batch_at(step / every % data.batches());
    const auto start = land.here(batch);
    const std::vector<double> g = flat(start.gradient);
    const double length = norm(g);
    if (!(length > 0) || !std::isfinite(length)) return;
    double low = start.loss, high = start.loss, change = 0, smooth = 0;
    for (const double times : {0.5, 1., 2., 4.}) {
      const auto p = land.after(batch, start.gradient, rate * times, land.size());
      const double moved = distance(flat(p.gradient), g);
      low = std::min(low, p.loss), high = std::max(high, p.loss);
      change = std::max(change, moved / length);
      smooth = std::max(smooth, moved / (rate * times * length));
    }
    // The middle kernel: its gradient before and after those in front of it have taken their step.
    const auto kernels = land.kernels();
    const size_t middle = kernels[kernels.size() / 2];
    const auto& before = start.gradient[middle];
    const auto moved = land.after(batch, start.gradient, rate, middle);
    const auto& after = moved.gradient[middle];
    found.step.push_back(double(step));
    found.loss_range.push_back(high - low), found.gradient_change.push_back(change),
        found.smoothness.push_back(smooth);
    found.shift.push_back(distance(before, after) / norm(before));
    found.cosine.push_back(dot(before, after) / (norm(before) * norm(after)));
  });
  return found;
}
}  // namespace

Outcome run_r5(Bench& bench) {
  Outcome o{"R5", "The landscape, and covariate shift"};
  const double rate = bench.pair().rate;
  const int seeds = std::min(bench.options.seeds, 3);
  std::vector<Look> looks[2];
  looks[0].resize(size_t(seeds)), looks[1].resize(size_t(seeds));
  run_jobs(
      size_t(2 * seeds),
      [&](size_t i) {
        Net net;
        if (i % 2) net.norm = Net::batch;
        looks[i % 2][i / 2] = look_along(bench, net, bench.seed_of(i / 2), rate);
      },
      [&](size_t done) {
        if (bench.options.progress) bench.options.progress("R5", done, size_t(2 * seeds));
      });

  // Batch norm whose outputs are shifted and scaled anew at every step: more covariate shift.
  const auto noisy = bench.grid("R5", 3, [&](size_t i, uint64_t seed) {
    Net net;
    if (i) net.norm = Net::batch;
    if (i == 2)
      net.batch_norm.adjustment = BatchNormAdjustment{
          .scale_low = 0.8, .scale_high = 1.25, .bias_low = -0.5, .bias_high = 0.5};
    Training t = bench.training();
    t.rate = rate;
    return bench.train(net.make(seed), t, seed);
  });

  struct Measure {
    const char *name, *label;
    std::vector<double> Look::*values;
  };
  const Measure measures[] = {
      {"loss_range", "range of the loss along the gradient", &Look::loss_range},
      {"gradient_change", "largest relative change of the gradient", &Look::gradient_change},
      {"smoothness", "effective β-smoothness", &Look::smoothness},
      {"shift", "change of a layer's gradient by the layers before it", &Look::shift},
      {"cosine", "cosine between the two", &Look::cosine}};
  std::vector<std::vector<std::string>> rows{
      {"median over the training", "without", "with", "without / with"}};
  double medians[2][5] = {};
  for (size_t m = 0; m < 5; ++m) {
    for (const bool with : {false, true}) {
      std::vector<double> all;
      for (auto& l : looks[with]) {
        const auto& v = l.*measures[m].values;
        all.insert(all.end(), v.begin(), v.end());
        o.data[with ? "batch_norm" : "plain"][measures[m].name].push_back(json(v));
      }
      medians[with][m] = median(std::move(all));
    }
    rows.push_back({measures[m].label, number(medians[0][m]), number(medians[1][m]),
                    number(medians[0][m] / medians[1][m])});
  }
  const auto last = [](const Curve& c) { return c.last(); };
  const auto area = [](const Curve& c) { return c.diverged ? 0. : Spread(c.accuracy).mean; };
  std::vector<std::vector<std::string>> noise_rows{
      {"", "mean of the curve", "accuracy at the end"}};
  const char* names[] = {"without", "batch normalisation", "the same and noise behind it"};
  double areas[3];
  for (size_t i = 0; i < 3; ++i) {
    areas[i] = Spread(map_curves(noisy[i], area)).mean;
    noise_rows.push_back(
        {names[i], percent(areas[i]), percent(Spread(map_curves(noisy[i], last)).mean)});
    o.data["noise"].push_back({{"net", names[i]},
                               {"mean_of_curve", json(map_curves(noisy[i], area))},
                               {"last", json(map_curves(noisy[i], last))}});
  }
  const double g = medians[0][1] / medians[1][1];
  o.claims.push_back(
      {"Gradients are better predictors along their own direction (Santurkar et al.).",
       concat({"Over steps of half to four learning rates the gradient changes by ",
               number(medians[0][1]), " of its length without, ", number(medians[1][1]),
               " with (medians)."}),
       g > 1});
  o.claims.push_back(
      {"It is not because covariate shift is smaller (Santurkar et al.).",
       concat({"When the layers before it take their step, the middle layer's gradient changes by ",
               number(medians[0][3]), " of its length without, ", number(medians[1][3]),
               " with: ", medians[1][3] >= medians[0][3] ? "not less" : "less", "."}),
       medians[1][3] >= medians[0][3]});
  o.claims.push_back(
      {"With noise behind batch normalisation, shifts anew at each step, it still trains faster "
       "than without.",
       concat({"Mean accuracy over the training: ", percent(areas[0]), " without, ",
               percent(areas[1]), " with, ", percent(areas[2]), " with noise."}),
       areas[2] > areas[0]});
  o.show = [=](Report& page) {
    page.section(
        o.title,
        concat({"At some steps of a training at learning rate ", number(rate),
                ", on a batch that "
                "is not trained on: the loss and the gradient after half, one, two and four such "
                "steps along it; ",
                seeds, " seeds."}));
    page.table(rows);
    std::vector<LineChart> charts;
    for (size_t m : {1, 3}) {
      LineChart c{.title = measures[m].label, .x_label = "step", .y_label = "relative change"};
      for (const bool with : {false, true})
        c.series.push_back({with ? "with batch normalisation" : "without", looks[with][0].step,
                            looks[with][0].*measures[m].values, with ? kNormedColor : kPlainColor});
      c.y_min = 0;
      charts.push_back(std::move(c));
    }
    page.charts<LineChart>(charts);
    page.paragraph(
        "Noise behind batch normalisation: each unit is scaled by 0.8 to 1.25 and shifted by up to "
        "half a deviation, drawn anew at each step, so that no layer can rely on the distribution "
        "of what it receives.");
    page.table(noise_rows);
  };
  return o;
}

}  // namespace evenflow::lab
