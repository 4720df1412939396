// SPDX-License-Identifier: Apache-2.0
// Keras's layers that make one tensor of several.
#pragma once
#include "evenflow/model/layer.h"

namespace evenflow {

enum class Merge { add, subtract, multiply, average, maximum, minimum };
struct MergeConfig {
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor&) {}
};
/// Two or more inputs (Subtract: two) of one shape, element by element; batch apart, they may
/// broadcast.
template <Merge kMerge>
struct MergeImpl : ConfiguredLayer<MergeConfig> {
  std::string_view class_name() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  Tensor call(const Tensors& x, const CallContext&) override;
  bool takes_many_inputs() const override { return true; }
};
using Add = detail::LayerOf<MergeImpl<Merge::add>>;
using Subtract = detail::LayerOf<MergeImpl<Merge::subtract>>;
using Multiply = detail::LayerOf<MergeImpl<Merge::multiply>>;
using Average = detail::LayerOf<MergeImpl<Merge::average>>;
using Maximum = detail::LayerOf<MergeImpl<Merge::maximum>>;
using Minimum = detail::LayerOf<MergeImpl<Merge::minimum>>;

struct ConcatenateConfig {
  int64_t axis = -1;
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) { v.field("axis", axis); }
};
struct ConcatenateImpl : ConfiguredLayer<ConcatenateConfig> {
  std::string_view class_name() const override { return "Concatenate"; }
  Dims output_dims(const std::vector<Dims>& in) const override;
  Tensor call(const Tensors& x, const CallContext&) override;
  bool takes_many_inputs() const override { return true; }
};
using Concatenate = detail::LayerOf<ConcatenateImpl>;

/// Sums over an axis of each of two inputs, sample by sample: [n, a..., k, b...] and [n, c..., k,
/// d...] give [n, a..., b..., c..., d...]; a number a sample is [n, 1].
struct DotConfig {
  std::vector<int64_t> axes = {-1};  ///< of the first and of the second, or one for both
  bool normalize = false;            ///< the length of what is summed over becomes 1: cosines
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) { v.axes("axes", axes), v.field("normalize", normalize); }
};
struct DotImpl : ConfiguredLayer<DotConfig> {
  std::string_view class_name() const override { return "Dot"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  Tensor call(const Tensors& x, const CallContext&) override;
  bool takes_many_inputs() const override { return true; }

 private:
  int64_t axis(size_t input, int64_t rank) const;
};
using Dot = detail::LayerOf<DotImpl>;

}  // namespace evenflow
