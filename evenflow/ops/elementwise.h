// SPDX-License-Identifier: Apache-2.0
// Element-wise arithmetic with NumPy's broadcasting. Two element types meet in promote(); numbers
// take the type of the tensors that they meet. Integers wrap. All are [...] -> [...] and throw
// InvalidArgument for types they do not serve and shapes that do not broadcast.
#pragma once
#include "evenflow/graph/tensor.h"

namespace evenflow {

Tensor add(In a, In b);
Tensor subtract(In a, In b);
Tensor multiply(In a, In b);
/// True division: integers become f32. By zero: IEEE's infinity or NaN.
Tensor divide(In a, In b);
/// Python's: rounded down. An integer by zero is 0.
Tensor floor_divide(In a, In b);
/// Python's remainder, with the sign of b. An integer by zero is 0.
Tensor mod(In a, In b);
/// a^b. An integer to a negative power is truncated: 0, 1 or -1. The gradient by b is 0 where a <=
/// 0.
Tensor power(In a, In b);
/// NaN if an operand is. The gradient at a tie goes to a, as TensorFlow's.
Tensor maximum(In a, In b);
Tensor minimum(In a, In b);
/// (a - b)^2
Tensor squared_difference(In a, In b);
/// a / b, and 0 where b is 0; integers become f32.
Tensor divide_no_nan(In a, In b);
inline Tensor operator+(In a, In b) { return add(std::move(a), std::move(b)); }
inline Tensor operator-(In a, In b) { return subtract(std::move(a), std::move(b)); }
inline Tensor operator*(In a, In b) { return multiply(std::move(a), std::move(b)); }
inline Tensor operator/(In a, In b) { return divide(std::move(a), std::move(b)); }

Tensor negative(In x);
inline Tensor operator-(In x) { return negative(std::move(x)); }
Tensor abs(In x);   ///< gradient 0 at 0
Tensor sign(In x);  ///< -1, 0 or 1; NaN stays
Tensor square(In x);
Tensor reciprocal(In x);
Tensor exp(In x);
Tensor expm1(In x);  ///< e^x - 1, exact near 0
Tensor log(In x);
Tensor log1p(In x);  ///< log(1 + x), exact near 0
Tensor sqrt(In x);
Tensor rsqrt(In x);  ///< 1 / sqrt(x)
Tensor sin(In x);
Tensor cos(In x);
Tensor tanh(In x);
Tensor sigmoid(In x);
Tensor erf(In x);
Tensor floor(In x);
Tensor ceil(In x);
Tensor round(In x);      ///< halves to even
Tensor is_finite(In x);  ///< bool: neither infinite nor NaN
Tensor is_nan(In x);     ///< bool
Tensor identity(In x);
/// x, as a constant for differentiation.
Tensor stop_gradient(In x);

/// Another element type: floats to integers truncate and saturate (NaN is 0), integers wrap,
/// anything but zero is true. The gradient is cast back.
Tensor cast(In x, DType dtype);
/// a where condition holds, else b; all three broadcast (numpy.where).
Tensor select(In condition, In a, In b);
/// min(max(x, low), high); NaN stays. The gradient passes where low <= x <= high. Throws
/// InvalidArgument for low > high, and for an integer x with fractional bounds.
Tensor clip(In x, double low, double high);
/// Bounds that broadcast with x.
Tensor clip(In x, In low, In high);

}  // namespace evenflow
