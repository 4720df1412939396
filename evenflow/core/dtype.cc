// SPDX-License-Identifier: Apache-2.0
#include "evenflow/core/dtype.h"

#include <algorithm>

namespace evenflow {
namespace {
struct Names {
  std::string_view ours, numpy;
};
constexpr Names kNames[kDTypes] = {{"f32", "float32"}, {"f64", "float64"}, {"bf16", "bfloat16"},
                                   {"f16", "float16"}, {"i32", "int32"},   {"i64", "int64"},
                                   {"u8", "uint8"},    {"bool", "bool"}};
}  // namespace

std::string_view str(DType d) { return kNames[int(d)].ours; }
std::string_view numpy_name(DType d) { return kNames[int(d)].numpy; }
DType parse_dtype(std::string_view name) {
  for (int i = 0; i < kDTypes; ++i)
    if (name == kNames[i].ours || name == kNames[i].numpy) return DType(i);
  fail({"dtype is \"", name, "\", expected one of f32 f64 bf16 f16 i32 i64 u8 bool"});
}

DType promote(DType a, DType b) {
  if (a == b) return a;
  auto rank = [](DType d) {
    switch (d) {
      case DType::boolean:
        return 0;
      case DType::u8:
        return 1;
      case DType::i32:
        return 2;
      case DType::i64:
        return 3;
      case DType::f16:
      case DType::bf16:
        return 4;
      case DType::f32:
        return 5;
      case DType::f64:
        return 6;
    }
    return 0;
  };
  if (rank(a) == 4 && rank(b) == 4) return DType::f32;
  return rank(a) > rank(b) ? a : b;
}

f16::f16(float f) {
  const uint32_t u = std::bit_cast<uint32_t>(f), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
  if (a > 0x7f800000)
    bits = uint16_t(sign | 0x7e00);
  else if (a >= 0x47800000)
    bits = uint16_t(sign | 0x7c00);  // 65536 and beyond, infinity
  else if (a < 0x38800000) {         // subnormal: let the float adder round at 2^-24
    const float shifted = std::bit_cast<float>(a) + 0.5f;
    bits = uint16_t(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000));
  } else {
    const uint32_t r =
        a + 0xc8000fff +
        (a >> 13 & 1);  // rebias by 112 and round; a carry reaches infinity by itself
    bits = uint16_t(sign | r >> 13);
  }
}
f16::operator float() const {
  const uint32_t sign = uint32_t(bits & 0x8000) << 16, e = bits >> 10 & 31, m = bits & 0x3ff;
  if (e == 31) return std::bit_cast<float>(sign | 0x7f800000 | m << 13);
  if (e) return std::bit_cast<float>(sign | (e + 112) << 23 | m << 13);
  const float v = float(m) * 0x1p-24f;
  return sign ? -v : v;
}

}  // namespace evenflow
