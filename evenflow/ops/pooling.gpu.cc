// SPDX-License-Identifier: Apache-2.0
#include "evenflow/ops/gpu_call.h"
#include "evenflow/ops/pooling_rules.h"

namespace evenflow {
namespace {
// A kernel of kInputs tensors, one after the other, for windows of `image`.
template <int kInputs>
Prepared pooled(const CallSig& s, const std::string& name, const Sig& image, const Pool2DAttrs& a) {
  const Pooling p = pooling(image, a);
  const gpu::Pools g{p.n,      p.h.in,   p.w.in,     p.c,        p.h.out,    p.w.out,
                     p.h.size, p.w.size, p.h.stride, p.w.stride, p.h.before, p.w.before};
  return gpu_call(s, "ops/pooling.gpu.h", name, [g](const gpu::Launcher& k, const Call& c) {
    const gpu::Grid grid = grid_for(c.on, c.out[0].count());
    if constexpr (kInputs == 1)
      k(c.on, grid, c.in[0].data, c.out[0].data, g);
    else
      k(c.on, grid, c.in[0].data, c.in[1].data, c.out[0].data, g);
  });
}
using A = Pool2DAttrs;
}  // namespace

GPU_KERNEL(max_pool2d, A, elements) {
  return {
      .prepare = [](const CallSig& s, const A& a) { return pooled<1>(s, "max_pool", s.in[0], a); }};
}
GPU_KERNEL(average_pool2d, A, elements) {
  return {.prepare = [](const CallSig& s, const A& a) {
    return pooled<1>(s, "average_pool", s.in[0], a);
  }};
}
GPU_KERNEL(max_pool2d_grad, A, elements) {
  return {.prepare = [](const CallSig& s, const A& a) {
    return pooled<2>(s, "max_pool_grad", s.in[0], a);
  }};
}
GPU_KERNEL(average_pool2d_grad, A, elements) {
  return {.prepare = [](const CallSig& s, const A& a) {
    return pooled<1>(s, "average_pool_grad", s.in[1], a);
  }};
}
GPU_KERNEL(max_pool2d_pick, A, elements) {
  return {.prepare = [](const CallSig& s, const A& a) {
    return pooled<2>(s, "max_pool_pick", s.in[0], a);
  }};
}

}  // namespace evenflow
