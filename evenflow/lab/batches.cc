// SPDX-License-Identifier: Apache-2.0
// R6: what happens with small batches? R7: which averages should be used for inference?
#include <algorithm>
#include <utility>

#include "evenflow/doctor/recalibrate.h"
#include "evenflow/lab/bench.h"

namespace evenflow::lab {

Outcome run_r6(Bench& bench) {
  Outcome o{"R6", "Small batches: where it does not help"};
  const double rate = bench.pair().rate;
  const std::vector<int64_t> sizes = bench.options.quick
                                         ? std::vector<int64_t>{1, 2, 4, 8, 32, 128}
                                         : std::vector<int64_t>{1, 2, 4, 8, 16, 32, 64, 128};
  struct Form {
    const char* name;
    Net net;
    bool accumulated = false, exact = false, ranks = false;
  };
  constexpr int64_t kStep = 32;  // samples of a step whose batches are accumulated
  constexpr int64_t kRanks = 8;
  std::vector<Form> forms(8);
  forms[0].name = "without";
  forms[1].name = "batch normalisation", forms[1].net.norm = Net::batch;
  forms[2].name = "batch renormalisation", forms[2].net.norm = Net::batch;
  forms[2].net.batch_norm.renorm = true;
  forms[2].net.batch_norm.renorm_clipping = {.rmax = 3., .rmin = 1. / 3, .dmax = 5.};
  forms[3].name = "ghost batches of 4", forms[3].net.norm = Net::batch;
  forms[3].net.batch_norm.virtual_batch_size = 4;
  forms[4].name = "layer normalisation", forms[4].net.norm = Net::layer;
  forms[5].name = "accumulated", forms[6].name = "accumulated, exact";
  for (size_t f : {5, 6}) forms[f].net.norm = Net::batch, forms[f].accumulated = true;
  forms[6].exact = true;
  forms[7].name = "8 ranks, synchronised", forms[7].net.norm = Net::batch;
  forms[7].net.batch_norm.synchronized = forms[7].ranks = true;
  const int64_t epochs = bench.scaled(30, 6);
  const auto all = bench.grid("R6", forms.size() * sizes.size(), [&](size_t i, uint64_t seed) {
    Training t;
    const Form& form = forms[i / sizes.size()];
    t.batch = sizes[i % sizes.size()];
    if (form.accumulated && t.batch < kStep)
      t.micro_batch = std::exchange(t.batch, kStep), t.exact = form.exact;
    if (form.ranks) t.ranks = int(std::min(kRanks, sizes.back() / t.batch)), t.batch *= t.ranks;
    // Every size sees as many samples; the learning rate goes with the size (Goyal et al. 2017).
    t.rate = rate * double(t.batch) / double(bench.training().batch);
    t.steps = epochs * (bench.options.train.size() / t.batch), t.every = t.steps;
    if (bench.options.steps) t.steps = bench.options.steps;
    return t.ranks > 1 ? bench.train_over_ranks(form.net, t, seed)
                       : bench.train(form.net.make(seed), t, seed);
  });
  std::vector<std::vector<std::string>> rows{{"batch size"}};
  std::vector<std::vector<double>> accuracy(forms.size());
  for (auto& f : forms) rows[0].push_back(f.name);
  for (size_t s = 0; s < sizes.size(); ++s) {
    rows.push_back({std::to_string(sizes[s])});
    for (size_t f = 0; f < forms.size(); ++f) {
      const auto ends =
          map_curves(all[f * sizes.size() + s], [](const Curve& c) { return c.last(); });
      const Spread v(ends);
      accuracy[f].push_back(v.mean);
      rows.back().push_back(number(100 * v.mean, "%.1f") + " ± " +
                            number(100 * v.deviation, "%.1f %%"));
      o.data[forms[f].name].push_back({{"batch", sizes[s]}, {"last", json(ends)}});
    }
  }
  const double small = accuracy[1][0],
               large = *std::max_element(accuracy[1].begin(), accuracy[1].end());
  o.claims.push_back(
      {"Batch normalisation needs batches: with one sample a batch a dense layer learns nothing.",
       concat({percent(small), " at batch size 1, ", percent(large),
               " at its best size; without: ", percent(accuracy[0][0]),
               " at 1; layer normalisation: ", percent(accuracy[4][0]), "."}),
       small < 0.5 && large > 0.8});
  o.claims.push_back(
      {"Batch renormalisation is better than batch normalisation at batches of 2 and 4 (Ioffe "
       "2017).",
       concat({"At 2: ", percent(accuracy[2][1]), " against ", percent(accuracy[1][1]),
               "; at 4: ", percent(accuracy[2][2]), " against ", percent(accuracy[1][2]), "."}),
       accuracy[2][1] > accuracy[1][1] && accuracy[2][2] > accuracy[1][2]});
  const double whole =
      accuracy[1][size_t(std::find(sizes.begin(), sizes.end(), kStep) - sizes.begin())];
  o.claims.push_back(
      {concat({"Accumulating up to ", kStep,
               " samples a step helps small batches only where the statistics are accumulated "
               "before normalising."}),
       concat({"In parts of 2: ", percent(accuracy[5][1]),
               " where each part is normalised by itself, ", percent(accuracy[6][1]),
               " with exact_micro_batches; undivided batches of ", kStep, ": ", percent(whole),
               "."}),
       accuracy[6][1] > accuracy[5][1] && std::abs(accuracy[6][1] - whole) < 0.02});
  auto undivided = [&](size_t s) {
    return accuracy[1][size_t(std::find(sizes.begin(), sizes.end(), sizes[s] * kRanks) -
                              sizes.begin())];
  };
  o.claims.push_back(
      {"Synchronised statistics make of small batches on many workers the one batch that they are "
       "together.",
       concat({kRanks, " ranks with one sample each: ", percent(accuracy[7][0]),
               ", undivided batches of ", kRanks, ": ", percent(undivided(0)), "; with 4 each: ",
               percent(accuracy[7][2]), ", undivided: ", percent(undivided(2)), "."}),
       std::abs(accuracy[7][0] - undivided(0)) < 0.02 &&
           std::abs(accuracy[7][2] - undivided(2)) < 0.02});
  o.show = [=, seeds = bench.options.seeds](Report& page) {
    page.section(o.title,
                 concat({"Accuracy after ", epochs, " epochs, mean and deviation of ", seeds,
                         " seeds; the learning rate is in proportion to the batch size. A "
                         "batch of one sample has no deviation: batch normalisation "
                         "gives beta whatever the input. Accumulated: a step has at least ",
                         kStep,
                         " samples, which pass in batches of the size; gradients and moving "
                         "statistics are pooled, but each part is normalised by itself. Exact: all "
                         "parts go through one layer before the next, normalised together "
                         "(micro_batch_size, exact_micro_batches). 8 ranks: threads of the "
                         "process, each with a net and batches of the size (fewer ranks where that "
                         "would be above ",
                         sizes.back(),
                         " samples a step); gradients are averaged, and the layers are "
                         "synchronized."}));
    page.table(rows);
    std::vector<double> logs;
    for (int64_t s : sizes) logs.push_back(std::log2(double(s)));
    LineChart c{.title = "Accuracy at the end",
                .x_label = "batch size, its binary logarithm",
                .y_label = "accuracy"};
    for (size_t f = 0; f < forms.size(); ++f)
      c.series.push_back({forms[f].name, logs, accuracy[f], int(f)});
    c.y_min = 0, c.y_max = 1, c.percent = true;
    page.charts<LineChart>({c});
  };
  return o;
}

Outcome run_r7(Bench& bench) {
  Outcome o{"R7", "Which averages: plain, debiased, recalibrated"};
  // A tenth of R1's rate: the weights hardly move while the averages gather.
  const double rate = bench.pair().rate / 10;
  const std::vector<int64_t> at = bench.options.quick
                                      ? std::vector<int64_t>{10, 30, 100, 300}
                                      : std::vector<int64_t>{10, 30, 100, 300, 1000};
  constexpr const char* kNames[] = {"plain averages (Keras)", "debiased averages", "recalibrated"};
  const size_t seeds = size_t(bench.options.seeds);
  // [seed][step][kind], losses and accuracies of the test data
  struct Seen {
    double loss[3], accuracy[3];
  };
  std::vector<std::vector<Seen>> seen(seeds, std::vector<Seen>(at.size()));
  const Tensor x = bench.options.train.all()[0];
  run_jobs(
      2 * seeds,
      [&](size_t i) {
        // Weights do not depend on the averages, so that both trainings are the same net.
        const bool plain = i % 2;
        Net net;
        net.norm = Net::batch;
        net.batch_norm.averages = plain ? BatchNormAverages::plain : BatchNormAverages::exponential;
        Training t = bench.training();
        t.rate = rate, t.steps = at.back(), t.every = at.back() + 1;
        bench.train(net.make(bench.seed_of(i / 2)), t, bench.seed_of(i / 2),
                    [&](const Model& model, int64_t step) {
                      const auto k = std::find(at.begin(), at.end(), step);
                      if (k == at.end()) return;
                      Seen& s = seen[i / 2][size_t(k - at.begin())];
                      auto look = [&](int kind) {
                        std::tie(s.loss[kind], s.accuracy[kind]) = bench.test(model);
                      };
                      look(plain ? 0 : 1);
                      if (plain) return;
                      std::vector<std::pair<Variable, Tensor>> kept;
                      for (auto& l : model.impl().leaves()) {
                        for (auto& w : l.layer->weights)
                          kept.emplace_back(w.variable, w.variable.read());
                        for (auto& w : l.layer->extra_state())
                          kept.emplace_back(w.variable, w.variable.read());
                      }
                      doctor::recalibrate(model, x, {.samples = 0});
                      look(2);
                      for (auto& [v, value] : kept) v.assign(value);
                    });
      },
      [&](size_t done) {
        if (bench.options.progress) bench.options.progress("R7", done, 2 * seeds);
      });
  std::vector<std::vector<std::string>> rows{{"loss on test data after"}};
  for (auto* n : kNames) rows[0].push_back(n);
  std::vector<std::vector<double>> means(3);
  for (size_t k = 0; k < at.size(); ++k) {
    rows.push_back({std::to_string(at[k]) + " steps"});
    for (int kind = 0; kind < 3; ++kind) {
      std::vector<double> loss, accuracy;
      for (auto& s : seen) loss.push_back(s[k].loss[kind]), accuracy.push_back(s[k].accuracy[kind]);
      const Spread l(loss), a(accuracy);
      means[size_t(kind)].push_back(l.mean);
      rows.back().push_back(number(l.mean, "%.3f") + " ± " + number(l.deviation, "%.3f") + " (" +
                            percent(a.mean) + ")");
      o.data[kNames[kind]].push_back(
          {{"step", at[k]}, {"loss", json(loss)}, {"accuracy", json(accuracy)}});
    }
  }
  o.claims.push_back(
      {"After a few steps plain averages still hold their initial values, debiased ones do not.",
       concat({"After ", at[0], " steps the loss is ", number(means[0][0]), " with plain, ",
               number(means[1][0]), " with debiased, ", number(means[2][0]),
               " with recalibrated averages; after ", at.back(), ": ", number(means[0].back()),
               ", ", number(means[1].back()), ", ", number(means[2].back()), "."}),
       means[1][0] < means[0][0]});
  o.show = [=](Report& page) {
    page.section(
        o.title,
        "The same weights, evaluated with three kinds of averages at momentum 0.99; a tenth of "
        "R1's "
        "learning rate. Plain averages "
        "begin at mean 0 and variance 1 and keep 0.99 of that at each step: after 100 steps more "
        "than a third is still there. Debiased averages weigh what was seen and nothing else. "
        "Recalibration takes all training data anew, layer by layer, for the weights as they are "
        "(in brackets the accuracy).");
    page.table(rows);
    std::vector<double> logs;
    for (int64_t s : at) logs.push_back(std::log10(double(s)));
    LineChart c{.title = "Loss on test data",
                .x_label = "step, its decimal logarithm",
                .y_label = "cross entropy"};
    for (int kind = 0; kind < 3; ++kind)
      c.series.push_back({kNames[kind], logs, means[size_t(kind)], kind == 0 ? kPlainColor : kind});
    c.y_min = 0;
    page.charts<LineChart>({c});
  };
  return o;
}

}  // namespace evenflow::lab
