// SPDX-License-Identifier: Apache-2.0
// Element-wise arithmetic with NumPy's broadcasting. Two types meet in promote(); numbers take the type of the tensors that they meet.
#pragma once
#include "evenflow/graph/tensor.h"

namespace evenflow {

Tensor add(In a, In b);
Tensor subtract(In a, In b);
Tensor multiply(In a, In b);
/// True division: integers become f32.
Tensor divide(In a, In b);
Tensor floor_divide(In a, In b);        ///< Python's; an integer by zero is 0
Tensor mod(In a, In b);                 ///< Python's, with the sign of b; an integer by zero is 0
Tensor power(In a, In b);
Tensor maximum(In a, In b);             ///< NaN if an operand is; the gradient at a tie goes to a
Tensor minimum(In a, In b);
Tensor squared_difference(In a, In b);  ///< (a - b)^2
Tensor divide_no_nan(In a, In b);       ///< a / b, 0 where b is 0
inline Tensor operator+(In a, In b) { return add(std::move(a), std::move(b)); }
inline Tensor operator-(In a, In b) { return subtract(std::move(a), std::move(b)); }
inline Tensor operator*(In a, In b) { return multiply(std::move(a), std::move(b)); }
inline Tensor operator/(In a, In b) { return divide(std::move(a), std::move(b)); }

Tensor negative(In x);
inline Tensor operator-(In x) { return negative(std::move(x)); }
Tensor abs(In x);  ///< gradient 0 at 0
Tensor sign(In x);
Tensor square(In x);
Tensor reciprocal(In x);
Tensor exp(In x);
Tensor expm1(In x);
Tensor log(In x);
Tensor log1p(In x);
Tensor sqrt(In x);
Tensor rsqrt(In x);
Tensor sin(In x);
Tensor cos(In x);
Tensor tanh(In x);
Tensor sigmoid(In x);
Tensor erf(In x);
Tensor floor(In x);
Tensor ceil(In x);
Tensor round(In x);      ///< halves to even
Tensor is_finite(In x);  ///< bool
Tensor is_nan(In x);     ///< bool
Tensor identity(In x);
Tensor stop_gradient(In x);

/// Another element type: floats to integers truncate and saturate (NaN is 0), anything but zero is true.
Tensor cast(In x, DType dtype);
/// a where condition holds, else b.
Tensor select(In condition, In a, In b);
/// min(max(x, low), high); the gradient passes where low <= x <= high.
Tensor clip(In x, double low, double high);

}  // namespace evenflow
