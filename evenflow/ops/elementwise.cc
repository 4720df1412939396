// SPDX-License-Identifier: Apache-2.0
// Arithmetic. The bodies are in scalar.h; here are the loops, the gradients and the cases.
#include "evenflow/ops/elementwise.h"

#include <cmath>

#include "evenflow/ops/compare.h"
#include "evenflow/ops/elementwise_attrs.h"
#include "evenflow/ops/elementwise_loops.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/scalar.h"

namespace evenflow {
namespace {
using detail::converted;
using detail::map1;
using detail::map1_float;
using detail::map2;
using detail::operand;
using Case = Op<NoAttrs>::Case;

// Values between which no rule has a kink: a in [2.1, 2.9], b in [0.5, 1.9], quotients not whole.
std::vector<Case> two_cases() {
  return {
      {"same", {uniform({3, 4}, 2.1, 2.9), uniform({3, 4}, 0.5, 1.9)}, {}, {}},
      {"odd", {uniform({63}, 2.1, 2.9), uniform({1}, 0.5, 1.9)}},
      {"row", {uniform({5, 63}, 2.1, 2.9), uniform({63}, 0.5, 1.9)}},
      {"scalar", {uniform({}, 2.1, 2.9), uniform({7}, 0.5, 1.9)}},
      {"both", {uniform({2, 1, 3}, 2.1, 2.9), uniform({4, 1}, 0.5, 1.9)}},
      {"empty", {uniform({0, 3}, 2.1, 2.9), uniform({3}, 0.5, 1.9)}},
      {"bench", {uniform({1000, 1000}, 2.1, 2.9), uniform({1000}, 0.5, 1.9)}, {}, {.bench = true}},
      {"mismatch", {{3, 4}, {3}}, {}, {.fails = "broadcast"}}};
}
// Where the sign of the operands, or which one is larger, matters.
std::vector<Case> signed_cases(bool smooth) {
  std::vector<Case> c = two_cases();
  c.push_back({"signs", {normal({5, 7}, 0, 3), normal({7}, 0, 3)}, {}, {.no_gradient = !smooth}});
  return c;
}

using Loop = void (*)(const Call&, const NoAttrs&);
using Gradient = Tensors (*)(const Tensors&, const Tensors&, const Tensors&, const NoAttrs&);
Op<NoAttrs> binary(std::string_view summary, std::vector<Case> cases, Loop loop,
                   Gradient gradient) {
  return {.summary = summary,
          .inputs = {{"a", numeric, "[...]"}, {"b", numeric, "[...], broadcasts with a"}},
          .outputs = {{"y", "[...], a and b broadcast"}},
          .shape = broadcast_of_all,
          .loop = loop,
          .gradient = gradient,
          .traits = {.pointwise = true, .promotes = true},
          .cases = std::move(cases)};
}
Op<NoAttrs> unary(std::string_view summary, Types types, double from, double to, Loop loop,
                  Gradient gradient) {
  return {.summary = summary,
          .inputs = {{"x", types, "[...]"}},
          .outputs = {{"y", "like x"}},
          .shape = same_as_first<>,
          .loop = loop,
          .gradient = gradient,
          .traits = {.pointwise = true},
          .cases = {{"vector", {uniform({63}, from, to)}},
                    {"matrix", {uniform({3, 5}, from, to)}},
                    {"one", {uniform({1}, from, to)}},
                    {"empty", {uniform({0, 3}, from, to)}},
                    {"bench", {uniform({1000, 1000}, from, to)}, {}, {.bench = true}}}};
}
Sigs divided(std::span<const Sig> in, const NoAttrs& a) {
  Sigs r = broadcast_of_all(in, a);
  if (!is_floating(r[0].dtype)) r[0].dtype = DType::f32;
  return r;
}
Sigs to_bool(std::span<const Sig> in, const NoAttrs&) { return {{DType::boolean, in[0].shape}}; }
template <class F>
void divide_loop(const Call& c, F f) {
  if (is_floating(c.in[0].dtype())) return map2(c, f);
  map2<float>(c, [&](auto a, auto b) { return f(float(a), float(b)); });
}
Tensor zeros_like(const Tensor& x) { return fill_like(x, 0); }
}  // namespace

// da, db: gradients in terms of a, b, y and the incoming gradient g; sum_like undoes the broadcast.
#define BINARY(name, summary, cases, loop, da, db)                                         \
  OP(name, NoAttrs) {                                                                      \
    return binary(                                                                         \
        summary, cases, [](const Call& c, const NoAttrs&) { loop; },                       \
        [](const Tensors& in, const Tensors& out, const Tensors& grad,                     \
           const NoAttrs&) -> Tensors {                                                    \
          [[maybe_unused]] const Tensor &a = in[0], &b = in[1], &y = out[0], &g = grad[0]; \
          return {sum_like(da, a), sum_like(db, b)};                                       \
        });                                                                                \
  }                                                                                        \
  Tensor name(In a, In b) { return call(name##_op(), {std::move(a), std::move(b)})[0]; }
#define LOOP2(name) map2(c, [](auto a, auto b) { return scalar::name(a, b); })

BINARY(add, "a + b", signed_cases(true), LOOP2(add), g, g)
BINARY(subtract, "a - b", signed_cases(true), LOOP2(subtract), g, -g)
BINARY(multiply, "a b", signed_cases(true), LOOP2(multiply), (g * b), (g * a))
BINARY(floor_divide, "a / b rounded down, as Python does; an integer by zero is 0",
       signed_cases(false), LOOP2(floor_divide), zeros_like(y), zeros_like(y))
BINARY(mod, "a - b floor(a / b), with the sign of b, as Python does; an integer by zero is 0",
       signed_cases(false), LOOP2(mod), g, -(g* floor_divide(a, b)))
// 0^(b - 1) would be infinite where b is 0, and the logarithm is taken where it exists.
BINARY(power, "a^b; an integer to a negative power is truncated", two_cases(), LOOP2(power),
       (g * b * power(a, select(equal(b, 0), 1, b - 1))),
       (g * y * log(select(greater(a, 0), a, 1))))
BINARY(maximum, "The larger of a and b; NaN if one is", signed_cases(true), LOOP2(maximum),
       select(greater_equal(a, b), g, 0), select(greater_equal(a, b), 0, g))
BINARY(minimum, "The smaller of a and b; NaN if one is", signed_cases(true), LOOP2(minimum),
       select(less_equal(a, b), g, 0), select(less_equal(a, b), 0, g))
BINARY(squared_difference, "(a - b)^2", signed_cases(true), LOOP2(squared_difference),
       2 * g * (a - b), 2 * g * (b - a))
#undef LOOP2

static Op<NoAttrs> with_shape(Op<NoAttrs> op, Sigs (*shape)(std::span<const Sig>, const NoAttrs&)) {
  op.shape = shape;
  return op;
}
OP(divide, NoAttrs) {
  return with_shape(
      binary(
          "a / b; integers become f32", two_cases(),
          [](const Call& c, const NoAttrs&) {
            divide_loop(c, [](auto a, auto b) { return scalar::divide(a, b); });
          },
          [](const Tensors& in, const Tensors& out, const Tensors& g, const NoAttrs&) -> Tensors {
            return {sum_like(g[0] / in[1], in[0]), sum_like(-(g[0] * out[0] / in[1]), in[1])};
          }),
      divided);
}
Tensor divide(In a, In b) { return call(divide_op(), {std::move(a), std::move(b)})[0]; }

OP(divide_no_nan, NoAttrs) {
  Op<NoAttrs> op = with_shape(
      binary(
          "a / b, and 0 where b is 0; integers become f32", two_cases(),
          [](const Call& c, const NoAttrs&) {
            divide_loop(c, [](auto a, auto b) { return scalar::divide_no_nan(a, b); });
          },
          [](const Tensors& in, const Tensors& out, const Tensors& g, const NoAttrs&) -> Tensors {
            return {sum_like(divide_no_nan(g[0], in[1]), in[0]),
                    sum_like(-divide_no_nan(g[0] * out[0], in[1]), in[1])};
          }),
      divided);
  op.cases.push_back({"zero", {{4}, values({4}, {0, 1, 0, 2})}, {}, {.no_gradient = true}});
  return op;
}
Tensor divide_no_nan(In a, In b) {
  return call(divide_no_nan_op(), {std::move(a), std::move(b)})[0];
}
#undef BINARY

// Gradients in one pass over the result y; their compositions give the second order.
static Op<NoAttrs> grad_of_result(std::string_view summary,
                                  Tensors (*reference)(const Tensors&, const NoAttrs&)) {
  return {.summary = summary,
          .inputs = {{"y", floating, "[...], the result"}, {"g", floating, "like y"}},
          .outputs = {{"dx", "like y"}},
          .shape = [](std::span<const Sig> in, const NoAttrs&) -> Sigs {
            if (in[1] != in[0]) fail({"g is ", str(in[1]), ", expected ", str(in[0]), " (like y)"});
            return {in[0]};
          },
          .reference = reference,
          .traits = {.pointwise = true},
          .cases = {{"matrix", {uniform({3, 5}, 0.1, 0.9), {3, 5}}},
                    {"odd", {uniform({63}, 0.1, 0.9), {63}}},
                    {"empty", {{0, 3}, {0, 3}}},
                    {"bench", {{1000, 1000}, {1000, 1000}}, {}, {.bench = true}},
                    {"mismatch", {{3}, {4}}, {}, {.fails = "expected"}}}};
}
OP(tanh_grad, NoAttrs) {
  return grad_of_result(
      "The gradient of tanh: g (1 - y^2)",
      [](const Tensors& in, const NoAttrs&) -> Tensors { return {in[1] * (1 - square(in[0]))}; });
}
OP(sigmoid_grad, NoAttrs) {
  return grad_of_result(
      "The gradient of sigmoid: g y (1 - y)",
      [](const Tensors& in, const NoAttrs&) -> Tensors { return {in[1] * (in[0] * (1 - in[0]))}; });
}

#define UNARY(name, types, map, from, to, summary, da)                                         \
  OP(name, NoAttrs) {                                                                          \
    return unary(                                                                              \
        summary, types, from, to,                                                              \
        [](const Call& c, const NoAttrs&) { map(c, [](auto x) { return scalar::name(x); }); }, \
        [](const Tensors& in, const Tensors& out, const Tensors& grad,                         \
           const NoAttrs&) -> Tensors {                                                        \
          [[maybe_unused]] const Tensor &x = in[0], &y = out[0], &g = grad[0];                 \
          return {da};                                                                         \
        });                                                                                    \
  }                                                                                            \
  Tensor name(In x) { return call(name##_op(), {std::move(x)})[0]; }

UNARY(negative, numeric, map1, -2, 2, "-x", -g)
UNARY(abs, numeric, map1, 0.3, 2, "|x|; gradient 0 at 0", (g * sign(x)))
UNARY(sign, numeric, map1, 0.3, 2, "-1, 0 or 1; NaN stays", zeros_like(g))
UNARY(square, numeric, map1, -2, 2, "x^2", 2 * g * x)
UNARY(reciprocal, floating, map1_float, 0.5, 2, "1 / x", -(g* square(y)))
UNARY(exp, floating, map1_float, -2, 2, "e^x", (g * y))
UNARY(expm1, floating, map1_float, -2, 2, "e^x - 1, exact near 0", (g * exp(x)))
UNARY(log, floating, map1_float, 0.5, 3, "Natural logarithm", g / x)
UNARY(log1p, floating, map1_float, -0.5, 3, "log(1 + x), exact near 0", g / (x + 1))
UNARY(sqrt, floating, map1_float, 0.5, 3, "Square root", 0.5 * g / y)
UNARY(rsqrt, floating, map1_float, 0.5, 3, "1 / sqrt(x)", -0.5 * g * (y * square(y)))
UNARY(sin, floating, map1_float, -3, 3, "Sine of x in radians", (g * cos(x)))
UNARY(cos, floating, map1_float, -3, 3, "Cosine of x in radians", -(g* sin(x)))
UNARY(tanh, floating, map1_float, -2, 2, "Hyperbolic tangent", (call(tanh_grad_op(), {y, g})[0]))
UNARY(sigmoid, floating, map1_float, -4, 4, "1 / (1 + e^-x)", (call(sigmoid_grad_op(), {y, g})[0]))
UNARY(erf, floating, map1_float, -2, 2, "Gauss error function",
      (g * (1.1283791670955126 * exp(-square(x)))))  // 2 / sqrt(pi)
UNARY(floor, floating, map1_float, 0.1, 0.9, "The largest integer not above x", zeros_like(g))
UNARY(ceil, floating, map1_float, 0.1, 0.9, "The smallest integer not below x", zeros_like(g))
UNARY(round, floating, map1_float, -0.4, 0.4, "The nearest integer, halves to even", zeros_like(g))
#undef UNARY

#define PREDICATE(name, text, body)                                                  \
  OP(name, NoAttrs) {                                                                \
    return {.summary = text,                                                         \
            .inputs = {{"x", floating, "[...]"}},                                    \
            .outputs = {{"y", "bool, the shape of x"}},                              \
            .shape = to_bool,                                                        \
            .loop =                                                                  \
                [](const Call& c, const NoAttrs&) {                                  \
                  detail::visit_float(c.in[0].dtype(), [&](auto zero) {              \
                    using X = decltype(zero);                                        \
                    cpu::map_scalar(                                                 \
                        [](X v) {                                                    \
                          const compute_t<X> x = v;                                  \
                          return body;                                               \
                        },                                                           \
                        c.out[0].shape(), c.out[0].as<bool>(), operand<X>(c.in[0])); \
                  });                                                                \
                },                                                                   \
            .no_gradient = "a truth value does not change smoothly",                 \
            .traits = {.pointwise = true},                                           \
            .cases = {{"some", {values({5}, {0, 1, INFINITY, -INFINITY, NAN})}},     \
                      {"matrix", {{3, 21}}},                                         \
                      {"empty", {{0, 3}}}}};                                         \
  }                                                                                  \
  Tensor name(In x) { return call(name##_op(), {std::move(x)})[0]; }
PREDICATE(is_finite, "Whether x is neither infinite nor NaN", std::isfinite(x))
PREDICATE(is_nan, "Whether x is NaN", std::isnan(x))
#undef PREDICATE

OP(identity, NoAttrs) {
  return {.summary = "x itself",
          .inputs = {{"x", any_type, "[...]"}},
          .outputs = {{"y", "like x"}},
          .shape = same_as_first,
          .gradient = [](const Tensors&, const Tensors&, const Tensors& g,
                         const NoAttrs&) -> Tensors { return {g[0]}; },
          .traits = {.alias = true},
          .cases = {{"matrix", {{3, 4}}}, {"odd", {{63}}}, {"empty", {{0, 3}}}}};
}
Tensor identity(In x) { return call(identity_op(), {std::move(x)})[0]; }

OP(stop_gradient, NoAttrs) {
  return {.summary = "x, as a constant for differentiation",
          .inputs = {{"x", any_type, "[...]"}},
          .outputs = {{"y", "like x"}},
          .shape = same_as_first,
          .no_gradient = "that is what it is for",
          .traits = {.alias = true, .cut = true},
          .cases = {{"matrix", {{3, 4}}}, {"odd", {{63}}}, {"empty", {{0, 3}}}}};
}
Tensor stop_gradient(In x) { return call(stop_gradient_op(), {std::move(x)})[0]; }

OP(cast, CastAttrs) {
  return {.summary = "x in another element type",
          .doc =
              "Floats to integers truncate and saturate, NaN is 0; integers wrap; anything but "
              "zero is true.",
          .inputs = {{"x", any_type, "[...]"}},
          .outputs = {{"y", "[...] of dtype"}},
          .shape = [](std::span<const Sig> in, const CastAttrs& a) -> Sigs {
            return {{a.dtype, in[0].shape}};
          },
          .loop =
              [](const Call& c, const CastAttrs&) {
                visit(c.out[0].dtype(),
                      [&](auto zero) { map1<decltype(zero)>(c, [](auto x) { return x; }); });
              },
          .gradient = [](const Tensors& in, const Tensors& out, const Tensors& g,
                         const CastAttrs&) -> Tensors {
            const bool smooth = is_floating(in[0].dtype()) && is_floating(out[0].dtype());
            return {smooth ? cast(g[0], in[0].dtype()) : Tensor()};
          },
          .traits = {.pointwise = true, .alias = true},
          .cases = {{"to_f32", {uniform({3, 4}, -3, 3)}, {}},
                    {"to_f64", {uniform({3, 4}, -3, 3)}, {DType::f64}},
                    {"to_i32", {uniform({33}, -3, 3)}, {DType::i32}, {.no_gradient = true}},
                    {"to_u8", {uniform({33}, 0, 250)}, {DType::u8}, {.no_gradient = true}},
                    {"to_bool", {integers({33}, 0, 2)}, {DType::boolean}, {.no_gradient = true}},
                    {"to_bf16", {uniform({33}, -3, 3)}, {DType::bf16}, {.no_gradient = true}},
                    {"to_f16", {uniform({33}, -3, 3)}, {DType::f16}, {.no_gradient = true}},
                    {"empty", {{0, 3}}, {DType::f64}}}};
}
Tensor cast(In x, DType dtype) {
  In t(x.as(), x.where);
  return t.t.dtype() == dtype ? t.t : call(cast_op(), {t}, CastAttrs{dtype})[0];
}

OP(select, NoAttrs) {
  return {.summary = "a where condition holds, else b",
          .inputs = {{"condition", boolean_only, "[...]"},
                     {"a", any_type, "[...]"},
                     {"b", any_type, "[...]"}},
          .outputs = {{"y", "[...], all three broadcast; the type of a and b"}},
          .shape = [](std::span<const Sig> in, const NoAttrs&) -> Sigs {
            return {{in[1].dtype, broadcast(in[0].shape, broadcast(in[1].shape, in[2].shape))}};
          },
          .loop =
              [](const Call& c, const NoAttrs&) {
                visit(c.out[0].dtype(), [&](auto zero) {
                  using T = decltype(zero);
                  cpu::map_scalar([](bool k, T a, T b) { return k ? a : b; }, c.out[0].shape(),
                                  c.out[0].as<T>(), operand<bool>(c.in[0]), operand<T>(c.in[1]),
                                  operand<T>(c.in[2]));
                });
              },
          .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                         const NoAttrs&) -> Tensors {
            return {Tensor(), sum_like(select(in[0], g[0], 0), in[1]),
                    sum_like(select(in[0], 0, g[0]), in[2])};
          },
          .traits = {.pointwise = true, .promotes = true},
          .cases = {{"same", {integers({3, 4}, 0, 2), {3, 4}, {3, 4}}},
                    {"broadcast", {integers({3, 1}, 0, 2), {4}, {}}},
                    {"odd", {integers({63}, 0, 2), {1}, {63}}},
                    {"empty", {integers({0, 3}, 0, 2), {0, 3}, {3}}},
                    {"bench", {integers({500, 500}, 0, 2), {500, 500}, {}}, {}, {.bench = true}},
                    {"mismatch", {integers({3}, 0, 2), {4}, {4}}, {}, {.fails = "broadcast"}}}};
}
Tensor select(In condition, In a, In b) {
  return call(select_op(), {std::move(condition), std::move(a), std::move(b)})[0];
}

OP(clip, ClipAttrs) {
  return {.summary = "min(max(x, low), high); NaN stays",
          .inputs = {{"x", numeric, "[...]"}},
          .outputs = {{"y", "like x"}},
          .shape = [](std::span<const Sig> in, const ClipAttrs& a) -> Sigs {
            if (!(a.low <= a.high)) fail({"low is ", a.low, ", expected at most high ", a.high});
            for (double bound : {a.low, a.high})
              if (!is_floating(in[0].dtype) && bound != std::floor(bound))
                fail({"a bound is ", bound, ", expected a whole number, since x is ", str(in[0])});
            return {in[0]};
          },
          .loop =
              [](const Call& c, const ClipAttrs& a) {
                map1(c, [&](auto x) {
                  using T = decltype(x);
                  return scalar::clip(x, converted<T>(a.low), converted<T>(a.high));
                });
              },
          .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                         const ClipAttrs& a) -> Tensors {
            const Tensor inside =
                logical_and(greater_equal(in[0], a.low), less_equal(in[0], a.high));
            return {select(inside, g[0], 0)};
          },
          .traits = {.pointwise = true},
          .cases = {{"inside", {uniform({3, 5}, 1.1, 1.9)}, {1, 2}},
                    {"wide", {uniform({63}, -3, 3)}, {-1, 2}},
                    {"above", {uniform({1}, 3, 4)}, {-INFINITY, 2}},
                    {"empty", {{0, 3}}, {}},
                    {"order", {{3}}, {1, 0}, {.fails = "at most high"}},
                    {"nan", {{3}}, {NAN, 0}, {.fails = "at most high"}}}};
}
Tensor clip(In x, double low, double high) {
  return call(clip_op(), {std::move(x)}, ClipAttrs{low, high})[0];
}
Tensor clip(In x, In low, In high) {
  const Where where = x.where;
  return minimum(In(maximum(std::move(x), std::move(low)), where), std::move(high));
}

}  // namespace evenflow
