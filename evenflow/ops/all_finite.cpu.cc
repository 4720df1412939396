// SPDX-License-Identifier: Apache-2.0
// Whether everything is finite, a vector at a time: every step asks it of every gradient.
#include <algorithm>
#include <bit>
#include <cmath>

#include "evenflow/core/floating.h"
#include "evenflow/core/parallel.h"
#include "evenflow/graph/op.h"

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "evenflow/ops/all_finite.cpu.cc"
#include "hwy/foreach_target.h"
#include <hwy/highway.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace evenflow::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// All bits of the exponent are set in an infinity and in a NaN: the largest of them tells.
template <class U>
bool finite(const U* x, int64_t n, U exponent) {
  const hn::ScalableTag<U> d;
  const int64_t lanes = int64_t(hn::Lanes(d));
  const auto mask = hn::Set(d, exponent);
  auto bad0 = hn::FirstN(d, 0), bad1 = bad0;
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    bad0 = hn::Or(bad0, hn::Eq(hn::And(hn::LoadU(d, x + i), mask), mask));
    bad1 = hn::Or(bad1, hn::Eq(hn::And(hn::LoadU(d, x + i + lanes), mask), mask));
  }
  bool ok = hn::AllFalse(d, hn::Or(bad0, bad1));
  for (; i < n; ++i) ok &= (x[i] & exponent) != exponent;
  return ok;
}
bool finite_of(DType d, const void* x, int64_t n) {
  return visit_floating(d, [&](auto zero) {
    using T = decltype(zero);
    using U = hwy::UnsignedFromSize<sizeof(T)>;
    return finite(static_cast<const U*>(x), n, std::bit_cast<U>(T(INFINITY)));
  });
}
}  // namespace evenflow::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace evenflow::cpu {
HWY_EXPORT(finite_of);
}  // namespace evenflow::cpu

namespace evenflow {
using namespace cpu;  // one target alone is dispatched to by its namespace
KERNEL(all_finite, NoAttrs, vector) {
  return {.run = [](const Call& c, const NoAttrs&) {
    bool ok = true;
    for (auto& v : c.in) ok &= HWY_DYNAMIC_DISPATCH(finite_of)(v.dtype(), v.data, v.count());
    *c.out[0].as<bool>() = ok;
  }};
}
}  // namespace evenflow
#endif
