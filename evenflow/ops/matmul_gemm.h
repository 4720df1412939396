// SPDX-License-Identifier: Apache-2.0
// A call of matmul as products of backends/cpu/gemm.h. For the kernels of matmul.
#pragma once
#include <algorithm>

#include "evenflow/backends/cpu/gemm.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/matmul_attrs.h"

namespace evenflow {

/// Multiplications of one product of the batch.
inline double matmul_work(const CallSig& c, const MatmulAttrs& t) {
  const Shape &a = c.in[0].shape, &y = c.out[0].shape;
  return double(y.dim(-2)) * double(y.dim(-1)) * double(a.dim(t.transpose_a ? -2 : -1));
}

/// Axes of the batch along which each operand either advances or stands still make one product of
/// many; the others are walked.
inline void matmul_by_gemm(const Call& call, const MatmulAttrs& t, bool same_bits) {
  const Shape &a = call.in[0].shape(), &b = call.in[1].shape(), &y = call.out[0].shape();
  if (y.count() == 0) return;
  const DType dtype = call.out[0].dtype();
  const int axes = y.rank() - 2;
  cpu::Gemm g{.trans_a = t.transpose_a, .trans_b = t.transpose_b, .m = y.dim(-2), .n = y.dim(-1)};
  g.k = a.dim(t.transpose_a ? -2 : -1);
  g.same_bits = same_bits;
  const int64_t size_a = g.m * g.k, size_b = g.k * g.n, size_y = g.m * g.n;
  g.stride_c = size_y;
  int64_t step_a[kMaxRank] = {},
          step_b[kMaxRank] = {};  // elements from matrix to matrix along an axis of the batch
  for (auto [shape, step, size] : {std::tuple{&a, step_a, size_a}, {&b, step_b, size_b}}) {
    int64_t stride = size;
    for (int e = shape->rank() - 3, d = axes - 1; e >= 0; --e, --d) {
      step[d] = (*shape)[e] == 1 ? 0 : stride;
      stride *= (*shape)[e];
    }
  }
  int inner = axes;  // the axes from here on are one batch
  while (inner > 0) {
    const int d = inner - 1;
    if (y[d] != 1) {
      if (g.batch == 1)
        g.stride_a = step_a[d], g.stride_b = step_b[d];
      else if (step_a[d] != g.stride_a * g.batch || step_b[d] != g.stride_b * g.batch)
        break;
      g.batch *= y[d];
    }
    --inner;
  }
  int64_t outer = 1;
  for (int d = 0; d < inner; ++d) outer *= y[d];
  const int64_t bytes = size_of(dtype);
  const auto* from_a = static_cast<const char*>(call.in[0].data);
  const auto* from_b = static_cast<const char*>(call.in[1].data);
  auto* to = static_cast<char*>(call.out[0].data);
  for (int64_t p = 0; p < outer; ++p) {
    int64_t at_a = 0, at_b = 0;
    for (int64_t d = inner - 1, rest = p; d >= 0; rest /= y[int(d)], --d) {
      at_a += rest % y[int(d)] * step_a[d];
      at_b += rest % y[int(d)] * step_b[d];
    }
    cpu::gemm(g, dtype, from_a + at_a * bytes, from_b + at_b * bytes, dtype,
              to + p * g.batch * size_y * bytes);
  }
}

}  // namespace evenflow
