// SPDX-License-Identifier: Apache-2.0
// Activation functions under Keras's names and with Keras's meaning: [...] -> [...], floating
// types, element-wise but for glu and sparsemax. softmax and log_softmax are in ops/softmax.h;
// sigmoid, tanh and exp in ops/elementwise.h.
#pragma once
#include <string_view>

#include "evenflow/graph/tensor.h"
#include "evenflow/ops/elementwise_attrs.h"

namespace evenflow {

/// The activation of that name with its default attributes: any of Keras's names, aliases included
/// ("swish", "exponential", "linear", ...; empty: linear). Throws InvalidArgument, naming the
/// nearest.
Tensor activation(std::string_view name, In x);
/// Whether activation() knows the name.
bool is_activation(std::string_view name);

/// min(x, max_value) for x > threshold, else negative_slope (x - threshold): Keras's ReLU layer.
/// The derivative at 0 is 0. Throws InvalidArgument for attributes that are negative or NaN.
Tensor relu(In x, const ReluAttrs& attrs = {});
Tensor relu6(In x);  ///< min(max(x, 0), 6)
Tensor leaky_relu(In x, double negative_slope = 0.2);
Tensor elu(In x, double alpha = 1);                ///< x for x > 0, else alpha (e^x - 1)
Tensor selu(In x);                                 ///< scale elu(x), self-normalising
Tensor celu(In x, double alpha = 1);               ///< x for x > 0, else alpha (e^(x / alpha) - 1)
Tensor gelu(In x, bool approximate = false);       ///< x Phi(x)
Tensor silu(In x);                                 ///< x sigmoid(x), also called swish
Tensor hard_sigmoid(In x);                         ///< x / 6 + 1/2, within 0..1
Tensor hard_silu(In x);                            ///< x hard_sigmoid(x), also called hard_swish
Tensor hard_tanh(In x);                            ///< x within -1..1
Tensor hard_shrink(In x, double threshold = 0.5);  ///< 0 for |x| <= threshold, else x
Tensor soft_shrink(In x, double threshold = 0.5);  ///< x moved by threshold towards 0
Tensor tanh_shrink(In x);                          ///< x - tanh(x)
Tensor softplus(In x);                             ///< log(1 + e^x)
Tensor softsign(In x);                             ///< x / (1 + |x|)
Tensor mish(In x);                                 ///< x tanh(softplus(x))
Tensor log_sigmoid(In x);                          ///< -softplus(-x)
Tensor squareplus(In x, double b = 4);             ///< (x + sqrt(x^2 + b)) / 2
Tensor threshold(In x, double threshold = 1, double default_value = 0);  ///< default unless above
Tensor sparse_plus(In x);     ///< 0, (x + 1)^2 / 4, x, parted at -1 and 1
Tensor sparse_sigmoid(In x);  ///< (x + 1) / 2, within 0..1
/// a sigmoid(b), a and b being the halves of x along the axis, whose extent must be even.
Tensor glu(In x, int64_t axis = -1);
/// The nearest probabilities along an axis, many of them 0 (Martins and Astudillo, 2016).
Tensor sparsemax(In x, int64_t axis = -1);

}  // namespace evenflow
