// SPDX-License-Identifier: Apache-2.0
#include "evenflow/lab/bench.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "evenflow/core/rank_threads.h"
#include "evenflow/model/normalization_layers.h"
#include "evenflow/ops/shape.h"
#include "evenflow/train/train.h"

namespace evenflow::lab {

Sequential Net::make(uint64_t seed) const {
  int64_t made = 0;
  auto kernel = [&] {
    Initializer init = deviation ? Initializer("RandomNormal", 0, deviation) : "HeNormal";
    init.seed = int64_t(seed * 64) + made++;
    return init;
  };
  std::vector<Layer> layers{Flatten()};
  for (int64_t units : hidden) {
    // Batch and layer normalisation bring beta in the place of the bias.
    layers.push_back(
        Dense({.units = units, .use_bias = norm == none, .kernel_initializer = kernel()}));
    if (norm == batch) layers.push_back(BatchNormalization(batch_norm));
    if (norm == layer) layers.push_back(LayerNormalization());
    layers.push_back(Activation(activation.c_str()));
  }
  layers.push_back(Dense({.units = 10, .activation = "softmax", .kernel_initializer = kernel()}));
  return Sequential(layers);
}

double Curve::best() const {
  double b = 0;
  for (double a : accuracy)
    if (std::isfinite(a)) b = std::max(b, a);
  return b;
}
double Curve::steps_to(double least) const {
  for (size_t i = 0; i < step.size(); ++i)
    if (accuracy[i] >= least) return step[i];
  return std::numeric_limits<double>::infinity();
}

Spread::Spread(const std::vector<double>& v) : n(v.size()) {
  if (v.empty()) return;
  mean = std::accumulate(v.begin(), v.end(), 0.0) / double(n);
  least = *std::min_element(v.begin(), v.end()), most = *std::max_element(v.begin(), v.end());
  double m2 = 0;
  for (double x : v) m2 += (x - mean) * (x - mean);
  deviation = n > 1 && std::isfinite(mean) ? std::sqrt(m2 / double(n - 1)) : 0;
}
std::string number(double v, const char* format) {
  char text[64];
  std::snprintf(text, sizeof text, format, v);
  return text;
}
std::string percent(double share) { return number(share * 100, "%.1f %%"); }
std::string Spread::text(const char* format) const {
  if (!std::isfinite(mean)) return std::isfinite(least) ? "not always" : "never";
  return number(mean, format) + " ± " + number(deviation, format);
}
double median(std::vector<double> v) {
  if (v.empty()) return std::nan("");
  std::sort(v.begin(), v.end());
  const size_t h = v.size() / 2;
  return v.size() % 2 || v[h - 1] == v[h] ? v[h] : (v[h - 1] + v[h]) / 2;
}
format::Json json(double v) { return std::isfinite(v) ? format::Json(v) : format::Json(); }
format::Json json(const std::vector<double>& v) {
  format::Json j = format::Json::array();
  for (double x : v) j.push_back(json(x));
  return j;
}
format::Json json(const Curve& c) {
  return {{"step", json(c.step)},
          {"accuracy", json(c.accuracy)},
          {"loss", json(c.loss)},
          {"diverged", c.diverged}};
}

Bench::Bench(const Options& o) : options(o) {}
Dataset Bench::train_batches(int64_t batch, uint64_t seed) const {
  // The last, smaller batch of an epoch is left out: all steps see the same number of samples.
  return options.train.shuffle(seed).batch(std::min(batch, options.train.size()), true);
}
Training Bench::training() const {
  Training t{.steps = scaled(3000, 800), .every = scaled(20, 10)};
  if (options.steps) t.steps = options.steps;
  return t;
}

std::pair<double, double> Bench::test(const Model& model) const {
  const Logs l = model.evaluate(options.test.batch(options.test.size()), {});
  return {l.at("loss"), l.at("accuracy")};
}

void Bench::prepare(const Sequential& net, const Training& t, const Dataset& data) const {
  net.compile({.optimizer = SGD({.learning_rate = t.rate, .momentum = t.momentum}),
               .loss = "sparse_categorical_crossentropy",
               .metrics = {"accuracy"},
               .micro_batch_size = t.micro_batch,
               .exact_micro_batches = t.exact});
  const Sig x = data.element_sig(0);
  Dims d(x.shape.begin(), x.shape.end());
  d[0] = -1;
  net.build(d);
}
Curve Bench::train(const Sequential& net, const Training& t, uint64_t seed,
                   const Look& look) const {
  const Dataset data = train_batches(t.batch, seed);
  const int64_t batches = data.batches();
  Curve c;
  auto see = [&](int64_t step) {
    const auto [loss, accuracy] = test(net);
    c.step.push_back(double(step)), c.loss.push_back(loss), c.accuracy.push_back(accuracy);
    c.diverged = c.diverged || !std::isfinite(loss);
  };
  prepare(net, t, data);
  for (int64_t step = 0; step < t.steps; ++step) {
    if (options.between_steps) options.between_steps();
    if (look) look(net, step);
    if (step % t.every == 0) see(step);
    const Tensors b = data.batch_at(step % batches, step / batches);
    try {
      const Logs logs = net.train_on_batch(b[0], b[1]);
      c.diverged = c.diverged || !std::isfinite(logs.at("loss"));
    } catch (const Error& e) {  // every gradient was infinite or NaN for many steps
      if (e.code() != Code::FailedPrecondition) throw;
      c.diverged = true;
    }
    if (c.diverged) return c;
  }
  if (look) look(net, t.steps);
  see(t.steps);
  return c;
}

Curve Bench::train_over_ranks(const Net& net, const Training& t, uint64_t seed) const {
  const Dataset data = train_batches(t.batch, seed);
  std::vector<Sequential> nets;
  for (int r = 0; r < t.ranks; ++r) {
    nets.push_back(net.make(seed));
    prepare(nets.back(), t, data);
  }
  Curve c;
  const int64_t batches = data.batches(), share = t.batch / t.ranks;
  try {
    RankThreads(t.ranks).run([&](int r) {
      for (int64_t step = 0; step < t.steps; ++step) {
        if (!r && options.between_steps) options.between_steps();
        Tensors b = data.batch_at(step % batches, step / batches);
        for (Tensor& part : b) {
          std::vector<int64_t> from(size_t(part.rank()), 0), extent(size_t(part.rank()), -1);
          from[0] = r * share, extent[0] = share;
          part = slice(part, from, extent);
        }
        nets[size_t(r)].train_on_batch(b[0], b[1]);
      }
    });
  } catch (const Error& e) {  // every gradient was infinite or NaN for many steps
    if (e.code() != Code::FailedPrecondition) throw;
    c.diverged = true;
    return c;
  }
  const auto [loss, accuracy] = test(nets[0]);
  c.step = {double(t.steps)}, c.loss = {loss}, c.accuracy = {accuracy};
  c.diverged = !std::isfinite(loss);
  return c;
}

std::vector<std::vector<Curve>> Bench::grid(
    std::string_view experiment, size_t settings,
    const std::function<Curve(size_t, uint64_t)>& one) const {
  const size_t seeds = size_t(options.seeds);
  std::vector<std::vector<Curve>> all(settings, std::vector<Curve>(seeds));
  run_jobs(
      settings * seeds,
      [&](size_t i) { all[i / seeds][i % seeds] = one(i / seeds, seed_of(i % seeds)); },
      [&](size_t done) {
        if (options.progress) options.progress(experiment, done, settings * seeds);
      });
  return all;
}

std::vector<double> map_curves(const std::vector<Curve>& curves,
                               const std::function<double(const Curve&)>& f) {
  std::vector<double> v;
  for (auto& c : curves) v.push_back(f(c));
  return v;
}
const Bench::Pair& Bench::pair(const std::string& activation) {
  if (const auto known = pairs_.find(activation); known != pairs_.end()) return known->second;
  Pair p;
  p.plain_net.activation = activation;
  if (activation == "relu") p.plain_net.deviation = 0;
  p.normed_net = p.plain_net, p.normed_net.norm = Net::batch;
  // The plain net gets the best of a wide choice: every third step of a decade.
  for (double r = 0.001; r < 40; r *= std::sqrt(10.)) p.rates.push_back(r);
  const Training base = training();
  const auto tuning =
      grid("the plain net's learning rate", p.rates.size(), [&](size_t i, uint64_t seed) {
        Training t = base;
        t.rate = p.rates[i];
        return train(p.plain_net.make(seed), t, seed);
      });
  size_t chosen = 0;
  for (size_t i = 0; i < p.rates.size(); ++i) {
    // By the mean over the curve: high early and high late.
    p.rate_accuracy.push_back(Spread(map_curves(tuning[i], [](const Curve& c) {
                                if (c.diverged) return 0.;
                                return Spread(c.accuracy).mean;
                              })).mean);
    if (p.rate_accuracy[i] > p.rate_accuracy[chosen]) chosen = i;
  }
  p.rate = p.rates[chosen], p.plain = tuning[chosen];
  p.normed = grid("the same with batch normalisation", 1, [&](size_t, uint64_t seed) {
    Training t = base;
    t.rate = p.rate;
    return train(p.normed_net.make(seed), t, seed);
  })[0];
  p.plain_best = Spread(map_curves(p.plain, [](const Curve& c) { return c.best(); })).mean;
  return pairs_.emplace(activation, std::move(p)).first->second;
}

Band band(const std::string& name, const std::vector<Curve>& curves, int color) {
  Band b{name, {}, {}, {}, {}, color};
  size_t n = curves.empty() ? 0 : curves[0].step.size();
  for (auto& c : curves) n = std::min(n, c.step.size());
  for (size_t i = 0; i < n; ++i) {
    std::vector<double> v;
    for (auto& c : curves) v.push_back(c.accuracy[i]);
    const Spread s(v);
    b.x.push_back(curves[0].step[i]);
    b.low.push_back(s.least), b.middle.push_back(median(v)), b.high.push_back(s.most);
  }
  return b;
}

}  // namespace evenflow::lab
