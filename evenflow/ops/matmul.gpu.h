// SPDX-License-Identifier: Apache-2.0
// Products of matrices on GPUs, where no library of the vendor serves: tiles of 64x64 results,
// 16x16 threads with 4x4 each. Definitions from outside: T the data.
#pragma once
#include "evenflow/backends/gpu/shim.h"
#include "evenflow/ops/gpu_args.gpu.h"

using evenflow::gpu::Product;

using W = wide_t<T>;

constexpr int kTile = 64, kDepth = 16, kThreads = 256, kOwn = 4;

/// The tile of one block: a(i, k), b(k, j) give 0 outside, put(i, j, v) is called inside.
template <class A, class B, class Put>
FUNCTION void product_tile(int64_t m, int64_t n, int64_t k, int64_t i0, int64_t j0, A a, B b,
                           Put put) {
  W* as = static_cast<W*>(local_memory());  // [kDepth][kTile + 1]
  W* bs = as + kDepth * (kTile + 1);
  const int t = thread_index(), ti = t / 16, tj = t % 16;
  W sum[kOwn][kOwn];
#pragma unroll
  for (int p = 0; p < kOwn; ++p)
#pragma unroll
    for (int q = 0; q < kOwn; ++q) sum[p][q] = 0;
  for (int64_t k0 = 0; k0 < k; k0 += kDepth) {
    barrier();
    for (int e = t; e < kTile * kDepth; e += kThreads) {
      const int i = e / kDepth, d = e % kDepth;
      as[d * (kTile + 1) + i] = i0 + i < m && k0 + d < k ? a(i0 + i, k0 + d) : W(0);
      const int d2 = e / kTile, j = e % kTile;
      bs[d2 * (kTile + 1) + j] = j0 + j < n && k0 + d2 < k ? b(k0 + d2, j0 + j) : W(0);
    }
    barrier();
#pragma unroll
    for (int d = 0; d < kDepth; ++d) {
      W x[kOwn], y[kOwn];
#pragma unroll
      for (int p = 0; p < kOwn; ++p) {
        x[p] = as[d * (kTile + 1) + ti + 16 * p];
        y[p] = bs[d * (kTile + 1) + tj + 16 * p];
      }
#pragma unroll
      for (int p = 0; p < kOwn; ++p)
#pragma unroll
        for (int q = 0; q < kOwn; ++q) sum[p][q] += x[p] * y[q];
    }
  }
#pragma unroll
  for (int p = 0; p < kOwn; ++p)
#pragma unroll
    for (int q = 0; q < kOwn; ++q)
      if (i0 + ti + 16 * p < m && j0 + tj + 16 * q < n)
        put(i0 + ti + 16 * p, j0 + tj + 16 * q, sum[p][q]);
}

/// f(number, first row, first column) for the tiles of `many` results of m x n, round the blocks.
template <class F>
FUNCTION void each_tile(int64_t many, int64_t m, int64_t n, F f) {
  const int64_t rows = (m + kTile - 1) / kTile, columns = (n + kTile - 1) / kTile;
  for (int64_t g = block_index(); g < many * rows * columns; g += blocks()) {
    const int64_t tile = g % (rows * columns);
    f(g / (rows * columns), tile / columns * kTile, tile % columns * kTile);
  }
}

KERNEL(product, const T* a, const T* b, T* y, int64_t batches, Product p) {
  each_tile(batches, p.m, p.n, [&](int64_t batch, int64_t i0, int64_t j0) {
    const T *pa = a, *pb = b;
    int64_t rest = batch;
    for (int d = int(p.rank) - 1; d >= 0; --d) {
      const int64_t c = rest % p.extent[d];
      pa += c * p.a_batch[d], pb += c * p.b_batch[d];
      rest /= p.extent[d];
    }
    T* py = y + batch * p.m * p.n;
    product_tile(
        p.m, p.n, p.k, i0, j0,
        [&](int64_t i, int64_t k) { return W(wide(pa[i * p.a_row + k * p.a_col])); },
        [&](int64_t k, int64_t j) { return W(wide(pb[k * p.b_row + j * p.b_col])); },
        [&](int64_t i, int64_t j, W v) { py[i * p.n + j] = narrow<T>(v); });
  });
}
