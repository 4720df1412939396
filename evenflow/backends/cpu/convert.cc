// SPDX-License-Identifier: Apache-2.0
#include "evenflow/backends/cpu/convert.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "evenflow/backends/cpu/convert.cc"
#include "hwy/foreach_target.h"
#include "evenflow/backends/cpu/convert-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace evenflow::cpu::HWY_NAMESPACE {

// The rest of an array goes through a full vector of its own, so that no element's bits depend on
// where it lies.
template <class From, class To>
void convert(const From* src, int64_t n, To* dst) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = int64_t(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) store(d, load(d, src + i), dst + i);
  if (i == n) return;
  From in[hn::MaxLanes(hn::ScalableTag<float>())] = {};
  To out[hn::MaxLanes(hn::ScalableTag<float>())];
  std::memcpy(in, src + i, size_t(n - i) * sizeof(From));
  store(d, load(d, in), out);
  std::memcpy(dst + i, out, size_t(n - i) * sizeof(To));
}
void from_bf16(const bf16* src, int64_t n, float* dst) { convert(src, n, dst); }
void from_f16(const f16* src, int64_t n, float* dst) { convert(src, n, dst); }
void to_bf16(const float* src, int64_t n, bf16* dst) { convert(src, n, dst); }
void to_f16(const float* src, int64_t n, f16* dst) { convert(src, n, dst); }

}  // namespace evenflow::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace evenflow::cpu {
HWY_EXPORT(from_bf16);
HWY_EXPORT(from_f16);
HWY_EXPORT(to_bf16);
HWY_EXPORT(to_f16);

namespace {
template <class To, class From>
To cast(From v) {
  if constexpr (std::is_same_v<To, bool>) {
    return v != 0;
  } else if constexpr (std::is_integral_v<To> && std::is_floating_point_v<From>) {
    using Limits = std::numeric_limits<To>;
    if (std::isnan(v)) return 0;
    // Both bounds are powers of two (or zero) as floats, so the comparisons are exact.
    if (v < From(Limits::min())) return Limits::min();
    if (v >= std::ldexp(From(1), Limits::digits)) return Limits::max();
    return To(v);
  } else if constexpr (std::is_same_v<To, bf16> || std::is_same_v<To, f16>) {
    return To(float(v));
  } else {
    return To(v);
  }
}

template <class From, class To>
void cast_all(const void* src, int64_t n, void* dst) {
  const auto* s = static_cast<const From*>(src);
  auto* d = static_cast<To*>(dst);
  if constexpr (std::is_same_v<From, To>) {
    if (n) std::memmove(d, s, size_t(n) * sizeof(To));  // of nothing, the addresses may be null
  } else
    for (int64_t i = 0; i < n; ++i) d[i] = cast<To>(s[i]);
}
}  // namespace

void to_f32(DType dtype, const void* src, int64_t n, float* dst) {
  if (dtype == DType::bf16)
    return HWY_DYNAMIC_DISPATCH(from_bf16)(static_cast<const bf16*>(src), n, dst);
  if (dtype == DType::f16)
    return HWY_DYNAMIC_DISPATCH(from_f16)(static_cast<const f16*>(src), n, dst);
  visit(dtype, [&](auto zero) { cast_all<decltype(zero), float>(src, n, dst); });
}
void to_f64(DType dtype, const void* src, int64_t n, double* dst) {
  visit(dtype, [&](auto zero) { cast_all<decltype(zero), double>(src, n, dst); });
}
void from_f32(DType dtype, const float* src, int64_t n, void* dst) {
  if (dtype == DType::bf16) return HWY_DYNAMIC_DISPATCH(to_bf16)(src, n, static_cast<bf16*>(dst));
  if (dtype == DType::f16) return HWY_DYNAMIC_DISPATCH(to_f16)(src, n, static_cast<f16*>(dst));
  visit(dtype, [&](auto zero) { cast_all<float, decltype(zero)>(src, n, dst); });
}
void from_f64(DType dtype, const double* src, int64_t n, void* dst) {
  visit(dtype, [&](auto zero) { cast_all<double, decltype(zero)>(src, n, dst); });
}

}  // namespace evenflow::cpu
#endif
