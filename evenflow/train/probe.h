// SPDX-License-Identifier: Apache-2.0
// Looking into a model while it trains; nothing is changed by looking.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "evenflow/train/callbacks.h"

namespace evenflow {

/// What these layers receive when the model runs on x: the first input of each, in the order of the
/// names. With context.training the batch's own statistics are used; what layers would write is
/// dropped. Throws NotFound for a name that the model has not.
Tensors layer_inputs(const Model& model, const std::vector<std::string>& layers, const Tensor& x,
                     CallContext context = {});

/// The averages that a BatchNormalization layer would use for inference, and the statistics of what
/// it receives from x in training, over all axes but its own.
struct BatchNormReading {
  std::string layer;
  int64_t updates = 0;
  std::vector<double> moving_mean, moving_variance, batch_mean, batch_variance;
};
/// One for each BatchNormalization layer, in order. The statistics are computed in f64.
std::vector<BatchNormReading> read_batch_norms(const Model& model, const Tensor& x);

/// The q-quantiles of v, between neighbours by linear interpolation (NumPy's default). Throws
/// InvalidArgument for no values.
std::vector<double> quantiles(std::vector<double> v, const std::vector<double>& q);

/// Records the 15th, 50th and 85th percentiles of what a layer receives, unit by unit (Ioffe &
/// Szegedy 2015, figure 1).
class PercentileRecorder : public Callback {
 public:
  /// Looks every `every` steps, at what the layer receives from x in training; the last axis is
  /// that of units.
  PercentileRecorder(std::string layer, Tensor x, int64_t every);
  void on_train_begin(TrainingState& s) override;
  void on_train_batch_end(TrainingState& s, int64_t batch, const Logs&) override;

  std::vector<double> steps;
  struct Unit {
    std::vector<double> low, middle, high;
  };
  std::vector<Unit> units;
  /// A unit that stands for the others: half of them have medians that travelled farther.
  size_t typical() const;

 private:
  void look(const Model& model, int64_t step);
  std::string layer_;
  Tensor x_;
  int64_t every_;
};

}  // namespace evenflow
