// SPDX-License-Identifier: Apache-2.0
#include "evenflow/ops/shape.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "evenflow/core/parallel.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/reduce.h"

namespace evenflow {
namespace {
int axis_of(const Shape& s, int64_t axis, int extra = 0) {
  const int64_t r = s.rank() + extra;
  if (axis < -r || axis >= r)
    fail({"axis is ", axis, ", expected ", -r, "..", r - 1, " for shape ", str(s)});
  return int(axis < 0 ? axis + r : axis);
}
void copy_all(const Call& c) {
  std::memcpy(c.out[0].data, c.in[0].data, size_t(c.out[0].sig->bytes()));
}
void expect_length(std::string_view name, const std::vector<int64_t>& v, size_t n, const Sig& x) {
  if (v.size() != n) fail({name, " has ", v.size(), " numbers, expected ", n, " for x ", str(x)});
}
// Copies x[begin + i * step] to y[i], a row at a time, for rectangles inside x; or the other way
// round.
struct Rectangle {
  std::array<int64_t, kMaxRank> begin{}, step{};
};
template <class F>
void walk_rows(const Shape& part, F f) {  // f(index of the row's first element in part, position)
  const int r = part.rank();
  const int64_t inner = r ? part[r - 1] : 1;
  if (part.count() == 0) return;
  const int64_t rows = part.count() / inner;
  std::array<int64_t, kMaxRank> at{};
  for (int64_t row = 0; row < rows; ++row) {
    f(row * inner, at);
    for (int d = r - 1; d-- > 0;) {
      if (++at[size_t(d)] < part[d]) break;
      at[size_t(d)] = 0;
    }
  }
}
void copy_rectangle(const Shape& whole, const Shape& part, const std::vector<int64_t>& begin,
                    int64_t size, const char* from, char* to, bool out_of_whole) {
  const auto strides = whole.strides();
  const int64_t inner = part.rank() ? part[part.rank() - 1] : 1;
  walk_rows(part, [&](int64_t i, const auto& at) {
    int64_t j = part.rank() ? begin[size_t(part.rank() - 1)] : 0;
    for (int d = 0; d + 1 < part.rank(); ++d)
      j += (begin[size_t(d)] + at[size_t(d)]) * strides[size_t(d)];
    if (out_of_whole)
      std::memcpy(to + i * size, from + j * size, size_t(inner * size));
    else
      std::memcpy(to + j * size, from + i * size, size_t(inner * size));
  });
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

struct AxisAttrs {
  int64_t axis = -1;
  static void fields(auto& self, auto&& field) { field("axis", self.axis, "the axis"); }
};
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

// ---- parts
// ---------------------------------------------------------------------------------------------------------------------
OP(concat, AxisAttrs) {
  return {
      .summary = "Tensors one after another along an axis",
      .inputs = {{"x", any_type, "[...], alike but for the axis"}},
      .outputs = {{"y", "all of them"}},
      .shape = [](std::span<const Sig> in, const AxisAttrs& a) -> Sigs {
        const int d = axis_of(in[0].shape, a.axis);
        int64_t n = 0;
        for (size_t i = 0; i < in.size(); ++i) {
          if (in[i].shape.rank() != in[0].shape.rank() ||
              in[i].shape.with(d, 0) != in[0].shape.with(d, 0))
            fail({"x[", i, "] is ", str(in[i]), ", expected ", str(in[0]), " but for axis ", d});
          n = checked_add(n, in[i].shape[d]);
        }
        return {{in[0].dtype, in[0].shape.with(d, n)}};
      },
      .loop =
          [](const Call& c, const AxisAttrs& a) {
            const Shape& s = c.out[0].shape();
            const int d = axis_of(s, a.axis);
            int64_t inner = size_of(c.out[0].dtype()), outer = 1, at = 0;
            for (int i = 0; i < d; ++i) outer *= s[i];
            for (int i = d + 1; i < s.rank(); ++i) inner *= s[i];
            for (auto& x : c.in) {
              const int64_t bytes = x.shape()[d] * inner;
              for (int64_t o = 0; o < outer; ++o)
                std::memcpy(c.out[0].as<char>() + o * s[d] * inner + at, x.as<char>() + o * bytes,
                            size_t(bytes));
              at += bytes;
            }
          },
      .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                     const AxisAttrs& a) -> Tensors {
        const int d = axis_of(in[0].sig().shape, a.axis);
        Tensors r;
        // concat_part finds its place from the shapes of what came before: no extent is written
        // down.
        for (size_t i = 0; i < in.size(); ++i) {
          std::vector<In> args{In(g[0]), In(in[i])};
          for (size_t k = 0; k < i; ++k) args.emplace_back(in[k]);
          const OpDef& part = find_op("concat_part");
          const AttrValue axis = int64_t(d);
          r.push_back(apply(part, part.make_attrs({&axis, 1}), args)[0]);
        }
        return r;
      },
      .traits = {.variadic = true},
      .cases = {{"rows", {{3, 4}, {2, 4}}, {0}},
                {"columns", {{3, 4}, {3, 1}, {3, 63}}},
                {"one", {{3}}},
                {"empty", {{0, 3}, {0, 2}}},
                {"mismatch", {{3, 4}, {2, 4}}, {}, {.fails = "but for axis"}}}};
}
Tensor concat(const Tensors& xs, int64_t axis) {
  return call(concat_op(), to_inputs(xs), AxisAttrs{axis})[0];
}
OP(concat_part, AxisAttrs) {
  return {
      .summary = "The part of a concatenation that one of its inputs made",
      .inputs = {{"whole", any_type, "[...]"},
                 {"like", any_type.as('L'), "the input; only its shape is read"},
                 {"before", any_type.as('L'), "the inputs before it; only their shapes are read"}},
      .outputs = {{"part", "shape of like"}},
      .shape = [](std::span<const Sig> in, const AxisAttrs& a) -> Sigs {
        const int d = axis_of(in[0].shape, a.axis);
        int64_t at = 0;
        for (auto& s : in.subspan(1)) {
          if (s.shape.rank() != in[0].shape.rank())
            fail({"like is ", str(s), ", expected the rank of whole ", str(in[0])});
          if (s.shape.with(d, 0) != in[0].shape.with(d, 0))
            fail({"like is ", str(s), ", expected whole ", str(in[0]), " but for axis ", d});
          at = checked_add(at, s.shape[d]);
        }
        if (at > in[0].shape[d])
          fail({"whole is ", str(in[0]), ", expected at least ", at, " on axis ", d});
        return {{in[0].dtype, in[1].shape}};
      },
      .loop =
          [](const Call& c, const AxisAttrs& a) {
            const Shape& s = c.in[0].shape();
            const int d = axis_of(s, a.axis);
            int64_t inner = size_of(c.out[0].dtype()), outer = 1, at = 0;
            for (auto& v : c.in.subspan(2)) at += v.shape()[d];
            for (int i = 0; i < d; ++i) outer *= s[i];
            for (int i = d + 1; i < s.rank(); ++i) inner *= s[i];
            const int64_t bytes = c.out[0].shape()[d] * inner;
            for (int64_t o = 0; o < outer; ++o)
              std::memcpy(c.out[0].as<char>() + o * bytes,
                          c.in[0].as<char>() + (o * s[d] + at) * inner, size_t(bytes));
          },
      .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                     const AxisAttrs& a) -> Tensors {
        // Zeros elsewhere: the parts before, this one, and what is left.
        const OpDef& part = find_op("concat_place");
        std::vector<In> args{In(g[0]), In(in[0])};
        for (size_t k = 2; k < in.size(); ++k) args.emplace_back(in[k]);
        const AttrValue axis = a.axis;
        return {apply(part, part.make_attrs({&axis, 1}), args)[0]};
      },
      .traits = {.shape_only = ~1u, .variadic = true, .optional = 4},
      .cases = {{"first", {{5, 4}, {3, 4}}, {0}},
                {"second", {{5, 4}, {2, 4}, {3, 4}}, {0}},
                {"empty", {{0, 3}, {0, 2}}},
                {"rank", {{5, 4}, {3}}, {0}, {.fails = "expected the rank"}}}};
}
OP(concat_place, AxisAttrs) {
  return {.summary = "Puts a part where it lies in a concatenation, zeros elsewhere",
          .inputs = {{"part", any_type, "[...]"},
                     {"like", any_type.as('L'), "the whole; only its shape is read"},
                     {"before", any_type.as('L'), "what lies before; only their shapes are read"}},
          .outputs = {{"whole", "shape of like"}},
          .shape = [](std::span<const Sig> in, const AxisAttrs& a) -> Sigs {
            const int d = axis_of(in[1].shape, a.axis);
            int64_t at = 0;
            for (size_t i = 0; i < in.size(); ++i) {
              if (i == 1) continue;
              if (in[i].shape.rank() != in[1].shape.rank() ||
                  in[i].shape.with(d, 0) != in[1].shape.with(d, 0))
                fail({"a part is ", str(in[i]), ", expected ", str(in[1]), " but for axis ", d});
              at = checked_add(at, in[i].shape[d]);
            }
            if (at > in[1].shape[d])
              fail({"like is ", str(in[1]), ", expected at least ", at, " on axis ", d});
            return {{in[0].dtype, in[1].shape}};
          },
          .loop =
              [](const Call& c, const AxisAttrs& a) {
                const Shape& s = c.out[0].shape();
                const int d = axis_of(s, a.axis);
                int64_t inner = size_of(c.out[0].dtype()), outer = 1, at = 0;
                for (auto& v : c.in.subspan(2)) at += v.shape()[d];
                for (int i = 0; i < d; ++i) outer *= s[i];
                for (int i = d + 1; i < s.rank(); ++i) inner *= s[i];
                const int64_t bytes = c.in[0].shape()[d] * inner;
                std::memset(c.out[0].data, 0, size_t(c.out[0].sig->bytes()));
                for (int64_t o = 0; o < outer; ++o)
                  std::memcpy(c.out[0].as<char>() + (o * s[d] + at) * inner,
                              c.in[0].as<char>() + o * bytes, size_t(bytes));
              },
          .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                         const AxisAttrs& a) -> Tensors {
            std::vector<In> args{In(g[0]), In(in[0])};
            for (size_t k = 2; k < in.size(); ++k) args.emplace_back(in[k]);
            return {call(concat_part_op(), args, a)[0]};
          },
          .traits = {.shape_only = ~1u, .variadic = true, .optional = 4},
          .cases = {{"first", {{3, 4}, {5, 4}}, {0}},
                    {"second", {{2, 4}, {5, 4}, {3, 4}}, {0}},
                    {"empty", {{0, 2}, {0, 3}}},
                    {"rank", {{3}, {5, 4}}, {0}, {.fails = "but for axis"}}}};
}
Tensor stack(const Tensors& xs, int64_t axis) {
  Tensors r;
  for (auto& x : xs) r.push_back(expand_dims(x, axis));
  return concat(r, axis);
}

struct SplitAttrs {
  std::vector<int64_t> sizes = {};
  int64_t axis = -1;
  static void fields(auto& self, auto&& field) {
    field("sizes", self.sizes, "extents of the pieces; one may be -1"),
        field("axis", self.axis, "the axis");
  }
};
static std::vector<int64_t> pieces(const Sig& x, const SplitAttrs& a) {
  const int d = axis_of(x.shape, a.axis);
  if (a.sizes.empty() || a.sizes.size() > 10000)
    fail({"sizes has ", a.sizes.size(), " numbers, expected 1 to 10000"});
  std::vector<int64_t> s = a.sizes;
  int64_t sum = 0, open = -1;
  for (size_t i = 0; i < s.size(); ++i) {
    if (s[i] >= 0)
      sum = checked_add(sum, s[i]);
    else if (s[i] != -1 || open >= 0)
      fail({"sizes hold ", s[i], ", expected extents and at most one -1"});
    else
      open = int64_t(i);
  }
  if (open >= 0 && sum <= x.shape[d])
    s[size_t(open)] = x.shape[d] - sum;
  else if (sum != x.shape[d])
    fail({"sizes sum to ", sum, ", expected ", x.shape[d], " (axis ", d, " of x ", str(x), ")"});
  return s;
}
OP(split, SplitAttrs) {
  return {.summary = "Pieces along an axis",
          .inputs = {{"x", any_type, "[...]"}},
          .outputs = {{"pieces", "one for each size"}},
          .shape = [](std::span<const Sig> in, const SplitAttrs& a) -> Sigs {
            Sigs r;
            for (int64_t n : pieces(in[0], a))
              r.push_back({in[0].dtype, in[0].shape.with(int(a.axis), n)});
            return r;
          },
          .loop =
              [](const Call& c, const SplitAttrs& a) {
                const Shape& s = c.in[0].shape();
                const int d = axis_of(s, a.axis);
                int64_t inner = size_of(c.in[0].dtype()), outer = 1, at = 0;
                for (int i = 0; i < d; ++i) outer *= s[i];
                for (int i = d + 1; i < s.rank(); ++i) inner *= s[i];
                for (auto& y : c.out) {
                  const int64_t bytes = y.shape()[d] * inner;
                  for (int64_t o = 0; o < outer; ++o)
                    std::memcpy(y.as<char>() + o * bytes,
                                c.in[0].as<char>() + o * s[d] * inner + at, size_t(bytes));
                  at += bytes;
                }
              },
          .gradient = [](const Tensors&, const Tensors& out, const Tensors& g,
                         const SplitAttrs& a) -> Tensors {
            Tensors parts;
            for (size_t i = 0; i < out.size(); ++i)
              parts.push_back(g[i] ? g[i] : fill_like(out[i], 0));
            return {concat(parts, a.axis)};
          },
          .cases = {{"two", {{3, 5}}, {{2, 3}}},
                    {"open", {{7, 3}}, {{2, -1, 1}, 0}},
                    {"empty", {{0, 5}}, {{2, 3}}},
                    {"sum", {{3, 5}}, {{2, 2}}, {.fails = "sizes sum to 4, expected 5"}}}};
}
Tensors split(In x, std::vector<int64_t> sizes, int64_t axis) {
  return call(split_op(), {x}, SplitAttrs{std::move(sizes), axis});
}

struct SliceAttrs {
  std::vector<int64_t> begin = {}, size = {};
  static void fields(auto& self, auto&& field) {
    field("begin", self.begin, "first index on each axis"),
        field("size", self.size, "extent on each axis; -1: to the end");
  }
};
OP(slice, SliceAttrs) {
  return {.summary = "A rectangle of x",
          .inputs = {{"x", any_type, "[...]"}},
          .outputs = {{"y", "x[begin : begin + size]"}},
          .shape = [](std::span<const Sig> in, const SliceAttrs& a) -> Sigs {
            const size_t r = size_t(in[0].shape.rank());
            expect_length("begin", a.begin, r, in[0]), expect_length("size", a.size, r, in[0]);
            std::vector<int64_t> d(r);
            for (size_t i = 0; i < r; ++i) {
              const int64_t n = in[0].shape[int(i)];
              if (a.begin[i] < 0 || a.begin[i] > n)
                fail(Code::OutOfRange, {"begin holds ", a.begin[i], ", expected 0..", n,
                                        " on axis ", i, " of x ", str(in[0])});
              d[i] = a.size[i] == -1 ? n - a.begin[i] : a.size[i];
              if (d[i] < 0 || d[i] > n - a.begin[i])
                fail(Code::OutOfRange, {"size holds ", a.size[i], ", expected -1..", n - a.begin[i],
                                        " on axis ", i, " of x ", str(in[0])});
            }
            return {{in[0].dtype, Shape(d)}};
          },
          .loop =
              [](const Call& c, const SliceAttrs& a) {
                copy_rectangle(c.in[0].shape(), c.out[0].shape(), a.begin, size_of(c.in[0].dtype()),
                               c.in[0].as<char>(), c.out[0].as<char>(), true);
              },
          .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                         const SliceAttrs& a) -> Tensors {
            const OpDef& op = find_op("slice_place");
            const AttrValue begin = a.begin;
            return {apply(op, op.make_attrs({&begin, 1}), to_inputs({g[0], in[0]}))[0]};
          },
          .cases = {{"middle", {{5, 7}}, {{1, 2}, {3, 4}}},
                    {"end", {{5, 7}}, {{0, 2}, {-1, -1}}},
                    {"empty", {{0, 7}}, {{0, 2}, {-1, 3}}},
                    {"range", {{5, 7}}, {{1, 2}, {5, 1}}, {.fails = "expected -1..4"}}}};
}
Tensor slice(In x, std::vector<int64_t> begin, std::vector<int64_t> size) {
  return call(slice_op(), {x}, SliceAttrs{std::move(begin), std::move(size)})[0];
}
struct PlaceAttrs {
  std::vector<int64_t> begin = {};
  static void fields(auto& self, auto&& field) {
    field("begin", self.begin, "first index on each axis");
  }
};
OP(slice_place, PlaceAttrs) {
  return {.summary = "Puts x where a slice took it from, zeros elsewhere",
          .inputs = {{"x", any_type, "[...]"},
                     {"like", any_type.as('L'), "[...]; only its shape is read"}},
          .outputs = {{"y", "shape of like"}},
          .shape = [](std::span<const Sig> in, const PlaceAttrs& a) -> Sigs {
            const size_t r = size_t(in[1].shape.rank());
            if (in[0].shape.rank() != in[1].shape.rank())
              fail({"x is ", str(in[0]), ", expected the rank of like ", str(in[1])});
            expect_length("begin", a.begin, r, in[0]);
            for (size_t i = 0; i < r; ++i)
              if (a.begin[i] < 0 || a.begin[i] > in[1].shape[int(i)] ||
                  in[0].shape[int(i)] > in[1].shape[int(i)] - a.begin[i])
                fail(Code::OutOfRange, {"begin holds ", a.begin[i], ", expected x ", str(in[0]),
                                        " inside like ", str(in[1])});
            return {{in[0].dtype, in[1].shape}};
          },
          .loop =
              [](const Call& c, const PlaceAttrs& a) {
                std::memset(c.out[0].data, 0, size_t(c.out[0].sig->bytes()));
                copy_rectangle(c.out[0].shape(), c.in[0].shape(), a.begin, size_of(c.in[0].dtype()),
                               c.in[0].as<char>(), c.out[0].as<char>(), false);
              },
          .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                         const PlaceAttrs& a) -> Tensors {
            // A slice of the shape of x: by shape alone, so that a trace serves any batch.
            const OpDef& op = find_op("slice_like");
            const AttrValue begin = a.begin;
            return {apply(op, op.make_attrs({&begin, 1}), to_inputs({g[0], in[0]}))[0], Tensor()};
          },
          .traits = {.shape_only = 2},
          .cases = {{"middle", {{3, 4}, {5, 7}}, {{1, 2}}},
                    {"empty", {{0, 3}, {0, 7}}, {{0, 2}}},
                    {"range", {{3, 4}, {5, 7}}, {{3, 2}}, {.fails = "inside like"}}}};
}
OP(slice_like, PlaceAttrs) {
  return {.summary = "A rectangle of x as large as like",
          .inputs = {{"x", any_type, "[...]"},
                     {"like", any_type.as('L'), "[...]; only its shape is read"}},
          .outputs = {{"y", "shape of like"}},
          .shape = [](std::span<const Sig> in, const PlaceAttrs& a) -> Sigs {
            const size_t r = size_t(in[0].shape.rank());
            if (in[0].shape.rank() != in[1].shape.rank())
              fail({"x is ", str(in[0]), ", expected the rank of like ", str(in[1])});
            expect_length("begin", a.begin, r, in[0]);
            for (size_t i = 0; i < r; ++i)
              if (a.begin[i] < 0 || a.begin[i] > in[0].shape[int(i)] ||
                  in[1].shape[int(i)] > in[0].shape[int(i)] - a.begin[i])
                fail(Code::OutOfRange, {"begin holds ", a.begin[i], ", expected like ", str(in[1]),
                                        " inside x ", str(in[0])});
            return {{in[0].dtype, in[1].shape}};
          },
          .loop =
              [](const Call& c, const PlaceAttrs& a) {
                copy_rectangle(c.in[0].shape(), c.out[0].shape(), a.begin, size_of(c.in[0].dtype()),
                               c.in[0].as<char>(), c.out[0].as<char>(), true);
              },
          .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                         const PlaceAttrs& a) -> Tensors {
            return {call(slice_place_op(), {g[0], in[0]}, a)[0], Tensor()};
          },
          .traits = {.shape_only = 2},
          .cases = {{"middle", {{5, 7}, {3, 4}}, {{1, 2}}},
                    {"empty", {{0, 7}, {0, 3}}, {{0, 2}}},
                    {"range", {{5, 7}, {3, 4}}, {{3, 2}}, {.fails = "inside x"}}}};
}

struct PadAttrs {
  std::vector<int64_t> paddings = {};
  double value = 0;
  static void fields(auto& self, auto&& field) {
    field("paddings", self.paddings, "before and after for each axis, [2 rank]"),
        field("value", self.value, "the constant");
  }
};
static std::vector<int64_t> before(const std::vector<int64_t>& paddings) {
  std::vector<int64_t> b;
  for (size_t i = 0; i < paddings.size(); i += 2) b.push_back(paddings[i]);
  return b;
}
OP(pad, PadAttrs) {
  return {.summary = "A constant around x",
          .inputs = {{"x", any_type, "[...]"}},
          .outputs = {{"y", "x with wider extents"}},
          .shape = [](std::span<const Sig> in, const PadAttrs& a) -> Sigs {
            expect_length("paddings", a.paddings, 2 * size_t(in[0].shape.rank()), in[0]);
            std::vector<int64_t> d(in[0].shape.begin(), in[0].shape.end());
            for (size_t i = 0; i < a.paddings.size(); ++i) {
              if (a.paddings[i] < 0)
                fail({"paddings hold ", a.paddings[i], ", expected at least 0"});
              d[i / 2] = checked_add(d[i / 2], a.paddings[i]);
            }
            return {{in[0].dtype, Shape(d)}};
          },
          .loop =
              [](const Call& c, const PadAttrs& a) {
                visit(c.out[0].dtype(), [&](auto zero) {
                  using T = decltype(zero);
                  T v;
                  if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>)
                    v = T(std::clamp(a.value, double(std::numeric_limits<T>::min()),
                                     double(std::numeric_limits<T>::max()) / 2));
                  else
                    v = static_cast<T>(a.value);
                  std::fill_n(c.out[0].as<T>(), c.out[0].count(), v);
                });
                copy_rectangle(c.out[0].shape(), c.in[0].shape(), before(a.paddings),
                               size_of(c.in[0].dtype()), c.in[0].as<char>(), c.out[0].as<char>(),
                               false);
              },
          .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                         const PadAttrs& a) -> Tensors {
            return {call(slice_like_op(), {g[0], in[0]}, PlaceAttrs{before(a.paddings)})[0]};
          },
          .cases = {{"image", {{2, 3, 4, 2}}, {{0, 0, 1, 2, 3, 0, 0, 0}}},
                    {"value", {{5}}, {{2, 1}, 7}},
                    {"empty", {{0, 3}}, {{0, 0, 1, 1}}},
                    {"length", {{3, 4}}, {{1, 1}}, {.fails = "expected 4"}}}};
}
Tensor pad(In x, std::vector<int64_t> paddings, double value) {
  return call(pad_op(), {x}, PadAttrs{std::move(paddings), value})[0];
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
            // [m1 n1, m2 n2, ...] as [m1, n1, m2, n2, ...]: the m are summed. The extents n of x
            // are not written down but the first, which is open.
            std::vector<int64_t> s, axes;
            const Shape& x = in[0].sig().shape;
            if (2 * x.rank() > kMaxRank)
              fail(Code::Unimplemented,
                   {"tile: gradient for rank ", x.rank(), ", expected at most ", kMaxRank / 2});
            for (int i = 0; i < x.rank(); ++i) {
              if (!a.multiples[size_t(i)] || (i && !x[i]))
                return {fill_like(in[0], 0)};  // nothing came of x, and -1 would stand for anything
              s.push_back(a.multiples[size_t(i)]), s.push_back(i ? x[i] : -1),
                  axes.push_back(2 * i);
            }
            return {x.rank() ? reduce_sum(reshape(g[0], s), axes) : g[0]};
          },
          .cases = {{"matrix", {{2, 3}}, {{2, 3}}},
                    {"vector", {{5}}, {{3}}},
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
