// SPDX-License-Identifier: Apache-2.0
#include "evenflow/ops/reduce.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "evenflow/graph/op.h"
#include "evenflow/ops/compare.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/reduce_attrs.h"
#include "evenflow/ops/shape.h"

namespace evenflow {
namespace {

// f(i, j) for each element i of a row-major `from`, and the element j of `to` that it falls on:
// extents of `to` are 1 or those of `from`.
template <class F>
void walk_down(const Shape& from, const std::vector<bool>& reduced, F f) {
  std::array<int64_t, kMaxRank> stride{}, at{};
  int64_t k = 1, j = 0;
  for (int d = from.rank(); d--;)
    if (!reduced[size_t(d)]) stride[size_t(d)] = k, k *= from[d];
  for (int64_t i = 0, n = from.count(); i < n; ++i) {
    f(i, j);
    for (int d = from.rank(); d--;) {
      j += stride[size_t(d)];
      if (++at[size_t(d)] < from[d]) break;
      j -= stride[size_t(d)] * from[d];
      at[size_t(d)] = 0;
    }
  }
}
// The reference of all reductions: one accumulator of the compute type (f64 for floats) for each
// result.
template <class Start, class Step, class End>
void reduce_loop(const Call& c, const std::vector<bool>& reduced, Start start, Step step, End end) {
  visit(c.in[0].dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = std::conditional_t<std::is_floating_point_v<compute_t<T>>, double, int64_t>;
    std::vector<A> acc(size_t(c.out[0].count()), start(A(), T()));
    const T* x = c.in[0].as<T>();
    walk_down(c.in[0].shape(), reduced, [&](int64_t i, int64_t j) {
      acc[size_t(j)] = step(acc[size_t(j)], A(compute_t<T>(x[i])));
    });
    const double n = c.out[0].count() ? double(c.in[0].count()) / double(c.out[0].count()) : 0;
    for (size_t j = 0; j < acc.size(); ++j) c.out[0].as<T>()[j] = static_cast<T>(end(acc[j], n));
  });
}
auto zero_start = [](auto a, auto) { return decltype(a)(0); };
auto one_start = [](auto a, auto) { return decltype(a)(1); };
auto lowest_start = [](auto a, auto t) {
  using A = decltype(a);
  using T = decltype(t);
  if constexpr (std::is_floating_point_v<A>)
    return -std::numeric_limits<A>::infinity();
  else
    return A(std::numeric_limits<T>::lowest());
};
auto highest_start = [](auto a, auto t) {
  using A = decltype(a);
  using T = decltype(t);
  if constexpr (std::is_floating_point_v<A>)
    return std::numeric_limits<A>::infinity();
  else
    return A(std::numeric_limits<T>::max());
};
auto as_is = [](auto a, double) { return a; };
std::vector<Op<ReduceAttrs>::Case> reduce_cases(bool ties) {
  std::vector<Op<ReduceAttrs>::Case> c{{"all", {{3, 4}}},
                                       {"rows", {{3, 63}}, {{-1}}},
                                       {"columns", {{33, 5}}, {{0}, true}},
                                       {"middle", {{2, 3, 4}}, {{1}}},
                                       {"outside", {{2, 3, 4}}, {{0, 2}, true}},
                                       {"scalar", {{}}},
                                       {"empty", {{0, 3}}, {{-1}}},
                                       {"bench", {{32, 28, 28, 64}}, {{0, 1, 2}}, {.bench = true}},
                                       {"axis", {{3, 4}}, {{2}}, {.fails = "expected -2..1"}},
                                       {"twice", {{3, 4}}, {{1, -1}}, {.fails = "twice"}}};
  (void)ties;
  return c;
}
Tensor expanded(const Tensor& small, const Tensor& x, const ReduceAttrs& a, bool mean = false) {
  Tensor t = small;
  if (!a.keepdims) {
    const auto reduced =
        reduced_axes(x.sig().shape, a.axes);  // axes, not extents: a trace serves any batch
    for (int d = 0; d < x.rank(); ++d)
      if (reduced[size_t(d)]) t = expand_dims(t, d);
  }
  return expand_like(t, x, mean);
}
}  // namespace

std::vector<bool> reduced_axes(const Shape& s, const std::vector<int64_t>& axes) {
  std::vector<bool> r(size_t(s.rank()), axes.empty());
  for (int64_t a : axes) {
    if (a < -kMaxRank || a >= kMaxRank)
      fail({"axes hold ", a, ", expected ", -s.rank(), "..", s.rank() - 1, " for shape ", str(s)});
    const size_t d = size_t(s.resolve(int(a), "axes"));
    if (r[d]) fail({"axes hold ", a, " twice"});
    r[d] = true;
  }
  return r;
}
Sigs reduced_sigs(std::span<const Sig> in, const ReduceAttrs& a) {
  const auto reduced = reduced_axes(in[0].shape, a.axes);
  std::vector<int64_t> d;
  for (int i = 0; i < in[0].shape.rank(); ++i) {
    if (!reduced[size_t(i)])
      d.push_back(in[0].shape[i]);
    else if (a.keepdims)
      d.push_back(1);
  }
  return {{in[0].dtype, Shape(d)}};
}

// Cut along the batch where that axis stays.
static std::optional<BatchRule> keeps_rows(const CallSig& c, const ReduceAttrs& a) {
  if (!c.in[0].shape.rank() || reduced_axes(c.in[0].shape, a.axes)[0]) return {};
  return BatchRule{};
}

#define REDUCE(name, types, text, start, step, end, ...)                               \
  OP(name, ReduceAttrs) {                                                              \
    return {.summary = text,                                                           \
            .inputs = {{"x", types, "[...]"}},                                         \
            .outputs = {{"y", "x without the axes, or with extent 1"}},                \
            .shape = reduced_sigs,                                                     \
            .loop =                                                                    \
                [](const Call& c, const ReduceAttrs& attrs) {                          \
                  reduce_loop(                                                         \
                      c, reduced_axes(c.in[0].shape(), attrs.axes), start,             \
                      [](auto a, auto b) { return step; }, end);                       \
                },                                                                     \
            .gradient = [](const Tensors& in, const Tensors& out, const Tensors& grad, \
                           const ReduceAttrs& attrs) -> Tensors {                      \
              const Tensor &x = in[0], &y = out[0], &g = grad[0];                      \
              (void)x, (void)y;                                                        \
              return {__VA_ARGS__};                                                    \
            },                                                                         \
            .traits = {.keeps_float32 = true},                                         \
            .batch = keeps_rows,                                                       \
            .cases = reduce_cases(false)};                                             \
  }                                                                                    \
  Tensor name(In x, Axes axes, bool keepdims) {                                        \
    return call(name##_op(), {x}, ReduceAttrs{axes, keepdims})[0];                     \
  }
static auto average = [](auto a, double n) { return double(a) / n; };
REDUCE(reduce_sum, numeric, "Sum", zero_start, a + b, as_is, expanded(g, x, attrs))
REDUCE(reduce_mean, floating, "Mean; of nothing: NaN", zero_start, a + b, average,
       expanded(g, x, attrs, true))
REDUCE(reduce_prod, numeric, "Product", one_start, a* b, as_is, expanded(g* y, x, attrs) / x)
// The gradient is shared equally among the elements that are largest (TensorFlow's rule).
static Tensor shared(const Tensor& g, const Tensor& x, const Tensor& y, const ReduceAttrs& a) {
  Tensor hit = cast(equal(x, expanded(y, x, a)), g.dtype());
  return expanded(g / reduce_sum(hit, a.axes, a.keepdims), x, a) * hit;
}
REDUCE(reduce_max, numeric, "Largest element, NaN if there is one; of nothing: the lowest value",
       lowest_start, (b > a || b != b ? b : a), as_is, shared(g, x, y, attrs))
REDUCE(reduce_min, numeric, "Smallest element, NaN if there is one; of nothing: the highest value",
       highest_start, (b < a || b != b ? b : a), as_is, shared(g, x, y, attrs))
#undef REDUCE
#define REDUCE_BOOL(name, text, start, step)                                              \
  OP(name, ReduceAttrs) {                                                                 \
    return {.summary = text,                                                              \
            .inputs = {{"x", boolean_only, "[...]"}},                                     \
            .outputs = {{"y", "x without the axes, or with extent 1"}},                   \
            .shape = reduced_sigs,                                                        \
            .loop =                                                                       \
                [](const Call& c, const ReduceAttrs& attrs) {                             \
                  reduce_loop(                                                            \
                      c, reduced_axes(c.in[0].shape(), attrs.axes), start,                \
                      [](auto a, auto b) { return decltype(a)(step); }, as_is);           \
                },                                                                        \
            .no_gradient = "a truth value does not change smoothly",                      \
            .cases = {{"all", {integers({3, 4}, 0, 2)}},                                  \
                      {"rows", {integers({3, 63}, 0, 2)}, {{-1}}},                        \
                      {"columns", {integers({33, 5}, 0, 2)}, {{0}, true}},                \
                      {"empty", {integers({0, 3}, 0, 2)}, {{-1}}},                        \
                      {"axis", {integers({3, 4}, 0, 2)}, {{5}}, {.fails = "expected"}}}}; \
  }                                                                                       \
  Tensor name(In x, Axes axes, bool keepdims) {                                           \
    return call(name##_op(), {x}, ReduceAttrs{axes, keepdims})[0];                        \
  }
REDUCE_BOOL(reduce_any, "Whether any element holds", zero_start, a || b)
REDUCE_BOOL(reduce_all, "Whether all elements hold", one_start, a&& b)
#undef REDUCE_BOOL

OP(logsumexp, ReduceAttrs) {
  return {.summary = "log(sum(exp(x))), stable",
          .inputs = {{"x", floating, "[...]"}},
          .outputs = {{"y", "x without the axes, or with extent 1"}},
          .shape = reduced_sigs,
          .reference = [](const Tensors& in, const ReduceAttrs& a) -> Tensors {
            Tensor top = stop_gradient(reduce_max(in[0], a.axes, true)),
                   safe = select(is_finite(top), top, fill_like(top, 0));
            Tensor y = log(reduce_sum(exp(in[0] - expand_like(safe, in[0])), a.axes, true)) + safe;
            return {a.keepdims
                        ? y
                        : reduce_sum(y, a.axes, false)};  // one element each: only the axes go
          },
          .gradient = [](const Tensors& in, const Tensors& out, const Tensors& g,
                         const ReduceAttrs& a) -> Tensors {
            return {exp(in[0] - expanded(out[0], in[0], a)) * expanded(g[0], in[0], a)};
          },
          .traits = {.keeps_float32 = true},
          .cases = {{"all", {{3, 4}}},
                    {"rows", {{3, 63}}, {{-1}}},
                    {"columns", {{33, 5}}, {{0}, true}},
                    {"large", {normal({3, 4}, 1000, 3)}, {{1}}, {.no_gradient = true}},
                    {"empty", {{0, 3}}, {{-1}}}}};
}
Tensor logsumexp(In x, Axes axes, bool keepdims) {
  return call(logsumexp_op(), {x}, ReduceAttrs{axes, keepdims})[0];
}

// ---- where the extreme is
// -------------------------------------------------------------------------------------------------
struct ArgAttrs {
  int64_t axis = -1;
  static void fields(auto& self, auto&& field) { field("axis", self.axis, "the axis to search"); }
};
static int checked_axis(const Shape& s, int64_t axis) {
  if (axis < -kMaxRank || axis >= kMaxRank)
    fail({"axis is ", axis, ", expected ", -s.rank(), "..", s.rank() - 1, " for shape ", str(s)});
  return s.resolve(int(axis));
}
static Sigs arg_sigs(std::span<const Sig> in, const ArgAttrs& a) {
  const int d = checked_axis(in[0].shape, a.axis);
  if (in[0].shape[d] == 0)
    fail({"x is ", str(in[0]), ", expected at least one element on axis ", d});
  std::vector<int64_t> r(in[0].shape.begin(), in[0].shape.end());
  r.erase(r.begin() + d);
  return {{DType::i64, Shape(r)}};
}
template <class Better>
static void arg_loop(const Call& c, const ArgAttrs& a, Better better) {
  const Shape& s = c.in[0].shape();
  const int d = s.resolve(int(a.axis));
  int64_t inner = 1;
  for (int i = d + 1; i < s.rank(); ++i) inner *= s[i];
  visit(c.in[0].dtype(), [&](auto zero) {
    using T = decltype(zero);
    using C = compute_t<T>;
    for (int64_t o = 0, n = c.out[0].count(); o < n; ++o) {
      const T* x = c.in[0].as<T>() + o / inner * s[d] * inner + o % inner;
      int64_t best = 0;
      for (int64_t k = 1; k < s[d]; ++k)
        if (better(C(x[k * inner]), C(x[best * inner]))) best = k;
      c.out[0].as<int64_t>()[o] = best;
    }
  });
}
#define ARG(name, text, body)                                                         \
  OP(name, ArgAttrs) {                                                                \
    return {.summary = text,                                                          \
            .inputs = {{"x", numeric, "[...]"}},                                      \
            .outputs = {{"index", "i64, x without the axis"}},                        \
            .shape = arg_sigs,                                                        \
            .loop =                                                                   \
                [](const Call& c, const ArgAttrs& attrs) {                            \
                  arg_loop(c, attrs, [](auto a, auto b) { return body; });            \
                },                                                                    \
            .no_gradient = "an index does not change smoothly",                       \
            .cases = {{"rows", {{5, 63}}},                                            \
                      {"columns", {{33, 3}}, {0}},                                    \
                      {"ties", {integers({7, 5}, 0, 2)}},                             \
                      {"empty", {{0, 3}}},                                            \
                      {"nothing", {{3, 0}}, {}, {.fails = "at least one element"}}}}; \
  }                                                                                   \
  Tensor name(In x, int64_t axis) { return call(name##_op(), {x}, ArgAttrs{axis})[0]; }
ARG(argmax, "Index of the largest element along an axis; the first of ties, NaN is largest",
    a > b || (a != a && b == b))
ARG(argmin, "Index of the smallest element along an axis; the first of ties, NaN is smallest",
    a < b || (a != a && b == b))
#undef ARG

// ---- like
// -------------------------------------------------------------------------------------------------------------------
static void check_like(const Sig& large, const Sig& small, std::string_view large_name,
                       std::string_view small_name) {
  if (broadcast(large.shape, small.shape) != large.shape)
    fail({small_name, " is ", str(small), ", expected a shape that broadcasts to ", large_name, " ",
          str(large)});
}
// Which axes of `large` were made from an extent of 1, or from none.
std::vector<bool> broadcast_axes(const Shape& large, const Shape& small) {
  std::vector<bool> r(size_t(large.rank()));
  const int lead = large.rank() - small.rank();
  for (int i = 0; i < large.rank(); ++i)
    r[size_t(i)] = i < lead || (small[i - lead] == 1 && large[i] != 1);
  return r;
}
OP(sum_like, LikeAttrs) {
  return {.summary = "Sums x over the axes on which like was broadcast to the shape of x",
          .inputs = {{"x", numeric, "[...]"},
                     {"like", any_type.as('L'), "broadcasts to x; only its shape is read"}},
          .outputs = {{"y", "shape of like, type of x"}},
          .shape = [](std::span<const Sig> in, const LikeAttrs&) -> Sigs {
            check_like(in[0], in[1], "x", "like");
            return {{in[0].dtype, in[1].shape}};
          },
          .loop =
              [](const Call& c, const LikeAttrs& a) {
                reduce_loop(
                    c, broadcast_axes(c.in[0].shape(), c.in[1].shape()), zero_start,
                    [](auto s, auto x) { return s + x; },
                    [&](auto s, double n) { return a.mean && n ? decltype(s)(double(s) / n) : s; });
              },
          .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                         const LikeAttrs& a) -> Tensors {
            return {expand_like(g[0], in[0], a.mean), Tensor()};
          },
          .traits = {.alias = true, .shape_only = 2, .keeps_float32 = true},
          .cases = {{"same", {{3, 4}, {3, 4}}},
                    {"row", {{33, 5}, {5}}},
                    {"column", {{33, 5}, {33, 1}}},
                    {"scalar", {{3, 4}, {}}},
                    {"mean", {{2, 3, 4}, {3, 1}}, {true}},
                    {"empty", {{0, 3}, {3}}},
                    {"mismatch", {{3, 4}, {3}}, {}, {.fails = "do not broadcast"}}}};
}
OP(expand_like, LikeAttrs) {
  return {
      .summary =
          "Broadcasts x to the shape of like; with mean, divides by how often an element is "
          "repeated",
      .inputs = {{"x", any_type, "broadcasts to like"},
                 {"like", any_type.as('L'), "[...]; only its shape is read"}},
      .outputs = {{"y", "shape of like, type of x"}},
      .shape = [](std::span<const Sig> in, const LikeAttrs& a) -> Sigs {
        check_like(in[1], in[0], "like", "x");
        if (a.mean && !is_floating(in[0].dtype))
          fail({"x is ", str(in[0]), ", expected a floating type with mean"});
        return {{in[0].dtype, in[1].shape}};
      },
      .loop =
          [](const Call& c, const LikeAttrs& a) {
            const double n =
                a.mean && c.in[0].count() ? double(c.out[0].count()) / double(c.in[0].count()) : 1;
            visit(c.in[0].dtype(), [&](auto zero) {
              using T = decltype(zero);
              walk_down(c.out[0].shape(), broadcast_axes(c.out[0].shape(), c.in[0].shape()),
                        [&](int64_t i, int64_t j) {
                          if constexpr (std::is_floating_point_v<compute_t<T>>)
                            c.out[0].as<T>()[i] =
                                static_cast<T>(compute_t<T>(c.in[0].as<T>()[j]) / compute_t<T>(n));
                          else
                            c.out[0].as<T>()[i] = c.in[0].as<T>()[j];
                        });
            });
          },
      .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                     const LikeAttrs& a) -> Tensors {
        return {sum_like(g[0], in[0], a.mean), Tensor()};
      },
      .traits = {.alias = true, .shape_only = 2},
      .batch =
          [](const CallSig& c, const LikeAttrs&) {
            return c.in[0].shape.rank() == c.out[0].shape.rank() ? batch_if_leading(c, LikeAttrs())
                                                                 : std::nullopt;
          },
      .cases = {{"same", {{3, 4}, {3, 4}}},
                {"row", {{5}, {33, 5}}},
                {"column", {{33, 1}, {33, 5}}},
                {"scalar", {{}, {3, 4}}},
                {"mean", {normal({3, 1}), {2, 3, 4}}, {true}, {}},
                {"empty", {{3}, {0, 3}}},
                {"mismatch", {{3}, {3, 4}}, {}, {.fails = "do not broadcast"}}}};
}
Tensor sum_like(In x, In like, bool mean) {
  return call(sum_like_op(), {x, like}, LikeAttrs{mean})[0];
}
Tensor expand_like(In x, In like, bool mean) {
  return call(expand_like_op(), {x, like}, LikeAttrs{mean})[0];
}

struct FillAttrs {
  double value = 0;
  static void fields(auto& self, auto&& field) { field("value", self.value, "the constant"); }
};
OP(fill_like, FillAttrs) {
  return {.summary = "A constant of the type and shape of like",
          .inputs = {{"like", any_type, "[...]; only its type and shape are read"}},
          .outputs = {{"y", "like like"}},
          .shape = same_as_first,
          .loop =
              [](const Call& c, const FillAttrs& a) {
                visit(c.out[0].dtype(), [&](auto zero) {
                  using T = decltype(zero);
                  T v;
                  if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>)
                    v = a.value >= double(std::numeric_limits<T>::max())
                            ? std::numeric_limits<T>::max()
                        : a.value <= double(std::numeric_limits<T>::min())
                            ? std::numeric_limits<T>::min()
                        : a.value == a.value ? T(a.value)
                                             : T(0);
                  else
                    v = static_cast<T>(a.value);
                  std::fill_n(c.out[0].as<T>(), c.out[0].count(), v);
                });
              },
          .no_gradient = "a constant",
          .traits = {.shape_only = 1},
          .cases = {{"ones", {{3, 4}}, {1}}, {"zeros", {{63}}}, {"empty", {{0, 3}}, {2}}}};
}
Tensor fill_like(In like, double value) {
  return call(fill_like_op(), {like}, FillAttrs{value})[0];
}

OP(count_like, NoAttrs) {
  return {.summary = "How many elements x has for one of like",
          .inputs = {{"x", any_type, "[...]; only its shape is read"},
                     {"like", any_type.as('L'), "[...]; only its shape is read"}},
          .outputs = {{"n", "f32 []"}},
          .shape = [](std::span<const Sig>, const NoAttrs&) -> Sigs {
            return {{DType::f32, {}}};
          },
          .loop =
              [](const Call& c, const NoAttrs&) {
                *c.out[0].as() =
                    c.in[1].sig->shape.count()
                        ? float(c.in[0].sig->shape.count() / c.in[1].sig->shape.count())
                        : 0.f;
              },
          .no_gradient = "a count",
          .traits = {.shape_only = 3},
          .cases = {{"row", {{33, 5}, {5}}}, {"empty", {{0, 5}, {5}}}, {"none", {{5}, {0}}}}};
}
Tensor count_like(In x, In like) { return call(count_like_op(), {x, like})[0]; }

OP(all_finite, NoAttrs) {
  return {.summary = "Whether every element of every input is finite",
          .inputs = {{"x", floating.as(0), "[...]"}},
          .outputs = {{"ok", "bool []"}},
          .shape = [](std::span<const Sig>, const NoAttrs&) -> Sigs {
            return {{DType::boolean, {}}};
          },
          .loop =
              [](const Call& c, const NoAttrs&) {
                bool ok = true;
                for (auto& v : c.in)
                  visit(v.dtype(), [&](auto zero) {
                    using T = decltype(zero);
                    using C = compute_t<T>;
                    // x - x is 0 unless x is infinite or NaN: a sum the compiler can vectorise.
                    if constexpr (std::is_floating_point_v<C>) {
                      const T* x = v.as<T>();
                      int64_t bad = 0;
                      for (int64_t i = 0, n = v.count(); i < n; ++i)
                        bad += !(C(x[i]) - C(x[i]) == 0);
                      ok &= bad == 0;
                    }
                  });
                *c.out[0].as<bool>() = ok;
              },
          .no_gradient = "a truth value does not change smoothly",
          .traits = {.variadic = true},
          .cases = {{"two", {{3, 4}, {5}}},
                    {"inf", {values({3}, {0, INFINITY, 1})}},
                    {"nan", {{2}, values({2}, {NAN, 1})}},
                    {"empty", {{0, 3}}}}};
}
Tensor all_finite(const Tensors& xs) { return call(all_finite_op(), to_inputs(xs))[0]; }

Moments moments(In given, Axes axes, bool keepdims) {
  const Tensor original = given.as();
  const DType type = original.dtype();
  // A mean that is rounded to 16 bits would be in every deviation.
  const Tensor x =
      type == DType::f16 || type == DType::bf16 ? cast(original, DType::f32) : original;
  const Tensor mean = reduce_mean(x, axes, true);
  const Tensor variance = reduce_mean(square(x - expand_like(mean, x)), axes, keepdims);
  return {cast(keepdims ? mean : reshape_like(mean, variance), type), cast(variance, type)};
}

}  // namespace evenflow
