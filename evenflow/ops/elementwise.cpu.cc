// SPDX-License-Identifier: Apache-2.0
// Vectorised arithmetic and comparisons on floating types. Integers take the plain loops: beyond
// 2^24 they are not exact in f32.
#include "evenflow/ops/elementwise_attrs.h"
#include "evenflow/ops/elementwise_loops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "evenflow/ops/elementwise.cpu.cc"
#include "hwy/foreach_target.h"

#include "evenflow/backends/cpu/map-inl.h"
#include "evenflow/backends/cpu/vector_math-inl.h"

#ifndef EVENFLOW_OPS_ELEMENTWISE_CPU_ONCE
#define EVENFLOW_OPS_ELEMENTWISE_CPU_ONCE
// Names of operations, in the order of the tables below.
#define EVENFLOW_UNARY(X) \
  X(negative)             \
  X(abs)                  \
  X(sign)                 \
  X(square)               \
  X(reciprocal) X(exp) X(log) X(sqrt) X(rsqrt) X(tanh) X(sigmoid) X(erf) X(floor) X(ceil) X(round)
#define EVENFLOW_BINARY(X) \
  X(add)                   \
  X(subtract)              \
  X(multiply)              \
  X(divide)                \
  X(divide_no_nan)         \
  X(maximum)               \
  X(minimum)               \
  X(squared_difference)    \
  X(tanh_grad)             \
  X(sigmoid_grad) X(equal) X(not_equal) X(less) X(less_equal) X(greater) X(greater_equal)
namespace evenflow::cpu {
enum class Body {
#define X(name) name,
  EVENFLOW_UNARY(X) EVENFLOW_BINARY(X) select,
  clip
#undef X
};
}  // namespace evenflow::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace evenflow::cpu::HWY_NAMESPACE {
namespace bodies {
#define UNARY(name, body)                                      \
  struct name {                                                \
    template <class D, class V>                                \
    HWY_INLINE V operator()([[maybe_unused]] D d, V x) const { \
      return body;                                             \
    }                                                          \
  };
#define BINARY(name, body)                                          \
  struct name {                                                     \
    template <class D, class V>                                     \
    HWY_INLINE V operator()([[maybe_unused]] D d, V a, V b) const { \
      return body;                                                  \
    }                                                               \
  };
template <class D>
HWY_INLINE hn::Vec<D> set(D d, double value) {
  return hn::Set(d, hn::TFromD<D>(value));
}
template <class D>
HWY_INLINE hn::Vec<D> truth(D d, hn::Mask<D> m) {
  return hn::IfThenElseZero(m, set(d, 1));
}
template <class V>
HWY_INLINE V squared(V x) {
  return hn::Mul(x, x);
}

UNARY(negative, hn::Neg(x))
UNARY(abs, hn::Abs(x))
UNARY(sign, hn::IfThenElse(hn::Gt(x, hn::Zero(d)), set(d, 1),
                           hn::IfThenElse(hn::Lt(x, hn::Zero(d)), set(d, -1), x)))
UNARY(square, squared(x))
UNARY(reciprocal, hn::Div(set(d, 1), x))
UNARY(exp, HWY_NAMESPACE::exp(d, x))
UNARY(log, HWY_NAMESPACE::log(d, x))
UNARY(sqrt, hn::Sqrt(x))
UNARY(rsqrt, hn::Div(set(d, 1), hn::Sqrt(x)))
UNARY(tanh, HWY_NAMESPACE::tanh(d, x))
UNARY(sigmoid, HWY_NAMESPACE::sigmoid(d, x))
UNARY(erf, HWY_NAMESPACE::erf(d, x))
UNARY(floor, hn::Floor(x))
UNARY(ceil, hn::Ceil(x))
UNARY(round, hn::Round(x))

BINARY(add, hn::Add(a, b))
BINARY(subtract, hn::Sub(a, b))
BINARY(multiply, hn::Mul(a, b))
BINARY(divide, hn::Div(a, b))
BINARY(divide_no_nan, hn::IfThenZeroElse(hn::Eq(b, hn::Zero(d)), hn::Div(a, b)))
// Not Max and Min: they lose a NaN.
BINARY(maximum, hn::IfThenElse(hn::Or(hn::Gt(a, b), hn::IsNaN(a)), a, b))
BINARY(minimum, hn::IfThenElse(hn::Or(hn::Lt(a, b), hn::IsNaN(a)), a, b))
BINARY(squared_difference, squared(hn::Sub(a, b)))
BINARY(tanh_grad, hn::Mul(b, hn::NegMulAdd(a, a, set(d, 1))))
BINARY(sigmoid_grad, hn::Mul(b, hn::Mul(a, hn::Sub(set(d, 1), a))))
BINARY(equal, truth(d, hn::Eq(a, b)))
// Not Ne: some versions of it are false for NaN.
BINARY(not_equal, hn::IfThenZeroElse(hn::Eq(a, b), set(d, 1)))
BINARY(less, truth(d, hn::Lt(a, b)))
BINARY(less_equal, truth(d, hn::Le(a, b)))
BINARY(greater, truth(d, hn::Gt(a, b)))
BINARY(greater_equal, truth(d, hn::Ge(a, b)))
#undef UNARY
#undef BINARY

struct select {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V condition, V a, V b) const {
    return hn::IfThenElse(hn::Ne(condition, hn::Zero(d)), a, b);
  }
};
struct clip {
  ClipAttrs attrs;
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    const V low = set(d, attrs.low), high = set(d, attrs.high);
    return hn::IfThenElse(hn::Lt(x, low), low, hn::IfThenElse(hn::Gt(x, high), high, x));
  }
};
}  // namespace bodies

const Strips* elementwise_bodies() {
  static const Strips all[] = {
#define X(name) strips<bodies::name, 1>(),
      EVENFLOW_UNARY(X)
#undef X
#define X(name) strips<bodies::name, 2>(),
          EVENFLOW_BINARY(X)
#undef X
              strips<bodies::select, 3>(),
      strips<bodies::clip, 1>()};
  return all;
}
}  // namespace evenflow::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace evenflow {
namespace cpu {
namespace {
HWY_EXPORT(elementwise_bodies);
template <Body body, class A>
void run(const Call& c, const A& attrs) {
  const Strips& strips = HWY_DYNAMIC_DISPATCH(elementwise_bodies)()[int(body)];
  evenflow::detail::run_map(strips, c, std::is_same_v<A, NoAttrs> ? nullptr : &attrs);
}
}  // namespace
}  // namespace cpu

#define X(name)                                                                          \
  KERNEL(name, NoAttrs, vector) {                                                        \
    return {.declines = detail::floats_only, .run = cpu::run<cpu::Body::name, NoAttrs>}; \
  }
EVENFLOW_UNARY(X)
EVENFLOW_BINARY(X)
X(select)
#undef X
KERNEL(clip, ClipAttrs, vector) {
  return {.declines = detail::floats_only, .run = cpu::run<cpu::Body::clip, ClipAttrs>};
}

}  // namespace evenflow
#endif
