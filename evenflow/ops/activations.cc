// SPDX-License-Identifier: Apache-2.0
#include "evenflow/ops/activations.h"

#include <cmath>
#include <map>

#include "evenflow/ops/compare.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/elementwise_loops.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/scalar.h"
#include "evenflow/ops/shape.h"
#include "evenflow/ops/softmax.h"

namespace evenflow {
namespace {
using detail::map1;
using detail::map2;
void check(const ReluAttrs& a) {
  if (!std::isfinite(a.negative_slope) || !std::isfinite(a.threshold) || std::isnan(a.max_value)) fail({"negative_slope, max_value or threshold is not a number, expected finite ones"});
}
template <class T>
T relu_slope(T x, const ReluAttrs& a) {
  return x > T(a.threshold) ? (x < T(a.max_value) ? T(1) : T(0)) : x == T(a.threshold) && a.negative_slope == 0 ? T(0) : T(a.negative_slope);
}
}  // namespace

OP(relu, ReluAttrs) {
  return {.summary = "max_value where x >= max_value, x where x > threshold, else negative_slope (x - threshold)",
          .inputs = {{"x", floating, "[...]"}}, .outputs = {{"y", "like x"}},
          .shape = [](std::span<const Sig> in, const ReluAttrs& a) -> Sigs {
            check(a);
            return {in[0]};
          },
          .loop = [](const Call& c, const ReluAttrs& a) {
            map1(c, [&](auto x) {
              using T = decltype(x);
              if constexpr (std::is_floating_point_v<T>) return x != x ? x : x > T(a.threshold) ? std::min(x, T(a.max_value)) : T(a.negative_slope) * (x - T(a.threshold));
              else return x;
            });
          },
          .gradient = [](const Tensors& in, const Tensors&, const Tensors& g, const ReluAttrs& a) -> Tensors {
            const OpDef& op = find_op("relu_grad");
            return {call(op, {in[0], g[0]}, a)[0]};
          },
          .traits = {.pointwise = true},
          .cases = {{"positive", {uniform({3, 5}, 0.1, 2)}}, {"negative", {uniform({63}, -2, -0.1)}}, {"leaky", {uniform({63}, -2, -0.1)}, {.negative_slope = 0.3}},
                    {"six", {uniform({63}, 0.1, 5)}, {.max_value = 6}}, {"empty", {{0, 3}}}, {"bench", {{1000, 1000}}, {}, {.bench = true, .no_gradient = true}}}};
}
OP(relu_grad, ReluAttrs) {
  return {.summary = "Gradient of relu: grad times its slope at x", .inputs = {{"x", floating, "[...]"}, {"grad", floating, "like x"}}, .outputs = {{"dx", "like x"}},
          .shape = [](std::span<const Sig> in, const ReluAttrs& a) -> Sigs {
            check(a);
            if (in[1] != in[0]) fail({"grad is ", str(in[1]), ", expected ", str(in[0]), " (x)"});
            return {in[0]};
          },
          .loop = [](const Call& c, const ReluAttrs& a) { map2(c, [&](auto x, auto g) { return g * relu_slope(x, a); }); },
          .gradient = [](const Tensors& in, const Tensors&, const Tensors& g, const ReluAttrs& a) -> Tensors { return {Tensor(), call(find_op("relu_grad"), {in[0], g[0]}, a)[0]}; },
          .traits = {.pointwise = true},
          .cases = {{"positive", {uniform({3, 5}, 0.1, 2), {3, 5}}}, {"leaky", {uniform({63}, -2, -0.1), {63}}, {.negative_slope = 0.3}}, {"empty", {{0, 3}, {0, 3}}}, {"shape", {{3}, {4}}, {}, {.fails = "expected"}}}};
}
Tensor relu(In x, ReluAttrs a) { return call(relu_op(), {x}, a)[0]; }
Tensor relu6(In x) { return relu(x, {.max_value = 6}); }
Tensor leaky_relu(In x, double slope) { return relu(x, {.negative_slope = slope}); }

struct AlphaAttrs {
  double alpha = 1;
  static void fields(auto& self, auto&& field) { field("alpha", self.alpha, "scale of the negative part"); }
};
OP(elu, AlphaAttrs) {
  return {.summary = "x where x > 0, else alpha (e^x - 1)", .inputs = {{"x", floating, "[...]"}}, .outputs = {{"y", "like x"}}, .shape = same_as_first,
          .loop = [](const Call& c, const AlphaAttrs& a) { map1(c, [&](auto x) { using T = decltype(x); return T(x > 0 ? x : T(a.alpha) * T(std::expm1(x))); }); },
          .gradient = [](const Tensors& in, const Tensors& out, const Tensors& g, const AlphaAttrs& a) -> Tensors { return {g[0] * select(greater(in[0], 0), fill_like(g[0], 1), out[0] + a.alpha)}; },
          .traits = {.pointwise = true}, .cases = {{"positive", {uniform({3, 5}, 0.1, 2)}}, {"negative", {uniform({63}, -2, -0.1)}, {0.7}}, {"empty", {{0, 3}}}}};
}
Tensor elu(In x, double alpha) { return call(elu_op(), {x}, AlphaAttrs{alpha})[0]; }
#define SMOOTH(name, text, body, da)                                                                            \
  OP(name, NoAttrs) {                                                                                           \
    return {.summary = text, .inputs = {{"x", floating, "[...]"}}, .outputs = {{"y", "like x"}}, .shape = same_as_first, \
            .loop = [](const Call& c, const NoAttrs&) { map1(c, [](auto x) { return body; }); },                \
            .gradient = [](const Tensors& in, const Tensors& out, const Tensors& grad, const NoAttrs&) -> Tensors { \
              const Tensor &x = in[0], &y = out[0], &g = grad[0];                                               \
              (void)y;                                                                                          \
              return {da};                                                                                      \
            },                                                                                                  \
            .traits = {.pointwise = true}, .cases = {{"matrix", {{3, 5}}}, {"vector", {normal({63}, 0, 3)}}, {"empty", {{0, 3}}}}}; \
  }                                                                                                             \
  Tensor name(In x) { return call(name##_op(), {x})[0]; }
SMOOTH(softplus, "log(1 + e^x)", scalar::softplus(x), g * sigmoid(x))
SMOOTH(silu, "x sigmoid(x)", x * scalar::sigmoid(x), g * (sigmoid(x) + y * (1 - sigmoid(x))))
SMOOTH(log_sigmoid, "log(sigmoid(x))", -scalar::softplus(-x), g * sigmoid(-x))
#undef SMOOTH
struct GeluAttrs {
  bool approximate = false;
  static void fields(auto& self, auto&& field) { field("approximate", self.approximate, "by tanh (Hendrycks & Gimpel 2016)"); }
};
OP(gelu, GeluAttrs) {
  return {.summary = "x times the normal distribution function of x", .inputs = {{"x", floating, "[...]"}}, .outputs = {{"y", "like x"}}, .shape = same_as_first,
          .reference = [](const Tensors& in, const GeluAttrs& a) -> Tensors {
            const Tensor& x = in[0];
            if (a.approximate) return {0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * (x * square(x)))))};
            return {0.5 * x * (1 + erf(0.7071067811865476 * x))};
          },
          .cases = {{"exact", {{3, 5}}}, {"approximate", {normal({63}, 0, 2)}, {true}}, {"empty", {{0, 3}}}}};
}
Tensor gelu(In x, bool approximate) { return call(gelu_op(), {x}, GeluAttrs{approximate})[0]; }

Tensor selu(In x) { return 1.0507009873554805 * elu(x, 1.6732632423543772); }
Tensor celu(In given, double alpha) {
  if (alpha == 0) fail({"celu: alpha is 0, expected another number"});
  Tensor x = given.as();
  return maximum(x, 0) + minimum(alpha * expm1(minimum(x, 0) / alpha), 0);
}
Tensor hard_sigmoid(In x) { return relu6(x + 3) / 6; }
Tensor hard_silu(In given) {
  Tensor x = given.as();
  return x * hard_sigmoid(x);
}
Tensor hard_tanh(In x) { return clip(x, -1, 1); }
Tensor hard_shrink(In given, double t) {
  Tensor x = given.as();
  return select(greater(abs(x), t), x, fill_like(x, 0));
}
Tensor soft_shrink(In given, double t) {
  Tensor x = given.as(), zero = fill_like(x, 0);
  return select(greater(x, t), x - t, select(less(x, -t), x + t, zero));
}
Tensor tanh_shrink(In given) {
  Tensor x = given.as();
  return x - tanh(x);
}
Tensor softsign(In given) {
  Tensor x = given.as();
  return x / (abs(x) + 1);
}
Tensor mish(In given) {
  Tensor x = given.as();
  return x * tanh(softplus(x));
}
Tensor squareplus(In given, double b) {
  Tensor x = given.as();
  return 0.5 * (x + sqrt(square(x) + b));
}
Tensor threshold(In given, double t, double default_value) {
  Tensor x = given.as();
  return select(greater(x, t), x, fill_like(x, default_value));
}
Tensor sparse_plus(In given) {
  Tensor x = given.as(), zero = fill_like(x, 0);
  return select(less_equal(x, -1), zero, select(less(x, 1), 0.25 * square(x + 1), x));
}
Tensor sparse_sigmoid(In x) { return clip(0.5 * (x + 1), 0, 1); }
Tensor sparsemax(In given, int64_t axis) {
  Tensor x = given.as(), z = x;
  const int d = x.sig().shape.resolve(int(std::clamp<int64_t>(axis, -kMaxRank, kMaxRank)));
  // tau solves sum(max(z - tau, 0)) = 1. Newton's steps on this convex piecewise-linear function from below reach it exactly.
  Tensor top = reduce_max(x, {d}, true), tau = top - 1;
  for (int i = 0; i < 24; ++i) {
    Tensor on = stop_gradient(cast(greater(x, expand_like(tau, x)), x.dtype()));
    tau = (reduce_sum(x * on, {d}, true) - 1) / reduce_sum(on, {d}, true);
  }
  return maximum(z - expand_like(tau, x), 0);
}
Tensor glu(In given, int64_t axis) {
  Tensor x = given.as();
  const int64_t n = x.sig().shape.dim(int(std::clamp<int64_t>(axis, -kMaxRank, kMaxRank)));
  if (n % 2) fail({"glu: x is ", str(x.sig()), ", expected an even extent on axis ", axis});
  Tensors halves = split(x, {n / 2, n / 2}, axis);
  return halves[0] * sigmoid(halves[1]);
}

namespace {
using Unary = Tensor (*)(In);
const std::map<std::string_view, Unary>& table() {
  static const std::map<std::string_view, Unary> t{
      {"linear", [](In x) { return x.as(); }},
      {"relu", [](In x) { return relu(x); }},
      {"relu6", relu6},
      {"leaky_relu", [](In x) { return leaky_relu(x); }},
      {"elu", [](In x) { return elu(x); }},
      {"selu", selu},
      {"celu", [](In x) { return celu(x); }},
      {"gelu", [](In x) { return gelu(x); }},
      {"silu", silu},
      {"swish", silu},
      {"hard_sigmoid", hard_sigmoid},
      {"hard_silu", hard_silu},
      {"hard_swish", hard_silu},
      {"hard_tanh", hard_tanh},
      {"hard_shrink", [](In x) { return hard_shrink(x); }},
      {"soft_shrink", [](In x) { return soft_shrink(x); }},
      {"tanh_shrink", tanh_shrink},
      {"tanh", tanh},
      {"sigmoid", sigmoid},
      {"exponential", exp},
      {"softplus", softplus},
      {"softsign", softsign},
      {"softmax", [](In x) { return softmax(x); }},
      {"log_softmax", [](In x) { return log_softmax(x); }},
      {"log_sigmoid", log_sigmoid},
      {"mish", mish},
      {"squareplus", [](In x) { return squareplus(x); }},
      {"threshold", [](In x) { return threshold(x); }},
      {"sparse_plus", sparse_plus},
      {"sparse_sigmoid", sparse_sigmoid},
      {"sparsemax", [](In x) { return sparsemax(x); }},
      {"glu", [](In x) { return glu(x); }},
  };
  return t;
}
}  // namespace
bool is_activation(std::string_view name) { return table().count(name); }
Tensor activation(std::string_view name, In x) {
  auto it = table().find(name);
  if (it != table().end()) return it->second(x);
  std::string names;
  for (auto& [n, f] : table()) names += (names.empty() ? "" : ", ") + std::string(n);
  fail({"activation is \"", name.substr(0, 80), "\", expected one of ", names});
}

}  // namespace evenflow
