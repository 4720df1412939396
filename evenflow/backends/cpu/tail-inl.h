// SPDX-License-Identifier: Apache-2.0
// The last elements of a run, fewer than a vector holds. Compiled once for each target.
#if defined(EVENFLOW_BACKENDS_CPU_TAIL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EVENFLOW_BACKENDS_CPU_TAIL_INL_H_
#undef EVENFLOW_BACKENDS_CPU_TAIL_INL_H_
#else
#define EVENFLOW_BACKENDS_CPU_TAIL_INL_H_
#endif

#include <cstring>
#include <type_traits>

#include "evenflow/backends/cpu/convert-inl.h"

HWY_BEFORE_NAMESPACE();
namespace evenflow::cpu::HWY_NAMESPACE {
// Whether part of a vector is read and written by a mask that leaves the rest of memory alone.
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
constexpr bool kMasksMemory = true;
#else
constexpr bool kMasksMemory = false;
#endif

// n elements; the other lanes are zero.
template <class D, class T>
HWY_INLINE hn::Vec<D> load_n(D d, const T* p, int64_t n) {
  if constexpr (kMasksMemory && std::is_same_v<T, hn::TFromD<D>>)
    return hn::MaskedLoad(hn::FirstN(d, size_t(n)), d, p);
  HWY_ALIGN T rest[hn::MaxLanes(D())] = {};
  std::memcpy(rest, p, size_t(n) * sizeof(T));
  return load(d, rest);
}
template <class D, class T>
HWY_INLINE void store_n(D d, hn::Vec<D> v, T* p, int64_t n) {
  if constexpr (kMasksMemory && std::is_same_v<T, hn::TFromD<D>>)
    return hn::BlendedStore(v, hn::FirstN(d, size_t(n)), d, p);
  HWY_ALIGN T rest[hn::MaxLanes(D())];
  store(d, v, rest);
  std::memcpy(p, rest, size_t(n) * sizeof(T));
}
}  // namespace evenflow::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
