// SPDX-License-Identifier: Apache-2.0
// Vectorised activations and the gradients of the hot ones.
#include "evenflow/ops/elementwise_attrs.h"
#include "evenflow/ops/elementwise_loops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "evenflow/ops/activations.cpu.cc"
#include "hwy/foreach_target.h"

#include "evenflow/backends/cpu/map-inl.h"
#include "evenflow/backends/cpu/vector_math-inl.h"

#ifndef EVENFLOW_OPS_ACTIVATIONS_CPU_ONCE
#define EVENFLOW_OPS_ACTIVATIONS_CPU_ONCE
// X(operation, attributes), in the order of the tables below: functions of x, and of x and g.
#define EVENFLOW_ACTIVATIONS(X) \
  X(relu, ReluAttrs)            \
  X(elu, AlphaAttrs)            \
  X(celu, AlphaAttrs)           \
  X(selu, NoAttrs)              \
  X(gelu, GeluAttrs)            \
  X(silu, NoAttrs)              \
  X(hard_sigmoid, NoAttrs)      \
  X(hard_silu, NoAttrs)         \
  X(hard_tanh, NoAttrs)         \
  X(softplus, NoAttrs) X(log_sigmoid, NoAttrs) X(softsign, NoAttrs) X(mish, NoAttrs)
#define EVENFLOW_ACTIVATION_GRADS(X) \
  X(relu_grad, ReluAttrs) X(gelu_grad, GeluAttrs) X(silu_grad, NoAttrs)
namespace evenflow::cpu {
enum class Activation {
#define X(name, Attrs) name,
  EVENFLOW_ACTIVATIONS(X) EVENFLOW_ACTIVATION_GRADS(X)
#undef X
};
}  // namespace evenflow::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace evenflow::cpu::HWY_NAMESPACE {
namespace activations {
template <class D>
HWY_INLINE hn::Vec<D> set(D d, double value) {
  return hn::Set(d, hn::TFromD<D>(value));
}
template <class D>
HWY_INLINE hn::Vec<D> within(D d, hn::Vec<D> x, double low, double high) {
  const auto l = set(d, low), h = set(d, high);
  return hn::IfThenElse(hn::Lt(x, l), l, hn::IfThenElse(hn::Gt(x, h), h, x));
}
// e^x - 1 for x <= 0: 2 t / (1 - t) with t = tanh(x / 2), without cancellation.
template <class D>
HWY_INLINE hn::Vec<D> expm1_negative(D d, hn::Vec<D> x) {
  const auto t = tanh(d, hn::Mul(x, set(d, 0.5)));
  return hn::Div(hn::Add(t, t), hn::Sub(set(d, 1), t));
}
template <class D>
HWY_INLINE hn::Vec<D> elu_of(D d, hn::Vec<D> x, hn::Vec<D> scaled, double alpha) {
  const auto zero = hn::Zero(d);
  const auto below = hn::IfThenElse(hn::Gt(scaled, zero), zero, scaled);
  return hn::IfThenElse(hn::Gt(x, zero), x, hn::Mul(set(d, alpha), expm1_negative(d, below)));
}
// log(1 + e) for 0 <= e <= 1: what 1 + e rounds away is added again.
template <class D>
HWY_INLINE hn::Vec<D> log1p_unit(D d, hn::Vec<D> e) {
  const auto one = set(d, 1), u = hn::Add(one, e);
  return hn::Add(log(d, u), hn::Div(hn::Sub(e, hn::Sub(u, one)), u));
}
template <class D>
HWY_INLINE hn::Vec<D> softplus_of(D d, hn::Vec<D> x) {
  const auto zero = hn::Zero(d);
  const auto tail = log1p_unit(d, exp(d, hn::Neg(hn::Abs(x))));
  return hn::Add(hn::IfThenElse(hn::Gt(x, zero), x, zero), tail);
}
constexpr double kSqrtHalf = 0.70710678118654752440, kSqrtTwoOverPi = 0.79788456080286535588;
template <class D>
HWY_INLINE hn::Vec<D> gelu_tanh(D d, hn::Vec<D> x) {
  const auto inner = hn::MulAdd(hn::Mul(hn::Mul(x, x), set(d, 0.044715)), x, x);
  return tanh(d, hn::Mul(set(d, kSqrtTwoOverPi), inner));
}

#define PLAIN(name, body)                                      \
  struct name {                                                \
    template <class D, class V>                                \
    HWY_INLINE V operator()([[maybe_unused]] D d, V x) const { \
      return body;                                             \
    }                                                          \
  };
PLAIN(hard_sigmoid, within(d, hn::Div(hn::Add(x, set(d, 3)), set(d, 6)), 0, 1))
PLAIN(hard_silu, hn::Mul(x, within(d, hn::Div(hn::Add(x, set(d, 3)), set(d, 6)), 0, 1)))
PLAIN(hard_tanh, within(d, x, -1, 1))
PLAIN(silu, hn::Mul(x, sigmoid(d, x)))
PLAIN(softplus, softplus_of(d, x))
PLAIN(log_sigmoid, hn::Neg(softplus_of(d, hn::Neg(x))))
PLAIN(softsign, hn::Div(x, hn::Add(set(d, 1), hn::Abs(x))))
PLAIN(selu, hn::Mul(set(d, 1.0507009873554804934), elu_of(d, x, x, 1.6732632423543772848)))
#undef PLAIN

// tanh(log(1 + e^x)) = n / (n + 2) with n = e^x (e^x + 2); it is 1 from 20 on.
struct mish {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    const auto top = set(d, 20), two = set(d, 2);
    const auto e = exp(d, hn::IfThenElse(hn::Gt(x, top), top, x));
    const auto n = hn::Mul(e, hn::Add(e, two));
    return hn::Mul(x, hn::Div(n, hn::Add(n, two)));
  }
};
struct elu {
  AlphaAttrs attrs;
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    return elu_of(d, x, x, attrs.alpha);
  }
};
struct celu {
  AlphaAttrs attrs;
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    return elu_of(d, x, hn::Div(x, set(d, attrs.alpha)), attrs.alpha);
  }
};
struct relu {
  ReluAttrs attrs;
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    const V threshold = set(d, attrs.threshold), most = set(d, attrs.max_value);
    const V high = hn::IfThenElse(hn::Gt(x, most), most, x);
    if (attrs.negative_slope == 0)  // 0 (x - threshold) would be NaN for -infinity
      return hn::IfThenZeroElse(hn::Le(x, threshold), high);
    const V low = hn::Mul(set(d, attrs.negative_slope), hn::Sub(x, threshold));
    return hn::IfThenElse(hn::Gt(x, threshold), high, low);
  }
};
struct relu_grad {
  ReluAttrs attrs;
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x, V g) const {
    const auto above = hn::Gt(x, set(d, attrs.threshold));
    const auto inside = hn::And(above, hn::Lt(x, set(d, attrs.max_value)));
    if (attrs.negative_slope == 0) return hn::IfThenElseZero(inside, g);
    const V low = hn::IfThenZeroElse(above, hn::Mul(set(d, attrs.negative_slope), g));
    return hn::IfThenElse(inside, g, low);
  }
};
struct gelu {
  GeluAttrs attrs;
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    const V t = attrs.approximate ? gelu_tanh(d, x) : erf(d, hn::Mul(set(d, kSqrtHalf), x));
    return hn::Mul(hn::Mul(set(d, 0.5), x), hn::Add(set(d, 1), t));
  }
};
struct gelu_grad {
  GeluAttrs attrs;
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x, V g) const {
    const V one = set(d, 1), half = set(d, 0.5), x2 = hn::Mul(x, x);
    V t, slope;  // the distribution is (1 + t) / 2, its derivative is slope
    if (attrs.approximate) {
      t = gelu_tanh(d, x);
      const V inner = hn::MulAdd(set(d, 3 * 0.044715 * kSqrtTwoOverPi), x2, set(d, kSqrtTwoOverPi));
      slope = hn::Mul(hn::Mul(half, hn::NegMulAdd(t, t, one)), inner);
    } else {
      t = erf(d, hn::Mul(set(d, kSqrtHalf), x));
      slope = hn::Mul(set(d, 0.39894228040143267794), exp(d, hn::Mul(set(d, -0.5), x2)));
    }
    return hn::Mul(g, hn::MulAdd(x, slope, hn::Mul(half, hn::Add(one, t))));
  }
};
// s (1 + x (1 - s)), s and 1 - s being made from one exponential.
struct silu_grad {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x, V g) const {
    const V one = set(d, 1), e = exp(d, hn::Neg(hn::Abs(x)));
    const V r = hn::Div(one, hn::Add(one, e)), er = hn::Mul(e, r);
    const auto below = hn::Lt(x, hn::Zero(d));
    const V s = hn::IfThenElse(below, er, r), rest = hn::IfThenElse(below, r, er);
    return hn::Mul(g, hn::Mul(s, hn::MulAdd(x, rest, one)));
  }
};
}  // namespace activations

const Strips* activation_bodies() {
  static const Strips all[] = {
#define X(name, Attrs) strips<activations::name, 1>(),
      EVENFLOW_ACTIVATIONS(X)
#undef X
#define X(name, Attrs) strips<activations::name, 2>(),
          EVENFLOW_ACTIVATION_GRADS(X)
#undef X
  };
  return all;
}
}  // namespace evenflow::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace evenflow {
namespace cpu {
namespace {
HWY_EXPORT(activation_bodies);
template <Activation which, class A>
void run(const Call& c, const A& attrs) {
  const Strips& strips = HWY_DYNAMIC_DISPATCH(activation_bodies)()[int(which)];
  evenflow::detail::run_map(strips, c, std::is_same_v<A, NoAttrs> ? nullptr : &attrs);
}
}  // namespace
}  // namespace cpu

#define X(name, Attrs) \
  KERNEL(name, Attrs, vector) { return {.run = cpu::run<cpu::Activation::name, Attrs>}; }
EVENFLOW_ACTIVATIONS(X)
EVENFLOW_ACTIVATION_GRADS(X)
#undef X

}  // namespace evenflow
#endif
