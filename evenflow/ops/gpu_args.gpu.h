// SPDX-License-Identifier: Apache-2.0
// What kernels for GPUs are told about their work: plain numbers, the same on both sides.
#pragma once
#include <cstdint>

namespace evenflow::gpu {

/// How threads share the work of batch norm. Positions go in groups of U for each row of a block;
/// groups go round among the chunks, so that all blocks are near one place of memory.
struct Walk {
  int64_t positions, groups, channels;
  int64_t plane;  // packs of a plane, channels first
  int lanes;      // threads side by side along the channels
  int chunks, channel_blocks;
};

/// Extents and strides of some axes, the last one innermost.
struct Axes {
  int64_t rank = 0, extent[8] = {}, stride[8] = {};
};

/// to[to_base + ...] = from[from_base + ...] for all places of a box.
struct Box {
  int64_t rank = 0, count = 1, to_base = 0, from_base = 0, extent[8] = {}, to[8] = {}, from[8] = {};
};

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

/// Windows of images, channels last.
struct Pools {
  int64_t n, h, w, c, oh, ow, kh, kw, stride_h, stride_w, top, left;
};

}  // namespace evenflow::gpu
