// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "evenflow/graph/tensor.h"

namespace evenflow {

/// exp(x) / sum(exp(x)) along an axis, stable.
Tensor softmax(In x, int64_t axis = -1);
/// x - logsumexp(x) along an axis.
Tensor log_softmax(In x, int64_t axis = -1);

}  // namespace evenflow
