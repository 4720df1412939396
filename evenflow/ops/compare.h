// SPDX-License-Identifier: Apache-2.0
// Comparisons and logic with NumPy's broadcasting; results are bool [...]. NaN compares as IEEE
// says: unequal to everything, and neither less nor greater. No operator== for tensors: it would
// take the place of the equality that containers need.
#pragma once
#include "evenflow/graph/tensor.h"

namespace evenflow {

Tensor equal(In a, In b);
Tensor not_equal(In a, In b);
Tensor less(In a, In b);
Tensor less_equal(In a, In b);
Tensor greater(In a, In b);
Tensor greater_equal(In a, In b);
inline Tensor operator<(In a, In b) { return less(std::move(a), std::move(b)); }
inline Tensor operator<=(In a, In b) { return less_equal(std::move(a), std::move(b)); }
inline Tensor operator>(In a, In b) { return greater(std::move(a), std::move(b)); }
inline Tensor operator>=(In a, In b) { return greater_equal(std::move(a), std::move(b)); }
/// Of bool operands only; cast first.
Tensor logical_and(In a, In b);
Tensor logical_or(In a, In b);
Tensor logical_xor(In a, In b);
Tensor logical_not(In x);

}  // namespace evenflow
