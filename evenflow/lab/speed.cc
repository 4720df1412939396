// SPDX-License-Identifier: Apache-2.0
// R1: does batch normalisation need fewer steps? R2: does it allow higher learning rates?
// (Ioffe & Szegedy 2015, section 4.1, figure 1; section 4.2, table in figure 3.)
#include <algorithm>
#include <limits>
#include <mutex>

#include "evenflow/lab/bench.h"
#include "evenflow/train/probe.h"

namespace evenflow::lab {
namespace {
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The 15th, 50th and 85th percentiles of what a unit of the last hidden activation receives from
// the test data, for units 0, 1, ...: figure 1b and 1c.
struct Percentiles {
  std::vector<double> step;
  std::vector<std::vector<std::array<double, 3>>> units;  // [unit][look]
  void look(const Model& model, int64_t at, const Tensor& x) {
    std::string last;
    for (auto& l : model.layers())
      if (l.impl()->class_name() == "Activation") last = l.name();
    const Tensor in = layer_inputs(model, {last}, x, {.training = true})[0];
    const std::vector<float> v = in.to_vector();
    const size_t width = size_t(in.sig().shape.dim(-1)), rows = v.size() / width;
    units.resize(width);
    for (size_t u = 0; u < width; ++u) {
      std::vector<double> column;
      for (size_t r = 0; r < rows; ++r) column.push_back(v[r * width + u]);
      const auto q = quantiles(std::move(column), {0.15, 0.5, 0.85});
      units[u].push_back({q[0], q[1], q[2]});
    }
    step.push_back(double(at));
  }
  // How far a unit's median travels, in all.
  double travel(size_t unit) const {
    double d = 0;
    for (size_t i = 1; i < units[unit].size(); ++i)
      d += std::abs(units[unit][i][1] - units[unit][i - 1][1]);
    return d;
  }
  LineChart chart(size_t unit, const std::string& title, int color) const {
    Band b{"15th, 50th and 85th percentile", step, {}, {}, {}, color};
    for (auto& q : units[unit])
      b.low.push_back(q[0]), b.middle.push_back(q[1]), b.high.push_back(q[2]);
    LineChart c{.title = title, .x_label = "step", .y_label = "input of the sigmoid"};
    c.bands = {b};
    return c;
  }
};
}  // namespace

Outcome run_r1(Bench& bench) {
  Outcome o{"R1", "Fewer steps: the paper's net for MNIST"};
  const Bench::Pair& p = bench.pair();
  const auto best_steps = [&](const std::vector<Curve>& curves) {
    return map_curves(curves, [&](const Curve& c) { return c.steps_to(p.plain_best); });
  };
  std::vector<std::vector<std::string>> rows{{"", "steps to 90 %", "steps to 95 %",
                                              "steps to the plain net's best", "best accuracy",
                                              "accuracy at the end"}};
  o.data = {{"learning_rate", p.rate}, {"plain_best", p.plain_best}};
  for (const bool normed : {false, true}) {
    const auto& curves = normed ? p.normed : p.plain;
    auto steps = [&](double to) {
      return map_curves(curves, [=](const Curve& c) { return c.steps_to(to); });
    };
    const Spread best(map_curves(curves, [](const Curve&c) { return 100 * c.best(); })),
        last(map_curves(curves, [](const Curve&c) { return 100 * c.last(); }));
    rows.push_back({normed ? "with batch normalisation" : "without", Spread(steps(0.9)).text(),
                    Spread(steps(0.95)).text(), Spread(best_steps(curves)).text(),
                    best.text("%.1f %%"), last.text("%.1f %%")});
    format::Json j = {{"steps_to_90", json(steps(0.9))},
                      {"steps_to_95", json(steps(0.95))},
                      {"steps_to_plain_best", json(best_steps(curves))}};
    for (auto& c : curves) j["curves"].push_back(json(c));
    o.data[normed ? "batch_norm" : "plain"] = std::move(j);
  }
  const double plain = median(best_steps(p.plain)), normed = median(best_steps(p.normed));
  const bool reached = std::isfinite(normed);
  // A seed of the plain net may never see the mean of the bests: then it needs more than all steps.
  const double at_most = std::isfinite(plain) ? plain : double(bench.training().steps);
  o.claims.push_back(
      {"Batch normalisation needs fewer steps to the plain net's best accuracy.",
       !reached ? concat({"With batch normalisation at least half of the seeds do not reach ",
                          percent(p.plain_best), " in ", bench.training().steps, " steps."})
                : concat({number(normed, "%.0f"), " steps against ",
                          std::isfinite(plain) ? "" : "more than ", number(at_most, "%.0f"), " to ",
                          percent(p.plain_best), " (medians of ", bench.options.seeds,
                          " seeds): ", std::isfinite(plain) ? "" : "at least ",
                          number(at_most / normed, "%.1f"), " times fewer."}),
       reached && normed < at_most});

  // One seed again, looking at a unit.
  const Tensor x = bench.options.test.take(500).all()[0];
  Percentiles seen[2];
  run_jobs(2, [&](size_t i) {
    Net net;
    if (i) net.norm = Net::batch;
    Training t = bench.training();
    t.rate = p.rate;
    const int64_t every = std::max<int64_t>(1, t.steps / 60);
    bench.train(net.make(bench.options.seed), t, bench.options.seed,
                [&](const Model& m, int64_t step) {
                  if (step % every == 0) seen[i].look(m, step, x);
                });
  });
  // A unit whose median wanders a middling way without batch normalisation.
  std::vector<size_t> order(seen[0].units.size());
  for (size_t u = 0; u < order.size(); ++u) order[u] = u;
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return seen[0].travel(a) < seen[0].travel(b); });
  const size_t unit = order.empty() ? 0 : order[order.size() / 2];

  o.show = [=, rate = p.rate, plain_curves = p.plain, normed_curves = p.normed, rates = p.rates,
            tuned = p.rate_accuracy, name = bench.options.data_name, seeds = bench.options.seeds,
            steps = bench.training().steps](Report& page) {
    page.section(
        o.title,
        concat({"Three hidden layers of 100 sigmoids, kernels from a normal distribution "
                "with deviation 0.1, batches of 60, SGD without momentum, ",
                steps, " steps on ", name, "; ", seeds,
                " seeds, the same kernels and the same order with and without batch "
                "normalisation. Both take the learning rate that is best for the net "
                "without it, ",
                number(rate), ", chosen from ", rates.size(), " by the mean of the curve."}));
    LineChart accuracy{.title = "Accuracy on test data (middle seed; all seeds lie in the band)",
                       .x_label = "step",
                       .y_label = "accuracy"};
    accuracy.bands = {band("without", plain_curves, kPlainColor),
                      band("with batch normalisation", normed_curves, kNormedColor)};
    accuracy.y_max = 1, accuracy.percent = true;
    LineChart early = accuracy;
    early.title = "The first fifth";
    for (Band& b : early.bands)
      for (auto* v : {&b.x, &b.low, &b.middle, &b.high})
        v->resize(std::max<size_t>(2, v->size() / 5));
    page.charts<LineChart>({accuracy, early});
    page.table(rows);
    if (seen[0].step.empty() || seen[1].step.empty()) return;
    page.paragraph(concat({"What one hidden unit of the last layer receives (unit ", unit,
                           ", whose median wanders a middling way without batch normalisation; "
                           "figure 1 b and c of the paper):"}));
    page.charts<LineChart>({seen[0].chart(unit, "Without", kPlainColor),
                            seen[1].chart(unit, "With batch normalisation", kNormedColor)});
  };
  return o;
}

namespace {
struct Rates {
  std::vector<double> times;  // of the plain net's best
  std::vector<std::vector<Curve>> plain, normed;
};
// The learning rates from which a net learns as well as it should.
struct Usable {
  double least = kInfinity, most = 0;
  Usable(const Rates& r, const std::vector<std::vector<Curve>>& all, double accuracy) {
    for (size_t i = 0; i < r.times.size(); ++i)
      if (median(map_curves(all[i], [](const Curve& c) { return c.last(); })) >= accuracy)
        least = std::min(least, r.times[i]), most = std::max(most, r.times[i]);
  }
};
}  // namespace

namespace {
// One kind of net over learning rates that are multiples of the best one without.
struct Sweep {
  Rates r;
  double usable, ratio, rate;
  Usable plain, normed;
  std::vector<double> last[2];

  static Rates train(Bench& bench, const Bench::Pair& p, const std::string& name) {
    Rates r;
    r.times = bench.options.quick
                  ? std::vector<double>{0.1, 1, 3, 5, 10, 30, 100}
                  : std::vector<double>{0.01, 0.03, 0.1, 0.3, 1, 3, 5, 10, 30, 100, 300, 1000};
    const size_t n = r.times.size();
    auto all = bench.grid(name, 2 * n, [&](size_t i, uint64_t seed) {
      Training t = bench.training();
      t.rate = p.rate * r.times[i % n];
      return bench.train((i < n ? p.plain_net : p.normed_net).make(seed), t, seed);
    });
    r.plain.assign(all.begin(), all.begin() + long(n));
    r.normed.assign(all.begin() + long(n), all.end());
    return r;
  }
  Sweep(Bench& bench, const Bench::Pair& p, const std::string& name)
      : r(train(bench, p, name)),
        usable(0.95 * p.plain_best),
        rate(p.rate),
        plain(r, r.plain, usable),
        normed(r, r.normed, usable) {
    ratio = plain.most > 0 ? normed.most / plain.most : 0;
    for (const bool with : {false, true})
      for (auto& curves : with ? r.normed : r.plain)
        last[with].push_back(median(map_curves(curves, [](const Curve& c) { return c.last(); })));
  }
  std::string seen() const {
    return concat({"The highest learning rate at which the middle seed ends at ", percent(usable),
                   " (19 of 20 of what the plain net reaches at best) or more is ",
                   number(normed.most * rate), " with and ", number(plain.most * rate),
                   " without: ", number(ratio, "%.0f"), " times higher."});
  }
  LineChart chart(const std::string& title) const {
    std::vector<double> logs;
    for (double t : r.times) logs.push_back(std::log10(t * rate));
    LineChart c{
        .title = title, .x_label = "learning rate, its decimal logarithm", .y_label = "accuracy"};
    c.series = {{"without", logs, last[0], kPlainColor},
                {"with batch normalisation", logs, last[1], kNormedColor}};
    c.y_min = 0, c.y_max = 1, c.percent = true;
    return c;
  }
  format::Json json_of(const Bench::Pair& p) const {
    format::Json j = {{"learning_rate", rate},
                      {"times", json(r.times)},
                      {"usable_accuracy", usable},
                      {"usable_plain", {json(plain.least * rate), json(plain.most * rate)}},
                      {"usable_batch_norm", {json(normed.least * rate), json(normed.most * rate)}}};
    for (size_t i = 0; i < r.times.size(); ++i)
      for (const bool with : {false, true}) {
        const auto& curves = (with ? r.normed : r.plain)[i];
        j[with ? "batch_norm" : "plain"].push_back(
            {{"times", r.times[i]},
             {"last", json(map_curves(curves, [](const Curve& c) { return c.last(); }))},
             {"best", json(map_curves(curves, [](const Curve& c) { return c.best(); }))},
             {"steps_to_plain_best",
              json(map_curves(curves, [&](const Curve& c) { return c.steps_to(p.plain_best); }))},
             {"diverged", std::count_if(curves.begin(), curves.end(),
                                        [](const Curve& c) { return c.diverged; })}});
      }
    return j;
  }
};
}  // namespace

Outcome run_r2(Bench& bench) {
  Outcome o{"R2", "Higher learning rates: the paper's table"};
  const Bench::Pair &relu = bench.pair("relu"), &sigmoid = bench.pair("sigmoid");
  const Sweep with_relu(bench, relu, "R2, ReLUs"), with_sigmoid(bench, sigmoid, "R2, sigmoids");
  const std::string says =
      "With batch normalisation learning rates at least 10 times higher are usable";
  o.claims.push_back({says + ": a net of ReLUs.", with_relu.seen(), with_relu.ratio >= 10});
  o.claims.push_back(
      {says + ": a net of sigmoids.", with_sigmoid.seen(), with_sigmoid.ratio >= 10});

  // The paper's table (figure 3 there), with our numbers.
  std::vector<std::vector<std::string>> table{
      {"model", "learning rate", "steps to the plain net's best", "max accuracy",
       "the paper's model", "its steps to 72.2 %", "its max accuracy"}};
  auto row = [&](const std::string& name, const Sweep& s, double times, bool with,
                 const char* paper, const char* steps, const char* accuracy) {
    const auto at = std::find(s.r.times.begin(), s.r.times.end(), times);
    if (at == s.r.times.end()) return;
    const auto& curves = (with ? s.r.normed : s.r.plain)[size_t(at - s.r.times.begin())];
    const double to =
        median(map_curves(curves, [&](const Curve& c) { return c.steps_to(relu.plain_best); }));
    table.push_back(
        {name, number(s.rate * times), std::isfinite(to) ? number(to, "%.0f") : "–",
         Spread(map_curves(curves, [](const Curve& c) { return 100 * c.best(); })).text("%.1f %%"),
         paper, steps, accuracy});
  };
  row("plain", with_relu, 1, false, "Inception", "31.0 · 10⁶", "72.2 %");
  row("BN", with_relu, 1, true, "BN-Baseline", "13.3 · 10⁶", "72.7 %");
  row("BN × 5", with_relu, 5, true, "BN-x5", "2.1 · 10⁶", "73.0 %");
  row("BN × 30", with_relu, 30, true, "BN-x30", "2.7 · 10⁶", "74.8 %");
  row("BN × 100", with_relu, 100, true, "", "", "");
  row("BN × 5, sigmoids", with_sigmoid, 5, true, "BN-x5-Sigmoid", "–", "69.8 %");
  row("plain × 5", with_relu, 5, false, "Inception × 5", "–", "diverged");
  row("plain × 30", with_relu, 30, false, "", "", "");
  row("plain, sigmoids", with_sigmoid, 1, false, "Inception, sigmoids", "–", "0.1 %");

  o.data = {{"relu", with_relu.json_of(relu)}, {"sigmoid", with_sigmoid.json_of(sigmoid)}};
  o.show = [=, seeds = bench.options.seeds, best = relu.plain_best](Report& page) {
    page.section(
        o.title,
        concat({"The net of R1, and the same with ReLUs, as most of the paper's table has them "
                "(kernels begin as He's). BN × 5 has five times the learning rate that "
                "is best for the plain net: ",
                number(with_relu.rate), " for ReLUs, ", number(with_sigmoid.rate),
                " for sigmoids. Steps are medians of ", seeds,
                " seeds (– is never), accuracies means. To the right what the paper has for "
                "ImageNet and Inception. The plain net of ReLUs reaches ",
                percent(best), "."}));
    page.table(table);
    page.charts<LineChart>({with_relu.chart("ReLUs: accuracy at the end (middle seed)"),
                            with_sigmoid.chart("Sigmoids")});
  };
  return o;
}

}  // namespace evenflow::lab
