// SPDX-License-Identifier: Apache-2.0
// Reductions over neighbouring axes: x seen as [outer, reduced, inner].
#include <algorithm>
#include <cmath>

#include "evenflow/backends/cpu/map.h"
#include "evenflow/backends/cpu/reduce.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/reduce_attrs.h"

namespace evenflow {
namespace {
struct Block {
  int64_t outer = 1, reduced = 1, inner = 1;
  bool neighbours = true;
};
Block block_of(const Shape& s, const std::vector<bool>& axes) {
  Block b;
  int state = 0;  // before, in, after the reduced axes
  for (int i = 0; i < s.rank(); ++i) {
    if (s[i] == 1) continue;
    if (axes[size_t(i)]) {
      if (state == 2) b.neighbours = false;
      state = 1;
      b.reduced *= s[i];
    } else if (state == 0)
      b.outer *= s[i];
    else
      state = 2, b.inner *= s[i];
  }
  return b;
}
std::string declines_block(const Sig& x, const std::vector<bool>& axes) {
  if (!is_floating(x.dtype)) return "x is not floating";
  const Block b = block_of(x.shape, axes);
  if (!b.neighbours) return "the reduced axes are not neighbours";
  if (x.shape.count() == 0) return "x is empty";
  if (b.inner > 1 && b.outer > 64) return "many small blocks";
  return {};
}
int64_t scratch_of(const Sig& out) { return out.shape.count() * int64_t(sizeof(double)); }
void run_block(const Call& c, const std::vector<bool>& axes, cpu::Reduction kind, bool mean) {
  const Block b = block_of(c.in[0].shape(), axes);
  double* acc = static_cast<double*>(c.scratch);
  const DType t = c.in[0].dtype();
  const int64_t size = size_of(t);
  if (b.inner == 1)
    cpu::reduce_rows(kind, t, c.in[0].data, b.outer, b.reduced, acc);
  else
    for (int64_t o = 0; o < b.outer; ++o)
      cpu::reduce_columns(kind, t, c.in[0].as<char>() + o * b.reduced * b.inner * size, b.reduced,
                          b.inner, acc + o * b.inner);
  const double k = mean ? 1.0 / double(b.reduced) : 1.0;
  visit(c.out[0].dtype(), [&](auto zero) {
    using T = decltype(zero);
    for (int64_t i = 0, n = c.out[0].count(); i < n; ++i)
      c.out[0].as<T>()[i] = static_cast<T>(mean ? acc[i] / double(b.reduced) : acc[i] * k);
  });
}
}  // namespace

#define BLOCKS(name, reduction, mean)                                                              \
  KERNEL(name, ReduceAttrs, blocks) {                                                              \
    return {.declines =                                                                            \
                [](const CallSig& s, const ReduceAttrs& a) {                                       \
                  return declines_block(s.in[0], reduced_axes(s.in[0].shape, a.axes));             \
                },                                                                                 \
            .run =                                                                                 \
                [](const Call& c, const ReduceAttrs& a) {                                          \
                  run_block(c, reduced_axes(c.in[0].shape(), a.axes), cpu::Reduction::reduction,   \
                            mean);                                                                 \
                },                                                                                 \
            .scratch = [](const CallSig& s, const ReduceAttrs&) { return scratch_of(s.out[0]); }}; \
  }
BLOCKS(reduce_sum, sum, false)
BLOCKS(reduce_mean, sum, true)
BLOCKS(reduce_max, max, false)
BLOCKS(reduce_min, min, false)
#undef BLOCKS

KERNEL(sum_like, LikeAttrs, blocks) {
  return {.declines =
              [](const CallSig& s, const LikeAttrs&) {
                return declines_block(s.in[0], broadcast_axes(s.in[0].shape, s.in[1].shape));
              },
          .run =
              [](const Call& c, const LikeAttrs& a) {
                run_block(c, broadcast_axes(c.in[0].shape(), c.in[1].shape()), cpu::Reduction::sum,
                          a.mean);
              },
          .scratch = [](const CallSig& s, const LikeAttrs&) { return scratch_of(s.out[0]); }};
}
KERNEL(expand_like, LikeAttrs, map) {
  return {.run = [](const Call& c, const LikeAttrs& a) {
    const double n =
        a.mean && c.in[0].count() ? double(c.out[0].count()) / double(c.in[0].count()) : 1;
    visit(c.in[0].dtype(), [&](auto zero) {
      using T = decltype(zero);
      using C = compute_t<T>;
      const std::pair<const T*, const Shape*> x{c.in[0].as<T>(), &c.in[0].shape()};
      if constexpr (std::is_floating_point_v<C>) {
        if (n != 1)
          return cpu::map_scalar([k = C(n)](T v) { return static_cast<T>(C(v) / k); },
                                 c.out[0].shape(), c.out[0].as<T>(), x);
      }
      cpu::map_scalar([](T v) { return v; }, c.out[0].shape(), c.out[0].as<T>(), x);
    });
  }};
}

}  // namespace evenflow
