// SPDX-License-Identifier: Apache-2.0
// Convolutions on GPUs as products of matrices whose elements are found by the geometry.
// Definitions from outside: T the data.
#pragma once
#include "evenflow/backends/gpu/shim.h"
#include "evenflow/ops/gpu_args.gpu.h"
#include "evenflow/ops/matmul.gpu.h"

using evenflow::gpu::Convolution;

/// What of x lies under a tap of the window that makes pixel i of y; 0 outside.
FUNCTION W under_tap(const T* x, const Convolution& v, int64_t i, int64_t tap, int64_t channel) {
  const int64_t r = i / v.ow % v.oh * v.stride_h - v.top + tap / v.kw * v.dilation_h;
  const int64_t s = i % v.ow * v.stride_w - v.left + tap % v.kw * v.dilation_w;
  if (r < 0 || r >= v.h || s < 0 || s >= v.w) return W(0);
  return W(wide(x[((i / (v.ow * v.oh) * v.h + r) * v.w + s) * v.c + channel]));
}

/// y[n oh ow, filters] of each group.
KERNEL(conv_forward, const T* x, const T* kernel, T* y, Convolution v) {
  const int64_t pixels = v.n * v.oh * v.ow, depth = v.c / v.groups, own = v.filters / v.groups;
  each_tile(v.groups, pixels, own, [&](int64_t group, int64_t i0, int64_t j0) {
    product_tile(
        pixels, own, v.kh * v.kw * depth, i0, j0,
        [&](int64_t i, int64_t k) {
          return under_tap(x, v, i, k / depth, group * depth + k % depth);
        },
        [&](int64_t k, int64_t j) { return W(wide(kernel[k * v.filters + group * own + j])); },
        [&](int64_t i, int64_t j, W s) { y[i * v.filters + group * own + j] = narrow<T>(s); });
  });
}
/// dx[n h w, c] of each group.
KERNEL(conv_input_grad, const T* kernel, const T* dy, T* dx, Convolution v) {
  const int64_t pixels = v.n * v.h * v.w, depth = v.c / v.groups, own = v.filters / v.groups;
  each_tile(v.groups, pixels, depth, [&](int64_t group, int64_t i0, int64_t j0) {
    product_tile(
        pixels, depth, v.kh * v.kw * own, i0, j0,
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
  });
}
/// dkernel[kh kw c / groups, filters] of each group; with several parts, sums of images apart.
KERNEL(conv_kernel_grad, const T* x, const T* dy, W* partial, Convolution v, int64_t parts) {
  const int64_t depth = v.c / v.groups, own = v.filters / v.groups, taps = v.kh * v.kw * depth;
  const int64_t pixels = v.n * v.oh * v.ow, per = (pixels + parts - 1) / parts;
  each_tile(v.groups * parts, taps, own, [&](int64_t number, int64_t i0, int64_t j0) {
    const int64_t part = number / v.groups, group = number % v.groups;
    const int64_t begin = part * per, end = begin + per < pixels ? begin + per : pixels;
    product_tile(
        taps, own, end > begin ? end - begin : 0, i0, j0,
        [&](int64_t i, int64_t k) {
          return under_tap(x, v, begin + k, i / depth, group * depth + i % depth);
        },
        [&](int64_t k, int64_t j) {
          return W(wide(dy[(begin + k) * v.filters + group * own + j]));
        },
        [&](int64_t i, int64_t j, W s) {
          partial[(part * taps + i) * v.filters + group * own + j] = s;
        });
  });
}
KERNEL(add_parts, const W* partial, T* y, int64_t n, int64_t parts) {
  for (int64_t i = first_item(); i < n; i += items()) {
    W s = 0;
    for (int64_t p = 0; p < parts; ++p) s += partial[p * n + i];
    y[i] = narrow<T>(s);
  }
}
