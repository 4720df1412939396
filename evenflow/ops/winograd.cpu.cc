// SPDX-License-Identifier: Apache-2.0
// winograd_conv2d and its gradient for u. A block of tiles is transformed, multiplied point by
// point, and transformed back while it is in the cache.
#include <algorithm>
#include <cstring>
#include <type_traits>

#include "evenflow/backends/cpu/slots.h"
#include "evenflow/core/parallel.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/winograd_plan.h"

// Vectors of unknown size cannot stand in arrays.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "evenflow/ops/winograd.cpu.cc"
#include "hwy/foreach_target.h"
#include "evenflow/ops/winograd_transforms-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace evenflow::cpu::HWY_NAMESPACE {
namespace winograd_kernels {

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || HWY_TARGET == HWY_NEON
constexpr int kAccumulators = 16, kVectors = 4;  // of 32 registers
#else
constexpr int kAccumulators = 8, kVectors = 2;  // of 16
#endif
constexpr int64_t kLanes = int64_t(hn::MaxLanes(Float()));

// Where the last vector of `channels` begins, and whether it is a whole one.
HWY_INLINE int64_t vector_begin(int64_t v, int64_t channels) {
  return std::max<int64_t>(0, std::min(v * kLanes, channels - kLanes));
}

struct Tile {
  int64_t n, y0, x0;  // the first output
};
HWY_INLINE Tile tile_of(const WinogradGeometry& g, int64_t t) {
  const int64_t image = g.tiles_y * g.tiles_x, r = t % image;
  return {t / image, r / g.tiles_x * g.tile, r % g.tiles_x * g.tile};
}

template <int kTile, class T>
constexpr void (*kInputTile[])(const TileRows<T, kTile + 2>&, float*, int64_t) = {
    input_tile<kTile, false, false, T>, input_tile<kTile, false, true, T>,
    input_tile<kTile, true, false, T>, input_tile<kTile, true, true, T>};
// B^T d B of `count` tiles from `first` on, of the channels from `channel` on that fill `vectors`.
template <int kTile, class T>
void transform_input(const WinogradPlan& p, const T* x, const T* zeros, int64_t first,
                     int64_t count, int64_t channel, int64_t channels, float* v, int64_t point) {
  constexpr int kSize = kTile + 2;
  const WinogradGeometry& g = p.g;
  const int64_t vectors = ceil_div(channels, kLanes);
  TilePatch<T, kSize> patch;
  for (int64_t t = 0; t < count; ++t) {
    const Tile tile = tile_of(g, first + t);
    const int64_t y = tile.y0 - g.top, left = tile.x0 - g.left;
    const int64_t from = std::max<int64_t>(0, -left), to = std::min<int64_t>(kSize, g.w - left);
    const T* image = x + (tile.n * g.h * g.w + left) * g.ci + channel;
    for (int64_t c = 0; c < vectors; ++c) {
      const int64_t begin = vector_begin(c, channels);
      TileRows<T, kSize> rows;
      rows.pixel = g.ci;
      for (int i = 0; i < kSize; ++i)
        rows.row[i] = y + i < 0 || y + i >= g.h ? zeros : image + (y + i) * g.w * g.ci + begin;
      float* at = v + (c * p.block + t) * kLanes;
      if (channels < kLanes || from > 1 || to < kSize - 1)
        input_tile<kTile, true, true>(patch.of(rows, from, to, std::min(channels, kLanes)), at,
                                      point);
      else
        kInputTile<kTile, T>[2 * (from == 0) + (to == kSize)](rows, at, point);
    }
  }
}
template <int kTile, class T>
void transform_output_grad(const WinogradPlan& p, const T* dy, const T* zeros, int64_t first,
                           int64_t count, int64_t channel, int64_t channels, float* v,
                           int64_t point) {
  const WinogradGeometry& g = p.g;
  const int64_t vectors = ceil_div(channels, kLanes);
  TilePatch<T, kTile> patch;
  for (int64_t t = 0; t < count; ++t) {
    const Tile tile = tile_of(g, first + t);
    const int64_t columns = std::min<int64_t>(kTile, g.ow - tile.x0);
    const T* image = dy + (tile.n * g.oh * g.ow + tile.x0) * g.co + channel;
    for (int64_t c = 0; c < vectors; ++c) {
      const int64_t begin = vector_begin(c, channels);
      TileRows<T, kTile> rows;
      rows.pixel = g.co;
      for (int i = 0; i < kTile; ++i)
        rows.row[i] = tile.y0 + i < g.oh ? image + (tile.y0 + i) * g.ow * g.co + begin : zeros;
      float* at = v + (c * p.block + t) * kLanes;
      if (channels < kLanes || columns < kTile)
        output_grad_tile<kTile>(patch.of(rows, 0, columns, std::min(channels, kLanes)), at, point);
      else
        output_grad_tile<kTile>(rows, at, point);
    }
  }
}
template <int kTile, class T>
void transform_output(const WinogradPlan& p, const float* m, int64_t first, int64_t count, T* y) {
  const WinogradGeometry& g = p.g;
  HWY_ALIGN T patch[kTile * kTile * kLanes];
  for (int64_t t = 0; t < count; ++t) {
    const Tile tile = tile_of(g, first + t);
    const int64_t rows = std::min<int64_t>(kTile, g.oh - tile.y0),
                  columns = std::min<int64_t>(kTile, g.ow - tile.x0);
    T* to = y + ((tile.n * g.oh + tile.y0) * g.ow + tile.x0) * g.co;
    for (int64_t c = 0; c < p.vo; ++c) {
      const float* from = m + (c * p.block + t) * kLanes;
      T* at = to + vector_begin(c, g.co);
      if (g.co >= kLanes && rows == kTile && columns == kTile) {
        output_tile<kTile>(from, p.point_o, at, g.ow * g.co, g.co);
        continue;
      }
      output_tile<kTile>(from, p.point_o, patch, kTile * kLanes, kLanes);
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < columns; ++j)
          std::copy_n(patch + (i * kTile + j) * kLanes, std::min(g.co, kLanes),
                      at + (i * g.ow + j) * g.co);
    }
  }
}

// m[kM tiles][kV vectors] = v[kM tiles][ci] u[ci][kV vectors]
template <int kM, int kV>
void multiply(const float* v, int64_t ci, int64_t block, const float* u, int64_t u_row, float* m) {
  const Float d;
  Vector sum[kM][kV];
  EVENFLOW_UNROLL
  for (int i = 0; i < kM; ++i) {
    EVENFLOW_UNROLL
    for (int k = 0; k < kV; ++k) sum[i][k] = hn::Zero(d);
  }
  for (int64_t c = 0; c < ci; c += kLanes) {
    const int64_t lanes = std::min(kLanes, ci - c);
    // In a last vector that overlaps its neighbour the new channels stand at the end.
    const float* left = v + c * block + (ci < kLanes ? 0 : kLanes - lanes);
    for (int64_t l = 0; l < lanes; ++l, ++left, u += u_row) {
      Vector right[kV];
      EVENFLOW_UNROLL
      for (int k = 0; k < kV; ++k) right[k] = hn::LoadU(d, u + k * kLanes);
      EVENFLOW_UNROLL
      for (int i = 0; i < kM; ++i) {
        const Vector a = hn::Set(d, left[i * kLanes]);
        EVENFLOW_UNROLL
        for (int k = 0; k < kV; ++k) sum[i][k] = hn::MulAdd(a, right[k], sum[i][k]);
      }
    }
  }
  EVENFLOW_UNROLL
  for (int i = 0; i < kM; ++i) {
    EVENFLOW_UNROLL
    for (int k = 0; k < kV; ++k) hn::StoreU(sum[i][k], d, m + (k * block + i) * kLanes);
  }
}
using Multiply = void (*)(const float*, int64_t, int64_t, const float*, int64_t, float*);
// For kV vectors: as many tiles as there are accumulators, and less.
template <int kV>
constexpr Multiply kMultiply[] = {multiply<4, kV>,
                                  multiply<std::max(4, kAccumulators / kV / 2), kV>,
                                  multiply<std::max(4, kAccumulators / kV), kV>};
template <int kV>
void multiply_rows(const float* v, int64_t ci, int64_t block, const float* u, int64_t u_row,
                   float* m, int64_t count) {
  constexpr int64_t full = std::max(4, kAccumulators / kV), half = std::max<int64_t>(4, full / 2);
  for (int64_t t = 0; t < count;) {  // up to three tiles more than there are
    const int64_t left = count - t, rows = left > full - 4 ? full : left > half - 4 ? half : 4;
    const Multiply f = kMultiply<kV>[rows == full ? 2 : rows == half ? 1 : 0];
    f(v + t * kLanes, ci, block, u, u_row, m + t * kLanes);
    t += rows;
  }
}

template <int kTile, class T>
void forward(const WinogradPlan& p, const T* x, const float* u, T* y, float* scratch) {
  const WinogradGeometry& g = p.g;
  const int64_t points = g.points();
  int64_t u_row = g.co;
  if (g.co < kLanes) {
    for (int64_t r = 0; r < points * g.ci; ++r)
      hn::StoreU(load_vector<true>(u + r * g.co, g.co), Float(), scratch + r * kLanes);
    u = scratch, u_row = kLanes;
  }
  Slots slots(p.slots);
  parallel_for(p.blocks, p.grain, [&](int64_t begin, int64_t end) {
    const Slots::Slot slot(slots);
    float* zeros = scratch + p.packed + slot.index() * p.slot;
    float *v = zeros + p.zeros, *m = v + points * p.point_i;
    std::fill(zeros, zeros + p.zeros, 0.0f);
    for (int64_t b = begin; b < end; ++b) {
      const int64_t first = b * p.block, count = std::min(p.block, g.tiles() - first);
      transform_input<kTile>(p, x, reinterpret_cast<const T*>(zeros), first, count, 0, g.ci, v,
                             p.point_i);
      for (int64_t k = 0; k < points; ++k) {
        const float *vk = v + k * p.point_i, *uk = u + k * g.ci * u_row;
        float* mk = m + k * p.point_o;
        const int64_t whole = u_row / kLanes;  // vectors
        for (int64_t o = 0; o < p.vo;) {
          float* to = mk + o * p.block * kLanes;
          const int64_t left = whole - o;
          const float* from = uk + (left > 0 ? o * kLanes : u_row - kLanes);
          if (left >= kVectors) {
            multiply_rows<kVectors>(vk, g.ci, p.block, from, u_row, to, count), o += kVectors;
          } else if (left >= 2) {
            multiply_rows<2>(vk, g.ci, p.block, from, u_row, to, count), o += 2;
          } else {
            multiply_rows<1>(vk, g.ci, p.block, from, u_row, to, count), o += 1;
          }
        }
      }
      transform_output<kTile>(p, m, first, count, y);
    }
  });
}

// sum[kM channels][kV vectors] += over tiles v[tile][kM channels] d[tile][kV vectors]. What a block
// adds is summed first: short sums of short sums round less.
template <int kM, int kV>
void add_products(const float* v, const float* dy, int64_t count, int64_t block, float* sum,
                  int64_t sum_row, bool add) {
  const Float d;
  Vector s[kM][kV];
  EVENFLOW_UNROLL
  for (int i = 0; i < kM; ++i) {
    EVENFLOW_UNROLL
    for (int k = 0; k < kV; ++k) s[i][k] = hn::Zero(d);
  }
  for (int64_t t = 0; t < count; ++t, v += kLanes, dy += kLanes) {
    Vector right[kV];
    EVENFLOW_UNROLL
    for (int k = 0; k < kV; ++k) right[k] = hn::LoadU(d, dy + k * block * kLanes);
    EVENFLOW_UNROLL
    for (int i = 0; i < kM; ++i) {
      const Vector a = hn::Set(d, v[i]);
      EVENFLOW_UNROLL
      for (int k = 0; k < kV; ++k) s[i][k] = hn::MulAdd(a, right[k], s[i][k]);
    }
  }
  EVENFLOW_UNROLL
  for (int i = 0; i < kM; ++i) {
    EVENFLOW_UNROLL
    for (int k = 0; k < kV; ++k) {
      float* to = sum + i * sum_row + k * kLanes;
      hn::StoreU(add ? hn::Add(hn::LoadU(d, to), s[i][k]) : s[i][k], d, to);
    }
  }
}
// All channels of a vector of v, or its last `lanes`.
template <int kV>
void add_vector(const float* v, const float* dy, int64_t count, int64_t block, float* sum,
                int64_t sum_row, bool add, int64_t lanes) {
  constexpr int kM = int(std::min<int64_t>(kLanes, std::max(4, kAccumulators / kV)));
  int64_t i = 0;
  for (; i + kM <= lanes; i += kM)
    add_products<kM, kV>(v + i, dy, count, block, sum + i * sum_row, sum_row, add);
  for (; i < lanes; ++i)
    add_products<1, kV>(v + i, dy, count, block, sum + i * sum_row, sum_row, add);
}

template <int kTile, class T>
void kernel_grad(const WinogradPlan& p, const T* x, const T* dy, float* du, float* scratch,
                 bool accumulate) {
  const WinogradGeometry& g = p.g;
  const int64_t points = g.points(), wide = p.vo * kLanes;
  float* partials = scratch + p.slots * p.slot;
  const int64_t co_blocks = ceil_div(g.co, p.co_block);
  const bool overlaps = g.co - (co_blocks - 1) * p.co_block >= kLanes;  // the last vector
  Slots slots(p.slots);
  parallel_for(p.chunks * p.pairs, 1, [&](int64_t task, int64_t) {
    const int64_t chunk = task / p.pairs, pair = task % p.pairs;
    const int64_t i0 = pair / co_blocks * p.ci_block, ci = std::min(p.ci_block, g.ci - i0);
    const int64_t o0 = pair % co_blocks * p.co_block, co = std::min(p.co_block, g.co - o0);
    const int64_t vi = ceil_div(ci, kLanes), vo = ceil_div(co, kLanes);
    const Slots::Slot slot(slots);
    float* zeros = scratch + slot.index() * p.slot;
    float *v = zeros + p.zeros, *d = v + points * p.point_i;
    float* partial = p.direct ? du : partials + chunk * p.partial;
    std::fill(zeros, zeros + p.zeros, 0.0f);
    const int64_t begin = chunk * p.grain, end = std::min(p.blocks, begin + p.grain);
    for (int64_t b = begin; b < end; ++b) {
      const int64_t first = b * p.block, count = std::min(p.block, g.tiles() - first);
      const T* none = reinterpret_cast<const T*>(zeros);
      transform_input<kTile>(p, x, none, first, count, i0, ci, v, p.point_i);
      transform_output_grad<kTile>(p, dy, none, first, count, o0, co, d, p.point_o);
      for (int64_t k = 0; k < points; ++k) {
        for (int64_t c = 0; c < vi; ++c) {
          const int64_t lanes = std::min(kLanes, ci - c * kLanes);
          const float* vk =
              v + k * p.point_i + c * p.block * kLanes + (ci < kLanes ? 0 : kLanes - lanes);
          float* sum = partial + (k * g.ci + i0 + c * kLanes) * wide + o0;
          for (int64_t o = 0; o < vo;) {
            const float* dk = d + k * p.point_o + o * p.block * kLanes;
            float* to = sum + o * kLanes;
            const bool add = b > begin || (p.direct && accumulate);
            if (vo - o >= kVectors) {
              add_vector<kVectors>(vk, dk, count, p.block, to, wide, add, lanes), o += kVectors;
            } else if (vo - o >= 2) {
              add_vector<2>(vk, dk, count, p.block, to, wide, add, lanes), o += 2;
            } else {
              add_vector<1>(vk, dk, count, p.block, to, wide, add, lanes), o += 1;
            }
          }
        }
      }
    }
  });
  if (p.direct) return;
  // The sums of the chunks, in their order.
  const int64_t rows = points * g.ci;
  parallel_for(rows, std::max<int64_t>(1, 16384 / wide), [&](int64_t begin, int64_t end) {
    const Float d;
    for (int64_t r = begin; r < end; ++r)
      for (int64_t o = 0; o < p.vo; ++o) {
        const float* from = partials + r * wide + o * kLanes;
        Vector sum = hn::LoadU(d, from);
        for (int64_t c = 1; c < p.chunks; ++c)
          sum = hn::Add(sum, hn::LoadU(d, from + c * p.partial));
        // An overlapping last vector holds its new channels at the end.
        const int64_t channel = o * kLanes, n = std::min(kLanes, g.co - channel);
        float* to = du + r * g.co + channel;
        HWY_ALIGN float rest[kLanes];
        hn::Store(sum, d, rest);
        const float* add = rest + (overlaps ? kLanes - n : 0);
        if (accumulate)
          for (int64_t i = 0; i < n; ++i) to[i] += add[i];
        else
          std::copy(add, add + n, to);
      }
  });
}

}  // namespace winograd_kernels

int64_t winograd_lanes() { return int64_t(hn::Lanes(Float())); }
// f(whether tiles are of 4, zero of the images' type)
template <class F>
void winograd_variant(const WinogradPlan& p, const Call& c, F f) {
  auto of = [&](auto zero) {
    if (p.g.tile == 4)
      f(std::integral_constant<int, 4>(), zero);
    else
      f(std::integral_constant<int, 2>(), zero);
  };
  switch (c.in[0].dtype()) {
    case DType::bf16:
      return of(bf16{});
    case DType::f16:
      return of(f16{});
    default:
      return of(float{});
  }
}
void winograd_forward(const WinogradPlan& p, const Call& c) {
  winograd_variant(p, c, [&](auto tile, auto zero) {
    using T = decltype(zero);
    winograd_kernels::forward<tile()>(p, c.in[0].as<const T>(), c.in[1].as<const float>(),
                                      c.out[0].as<T>(), static_cast<float*>(c.scratch));
  });
}
void winograd_conv2d_kernel_gradient(const WinogradPlan& p, const Call& c, bool accumulate) {
  winograd_variant(p, c, [&](auto tile, auto zero) {
    using T = decltype(zero);
    winograd_kernels::kernel_grad<tile()>(p, c.in[0].as<const T>(), c.in[1].as<const T>(),
                                          c.out[0].as<float>(), static_cast<float*>(c.scratch),
                                          accumulate);
  });
}

}  // namespace evenflow::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace evenflow {
namespace cpu {
HWY_EXPORT(winograd_lanes);
HWY_EXPORT(winograd_forward);
HWY_EXPORT(winograd_conv2d_kernel_gradient);

WinogradPlan winograd_plan(const WinogradGeometry& g, bool kernel_grad) {
  const int64_t lanes = HWY_DYNAMIC_DISPATCH(winograd_lanes)();
  WinogradPlan p{};
  p.g = g, p.lanes = lanes;
  p.vi = ceil_div(g.ci, lanes), p.vo = ceil_div(g.co, lanes);
  p.ci_block = g.ci, p.co_block = g.co;
  if (kernel_grad) {
    // A sum of [points, ci, co] stays in the second cache.
    constexpr int64_t kBlock = 64;
    if (g.ci * g.co > kBlock * kBlock)
      p.ci_block = std::min(g.ci, kBlock), p.co_block = std::min(g.co, kBlock);
    p.pairs = ceil_div(g.ci, p.ci_block) * ceil_div(g.co, p.co_block);
  }
  const int64_t vi = ceil_div(p.ci_block, lanes), vo = ceil_div(p.co_block, lanes);
  const int64_t tiles = g.tiles();
  p.block = winograd_block(p.ci_block, p.co_block);
  int64_t most = 32;
  if (kernel_grad) {
    // Each chunk has a sum of its own, which costs as much as some tens of tiles.
    constexpr int64_t kTiles = 128, kBytes = 64 << 20;
    p.partial = g.points() * g.ci * p.vo * lanes;
    most = std::clamp<int64_t>(std::min(tiles / kTiles, kBytes / (4 * p.partial)), 1, 16);
    p.block = std::min(p.block, round_up(tiles, 4));
  } else if (tiles < 2 * p.block) {
    p.block = round_up(ceil_div(tiles, 2), 4);
  }
  p.blocks = ceil_div(tiles, p.block);
  p.grain = ceil_div(p.blocks, most), p.chunks = ceil_div(p.blocks, p.grain);
  // One chunk adds to the result itself, if its rows are whole vectors.
  p.direct = kernel_grad && p.chunks == 1 && g.co % lanes == 0;
  if (p.direct) p.partial = 0;
  p.point_i = vi * p.block * lanes + kWinogradPad;
  p.point_o = vo * p.block * lanes + kWinogradPad;
  const int64_t pixels = g.tile + 2;
  p.zeros = round_up(pixels * std::max(g.ci, g.co) + lanes, 16);
  p.slot = round_up(p.zeros + g.points() * (p.point_i + p.point_o), 16);
  constexpr int64_t kSlotFloats = 16 << 20;
  p.slots =
      std::min({Slots::kMost, p.chunks * p.pairs, std::max<int64_t>(8, kSlotFloats / p.slot)});
  if (!kernel_grad && g.co < lanes) p.packed = round_up(g.points() * g.ci * lanes, 16);
  return p;
}
}  // namespace cpu
using namespace cpu;  // one target alone is dispatched to by its namespace

namespace {
std::string declines(const CallSig& c) {
  for (std::span<const Sig> sigs : {c.in, c.out})
    for (const Sig& s : sigs)
      if (s.dtype == DType::f64) return "f64";
  for (std::span<const Sig> sigs : {c.in, c.out})
    for (const Sig& s : sigs)
      if (s.shape.count() == 0) return "empty";
  return "";
}
}  // namespace

KERNEL(winograd_conv2d, WinogradAttrs, tiles) {
  return {.priority = 10,
          .declines = [](const CallSig& c, const WinogradAttrs&) { return declines(c); },
          .prepare = [](const CallSig& c, const WinogradAttrs& a) -> Prepared {
            const auto p = cpu::winograd_plan(winograd_geometry_of(c.in[0], c.in[1], a), false);
            return {[p](const Call& call) {
                      HWY_DYNAMIC_DISPATCH(winograd_forward)
                      (p, call);
                    },
                    p.bytes()};
          }};
}
KERNEL(winograd_conv2d_kernel_grad, WinogradAttrs, tiles) {
  return {.priority = 10,
          .accumulates = true,
          .declines = [](const CallSig& c, const WinogradAttrs&) { return declines(c); },
          .prepare = [](const CallSig& c, const WinogradAttrs& a) -> Prepared {
            const auto p =
                cpu::winograd_plan(winograd_geometry(c.in[0], c.in[1].shape[3], a), true);
            return {[p](const Call& call) {
                      HWY_DYNAMIC_DISPATCH(winograd_conv2d_kernel_gradient)
                      (p, call, call.accumulate);
                    },
                    p.bytes()};
          }};
}

}  // namespace evenflow
#endif
