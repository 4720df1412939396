// SPDX-License-Identifier: Apache-2.0
// Softmax and its kin on GPUs: a block a row. Definitions from outside: T the data, I the labels.
#pragma once
#include "evenflow/backends/gpu/shim.h"

using W = wide_t<T>;
struct LargerOf {
  FUNCTION W operator()(W a, W b) const { return larger(a, b); }
};
struct SumOf {
  FUNCTION W operator()(W a, W b) const { return a + b; }
};
/// The largest element of a row and the sum of e^(x - largest).
struct RowSum {
  W top, sum;
  FUNCTION RowSum(const T* x, int64_t n, int64_t stride) {
    W* local = static_cast<W*>(local_memory());
    W a = -W(infinity());
    for (int64_t i = thread_index(); i < n; i += threads()) a = larger(a, W(wide(x[i * stride])));
    top = reduce_block(a, local, LargerOf());
    W s = 0;
    for (int64_t i = thread_index(); i < n; i += threads())
      s += std::exp(W(wide(x[i * stride])) - top);
    sum = reduce_block(s, local, SumOf());
  }
};

KERNEL(softmax, const T* x, T* y, int64_t rows, int64_t n, int64_t inner, int32_t logarithm) {
  for (int64_t r = block_index(); r < rows; r += blocks()) {
    const int64_t at = r / inner * n * inner + r % inner;
    const RowSum s(x + at, n, inner);
    const W log_sum = std::log(s.sum), share = 1 / s.sum;
    for (int64_t i = thread_index(); i < n; i += threads()) {
      const W d = W(wide(x[at + i * inner])) - s.top;
      y[at + i * inner] = narrow<T>(logarithm ? d - log_sum : std::exp(d) * share);
    }
  }
}
KERNEL(cross_entropy, const T* x, const I* labels, T* y, int64_t* error, int64_t rows, int64_t n) {
  for (int64_t r = block_index(); r < rows; r += blocks()) {
    const RowSum s(x + r * n, n, 1);
    if (thread_index()) continue;
    const int64_t l = labels[r];
    if (l < 0 || l >= n) {
      error[0] = 1, error[1] = l, error[2] = n;
      continue;
    }
    y[r] = narrow<T>(std::log(s.sum) - (W(wide(x[r * n + l])) - s.top));
  }
}
KERNEL(cross_entropy_grad, const T* x, const I* labels, const T* grad, T* dx, int64_t* error,
       int64_t rows, int64_t n) {
  for (int64_t r = block_index(); r < rows; r += blocks()) {
    const RowSum s(x + r * n, n, 1);
    const int64_t l = labels[r];
    if ((l < 0 || l >= n) && thread_index() == 0) error[0] = 1, error[1] = l, error[2] = n;
    const W g = wide(grad[r]), share = 1 / s.sum;
    for (int64_t i = thread_index(); i < n; i += threads())
      dx[r * n + i] = narrow<T>((std::exp(W(wide(x[r * n + i])) - s.top) * share - W(i == l)) * g);
  }
}
/// The place of the largest (or smallest) element along an axis; the first of ties, NaN wins.
KERNEL(extreme, const T* x, int64_t* y, int64_t results, int64_t n, int64_t inner, int32_t least) {
  for (int64_t r = first_item(); r < results; r += items()) {
    const int64_t at = r / inner * n * inner + r % inner;
    int64_t best = 0;
    auto top = wide(x[at]);
    for (int64_t i = 1; i < n; ++i) {
      const auto v = wide(x[at + i * inner]);
      if ((least ? v < top : v > top) || (v != v && top == top)) best = i, top = v;
    }
    y[r] = best;
  }
}
