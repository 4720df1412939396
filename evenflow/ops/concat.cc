// SPDX-License-Identifier: Apache-2.0
// Joining along an axis and cutting it up again.
#include <cstring>

#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"
#include "evenflow/ops/shape_rules.h"

namespace evenflow {

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

}  // namespace evenflow
