// SPDX-License-Identifier: Apache-2.0
// Keras's activations, by their names.
#pragma once
#include <limits>
#include <string_view>

#include "evenflow/graph/tensor.h"

namespace evenflow {

struct ReluAttrs {
  double negative_slope = 0, max_value = std::numeric_limits<double>::infinity(), threshold = 0;
  static void fields(auto& self, auto&& field) {
    field("negative_slope", self.negative_slope, "slope below the threshold");
    field("max_value", self.max_value, "the largest value");
    field("threshold", self.threshold, "where the slope changes");
  }
};
/// max_value where x >= max_value, x where x > threshold, else negative_slope (x - threshold). Derivative 0 at the kinks, as in TensorFlow.
Tensor relu(In x, ReluAttrs attrs = {});
Tensor relu6(In x);
Tensor leaky_relu(In x, double negative_slope = 0.2);
Tensor elu(In x, double alpha = 1);
Tensor selu(In x);
Tensor celu(In x, double alpha = 1);
Tensor gelu(In x, bool approximate = false);
Tensor silu(In x);  ///< swish
Tensor hard_sigmoid(In x);
Tensor hard_silu(In x);
Tensor hard_tanh(In x);
Tensor hard_shrink(In x, double threshold = 0.5);
Tensor soft_shrink(In x, double threshold = 0.5);
Tensor tanh_shrink(In x);
Tensor softplus(In x);
Tensor softsign(In x);
Tensor mish(In x);
Tensor log_sigmoid(In x);
Tensor squareplus(In x, double b = 4);
Tensor threshold(In x, double threshold = 1, double default_value = 0);
Tensor sparse_plus(In x);
Tensor sparse_sigmoid(In x);
/// Martins & Astudillo 2016, along an axis.
Tensor sparsemax(In x, int64_t axis = -1);
/// a sigmoid(b) for the halves a, b of x along an axis.
Tensor glu(In x, int64_t axis = -1);

/// By Keras's name, with its defaults; throws InvalidArgument, naming the nearest.
Tensor activation(std::string_view name, In x);
bool is_activation(std::string_view name);

}  // namespace evenflow
