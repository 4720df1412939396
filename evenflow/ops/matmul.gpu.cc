// SPDX-License-Identifier: Apache-2.0
// Products on GPUs by own kernels: right everywhere, and fast enough where no library of the vendor
// is there.
#include "evenflow/ops/gpu_call.h"
#include "evenflow/ops/matmul_attrs.h"

namespace evenflow {

GPU_KERNEL(matmul, MatmulAttrs, tiles) {
  return {.prepare = [](const CallSig& s, const MatmulAttrs& t) -> Prepared {
    const Shape &a = s.in[0].shape, &b = s.in[1].shape, &y = s.out[0].shape;
    gpu::Product p{};
    p.m = y.dim(-2), p.n = y.dim(-1), p.k = a.dim(t.transpose_a ? -2 : -1);
    p.a_row = t.transpose_a ? 1 : p.k, p.a_col = t.transpose_a ? p.m : 1;
    p.b_row = t.transpose_b ? 1 : p.n, p.b_col = t.transpose_b ? p.k : 1;
    p.rank = y.rank() - 2;
    int64_t batches = 1;
    for (auto [shape, step, size] :
         {std::tuple{&a, p.a_batch, p.m * p.k}, {&b, p.b_batch, p.k * p.n}}) {
      int64_t stride = size;
      for (int64_t d = p.rank - 1, e = shape->rank() - 3; d >= 0; --d, --e) {
        const int64_t extent = e < 0 ? 1 : (*shape)[int(e)];
        step[d] = extent == 1 ? 0 : stride;
        stride *= extent;
      }
    }
    for (int64_t d = 0; d < p.rank; ++d) batches *= p.extent[d] = y[int(d)];
    return gpu_call(s, "ops/matmul.gpu.h", "product",
                    [=, type = s.out[0].dtype](const gpu::Launcher& k, const Call& c) {
                      k(c.on, gpu_tile_grid(batches * gpu_tiles(p.m) * gpu_tiles(p.n), type),
                        c.in[0].data, c.in[1].data, c.out[0].data, batches, p);
                    });
  }};
}
}  // namespace evenflow
