// SPDX-License-Identifier: Apache-2.0
#include "evenflow/core/dtype.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "evenflow/core/random.h"

namespace evenflow {
namespace {

// Rounded to nearest, ties to even, in f64: `digits` of fraction, exponents from `least`, infinity
// beyond `most`.
double rounded(float x, int digits, int least, double most) {
  if (x == 0 || !std::isfinite(x)) return x;
  const double a = std::abs(double(x));
  const int e = std::max(std::ilogb(a), least);
  const double q = std::ldexp(std::nearbyint(std::ldexp(a, digits - e)), e - digits);
  return std::copysign(q > most ? INFINITY : q, x);
}
template <class T>
void every_float_rounds(int digits, int least, double most) {
  const Philox philox{17};
  for (uint64_t i = 0; i < 400000; ++i) {
    uint32_t u = philox(0, i)[0];
    if (i % 4 == 1) u &= 0xffff0000u;                             // short fractions
    if (i % 4 == 2) u = (u & 0xffffe000u) | 0x1000u;              // ties of f16
    if (i % 4 == 3) u = (u & 0xffff0000u) | 0x8000u;              // ties of bf16
    if (i % 8 > 4) u = (u & 0x807fffffu) | (100 + u % 50) << 23;  // near one, and f16's edges
    const float x = std::bit_cast<float>(u), y = T(x);
    if (std::isnan(x)) {
      ASSERT_TRUE(std::isnan(y)) << std::hex << u;
    } else {
      ASSERT_EQ(std::bit_cast<uint32_t>(y),
                std::bit_cast<uint32_t>(float(rounded(x, digits, least, most))))
          << std::hex << u;
    }
  }
}

TEST(DType, sixteen_bit_floats_round_to_nearest_even) {
  every_float_rounds<f16>(10, -14, 65504);
  every_float_rounds<bf16>(7, -126, std::ldexp(255. / 128, 127));
  EXPECT_EQ(float(f16(65519.f)), 65504);
  EXPECT_EQ(float(f16(65520.f)), INFINITY) << "half way to what does not exist";
  EXPECT_EQ(float(f16(0x1p-24f)), 0x1p-24f) << "the least of all";
  EXPECT_EQ(float(f16(0x1p-25f)), 0) << "a tie, to even";
  EXPECT_EQ(f16(-0.f).bits, 0x8000);
  EXPECT_EQ(bf16(-0.f).bits, 0x8000);
}

TEST(DType, every_value_of_sixteen_bits_survives_the_way_through_f32) {
  for (uint32_t u = 0; u < 65536; ++u) {
    f16 h;
    h.bits = uint16_t(u);
    const int e = int(u >> 10 & 31), m = int(u & 1023);
    if (e < 31) {  // IEEE 754's definition
      const double v = e ? std::ldexp(1024 + m, e - 25) : std::ldexp(m, -24);
      EXPECT_EQ(float(h), float(u & 0x8000 ? -v : v));
    }
    if (e < 31 || !m) {
      EXPECT_EQ(f16(float(h)).bits, u);
    } else {
      EXPECT_TRUE(std::isnan(float(h)) && std::isnan(float(f16(float(h))))) << u;
    }
    bf16 b;
    b.bits = uint16_t(u);
    if (std::isnan(float(b))) {
      EXPECT_TRUE(std::isnan(float(bf16(float(b))))) << u;
    } else {
      EXPECT_EQ(bf16(float(b)).bits, u);
    }
  }
}

TEST(DType, names_in_both_spellings) {
  for (int i = 0; i < kDTypes; ++i) {
    EXPECT_EQ(parse_dtype(str(DType(i))), DType(i));
    EXPECT_EQ(parse_dtype(numpy_name(DType(i))), DType(i));
    EXPECT_EQ(visit(DType(i), [](auto zero) { return dtype_of<decltype(zero)>; }), DType(i));
    EXPECT_EQ(visit(DType(i), [](auto zero) { return int64_t(sizeof zero); }), size_of(DType(i)));
  }
  try {
    parse_dtype("float8");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::InvalidArgument);
    EXPECT_THAT(e.what(), testing::HasSubstr("dtype is \"float8\", expected one of f32"));
  }
}

TEST(DType, promotion_is_a_lattice) {
  // bool < u8 < i32 < i64 < any float; f16 and bf16 meet in f32.
  const std::vector<DType> order{DType::boolean, DType::u8, DType::i32, DType::i64};
  for (int i = 0; i < kDTypes; ++i)
    for (int j = 0; j < kDTypes; ++j) {
      const DType a = DType(i), b = DType(j), p = promote(a, b);
      EXPECT_EQ(p, promote(b, a));
      EXPECT_EQ(promote(p, a), p);
      EXPECT_EQ(is_floating(p), is_floating(a) || is_floating(b));
      for (int k = 0; k < kDTypes; ++k)  // but that integers are lost in floats, it is associative
        EXPECT_EQ(promote(p, DType(k)), promote(a, promote(b, DType(k)))) << i << j << k;
      EXPECT_TRUE(p == a || !is_floating(a) || is_floating(b)) << "the float stays";
    }
  for (size_t i = 0; i < order.size(); ++i)
    for (size_t j = i; j < order.size(); ++j) EXPECT_EQ(promote(order[i], order[j]), order[j]);
  EXPECT_EQ(promote(DType::f16, DType::bf16), DType::f32);
  EXPECT_EQ(promote(DType::bf16, DType::f64), DType::f64);
}

}  // namespace
}  // namespace evenflow
