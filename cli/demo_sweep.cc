// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>

#include "cli/demo.h"
#include "cli/interrupt.h"
#include "evenflow/lab/jobs.h"

namespace evenflow::cli {

Sequential digits_net(bool batch_norm, uint64_t seed, double scale) {
  int64_t layer = 0;
  auto kernel = [&] {  // He normal, its standard deviation times scale
    Initializer init("VarianceScaling", 2 * scale * scale);
    init.seed = int64_t(seed * 16) + layer++;
    return init;
  };
  std::vector<Layer> layers{to_layer(Input({8, 8, 1}, "digit"))};
  auto add = [&](Layer l, std::string name) { layers.push_back(l.set_name(std::move(name))); };
  auto hidden = [&](const Layer& l, const std::string& name, const std::string& n) {
    add(l, name);
    if (batch_norm) add(BatchNormalization(), "batch_norm_" + n);
    add(ReLU(), "relu_" + n);
  };
  auto conv = [&](int64_t filters) {
    return Conv2D({.filters = filters,
                   .kernel_size = 3,
                   .padding = "same",
                   .use_bias = !batch_norm,
                   .kernel_initializer = kernel()});
  };
  hidden(conv(32), "conv_1", "1");
  hidden(conv(32), "conv_2", "2");
  add(MaxPooling2D(), "pool_1");
  hidden(conv(64), "conv_3", "3");
  add(MaxPooling2D(), "pool_2");
  add(Flatten(), "flatten");
  hidden(Dense({.units = 64, .use_bias = !batch_norm, .kernel_initializer = kernel()}), "dense",
         "4");
  add(Dense({.units = 10, .activation = "softmax", .kernel_initializer = kernel()}), "class");
  return Sequential(layers, batch_norm ? "digits" : "digits_plain");
}

namespace {

std::string short_number(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", v);
  return text;
}

// The accuracy that one training ends with; NaN when it diverged.
double train_once(const Sweep& sweep, bool batch_norm, double rate, double scale,
                  const Dataset& train, const Dataset& test, uint64_t seed) {
  constexpr double kDiverged = std::numeric_limits<double>::quiet_NaN();
  const Model model = digits_net(batch_norm, seed, scale);
  model.compile({.optimizer = SGD({.learning_rate = rate}),
                 .loss = "sparse_categorical_crossentropy",
                 .metrics = {"accuracy"}});
  try {
    const History h = model.fit(train, {.epochs = sweep.epochs,
                                        .verbose = 0,
                                        .callbacks = {interrupt_between_batches()},
                                        .validation_data = test,
                                        .validation_freq = sweep.epochs});
    return std::isfinite(h.at("loss").back()) ? h.at("val_accuracy").back() : kDiverged;
  } catch (const Error& e) {  // every gradient was infinite or NaN for many steps
    if (e.code() != Code::FailedPrecondition) throw;
    return kDiverged;
  }
}

}  // namespace

HeatMap Sweep::map(bool batch_norm) const {
  HeatMap m{batch_norm ? "With batch normalisation" : "Without batch normalisation",
            "learning rate",
            "weights ×",
            {},
            {},
            batch_norm ? normed : plain};
  for (double r : rates) m.columns.push_back(short_number(r));
  for (double s : scales) m.rows.push_back(short_number(s));
  return m;
}
int64_t Sweep::count(const std::vector<double>& values, double least) {
  return std::count_if(values.begin(), values.end(), [&](double v) { return v >= least; });
}

void run_sweep(Sweep& sweep, const Dataset& train, const Dataset& test, uint64_t seed,
               const std::function<void(size_t, size_t)>& progress) {
  const size_t cells = sweep.rates.size() * sweep.scales.size();
  sweep.plain.assign(cells, 0), sweep.normed.assign(cells, 0);
  lab::run_jobs(
      2 * cells,
      [&](size_t i) {
        const size_t cell = i / 2, scale = cell / sweep.rates.size(),
                     rate = cell % sweep.rates.size();
        const bool batch_norm = i % 2;
        (batch_norm ? sweep.normed : sweep.plain)[cell] = train_once(
            sweep, batch_norm, sweep.rates[rate], sweep.scales[scale], train, test, seed);
      },
      [&](size_t done) { progress(done, 2 * cells); });
}

}  // namespace evenflow::cli
