// SPDX-License-Identifier: Apache-2.0
// Products of matrices and convolutions on GPUs, where no library of the vendor serves: tiles of
// 64x64 results, 16x16 threads with 4x4 each. Convolutions are products whose operands are found by
// the geometry. Definitions from outside: T the data, KIND what is computed.
#pragma once
#include "evenflow/backends/gpu/shim.h"

using W = wide_t<T>;

/// y[b, i, j] = sum over k of a(b, i, k) b(b, k, j); operands by strides, batches by a table.
struct Product {
  int64_t m, n, k;
  int64_t a_row, a_col, b_row, b_col;
  int64_t rank, extent[8], a_batch[8], b_batch[8];
};
/// A convolution of images, channels last; kernel [kh, kw, c / groups, filters].
struct Convolution {
  int64_t n, h, w, c, oh, ow, filters, groups, kh, kw;
  int64_t stride_h, stride_w, dilation_h, dilation_w, top, left;
};

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

KERNEL(product, const T* a, const T* b, T* y, int64_t batches, Product p) {
  const int64_t rows = (p.m + kTile - 1) / kTile, columns = (p.n + kTile - 1) / kTile;
  for (int64_t g = block_index(); g < batches * rows * columns; g += blocks()) {
    const int64_t batch = g / (rows * columns), tile = g % (rows * columns);
    const T *pa = a, *pb = b;
    int64_t rest = batch;
    for (int d = int(p.rank) - 1; d >= 0; --d) {
      const int64_t c = rest % p.extent[d];
      pa += c * p.a_batch[d], pb += c * p.b_batch[d];
      rest /= p.extent[d];
    }
    T* py = y + batch * p.m * p.n;
    product_tile(
        p.m, p.n, p.k, tile / columns * kTile, tile % columns * kTile,
        [&](int64_t i, int64_t k) { return W(wide(pa[i * p.a_row + k * p.a_col])); },
        [&](int64_t k, int64_t j) { return W(wide(pb[k * p.b_row + j * p.b_col])); },
        [&](int64_t i, int64_t j, W v) { py[i * p.n + j] = narrow<T>(v); });
  }
}

/// y[n oh ow, filters] of each group.
KERNEL(conv_forward, const T* x, const T* kernel, T* y, Convolution v) {
  const int64_t pixels = v.n * v.oh * v.ow, depth = v.c / v.groups, own = v.filters / v.groups;
  const int64_t rows = (pixels + kTile - 1) / kTile, columns = (own + kTile - 1) / kTile;
  for (int64_t g = block_index(); g < v.groups * rows * columns; g += blocks()) {
    const int64_t group = g / (rows * columns), tile = g % (rows * columns);
    product_tile(
        pixels, own, v.kh * v.kw * depth, tile / columns * kTile, tile % columns * kTile,
        [&](int64_t i, int64_t k) {
          const int64_t c = k % depth, tap = k / depth;
          const int64_t r = i / v.ow % v.oh * v.stride_h - v.top + tap / v.kw * v.dilation_h;
          const int64_t s = i % v.ow * v.stride_w - v.left + tap % v.kw * v.dilation_w;
          if (r < 0 || r >= v.h || s < 0 || s >= v.w) return W(0);
          return W(wide(x[((i / (v.ow * v.oh) * v.h + r) * v.w + s) * v.c + group * depth + c]));
        },
        [&](int64_t k, int64_t j) { return W(wide(kernel[k * v.filters + group * own + j])); },
        [&](int64_t i, int64_t j, W s) { y[i * v.filters + group * own + j] = narrow<T>(s); });
  }
}
/// dx[n h w, c] of each group.
KERNEL(conv_input_grad, const T* kernel, const T* dy, T* dx, Convolution v) {
  const int64_t pixels = v.n * v.h * v.w, depth = v.c / v.groups, own = v.filters / v.groups;
  const int64_t rows = (pixels + kTile - 1) / kTile, columns = (depth + kTile - 1) / kTile;
  for (int64_t g = block_index(); g < v.groups * rows * columns; g += blocks()) {
    const int64_t group = g / (rows * columns), tile = g % (rows * columns);
    product_tile(
        pixels, depth, v.kh * v.kw * own, tile / columns * kTile, tile % columns * kTile,
        [&](int64_t i, int64_t k) {
          const int64_t f = k % own, tap = k / own;
          const int64_t r = i / v.w % v.h + v.top - tap / v.kw * v.dilation_h;
          const int64_t s = i % v.w + v.left - tap % v.kw * v.dilation_w;
          if (r < 0 || s < 0 || r % v.stride_h || s % v.stride_w) return W(0);
          const int64_t o = r / v.stride_h, p = s / v.stride_w;
          if (o >= v.oh || p >= v.ow) return W(0);
          return W(
              wide(dy[((i / (v.w * v.h) * v.oh + o) * v.ow + p) * v.filters + group * own + f]));
        },
        [&](int64_t k, int64_t j) {
          const int64_t f = k % own, tap = k / own;
          return W(wide(kernel[(tap * depth + j) * v.filters + group * own + f]));
        },
        [&](int64_t i, int64_t j, W s) { dx[i * v.c + group * depth + j] = narrow<T>(s); });
  }
}
/// dkernel[kh kw c / groups, filters] of each group; with several parts, sums of images apart.
KERNEL(conv_kernel_grad, const T* x, const T* dy, W* partial, Convolution v, int64_t parts) {
  const int64_t depth = v.c / v.groups, own = v.filters / v.groups, taps = v.kh * v.kw * depth;
  const int64_t rows = (taps + kTile - 1) / kTile, columns = (own + kTile - 1) / kTile;
  const int64_t pixels = v.n * v.oh * v.ow, per = (pixels + parts - 1) / parts;
  for (int64_t g = block_index(); g < v.groups * rows * columns * parts; g += blocks()) {
    const int64_t part = g / (v.groups * rows * columns);
    const int64_t group = g / (rows * columns) % v.groups, tile = g % (rows * columns);
    const int64_t begin = part * per, end = begin + per < pixels ? begin + per : pixels;
    product_tile(
        taps, own, end > begin ? end - begin : 0, tile / columns * kTile, tile % columns * kTile,
        [&](int64_t i, int64_t k) {
          const int64_t c = i % depth, tap = i / depth, o = begin + k;
          const int64_t r = o / v.ow % v.oh * v.stride_h - v.top + tap / v.kw * v.dilation_h;
          const int64_t s = o % v.ow * v.stride_w - v.left + tap % v.kw * v.dilation_w;
          if (r < 0 || r >= v.h || s < 0 || s >= v.w) return W(0);
          return W(wide(x[((o / (v.ow * v.oh) * v.h + r) * v.w + s) * v.c + group * depth + c]));
        },
        [&](int64_t k, int64_t j) {
          return W(wide(dy[(begin + k) * v.filters + group * own + j]));
        },
        [&](int64_t i, int64_t j, W s) {
          partial[(part * taps + i) * v.filters + group * own + j] = s;
        });
  }
}
KERNEL(add_parts, const W* partial, T* y, int64_t n, int64_t parts) {
  for (int64_t i = first_item(); i < n; i += items()) {
    W s = 0;
    for (int64_t p = 0; p < parts; ++p) s += partial[p * n + i];
    y[i] = narrow<T>(s);
  }
}

// ---- pooling: one thread a result
struct Pooling {
  int64_t n, h, w, c, oh, ow, kh, kw, stride_h, stride_w, top, left;
};
struct Window {
  int64_t r0, r1, s0, s1;
  FUNCTION Window(const Pooling& p, int64_t o, int64_t q) {
    r0 = o * p.stride_h - p.top, s0 = q * p.stride_w - p.left;
    r1 = r0 + p.kh < p.h ? r0 + p.kh : p.h, s1 = s0 + p.kw < p.w ? s0 + p.kw : p.w;
    r0 = r0 < 0 ? 0 : r0, s0 = s0 < 0 ? 0 : s0;
  }
  FUNCTION W count() const { return W((r1 - r0) * (s1 - s0)); }
};
FUNCTION int64_t place_of_largest(const T* x, const Pooling& p, int64_t image, const Window& a,
                                  int64_t c) {
  int64_t best = ((image * p.h + a.r0) * p.w + a.s0) * p.c + c;
  for (int64_t r = a.r0; r < a.r1; ++r)
    for (int64_t s = a.s0; s < a.s1; ++s) {
      const int64_t at = ((image * p.h + r) * p.w + s) * p.c + c;
      if (wide(x[at]) > wide(x[best])) best = at;
    }
  return best;
}
KERNEL(max_pool, const T* x, T* y, Pooling p) {
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
KERNEL(average_pool, const T* x, T* y, Pooling p) {
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
FUNCTION void gather_windows(T* dx, const Pooling& p, Share share) {
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
KERNEL(average_pool_grad, const T* dy, T* dx, Pooling p) {
  gather_windows(dx, p, [&](int64_t image, int64_t o, int64_t q, int64_t c, int64_t) {
    return W(wide(dy[((image * p.oh + o) * p.ow + q) * p.c + c])) / Window(p, o, q).count();
  });
}
KERNEL(max_pool_grad, const T* x, const T* dy, T* dx, Pooling p) {
  gather_windows(dx, p, [&](int64_t image, int64_t o, int64_t q, int64_t c, int64_t i) {
    const Window a(p, o, q);
    return place_of_largest(x, p, image, a, c) == i
               ? W(wide(dy[((image * p.oh + o) * p.ow + q) * p.c + c]))
               : W(0);
  });
}
/// What the gradient's gradient picks: x's place of the largest in another tensor like x.
KERNEL(max_pool_pick, const T* x, const T* from, T* y, Pooling p) {
  const int64_t total = p.n * p.oh * p.ow * p.c;
  for (int64_t i = first_item(); i < total; i += items()) {
    const int64_t c = i % p.c, q = i / p.c % p.ow, o = i / (p.c * p.ow) % p.oh,
                  image = i / (p.c * p.ow * p.oh);
    y[i] = from[place_of_largest(x, p, image, Window(p, o, q), c)];
  }
}
