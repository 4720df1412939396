// SPDX-License-Identifier: Apache-2.0
// The scalar bodies of element-wise operations, in one place for every machine: loops, fused
// regions and kernels for GPUs. A function has the name of its operation, takes one element of each
// input, then the attributes in the order of the sheet. T is float or double; arithmetic also takes
// int64_t.
#pragma once
#include <cmath>
#include <cstdint>
#include <type_traits>

#if defined(__CUDACC__)
#define EVENFLOW_SCALAR \
  template <class T>    \
  __host__ __device__ inline
#else
#define EVENFLOW_SCALAR \
  template <class T>    \
  inline
#endif

namespace evenflow::scalar {

template <class T>
inline constexpr bool is_float = std::is_floating_point_v<T>;

// Integers wrap: signed overflow is undefined in C++, so the sum is made without signs.
EVENFLOW_SCALAR T add(T a, T b) {
  if constexpr (is_float<T>)
    return a + b;
  else
    return T(uint64_t(a) + uint64_t(b));
}
EVENFLOW_SCALAR T subtract(T a, T b) {
  if constexpr (is_float<T>)
    return a - b;
  else
    return T(uint64_t(a) - uint64_t(b));
}
EVENFLOW_SCALAR T multiply(T a, T b) {
  if constexpr (is_float<T>)
    return a * b;
  else
    return T(uint64_t(a) * uint64_t(b));
}
EVENFLOW_SCALAR T divide(T a, T b) { return a / b; }
EVENFLOW_SCALAR T divide_no_nan(T a, T b) { return b == 0 ? T(0) : a / b; }
/// Python's remainder, with the sign of b; an integer by zero is 0.
EVENFLOW_SCALAR T mod(T a, T b) {
  if constexpr (is_float<T>) {
    const T r = std::fmod(a, b);
    if (r == 0) return std::copysign(T(0), b);
    return (r < 0) != (b < 0) ? r + b : r;
  } else {
    if (b == 0 || b == -1) return 0;  // the lowest integer by -1 traps
    const T r = a % b;
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
  }
}
/// Python's floor division; an integer by zero is 0.
EVENFLOW_SCALAR T floor_divide(T a, T b) {
  if constexpr (is_float<T>) {
    // floor(a / b) is one too large where the quotient was rounded up to an integer: 1 // 0.1 is 9.
    if (b == 0) return a / b;
    const T r = std::fmod(a, b);
    T q = (a - r) / b;
    if (r != 0 && (r < 0) != (b < 0)) q -= 1;
    if (q == 0) return std::copysign(T(0), a / b);
    const T f = std::floor(q);
    return q - f > T(0.5) ? f + 1 : f;
  } else {
    if (b == 0) return 0;
    if (b == -1) return subtract(T(0), a);
    const T q = a / b;
    return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
  }
}
/// Integers by squaring; a negative exponent gives the truncated value (0, 1 or -1).
EVENFLOW_SCALAR T power(T a, T b) {
  if constexpr (is_float<T>) {
    return std::pow(a, b);
  } else {
    if (b < 0) return a == 1 ? 1 : a == -1 ? (b & 1 ? -1 : 1) : 0;
    T r = 1;
    for (; b; b >>= 1, a = multiply(a, a))
      if (b & 1) r = multiply(r, a);
    return r;
  }
}
/// NaN if an operand is.
EVENFLOW_SCALAR T maximum(T a, T b) { return a > b || a != a ? a : b; }
EVENFLOW_SCALAR T minimum(T a, T b) { return a < b || a != a ? a : b; }
EVENFLOW_SCALAR T squared_difference(T a, T b) {
  const T d = subtract(a, b);
  return multiply(d, d);
}

EVENFLOW_SCALAR T negative(T x) {
  if constexpr (is_float<T>)
    return -x;
  else
    return subtract(T(0), x);
}
EVENFLOW_SCALAR T abs(T x) {
  if constexpr (is_float<T>)
    return std::abs(x);
  else
    return x < 0 ? negative(x) : x;
}
/// NaN stays, and so does the sign of zero.
EVENFLOW_SCALAR T sign(T x) { return x > 0 ? T(1) : x < 0 ? T(-1) : x; }
EVENFLOW_SCALAR T square(T x) { return multiply(x, x); }
EVENFLOW_SCALAR T reciprocal(T x) { return 1 / x; }
EVENFLOW_SCALAR T exp(T x) { return std::exp(x); }
EVENFLOW_SCALAR T expm1(T x) { return std::expm1(x); }
EVENFLOW_SCALAR T log(T x) { return std::log(x); }
EVENFLOW_SCALAR T log1p(T x) { return std::log1p(x); }
EVENFLOW_SCALAR T sqrt(T x) { return std::sqrt(x); }
EVENFLOW_SCALAR T rsqrt(T x) { return 1 / std::sqrt(x); }
EVENFLOW_SCALAR T sin(T x) { return std::sin(x); }
EVENFLOW_SCALAR T cos(T x) { return std::cos(x); }
EVENFLOW_SCALAR T tanh(T x) { return std::tanh(x); }
EVENFLOW_SCALAR T sigmoid(T x) {
  const T e = std::exp(-std::abs(x));
  return (x >= 0 ? T(1) : e) / (1 + e);
}
EVENFLOW_SCALAR T erf(T x) { return std::erf(x); }
EVENFLOW_SCALAR T floor(T x) { return std::floor(x); }
EVENFLOW_SCALAR T ceil(T x) { return std::ceil(x); }
/// Halves to even.
EVENFLOW_SCALAR T round(T x) { return std::nearbyint(x); }
EVENFLOW_SCALAR T clip(T x, T low, T high) { return x < low ? low : x > high ? high : x; }

// ---- activations
// ---------------------------------------------------------------------------------
EVENFLOW_SCALAR T relu(T x, T negative_slope, T max_value, T threshold) {
  if (x > threshold) return x < max_value ? x : max_value;
  return negative_slope == 0 && x == x ? T(0) : negative_slope * (x - threshold);
}
EVENFLOW_SCALAR T relu_grad(T g, T x, T negative_slope, T max_value, T threshold) {
  if (x > threshold) return x < max_value ? g : T(0);
  return negative_slope == 0 ? T(0) : negative_slope * g;
}
EVENFLOW_SCALAR T elu(T x, T alpha) { return x > 0 ? x : alpha * std::expm1(x); }
EVENFLOW_SCALAR T celu(T x, T alpha) { return x > 0 ? x : alpha * std::expm1(x / alpha); }
// Klambauer et al. (2017), "Self-normalizing neural networks".
inline constexpr double kSeluAlpha = 1.6732632423543772848, kSeluScale = 1.0507009873554804934;
EVENFLOW_SCALAR T selu(T x) { return T(kSeluScale) * elu(x, T(kSeluAlpha)); }
inline constexpr double kSqrtHalf = 0.70710678118654752440, kSqrtTwoOverPi = 0.79788456080286535588;
EVENFLOW_SCALAR T gelu(T x, bool approximate) {
  if (approximate)
    return T(0.5) * x * (1 + std::tanh(T(kSqrtTwoOverPi) * (x + T(0.044715) * x * x * x)));
  return T(0.5) * x * std::erfc(-x * T(kSqrtHalf));
}
EVENFLOW_SCALAR T silu(T x) { return x * sigmoid(x); }
EVENFLOW_SCALAR T hard_sigmoid(T x) { return clip((x + 3) / 6, T(0), T(1)); }
EVENFLOW_SCALAR T hard_silu(T x) { return x * hard_sigmoid(x); }
EVENFLOW_SCALAR T hard_tanh(T x) { return clip(x, T(-1), T(1)); }
EVENFLOW_SCALAR T hard_shrink(T x, T threshold) { return std::abs(x) <= threshold ? T(0) : x; }
EVENFLOW_SCALAR T soft_shrink(T x, T threshold) {
  return std::abs(x) <= threshold ? T(0) : x > 0 ? x - threshold : x + threshold;
}
EVENFLOW_SCALAR T tanh_shrink(T x) { return x - std::tanh(x); }
EVENFLOW_SCALAR T softplus(T x) { return (x > 0 ? x : T(0)) + std::log1p(std::exp(-std::abs(x))); }
EVENFLOW_SCALAR T softsign(T x) { return x / (1 + std::abs(x)); }
EVENFLOW_SCALAR T mish(T x) { return x * std::tanh(softplus(x)); }
EVENFLOW_SCALAR T log_sigmoid(T x) { return -softplus(-x); }
/// (x + sqrt(x^2 + b)) / 2, without the cancellation of large negative x.
EVENFLOW_SCALAR T squareplus(T x, T b) {
  const T root = std::sqrt(x * x + b);
  return x > 0 || b == 0 ? (x + root) / 2 : b / (2 * (root - x));
}
EVENFLOW_SCALAR T threshold(T x, T threshold, T default_value) {
  return x <= threshold ? default_value : x;
}
EVENFLOW_SCALAR T sparse_plus(T x) { return x <= -1 ? T(0) : x < 1 ? (x + 1) * (x + 1) / 4 : x; }
EVENFLOW_SCALAR T sparse_sigmoid(T x) { return clip((x + 1) / 2, T(0), T(1)); }

}  // namespace evenflow::scalar
