// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "evenflow/graph/tensor.h"

namespace evenflow {

/// Matrix product over the last two axes, [..., m, k] [..., k, n] -> [..., m, n]; the axes before
/// them broadcast. Rank 2 or more.
Tensor matmul(In a, In b, bool transpose_a = false, bool transpose_b = false);

}  // namespace evenflow
