// SPDX-License-Identifier: Apache-2.0
// R3: does the scale of the initial weights matter less? R4: do deep nets of sigmoids train?
#include <algorithm>
#include <limits>

#include "evenflow/lab/bench.h"

namespace evenflow::lab {

Outcome run_r3(Bench& bench) {
  Outcome o{"R3", "A wider range of initial weights"};
  const Bench::Pair& p = bench.pair();
  std::vector<double> deviations;
  const double step = bench.options.quick ? 1 : 0.5;
  for (double e = -4; e <= 2; e += step) deviations.push_back(std::pow(10., e));
  const size_t n = deviations.size();
  const auto all = bench.grid("R3", 2 * n, [&](size_t i, uint64_t seed) {
    Net net;
    net.deviation = deviations[i % n];
    if (i >= n) net.norm = Net::batch;
    Training t = bench.training();
    t.rate = p.rate;
    return bench.train(net.make(seed), t, seed);
  });
  const double usable = 0.95 * p.plain_best;
  struct Range {
    double least = std::numeric_limits<double>::infinity(), most = 0;
    double width() const { return most > 0 ? most / least : 0; }
  } range[2];
  std::vector<double> last[2];
  for (size_t i = 0; i < 2 * n; ++i) {
    const bool with = i >= n;
    const auto ends = map_curves(all[i], [](const Curve& c) { return c.last(); });
    last[with].push_back(median(ends));
    if (last[with].back() >= usable) {
      Range& r = range[with];
      r.least = std::min(r.least, deviations[i % n]), r.most = std::max(r.most, deviations[i % n]);
    }
    o.data[with ? "batch_norm" : "plain"].push_back(
        {{"deviation", deviations[i % n]}, {"last", json(ends)}});
  }
  o.data["usable_accuracy"] = usable;
  // One setting that works is a range of one step of the grid at most.
  const double plain = std::max(1., range[0].width()), normed = range[1].width();
  o.claims.push_back(
      {"The range of usable initial weights is at least 100 times wider.",
       concat({"Ending at ", percent(usable), " or more (middle seed): deviations from ",
               number(range[1].least), " to ", number(range[1].most), " with, from ",
               number(range[0].least), " to ", number(range[0].most),
               " without; the range spans a factor of ", number(normed), " against ", number(plain),
               ": ", number(normed / plain), " times wider."}),
       normed >= 100 * plain});
  o.show = [=, rate = p.rate, seeds = bench.options.seeds](Report& page) {
    page.section(o.title,
                 concat({"All kernels begin with one deviation. Learning rate ", number(rate),
                         ", the rest as in R1; middle of ", seeds,
                         " seeds. With batch normalisation the scale of a hidden kernel cancels in "
                         "forward and backward pass (the identities of section 3.3 are unit tests "
                         "here); the last layer is not normalised, and at large scales its softmax "
                         "saturates, while the gradients of large kernels are small."}));
    std::vector<double> logs;
    for (double d : deviations) logs.push_back(std::log10(d));
    LineChart c{.title = "Accuracy at the end (middle seed)",
                .x_label = "deviation of the initial kernels, its decimal logarithm",
                .y_label = "accuracy"};
    c.series = {{"without", logs, last[0], kPlainColor},
                {"with batch normalisation", logs, last[1], kNormedColor}};
    c.y_min = 0, c.y_max = 1, c.percent = true;
    page.charts<LineChart>({c});
  };
  return o;
}

Outcome run_r4(Bench& bench) {
  Outcome o{"R4", "Ten layers of sigmoids"};
  const std::vector<double> rates =
      bench.options.quick ? std::vector<double>{0.1, 1} : std::vector<double>{0.03, 0.1, 0.3, 1, 3};
  const std::vector<double> deviations =
      bench.options.quick ? std::vector<double>{0.1, 0.4} : std::vector<double>{0.1, 0.2, 0.4};
  const size_t n = rates.size() * deviations.size();
  const int64_t layers = 10;
  const auto all = bench.grid("R4", 2 * n, [&](size_t i, uint64_t seed) {
    Net net;
    net.hidden.assign(size_t(layers), 100);
    net.deviation = deviations[i % n / rates.size()];
    if (i >= n) net.norm = Net::batch;
    Training t = bench.training();
    t.steps = std::min(t.steps, bench.scaled(2000, 400)), t.every = 20;
    t.rate = rates[i % rates.size()];
    return bench.train(net.make(seed), t, seed);
  });
  size_t best[2] = {0, 0};
  double accuracy[2] = {0, 0};
  size_t trained[2] = {0, 0};  // settings at which the mean seed learns
  constexpr double kLearnt = 0.8;
  std::vector<std::vector<std::string>> rows{{"learning rate, deviation", "without", "with"}};
  for (size_t i = 0; i < n; ++i) {
    std::vector<std::string> row{number(rates[i % rates.size()]) + ", " +
                                 number(deviations[i / rates.size()])};
    for (const bool with : {false, true}) {
      const Spread s(map_curves(all[i + (with ? n : 0)], [](const Curve& c) { return c.last(); }));
      row.push_back(number(100 * s.mean, "%.1f") + " ± " + number(100 * s.deviation, "%.1f %%"));
      trained[with] += s.mean >= kLearnt;
      if (s.mean >= accuracy[with]) accuracy[with] = s.mean, best[with] = i + (with ? n : 0);
      o.data[with ? "batch_norm" : "plain"].push_back(
          {{"rate", rates[i % rates.size()]},
           {"deviation", deviations[i / rates.size()]},
           {"last",
            json(map_curves(all[i + (with ? n : 0)], [](const Curve& c) { return c.last(); }))}});
    }
    rows.push_back(row);
  }
  o.claims.push_back(
      {"Batch normalisation trains a deep net of sigmoids that does not train without.",
       concat({layers, " hidden layers of 100 sigmoids, each form at the best of ", n,
               " settings: ", percent(accuracy[1]), " with, ", percent(accuracy[0]), " without."}),
       accuracy[1] >= kLearnt && accuracy[0] < 0.5});
  o.claims.push_back({"It trains at most settings; without, at few.",
                      concat({"Ending at ", percent(kLearnt), " or more, the mean over seeds: ",
                              trained[1], " settings of ", n, " with, ", trained[0], " without."}),
                      2 * trained[1] > n && 3 * trained[0] < n});
  o.show = [=, seeds = bench.options.seeds](Report& page) {
    page.section(o.title,
                 concat({layers,
                         " hidden layers of 100 sigmoids. A sigmoid's slope is at most a quarter, "
                         "so that gradients shrink from layer to layer; batch normalisation keeps "
                         "each layer in the steep part and divides by the deviation on the way "
                         "back. Accuracy at the end, mean and deviation of ",
                         seeds, " seeds."}));
    page.table(rows);
    LineChart c{
        .title = "Accuracy at each form's best setting", .x_label = "step", .y_label = "accuracy"};
    c.bands = {band("without", all[best[0]], kPlainColor),
               band("with batch normalisation", all[best[1]], kNormedColor)};
    c.y_min = 0, c.y_max = 1, c.percent = true;
    page.charts<LineChart>({c});
  };
  return o;
}

}  // namespace evenflow::lab
