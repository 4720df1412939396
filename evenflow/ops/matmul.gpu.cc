// SPDX-License-Identifier: Apache-2.0
// Products, convolutions and pooling on GPUs by own kernels: right everywhere, and fast enough
// where no library of the vendor is there.
#include "evenflow/ops/conv_rules.h"
#include "evenflow/ops/gpu_call.h"
#include "evenflow/ops/matmul_attrs.h"
#include "evenflow/ops/pooling_rules.h"

namespace evenflow {
namespace {
using gpu::Grid;
using gpu::Launcher;
constexpr int kTile = 64, kDepth = 16;

int64_t tiles(int64_t n) { return (n + kTile - 1) / kTile; }
Launcher kernel(const CallSig& s, const std::string& name) {
  return {s.on, "ops/matmul.gpu.h", name, {{"T", gpu_type(s.out[0].dtype)}}};
}
Grid tile_grid(int64_t blocks, DType d) {
  const int64_t wide = d == DType::f64 || !is_floating(d) ? 8 : 4;
  return {std::clamp<int64_t>(blocks, 1, 1 << 20), 256, 2 * kDepth * (kTile + 1) * wide};
}

// As in matmul.gpu.h.
struct Product {
  int64_t m, n, k, a_row, a_col, b_row, b_col, rank, extent[8], a_batch[8], b_batch[8];
};
struct Convolution {
  int64_t n, h, w, c, oh, ow, filters, groups, kh, kw, stride_h, stride_w, dilation_h, dilation_w,
      top, left;
};
struct Pools {
  int64_t n, h, w, c, oh, ow, kh, kw, stride_h, stride_w, top, left;
};
Convolution convolution(const Sig& x, const Sig& kernel, const Conv2DAttrs& a) {
  const ConvGeometry g = conv_geometry(x, kernel, a);
  return {g.n,          g.h.in,       g.w.in,     g.c,       g.h.out,    g.w.out,
          g.filters,    g.groups,     g.h.size,   g.w.size,  g.h.stride, g.w.stride,
          g.h.dilation, g.w.dilation, g.h.before, g.w.before};
}
Pools pools(const Sig& x, const Pool2DAttrs& a) {
  const Pooling p = pooling(x, a);
  return {p.n,      p.h.in,   p.w.in,     p.c,        p.h.out,    p.w.out,
          p.h.size, p.w.size, p.h.stride, p.w.stride, p.h.before, p.w.before};
}
template <class F>
Prepared over(const CallSig& s, const std::string& name, F run) {
  const Launcher k = kernel(s, name);
  return {[k, run](const Call& c) {
    if (!nothing_to_do(c)) run(k, c);
  }};
}
}  // namespace

GPU_KERNEL(matmul, MatmulAttrs, tiles) {
  return {.prepare = [](const CallSig& s, const MatmulAttrs& t) -> Prepared {
    const Shape &a = s.in[0].shape, &b = s.in[1].shape, &y = s.out[0].shape;
    Product p{};
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
    return over(s, "product", [=, type = s.out[0].dtype](const Launcher& k, const Call& c) {
      k(c.on, tile_grid(batches * tiles(p.m) * tiles(p.n), type), c.in[0].data, c.in[1].data,
        c.out[0].data, batches, p);
    });
  }};
}
GPU_KERNEL(conv2d, Conv2DAttrs, tiles) {
  return {.prepare = [](const CallSig& s, const Conv2DAttrs& a) -> Prepared {
    const Convolution v = convolution(s.in[0], s.in[1], a);
    return over(s, "conv_forward", [=, type = s.out[0].dtype](const Launcher& k, const Call& c) {
      k(c.on, tile_grid(v.groups * tiles(v.n * v.oh * v.ow) * tiles(v.filters / v.groups), type),
        c.in[0].data, c.in[1].data, c.out[0].data, v);
    });
  }};
}
GPU_KERNEL(conv2d_input_grad, Conv2DAttrs, tiles) {
  return {.prepare = [](const CallSig& s, const Conv2DAttrs& a) -> Prepared {
    const Convolution v = convolution(s.in[2], s.in[0], a);
    return over(s, "conv_input_grad", [=, type = s.out[0].dtype](const Launcher& k, const Call& c) {
      k(c.on, tile_grid(v.groups * tiles(v.n * v.h * v.w) * tiles(v.c / v.groups), type),
        c.in[0].data, c.in[1].data, c.out[0].data, v);
    });
  }};
}
GPU_KERNEL(conv2d_kernel_grad, Conv2DAttrs, tiles) {
  return {.prepare = [](const CallSig& s, const Conv2DAttrs& a) -> Prepared {
    const Convolution v = convolution(s.in[0], s.in[2], a);
    const int64_t taps = v.kh * v.kw * (v.c / v.groups), count = s.out[0].shape.count();
    const int64_t blocks = v.groups * tiles(taps) * tiles(v.filters / v.groups);
    const int64_t pixels = v.n * v.oh * v.ow;
    const int64_t parts = std::clamp<int64_t>(
        std::min<int64_t>(gpu::gpu_of(s.on).processors() * 4 / std::max<int64_t>(blocks, 1),
                          pixels / 256),
        1, 256);
    const DType type = s.out[0].dtype;
    const int64_t wide = type == DType::f64 ? 8 : 4;
    const Launcher partial = kernel(s, "conv_kernel_grad"), add = kernel(s, "add_parts");
    return {[=](const Call& c) {
              if (!count) return;
              partial(c.on, tile_grid(blocks * parts, type), c.in[0].data, c.in[1].data, c.scratch,
                      v, parts);
              add(c.on, grid_for(c.on, count), c.scratch, c.out[0].data, count, parts);
            },
            std::max<int64_t>(1, parts * count * wide)};
  }};
}
GPU_KERNEL(max_pool2d, Pool2DAttrs, elements) {
  return {.prepare = [](const CallSig& s, const Pool2DAttrs& a) -> Prepared {
    return over(s, "max_pool", [p = pools(s.in[0], a)](const Launcher& k, const Call& c) {
      k(c.on, grid_for(c.on, c.out[0].count()), c.in[0].data, c.out[0].data, p);
    });
  }};
}
GPU_KERNEL(average_pool2d, Pool2DAttrs, elements) {
  return {.prepare = [](const CallSig& s, const Pool2DAttrs& a) -> Prepared {
    return over(s, "average_pool", [p = pools(s.in[0], a)](const Launcher& k, const Call& c) {
      k(c.on, grid_for(c.on, c.out[0].count()), c.in[0].data, c.out[0].data, p);
    });
  }};
}
GPU_KERNEL(max_pool2d_grad, Pool2DAttrs, elements) {
  return {.prepare = [](const CallSig& s, const Pool2DAttrs& a) -> Prepared {
    return over(s, "max_pool_grad", [p = pools(s.in[0], a)](const Launcher& k, const Call& c) {
      k(c.on, grid_for(c.on, c.out[0].count()), c.in[0].data, c.in[1].data, c.out[0].data, p);
    });
  }};
}
GPU_KERNEL(average_pool2d_grad, Pool2DAttrs, elements) {
  return {.prepare = [](const CallSig& s, const Pool2DAttrs& a) -> Prepared {
    return over(s, "average_pool_grad", [p = pools(s.in[1], a)](const Launcher& k, const Call& c) {
      k(c.on, grid_for(c.on, c.out[0].count()), c.in[0].data, c.out[0].data, p);
    });
  }};
}
GPU_KERNEL(max_pool2d_pick, Pool2DAttrs, elements) {
  return {.prepare = [](const CallSig& s, const Pool2DAttrs& a) -> Prepared {
    return over(s, "max_pool_pick", [p = pools(s.in[0], a)](const Launcher& k, const Call& c) {
      k(c.on, grid_for(c.on, c.out[0].count()), c.in[0].data, c.in[1].data, c.out[0].data, p);
    });
  }};
}

}  // namespace evenflow
