// SPDX-License-Identifier: Apache-2.0
// Pooling on GPUs: a thread a result. Definitions from outside: T the data.
#pragma once
#include "evenflow/backends/gpu/shim.h"
#include "evenflow/ops/gpu_args.gpu.h"

using evenflow::gpu::Pools;
using W = wide_t<T>;

struct Window {
  int64_t r0, r1, s0, s1;
  FUNCTION Window(const Pools& p, int64_t o, int64_t q) {
    r0 = o * p.stride_h - p.top, s0 = q * p.stride_w - p.left;
    r1 = r0 + p.kh < p.h ? r0 + p.kh : p.h, s1 = s0 + p.kw < p.w ? s0 + p.kw : p.w;
    r0 = r0 < 0 ? 0 : r0, s0 = s0 < 0 ? 0 : s0;
  }
  FUNCTION W count() const { return W((r1 - r0) * (s1 - s0)); }
};
FUNCTION int64_t place_of_largest(const T* x, const Pools& p, int64_t image, const Window& a,
                                  int64_t c) {
  int64_t best = ((image * p.h + a.r0) * p.w + a.s0) * p.c + c;
  for (int64_t r = a.r0; r < a.r1; ++r)
    for (int64_t s = a.s0; s < a.s1; ++s) {
      const int64_t at = ((image * p.h + r) * p.w + s) * p.c + c;
      if (wide(x[at]) > wide(x[best])) best = at;
    }
  return best;
}
KERNEL(max_pool, const T* x, T* y, Pools p) {
  const int64_t total = p.n * p.oh * p.ow * p.c;
  for (int64_t i = first_item(); i < total; i += items()) {
    const int64_t c = i % p.c, q = i / p.c % p.ow, o = i / (p.c * p.ow) % p.oh,
                  image = i / (p.c * p.ow * p.oh);
    const Window a(p, o, q);
    W top = W(wide(x[((image * p.h + a.r0) * p.w + a.s0) * p.c + c]));
    for (int64_t r = a.r0; r < a.r1; ++r)
      for (int64_t s = a.s0; s < a.s1; ++s) {
        const W v = W(wide(x[((image * p.h + r) * p.w + s) * p.c + c]));
        top = v > top || v != v ? v : top;
      }
    y[i] = narrow<T>(top);
  }
}
KERNEL(average_pool, const T* x, T* y, Pools p) {
  const int64_t total = p.n * p.oh * p.ow * p.c;
  for (int64_t i = first_item(); i < total; i += items()) {
    const int64_t c = i % p.c, q = i / p.c % p.ow, o = i / (p.c * p.ow) % p.oh,
                  image = i / (p.c * p.ow * p.oh);
    const Window a(p, o, q);
    W sum = 0;
    for (int64_t r = a.r0; r < a.r1; ++r)
      for (int64_t s = a.s0; s < a.s1; ++s)
        sum += W(wide(x[((image * p.h + r) * p.w + s) * p.c + c]));
    y[i] = narrow<T>(sum / a.count());
  }
}
/// Each element of x gathers from the windows that hold it, in their order.
template <class Share>
FUNCTION void gather_windows(T* dx, const Pools& p, Share share) {
  const int64_t total = p.n * p.h * p.w * p.c;
  for (int64_t i = first_item(); i < total; i += items()) {
    const int64_t c = i % p.c, s = i / p.c % p.w, r = i / (p.c * p.w) % p.h,
                  image = i / (p.c * p.w * p.h);
    const int64_t above = r + p.top - p.kh + 1, before = s + p.left - p.kw + 1;
    const int64_t o0 = above <= 0 ? 0 : (above + p.stride_h - 1) / p.stride_h;
    const int64_t q0 = before <= 0 ? 0 : (before + p.stride_w - 1) / p.stride_w;
    W sum = 0;
    for (int64_t o = o0; o < p.oh && o * p.stride_h - p.top <= r; ++o)
      for (int64_t q = q0; q < p.ow && q * p.stride_w - p.left <= s; ++q)
        sum += share(image, o, q, c, i);
    dx[i] = narrow<T>(sum);
  }
}
KERNEL(average_pool_grad, const T* dy, T* dx, Pools p) {
  gather_windows(dx, p, [&](int64_t image, int64_t o, int64_t q, int64_t c, int64_t) {
    return W(wide(dy[((image * p.oh + o) * p.ow + q) * p.c + c])) / Window(p, o, q).count();
  });
}
KERNEL(max_pool_grad, const T* x, const T* dy, T* dx, Pools p) {
  gather_windows(dx, p, [&](int64_t image, int64_t o, int64_t q, int64_t c, int64_t i) {
    const Window a(p, o, q);
    return place_of_largest(x, p, image, a, c) == i
               ? W(wide(dy[((image * p.oh + o) * p.ow + q) * p.c + c]))
               : W(0);
  });
}
/// What the gradient's gradient picks: x's place of the largest in another tensor like x.
KERNEL(max_pool_pick, const T* x, const T* from, T* y, Pools p) {
  const int64_t total = p.n * p.oh * p.ow * p.c;
  for (int64_t i = first_item(); i < total; i += items()) {
    const int64_t c = i % p.c, q = i / p.c % p.ow, o = i / (p.c * p.ow) % p.oh,
                  image = i / (p.c * p.ow * p.oh);
    y[i] = from[place_of_largest(x, p, image, Window(p, o, q), c)];
  }
}
