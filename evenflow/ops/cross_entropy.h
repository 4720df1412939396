// SPDX-License-Identifier: Apache-2.0
// Cross entropies from logits, fused and stable.
#pragma once
#include "evenflow/graph/tensor.h"

namespace evenflow {

/// -log softmax(logits)[label] for each row: [..., classes], integer labels [...] -> [...]. A label
/// outside 0..classes-1 is OutOfRange.
Tensor sparse_softmax_cross_entropy(In logits, In labels);
/// -sum(targets * log_softmax(logits)) over the last axis: [..., classes] twice -> [...].
Tensor softmax_cross_entropy(In logits, In targets);
/// max(x, 0) - x t + log(1 + e^-|x|), element by element.
Tensor sigmoid_cross_entropy(In logits, In targets);

}  // namespace evenflow
