// SPDX-License-Identifier: Apache-2.0
// 3x3 convolutions of stride 1 with fewer multiplications: F(4x4, 3x3) and F(2x2, 3x3) of Winograd
// (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016). The kernel is
// transformed by an operation of its own, so that it can be shared, kept and folded.
// docs/design/winograd.md has the points of evaluation and the error.
#pragma once
#include <vector>

#include "evenflow/graph/tensor.h"

namespace evenflow {

struct WinogradKernelAttrs {
  int64_t tile = 4;
  bool flip = false;
  static void fields(auto& self, auto&& field) {
    field("tile", self.tile, "outputs of a tile along an axis: 4 or 2");
    field("flip", self.flip,
          "turn the kernel by 180 degrees and swap its channels: for the data gradient");
  }
};
struct WinogradAttrs {
  int64_t tile = 4;
  std::vector<int64_t> paddings = {1, 1, 1, 1};
  static void fields(auto& self, auto&& field) {
    field("tile", self.tile, "outputs of a tile along an axis: 4 or 2");
    field("paddings", self.paddings, "top, bottom, left, right: zeros around the image, 0..2");
  }
};

/// kernel [3, 3, ci, co] -> u [(tile + 2)^2, ci, co], or [(tile + 2)^2, co, ci] if flipped.
Tensor winograd_kernel(In kernel, WinogradKernelAttrs attrs = {});
/// The adjoint: the gradient for u -> the gradient for the kernel.
Tensor winograd_kernel_grad(In du, WinogradKernelAttrs attrs = {});
/// x [n, h, w, ci], u [(tile + 2)^2, ci, co] -> [n, h + top + bottom - 2, w + left + right - 2,
/// co].
Tensor winograd_conv2d(In x, In u, WinogradAttrs attrs = {});
/// Gradient for u, summed over all tiles of all images.
Tensor winograd_conv2d_kernel_grad(In x, In dy, WinogradAttrs attrs = {});
/// Gradient for x, in the shape of x_like, for any u. For the u of a kernel winograd_conv2d of dy
/// and the flipped kernel, with paddings 2 - p, is the same and faster.
Tensor winograd_conv2d_input_grad(In u, In dy, In x_like, WinogradAttrs attrs = {});

/// The tile, 4 or 2, with which n images of h x w outputs are made faster than by other kernels; 0
/// if there is none. An estimate, for the data and the kernel gradient too.
int64_t winograd_tile(int64_t n, int64_t h, int64_t w, int64_t ci, int64_t co);
inline bool winograd_pays(int64_t ci, int64_t co, int64_t h, int64_t w, int64_t n) {
  return winograd_tile(n, h, w, ci, co) != 0;
}

}  // namespace evenflow
