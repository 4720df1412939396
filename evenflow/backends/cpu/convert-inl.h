// SPDX-License-Identifier: Apache-2.0
// Vectors of f32 to and from memory that holds bf16, f16 or f32. Compiled once for each target.
#if defined(EVENFLOW_BACKENDS_CPU_CONVERT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EVENFLOW_BACKENDS_CPU_CONVERT_INL_H_
#undef EVENFLOW_BACKENDS_CPU_CONVERT_INL_H_
#else
#define EVENFLOW_BACKENDS_CPU_CONVERT_INL_H_
#endif

#include <hwy/highway.h>

#include "evenflow/core/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace evenflow::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D>
HWY_INLINE hn::Vec<D> load(D d, const float* p) {
  return hn::LoadU(d, p);
}
template <class D>
HWY_INLINE hn::Vec<D> load(D d, const double* p) {
  return hn::LoadU(d, p);
}
template <class D>
HWY_INLINE hn::Vec<D> load(D d, const bf16* p) {
  const hn::RebindToUnsigned<D> du;
  const hn::Rebind<uint16_t, D> d16;
  const auto bits = hn::LoadU(d16, reinterpret_cast<const uint16_t*>(p));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, bits)));
}
template <class D>
HWY_INLINE void store(D d, hn::Vec<D> v, float* p) {
  hn::StoreU(v, d, p);
}
template <class D>
HWY_INLINE void store(D d, hn::Vec<D> v, double* p) {
  hn::StoreU(v, d, p);
}
template <class D>
HWY_INLINE void store(D, hn::Vec<D> v, bf16* p) {
  const hn::RebindToUnsigned<D> du;
  const hn::Rebind<uint16_t, D> d16;
  const auto u = hn::BitCast(du, v);
  const auto odd = hn::And(hn::ShiftRight<16>(u), hn::Set(du, 1));
  const auto rounded = hn::Add(u, hn::Add(odd, hn::Set(du, 0x7fff)));
  const auto quiet = hn::Or(u, hn::Set(du, 0x400000));  // rounding could carry a NaN to infinity
  const auto bits =
      hn::ShiftRight<16>(hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), quiet, rounded));
  const hn::RebindToSigned<decltype(du)> di;
  hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di, bits)), d16, reinterpret_cast<uint16_t*>(p));
}
// Only F16C converts subnormals and rounds as IEEE asks; elsewhere lane by lane.
template <class D>
HWY_INLINE hn::Vec<D> load(D d, const f16* p) {
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  const hn::Rebind<hwy::float16_t, D> d16;
  return hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(p)));
#else
  HWY_ALIGN float lanes[hn::MaxLanes(D())];
  for (size_t i = 0; i < hn::Lanes(d); ++i) lanes[i] = p[i];
  return hn::Load(d, lanes);
#endif
}
template <class D>
HWY_INLINE void store(D d, hn::Vec<D> v, f16* p) {
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  const hn::Rebind<hwy::float16_t, D> d16;
  hn::StoreU(hn::DemoteTo(d16, v), d16, reinterpret_cast<hwy::float16_t*>(p));
#else
  HWY_ALIGN float lanes[hn::MaxLanes(D())];
  hn::Store(v, d, lanes);
  for (size_t i = 0; i < hn::Lanes(d); ++i) p[i] = f16(lanes[i]);
#endif
}

}  // namespace evenflow::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
