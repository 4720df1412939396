// SPDX-License-Identifier: Apache-2.0
#include "evenflow/ops/elementwise.h"

#include <cmath>

#include "evenflow/ops/compare.h"
#include "evenflow/ops/elementwise_loops.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/scalar.h"

namespace evenflow {
namespace {
using detail::map1;
using detail::map2;
using Fill = CaseInput::Fill;
const std::vector<Arg>& two() {
  static const std::vector<Arg> args{{"a", numeric, "[...]"}, {"b", numeric, "[...], broadcasts with a"}};
  return args;
}
const std::vector<Op<NoAttrs>::Case>& two_cases() {
  static const std::vector<Op<NoAttrs>::Case> cases{
      {"same", {uniform({3, 4}, 0.5, 4), uniform({3, 4}, 0.5, 3)}},
      {"row", {uniform({5, 63}, 0.5, 4), uniform({63}, 0.5, 3)}},
      {"scalar", {uniform({7}, 0.5, 4), uniform({}, 0.5, 3)}},
      {"both", {uniform({2, 1, 3}, 0.5, 4), uniform({4, 1}, 0.5, 3)}},
      {"empty", {uniform({0, 3}, 0.5, 4), uniform({3}, 0.5, 3)}},
      {"bench", {uniform({1000, 1000}, 0.5, 4), uniform({1000}, 0.5, 3)}, {}, {.bench = true}},
      {"mismatch", {{3, 4}, {3}}, {}, {.fails = "do not broadcast"}}};
  return cases;
}
template <class T>
Op<NoAttrs> binary(std::string_view summary, void (*loop)(const Call&, const NoAttrs&), T gradient) {
  return {.summary = summary, .inputs = two(), .outputs = {{"y", "broadcast of a and b"}}, .shape = broadcast_of_all, .loop = loop, .gradient = gradient,
          .traits = {.pointwise = true, .promotes = true}, .cases = two_cases()};
}
}  // namespace

// Gradients of a and b, in terms of in, out and the incoming gradient g; sum_like undoes the broadcast.
#define BINARY(name, text, body, da, db)                                                                     \
  OP(name, NoAttrs) {                                                                                        \
    return binary(text, [](const Call& c, const NoAttrs&) { map2(c, [](auto a, auto b) { return body; }); }, \
                  [](const Tensors& in, const Tensors& out, const Tensors& grad, const NoAttrs&) -> Tensors { \
                    const Tensor &a = in[0], &b = in[1], &y = out[0], &g = grad[0];                          \
                    (void)a, (void)b, (void)y, (void)g;                                                        \
                    return {sum_like(da, a), sum_like(db, b)};                                               \
                  });                                                                                        \
  }                                                                                                          \
  Tensor name(In a, In b) { return call(name##_op(), {a, b})[0]; }

BINARY(add, "a + b", scalar::add(a, b), g, g)
BINARY(subtract, "a - b", scalar::subtract(a, b), g, -g)
BINARY(multiply, "a b", scalar::multiply(a, b), g * b, g * a)
BINARY(floor_divide, "floor(a / b), as Python does; an integer by zero is 0", scalar::floor_divide(a, b), fill_like(y, 0), fill_like(y, 0))
BINARY(mod, "a - b floor(a / b), as Python does; an integer by zero is 0", scalar::mod(a, b), g, -(g * floor_divide(a, b)))
BINARY(power, "a^b", scalar::power(a, b), g * b * power(a, b - 1), g * y * log(select(greater(a, 0), a, fill_like(a, 1))))
BINARY(maximum, "The larger of a and b; NaN if one is", scalar::maximum(a, b), select(greater_equal(a, b), g, fill_like(g, 0)), select(greater_equal(a, b), fill_like(g, 0), g))
BINARY(minimum, "The smaller of a and b; NaN if one is", scalar::minimum(a, b), select(less_equal(a, b), g, fill_like(g, 0)), select(less_equal(a, b), fill_like(g, 0), g))
BINARY(squared_difference, "(a - b)^2", scalar::multiply(scalar::subtract(a, b), scalar::subtract(a, b)), 2 * g * (a - b), -(2 * g * (a - b)))
#undef BINARY

static Sigs divided(std::span<const Sig> in, const NoAttrs& a) {
  Sigs r = broadcast_of_all(in, a);
  if (!is_floating(r[0].dtype)) r[0].dtype = DType::f32;
  return r;
}
#define DIVISION(name, text, body, da, db)                                                                            \
  OP(name, NoAttrs) {                                                                                                 \
    Op<NoAttrs> op = binary(text, [](const Call& c, const NoAttrs&) {                                                 \
          map2(c, [](auto a0, auto b0) {                                                                              \
            using T = std::conditional_t<std::is_integral_v<decltype(a0)>, float, decltype(a0)>;                      \
            const T a = T(a0), b = T(b0);                                                                             \
            return body;                                                                                              \
          });                                                                                                         \
        },                                                                                                            \
        [](const Tensors& in, const Tensors& out, const Tensors& grad, const NoAttrs&) -> Tensors {                   \
          const Tensor &a = in[0], &b = in[1], &y = out[0], &g = grad[0];                                             \
          (void)a;                                                                                                    \
          return {sum_like(da, a), sum_like(db, b)};                                                                  \
        });                                                                                                           \
    op.shape = divided;                                                                                               \
    return op;                                                                                                        \
  }                                                                                                                   \
  Tensor name(In a, In b) { return call(name##_op(), {a, b})[0]; }
DIVISION(divide, "a / b; integers become f32", a / b, g / b, -(g * y / b))
DIVISION(divide_no_nan, "a / b, 0 where b is 0; integers become f32", b == T(0) ? T(0) : a / b, divide_no_nan(g, b), -divide_no_nan(g * y, b))
#undef DIVISION

#define UNARY(name, types, text, body, from, to, da)                                                            \
  OP(name, NoAttrs) {                                                                                           \
    return {.summary = text, .inputs = {{"x", types, "[...]"}}, .outputs = {{"y", "like x"}}, .shape = same_as_first, \
            .loop = [](const Call& c, const NoAttrs&) { map1(c, [](auto x) { return body; }); },                \
            .gradient = [](const Tensors& in, const Tensors& out, const Tensors& grad, const NoAttrs&) -> Tensors { \
              const Tensor &x = in[0], &y = out[0], &g = grad[0];                                               \
              (void)x, (void)y;                                                                                 \
              return {da};                                                                                      \
            },                                                                                                  \
            .traits = {.pointwise = true},                                                                      \
            .cases = {{"vector", {uniform({63}, from, to)}},                                                    \
                      {"matrix", {uniform({3, 5}, from, to)}},                                                  \
                      {"empty", {uniform({0, 3}, from, to)}},                                                   \
                      {"bench", {uniform({1000, 1000}, from, to)}, {}, {.bench = true}}}};                      \
  }                                                                                                             \
  Tensor name(In x) { return call(name##_op(), {x})[0]; }

UNARY(negative, numeric, "-x", scalar::subtract(decltype(x)(0), x), -2, 2, -g)
UNARY(abs, numeric, "|x|; gradient 0 at 0", x < 0 ? scalar::subtract(decltype(x)(0), x) : scalar::add(x, decltype(x)(0)), 0.3, 2, g * sign(x))
UNARY(sign, numeric, "-1, 0 or 1; NaN stays", scalar::sign(x), 0.3, 2, fill_like(g, 0))
UNARY(square, numeric, "x^2", scalar::multiply(x, x), -2, 2, 2 * g * x)
UNARY(reciprocal, floating, "1 / x", 1 / x, 0.5, 2, -(g * square(y)))
UNARY(exp, floating, "e^x", std::exp(x), -2, 2, g * y)
UNARY(expm1, floating, "e^x - 1, exact near 0", std::expm1(x), -2, 2, g * (y + 1))
UNARY(log, floating, "Natural logarithm", std::log(x), 0.5, 3, g / x)
UNARY(log1p, floating, "log(1 + x), exact near 0", std::log1p(x), -0.5, 3, g / (x + 1))
UNARY(sqrt, floating, "Square root", std::sqrt(x), 0.5, 3, 0.5 * g / y)
UNARY(rsqrt, floating, "1 / sqrt(x)", 1 / std::sqrt(x), 0.5, 3, -0.5 * g * (y * square(y)))
UNARY(sin, floating, "Sine", std::sin(x), -3, 3, g * cos(x))
UNARY(cos, floating, "Cosine", std::cos(x), -3, 3, -(g * sin(x)))
UNARY(tanh, floating, "Hyperbolic tangent", std::tanh(x), -2, 2, g * (1 - square(y)))
UNARY(sigmoid, floating, "1 / (1 + e^-x)", scalar::sigmoid(x), -4, 4, g * (y * (1 - y)))
UNARY(erf, floating, "Gauss error function", std::erf(x), -2, 2, g * (1.1283791670955126 * exp(-square(x))))
UNARY(floor, floating, "The largest integer not above x", std::floor(x), 0.1, 0.9, fill_like(g, 0))
UNARY(ceil, floating, "The smallest integer not below x", std::ceil(x), 0.1, 0.9, fill_like(g, 0))
UNARY(round, floating, "The nearest integer, halves to even", std::nearbyint(x), -0.4, 0.4, fill_like(g, 0))
#undef UNARY

static Sigs to_bool(std::span<const Sig> in, const NoAttrs&) { return {{DType::boolean, in[0].shape}}; }
#define PREDICATE(name, text, body)                                                                              \
  OP(name, NoAttrs) {                                                                                            \
    return {.summary = text, .inputs = {{"x", floating, "[...]"}}, .outputs = {{"y", "bool, the shape of x"}}, .shape = to_bool, \
            .loop = [](const Call& c, const NoAttrs&) { map1(c, [](auto x) { return body; }); },                 \
            .no_gradient = "a truth value does not change smoothly",                                             \
            .traits = {.pointwise = true},                                                                       \
            .cases = {{"some", {values({5}, {0, 1, INFINITY, -INFINITY, NAN})}}, {"empty", {{0, 3}}}}};          \
  }                                                                                                              \
  Tensor name(In x) { return call(name##_op(), {x})[0]; }
PREDICATE(is_finite, "Whether x is neither infinite nor NaN", std::isfinite(x))
PREDICATE(is_nan, "Whether x is NaN", std::isnan(x))
#undef PREDICATE

OP(identity, NoAttrs) {
  return {.summary = "x itself", .inputs = {{"x", any_type, "[...]"}}, .outputs = {{"y", "like x"}}, .shape = same_as_first,
          .gradient = [](const Tensors&, const Tensors&, const Tensors& g, const NoAttrs&) -> Tensors { return {g[0]}; },
          .traits = {.alias = true}, .cases = {{"matrix", {{3, 4}}}, {"empty", {{0, 3}}}}};
}
Tensor identity(In x) { return call(identity_op(), {x})[0]; }
OP(stop_gradient, NoAttrs) {
  return {.summary = "x, as a constant for differentiation", .inputs = {{"x", any_type, "[...]"}}, .outputs = {{"y", "like x"}}, .shape = same_as_first,
          .no_gradient = "that is what it is for",
          .traits = {.alias = true, .cut = true}, .cases = {{"matrix", {{3, 4}}}, {"empty", {{0, 3}}}}};
}
Tensor stop_gradient(In x) { return call(stop_gradient_op(), {x})[0]; }

struct CastAttrs {
  DType dtype = DType::f32;
  static void fields(auto& self, auto&& field) { field("dtype", self.dtype, "element type of the result"); }
};
OP(cast, CastAttrs) {
  return {.summary = "x in another element type", .doc = "Floats to integers truncate and saturate, NaN is 0; anything but zero is true.",
          .inputs = {{"x", any_type, "[...]"}}, .outputs = {{"y", "[...] of dtype"}},
          .shape = [](std::span<const Sig> in, const CastAttrs& a) -> Sigs { return {{a.dtype, in[0].shape}}; },
          .loop = [](const Call& c, const CastAttrs&) { map1(c, [](auto x) { return x; }); },
          .gradient = [](const Tensors& in, const Tensors& out, const Tensors& g, const CastAttrs&) -> Tensors {
            return {is_floating(in[0].dtype()) && is_floating(out[0].dtype()) ? cast(g[0], in[0].dtype()) : Tensor()};
          },
          .traits = {.pointwise = true, .alias = true},
          .cases = {{"to_f32", {uniform({3, 4}, -3, 3)}}, {"to_f64", {uniform({3, 4}, -3, 3)}, {DType::f64}}, {"to_i32", {uniform({33}, -3, 3)}, {DType::i32}},
                    {"to_bool", {integers({33}, 0, 2)}, {DType::boolean}}, {"to_bf16", {uniform({33}, -3, 3)}, {DType::bf16}, {.no_gradient = true}}, {"empty", {{0, 3}}, {DType::f64}}}};
}
Tensor cast(In x, DType dtype) {
  Tensor t = x.as();
  return t.dtype() == dtype ? t : call(cast_op(), {In(t, x.where)}, CastAttrs{dtype})[0];
}

OP(select, NoAttrs) {
  return {.summary = "a where condition holds, else b",
          .inputs = {{"condition", boolean_only, "[...]"}, {"a", any_type, "[...]"}, {"b", any_type, "[...]"}},
          .outputs = {{"y", "broadcast of all three, type of a"}},
          .shape = [](std::span<const Sig> in, const NoAttrs&) -> Sigs { return {{in[1].dtype, broadcast(in[0].shape, broadcast(in[1].shape, in[2].shape))}}; },
          .loop = [](const Call& c, const NoAttrs&) {
            visit(c.out[0].dtype(), [&](auto zero) {
              using T = decltype(zero);
              cpu::map_scalar([](bool k, T a, T b) { return k ? a : b; }, c.out[0].shape(), c.out[0].as<T>(), std::pair<const bool*, const Shape*>{c.in[0].as<bool>(), &c.in[0].shape()},
                              std::pair<const T*, const Shape*>{c.in[1].as<T>(), &c.in[1].shape()}, std::pair<const T*, const Shape*>{c.in[2].as<T>(), &c.in[2].shape()});
            });
          },
          .gradient = [](const Tensors& in, const Tensors&, const Tensors& g, const NoAttrs&) -> Tensors {
            Tensor zero = fill_like(g[0], 0);
            return {Tensor(), sum_like(select(in[0], g[0], zero), in[1]), sum_like(select(in[0], zero, g[0]), in[2])};
          },
          .traits = {.pointwise = true, .promotes = true},
          .cases = {{"same", {integers({3, 4}, 0, 2), {3, 4}, {3, 4}}}, {"broadcast", {integers({3, 1}, 0, 2), {4}, {}}}, {"empty", {integers({0, 3}, 0, 2), {0, 3}, {3}}},
                    {"mismatch", {integers({3}, 0, 2), {4}, {4}}, {}, {.fails = "do not broadcast"}}}};
}
Tensor select(In condition, In a, In b) { return call(select_op(), {condition, a, b})[0]; }

struct ClipAttrs {
  double low = 0, high = 1;
  static void fields(auto& self, auto&& field) { field("low", self.low, "lower bound"), field("high", self.high, "upper bound"); }
};
OP(clip, ClipAttrs) {
  return {.summary = "min(max(x, low), high); NaN stays",
          .inputs = {{"x", numeric, "[...]"}}, .outputs = {{"y", "like x"}},
          .shape = [](std::span<const Sig> in, const ClipAttrs& a) -> Sigs {
            if (!(a.low <= a.high)) fail({"low is ", a.low, ", expected at most high ", a.high});
            return {in[0]};
          },
          .loop = [](const Call& c, const ClipAttrs& a) {
            map1(c, [&](auto x) {
              using T = decltype(x);
              const T low = detail::converted<T>(a.low), high = detail::converted<T>(a.high);
              return x < low ? low : x > high ? high : x;
            });
          },
          .gradient = [](const Tensors& in, const Tensors&, const Tensors& g, const ClipAttrs& a) -> Tensors {
            return {select(logical_and(greater_equal(in[0], a.low), less_equal(in[0], a.high)), g[0], fill_like(g[0], 0))};
          },
          .traits = {.pointwise = true},
          .cases = {{"inside", {uniform({3, 5}, 0.1, 0.9)}}, {"wide", {uniform({63}, -3, 3)}, {-1, 2}}, {"empty", {{0, 3}}}, {"order", {{3}}, {1, 0}, {.fails = "at most high"}}}};
}
Tensor clip(In x, double low, double high) { return call(clip_op(), {x}, ClipAttrs{low, high})[0]; }

}  // namespace evenflow
