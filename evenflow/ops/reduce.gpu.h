// SPDX-License-Identifier: Apache-2.0
// Reductions on GPUs. The kept and the reduced axes each have extents and strides of their own.
// Definitions from outside: T, ACC the accumulator, TO the result, START, STEP(a, b), END(a, n).
#pragma once
#include "evenflow/backends/gpu/shim.h"
#include "evenflow/ops/gpu_args.gpu.h"

using evenflow::gpu::Axes;

FUNCTION int64_t offset(const Axes& a, int64_t i) {
  int64_t at = 0;
  for (int d = int(a.rank) - 1; d >= 0; --d) {
    const int64_t q = i / a.extent[d];
    at += (i - q * a.extent[d]) * a.stride[d];
    i = q;
  }
  return at;
}

/// Columns side by side: `lanes` results at a time, the block's rows share the elements of each;
/// with several parts, the elements are divided among blocks too, and partial values are left for
/// `finish`.
KERNEL(reduce, const T* x, TO* y, ACC* partial, int64_t results, int64_t count, int64_t parts,
       int64_t lanes, double n, Axes kept, Axes gone) {
  const int64_t groups = (results + lanes - 1) / lanes;
  const int lane = thread_index() % int(lanes), row = thread_index() / int(lanes);
  const int rows = threads() / int(lanes);
  ACC* local = static_cast<ACC*>(local_memory());
  for (int64_t b = block_index(); b < groups * parts; b += blocks()) {
    const int64_t part = b / groups, j = b % groups * lanes + lane;
    const int64_t per = (count + parts - 1) / parts, begin = part * per,
                  end = begin + per < count ? begin + per : count;
    ACC a = START;
    if (j < results) {
      const int64_t base = offset(kept, j);
      if (gone.rank == 1)
        for (int64_t i = begin + row; i < end; i += rows)
          a = STEP(a, ACC(wide(x[base + i * gone.stride[0]])));
      else
        for (int64_t i = begin + row; i < end; i += rows)
          a = STEP(a, ACC(wide(x[base + offset(gone, i)])));
    }
    a = reduce_rows(a, local, int(lanes), [](ACC p, ACC q) { return STEP(p, q); });
    if (row || j >= results) continue;
    if (parts > 1)
      partial[part * results + j] = a;
    else
      y[j] = converted<TO>(END(a, n));
  }
}
KERNEL(finish, const ACC* partial, TO* y, int64_t results, int64_t parts, double n) {
  for (int64_t j = first_item(); j < results; j += items()) {
    ACC a = partial[j];
    for (int64_t k = 1; k < parts; ++k) a = STEP(a, partial[k * results + j]);
    y[j] = converted<TO>(END(a, n));
  }
}
/// Whether all elements are finite: 1 in `bad` where one is not.
KERNEL(not_finite, const T* x, int32_t* bad, int64_t n) {
  bool found = false;
  for (int64_t i = first_item(); i < n; i += items()) {
    const auto v = wide(x[i]);
    found = found || !(v - v == 0);
  }
  if (found) *bad = 1;
}
/// The same of up to three small tensors by one block, at once.
KERNEL(all_small, const T* a, int64_t na, const T* b, int64_t nb, const T* c, int64_t nc,
       bool* ok) {
  int32_t* found = static_cast<int32_t*>(local_memory());
  if (thread_index() == 0) *found = 0;
  barrier();
  const T* of[3] = {a, b, c};
  const int64_t n[3] = {na, nb, nc};
  bool bad = false;
  for (int k = 0; k < 3; ++k)
    for (int64_t i = thread_index(); i < n[k]; i += threads()) {
      const auto v = wide(of[k][i]);
      bad = bad || !(v - v == 0);
    }
  if (bad) *found = 1;
  barrier();
  if (thread_index() == 0) *ok = *found == 0;
}
KERNEL(is_zero, const int32_t* bad, bool* ok) {
  if (first_item() == 0) *ok = *bad == 0;
}
