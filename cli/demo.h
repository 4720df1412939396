// SPDX-License-Identifier: Apache-2.0
// The parts of `evenflow demo`: one small net in two forms, trained on the digits.
#pragma once
#include <string>
#include <vector>

#include "evenflow/evenflow.h"
#include "evenflow/train/chart.h"
#include "evenflow/train/probe.h"

namespace evenflow::cli {

/// Three convolutions and two dense layers; each hidden one is followed by batch normalisation or
/// has a bias, nothing else differs. Kernels are He-normal times `scale`, and the same in both
/// forms.
Sequential digits_net(bool batch_norm, uint64_t seed, double scale = 1);
/// The layer whose input the report shows: the last hidden activation.
inline constexpr const char* kWatchedLayer = "relu_4";
inline constexpr double kLearningRate = 0.1;
inline constexpr int64_t kBatch = 32;

/// A training of one form.
struct Trained {
  Model model;
  History history;
  std::shared_ptr<PercentileRecorder> percentiles;
};

/// Many short trainings of both forms.
struct Sweep {
  std::vector<double> rates, scales;
  int64_t epochs = 2;
  /// val_accuracy after the last epoch, [form][scale * rates + rate]; NaN: diverged.
  std::vector<double> plain, normed;
  HeatMap map(bool batch_norm) const;
  /// How many reach this accuracy.
  static int64_t count(const std::vector<double>& values, double least);
};
/// Trains as many nets at once as there are threads, each with one.
void run_sweep(Sweep& sweep, const Dataset& train, const Dataset& test, uint64_t seed,
               const std::function<void(size_t done, size_t all)>& progress);

struct Prediction {
  int64_t label, predicted;
  double confidence;  ///< of the predicted class
};

struct DemoResults {
  uint64_t seed;
  int64_t epochs;
  std::string device;
  double seconds;
  Trained plain, normed;
  Sweep sweep;
  std::vector<BatchNormReading> readings;
  Dataset test;
  std::vector<Prediction> predictions;
  int64_t train_size;
};
/// val_accuracy, or loss and val_loss, of both trainings.
LineChart accuracy_chart(const DemoResults& r);
LineChart loss_chart(const DemoResults& r);
/// A test digit with what the net says.
Image digit_image(const DemoResults& r, size_t i);
std::string demo_report(const DemoResults& r);

}  // namespace evenflow::cli
