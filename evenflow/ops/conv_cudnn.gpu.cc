// SPDX-License-Identifier: Apache-2.0
// Convolutions on CUDA by cuDNN. Its kernels are [filters, kh, kw, c / groups], ours [kh, kw,
// c / groups, filters]: they are turned on the way. Padding that is not the same on both sides,
// which it does not take, is put around the image beforehand.
#include "evenflow/backends/gpu/cuda/cudnn.h"

#include "evenflow/ops/conv_rules.h"
#include "evenflow/ops/gpu_call.h"

namespace evenflow {
namespace {
using gpu::Launcher;
using gpu::cuda::ConvolutionPass;
using gpu::cuda::ConvolutionPtr;
using gpu::cuda::ConvolutionShape;

int64_t aligned(int64_t n) { return (n + 255) / 256 * 256; }

struct Geometry {
  ConvolutionShape shape{};
  bool padded = false;    // the image is copied into a larger one
  gpu::Box into, out_of;  // the copies
  int64_t image_bytes = 0, kernel_bytes = 0;
  gpu::Box turn, turn_back;

  Geometry(const Sig& x, const Sig& kernel, const Conv2DAttrs& a) {
    const ConvGeometry g = conv_geometry(x, kernel, a);
    shape = {x.dtype,      g.n,        g.h.in,     g.w.in,    g.c,        g.h.out,    g.w.out,
             g.filters,    g.groups,   g.h.size,   g.w.size,  g.h.stride, g.w.stride, g.h.dilation,
             g.w.dilation, g.h.before, g.w.before, g.h.after, g.w.after};
    ConvolutionShape& s = shape;
    const int64_t size = size_of(x.dtype), depth = s.c / s.groups, taps = s.kh * s.kw * depth;
    kernel_bytes = aligned(taps * s.filters * size);
    const Shape turned{s.filters, taps};
    const int64_t rows[] = {taps, 1}, columns[] = {1, s.filters};
    turn = gpu_box(turned, rows, columns), turn_back = gpu_box(turned, columns, rows);
    if (s.top != s.bottom || s.left != s.right) {
      padded = true;
      const Shape image = x.shape, larger{s.n, s.h + s.top + s.bottom, s.w + s.left + s.right, s.c};
      const auto small = image.strides(), large = larger.strides();
      into = gpu_box(image, large, small), out_of = gpu_box(image, small, large);
      into.to_base = out_of.from_base = s.top * large[1] + s.left * large[2];
      s.h = larger[1], s.w = larger[2], s.top = s.left = s.bottom = s.right = 0;
      image_bytes = aligned(larger.count() * size);
    }
  }
};
template <ConvolutionPass kPass>
const Sig& image(const CallSig& c) {
  return kPass == ConvolutionPass::input_grad ? c.in[2] : c.in[0];
}
template <ConvolutionPass kPass>
const Sig& kernel_of(const CallSig& c) {
  return kPass == ConvolutionPass::forward      ? c.in[1]
         : kPass == ConvolutionPass::input_grad ? c.in[0]
                                                : c.in[2];
}

template <ConvolutionPass kPass>
KernelSheet<Conv2DAttrs> sheet() {
  return {
      .priority = 10,
      .declines = [](const CallSig& c, const Conv2DAttrs& a) -> std::string {
        if (c.on->device().kind != Device::Kind::cuda) return "the device is not CUDA";
        if (c.out[0].dtype == DType::f64) return "f64";
        for (auto* s : {&image<kPass>(c), &kernel_of<kPass>(c)})
          if (!s->shape.count()) return "no elements";
        if (!c.out[0].shape.count()) return "no elements";
        const Geometry g(image<kPass>(c), kernel_of<kPass>(c), a);
        std::string why;
        gpu::cuda::convolution(gpu::gpu_of(c.on), g.shape, kPass, &why);
        return why;
      },
      .prepare = [](const CallSig& c, const Conv2DAttrs& a) -> Prepared {
        const Geometry g(image<kPass>(c), kernel_of<kPass>(c), a);
        std::string why;
        const ConvolutionPtr plan = gpu::cuda::convolution(gpu::gpu_of(c.on), g.shape, kPass, &why);
        const Launcher copy(c.on, "ops/shape.gpu.h", "copy",
                            {{"T", gpu_type(c.out[0].dtype)}, {"I", "int64_t"}});
        const int64_t scratch = g.kernel_bytes + g.image_bytes + plan->workspace_bytes();
        return {[=](const Call& call) {
                  char* turned = static_cast<char*>(call.scratch);
                  char* padded = turned + g.kernel_bytes;
                  char* workspace = padded + g.image_bytes;
                  auto move = [&](const void* from, void* to, const gpu::Box& box) {
                    copy(call.on, grid_for(call.on, box.count), from, to, box);
                  };
                  void* x =
                      kPass == ConvolutionPass::input_grad ? call.out[0].data : call.in[0].data;
                  void* y = kPass == ConvolutionPass::forward ? call.out[0].data : call.in[1].data;
                  if (kPass != ConvolutionPass::kernel_grad)
                    move(kPass == ConvolutionPass::forward ? call.in[1].data : call.in[0].data,
                         turned, g.turn);
                  if (g.padded && kPass != ConvolutionPass::input_grad) {
                    gpu::gpu_of(call.on).zero(padded, g.image_bytes);
                    move(x, padded, g.into);
                  }
                  plan->run(g.padded ? padded : x, turned, y, workspace);
                  if (kPass == ConvolutionPass::kernel_grad)
                    move(turned, call.out[0].data, g.turn_back);
                  if (g.padded && kPass == ConvolutionPass::input_grad) move(padded, x, g.out_of);
                },
                scratch};
      },
  };
}
}  // namespace

GPU_KERNEL(conv2d, Conv2DAttrs, cudnn) { return sheet<ConvolutionPass::forward>(); }
GPU_KERNEL(conv2d_input_grad, Conv2DAttrs, cudnn) { return sheet<ConvolutionPass::input_grad>(); }
GPU_KERNEL(conv2d_kernel_grad, Conv2DAttrs, cudnn) { return sheet<ConvolutionPass::kernel_grad>(); }

}  // namespace evenflow
