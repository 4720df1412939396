// SPDX-License-Identifier: Apache-2.0
// conv2d and its two gradients as matrix products: the windows of some rows of an image, one below
// the other, are a matrix. For element types and machines that a library does not serve. Work is
// cut in chunks that depend on sizes alone, and what chunks have summed is added in their order.
#include <algorithm>
#include <cstring>
#include <type_traits>

#include "evenflow/backends/cpu/convert.h"
#include "evenflow/backends/cpu/gemm.h"
#include "evenflow/core/buffer.h"
#include "evenflow/core/parallel.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/conv_rules.h"

namespace evenflow {
namespace {

enum class Pass { forward, input_grad, kernel_grad };

constexpr int64_t kMatrixBytes = 256 << 10;  // of windows: they stay in the second cache
constexpr int64_t kChunks = 16, kPartialBytes = 64 << 20, kMostBytes = int64_t(1) << 31;

int64_t rounded(int64_t bytes) {
  return checked_add(bytes, Buffer::kAlignment - 1) / Buffer::kAlignment * Buffer::kAlignment;
}

struct Plan {
  ConvGeometry g;
  int64_t ci, fo, k;             // channels and filters of a group; taps times channels
  bool direct;                   // the image is the matrix
  int64_t rows, blocks;          // of output rows to a matrix; of those to an image
  int64_t items, grain, chunks;  // an item is a block, or an image
  int64_t matrix, piece, image, partial, each;  // bytes in scratch of a chunk
  int64_t kernel, total;
};

Plan plan_of(Pass pass, const CallSig& c, const Conv2DAttrs& a) {
  const Sig& x = pass == Pass::input_grad ? c.in[2] : c.in[0];
  const Sig& kernel = pass == Pass::forward      ? c.in[1]
                      : pass == Pass::input_grad ? c.in[0]
                                                 : c.in[2];
  const DType dtype = x.dtype;
  const bool narrow = size_of(dtype) == 2;
  const int64_t size = dtype == DType::f64 ? 8 : 4;
  Plan p{};
  p.g = conv_geometry(x, kernel, a);
  const ConvGeometry& g = p.g;
  p.ci = g.c / g.groups, p.fo = g.filters / g.groups;
  p.k = checked_mul(checked_mul(g.h.size, g.w.size), p.ci);
  p.direct = !narrow && g.h.size == 1 && g.w.size == 1 && g.h.out == g.h.in && g.w.out == g.w.in &&
             g.h.stride == 1 && g.w.stride == 1;
  const int64_t row = checked_mul(checked_mul(g.w.out, p.k), size);
  p.rows = p.direct ? g.h.out : std::clamp<int64_t>(kMatrixBytes / row, 1, g.h.out);
  p.blocks = (g.h.out + p.rows - 1) / p.rows;
  p.items = pass == Pass::input_grad ? g.n : checked_mul(g.n, p.blocks);
  p.matrix = p.direct ? 0 : rounded(checked_mul(row, p.rows));
  p.piece = narrow ? rounded(checked_mul(checked_mul(p.rows * g.w.out, g.filters), size)) : 0;
  p.image = narrow && pass == Pass::input_grad
                ? rounded(checked_mul(checked_mul(g.h.in * g.w.in, g.c), size))
                : 0;
  p.partial = pass == Pass::kernel_grad ? rounded(checked_mul(kernel.shape.count(), size)) : 0;
  int64_t most = kChunks;
  if (p.partial) most = std::clamp<int64_t>(kPartialBytes / p.partial, 1, kChunks);
  p.grain = (p.items + most - 1) / most;
  p.chunks = (p.items + p.grain - 1) / p.grain;
  p.each = checked_add(checked_add(p.matrix, p.piece), checked_add(p.image, p.partial));
  p.kernel =
      narrow && pass != Pass::kernel_grad ? rounded(checked_mul(kernel.shape.count(), size)) : 0;
  p.total = checked_add(p.kernel, checked_mul(p.each, p.chunks));
  return p;
}

template <class T>
void widen(const T* from, int64_t n, compute_t<T>* to) {
  cpu::to_f32(dtype_of<T>, from, n, to);
}

// Calls f(row of the matrix, first tap, taps, input position or -1) for the windows of output rows
// [first, last). Taps whose input lies in one piece come together.
template <class F>
void each_run(const Plan& p, int64_t first, int64_t last, F f) {
  const ConvGeometry& g = p.g;
  const bool together = g.groups == 1 && g.w.dilation == 1;
  int64_t r = 0;
  for (int64_t oy = first; oy < last; ++oy)
    for (int64_t ox = 0; ox < g.w.out; ++ox, ++r) {
      const int64_t column = ox * g.w.stride - g.w.before;
      for (int64_t ky = 0; ky < g.h.size; ++ky) {
        const int64_t y = oy * g.h.stride - g.h.before + ky * g.h.dilation, t = ky * g.w.size;
        if (y < 0 || y >= g.h.in) {
          f(r, t, g.w.size, int64_t(-1));
        } else if (together) {
          const int64_t from = std::clamp<int64_t>(-column, 0, g.w.size);
          const int64_t to = std::clamp<int64_t>(g.w.in - column, from, g.w.size);
          if (from > 0) f(r, t, from, int64_t(-1));
          if (from < to) f(r, t + from, to - from, y * g.w.in + column + from);
          if (to < g.w.size) f(r, t + to, g.w.size - to, int64_t(-1));
        } else {
          for (int64_t kx = 0; kx < g.w.size; ++kx) {
            const int64_t x = column + kx * g.w.dilation;
            f(r, t + kx, int64_t(1), x < 0 || x >= g.w.in ? -1 : y * g.w.in + x);
          }
        }
      }
    }
}

template <class T>
void gather(const Plan& p, const T* image, int64_t group, int64_t first, int64_t last,
            compute_t<T>* m) {
  using C = compute_t<T>;
  image += group * p.ci;
  each_run(p, first, last, [&](int64_t r, int64_t t, int64_t taps, int64_t at) {
    C* to = m + r * p.k + t * p.ci;
    if (at < 0) {
      std::fill_n(to, taps * p.ci, C(0));
      return;
    }
    const T* from = image + at * p.g.c;
    if constexpr (std::is_same_v<T, C>)
      std::copy_n(from, taps * p.ci, to);
    else
      widen(from, taps * p.ci, to);
  });
}

template <class C>
void scatter(const Plan& p, const C* m, int64_t group, int64_t first, int64_t last, C* image) {
  image += group * p.ci;
  each_run(p, first, last, [&](int64_t r, int64_t t, int64_t taps, int64_t at) {
    if (at < 0) return;
    const C* from = m + r * p.k + t * p.ci;
    C* to = image + at * p.g.c;
    const int64_t n = taps * p.ci;
    for (int64_t i = 0; i < n; ++i) to[i] += from[i];
  });
}

template <class T>
struct Conv {
  using C = compute_t<T>;
  static constexpr bool kNarrow = !std::is_same_v<T, C>;
  static constexpr DType kType = dtype_of<C>;
  const Plan& p;
  const ConvGeometry& g = p.g;
  char* scratch;

  struct Memory {
    C *matrix, *piece, *image, *partial;
  };
  Memory memory(int64_t chunk) const {
    char* at = scratch + p.kernel + chunk * p.each;
    Memory m;
    m.matrix = reinterpret_cast<C*>(at), at += p.matrix;
    m.piece = reinterpret_cast<C*>(at), at += p.piece;
    m.image = reinterpret_cast<C*>(at), at += p.image;
    m.partial = reinterpret_cast<C*>(at);
    return m;
  }
  const C* kernel_of(const T* kernel) const {
    if constexpr (kNarrow) {
      C* wide = reinterpret_cast<C*>(scratch);
      widen(kernel, p.k * g.filters, wide);
      return wide;
    } else {
      return kernel;
    }
  }
  // y or dy of some rows, as C.
  const C* piece_of(const T* y, int64_t n, C* wide) const {
    if constexpr (kNarrow) {
      widen(y, n * g.filters, wide);
      return wide;
    } else {
      return y;
    }
  }
  // A matrix of windows, and the distance of its rows.
  std::pair<const C*, int64_t> windows_of(const T* image, int64_t group, int64_t first,
                                          int64_t last, C* m) const {
    if constexpr (!kNarrow)
      if (p.direct) return {image + group * p.ci, g.c};
    gather(p, image, group, first, last, m);
    return {m, p.k};
  }
  int64_t last_row(int64_t first) const { return std::min(g.h.out, first + p.rows); }
  cpu::Gemm product(int64_t m, int64_t n, int64_t k) const {
    cpu::Gemm r{.m = m, .n = n, .k = k};
    r.same_bits = true;
    return r;
  }

  void forward(const T* x, const T* kernel, T* y) const {
    const C* w = kernel_of(kernel);
    parallel_for(p.items, p.grain, [&](int64_t begin, int64_t end) {
      const Memory mem = memory(begin / p.grain);
      for (int64_t i = begin; i < end; ++i) {
        const int64_t n = i / p.blocks, first = i % p.blocks * p.rows, last = last_row(first);
        const T* image = x + n * g.h.in * g.w.in * g.c;
        T* to = y + (n * g.h.out + first) * g.w.out * g.filters;
        const int64_t count = (last - first) * g.w.out;
        C* out;
        if constexpr (kNarrow)
          out = mem.piece;
        else
          out = to;
        for (int64_t gr = 0; gr < g.groups; ++gr) {
          const auto [m, ld] = windows_of(image, gr, first, last, mem.matrix);
          cpu::Gemm r = product(count, p.fo, p.k);
          r.lda = ld, r.ldb = r.ldc = g.filters;
          cpu::gemm(r, kType, m, w + gr * p.fo, kType, out + gr * p.fo);
        }
        if constexpr (kNarrow) cpu::from_f32(dtype_of<T>, out, count * g.filters, to);
      }
    });
  }

  void input_grad(const T* kernel, const T* dy, T* dx) const {
    const C* w = kernel_of(kernel);
    const int64_t pixels = g.h.in * g.w.in * g.c;
    parallel_for(p.items, p.grain, [&](int64_t begin, int64_t end) {
      const Memory mem = memory(begin / p.grain);
      for (int64_t n = begin; n < end; ++n) {
        T* to = dx + n * pixels;
        C* image;
        if constexpr (kNarrow)
          image = mem.image;
        else
          image = to;
        if (!p.direct) std::fill_n(image, pixels, C(0));
        for (int64_t first = 0; first < g.h.out; first += p.rows) {
          const int64_t last = last_row(first), count = (last - first) * g.w.out;
          const C* d = piece_of(dy + (n * g.h.out + first) * g.w.out * g.filters, count, mem.piece);
          for (int64_t gr = 0; gr < g.groups; ++gr) {
            cpu::Gemm r = product(count, p.k, p.fo);
            r.trans_b = true;
            r.lda = r.ldb = g.filters;
            r.ldc = p.direct ? g.c : p.k;
            C* m = p.direct ? image + gr * p.ci : mem.matrix;
            cpu::gemm(r, kType, d + gr * p.fo, w + gr * p.fo, kType, m);
            if (!p.direct) scatter(p, m, gr, first, last, image);
          }
        }
        if constexpr (kNarrow) cpu::from_f32(dtype_of<T>, image, pixels, to);
      }
    });
  }

  void kernel_grad(const T* x, const T* dy, T* dkernel) const {
    const int64_t size = p.k * g.filters;
    parallel_for(p.items, p.grain, [&](int64_t begin, int64_t end) {
      const Memory mem = memory(begin / p.grain);
      std::fill_n(mem.partial, size, C(0));
      for (int64_t i = begin; i < end; ++i) {
        const int64_t n = i / p.blocks, first = i % p.blocks * p.rows, last = last_row(first);
        const int64_t count = (last - first) * g.w.out;
        const T* image = x + n * g.h.in * g.w.in * g.c;
        const C* d = piece_of(dy + (n * g.h.out + first) * g.w.out * g.filters, count, mem.piece);
        for (int64_t gr = 0; gr < g.groups; ++gr) {
          const auto [m, ld] = windows_of(image, gr, first, last, mem.matrix);
          cpu::Gemm r = product(p.k, p.fo, count);
          r.trans_a = r.accumulate = true;
          r.lda = ld, r.ldb = r.ldc = g.filters;
          cpu::gemm(r, kType, m, d + gr * p.fo, kType, mem.partial + gr * p.fo);
        }
      }
    });
    parallel_for(size, 16384, [&](int64_t begin, int64_t end) {
      C* sum = memory(0).partial;
      for (int64_t c = 1; c < p.chunks; ++c) {
        const C* more = memory(c).partial;
        for (int64_t i = begin; i < end; ++i) sum[i] += more[i];
      }
      for (int64_t i = begin; i < end; ++i) dkernel[i] = static_cast<T>(sum[i]);
    });
  }
};

template <Pass pass>
Prepared prepare(const CallSig& sig, const Conv2DAttrs& a) {
  const Plan p = plan_of(pass, sig, a);
  return {[p](const Call& c) {
            visit(c.out[0].dtype(), [&](auto zero) {
              using T = decltype(zero);
              if constexpr (!std::is_integral_v<T>) {
                const Conv<T> conv{.p = p, .scratch = static_cast<char*>(c.scratch)};
                const T *x = c.in[0].as<T>(), *y = c.in[1].as<T>();
                T* out = c.out[0].as<T>();
                if constexpr (pass == Pass::forward)
                  conv.forward(x, y, out);
                else if constexpr (pass == Pass::input_grad)
                  conv.input_grad(x, y, out);
                else
                  conv.kernel_grad(x, y, out);
              }
            });
          },
          p.total};
}

template <Pass pass>
KernelSheet<Conv2DAttrs> sheet() {
  return {.priority = 10,
          .declines = [](const CallSig& c, const Conv2DAttrs& a) -> std::string {
            for (std::span<const Sig> sigs : {c.in, c.out})
              for (const Sig& s : sigs)
                if (s.shape.count() == 0) return "empty";
            if (plan_of(pass, c, a).total > kMostBytes) return "windows beyond 2 GiB";
            return "";
          },
          .prepare = prepare<pass>};
}

}  // namespace

KERNEL(conv2d, Conv2DAttrs, im2col) { return sheet<Pass::forward>(); }
KERNEL(conv2d_input_grad, Conv2DAttrs, im2col) { return sheet<Pass::input_grad>(); }
KERNEL(conv2d_kernel_grad, Conv2DAttrs, im2col) { return sheet<Pass::kernel_grad>(); }

}  // namespace evenflow
