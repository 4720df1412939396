// SPDX-License-Identifier: Apache-2.0
// The scalar bodies of element-wise operations, in one place for every machine. T is float or double (int64_t where it makes sense).
#pragma once
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace evenflow::scalar {

template <class T>
inline constexpr bool is_float = std::is_floating_point_v<T>;

// Integers wrap: signed overflow is undefined in C++, so the sum is made without signs.
template <class T>
T add(T a, T b) { if constexpr (is_float<T>) return a + b; else return T(uint64_t(a) + uint64_t(b)); }
template <class T>
T subtract(T a, T b) { if constexpr (is_float<T>) return a - b; else return T(uint64_t(a) - uint64_t(b)); }
template <class T>
T multiply(T a, T b) { if constexpr (is_float<T>) return a * b; else return T(uint64_t(a) * uint64_t(b)); }
/// Python's floor division; an integer by zero is 0.
template <class T>
T floor_divide(T a, T b) {
  if constexpr (is_float<T>) return std::floor(a / b);
  else {
    if (b == 0) return 0;
    if (b == -1) return subtract(T(0), a);  // the lowest integer by -1 traps
    const T q = a / b;
    return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
  }
}
/// Python's remainder, with the sign of b; an integer by zero is 0.
template <class T>
T mod(T a, T b) {
  if constexpr (is_float<T>) {
    const T r = std::fmod(a, b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
  } else {
    if (b == 0 || b == -1) return 0;
    const T r = a % b;
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
  }
}
/// Integers by squaring; a negative exponent gives the truncated value (0, 1 or -1).
template <class T>
T power(T a, T b) {
  if constexpr (is_float<T>) return std::pow(a, b);
  else {
    if (b < 0) return a == 1 ? 1 : a == -1 ? (b & 1 ? -1 : 1) : 0;
    T r = 1;
    for (; b; b >>= 1, a = multiply(a, a))
      if (b & 1) r = multiply(r, a);
    return r;
  }
}
/// NaN if an operand is.
template <class T>
T maximum(T a, T b) { return a > b || a != a ? a : b; }
template <class T>
T minimum(T a, T b) { return a < b || a != a ? a : b; }
template <class T>
T sign(T x) { return x > 0 ? T(1) : x < 0 ? T(-1) : x; }  // NaN stays, and so does the sign of zero
template <class T>
T sigmoid(T x) {
  const T e = std::exp(-std::abs(x));
  return (x >= 0 ? T(1) : e) / (1 + e);
}
template <class T>
T softplus(T x) { return std::max(x, T(0)) + std::log1p(std::exp(-std::abs(x))); }
template <class T>
T erf(T x) { return std::erf(x); }

}  // namespace evenflow::scalar
