// SPDX-License-Identifier: Apache-2.0
// exp, log, tanh, sigmoid, erf and friends on vectors of f32, over the whole range: subnormal,
// infinite and NaN included. Errors against the exact value, over samples of all floats
// (vector_math_test.cc): exp and log 1.5 ulp, tanh and erf 2, sigmoid 2.5. On f64 the C library,
// lane by lane: f64 serves comparisons, not speed. Compiled once for each target.
#if defined(EVENFLOW_BACKENDS_CPU_VECTOR_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EVENFLOW_BACKENDS_CPU_VECTOR_MATH_INL_H_
#undef EVENFLOW_BACKENDS_CPU_VECTOR_MATH_INL_H_
#else
#define EVENFLOW_BACKENDS_CPU_VECTOR_MATH_INL_H_
#endif

#include <hwy/highway.h>

#include <cmath>
#include <limits>
#include <type_traits>

HWY_BEFORE_NAMESPACE();
namespace evenflow::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Any function of one element, lane by lane; for what is rare.
template <class D, class F>
HWY_INLINE hn::Vec<D> per_lane(D d, hn::Vec<D> x, F f) {
  HWY_ALIGN hn::TFromD<D> lanes[hn::MaxLanes(D())];
  hn::Store(x, d, lanes);
  for (size_t i = 0; i < hn::Lanes(d); ++i) lanes[i] = f(lanes[i]);
  return hn::Load(d, lanes);
}

/// c[0] + c[1] x + c[2] x^2 + ...
template <class D, size_t kTerms>
HWY_INLINE hn::Vec<D> polynomial(D d, hn::Vec<D> x, const float (&c)[kTerms]) {
  auto y = hn::Set(d, c[kTerms - 1]);
  for (size_t i = kTerms - 1; i-- > 0;) y = hn::MulAdd(y, x, hn::Set(d, c[i]));
  return y;
}

// 2^n for -126 <= n <= 127.
template <class D, class VI>
HWY_INLINE hn::Vec<D> power_of_two(D d, VI n) {
  const hn::RebindToSigned<D> di;
  return hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(n, hn::Set(di, 127))));
}

template <class D>
HWY_INLINE hn::Vec<D> exp(D d, hn::Vec<D> x) {
  if constexpr (std::is_same_v<hn::TFromD<D>, double>) {
    return per_lane(d, x, [](double v) { return std::exp(v); });
  } else {
    // x = n ln 2 + r, |r| <= ln 2 / 2; ln 2 in two parts, of which the first times n is exact.
    const hn::RebindToSigned<D> di;
    const auto bounded = hn::Min(hn::Max(x, hn::Set(d, -104.0f)), hn::Set(d, 89.0f));
    const auto n = hn::Round(hn::Mul(bounded, hn::Set(d, 1.44269504f)));
    auto r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), bounded);
    r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), r);
    const auto p = polynomial(d, r,
                              {5.0000001201e-1f, 1.6666665459e-1f, 4.1665795894e-2f,
                               8.3334519073e-3f, 1.3981999507e-3f, 1.9875691500e-4f});
    const auto y = hn::Add(hn::MulAdd(hn::Mul(r, r), p, r), hn::Set(d, 1.0f));
    // In two steps: 2^n alone may be no float although y 2^n is one, or a subnormal.
    const auto ni = hn::ConvertTo(di, n);
    const auto half = hn::ShiftRight<1>(ni);
    const auto e = hn::Mul(hn::Mul(y, power_of_two(d, half)), power_of_two(d, hn::Sub(ni, half)));
    return hn::IfThenElse(hn::IsNaN(x), x, e);
  }
}

template <class D>
HWY_INLINE hn::Vec<D> log(D d, hn::Vec<D> x) {
  if constexpr (std::is_same_v<hn::TFromD<D>, double>) {
    return per_lane(d, x, [](double v) { return std::log(v); });
  } else {
    // x = 2^e m, sqrt(1/2) <= m < sqrt(2)
    const hn::RebindToSigned<D> di;
    const auto zero = hn::Zero(d), one = hn::Set(d, 1.0f);
    const auto tiny = hn::Lt(x, hn::Set(d, std::numeric_limits<float>::min()));
    const auto bits = hn::BitCast(di, hn::IfThenElse(tiny, hn::Mul(x, hn::Set(d, 0x1p23f)), x));
    const auto shifted = hn::Sub(bits, hn::Set(di, 0x3f3504f3));
    const auto n = hn::Sub(hn::ConvertTo(d, hn::ShiftRight<23>(shifted)),
                           hn::IfThenElseZero(tiny, hn::Set(d, 23.0f)));
    const auto m =
        hn::BitCast(d, hn::Add(hn::And(shifted, hn::Set(di, 0x7fffff)), hn::Set(di, 0x3f3504f3)));
    const auto f = hn::Sub(m, one), f2 = hn::Mul(f, f);
    const auto p = polynomial(
        d, f,
        {3.3333331174e-1f, -2.4999993993e-1f, 2.0000714765e-1f, -1.6668057665e-1f, 1.4249322787e-1f,
         -1.2420140846e-1f, 1.1676998740e-1f, -1.1514610310e-1f, 7.0376836292e-2f});
    auto y = hn::Mul(hn::Mul(p, f), f2);
    y = hn::MulAdd(n, hn::Set(d, -2.12194440e-4f), y);
    y = hn::NegMulAdd(hn::Set(d, 0.5f), f2, y);
    y = hn::MulAdd(n, hn::Set(d, 0.693359375f), hn::Add(f, y));
    const auto inf = hn::Inf(d);
    y = hn::IfThenElse(hn::Eq(x, inf), inf, y);
    y = hn::IfThenElse(hn::Eq(x, zero), hn::Neg(inf), y);
    return hn::IfThenElse(hn::Or(hn::Lt(x, zero), hn::IsNaN(x)), hn::NaN(d), y);
  }
}

/// 1 / (1 + exp(-x)), with the small end intact.
template <class D>
HWY_INLINE hn::Vec<D> sigmoid(D d, hn::Vec<D> x) {
  const auto one = hn::Set(d, hn::TFromD<D>(1));
  const auto e = exp(d, hn::Neg(hn::Abs(x)));
  return hn::Div(hn::IfThenElse(hn::Lt(x, hn::Zero(d)), e, one), hn::Add(one, e));
}

template <class D>
HWY_INLINE hn::Vec<D> tanh(D d, hn::Vec<D> x) {
  if constexpr (std::is_same_v<hn::TFromD<D>, double>) {
    return per_lane(d, x, [](double v) { return std::tanh(v); });
  } else {
    const auto one = hn::Set(d, 1.0f), a = hn::Abs(x), z = hn::Mul(x, x);
    const auto p = polynomial(d, z,
                              {-3.33332819422e-1f, 1.33314422036e-1f, -5.37397155531e-2f,
                               2.06390887954e-2f, -5.70498872745e-3f});
    const auto small = hn::MulAdd(hn::Mul(p, z), x, x);
    const auto e = exp(d, hn::Add(a, a));
    const auto large = hn::Sub(one, hn::Div(hn::Set(d, 2.0f), hn::Add(e, one)));
    return hn::IfThenElse(hn::Lt(a, hn::Set(d, 0.625f)), small, hn::CopySign(large, x));
  }
}

template <class D>
HWY_INLINE hn::Vec<D> erf(D d, hn::Vec<D> x) {
  if constexpr (std::is_same_v<hn::TFromD<D>, double>) {
    return per_lane(d, x, [](double v) { return std::erf(v); });
  } else {
    // Below 0.93 x + x P(x^2), above 1 - exp(Q(|x|)); minimax fits by N. Juffa.
    const auto a = hn::Abs(x), z = hn::Mul(x, x), t = hn::Min(a, hn::Set(d, 4.0f));
    const auto p = polynomial(d, z,
                              {1.28379166e-1f, -3.76125336e-1f, 1.12819925e-1f, -2.67681349e-2f,
                               4.99119423e-3f, -5.96761703e-4f});
    const auto q = polynomial(d, t,
                              {-1.28717512e-1f, -6.34846687e-1f, -1.06777877e-1f, 2.42546219e-2f,
                               -3.88396438e-3f, 3.83197126e-4f, -1.72853470e-5f});
    const auto large = hn::Sub(hn::Set(d, 1.0f), exp(d, hn::MulAdd(q, t, hn::Neg(t))));
    const auto y = hn::IfThenElse(hn::Lt(a, hn::Set(d, 0.927734375f)), hn::MulAdd(p, x, x),
                                  hn::CopySign(large, x));
    return hn::IfThenElse(hn::IsNaN(x), x, y);
  }
}

/// exp(x) - 1 and log(1 + x), right for small x; lane by lane.
template <class D>
HWY_INLINE hn::Vec<D> expm1(D d, hn::Vec<D> x) {
  return per_lane(d, x, [](auto v) { return std::expm1(v); });
}
template <class D>
HWY_INLINE hn::Vec<D> log1p(D d, hn::Vec<D> x) {
  return per_lane(d, x, [](auto v) { return std::log1p(v); });
}

}  // namespace evenflow::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
