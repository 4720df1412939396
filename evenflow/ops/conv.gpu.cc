// SPDX-License-Identifier: Apache-2.0
// Convolutions on GPUs by own kernels, where no library of the vendor serves.
#include "evenflow/ops/conv_rules.h"
#include "evenflow/ops/gpu_call.h"

namespace evenflow {
namespace {
using gpu::Convolution;
using gpu::Launcher;
constexpr const char* kFile = "ops/conv.gpu.h";

Convolution convolution(const Sig& x, const Sig& kernel, const Conv2DAttrs& a) {
  const ConvGeometry g = conv_geometry(x, kernel, a);
  return {g.n,          g.h.in,       g.w.in,     g.c,       g.h.out,    g.w.out,
          g.filters,    g.groups,     g.h.size,   g.w.size,  g.h.stride, g.w.stride,
          g.h.dilation, g.w.dilation, g.h.before, g.w.before};
}
}  // namespace

GPU_KERNEL(conv2d, Conv2DAttrs, tiles) {
  return {.prepare = [](const CallSig& s, const Conv2DAttrs& a) -> Prepared {
    const Convolution v = convolution(s.in[0], s.in[1], a);
    return gpu_call(
        s, kFile, "conv_forward", [=, type = s.out[0].dtype](const Launcher& k, const Call& c) {
          k(c.on,
            gpu_tile_grid(v.groups * gpu_tiles(v.n * v.oh * v.ow) * gpu_tiles(v.filters / v.groups),
                          type),
            c.in[0].data, c.in[1].data, c.out[0].data, v);
        });
  }};
}
GPU_KERNEL(conv2d_input_grad, Conv2DAttrs, tiles) {
  return {.prepare = [](const CallSig& s, const Conv2DAttrs& a) -> Prepared {
    const Convolution v = convolution(s.in[2], s.in[0], a);
    return gpu_call(
        s, kFile, "conv_input_grad", [=, type = s.out[0].dtype](const Launcher& k, const Call& c) {
          k(c.on,
            gpu_tile_grid(v.groups * gpu_tiles(v.n * v.h * v.w) * gpu_tiles(v.c / v.groups), type),
            c.in[0].data, c.in[1].data, c.out[0].data, v);
        });
  }};
}
GPU_KERNEL(conv2d_kernel_grad, Conv2DAttrs, tiles) {
  return {.prepare = [](const CallSig& s, const Conv2DAttrs& a) -> Prepared {
    const Convolution v = convolution(s.in[0], s.in[2], a);
    const int64_t taps = v.kh * v.kw * (v.c / v.groups), count = s.out[0].shape.count();
    const int64_t blocks = v.groups * gpu_tiles(taps) * gpu_tiles(v.filters / v.groups);
    const int64_t pixels = v.n * v.oh * v.ow;
    const int64_t parts = std::clamp<int64_t>(
        std::min<int64_t>(gpu::gpu_of(s.on).processors() * 4 / std::max<int64_t>(blocks, 1),
                          pixels / 256),
        1, 256);
    const DType type = s.out[0].dtype;
    const int64_t wide = type == DType::f64 ? 8 : 4;
    const Launcher partial = gpu_kernel(s, kFile, "conv_kernel_grad"),
                   add = gpu_kernel(s, kFile, "add_parts");
    return {[=](const Call& c) {
              if (!count) return;
              partial(c.on, gpu_tile_grid(blocks * parts, type), c.in[0].data, c.in[1].data,
                      c.scratch, v, parts);
              add(c.on, grid_for(c.on, count), c.scratch, c.out[0].data, count, parts);
            },
            std::max<int64_t>(1, parts * count * wide)};
  }};
}
}  // namespace evenflow
