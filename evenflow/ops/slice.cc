// SPDX-License-Identifier: Apache-2.0
// Rectangles of a tensor: taken out, put back, surrounded.
#include <algorithm>
#include <cstring>
#include <limits>

#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"
#include "evenflow/ops/shape_rules.h"

namespace evenflow {
namespace {
// Copies x[begin + i] to y[i], a row at a time, for a rectangle inside x; or the other way round.
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

}  // namespace evenflow
