// SPDX-License-Identifier: Apache-2.0
// Keras's preprocessing layer Normalization: data with mean 0 and deviation 1.
#pragma once
#include <cstdio>
#include <functional>

#include "evenflow/model/layer.h"

namespace evenflow {
class Dataset;

/// (x - mean) / max(sqrt(variance), 1e-7), or with `invert` mean + x max(sqrt(variance), 1e-7). The
/// statistics are those of the axes in `axis`, over all others; from adapt(), or given.
struct NormalizationConfig {
  std::vector<int64_t> axis = {-1};  ///< empty: one mean and variance for all (Keras's None)
  /// Row-major over the axes; fewer stand for the last of them, one number for all.
  std::optional<std::vector<double>> mean = {}, variance = {};
  bool invert = false;
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v);
};
struct NormalizationImpl : ConfiguredLayer<NormalizationConfig> {
  std::string_view class_name() const override { return "Normalization"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  void build(const std::vector<Dims>& in) override;
  Tensor call(const Tensors& x, const CallContext&) override;
  std::vector<bool> kept(const Dims& x) const;
  Variable mean, variance, count;
};
class Normalization : public detail::LayerOf<NormalizationImpl> {
 public:
  using LayerOf::LayerOf;
  /// Takes the mean and the population variance of this data [batch, ...]; what was adapted before
  /// is forgotten. Batches are merged by their counts, in f64, so that the data may be cut anyhow.
  /// Throws InvalidArgument for no element and for batches that do not fit; FailedPrecondition if
  /// mean and variance were given.
  void adapt(const Tensor& data) const;
  void adapt(const Tensors& batches) const;
  /// The first column, batch by batch, with a live line of rows and seconds where `progress` is
  /// given. (train/)
  void adapt(const Dataset& data, std::FILE* progress = nullptr) const;
  /// What `next` gives until it gives an empty tensor.
  void adapt(const std::function<Tensor()>& next) const;
};

}  // namespace evenflow
