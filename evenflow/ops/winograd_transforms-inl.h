// SPDX-License-Identifier: Apache-2.0
// The transforms of Winograd tiles, a vector of channels at a time. Compiled once for each target.
#if defined(EVENFLOW_OPS_WINOGRAD_TRANSFORMS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EVENFLOW_OPS_WINOGRAD_TRANSFORMS_INL_H_
#undef EVENFLOW_OPS_WINOGRAD_TRANSFORMS_INL_H_
#else
#define EVENFLOW_OPS_WINOGRAD_TRANSFORMS_INL_H_
#endif

#include <hwy/highway.h>

#include <cstring>

#include "evenflow/backends/cpu/unroll.h"

HWY_BEFORE_NAMESPACE();
namespace evenflow::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Float = hn::ScalableTag<float>;
using Vector = hn::Vec<Float>;

// A vector of memory that may end before it: kPart says that it does, after n elements.
template <bool kPart>
HWY_INLINE Vector load_vector(const float* p, int64_t n) {
  const Float d;
  if constexpr (!kPart) return hn::LoadU(d, p);
  HWY_ALIGN float rest[hn::MaxLanes(Float())] = {};
  std::memcpy(rest, p, size_t(n) * sizeof(float));
  return hn::Load(d, rest);
}
template <bool kPart>
HWY_INLINE void store_vector(Vector v, float* p, int64_t n) {
  const Float d;
  if constexpr (!kPart) return hn::StoreU(v, d, p);
  HWY_ALIGN float rest[hn::MaxLanes(Float())];
  hn::Store(v, d, rest);
  std::memcpy(p, rest, size_t(n) * sizeof(float));
}

// The matrices of winograd_matrices(), on vectors that lie s and to places that lie t apart.
template <int kTile>
struct Winograd;

template <>
struct Winograd<4> {
  static constexpr float kA = 0.70710678f, kB = 1.41421356f;
  static HWY_INLINE void input(const Vector* x, int s, Vector* to, int t) {  // B^T
    const Float d;
    const Vector two = hn::Set(d, 2.0f), half = hn::Set(d, 0.5f), more = hn::Set(d, 2.5f);
    const Vector a = hn::Set(d, kA), b = hn::Set(d, kB);
    const Vector even_a = hn::NegMulAdd(two, x[2 * s], x[4 * s]);
    const Vector odd_a = hn::NegMulAdd(two, x[s], x[3 * s]);
    const Vector even_b = hn::NegMulAdd(half, x[2 * s], x[4 * s]);
    const Vector odd_b = hn::NegMulAdd(half, x[s], x[3 * s]);
    to[0] = hn::NegMulAdd(more, x[2 * s], hn::Add(x[0], x[4 * s]));
    to[t] = hn::MulAdd(a, odd_a, even_a);
    to[2 * t] = hn::NegMulAdd(a, odd_a, even_a);
    to[3 * t] = hn::MulAdd(b, odd_b, even_b);
    to[4 * t] = hn::NegMulAdd(b, odd_b, even_b);
    to[5 * t] = hn::NegMulAdd(more, x[3 * s], hn::Add(x[s], x[5 * s]));
  }
  static HWY_INLINE void output(const Vector* m, int s, Vector* to, int t) {  // A^T
    const Float d;
    const Vector sum_a = hn::Add(m[s], m[2 * s]), diff_a = hn::Sub(m[s], m[2 * s]);
    const Vector sum_b = hn::Add(m[3 * s], m[4 * s]), diff_b = hn::Sub(m[3 * s], m[4 * s]);
    to[0] = hn::Add(hn::Add(m[0], sum_a), sum_b);
    to[t] = hn::MulAdd(hn::Set(d, kA), diff_a, hn::Mul(hn::Set(d, kB), diff_b));
    to[2 * t] = hn::MulAdd(hn::Set(d, 0.5f), sum_a, hn::Add(sum_b, sum_b));
    to[3 * t] =
        hn::MulAdd(hn::Set(d, kA / 2), diff_a, hn::MulAdd(hn::Set(d, 2 * kB), diff_b, m[5 * s]));
  }
  static HWY_INLINE void output_grad(const Vector* y, int s, Vector* to, int t) {  // A
    const Float d;
    const Vector two = hn::Set(d, 2.0f), half = hn::Set(d, 0.5f);
    const Vector a = hn::Set(d, kA), b = hn::Set(d, kB);
    const Vector y0 = y[0], y3 = y[3 * s];
    const Vector even_a = hn::MulAdd(half, y[2 * s], y0), odd_a = hn::MulAdd(half, y3, y[s]);
    const Vector even_b = hn::MulAdd(two, y[2 * s], y0), odd_b = hn::MulAdd(two, y3, y[s]);
    to[0] = y0;
    to[t] = hn::MulAdd(a, odd_a, even_a);
    to[2 * t] = hn::NegMulAdd(a, odd_a, even_a);
    to[3 * t] = hn::MulAdd(b, odd_b, even_b);
    to[4 * t] = hn::NegMulAdd(b, odd_b, even_b);
    to[5 * t] = y3;
  }
  static HWY_INLINE void kernel(const Vector* k, int s, Vector* to, int t) {  // G
    const Float d;
    const Vector k0 = k[0], k2 = k[2 * s], third = hn::Set(d, 1.0f / 3);
    const Vector even_a = hn::Mul(third, hn::NegMulSub(hn::Set(d, 2.0f), k0, k2));
    const Vector odd_a = hn::Mul(hn::Set(d, -2 * kA / 3), k[s]);
    const Vector even_b = hn::Mul(third, hn::MulAdd(hn::Set(d, 0.5f), k0, k2));
    const Vector odd_b = hn::Mul(hn::Set(d, kB / 6), k[s]);
    to[0] = k0;
    to[t] = hn::Add(even_a, odd_a);
    to[2 * t] = hn::Sub(even_a, odd_a);
    to[3 * t] = hn::Add(even_b, odd_b);
    to[4 * t] = hn::Sub(even_b, odd_b);
    to[5 * t] = k2;
  }
  static HWY_INLINE void kernel_grad(const Vector* u, int s, Vector* to, int t) {  // G^T
    const Float d;
    const Vector sum_a = hn::Add(u[s], u[2 * s]), diff_a = hn::Sub(u[s], u[2 * s]);
    const Vector sum_b = hn::Add(u[3 * s], u[4 * s]), diff_b = hn::Sub(u[3 * s], u[4 * s]);
    to[0] = hn::MulAdd(hn::Set(d, -2.0f / 3), sum_a, hn::MulAdd(hn::Set(d, 1.0f / 6), sum_b, u[0]));
    to[t] = hn::MulAdd(hn::Set(d, -2 * kA / 3), diff_a, hn::Mul(hn::Set(d, kB / 6), diff_b));
    to[2 * t] =
        hn::MulAdd(hn::Set(d, -1.0f / 3), sum_a, hn::MulAdd(hn::Set(d, 1.0f / 3), sum_b, u[5 * s]));
  }
};

template <>
struct Winograd<2> {
  static HWY_INLINE void input(const Vector* x, int s, Vector* to, int t) {
    const Vector x1 = x[s], x2 = x[2 * s];
    to[0] = hn::Sub(x[0], x2);
    to[t] = hn::Add(x1, x2);
    to[2 * t] = hn::Sub(x2, x1);
    to[3 * t] = hn::Sub(x1, x[3 * s]);
  }
  static HWY_INLINE void output(const Vector* m, int s, Vector* to, int t) {
    to[0] = hn::Add(m[0], hn::Add(m[s], m[2 * s]));
    to[t] = hn::Sub(hn::Sub(m[s], m[2 * s]), m[3 * s]);
  }
  static HWY_INLINE void output_grad(const Vector* y, int s, Vector* to, int t) {
    const Vector y0 = y[0], y1 = y[s];
    to[0] = y0;
    to[t] = hn::Add(y0, y1);
    to[2 * t] = hn::Sub(y0, y1);
    to[3 * t] = hn::Neg(y1);
  }
  static HWY_INLINE void kernel(const Vector* k, int s, Vector* to, int t) {
    const Vector half = hn::Set(Float(), 0.5f), k0 = k[0], k2 = k[2 * s];
    const Vector even = hn::Mul(half, hn::Add(k0, k2)), odd = hn::Mul(half, k[s]);
    to[0] = k0;
    to[t] = hn::Add(even, odd);
    to[2 * t] = hn::Sub(even, odd);
    to[3 * t] = k2;
  }
  static HWY_INLINE void kernel_grad(const Vector* u, int s, Vector* to, int t) {
    const Vector half = hn::Set(Float(), 0.5f);
    const Vector sum = hn::Mul(half, hn::Add(u[s], u[2 * s]));
    to[0] = hn::Add(u[0], sum);
    to[t] = hn::Mul(half, hn::Sub(u[s], u[2 * s]));
    to[2 * t] = hn::Add(sum, u[3 * s]);
  }
};

// The tile of an image whose rows begin at row[i], a vector of channels of it: B^T d B to v, its
// points `point` apart. Columns outside [first, last) are zero.
template <int kTile, bool kPart>
HWY_INLINE void input_tile(const float* const* row, int64_t pixel, int64_t first, int64_t last,
                           int64_t n, float* v, int64_t point) {
  constexpr int kSize = kTile + 2;
  const Float d;
  Vector t[kSize * kSize];
  EVENFLOW_UNROLL
  for (int j = 0; j < kSize; ++j) {
    if (j < first || j >= last) {
      EVENFLOW_UNROLL
      for (int i = 0; i < kSize; ++i) t[i * kSize + j] = hn::Zero(d);
      continue;
    }
    Vector x[kSize];
    EVENFLOW_UNROLL
    for (int i = 0; i < kSize; ++i) x[i] = load_vector<kPart>(row[i] + j * pixel, n);
    Winograd<kTile>::input(x, 1, t + j, kSize);
  }
  EVENFLOW_UNROLL
  for (int i = 0; i < kSize; ++i) {
    Vector to[kSize];
    Winograd<kTile>::input(t + i * kSize, 1, to, 1);
    EVENFLOW_UNROLL
    for (int j = 0; j < kSize; ++j) hn::StoreU(to[j], d, v + (i * kSize + j) * point);
  }
}

// The same of a tile of dy: A d A^T. Only the first `columns` columns are there.
template <int kTile, bool kPart>
HWY_INLINE void output_grad_tile(const float* const* row, int64_t pixel, int64_t columns, int64_t n,
                                 float* v, int64_t point) {
  constexpr int kSize = kTile + 2;
  const Float d;
  Vector t[kSize * kTile];
  EVENFLOW_UNROLL
  for (int j = 0; j < kTile; ++j) {
    Vector y[kTile];
    EVENFLOW_UNROLL
    for (int i = 0; i < kTile; ++i)
      y[i] = j < columns ? load_vector<kPart>(row[i] + j * pixel, n) : hn::Zero(d);
    Winograd<kTile>::output_grad(y, 1, t + j, kTile);
  }
  EVENFLOW_UNROLL
  for (int i = 0; i < kSize; ++i) {
    Vector to[kSize];
    Winograd<kTile>::output_grad(t + i * kTile, 1, to, 1);
    EVENFLOW_UNROLL
    for (int j = 0; j < kSize; ++j) hn::StoreU(to[j], d, v + (i * kSize + j) * point);
  }
}

// A^T m A to the tile at y, of which rows x columns are there.
template <int kTile, bool kPart>
HWY_INLINE void output_tile(const float* m, int64_t point, float* y, int64_t row, int64_t pixel,
                            int64_t rows, int64_t columns, int64_t n) {
  constexpr int kSize = kTile + 2;
  const Float d;
  Vector t[kTile * kSize];
  EVENFLOW_UNROLL
  for (int j = 0; j < kSize; ++j) {
    Vector x[kSize];
    EVENFLOW_UNROLL
    for (int i = 0; i < kSize; ++i) x[i] = hn::LoadU(d, m + (i * kSize + j) * point);
    Winograd<kTile>::output(x, 1, t + j, kSize);
  }
  EVENFLOW_UNROLL
  for (int i = 0; i < kTile; ++i) {
    if (i >= rows) break;
    Vector to[kTile];
    Winograd<kTile>::output(t + i * kSize, 1, to, 1);
    EVENFLOW_UNROLL
    for (int j = 0; j < kTile; ++j) {
      if (j >= columns) break;
      store_vector<kPart>(to[j], y + i * row + j * pixel, n);
    }
  }
}

}  // namespace evenflow::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
