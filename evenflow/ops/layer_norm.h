// SPDX-License-Identifier: Apache-2.0
// Normalisation of each sample by statistics of its own, over the axes that gamma and beta belong
// to: layer normalisation (Ba, Kiros & Hinton 2016) and its form without a mean (Zhang & Sennrich
// 2019). The same in training and inference; no state.
#pragma once
#include <vector>

#include "evenflow/graph/tensor.h"

namespace evenflow {

struct LayerNormAttrs {
  double epsilon = 1e-3;
  std::vector<int64_t> axis = {-1};
  bool scale = true, center = true, rms = false;
  static void fields(auto& self, auto&& field) {
    field("epsilon", self.epsilon, "added to the variance before the square root");
    field("axis", self.axis,
          "the axes that are normalised over; gamma and beta have their extents");
    field("scale", self.scale, "whether gamma is among the inputs");
    field("center", self.center, "whether beta is among the inputs");
    field("rms", self.rms, "divide by the root mean square instead; nothing is subtracted");
  }
};

/// gamma (x - mean) / sqrt(variance + epsilon) + beta, mean and population variance being those of
/// the elements along `axis`; with `rms`, gamma x / sqrt(mean(x^2) + epsilon) + beta. gamma and
/// beta [extents of axis, in their order in x] may be empty; they are f32 (f64 for x in f64), as
/// are the statistics. An element of variance + epsilon = 0 becomes beta. x may be empty.
Tensor layer_norm(In x, const Tensor& gamma, const Tensor& beta, LayerNormAttrs attrs = {});

}  // namespace evenflow
