// SPDX-License-Identifier: Apache-2.0
#include "evenflow/ops/blocks.h"

#include <algorithm>
#include <cstring>

#include "evenflow/graph/op.h"

namespace evenflow {
namespace {
int64_t blocks_of(int64_t rows, int64_t size) { return rows / size + (rows % size != 0); }
void check_size(int64_t size) {
  if (size < 1) fail({"size is ", size, ", expected 1 or more"});
}
}  // namespace

struct BlockAttrs {
  int64_t size = 1;
  static void fields(auto& self, auto&& field) { field("size", self.size, "rows of a block"); }
};
OP(sum_blocks, BlockAttrs) {
  return {.summary = "Sums of blocks of rows",
          .doc = "The last block may be smaller.",
          .inputs = {{"x", floating, "[n, ...]"}},
          .outputs = {{"y", "[blocks, ...]"}},
          .shape = [](std::span<const Sig> in, const BlockAttrs& a) -> Sigs {
            check_size(a.size);
            if (!in[0].shape.rank()) fail({"x is ", str(in[0]), ", expected rank 1 or more"});
            std::vector<int64_t> d(in[0].shape.dims().begin(), in[0].shape.dims().end());
            d[0] = blocks_of(d[0], a.size);
            return {{in[0].dtype, Shape(d)}};
          },
          .loop =
              [](const Call& c, const BlockAttrs& a) {
                const int64_t n = c.in[0].shape()[0], row = n ? c.in[0].count() / n : 0;
                visit(c.in[0].dtype(), [&](auto zero) {
                  using T = decltype(zero);
                  for (int64_t b = 0; b * a.size < n; ++b)
                    for (int64_t j = 0; j < row; ++j) {
                      double sum = 0;
                      for (int64_t i = b * a.size; i < std::min(n, (b + 1) * a.size); ++i)
                        sum += double(compute_t<T>(c.in[0].as<T>()[i * row + j]));
                      c.out[0].as<T>()[b * row + j] = T(compute_t<T>(sum));
                    }
                });
              },
          .gradient = [](const Tensors& in, const Tensors&, const Tensors& g, const BlockAttrs& a)
              -> Tensors { return {expand_blocks(g[0], in[0], a.size)}; },
          .cases = {{"even", {{6, 5}}, {3}},
                    {"left", {{7, 2, 3}}, {3}},
                    {"one", {{2, 3}}, {8}},
                    {"empty", {{0, 3}}, {2}},
                    {"size", {{2, 3}}, {0}, {.fails = "size is 0"}},
                    {"scalar", {{}}, {2}, {.fails = "rank 1 or more"}}}};
}
Tensor sum_blocks(In x, int64_t size) { return call(sum_blocks_op(), {x}, BlockAttrs{size})[0]; }

OP(expand_blocks, BlockAttrs) {
  return {
      .summary = "Each block's row for all rows of the block",
      .inputs = {{"x", floating, "[blocks, ...]"},
                 {"like", any_type.as('L'), "[n, ...]; only n is read"}},
      .outputs = {{"y", "[n, ...]"}},
      .shape = [](std::span<const Sig> in, const BlockAttrs& a) -> Sigs {
        check_size(a.size);
        for (const Sig& s : in)
          if (!s.shape.rank())
            fail({"x and like are ", str(in[0]), " and ", str(in[1]), ", expected rank 1 or more"});
        const int64_t n = in[1].shape[0];
        if (in[0].shape[0] != blocks_of(n, a.size))
          fail({"x is ", str(in[0]), ", expected ", blocks_of(n, a.size), " blocks of ", a.size,
                " for like ", str(in[1])});
        std::vector<int64_t> d(in[0].shape.dims().begin(), in[0].shape.dims().end());
        d[0] = n;
        return {{in[0].dtype, Shape(d)}};
      },
      .loop =
          [](const Call& c, const BlockAttrs& a) {
            const int64_t n = c.out[0].shape()[0],
                          row = n ? c.out[0].count() / n * size_of(c.out[0].dtype()) : 0;
            for (int64_t i = 0; row && i < n; ++i)
              std::memcpy(c.out[0].as<char>() + i * row, c.in[0].as<char>() + i / a.size * row,
                          size_t(row));
          },
      .gradient = [](const Tensors&, const Tensors&, const Tensors& g,
                     const BlockAttrs& a) -> Tensors {
        return {sum_blocks(g[0], a.size), Tensor()};
      },
      .traits = {.shape_only = 2},
      .cases = {{"even", {{2, 5}, {6, 1}}, {3}},
                {"left", {{3, 2, 3}, {7}}, {3}},
                {"empty", {{0, 3}, {0, 3}}, {2}},
                {"blocks", {{3, 2}, {6, 2}}, {3}, {.fails = "expected 2 blocks of 3"}}}};
}
Tensor expand_blocks(In x, In like, int64_t size) {
  return call(expand_blocks_op(), {x, like}, BlockAttrs{size})[0];
}

}  // namespace evenflow
