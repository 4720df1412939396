// SPDX-License-Identifier: Apache-2.0
// winograd_kernel and its gradient: vectors along the channels that lie behind one another in u.
#include <algorithm>
#include <cstring>

#include "evenflow/core/parallel.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/winograd_rules.h"

// Vectors of unknown size cannot stand in arrays.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "evenflow/ops/winograd_kernel.cpu.cc"
#include "hwy/foreach_target.h"
#include "evenflow/ops/winograd_transforms-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace evenflow::cpu::HWY_NAMESPACE {
namespace winograd_kernel_kernels {

constexpr int64_t kLanes = int64_t(hn::MaxLanes(Float()));
constexpr int64_t kWork = 4096;  // elements of a kernel's plane to a chunk

// f(row, first column, part of a vector) for the vectors that cover rows of u; the last one of a
// row overlaps its neighbour.
template <class F>
void each_vector(int64_t rows, int64_t columns, F f) {
  parallel_for(rows, std::max<int64_t>(1, kWork / columns), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t c = 0; c < columns; c += kLanes)
        f(r, std::max<int64_t>(0, std::min(c, columns - kLanes)));
  });
}

template <int kTile, bool kPart>
void transform(const Vector (&k)[9], float* u, int64_t plane, int64_t n) {
  constexpr int kSize = kTile + 2;
  Vector t[kSize * 3];
  EVENFLOW_UNROLL
  for (int b = 0; b < 3; ++b) Winograd<kTile>::kernel(k + b, 3, t + b, 3);
  EVENFLOW_UNROLL
  for (int i = 0; i < kSize; ++i) {
    Vector to[kSize];
    Winograd<kTile>::kernel(t + i * 3, 1, to, 1);
    EVENFLOW_UNROLL
    for (int j = 0; j < kSize; ++j) store_vector<kPart>(to[j], u + (i * kSize + j) * plane, n);
  }
}

template <int kTile, bool kPart>
void plain(const float* kernel, int64_t ci, int64_t co, float* u) {
  const int64_t plane = ci * co;
  each_vector(ci, co, [&](int64_t i, int64_t o) {
    const float* from = kernel + i * co + o;
    Vector k[9];
    EVENFLOW_UNROLL
    for (int t = 0; t < 9; ++t) k[t] = load_vector<kPart>(from + t * plane, co);
    transform<kTile, kPart>(k, u + i * co + o, plane, co);
  });
}

// Squares of channels are turned over in the first cache, so that whole lines are read.
template <int kTile, bool kPart>
void flipped(const float* kernel, int64_t ci, int64_t co, float* u) {
  constexpr int64_t kSquare = 16;
  const int64_t plane = ci * co, n = std::min(kLanes, ci);
  const int64_t blocks = (co - 1) / kSquare + 1;
  parallel_for(blocks, std::max<int64_t>(1, kWork / (kSquare * ci)),
               [&](int64_t begin, int64_t end) {
                 HWY_ALIGN float taps[9][kSquare][kLanes] = {};
                 for (int64_t b = begin; b < end; ++b) {
                   const int64_t o0 = b * kSquare, outputs = std::min(kSquare, co - o0);
                   for (int64_t c = 0; c < ci; c += kLanes) {
                     const int64_t i = std::max<int64_t>(0, std::min(c, ci - kLanes));
                     for (int t = 0; t < 9; ++t)
                       for (int64_t l = 0; l < n; ++l) {
                         const float* from = kernel + t * plane + (i + l) * co + o0;
                         for (int64_t o = 0; o < outputs; ++o) taps[8 - t][o][l] = from[o];
                       }
                     for (int64_t o = 0; o < outputs; ++o) {
                       Vector k[9];
                       EVENFLOW_UNROLL
                       for (int t = 0; t < 9; ++t) k[t] = hn::Load(Float(), taps[t][o]);
                       transform<kTile, kPart>(k, u + (o0 + o) * ci + i, plane, ci);
                     }
                   }
                 }
               });
}

template <int kTile, bool kPart>
void gradient(const float* du, int64_t ci, int64_t co, float* kernel) {
  constexpr int kSize = kTile + 2;
  const int64_t plane = ci * co;
  each_vector(ci, co, [&](int64_t i, int64_t o) {
    const float* from = du + i * co + o;
    Vector t[3 * kSize];
    EVENFLOW_UNROLL
    for (int j = 0; j < kSize; ++j) {
      Vector u[kSize];
      EVENFLOW_UNROLL
      for (int k = 0; k < kSize; ++k) u[k] = load_vector<kPart>(from + (k * kSize + j) * plane, co);
      Winograd<kTile>::kernel_grad(u, 1, t + j, kSize);
    }
    EVENFLOW_UNROLL
    for (int a = 0; a < 3; ++a) {
      Vector to[3];
      Winograd<kTile>::kernel_grad(t + a * kSize, 1, to, 1);
      EVENFLOW_UNROLL
      for (int b = 0; b < 3; ++b)
        store_vector<kPart>(to[b], kernel + (a * 3 + b) * plane + i * co + o, co);
    }
  });
}
}  // namespace winograd_kernel_kernels

void winograd_kernel_plain(const float* k, int64_t ci, int64_t co, int64_t tile, float* u) {
  namespace w = winograd_kernel_kernels;
  const bool part = co < w::kLanes;
  const auto f = tile == 4 ? part ? w::plain<4, true> : w::plain<4, false>
                 : part ? w::plain<2, true>
                           : w::plain<2, false>;
  f(k, ci, co, u);
}
void winograd_kernel_flipped(const float* k, int64_t ci, int64_t co, int64_t tile, float* u) {
  namespace w = winograd_kernel_kernels;
  const bool part = ci < w::kLanes;
  const auto f = tile == 4 ? part ? w::flipped<4, true> : w::flipped<4, false>
                 : part ? w::flipped<2, true>
                           : w::flipped<2, false>;
  f(k, ci, co, u);
}
void winograd_kernel_gradient(const float* du, int64_t ci, int64_t co, int64_t tile, float* k) {
  namespace w = winograd_kernel_kernels;
  const bool part = co < w::kLanes;
  const auto f = tile == 4 ? part ? w::gradient<4, true> : w::gradient<4, false>
                 : part ? w::gradient<2, true>
                           : w::gradient<2, false>;
  f(du, ci, co, k);
}

}  // namespace evenflow::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace evenflow {
namespace cpu {
HWY_EXPORT(winograd_kernel_plain);
HWY_EXPORT(winograd_kernel_flipped);
HWY_EXPORT(winograd_kernel_gradient);
}  // namespace cpu
using namespace cpu;  // one target alone is dispatched to by its namespace

namespace {
std::string declines(const CallSig& c) {
  if (c.out[0].dtype != DType::f32) return "not f32";
  return c.out[0].shape.count() ? "" : "empty";
}
}  // namespace

KERNEL(winograd_kernel, WinogradKernelAttrs, vectors) {
  return {.priority = 10,
          .declines = [](const CallSig& c, const WinogradKernelAttrs&) { return declines(c); },
          .run =
              [](const Call& c, const WinogradKernelAttrs& a) {
                const Shape& k = c.in[0].shape();
                const float* from = c.in[0].as<float>();
                float* to = c.out[0].as<float>();
                if (a.flip)
                  HWY_DYNAMIC_DISPATCH(winograd_kernel_flipped)(from, k[2], k[3], a.tile, to);
                else
                  HWY_DYNAMIC_DISPATCH(winograd_kernel_plain)(from, k[2], k[3], a.tile, to);
              }};
}
KERNEL(winograd_kernel_grad, WinogradKernelAttrs, vectors) {
  return {.priority = 10,
          .declines = [](const CallSig& c, const WinogradKernelAttrs& a) -> std::string {
            return a.flip ? "flipped" : declines(c);
          },
          .run =
              [](const Call& c, const WinogradKernelAttrs& a) {
                const Shape& k = c.out[0].shape();
                HWY_DYNAMIC_DISPATCH(winograd_kernel_gradient)
                (c.in[0].as<float>(), k[2], k[3], a.tile, c.out[0].as<float>());
              }};
}

}  // namespace evenflow
#endif
