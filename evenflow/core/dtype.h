// SPDX-License-Identifier: Apache-2.0
// The eight element types, the two 16-bit floats, and the one promotion rule.
#pragma once
#include <bit>
#include <cstdint>
#include <string_view>

#include "evenflow/core/error.h"

namespace evenflow {

enum class DType : uint8_t { f32, f64, bf16, f16, i32, i64, u8, boolean };
inline constexpr int kDTypes = 8;

/// "f32", "bool", ...
std::string_view str(DType dtype);
/// NumPy's and Keras's name: "float32", "bool", ...
std::string_view numpy_name(DType dtype);
/// From either spelling; throws InvalidArgument.
DType parse_dtype(std::string_view name);

constexpr int64_t size_of(DType d) {
  switch (d) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
    case DType::f16:
      return 2;
    default:
      return 1;
  }
}
constexpr bool is_floating(DType d) { return d <= DType::f16; }
constexpr bool is_integer(DType d) { return d == DType::i32 || d == DType::i64 || d == DType::u8; }

/// The type of a result of two types: bool < u8 < i32 < i64 < any float; f16 with bf16 is f32; else
/// the wider float.
DType promote(DType a, DType b);

/// Brain float: the upper half of an f32, rounded to nearest even.
struct bf16 {
  uint16_t bits = 0;
  bf16() = default;
  explicit bf16(float f) {
    uint32_t u = std::bit_cast<uint32_t>(f);
    bits = (u & 0x7fffffffu) > 0x7f800000u ? uint16_t(u >> 16 | 0x40)
                                           : uint16_t((u + 0x7fffu + (u >> 16 & 1)) >> 16);
  }
  operator float() const { return std::bit_cast<float>(uint32_t(bits) << 16); }
};
/// IEEE binary16, rounded to nearest even, with subnormals.
struct f16 {
  uint16_t bits = 0;
  f16() = default;
  explicit f16(float f);
  operator float() const;
};

/// Calls f with a value of the C++ type of d: visit(d, [&](auto zero) { using T = decltype(zero);
/// ... }).
template <class F>
decltype(auto) visit(DType d, F&& f) {
  switch (d) {
    case DType::f32:
      return f(float{});
    case DType::f64:
      return f(double{});
    case DType::bf16:
      return f(bf16{});
    case DType::f16:
      return f(f16{});
    case DType::i32:
      return f(int32_t{});
    case DType::i64:
      return f(int64_t{});
    case DType::u8:
      return f(uint8_t{});
    case DType::boolean:
      return f(bool{});
  }
  fail(Code::Internal, {"dtype ", int(d)});
}
template <class T>
struct dtype_of_t;
template <>
struct dtype_of_t<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct dtype_of_t<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct dtype_of_t<bf16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct dtype_of_t<f16> {
  static constexpr DType value = DType::f16;
};
template <>
struct dtype_of_t<int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct dtype_of_t<int64_t> {
  static constexpr DType value = DType::i64;
};
template <>
struct dtype_of_t<uint8_t> {
  static constexpr DType value = DType::u8;
};
template <>
struct dtype_of_t<bool> {
  static constexpr DType value = DType::boolean;
};
template <class T>
inline constexpr DType dtype_of = dtype_of_t<T>::value;

/// The type in which arithmetic on T is done: f32 for 16-bit floats, T for the other floats, i64
/// for integers and bool.
template <class T>
struct compute_of {
  using type = int64_t;
};
template <>
struct compute_of<float> {
  using type = float;
};
template <>
struct compute_of<double> {
  using type = double;
};
template <>
struct compute_of<bf16> {
  using type = float;
};
template <>
struct compute_of<f16> {
  using type = float;
};
template <class T>
using compute_t = typename compute_of<T>::type;

}  // namespace evenflow
