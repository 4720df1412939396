// SPDX-License-Identifier: Apache-2.0
// Attributes of the reductions, for their declarations and kernels.
#pragma once
#include <span>
#include <vector>

#include "evenflow/core/shape.h"

namespace evenflow {

struct ReduceAttrs {
  std::vector<int64_t> axes = {};
  bool keepdims = false;
  static void fields(auto& self, auto&& field) {
    field("axes", self.axes, "axes to reduce, negative from the end; none: all");
    field("keepdims", self.keepdims, "keep reduced axes with extent 1");
  }
};
struct LikeAttrs {
  bool mean = false;
  static void fields(auto& self, auto&& field) {
    field("mean", self.mean, "mean instead of sum; when expanding, its counterpart");
  }
};
/// Which axes go; throws for one out of range or given twice.
std::vector<bool> reduced_axes(const Shape& shape, const std::vector<int64_t>& axes);
Sigs reduced_sigs(std::span<const Sig> in, const ReduceAttrs& attrs);
/// Which axes of `large` were made from an extent of 1, or from none.
std::vector<bool> broadcast_axes(const Shape& large, const Shape& small);

}  // namespace evenflow
