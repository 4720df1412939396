// SPDX-License-Identifier: Apache-2.0
#include "evenflow/ops/shape.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "evenflow/core/parallel.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape_rules.h"

namespace evenflow {
namespace {
void copy_all(const Call& c) {
  std::memcpy(c.out[0].data, c.in[0].data, size_t(c.out[0].sig->bytes()));
}
}  // namespace

// ---- the same bytes in another shape
// -----------------------------------------------------------------------------------
struct ReshapeAttrs {
  std::vector<int64_t> shape = {};
  static void fields(auto& self, auto&& field) {
    field("shape", self.shape, "new extents; one may be -1");
  }
};
OP(reshape, ReshapeAttrs) {
  return {.summary = "The elements in another shape",
          .inputs = {{"x", any_type, "[...]"}},
          .outputs = {{"y", "x in `shape`"}},
          .shape = [](std::span<const Sig> in, const ReshapeAttrs& a) -> Sigs {
            int64_t known = 1, open = -1;
            if (a.shape.size() > size_t(kMaxRank))
              fail({"shape has ", a.shape.size(), " extents, expected at most ", kMaxRank});
            for (size_t i = 0; i < a.shape.size(); ++i) {
              if (a.shape[i] >= 0)
                known = checked_mul(known, a.shape[i]);
              else if (a.shape[i] != -1)
                fail({"shape holds ", a.shape[i], ", expected -1 or an extent"});
              else if (open >= 0)
                fail({"shape holds -1 twice"});
              else
                open = int64_t(i);
            }
            std::vector<int64_t> d = a.shape;
            const int64_t n = in[0].shape.count();
            if (open >= 0 && known && n % known == 0)
              d[size_t(open)] = n / known;
            else if (open >= 0 || known != n)
              fail({"x is ", str(in[0]), " with ", n, " elements, which do not fit shape ",
                    str(AttrValue(a.shape))});
            return {{in[0].dtype, Shape(d)}};
          },
          .loop = [](const Call& c, const ReshapeAttrs&) { copy_all(c); },
          .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                         const ReshapeAttrs&) -> Tensors { return {reshape_like(g[0], in[0])}; },
          .traits = {.reshape = true},
          .cases = {{"matrix", {{3, 4}}, {{2, 6}}},
                    {"open", {{3, 4, 5}}, {{-1, 5}}},
                    {"scalar", {{1, 1}}, {{}}},
                    {"empty", {{0, 3}}, {{-1, 3}}},
                    {"mismatch", {{3, 4}}, {{5, -1}}, {.fails = "do not fit"}}}};
}
Tensor reshape(In x, std::vector<int64_t> shape) {
  return call(reshape_op(), {x}, ReshapeAttrs{std::move(shape)})[0];
}

OP(reshape_like, NoAttrs) {
  return {.summary = "The elements in the shape of like",
          .inputs = {{"x", any_type, "[...]"},
                     {"like", any_type.as('L'), "as many elements; only its shape is read"}},
          .outputs = {{"y", "x in the shape of like"}},
          .shape = [](std::span<const Sig> in, const NoAttrs&) -> Sigs {
            if (in[0].shape.count() != in[1].shape.count())
              fail({"like is ", str(in[1]), ", expected ", in[0].shape.count(), " elements as x ",
                    str(in[0])});
            return {{in[0].dtype, in[1].shape}};
          },
          .loop = [](const Call& c, const NoAttrs&) { copy_all(c); },
          .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                         const NoAttrs&) -> Tensors {
            return {reshape_like(g[0], in[0]), Tensor()};
          },
          .traits = {.reshape = true, .shape_only = 2},
          .cases = {{"matrix", {{3, 4}, {2, 6}}},
                    {"empty", {{0, 3}, {3, 0}}},
                    {"mismatch", {{3, 4}, {5}}, {}, {.fails = "expected 12 elements"}}}};
}
Tensor reshape_like(In x, In like) { return call(reshape_like_op(), {x, like})[0]; }

OP(flatten, AxisAttrs) {
  return {.summary = "Makes the extents from axis on one",
          .inputs = {{"x", any_type, "[a..., b...]"}},
          .outputs = {{"y", "[a..., product of b]"}},
          .shape = [](std::span<const Sig> in, const AxisAttrs& a) -> Sigs {
            const int d = axis_of(in[0].shape, a.axis, 1);
            if (d >= kMaxRank) fail({"axis is ", a.axis, ", expected below ", kMaxRank});
            std::vector<int64_t> r(in[0].shape.begin(), in[0].shape.begin() + d);
            int64_t n = 1;
            for (int i = d; i < in[0].shape.rank(); ++i) n *= in[0].shape[i];
            r.push_back(n);
            return {{in[0].dtype, Shape(r)}};
          },
          .loop = [](const Call& c, const AxisAttrs&) { copy_all(c); },
          .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                         const AxisAttrs&) -> Tensors { return {reshape_like(g[0], in[0])}; },
          .traits = {.reshape = true},
          .batch = batch_if_leading<AxisAttrs>,
          .cases = {{"image", {{3, 4, 5}}, {1}},
                    {"vector", {{3}}, {1}},
                    {"empty", {{0, 4, 5}}, {1}},
                    {"axis", {{3}}, {3}, {.fails = "expected"}}}};
}
Tensor flatten(In x, int64_t axis) { return call(flatten_op(), {x}, AxisAttrs{axis})[0]; }
OP(expand_dims, AxisAttrs) {
  return {.summary = "Inserts an axis of extent 1",
          .inputs = {{"x", any_type, "[...]"}},
          .outputs = {{"y", "x with a further axis"}},
          .shape = [](std::span<const Sig> in, const AxisAttrs& a) -> Sigs {
            std::vector<int64_t> r(in[0].shape.begin(), in[0].shape.end());
            r.insert(r.begin() + axis_of(in[0].shape, a.axis, 1), 1);
            return {{in[0].dtype, Shape(r)}};
          },
          .loop = [](const Call& c, const AxisAttrs&) { copy_all(c); },
          .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                         const AxisAttrs&) -> Tensors { return {reshape_like(g[0], in[0])}; },
          .traits = {.reshape = true},
          .batch = batch_if_leading<AxisAttrs>,
          .cases = {{"last", {{3, 4}}},
                    {"first", {{3}}, {0}},
                    {"empty", {{0, 3}}, {1}},
                    {"axis", {{3}}, {4}, {.fails = "expected"}}}};
}
Tensor expand_dims(In x, int64_t axis) { return call(expand_dims_op(), {x}, AxisAttrs{axis})[0]; }

struct AxesAttrs {
  std::vector<int64_t> axes = {};
  static void fields(auto& self, auto&& field) { field("axes", self.axes, "the axes"); }
};
OP(squeeze, AxesAttrs) {
  return {.summary = "Drops axes of extent 1",
          .inputs = {{"x", any_type, "[...]"}},
          .outputs = {{"y", "x without the axes"}},
          .shape = [](std::span<const Sig> in, const AxesAttrs& a) -> Sigs {
            std::vector<bool> drop(size_t(in[0].shape.rank()));
            for (int64_t axis : a.axes) {
              const int d = axis_of(in[0].shape, axis);
              if (in[0].shape[d] != 1)
                fail({"x is ", str(in[0]), ", expected extent 1 on axis ", d});
              drop[size_t(d)] = true;
            }
            std::vector<int64_t> r;
            for (int i = 0; i < in[0].shape.rank(); ++i)
              if (!drop[size_t(i)]) r.push_back(in[0].shape[i]);
            return {{in[0].dtype, Shape(r)}};
          },
          .loop = [](const Call& c, const AxesAttrs&) { copy_all(c); },
          .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                         const AxesAttrs&) -> Tensors { return {reshape_like(g[0], in[0])}; },
          .traits = {.reshape = true},
          .batch = batch_if_leading<AxesAttrs>,
          .cases = {{"last", {{3, 1}}, {{-1}}},
                    {"two", {{1, 3, 1}}, {{0, 2}}},
                    {"empty", {{0, 1}}, {{1}}},
                    {"extent", {{3, 2}}, {{1}}, {.fails = "expected extent 1"}}}};
}
Tensor squeeze(In x, std::vector<int64_t> axes) {
  return call(squeeze_op(), {x}, AxesAttrs{std::move(axes)})[0];
}

// ---- order of axes
// ----------------------------------------------------------------------------------------------------------
struct TransposeAttrs {
  std::vector<int64_t> perm = {};
  static void fields(auto& self, auto&& field) {
    field("perm", self.perm, "axis of x for each axis of the result; none: reversed");
  }
};
static std::vector<int> permutation(const Shape& s, const std::vector<int64_t>& perm) {
  std::vector<int> p;
  if (perm.empty())
    for (int i = s.rank(); i--;) p.push_back(i);
  else {
    if (perm.size() != size_t(s.rank()))
      fail({"perm has ", perm.size(), " axes, expected ", s.rank(), " for shape ", str(s)});
    std::vector<bool> seen(perm.size());
    for (int64_t axis : perm) {
      p.push_back(axis_of(s, axis));
      if (seen[size_t(p.back())]) fail({"perm holds axis ", axis, " twice"});
      seen[size_t(p.back())] = true;
    }
  }
  return p;
}
OP(transpose, TransposeAttrs) {
  return {.summary = "Axes in another order",
          .inputs = {{"x", any_type, "[...]"}},
          .outputs = {{"y", "x with axes permuted"}},
          .shape = [](std::span<const Sig> in, const TransposeAttrs& a) -> Sigs {
            std::vector<int64_t> r;
            for (int d : permutation(in[0].shape, a.perm)) r.push_back(in[0].shape[d]);
            return {{in[0].dtype, Shape(r)}};
          },
          .loop =
              [](const Call& c, const TransposeAttrs& a) {
                const auto p = permutation(c.in[0].shape(), a.perm);
                const auto strides = c.in[0].shape().strides();
                const Shape& s = c.out[0].shape();
                visit(c.in[0].dtype(), [&](auto zero) {
                  using T = decltype(zero);
                  const T* x = c.in[0].as<T>();
                  T* y = c.out[0].as<T>();
                  const int64_t inner = s.rank() ? s[s.rank() - 1] : 1,
                                step = s.rank() ? strides[size_t(p.back())] : 1;
                  walk_rows(s, [&](int64_t i, const auto& at) {
                    int64_t j = 0;
                    for (int d = 0; d + 1 < s.rank(); ++d)
                      j += at[size_t(d)] * strides[size_t(p[size_t(d)])];
                    for (int64_t k = 0; k < inner; ++k) y[i + k] = x[j + k * step];
                  });
                });
              },
          .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                         const TransposeAttrs& a) -> Tensors {
            const auto p = permutation(in[0].sig().shape, a.perm);
            std::vector<int64_t> back(p.size());
            for (size_t i = 0; i < p.size(); ++i) back[size_t(p[i])] = int64_t(i);
            return {transpose(g[0], back)};
          },
          .cases = {{"matrix", {{3, 4}}},
                    {"nchw", {{2, 5, 4, 3}}, {{0, 3, 1, 2}}},
                    {"empty", {{0, 3}}, {{1, 0}}},
                    {"bench", {{32, 28, 28, 64}}, {{0, 3, 1, 2}}, {.bench = true}},
                    {"twice", {{3, 4}}, {{0, 0}}, {.fails = "twice"}}}};
}
Tensor transpose(In x, std::vector<int64_t> perm) {
  return call(transpose_op(), {x}, TransposeAttrs{std::move(perm)})[0];
}

struct MultiplesAttrs {
  std::vector<int64_t> multiples = {};
  static void fields(auto& self, auto&& field) {
    field("multiples", self.multiples, "how often, for each axis");
  }
};
OP(tile, MultiplesAttrs) {
  return {.summary = "x repeated",
          .inputs = {{"x", any_type, "[...]"}},
          .outputs = {{"y", "extents times multiples"}},
          .shape = [](std::span<const Sig> in, const MultiplesAttrs& a) -> Sigs {
            expect_length("multiples", a.multiples, size_t(in[0].shape.rank()), in[0]);
            std::vector<int64_t> d(in[0].shape.begin(), in[0].shape.end());
            for (size_t i = 0; i < d.size(); ++i) {
              if (a.multiples[i] < 0)
                fail({"multiples hold ", a.multiples[i], ", expected at least 0"});
              d[i] = checked_mul(d[i], a.multiples[i]);
            }
            return {{in[0].dtype, Shape(d)}};
          },
          .loop =
              [](const Call& c, const MultiplesAttrs&) {
                const Shape &s = c.in[0].shape(), &t = c.out[0].shape();
                const auto strides = s.strides();
                visit(c.in[0].dtype(), [&](auto zero) {
                  using T = decltype(zero);
                  walk_rows(t, [&](int64_t i, const auto& at) {
                    int64_t j = 0;
                    for (int d = 0; d + 1 < t.rank(); ++d)
                      j += at[size_t(d)] % s[d] * strides[size_t(d)];
                    const int64_t n = t.rank() ? t[t.rank() - 1] : 1,
                                  m = t.rank() ? s[t.rank() - 1] : 1;
                    for (int64_t k = 0; k < n; ++k)
                      c.out[0].as<T>()[i + k] = c.in[0].as<T>()[j + k % m];
                  });
                });
              },
          .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                         const MultiplesAttrs& a) -> Tensors {
            // [m1 n1, m2 n2, ...] as [m1, n1, m2, n2, ...], where m is not 1: the m are summed. The
            // extents n of x are written down but for the first, which is open.
            std::vector<int64_t> s, axes;
            const Shape& x = in[0].sig().shape;
            for (int i = 0; i < x.rank(); ++i) {
              const int64_t m = a.multiples[size_t(i)];
              if (!m || (i && !x[i]))
                return {fill_like(in[0], 0)};  // nothing came of x, and -1 would stand for anything
              if (m != 1) axes.push_back(int64_t(s.size())), s.push_back(m);
              s.push_back(i ? x[i] : -1);
            }
            if (s.size() > size_t(kMaxRank))
              fail(Code::Unimplemented,
                   {"tile: gradient for rank ", x.rank(), " and ", axes.size(),
                    " axes that repeat, expected at most ", kMaxRank, " of both together"});
            return {axes.empty() ? g[0] : reduce_sum(reshape(g[0], s), axes)};
          },
          .cases = {{"matrix", {{2, 3}}, {{2, 3}}},
                    {"vector", {{5}}, {{3}}},
                    {"images", {{2, 3, 1, 2, 2}}, {{1, 1, 3, 1, 2}}},
                    {"no_columns", {{2, 0}}, {{2, 3}}},
                    {"no_copies", {{2, 3}}, {{2, 0}}},
                    {"length", {{3, 4}}, {{2}}, {.fails = "expected 2"}}}};
}
Tensor tile(In x, std::vector<int64_t> multiples) {
  return call(tile_op(), {x}, MultiplesAttrs{std::move(multiples)})[0];
}

struct ShapeAttrs {
  Shape shape;
  static void fields(auto& self, auto&& field) { field("shape", self.shape, "the extents"); }
};
OP(broadcast_to, ShapeAttrs) {
  return {.summary = "x broadcast to a shape",
          .inputs = {{"x", any_type, "broadcasts to shape"}},
          .outputs = {{"y", "[shape]"}},
          .shape = [](std::span<const Sig> in, const ShapeAttrs& a) -> Sigs {
            if (broadcast(in[0].shape, a.shape) != a.shape)
              fail({"x is ", str(in[0]), ", expected a shape that broadcasts to ", str(a.shape)});
            return {{in[0].dtype, a.shape}};
          },
          .loop =
              [](const Call& c, const ShapeAttrs&) {
                const View views[] = {c.in[0], c.out[0]};
                find_op("expand_like")
                    .loop({views, c.out, c.scratch}, find_op("expand_like").defaults.get());
              },
          .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                         const ShapeAttrs&) -> Tensors { return {sum_like(g[0], in[0])}; },
          .cases = {{"row", {{5}}, {{33, 5}}},
                    {"scalar", {{}}, {{3, 4}}},
                    {"empty", {{3}}, {{0, 3}}},
                    {"mismatch", {{3}}, {{3, 4}}, {.fails = "do not broadcast"}}}};
}
Tensor broadcast_to(In x, std::vector<int64_t> shape) {
  return call(broadcast_to_op(), {x}, ShapeAttrs{Shape(shape)})[0];
}

OP(reverse, AxesAttrs) {
  return {.summary = "x backwards along axes",
          .inputs = {{"x", any_type, "[...]"}},
          .outputs = {{"y", "like x"}},
          .shape = [](std::span<const Sig> in, const AxesAttrs& a) -> Sigs {
            std::vector<bool> seen(size_t(in[0].shape.rank()));
            for (int64_t axis : a.axes) {
              auto d = size_t(axis_of(in[0].shape, axis));
              if (seen[d]) fail({"axes hold ", axis, " twice"});
              seen[d] = true;
            }
            return {in[0]};
          },
          .loop =
              [](const Call& c, const AxesAttrs& a) {
                const Shape& s = c.in[0].shape();
                const auto strides = s.strides();
                std::array<bool, kMaxRank> flip{};
                for (int64_t axis : a.axes) flip[size_t(axis_of(s, axis))] = true;
                visit(c.in[0].dtype(), [&](auto zero) {
                  using T = decltype(zero);
                  const int64_t n = s.rank() ? s[s.rank() - 1] : 1;
                  const bool back = s.rank() && flip[size_t(s.rank() - 1)];
                  walk_rows(s, [&](int64_t i, const auto& at) {
                    int64_t j = 0;
                    for (int d = 0; d + 1 < s.rank(); ++d)
                      j += (flip[size_t(d)] ? s[d] - 1 - at[size_t(d)] : at[size_t(d)]) *
                           strides[size_t(d)];
                    for (int64_t k = 0; k < n; ++k)
                      c.out[0].as<T>()[i + k] = c.in[0].as<T>()[j + (back ? n - 1 - k : k)];
                  });
                });
              },
          .gradient = [](const Tensors&, const Tensors&, const Tensors& g,
                         const AxesAttrs& a) -> Tensors { return {reverse(g[0], a.axes)}; },
          .cases = {{"columns", {{3, 5}}, {{1}}},
                    {"both", {{3, 5}}, {{0, -1}}},
                    {"empty", {{0, 3}}, {{0}}},
                    {"twice", {{3}}, {{0, -1}}, {.fails = "twice"}}}};
}
Tensor reverse(In x, std::vector<int64_t> axes) {
  return call(reverse_op(), {x}, AxesAttrs{std::move(axes)})[0];
}

OP(shape_of, NoAttrs) {
  return {.summary = "The extents of x",
          .inputs = {{"x", any_type, "[...]; only its shape is read"}},
          .outputs = {{"extents", "i64 [rank]"}},
          .shape = [](std::span<const Sig> in, const NoAttrs&) -> Sigs {
            return {{DType::i64, {in[0].shape.rank()}}};
          },
          .loop =
              [](const Call& c, const NoAttrs&) {
                std::copy(c.in[0].shape().begin(), c.in[0].shape().end(), c.out[0].as<int64_t>());
              },
          .no_gradient = "extents are integers",
          .traits = {.shape_only = 1},
          .cases = {{"matrix", {{3, 4}}}, {"empty", {{0, 3}}}}};
}
Tensor shape_of(In x) { return call(shape_of_op(), {x})[0]; }

Tensor arange(int64_t n, DType dtype) {
  if (n < 0) fail({"arange: n is ", n, ", expected at least 0"});
  std::vector<double> v(static_cast<size_t>(n));
  std::iota(v.begin(), v.end(), 0.0);
  return constant(v, {n}, dtype);
}
Tensor eye(int64_t n, DType dtype) {
  if (n < 0) fail({"eye: n is ", n, ", expected at least 0"});
  const Shape s{n, n};
  std::vector<double> v(size_t(s.count()));
  for (int64_t i = 0; i < n; ++i) v[size_t(i * n + i)] = 1;
  return constant(v, s, dtype);
}

}  // namespace evenflow
