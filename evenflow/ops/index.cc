// SPDX-License-Identifier: Apache-2.0
#include "evenflow/ops/index.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "evenflow/graph/op.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"

namespace evenflow {
namespace {
template <class F>
void with_indices(const View& v, F f) {
  if (v.dtype() == DType::i32)
    f(v.as<int32_t>());
  else
    f(v.as<int64_t>());
}
struct GatherAttrs {
  int64_t axis = 0;
  static void fields(auto& self, auto&& field) {
    field("axis", self.axis, "the axis that is indexed");
  }
};
int axis_of(const Shape& s, int64_t axis) {
  if (axis < -s.rank() || axis >= s.rank())
    fail({"axis is ", axis, ", expected ", -s.rank(), "..", s.rank() - 1, " for shape ", str(s)});
  return s.resolve(int(axis));
}
struct Extents {
  int64_t outer = 1, n, inner = 1;
};
Extents extents(const Shape& s, int d) {
  Extents e{1, s[d], 1};
  for (int i = 0; i < d; ++i) e.outer *= s[i];
  for (int i = d + 1; i < s.rank(); ++i) e.inner *= s[i];
  return e;
}
}  // namespace

OP(gather, GatherAttrs) {
  return {
      .summary = "x at indices along an axis",
      .inputs = {{"x", any_type, "[a..., n, b...]"}, {"indices", index_type, "[i...], 0..n-1"}},
      .outputs = {{"y", "[a..., i..., b...]"}},
      .shape = [](std::span<const Sig> in, const GatherAttrs& a) -> Sigs {
        const int d = axis_of(in[0].shape, a.axis);
        std::vector<int64_t> r(in[0].shape.begin(), in[0].shape.begin() + d);
        r.insert(r.end(), in[1].shape.begin(), in[1].shape.end());
        r.insert(r.end(), in[0].shape.begin() + d + 1, in[0].shape.end());
        return {{in[0].dtype, Shape(r)}};
      },
      .loop =
          [](const Call& c, const GatherAttrs& a) {
            const Extents e = extents(c.in[0].shape(), axis_of(c.in[0].shape(), a.axis));
            const int64_t bytes = e.inner * size_of(c.in[0].dtype()), m = c.in[1].count();
            with_indices(c.in[1], [&](auto* at) {
              for (int64_t i = 0; i < m; ++i)
                if (at[i] < 0 || at[i] >= e.n)
                  fail(Code::OutOfRange,
                       {"indices[", i, "] is ", int64_t(at[i]), ", expected 0..", e.n - 1});
              for (int64_t o = 0; o < e.outer; ++o)
                for (int64_t i = 0; i < m; ++i)
                  std::memcpy(c.out[0].as<char>() + (o * m + i) * bytes,
                              c.in[0].as<char>() + (o * e.n + at[i]) * bytes, size_t(bytes));
            });
          },
      .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                     const GatherAttrs& a) -> Tensors {
        const OpDef& op = find_op("scatter_add");
        const AttrValue axis = a.axis;
        return {apply(op, op.make_attrs({&axis, 1}), to_inputs({g[0], in[1], in[0]}))[0], Tensor()};
      },
      .cases = {{"rows", {{5, 3}, integers({4}, 0, 5)}},
                {"columns", {{3, 5}, integers({2, 2}, 0, 5)}, {-1}},
                {"empty", {{5, 3}, integers({0}, 0, 5)}},
                {"axis", {{5}, integers({2}, 0, 5)}, {1}, {.fails = "expected"}}}};
}
Tensor gather(In x, In indices, int64_t axis) {
  return call(gather_op(), {x, indices}, GatherAttrs{axis})[0];
}
OP(scatter_add, GatherAttrs) {
  return {.summary =
              "Adds updates at indices to zeros of the shape of like; repeated indices add up in "
              "their order",
          .inputs = {{"updates", numeric, "[a..., i..., b...]"},
                     {"indices", index_type, "[i...]"},
                     {"like", any_type.as('L'), "[a..., n, b...]; only its shape is read"}},
          .outputs = {{"y", "shape of like"}},
          .shape = [](std::span<const Sig> in, const GatherAttrs& a) -> Sigs {
            const int d = axis_of(in[2].shape, a.axis);
            std::vector<int64_t> r(in[2].shape.begin(), in[2].shape.begin() + d);
            r.insert(r.end(), in[1].shape.begin(), in[1].shape.end());
            r.insert(r.end(), in[2].shape.begin() + d + 1, in[2].shape.end());
            if (in[0].shape != Shape(r))
              fail({"updates is ", str(in[0]), ", expected shape ", str(Shape(r))});
            return {{in[0].dtype, in[2].shape}};
          },
          .loop =
              [](const Call& c, const GatherAttrs& a) {
                const Extents e = extents(c.out[0].shape(), axis_of(c.out[0].shape(), a.axis));
                const int64_t m = c.in[1].count();
                visit(c.out[0].dtype(), [&](auto zero) {
                  using T = decltype(zero);
                  std::vector<compute_t<T>> sum(size_t(c.out[0].count()));
                  with_indices(c.in[1], [&](auto* at) {
                    for (int64_t i = 0; i < m; ++i)
                      if (at[i] < 0 || at[i] >= e.n)
                        fail(Code::OutOfRange,
                             {"indices[", i, "] is ", int64_t(at[i]), ", expected 0..", e.n - 1});
                    for (int64_t o = 0; o < e.outer; ++o)
                      for (int64_t i = 0; i < m; ++i)
                        for (int64_t k = 0; k < e.inner; ++k)
                          sum[size_t((o * e.n + at[i]) * e.inner + k)] +=
                              compute_t<T>(c.in[0].as<T>()[(o * m + i) * e.inner + k]);
                  });
                  for (size_t i = 0; i < sum.size(); ++i)
                    c.out[0].as<T>()[i] = static_cast<T>(sum[i]);
                });
              },
          .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                         const GatherAttrs& a) -> Tensors {
            return {gather(g[0], in[1], a.axis), Tensor(), Tensor()};
          },
          .traits = {.shape_only = 4},
          .cases = {{"rows", {{4, 3}, integers({4}, 0, 5), {5, 3}}},
                    {"repeated", {{3, 6}, integers({6}, 0, 2), {3, 2}}, {-1}},
                    {"empty", {{0, 3}, integers({0}, 0, 5), {5, 3}}},
                    {"shape",
                     {{4, 3}, integers({3}, 0, 5), {5, 3}},
                     {},
                     {.fails = "expected shape [3,3]"}}}};
}

struct OneHotAttrs {
  int64_t depth = 0;
  double on = 1, off = 0;
  DType dtype = DType::f32;
  static void fields(auto& self, auto&& field) {
    field("depth", self.depth, "extent of the new last axis"),
        field("on", self.on, "value at the index"), field("off", self.off, "value elsewhere"),
        field("dtype", self.dtype, "element type");
  }
};
OP(one_hot, OneHotAttrs) {
  return {.summary = "`on` where the index is, `off` elsewhere, along a new last axis",
          .inputs = {{"indices", index_type, "[...]"}},
          .outputs = {{"y", "[..., depth]"}},
          .shape = [](std::span<const Sig> in, const OneHotAttrs& a) -> Sigs {
            if (a.depth < 0) fail({"depth is ", a.depth, ", expected at least 0"});
            std::vector<int64_t> r(in[0].shape.begin(), in[0].shape.end());
            r.push_back(a.depth);
            return {{a.dtype, Shape(r)}};
          },
          .loop =
              [](const Call& c, const OneHotAttrs& a) {
                auto number = [](auto zero, double v) {
                  using T = decltype(zero);
                  if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>)
                    return T(std::clamp(v == v ? v : 0, double(std::numeric_limits<T>::min()),
                                        double(std::numeric_limits<T>::max()) / 2));
                  else
                    return static_cast<T>(v);
                };
                visit(c.out[0].dtype(), [&](auto zero) {
                  using T = decltype(zero);
                  T* y = c.out[0].as<T>();
                  std::fill_n(y, c.out[0].count(), number(zero, a.off));
                  with_indices(c.in[0], [&](auto* at) {
                    for (int64_t i = 0; i < c.in[0].count(); ++i)
                      if (at[i] >= 0 && at[i] < a.depth)
                        y[i * a.depth + at[i]] = number(zero, a.on);
                  });
                });
              },
          .no_gradient = "an index does not change smoothly",
          .cases = {{"vector", {integers({5}, -1, 6)}, {5}},
                    {"matrix", {integers({2, 3}, 0, 4)}, {4, 2, -1}},
                    {"empty", {integers({0}, 0, 3)}, {3}},
                    {"depth", {integers({3}, 0, 3)}, {-1}, {.fails = "at least 0"}}}};
}
Tensor one_hot(In indices, int64_t depth, double on, double off, DType dtype) {
  return call(one_hot_op(), {indices}, OneHotAttrs{depth, on, off, dtype})[0];
}
OP(one_hot_like, NoAttrs) {
  return {.summary = "Ones at the labels, in the shape and type of like",
          .inputs = {{"labels", index_type, "[...]"},
                     {"like", numeric, "[..., classes]; only its type and shape are read"}},
          .outputs = {{"y", "like like"}},
          .shape = [](std::span<const Sig> in, const NoAttrs&) -> Sigs {
            const Shape& s = in[1].shape;
            if (!s.rank() || Shape(s.dims().first(size_t(s.rank() - 1))) != in[0].shape)
              fail({"labels is ", str(in[0]), ", expected the rows of like ", str(in[1])});
            return {in[1]};
          },
          .loop =
              [](const Call& c, const NoAttrs&) {
                const Shape& s = c.out[0].shape();
                const int64_t n = s[s.rank() - 1];
                visit(c.out[0].dtype(), [&](auto zero) {
                  using T = decltype(zero);
                  std::fill_n(c.out[0].as<T>(), c.out[0].count(), static_cast<T>(0));
                  with_indices(c.in[0], [&](auto* at) {
                    for (int64_t i = 0; i < c.in[0].count(); ++i)
                      if (at[i] >= 0 && at[i] < n)
                        c.out[0].as<T>()[i * n + at[i]] = static_cast<T>(1);
                  });
                });
              },
          .no_gradient = "an index does not change smoothly",
          .traits = {.shape_only = 2},
          .cases = {{"rows", {integers({5}, 0, 4), {5, 4}}},
                    {"empty", {integers({0}, 0, 4), {0, 4}}},
                    {"rank", {integers({5}, 0, 4), {5}}, {}, {.fails = "expected the rows"}}}};
}
Tensor one_hot_like(In labels, In like) { return call(one_hot_like_op(), {labels, like})[0]; }

struct TopKAttrs {
  int64_t k = 1;
  static void fields(auto& self, auto&& field) { field("k", self.k, "how many"); }
};
OP(top_k, TopKAttrs) {
  return {.summary = "The k largest of each row, descending; the lower index first among equals",
          .inputs = {{"x", numeric, "[..., n]"}},
          .outputs = {{"values", "[..., k]"}, {"indices", "i64 [..., k]"}},
          .shape = [](std::span<const Sig> in, const TopKAttrs& a) -> Sigs {
            if (!in[0].shape.rank()) fail({"x is ", str(in[0]), ", expected a last axis"});
            const int64_t n = in[0].shape.dim(-1);
            if (a.k < 0 || a.k > n)
              fail({"k is ", a.k, ", expected 0..", n, " (last extent of x ", str(in[0]), ")"});
            const Shape s = in[0].shape.with(-1, a.k);
            return {{in[0].dtype, s}, {DType::i64, s}};
          },
          .loop =
              [](const Call& c, const TopKAttrs& a) {
                const int64_t n = c.in[0].shape().dim(-1), rows = n ? c.in[0].count() / n : 0;
                if (!rows || !a.k) return;
                std::vector<int64_t> order(static_cast<size_t>(n));
                visit(c.in[0].dtype(), [&](auto zero) {
                  using T = decltype(zero);
                  using C = compute_t<T>;
                  for (int64_t r = 0; r < rows; ++r) {
                    const T* x = c.in[0].as<T>() + r * n;
                    std::iota(order.begin(), order.end(), 0);
                    std::partial_sort(
                        order.begin(), order.begin() + a.k, order.end(), [&](int64_t i, int64_t j) {
                          const C p = C(x[i]), q = C(x[j]);
                          const bool pn = p != p,
                                     qn = q != q;  // NaN is largest: the order stays strict
                          if (pn != qn) return pn;
                          return !pn && p != q ? p > q : i < j;
                        });
                    for (int64_t k = 0; k < a.k; ++k)
                      c.out[0].as<T>()[r * a.k + k] = x[order[size_t(k)]],
                                                 c.out[1].as<int64_t>()[r * a.k + k] =
                                                     order[size_t(k)];
                  }
                });
              },
          .gradient = [](const Tensors& in, const Tensors& out, const Tensors& g,
                         const TopKAttrs&) -> Tensors {
            if (!g[0]) return {Tensor()};
            // Each value goes back to its place: sum over k of g_k at index_k.
            Tensor hot =
                cast(one_hot(out[1], in[0].sig().shape.dim(-1), 1, 0, DType::f32), g[0].dtype());
            return {reduce_sum(hot * expand_dims(g[0], -1), {-2})};
          },
          .cases = {{"rows", {{5, 10}}, {3}},
                    {"ties", {integers({3, 7}, 0, 3)}, {4}, {.no_gradient = true}},
                    {"empty", {{0, 5}}, {2}},
                    {"k", {{3, 4}}, {5}, {.fails = "expected 0..4"}}}};
}
TopK top_k(In x, int64_t k) {
  Tensors r = call(top_k_op(), {x}, TopKAttrs{k});
  return {r[0], r[1]};
}

}  // namespace evenflow
