// SPDX-License-Identifier: Apache-2.0
// Attributes of element-wise operations, for their declarations and kernels.
#pragma once
#include <limits>

#include "evenflow/graph/attrs.h"

namespace evenflow {

struct CastAttrs {
  DType dtype = DType::f32;
  static void fields(auto& self, auto&& field) {
    field("dtype", self.dtype, "element type of the result");
  }
};
struct ClipAttrs {
  double low = 0, high = 1;
  static void fields(auto& self, auto&& field) {
    field("low", self.low, "lower bound");
    field("high", self.high, "upper bound, not below low");
  }
};
struct ReluAttrs {
  double negative_slope = 0, max_value = std::numeric_limits<double>::infinity(), threshold = 0;
  static void fields(auto& self, auto&& field) {
    field("negative_slope", self.negative_slope, "slope below the threshold");
    field("max_value", self.max_value, "the largest result; infinity: none");
    field("threshold", self.threshold, "x up to here is damped or 0");
  }
};
struct AlphaAttrs {
  double alpha = 1;
  static void fields(auto& self, auto&& field) {
    field("alpha", self.alpha, "scale of the negative part");
  }
};
struct LeakyReluAttrs {
  double negative_slope = 0.2;
  static void fields(auto& self, auto&& field) {
    field("negative_slope", self.negative_slope, "slope for x below 0");
  }
};
struct GeluAttrs {
  bool approximate = false;
  static void fields(auto& self, auto&& field) {
    field("approximate", self.approximate, "by tanh instead of erf");
  }
};
struct ShrinkAttrs {
  double threshold = 0.5;
  static void fields(auto& self, auto&& field) {
    field("threshold", self.threshold, "half width of the part that is 0");
  }
};
struct SquareplusAttrs {
  double b = 4;
  static void fields(auto& self, auto&& field) { field("b", self.b, "how round the knee is"); }
};
struct ThresholdAttrs {
  double threshold = 1, default_value = 0;
  static void fields(auto& self, auto&& field) {
    field("threshold", self.threshold, "x above it stays");
    field("default_value", self.default_value, "what the rest becomes");
  }
};
struct AlongAttrs {
  int64_t axis = -1;
  static void fields(auto& self, auto&& field) { field("axis", self.axis, "the axis"); }
};

}  // namespace evenflow
