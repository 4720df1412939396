// SPDX-License-Identifier: Apache-2.0
// conv2d and its two gradients window by window, in f32: for windows of one element and for images
// of few channels. A strip of output rows is made from a padded copy of the rows that it reads.
#include <algorithm>
#include <cstring>
#include <utility>

#include "evenflow/backends/cpu/slots.h"
#include "evenflow/backends/cpu/unroll.h"
#include "evenflow/core/parallel.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/conv_rules.h"

// Vectors of unknown size cannot stand in arrays.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "evenflow/ops/conv_direct.cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// clang-format on

#ifndef EVENFLOW_OPS_CONV_DIRECT_CPU_ONCE
#define EVENFLOW_OPS_CONV_DIRECT_CPU_ONCE
namespace evenflow::cpu {
// Windows over an image, and where their results go: those of one convolution, or of the pixels of
// dx that lie `stride` apart, which the same taps of the kernel have made.
struct DirectPass {
  int64_t n, h, w, c;               // images that are read
  int64_t rows, columns;            // of a window
  int64_t stride_y, stride_x;       // from window to window
  int64_t top, left;                // the first window begins at (-top, -left)
  int64_t oh, ow, co;               // results
  int64_t image, row, pixel;        // floats between results
  bool copies;                      // windows reach over the edge
  int64_t strip, strips;            // rows of results at a time; strips of an image
  int64_t grain, chunks, x_floats;  // strips to a chunk; floats of a strip's padded rows

  void plan(int64_t most) {
    const int64_t reach_y = (oh - 1) * stride_y + rows, reach_x = (ow - 1) * stride_x + columns;
    copies = top != 0 || left != 0 || reach_y > h || reach_x > w;
    constexpr int64_t kFloats = 16384;  // of the padded rows of a strip
    const int64_t width = (copies ? reach_x : w) * c;
    strip = std::clamp<int64_t>((kFloats / width - rows) / stride_y + 1, 1, oh);
    strips = (oh - 1) / strip + 1;
    grain = (n * strips - 1) / most + 1, chunks = (n * strips - 1) / grain + 1;
    x_floats = copies ? (((strip - 1) * stride_y + rows) * reach_x * c + 15) / 16 * 16 : 0;
  }
  int64_t x_row() const { return (copies ? (ow - 1) * stride_x + columns : w) * c; }
};
}  // namespace evenflow::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace evenflow::cpu::HWY_NAMESPACE {
namespace direct_kernels {
namespace hn = hwy::HWY_NAMESPACE;

using Float = hn::ScalableTag<float>;
using Vector = hn::Vec<Float>;
constexpr int64_t kLanes = int64_t(hn::MaxLanes(Float()));
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || HWY_TARGET == HWY_NEON
constexpr int kAccumulators = 24, kVectors = 4;  // of 32 registers
#else
constexpr int kAccumulators = 8, kVectors = 2;  // of 16
#endif

// The rows that rows [first, last) of results read: where they lie, or copied with zeros around.
const float* strip_of(const DirectPass& p, const float* image, int64_t first, int64_t last,
                      float* copy) {
  const int64_t y0 = first * p.stride_y - p.top;
  if (!p.copies) return image + y0 * p.w * p.c;
  const int64_t width = p.x_row(), reach = width / p.c;
  const int64_t from = std::clamp<int64_t>(p.left, 0, reach),
                to = std::clamp<int64_t>(p.w + p.left, from, reach);
  float* out = copy;
  for (int64_t r = 0; r < (last - first - 1) * p.stride_y + p.rows; ++r, out += width) {
    const int64_t y = y0 + r;
    if (y < 0 || y >= p.h || from == to) {
      std::fill(out, out + width, 0.0f);
      continue;
    }
    const float* in = image + (y * p.w + from - p.left) * p.c;
    std::fill(out, out + from * p.c, 0.0f);
    std::copy(in, in + (to - from) * p.c, out + from * p.c);
    std::fill(out + to * p.c, out + width, 0.0f);
  }
  return copy;
}

// y[kM windows][kV vectors] = sum over rows of windows x[kM windows][k] u[k][kV vectors]
template <int kM, int kV>
void windows(const float* x, int64_t x_row, int64_t x_step, int64_t rows, int64_t k, const float* u,
             int64_t u_row, float* y, int64_t y_step) {
  const Float d;
  Vector sum[kM][kV];
  EVENFLOW_UNROLL
  for (int i = 0; i < kM; ++i) {
    EVENFLOW_UNROLL
    for (int v = 0; v < kV; ++v) sum[i][v] = hn::Zero(d);
  }
  for (int64_t r = 0; r < rows; ++r, x += x_row) {
    const float* left = x;
    for (int64_t j = 0; j < k; ++j, ++left, u += u_row) {
      Vector right[kV];
      EVENFLOW_UNROLL
      for (int v = 0; v < kV; ++v) right[v] = hn::LoadU(d, u + v * kLanes);
      EVENFLOW_UNROLL
      for (int i = 0; i < kM; ++i) {
        const Vector a = hn::Set(d, left[i * x_step]);
        EVENFLOW_UNROLL
        for (int v = 0; v < kV; ++v) sum[i][v] = hn::MulAdd(a, right[v], sum[i][v]);
      }
    }
  }
  EVENFLOW_UNROLL
  for (int i = 0; i < kM; ++i) {
    EVENFLOW_UNROLL
    for (int v = 0; v < kV; ++v) hn::StoreU(sum[i][v], d, y + i * y_step + v * kLanes);
  }
}

// sum[kM][kV vectors] (+)= over rows of windows x[window][kM] dy[window][kV vectors]
struct Products {
  const float* x = nullptr;
  int64_t x_row, x_step;  // from row of windows to row, from window to window
  const float* dy = nullptr;
  int64_t dy_row, dy_step;
  int64_t rows, columns;
  float* sum = nullptr;
  int64_t sum_row;
  bool add;
};
template <int kM, int kV>
void products(const Products& p) {
  const Float d;
  Vector s[kM][kV];
  EVENFLOW_UNROLL
  for (int i = 0; i < kM; ++i) {
    EVENFLOW_UNROLL
    for (int v = 0; v < kV; ++v) s[i][v] = hn::Zero(d);
  }
  for (int64_t r = 0; r < p.rows; ++r) {
    const float *x = p.x + r * p.x_row, *dy = p.dy + r * p.dy_row;
    for (int64_t t = 0; t < p.columns; ++t, x += p.x_step, dy += p.dy_step) {
      Vector right[kV];
      EVENFLOW_UNROLL
      for (int v = 0; v < kV; ++v) right[v] = hn::LoadU(d, dy + v * kLanes);
      EVENFLOW_UNROLL
      for (int i = 0; i < kM; ++i) {
        const Vector a = hn::Set(d, x[i]);
        EVENFLOW_UNROLL
        for (int v = 0; v < kV; ++v) s[i][v] = hn::MulAdd(a, right[v], s[i][v]);
      }
    }
  }
  EVENFLOW_UNROLL
  for (int i = 0; i < kM; ++i) {
    EVENFLOW_UNROLL
    for (int v = 0; v < kV; ++v) {
      float* to = p.sum + i * p.sum_row + v * kLanes;
      hn::StoreU(p.add ? hn::Add(hn::LoadU(d, to), s[i][v]) : s[i][v], d, to);
    }
  }
}

// The blocks of 1 .. kAccumulators / kV windows by kV vectors.
using WindowsFn = void (*)(const float*, int64_t, int64_t, int64_t, int64_t, const float*, int64_t,
                           float*, int64_t);
using ProductsFn = void (*)(const Products&);
template <int kV, int... kM>
constexpr WindowsFn windows_table(int m, std::integer_sequence<int, kM...>) {
  constexpr WindowsFn all[] = {windows<kM + 1, kV>...};
  return all[m - 1];
}
template <int kV, int... kM>
constexpr ProductsFn products_table(int m, std::integer_sequence<int, kM...>) {
  constexpr ProductsFn all[] = {products<kM + 1, kV>...};
  return all[m - 1];
}
// f(first, count) for n things, full at a time; what is left over is taken in parts alike.
template <class F>
HWY_INLINE void in_parts(int64_t n, int64_t full, F f) {
  const int64_t parts = (n + full - 1) / full;
  for (int64_t i = 0, at = 0; i < parts; ++i) {
    const int64_t count = (n - at) / (parts - i);
    f(at, count), at += count;
  }
}
// f(integral constant kV, first channel, where it would be if vectors did not overlap) for vectors
// that cover the channels; the last one overlaps its neighbour. `channels` is kLanes or more.
template <class F>
HWY_INLINE void each_panel(int64_t channels, F f) {
  int64_t c = 0;
  for (; c + kVectors * kLanes <= channels; c += kVectors * kLanes)
    f(std::integral_constant<int, kVectors>(), c, c);
  if constexpr (kVectors > 2)
    for (; c + 2 * kLanes <= channels; c += 2 * kLanes) f(std::integral_constant<int, 2>(), c, c);
  for (; c + kLanes <= channels; c += kLanes) f(std::integral_constant<int, 1>(), c, c);
  if (c < channels) f(std::integral_constant<int, 1>(), channels - kLanes, c);
}

void run_pass(const DirectPass& p, const float* x, const float* u, float* y, float* scratch) {
  Slots slots(p.chunks);
  parallel_for(p.n * p.strips, p.grain, [&](int64_t begin, int64_t end) {
    const Slots::Slot slot(slots);
    float* copy = scratch + slot.index() * p.x_floats;
    const int64_t x_row = p.x_row(), step = p.stride_x * p.c;
    for (int64_t s = begin; s < end; ++s) {
      const int64_t n = s / p.strips, first = s % p.strips * p.strip,
                    last = std::min(p.oh, first + p.strip);
      const float* in = strip_of(p, x + n * p.h * p.w * p.c, first, last, copy);
      each_panel(p.co, [&](auto v, int64_t channel, int64_t) {
        constexpr int kV = decltype(v)::value, kM = std::min(16, kAccumulators / kV);
        for (int64_t oy = first; oy < last; ++oy) {
          const float* from = in + (oy - first) * p.stride_y * x_row;
          float* to = y + n * p.image + oy * p.row + channel;
          in_parts(p.ow, kM, [&](int64_t ox, int64_t m) {
            windows_table<kV>(int(m), std::make_integer_sequence<int, kM>())(
                from + ox * step, x_row, step, p.rows, p.columns * p.c, u + channel, p.co,
                to + ox * p.pixel, p.pixel);
          });
        }
      });
    }
  });
}

void sum_products(const DirectPass& p, const float* x, const float* dy, float* dkernel,
                  float* scratch, bool accumulate) {
  const int64_t k = p.columns * p.c, wide = (p.co + kLanes - 1) / kLanes * kLanes;
  const int64_t size = p.rows * k * wide;
  const bool direct = p.chunks == 1 && wide == p.co;  // the one chunk adds to the result
  float* partials = direct ? dkernel : scratch + p.chunks * p.x_floats;
  parallel_for(p.n * p.strips, p.grain, [&](int64_t begin, int64_t end) {
    const int64_t chunk = begin / p.grain;
    float *copy = scratch + chunk * p.x_floats, *partial = partials + chunk * size;
    for (int64_t s = begin; s < end; ++s) {
      const int64_t n = s / p.strips, first = s % p.strips * p.strip,
                    last = std::min(p.oh, first + p.strip);
      const float* in = strip_of(p, x + n * p.h * p.w * p.c, first, last, copy);
      Products q{.x_row = p.stride_y * p.x_row(),
                 .x_step = p.stride_x * p.c,
                 .dy_row = p.row,
                 .dy_step = p.pixel,
                 .rows = last - first,
                 .columns = p.ow,
                 .sum_row = wide,
                 .add = s > begin || (direct && accumulate)};
      for (int64_t r = 0; r < p.rows; ++r)
        each_panel(p.co, [&](auto v, int64_t channel, int64_t place) {
          constexpr int kV = decltype(v)::value, kM = std::min(16, kAccumulators / kV);
          q.dy = dy + n * p.image + first * p.row + channel;
          in_parts(k, kM, [&](int64_t i, int64_t m) {
            q.x = in + r * p.x_row() + i;
            q.sum = partial + (r * k + i) * wide + place;
            products_table<kV>(int(m), std::make_integer_sequence<int, kM>())(q);
          });
        });
    }
  });
  if (direct) return;
  parallel_for(p.rows * k, std::max<int64_t>(1, 16384 / wide), [&](int64_t begin, int64_t end) {
    const Float d;
    for (int64_t r = begin; r < end; ++r)
      for (int64_t at = 0; at < wide; at += kLanes) {
        const float* from = partials + r * wide + at;
        Vector sum = hn::LoadU(d, from);
        for (int64_t c = 1; c < p.chunks; ++c) sum = hn::Add(sum, hn::LoadU(d, from + c * size));
        float* to = dkernel + r * p.co + at;
        if (at + kLanes <= p.co) {
          hn::StoreU(accumulate ? hn::Add(hn::LoadU(d, to), sum) : sum, d, to);
          continue;
        }
        HWY_ALIGN float lanes[kLanes];  // the new channels of an overlapping vector are its last
        hn::Store(sum, d, lanes);
        for (int64_t i = 0, n = p.co - at; i < n; ++i)
          to[i] = lanes[kLanes - n + i] + (accumulate ? to[i] : 0.0f);
      }
  });
}
}  // namespace direct_kernels

int64_t direct_lanes() { return direct_kernels::kLanes; }
void direct_pass(const DirectPass& p, const float* x, const float* u, float* y, float* scratch) {
  direct_kernels::run_pass(p, x, u, y, scratch);
}
void direct_products(const DirectPass& p, const float* x, const float* dy, float* dkernel,
                     float* scratch, bool accumulate) {
  direct_kernels::sum_products(p, x, dy, dkernel, scratch, accumulate);
}

}  // namespace evenflow::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace evenflow {
namespace cpu {
HWY_EXPORT(direct_lanes);
HWY_EXPORT(direct_pass);
HWY_EXPORT(direct_products);
}  // namespace cpu
using namespace cpu;  // one target alone is dispatched to by its namespace

namespace {
using cpu::DirectPass;
constexpr int64_t kMost = 32;  // chunks

// Each chunk of a kernel gradient has a sum of its own.
int64_t sums_of(const ConvGeometry& g) {
  constexpr int64_t kWindows = 2048;
  return std::clamp<int64_t>(g.n * g.h.out * g.w.out / kWindows, 1, 16);
}

int64_t rounded(int64_t floats) { return (floats + 15) / 16 * 16; }

DirectPass forward_pass(const ConvGeometry& g, int64_t chunks) {
  DirectPass p{};
  p.n = g.n, p.h = g.h.in, p.w = g.w.in, p.c = g.c;
  p.rows = g.h.size, p.columns = g.w.size, p.stride_y = g.h.stride, p.stride_x = g.w.stride;
  p.top = g.h.before, p.left = g.w.before;
  p.oh = g.h.out, p.ow = g.w.out, p.co = g.filters;
  p.pixel = p.co, p.row = p.ow * p.co, p.image = p.oh * p.row;
  p.plan(chunks);
  return p;
}

// Along an axis, the elements of dx that lie `stride` apart from `first` on: they are made from the
// taps `tap`, tap + stride, ... The last of `taps` meets element -before of dy first.
struct Phase {
  int64_t first, count, tap, taps, before;
};
Phase phase_of(const Windows& w, int64_t tap) {
  const int64_t first = ((tap - w.before) % w.stride + w.stride) % w.stride;
  const int64_t taps = tap < w.size ? (w.size - 1 - tap) / w.stride + 1 : 0;
  return {first, first < w.in ? (w.in - 1 - first) / w.stride + 1 : 0, tap, taps,
          taps - 1 - (first + w.before - tap) / w.stride};
}
struct InputGrad {
  ConvGeometry g;
  std::vector<std::pair<Phase, Phase>> phases;
  std::vector<DirectPass> passes;
  int64_t scratch = 0;  // floats behind the kernel's
};
InputGrad input_grad_plan(const ConvGeometry& g) {
  InputGrad plan{g, {}, {}, 0};
  for (int64_t y = 0; y < g.h.stride; ++y)
    for (int64_t x = 0; x < g.w.stride; ++x) {
      const Phase h = phase_of(g.h, y), w = phase_of(g.w, x);
      if (!h.count || !w.count || !h.taps || !w.taps) continue;
      DirectPass p{};
      p.n = g.n, p.h = g.h.out, p.w = g.w.out, p.c = g.filters;
      p.rows = h.taps, p.columns = w.taps, p.stride_y = p.stride_x = 1;
      p.top = h.before, p.left = w.before;
      p.oh = h.count, p.ow = w.count, p.co = g.c;
      p.pixel = g.w.stride * g.c, p.row = g.h.stride * g.w.in * g.c,
      p.image = g.h.in * g.w.in * g.c;
      p.plan(kMost);
      plan.phases.emplace_back(h, w), plan.passes.push_back(p);
      plan.scratch = std::max(plan.scratch, p.chunks * p.x_floats);
    }
  return plan;
}
void input_grad(const InputGrad& plan, const float* kernel, const float* dy, float* dx,
                float* scratch) {
  const ConvGeometry& g = plan.g;
  if (plan.passes.size() < size_t(g.h.stride * g.w.stride))  // some elements have no tap
    parallel_for(g.n * g.h.in, std::max<int64_t>(1, 65536 / (g.w.in * g.c)),
                 [&](int64_t begin, int64_t end) {
                   std::fill(dx + begin * g.w.in * g.c, dx + end * g.w.in * g.c, 0.0f);
                 });
  float* u = scratch;
  for (size_t i = 0; i < plan.passes.size(); ++i) {
    const auto& [h, w] = plan.phases[i];
    float* to = u;
    for (int64_t a = h.taps; a--;)
      for (int64_t b = w.taps; b--;) {
        const int64_t tap = (h.tap + a * g.h.stride) * g.w.size + w.tap + b * g.w.stride;
        const float* from = kernel + tap * g.c * g.filters;
        for (int64_t o = 0; o < g.filters; ++o)
          for (int64_t c = 0; c < g.c; ++c) *to++ = from[c * g.filters + o];
      }
    HWY_DYNAMIC_DISPATCH(direct_pass)
    (plan.passes[i], dy, u, dx + (h.first * g.w.in + w.first) * g.c,
     scratch + rounded(g.h.size * g.w.size * g.c * g.filters));
    u = to;
  }
}

enum class Pass { forward, input_grad, kernel_grad };

ConvGeometry geometry_of(Pass pass, const CallSig& c, const Conv2DAttrs& a) {
  return pass == Pass::forward      ? conv_geometry(c.in[0], c.in[1], a)
         : pass == Pass::input_grad ? conv_geometry(c.in[2], c.in[0], a)
                                    : conv_geometry(c.in[0], c.in[2], a);
}

std::string declines(Pass pass, const CallSig& c, const Conv2DAttrs& a) {
  if (c.out[0].dtype != DType::f32) return "not f32";
  for (std::span<const Sig> sigs : {c.in, c.out})
    for (const Sig& s : sigs)
      if (s.shape.count() == 0) return "empty";
  const ConvGeometry g = geometry_of(pass, c, a);
  if (g.groups != 1) return "groups";
  if (g.h.dilation != 1 || g.w.dilation != 1) return "dilated";
  const int64_t lanes = HWY_DYNAMIC_DISPATCH(direct_lanes)();
  if ((pass == Pass::input_grad ? g.c : g.filters) < lanes)
    return "fewer channels than a vector has";
#ifdef EVENFLOW_ONEDNN  // what it has been measured to be faster at: bench/conv_bench.cc
  const int64_t window = g.h.size * g.w.size, weights = window * g.c * g.filters;
  if (window > 1 && g.c > 4 && g.h.stride == 1 && g.w.stride == 1)
    return "a plain window, many channels";
  if (weights > (window == 1 ? 65536 : 262144)) return "weights beyond the second cache";
#endif
  return "";
}

template <Pass pass>
Prepared prepare(const CallSig& c, const Conv2DAttrs& a) {
  const ConvGeometry g = geometry_of(pass, c, a);
  if constexpr (pass == Pass::input_grad) {
    const InputGrad plan = input_grad_plan(g);
    return {[plan](const Call& call) {
              input_grad(plan, call.in[0].as<float>(), call.in[1].as<float>(),
                         call.out[0].as<float>(), static_cast<float*>(call.scratch));
            },
            4 * (rounded(g.h.size * g.w.size * g.c * g.filters) + plan.scratch)};
  } else {
    const DirectPass p = forward_pass(g, pass == Pass::forward ? kMost : sums_of(g));
    const int64_t lanes = HWY_DYNAMIC_DISPATCH(direct_lanes)();
    const int64_t sums = pass == Pass::forward ? 0
                                               : g.h.size * g.w.size * g.c *
                                                     ((g.filters + lanes - 1) / lanes * lanes);
    return {[p](const Call& call) {
              const float *x = call.in[0].as<float>(), *y = call.in[1].as<float>();
              float *out = call.out[0].as<float>(), *scratch = static_cast<float*>(call.scratch);
              if constexpr (pass == Pass::forward)
                HWY_DYNAMIC_DISPATCH(direct_pass)(p, x, y, out, scratch);
              else
                HWY_DYNAMIC_DISPATCH(direct_products)(p, x, y, out, scratch, call.accumulate);
            },
            4 * p.chunks * (p.x_floats + sums)};
  }
}

template <Pass pass>
KernelSheet<Conv2DAttrs> sheet() {
  return {.priority = 25,
          .accumulates = pass == Pass::kernel_grad,
          .declines = [](const CallSig& c, const Conv2DAttrs& a) { return declines(pass, c, a); },
          .prepare = prepare<pass>};
}
}  // namespace

KERNEL(conv2d, Conv2DAttrs, direct) { return sheet<Pass::forward>(); }
KERNEL(conv2d_input_grad, Conv2DAttrs, direct) { return sheet<Pass::input_grad>(); }
KERNEL(conv2d_kernel_grad, Conv2DAttrs, direct) { return sheet<Pass::kernel_grad>(); }

}  // namespace evenflow
#endif
