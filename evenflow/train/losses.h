// SPDX-License-Identifier: Apache-2.0
// Losses and metrics with Keras's names and meaning.
#pragma once
#include <functional>
#include <memory>
#include <optional>
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
  using PerSample = std::function<Tensor(const Tensor& y_true, const Tensor& y_pred)>;
  /// A loss of your own: per-sample values. `mask`, if given, says by 1 and 0 which of them count.
  Loss(std::string name, PerSample f, std::string reduction = "sum_over_batch_size",
       PerSample mask = {});
  /// Per-sample values; throws InvalidArgument for shapes or types that do not fit.
  Tensor per_sample(const Tensor& y_true, const Tensor& y_pred) const;
  /// Reduced by Keras's rule of that name: "sum_over_batch_size" (the mean, whatever the weights;
  /// over what counts, where there is a mask), "sum", "mean_with_sample_weight" (over the sum of
  /// the weights), "none". A batch of none gives 0. sample_weight has the shape of the per-sample
  /// values, or extents of 1 in their places; one extent of 1 at its end is dropped.
  Tensor operator()(const Tensor& y_true, const Tensor& y_pred,
                    const Tensor& sample_weight = {}) const;
  const std::string& name() const { return name_; }
  const std::string& reduction() const { return reduction_; }
  explicit operator bool() const { return bool(f_); }

 private:
  std::string name_, reduction_;
  PerSample f_, mask_;
};

struct CrossentropyConfig {
  bool from_logits = false;
  double label_smoothing = 0;  ///< not in the sparse one
  std::optional<int64_t> ignore_class =
      {};  ///< a label whose samples do not count; only in the sparse one
  std::string reduction = "sum_over_batch_size";  ///< see Loss
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
Loss MeanSquaredError(std::string reduction = "sum_over_batch_size");
Loss MeanAbsoluteError(std::string reduction = "sum_over_batch_size");

/// A mean over samples.
class Metric {
 public:
  Metric() = default;
  /// "accuracy" (which kind depends on the targets and predictions, as in Keras),
  /// "binary_accuracy", "categorical_accuracy", "sparse_categorical_accuracy",
  /// "top_k_categorical_accuracy", "sparse_top_k_categorical_accuracy" (k = 5), and the names of
  /// losses.
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
/// Whether y_pred > threshold is y_true, the mean over the last axis.
Metric BinaryAccuracy(double threshold = 0.5);
/// Whether fewer than k classes have a higher score than the true one; a tie with the k-th counts.
Metric TopKCategoricalAccuracy(int64_t k = 5);
Metric SparseTopKCategoricalAccuracy(int64_t k = 5);

}  // namespace evenflow
