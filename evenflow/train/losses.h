// SPDX-License-Identifier: Apache-2.0
// Losses and metrics with Keras's names and meaning.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "evenflow/graph/tensor.h"

namespace evenflow {

/// Loss of each sample, [batch] or [batch, ...], from targets and predictions.
class Loss {
 public:
  Loss() = default;
  /// "sparse_categorical_crossentropy", "categorical_crossentropy", "binary_crossentropy",
  /// "mean_squared_error" ("mse"), "mean_absolute_error" ("mae"); Keras's class names too. Throws
  /// InvalidArgument for another.
  Loss(const char* name) : Loss(std::string(name)) {}  // NOLINT: implicit on purpose
  Loss(const std::string& name);                       // NOLINT
  /// A loss of your own: per-sample values.
  Loss(std::string name, std::function<Tensor(const Tensor& y_true, const Tensor& y_pred)> f)
      : name_(std::move(name)), f_(std::move(f)) {}
  /// Per-sample values; throws InvalidArgument for shapes or types that do not fit.
  Tensor per_sample(const Tensor& y_true, const Tensor& y_pred) const;
  /// Their mean over the batch (Keras's sum_over_batch_size); with weights sum(w l) / count. A
  /// batch of none gives 0.
  Tensor operator()(const Tensor& y_true, const Tensor& y_pred,
                    const Tensor& sample_weight = {}) const;
  const std::string& name() const { return name_; }
  explicit operator bool() const { return bool(f_); }

 private:
  std::string name_;
  std::function<Tensor(const Tensor&, const Tensor&)> f_;
};

struct CrossentropyConfig {
  bool from_logits = false;
  double label_smoothing = 0;
};
/// -log p[label]; labels are integers [batch] or [batch, 1], predictions [batch, classes]. Labels
/// out of range are an error. Predictions that are a softmax's output are taken before it: the
/// numbers stay exact however sure the net is.
Loss SparseCategoricalCrossentropy(CrossentropyConfig config = {});
/// -sum t log p over the last axis; without logits p is normalised and clipped to [1e-7, 1 - 1e-7].
Loss CategoricalCrossentropy(CrossentropyConfig config = {});
/// Mean over the last axis of -(t log p + (1 - t) log(1 - p)).
Loss BinaryCrossentropy(CrossentropyConfig config = {});
/// Mean over the last axis of (t - p)^2.
Loss MeanSquaredError();
Loss MeanAbsoluteError();

/// A mean over samples.
class Metric {
 public:
  Metric() = default;
  /// "accuracy" (which kind depends on the targets and predictions, as in Keras),
  /// "binary_accuracy", "categorical_accuracy", "sparse_categorical_accuracy",
  /// "sparse_top_k_categorical_accuracy", "mse", "mae".
  Metric(const char* name) : Metric(std::string(name)) {}  // NOLINT: implicit on purpose
  Metric(const std::string& name);                         // NOLINT
  Metric(std::string name, std::function<Tensor(const Tensor& y_true, const Tensor& y_pred)> f)
      : name_(std::move(name)), f_(std::move(f)) {}
  /// Values to average, f32.
  Tensor values(const Tensor& y_true, const Tensor& y_pred) const;
  const std::string& name() const { return name_; }

 private:
  std::string name_;
  std::function<Tensor(const Tensor&, const Tensor&)> f_;
};

}  // namespace evenflow
