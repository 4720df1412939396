// SPDX-License-Identifier: Apache-2.0
// Copies by strides, constants, and what is picked by index, on GPUs. Definitions from outside: T
// an element of the right size, I the type of indices.
#pragma once
#include "evenflow/backends/gpu/shim.h"
#include "evenflow/ops/gpu_args.gpu.h"

using evenflow::gpu::Box;

KERNEL(copy, const T* from, T* to, Box b) {
  for (int64_t i = first_item(); i < b.count; i += items()) {
    int64_t rest = i, at = b.to_base, source = b.from_base;
    for (int d = int(b.rank) - 1; d >= 0; --d) {
      const int64_t q = rest / b.extent[d], c = rest - q * b.extent[d];
      at += c * b.to[d], source += c * b.from[d];
      rest = q;
    }
    to[at] = from[source];
  }
}
/// Tiles: the place in x is that in y modulo the extents of x.
KERNEL(repeat, const T* from, T* to, Box b) {
  for (int64_t i = first_item(); i < b.count; i += items()) {
    int64_t rest = i, source = 0;
    for (int d = int(b.rank) - 1; d >= 0; --d) {
      const int64_t q = rest / b.extent[d], c = rest - q * b.extent[d];
      source += c % b.to[d] * b.from[d];
      rest = q;
    }
    to[i] = from[source];
  }
}
KERNEL(fill, T* to, T value, int64_t n) {
  for (int64_t i = first_item(); i < n; i += items()) to[i] = value;
}
KERNEL(gather, const T* x, const I* at, T* y, int64_t* error, int64_t outer, int64_t n,
       int64_t inner, int64_t m) {
  for (int64_t i = first_item(); i < outer * m * inner; i += items()) {
    const int64_t c = i % inner, k = i / inner % m, o = i / (inner * m), p = at[k];
    if (p < 0 || p >= n)
      error[0] = 1, error[1] = p, error[2] = n;
    else
      y[i] = x[(o * n + p) * inner + c];
  }
}
KERNEL(one_hot, const I* at, T* y, int64_t count, int64_t depth, T on, T off) {
  for (int64_t i = first_item(); i < count * depth; i += items())
    y[i] = int64_t(at[i / depth]) == i % depth ? on : off;
}
