// SPDX-License-Identifier: Apache-2.0
// Each activation has a plain loop over its body in scalar.h and a composition, which checks the
// loop and gives the gradients. The hot ones have a gradient of one pass.
#include "evenflow/ops/activations.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "evenflow/ops/compare.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/elementwise_loops.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/scalar.h"

namespace evenflow {
namespace {
using detail::map1_float;
using detail::operand;
using detail::visit_float;

template <class A>
using Shaper = Sigs (*)(std::span<const Sig>, const A&);

template <class A>
using Loop = void (*)(const Call&, const A&);
template <class A>
using Reference = Tensors (*)(const Tensors&, const A&);

// Cases away from the kinks (multiples of 1/2, the default thresholds) on both sides of them.
template <class A>
std::vector<typename Op<A>::Case> activation_cases(A other) {
  return {{"above", {uniform({3, 5}, 1.1, 2.4)}, A()},
          {"below", {uniform({63}, -2.4, -1.1)}, A()},
          {"between", {uniform({7}, 0.05, 0.28)}, A()},
          {"one", {uniform({1}, -0.9, -0.6)}, A()},
          {"wide", {uniform({9, 7}, -9, 9)}, A(), {.no_gradient = true}},
          {"attributes", {uniform({4, 3}, 0.62, 0.68)}, other},
          {"attributes_below", {uniform({4, 3}, -3, -2.5)}, other},
          {"empty", {{0, 3}}, A()},
          {"bench", {normal({1000, 1000})}, A(), {.bench = true, .no_gradient = true}}};
}
template <class A>
Op<A> activation_op(std::string_view summary, Loop<A> loop, Reference<A> reference, A other = {},
                    Shaper<A> shape = same_as_first<A>) {
  return {.summary = summary,
          .inputs = {{"x", floating, "[...]"}},
          .outputs = {{"y", "like x"}},
          .shape = shape,
          .reference = reference,
          .loop = loop,
          .traits = {.pointwise = true},
          .cases = activation_cases<A>(other)};
}
void expect_finite(std::string_view name, double v) {
  if (!std::isfinite(v)) fail({name, " is ", v, ", expected a finite number"});
}
void expect_not_negative(std::string_view name, double v) {
  if (!(v >= 0) || std::isinf(v)) fail({name, " is ", v, ", expected a finite number, at least 0"});
}
void expect_positive(std::string_view name, double v) {
  if (!(v > 0) || std::isinf(v)) fail({name, " is ", v, ", expected a finite number above 0"});
}

Sigs relu_shape(std::span<const Sig> in, const ReluAttrs& a) {
  expect_not_negative("negative_slope", a.negative_slope);
  expect_not_negative("threshold", a.threshold);
  if (!(a.max_value >= a.threshold))
    fail({"max_value is ", a.max_value, ", expected at least the threshold ", a.threshold});
  for (const Sig& s : in.subspan(1))
    if (s != in[0]) fail({"g is ", str(s), ", expected ", str(in[0]), " (like x)"});
  return {in[0]};
}
template <class A>
Sigs like_x(std::span<const Sig> in, const A&) {
  if (in[1] != in[0]) fail({"g is ", str(in[1]), ", expected ", str(in[0]), " (like x)"});
  return {in[0]};
}
// A gradient made in one pass over g and x (or y); its composition gives the second order.
template <class A>
Op<A> gradient_op(std::string_view summary, Reference<A> reference, A other = {},
                  Shaper<A> shape = like_x) {
  return {
      .summary = summary,
      .inputs = {{"x", floating, "[...]"}, {"g", floating, "like x, the incoming gradient"}},
      .outputs = {{"dx", "like x"}},
      .shape = shape,
      .reference = reference,
      .traits = {.pointwise = true},
      .cases = {{"above", {uniform({3, 5}, 0.1, 0.9), {3, 5}}, A()},
                {"below", {uniform({63}, -0.9, -0.1), {63}}, A()},
                {"attributes", {uniform({7}, 0.62, 0.68), {7}}, other},
                {"empty", {{0, 3}, {0, 3}}, A()},
                {"bench", {{1000, 1000}, {1000, 1000}}, A(), {.bench = true, .no_gradient = true}},
                {"mismatch", {{3}, {4}}, A(), {.fails = "expected"}}}};
}
}  // namespace

OP(relu_grad, ReluAttrs) {
  return gradient_op<ReluAttrs>(
      "The gradient of relu",
      [](const Tensors& in, const ReluAttrs& a) -> Tensors {
        const Tensor &x = in[0], &g = in[1];
        const Tensor inside = select(less(x, a.max_value), g, 0);
        return {select(greater(x, a.threshold), inside, a.negative_slope * g)};
      },
      {0.1, 0.65, 0.3}, relu_shape);
}
OP(relu, ReluAttrs) {
  Op<ReluAttrs> op = activation_op<ReluAttrs>(
      "min(x, max_value) where x > threshold, else negative_slope (x - threshold)",
      [](const Call& c, const ReluAttrs& a) {
        map1_float(c, [&](auto x) {
          using T = decltype(x);
          return scalar::relu(x, T(a.negative_slope), T(a.max_value), T(a.threshold));
        });
      },
      [](const Tensors& in, const ReluAttrs& a) -> Tensors {
        const Tensor low = a.negative_slope != 0 ? a.negative_slope * (in[0] - a.threshold)
                                                 : select(is_nan(in[0]), in[0], 0);
        return {select(greater(in[0], a.threshold), minimum(in[0], a.max_value), low)};
      },
      {0.2, 0.6, 0.3}, relu_shape);
  op.gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                   const ReluAttrs& a) -> Tensors {
    return call(relu_grad_op(), {in[0], g[0]}, a);
  };
  op.cases.push_back({"capped", {{3}}, {0, 1, 2}, {.fails = "at least the threshold"}});
  return op;
}
Tensor relu(In x, const ReluAttrs& attrs) { return call(relu_op(), {std::move(x)}, attrs)[0]; }

// A composition only: lowered to relu.
#define AS_RELU(name, Attrs, text, other, attrs, check)                        \
  OP(name, Attrs) {                                                            \
    return activation_op<Attrs>(                                               \
        text, nullptr,                                                         \
        [](const Tensors& in, [[maybe_unused]] const Attrs& a) -> Tensors {    \
          return {relu(in[0], attrs)};                                         \
        },                                                                     \
        other,                                                                 \
        [](std::span<const Sig> in, [[maybe_unused]] const Attrs& a) -> Sigs { \
          check;                                                               \
          return {in[0]};                                                      \
        });                                                                    \
  }
AS_RELU(relu6, NoAttrs, "min(max(x, 0), 6)", {}, (ReluAttrs{.max_value = 6}), )
Tensor relu6(In x) { return call(relu6_op(), {std::move(x)})[0]; }
AS_RELU(leaky_relu, LeakyReluAttrs, "x for x > 0, else negative_slope x", {0.05},
        (ReluAttrs{.negative_slope = a.negative_slope}),
        expect_not_negative("negative_slope", a.negative_slope))
Tensor leaky_relu(In x, double negative_slope) {
  return call(leaky_relu_op(), {std::move(x)}, LeakyReluAttrs{negative_slope})[0];
}
#undef AS_RELU

// loop: in terms of x; reference: in terms of the tensor x; both may use the attributes a.
#define ACTIVATION(name, Attrs, text, other, check, loop_body, reference_body) \
  OP(name, Attrs) {                                                            \
    return activation_op<Attrs>(                                               \
        text,                                                                  \
        [](const Call& c, [[maybe_unused]] const Attrs& a) {                   \
          map1_float(c, [&](auto x) {                                          \
            using T [[maybe_unused]] = decltype(x);                            \
            return loop_body;                                                  \
          });                                                                  \
        },                                                                     \
        [](const Tensors& in, [[maybe_unused]] const Attrs& a) -> Tensors {    \
          const Tensor& x = in[0];                                             \
          return {reference_body};                                             \
        },                                                                     \
        other,                                                                 \
        [](std::span<const Sig> in, [[maybe_unused]] const Attrs& a) -> Sigs { \
          check;                                                               \
          return {in[0]};                                                      \
        });                                                                    \
  }

// The exponential sees no positive x: where it overflows, its gradient of 0 would become NaN.
ACTIVATION(elu, AlphaAttrs, "x for x > 0, else alpha (e^x - 1)", {0.5},
           expect_finite("alpha", a.alpha), scalar::elu(x, T(a.alpha)),
           select(greater(x, 0), x, a.alpha* expm1(minimum(x, 0))))
Tensor elu(In x, double alpha) { return call(elu_op(), {std::move(x)}, AlphaAttrs{alpha})[0]; }

ACTIVATION(celu, AlphaAttrs, "x for x > 0, else alpha (e^(x / alpha) - 1)", {0.7},
           expect_positive("alpha", a.alpha), scalar::celu(x, T(a.alpha)),
           select(greater(x, 0), x, a.alpha* expm1(minimum(x, 0) / a.alpha)))
Tensor celu(In x, double alpha) { return call(celu_op(), {std::move(x)}, AlphaAttrs{alpha})[0]; }

ACTIVATION(selu, NoAttrs, "1.0507 x for x >= 0, else 1.0507 * 1.6733 (e^x - 1)", {}, ,
           scalar::selu(x), scalar::kSeluScale* select(less(x, 0), elu(x, scalar::kSeluAlpha), x))
Tensor selu(In x) { return call(selu_op(), {std::move(x)})[0]; }

// Its corners have no slope in Keras; clip's have one.
ACTIVATION(hard_sigmoid, NoAttrs, "(x + 3) / 6 within 0..1", {}, , scalar::hard_sigmoid(x),
           relu6(x + 3) / 6)
Tensor hard_sigmoid(In x) { return call(hard_sigmoid_op(), {std::move(x)})[0]; }

ACTIVATION(hard_silu, NoAttrs, "x hard_sigmoid(x)", {}, , scalar::hard_silu(x), x* hard_sigmoid(x))
Tensor hard_silu(In x) { return call(hard_silu_op(), {std::move(x)})[0]; }

ACTIVATION(hard_tanh, NoAttrs, "x within -1..1", {}, , scalar::hard_tanh(x), clip(x, -1, 1))
Tensor hard_tanh(In x) { return call(hard_tanh_op(), {std::move(x)})[0]; }

ACTIVATION(hard_shrink, ShrinkAttrs, "0 for |x| <= threshold, else x", {0.6},
           expect_not_negative("threshold", a.threshold), scalar::hard_shrink(x, T(a.threshold)),
           select(less_equal(abs(x), a.threshold), 0, x))
Tensor hard_shrink(In x, double threshold) {
  return call(hard_shrink_op(), {std::move(x)}, ShrinkAttrs{threshold})[0];
}
ACTIVATION(soft_shrink, ShrinkAttrs, "x moved by threshold towards 0, and 0 for |x| <= threshold",
           {0.6}, expect_not_negative("threshold", a.threshold),
           scalar::soft_shrink(x, T(a.threshold)),
           select(less_equal(abs(x), a.threshold), 0, x - a.threshold * stop_gradient(sign(x))))
Tensor soft_shrink(In x, double threshold) {
  return call(soft_shrink_op(), {std::move(x)}, ShrinkAttrs{threshold})[0];
}
ACTIVATION(tanh_shrink, NoAttrs, "x - tanh(x)", {}, , scalar::tanh_shrink(x), x - tanh(x))
Tensor tanh_shrink(In x) { return call(tanh_shrink_op(), {std::move(x)})[0]; }

ACTIVATION(softsign, NoAttrs, "x / (1 + |x|)", {}, , scalar::softsign(x), x / (1 + abs(x)))
Tensor softsign(In x) { return call(softsign_op(), {std::move(x)})[0]; }

ACTIVATION(mish, NoAttrs, "x tanh(softplus(x))", {}, , scalar::mish(x), x* tanh(softplus(x)))
Tensor mish(In x) { return call(mish_op(), {std::move(x)})[0]; }

ACTIVATION(log_sigmoid, NoAttrs, "log(sigmoid(x)), exact for large negative x", {}, ,
           scalar::log_sigmoid(x), -softplus(-x))
Tensor log_sigmoid(In x) { return call(log_sigmoid_op(), {std::move(x)})[0]; }

ACTIVATION(squareplus, SquareplusAttrs, "(x + sqrt(x^2 + b)) / 2", {1},
           expect_not_negative("b", a.b), scalar::squareplus(x, T(a.b)),
           (x + sqrt(square(x) + a.b)) / 2)
Tensor squareplus(In x, double b) {
  return call(squareplus_op(), {std::move(x)}, SquareplusAttrs{b})[0];
}
ACTIVATION(threshold, ThresholdAttrs, "x where x > threshold, else default_value",
           (ThresholdAttrs{0.5, -1}),
           (expect_finite("threshold", a.threshold),
            expect_finite("default_value", a.default_value)),
           scalar::threshold(x, T(a.threshold), T(a.default_value)),
           select(less_equal(x, a.threshold), a.default_value, x))
Tensor threshold(In x, double threshold, double default_value) {
  return call(threshold_op(), {std::move(x)}, ThresholdAttrs{threshold, default_value})[0];
}
ACTIVATION(sparse_plus, NoAttrs, "0 for x <= -1, (x + 1)^2 / 4 for x < 1, else x", {}, ,
           scalar::sparse_plus(x),
           select(less_equal(x, -1), 0, select(less(x, 1), 0.25 * square(x + 1), x)))
Tensor sparse_plus(In x) { return call(sparse_plus_op(), {std::move(x)})[0]; }

ACTIVATION(sparse_sigmoid, NoAttrs, "(x + 1) / 2 within 0..1", {}, , scalar::sparse_sigmoid(x),
           select(less_equal(x, -1), 0, select(greater_equal(x, 1), 1, 0.5 * (x + 1))))
Tensor sparse_sigmoid(In x) { return call(sparse_sigmoid_op(), {std::move(x)})[0]; }

// log(1 + e^x) = max(x, 0) + log1p(e^-|x|), which neither overflows nor cancels. The reference's
// own gradient would be wrong at 0, where |x| has none.
OP(softplus, NoAttrs) {
  Op<NoAttrs> op = activation_op<NoAttrs>(
      "log(1 + e^x)",
      [](const Call& c, const NoAttrs&) {
        map1_float(c, [](auto x) { return scalar::softplus(x); });
      },
      [](const Tensors& in, const NoAttrs&) -> Tensors {
        return {maximum(in[0], 0) + log1p(exp(-abs(in[0])))};
      });
  op.gradient = [](const Tensors& in, const Tensors&, const Tensors& g, const NoAttrs&) -> Tensors {
    return {g[0] * sigmoid(in[0])};
  };
  return op;
}
Tensor softplus(In x) { return call(softplus_op(), {std::move(x)})[0]; }

OP(silu_grad, NoAttrs) {
  return gradient_op<NoAttrs>("The gradient of silu",
                              [](const Tensors& in, const NoAttrs&) -> Tensors {
                                const Tensor s = sigmoid(in[0]);
                                return {in[1] * (s * (1 + in[0] * (1 - s)))};
                              });
}
OP(silu, NoAttrs) {
  Op<NoAttrs> op = activation_op<NoAttrs>(
      "x sigmoid(x)",
      [](const Call& c, const NoAttrs&) { map1_float(c, [](auto x) { return scalar::silu(x); }); },
      [](const Tensors& in, const NoAttrs&) -> Tensors { return {in[0] * sigmoid(in[0])}; });
  op.gradient = [](const Tensors& in, const Tensors&, const Tensors& g, const NoAttrs&) -> Tensors {
    return call(silu_grad_op(), {in[0], g[0]});
  };
  return op;
}
Tensor silu(In x) { return call(silu_op(), {std::move(x)})[0]; }

// Hendrycks and Gimpel (2016), "Gaussian error linear units".
OP(gelu_grad, GeluAttrs) {
  return gradient_op<GeluAttrs>(
      "The gradient of gelu",
      [](const Tensors& in, const GeluAttrs& a) -> Tensors {
        const Tensor &x = in[0], &g = in[1];
        if (!a.approximate) {
          const Tensor density = 0.3989422804014327 * exp(-0.5 * square(x));  // 1 / sqrt(2 pi)
          return {g * (0.5 * (1 + erf(scalar::kSqrtHalf * x)) + x * density)};
        }
        const double k = scalar::kSqrtTwoOverPi;
        const Tensor t = tanh(k * (x + 0.044715 * (x * square(x))));
        const Tensor inner = k * (1 + 3 * 0.044715 * square(x));
        return {g * (0.5 * (1 + t) + 0.5 * x * (1 - square(t)) * inner)};
      },
      {true});
}
OP(gelu, GeluAttrs) {
  Op<GeluAttrs> op = activation_op<GeluAttrs>(
      "x Phi(x), Phi being the normal distribution; approximate: by tanh",
      [](const Call& c, const GeluAttrs& a) {
        map1_float(c, [&](auto x) { return scalar::gelu(x, a.approximate); });
      },
      [](const Tensors& in, const GeluAttrs& a) -> Tensors {
        const Tensor& x = in[0];
        if (!a.approximate) return {0.5 * x * (1 + erf(scalar::kSqrtHalf * x))};
        return {0.5 * x * (1 + tanh(scalar::kSqrtTwoOverPi * (x + 0.044715 * (x * square(x)))))};
      },
      {true});
  op.gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                   const GeluAttrs& a) -> Tensors {
    return call(gelu_grad_op(), {in[0], g[0]}, a);
  };
  return op;
}
Tensor gelu(In x, bool approximate) {
  return call(gelu_op(), {std::move(x)}, GeluAttrs{approximate})[0];
}
#undef ACTIVATION

// ---- glu
// ------------------------------------------------------------------------------------------
// Halving an axis and its transpose, so that the extent stays open in a trace.
namespace {
struct HalfAttrs {
  int64_t axis = -1;
  bool second = false;
  static void fields(auto& self, auto&& field) {
    field("axis", self.axis, "axis that is halved");
    field("second", self.second, "the second half");
  }
};
int resolved(const Sig& x, int64_t axis) {
  if (axis < -x.shape.rank() || axis >= x.shape.rank())
    fail({"axis is ", axis, ", expected an axis of x ", str(x)});
  return int(axis < 0 ? axis + x.shape.rank() : axis);
}
Sigs halved(std::span<const Sig> in, int64_t axis) {
  const int at = resolved(in[0], axis);
  const int64_t extent = in[0].shape[at];
  if (extent % 2) fail({"x is ", str(in[0]), ", expected an even extent along axis ", at});
  return {{in[0].dtype, in[0].shape.with(at, extent / 2)}};
}
// Rows of `whole` bytes of which one half is the half tensor's.
template <class F>
void for_halves(const Sig& half, const HalfAttrs& a, F f) {
  int64_t bytes = size_of(half.dtype), rows = 1;
  const int axis = resolved(half, a.axis);
  for (int i = 0; i < half.shape.rank(); ++i) (i < axis ? rows : bytes) *= half.shape[i];
  for (int64_t r = 0; bytes && r < rows; ++r)
    f(r * bytes, (2 * r + a.second) * bytes, (2 * r + !a.second) * bytes, size_t(bytes));
}
char* bytes_of(const View& v) { return static_cast<char*>(v.data); }
Tensor place_half(In x, const HalfAttrs& a);
}  // namespace

OP(take_half, HalfAttrs) {
  return {.summary = "One half of x along an axis",
          .inputs = {{"x", any_type, "[..., 2 n, ...]"}},
          .outputs = {{"y", "[..., n, ...]"}},
          .shape = [](std::span<const Sig> in, const HalfAttrs& a) { return halved(in, a.axis); },
          .loop =
              [](const Call& c, const HalfAttrs& a) {
                for_halves(*c.out[0].sig, a, [&](int64_t y, int64_t x, int64_t, size_t n) {
                  std::memcpy(bytes_of(c.out[0]) + y, bytes_of(c.in[0]) + x, n);
                });
              },
          .gradient = [](const Tensors&, const Tensors&, const Tensors& g,
                         const HalfAttrs& a) -> Tensors { return {place_half(g[0], a)}; },
          .cases = {{"last", {{3, 6}}, {}},
                    {"first", {{4, 3}}, {0, true}},
                    {"middle", {{2, 2, 3}}, {1, true}},
                    {"empty", {{0, 4}}, {}},
                    {"odd", {{3, 5}}, {}, {.fails = "even extent"}},
                    {"axis", {{3, 6}}, {2}, {.fails = "expected an axis"}}}};
}
OP(place_half, HalfAttrs) {
  return {.summary = "x as one half along an axis of a tensor that is otherwise 0",
          .inputs = {{"x", any_type, "[..., n, ...]"}},
          .outputs = {{"y", "[..., 2 n, ...]"}},
          .shape = [](std::span<const Sig> in, const HalfAttrs& a) -> Sigs {
            const int at = resolved(in[0], a.axis);
            return {{in[0].dtype, in[0].shape.with(at, checked_mul(2, in[0].shape[at]))}};
          },
          .loop =
              [](const Call& c, const HalfAttrs& a) {
                for_halves(*c.in[0].sig, a, [&](int64_t x, int64_t y, int64_t rest, size_t n) {
                  std::memcpy(bytes_of(c.out[0]) + y, bytes_of(c.in[0]) + x, n);
                  std::memset(bytes_of(c.out[0]) + rest, 0, n);
                });
              },
          .gradient = [](const Tensors&, const Tensors&, const Tensors& g,
                         const HalfAttrs& a) -> Tensors { return call(take_half_op(), {g[0]}, a); },
          .cases = {{"last", {{3, 3}}, {}},
                    {"first", {{2, 3}}, {0, true}},
                    {"empty", {{0, 4}}, {}},
                    {"axis", {{3, 6}}, {2}, {.fails = "expected an axis"}}}};
}
namespace {
Tensor place_half(In x, const HalfAttrs& a) { return call(place_half_op(), {std::move(x)}, a)[0]; }
}  // namespace

// Dauphin et al. (2017), "Language modeling with gated convolutional networks".
OP(glu, AlongAttrs) {
  return {.summary = "a sigmoid(b), a and b being the halves of x along an axis",
          .inputs = {{"x", floating, "[..., 2 n, ...]"}},
          .outputs = {{"y", "[..., n, ...]"}},
          .shape = [](std::span<const Sig> in, const AlongAttrs& a) { return halved(in, a.axis); },
          .reference = [](const Tensors& in, const AlongAttrs& a) -> Tensors {
            const Tensor first = call(take_half_op(), {in[0]}, HalfAttrs{a.axis, false})[0];
            const Tensor second = call(take_half_op(), {in[0]}, HalfAttrs{a.axis, true})[0];
            return {first * sigmoid(second)};
          },
          .cases = {{"last", {{3, 6}}, {}},
                    {"first", {{4, 3}}, {0}},
                    {"empty", {{0, 4}}, {}},
                    {"odd", {{3, 5}}, {}, {.fails = "even extent"}},
                    {"axis", {{3, 6}}, {-3}, {.fails = "expected an axis"}}}};
}
Tensor glu(In x, int64_t axis) { return call(glu_op(), {std::move(x)}, AlongAttrs{axis})[0]; }

// ---- sparsemax
// ------------------------------------------------------------------------------------ Martins and
// Astudillo (2016), "From softmax to sparsemax": max(x - tau, 0), where tau makes the sum 1. Of the
// sorted x, the first k belong to the support while 1 + k x_k > sum of the first k.
namespace {
template <class C>
C sparsemax_tau(std::vector<C>& row) {
  std::sort(row.begin(), row.end(), std::greater<C>());
  double sum = 0, tau = 0;
  for (size_t k = 0; k < row.size(); ++k) {
    if (k && 1 + double(k + 1) * row[k] <= sum + row[k]) break;
    sum += row[k];
    tau = (sum - 1) / double(k + 1);
  }
  return C(tau);
}
}  // namespace
OP(sparsemax, AlongAttrs) {
  return {.summary = "The nearest probabilities to x along an axis, many of them 0",
          .inputs = {{"x", floating, "[..., n, ...]"}},
          .outputs = {{"y", "like x"}},
          .shape = [](std::span<const Sig> in, const AlongAttrs& a) -> Sigs {
            resolved(in[0], a.axis);
            return {in[0]};
          },
          .loop =
              [](const Call& c, const AlongAttrs& a) {
                const Shape& shape = c.in[0].shape();
                const int axis = resolved(*c.in[0].sig, a.axis);
                const int64_t n = shape[axis], stride = shape.strides()[size_t(axis)];
                if (shape.count() == 0) return;
                visit_float(c.in[0].dtype(), [&](auto zero) {
                  using T = decltype(zero);
                  using C = compute_t<T>;
                  const int64_t rows = shape.count() / n;
                  parallel_for(rows, std::max<int64_t>(1, 1024 / n), [&](int64_t b, int64_t e) {
                    std::vector<C> row(static_cast<size_t>(n));
                    for (int64_t r = b; r < e; ++r) {
                      const int64_t at = r / stride * stride * n + r % stride;
                      const T* x = c.in[0].as<T>() + at;
                      T* y = c.out[0].as<T>() + at;
                      bool nan = false;  // which would break the order that sorting needs
                      for (int64_t i = 0; i < n; ++i) {
                        row[size_t(i)] = C(x[i * stride]);
                        nan = nan || row[size_t(i)] != row[size_t(i)];
                      }
                      const C tau = nan ? std::numeric_limits<C>::quiet_NaN() : sparsemax_tau(row);
                      for (int64_t i = 0; i < n; ++i)
                        y[i * stride] = T(scalar::maximum(C(x[i * stride]) - tau, C(0)));
                    }
                  });
                });
              },
          .gradient = [](const Tensors&, const Tensors& out, const Tensors& g,
                         const AlongAttrs& a) -> Tensors {
            const Tensor support = stop_gradient(cast(greater(out[0], 0), g[0].dtype()));
            const Tensor on = g[0] * support;
            const Tensor mean =
                reduce_sum(on, {a.axis}, true) / reduce_sum(support, {a.axis}, true);
            return {support * (g[0] - mean)};
          },
          .cases = {{"last", {{3, 5}}, {}},
                    {"first", {normal({63, 2}, 0, 3)}, {0}},
                    {"one", {{3, 1}}, {}},
                    {"empty", {{0, 3}}, {}},
                    {"axis", {{3, 5}}, {2}, {.fails = "expected an axis"}}}};
}
Tensor sparsemax(In x, int64_t axis) {
  return call(sparsemax_op(), {std::move(x)}, AlongAttrs{axis})[0];
}

// ---- by name
// --------------------------------------------------------------------------------------
namespace {
// Keras's names; an operation of another name stands behind it.
struct Name {
  std::string_view keras, op;
};
constexpr Name kNames[] = {{"celu", "celu"},
                           {"elu", "elu"},
                           {"exponential", "exp"},
                           {"gelu", "gelu"},
                           {"glu", "glu"},
                           {"hard_shrink", "hard_shrink"},
                           {"hard_sigmoid", "hard_sigmoid"},
                           {"hard_silu", "hard_silu"},
                           {"hard_swish", "hard_silu"},
                           {"hard_tanh", "hard_tanh"},
                           {"leaky_relu", "leaky_relu"},
                           {"linear", "identity"},
                           {"log_sigmoid", "log_sigmoid"},
                           {"log_softmax", "log_softmax"},
                           {"mish", "mish"},
                           {"relu", "relu"},
                           {"relu6", "relu6"},
                           {"selu", "selu"},
                           {"sigmoid", "sigmoid"},
                           {"silu", "silu"},
                           {"soft_shrink", "soft_shrink"},
                           {"softmax", "softmax"},
                           {"softplus", "softplus"},
                           {"softsign", "softsign"},
                           {"sparse_plus", "sparse_plus"},
                           {"sparse_sigmoid", "sparse_sigmoid"},
                           {"sparsemax", "sparsemax"},
                           {"squareplus", "squareplus"},
                           {"swish", "silu"},
                           {"tanh", "tanh"},
                           {"tanh_shrink", "tanh_shrink"},
                           {"threshold", "threshold"}};

// Letters apart (Levenshtein), with one row of the table.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0]++;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t above = row[j + 1];
      row[j + 1] = std::min({above + 1, row[j] + 1, diagonal + (a[i] != b[j])});
      diagonal = above;
    }
  }
  return row[b.size()];
}
}  // namespace

bool is_activation(std::string_view name) {
  return std::any_of(std::begin(kNames), std::end(kNames),
                     [&](const Name& n) { return n.keras == name; });
}
Tensor activation(std::string_view name, In x) {
  if (name.empty()) name = "linear";
  const std::string_view start = name.substr(0, 64);  // an untrusted name may be long
  const Name* nearest = kNames;
  size_t best = SIZE_MAX;
  for (const Name& n : kNames)
    if (const size_t d = n.keras == name ? 0 : 1 + distance(n.keras, start); d < best)
      best = d, nearest = &n;
  if (best > 0)
    fail({"activation is \"", start, "\", expected one of Keras's; the nearest is \"",
          nearest->keras, "\", at ", str(x.where)});
  // By name, since the row-wise ones belong to other families.
  const OpDef& op = find_op(nearest->op);
  return apply(op, op.defaults, {&x, 1})[0];
}

}  // namespace evenflow
