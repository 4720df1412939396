// SPDX-License-Identifier: Apache-2.0
// The loop around a map's functor. Compiled once for each target; map.h says how.
#if defined(EVENFLOW_BACKENDS_CPU_MAP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EVENFLOW_BACKENDS_CPU_MAP_INL_H_
#undef EVENFLOW_BACKENDS_CPU_MAP_INL_H_
#else
#define EVENFLOW_BACKENDS_CPU_MAP_INL_H_
#endif

#include <hwy/highway.h>

#include <cstring>

#include "evenflow/backends/cpu/map.h"

HWY_BEFORE_NAMESPACE();
namespace evenflow::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <int kInputs, class F, class D, class T>
HWY_INLINE hn::Vec<D> call(const F& f, D d, const T* const (&in)[kInputs],
                           const int64_t (&at)[kInputs]) {
  static_assert(kInputs <= 4, "add a line below");
  if constexpr (kInputs == 1) return f(d, hn::LoadU(d, in[0] + at[0]));
  if constexpr (kInputs == 2) return f(d, hn::LoadU(d, in[0] + at[0]), hn::LoadU(d, in[1] + at[1]));
  if constexpr (kInputs == 3)
    return f(d, hn::LoadU(d, in[0] + at[0]), hn::LoadU(d, in[1] + at[1]),
             hn::LoadU(d, in[2] + at[2]));
  if constexpr (kInputs == 4)
    return f(d, hn::LoadU(d, in[0] + at[0]), hn::LoadU(d, in[1] + at[1]),
             hn::LoadU(d, in[2] + at[2]), hn::LoadU(d, in[3] + at[3]));
}

template <class F, int kInputs, class T>
void strip(const void* functor, int64_t n, T* out, const T* const* in, const int64_t* step) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = int64_t(hn::Lanes(d));
  const F f = functor ? *static_cast<const F*>(functor) : F{};
  const T* from[kInputs];
  int64_t by[kInputs], at[kInputs];
  for (int k = 0; k < kInputs; ++k) from[k] = in[k], by[k] = step[k] * lanes, at[k] = 0;
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    hn::StoreU(call<kInputs>(f, d, from, at), d, out + i);
    for (int k = 0; k < kInputs; ++k) at[k] += by[k];
  }
  if (i == n) return;
  // The rest goes through full vectors too, so that no element's bits depend on where it lies.
  HWY_ALIGN T rest[kInputs][hn::MaxLanes(hn::ScalableTag<T>())] = {};
  HWY_ALIGN T result[hn::MaxLanes(hn::ScalableTag<T>())];
  for (int k = 0; k < kInputs; ++k) {
    std::memcpy(rest[k], from[k] + at[k], size_t(n - i) * sizeof(T));
    from[k] = rest[k], at[k] = 0;
  }
  hn::Store(call<kInputs>(f, d, from, at), d, result);
  std::memcpy(out + i, result, size_t(n - i) * sizeof(T));
}

template <class F, int kInputs>
Strips strips() {
  return {&strip<F, kInputs, float>, &strip<F, kInputs, double>};
}

}  // namespace evenflow::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
