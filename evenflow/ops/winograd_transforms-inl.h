// SPDX-License-Identifier: Apache-2.0
// The transforms of Winograd tiles, a vector of channels at a time. Compiled once for each target.
#if defined(EVENFLOW_OPS_WINOGRAD_TRANSFORMS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EVENFLOW_OPS_WINOGRAD_TRANSFORMS_INL_H_
#undef EVENFLOW_OPS_WINOGRAD_TRANSFORMS_INL_H_
#else
#define EVENFLOW_OPS_WINOGRAD_TRANSFORMS_INL_H_
#endif

#include <cstring>

#include "evenflow/backends/cpu/tail-inl.h"
#include "evenflow/backends/cpu/unroll.h"

HWY_BEFORE_NAMESPACE();
namespace evenflow::cpu::HWY_NAMESPACE {
using Float = hn::ScalableTag<float>;
using Vector = hn::Vec<Float>;

// A vector of memory that may end before it: kPart says that it does, after n elements.
template <bool kPart, class T>
HWY_INLINE Vector load_vector(const T* p, int64_t n) {
  if constexpr (kPart) return load_n(Float(), p, n);
  return load(Float(), p);
}
template <bool kPart, class T>
HWY_INLINE void store_vector(Vector v, T* p, int64_t n) {
  if constexpr (kPart) return store_n(Float(), v, p, n);
  store(Float(), v, p);
}

// The matrices of winograd_matrices(), on vectors that lie s and to places that lie t apart.
template <int kTile>
struct Winograd;

// The transforms of images give half of their results at a time: both halves of a tile's columns do
// not fit the registers. Input and output_grad: the first or the last ones; output: every other
// one.
template <>
struct Winograd<4> {
  static constexpr float kA = 0.70710678f, kB = 1.41421356f;
  template <int kHalf>
  static HWY_INLINE void input(const Vector* x, Vector* to) {  // B^T
    const Float d;
    const Vector more = hn::Set(d, 2.5f);
    if constexpr (kHalf == 0) {
      const Vector two = hn::Set(d, 2.0f), a = hn::Set(d, kA);
      const Vector even = hn::NegMulAdd(two, x[2], x[4]), odd = hn::NegMulAdd(two, x[1], x[3]);
      to[0] = hn::NegMulAdd(more, x[2], hn::Add(x[0], x[4]));
      to[1] = hn::MulAdd(a, odd, even);
      to[2] = hn::NegMulAdd(a, odd, even);
    } else {
      const Vector half = hn::Set(d, 0.5f), b = hn::Set(d, kB);
      const Vector even = hn::NegMulAdd(half, x[2], x[4]), odd = hn::NegMulAdd(half, x[1], x[3]);
      to[0] = hn::MulAdd(b, odd, even);
      to[1] = hn::NegMulAdd(b, odd, even);
      to[2] = hn::NegMulAdd(more, x[3], hn::Add(x[1], x[5]));
    }
  }
  template <int kHalf>
  static HWY_INLINE void output(const Vector* m, Vector* to) {  // A^T
    const Float d;
    if constexpr (kHalf == 0) {
      const Vector sum_a = hn::Add(m[1], m[2]), sum_b = hn::Add(m[3], m[4]);
      to[0] = hn::Add(hn::Add(m[0], sum_a), sum_b);
      to[1] = hn::MulAdd(hn::Set(d, 0.5f), sum_a, hn::Add(sum_b, sum_b));
    } else {
      const Vector diff_a = hn::Sub(m[1], m[2]), diff_b = hn::Sub(m[3], m[4]);
      to[0] = hn::MulAdd(hn::Set(d, kA), diff_a, hn::Mul(hn::Set(d, kB), diff_b));
      to[1] = hn::MulAdd(hn::Set(d, kA / 2), diff_a, hn::MulAdd(hn::Set(d, 2 * kB), diff_b, m[5]));
    }
  }
  template <int kHalf>
  static HWY_INLINE void output_grad(const Vector* y, Vector* to) {  // A
    const Float d;
    const Vector weight = hn::Set(d, kHalf ? 2.0f : 0.5f), root = hn::Set(d, kHalf ? kB : kA);
    const Vector even = hn::MulAdd(weight, y[2], y[0]), odd = hn::MulAdd(weight, y[3], y[1]);
    const Vector sum = hn::MulAdd(root, odd, even), diff = hn::NegMulAdd(root, odd, even);
    if constexpr (kHalf == 0)
      to[0] = y[0], to[1] = sum, to[2] = diff;
    else
      to[0] = sum, to[1] = diff, to[2] = y[3];
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
  template <int kHalf>
  static HWY_INLINE void input(const Vector* x, Vector* to) {
    if constexpr (kHalf == 0)
      to[0] = hn::Sub(x[0], x[2]), to[1] = hn::Add(x[1], x[2]);
    else
      to[0] = hn::Sub(x[2], x[1]), to[1] = hn::Sub(x[1], x[3]);
  }
  template <int kHalf>
  static HWY_INLINE void output(const Vector* m, Vector* to) {
    if constexpr (kHalf == 0)
      to[0] = hn::Add(m[0], hn::Add(m[1], m[2]));
    else
      to[0] = hn::Sub(hn::Sub(m[1], m[2]), m[3]);
  }
  template <int kHalf>
  static HWY_INLINE void output_grad(const Vector* y, Vector* to) {
    if constexpr (kHalf == 0)
      to[0] = y[0], to[1] = hn::Add(y[0], y[1]);
    else
      to[0] = hn::Sub(y[0], y[1]), to[1] = hn::Neg(y[1]);
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

// A tile of an image, a vector of channels of it: where its rows begin, and from pixel to pixel.
template <class T, int kSize>
struct TileRows {
  const T* row[kSize];
  int64_t pixel;
};
// The same with nothing but zeros outside the columns [first, last) and behind n channels.
template <class T, int kSize>
struct TilePatch {
  HWY_ALIGN T at[kSize][kSize][hn::MaxLanes(Float())];
  TileRows<T, kSize> of(const TileRows<T, kSize>& from, int64_t first, int64_t last, int64_t n) {
    std::memset(at, 0, sizeof at);
    TileRows<T, kSize> r;
    for (int i = 0; i < kSize; ++i) {
      for (int64_t j = first; j < last; ++j)
        std::memcpy(at[i][j], from.row[i] + j * from.pixel, size_t(n) * sizeof(T));
      r.row[i] = at[i][0];
    }
    r.pixel = hn::MaxLanes(Float());
    return r;
  }
};

// B^T d B to v, its points `point` apart. Without the first or last column: these are zero.
template <int kTile, int kHalf, bool kFirst, bool kLast, class T>
HWY_INLINE void input_half(const TileRows<T, kTile + 2>& x, float* v, int64_t point) {
  constexpr int kSize = kTile + 2, kRows = kSize / 2;
  const Float d;
  Vector t[kRows * kSize];
  EVENFLOW_UNROLL
  for (int j = 0; j < kSize; ++j) {
    const bool there = (kFirst || j > 0) && (kLast || j < kSize - 1);
    Vector column[kSize], to[kRows];
    EVENFLOW_UNROLL
    for (int i = 0; i < kSize; ++i)
      column[i] = there ? load(d, x.row[i] + j * x.pixel) : hn::Zero(d);
    Winograd<kTile>::template input<kHalf>(column, to);
    EVENFLOW_UNROLL
    for (int i = 0; i < kRows; ++i) t[i * kSize + j] = to[i];
  }
  EVENFLOW_UNROLL
  for (int i = 0; i < kRows; ++i) {
    Vector to[kSize];
    Winograd<kTile>::template input<0>(t + i * kSize, to);
    Winograd<kTile>::template input<1>(t + i * kSize, to + kRows);
    EVENFLOW_UNROLL
    for (int j = 0; j < kSize; ++j)
      hn::StoreU(to[j], d, v + ((kHalf * kRows + i) * kSize + j) * point);
  }
}
template <int kTile, bool kFirst, bool kLast, class T>
void input_tile(const TileRows<T, kTile + 2>& x, float* v, int64_t point) {
  input_half<kTile, 0, kFirst, kLast>(x, v, point);
  input_half<kTile, 1, kFirst, kLast>(x, v, point);
}

// The same of a tile of dy: A d A^T.
template <int kTile, int kHalf, class T>
HWY_INLINE void output_grad_half(const TileRows<T, kTile>& y, float* v, int64_t point) {
  constexpr int kSize = kTile + 2, kRows = kSize / 2;
  const Float d;
  Vector t[kRows * kTile];
  EVENFLOW_UNROLL
  for (int j = 0; j < kTile; ++j) {
    Vector column[kTile], to[kRows];
    EVENFLOW_UNROLL
    for (int i = 0; i < kTile; ++i) column[i] = load(d, y.row[i] + j * y.pixel);
    Winograd<kTile>::template output_grad<kHalf>(column, to);
    EVENFLOW_UNROLL
    for (int i = 0; i < kRows; ++i) t[i * kTile + j] = to[i];
  }
  EVENFLOW_UNROLL
  for (int i = 0; i < kRows; ++i) {
    Vector to[kSize];
    Winograd<kTile>::template output_grad<0>(t + i * kTile, to);
    Winograd<kTile>::template output_grad<1>(t + i * kTile, to + kRows);
    EVENFLOW_UNROLL
    for (int j = 0; j < kSize; ++j)
      hn::StoreU(to[j], d, v + ((kHalf * kRows + i) * kSize + j) * point);
  }
}
template <int kTile, class T>
void output_grad_tile(const TileRows<T, kTile>& y, float* v, int64_t point) {
  output_grad_half<kTile, 0>(y, v, point);
  output_grad_half<kTile, 1>(y, v, point);
}

// A^T m A to the tile at y.
template <int kTile, int kHalf, class T>
HWY_INLINE void output_half(const float* m, int64_t point, T* y, int64_t row, int64_t pixel) {
  constexpr int kSize = kTile + 2, kRows = kTile / 2;
  const Float d;
  Vector t[kRows * kSize];
  EVENFLOW_UNROLL
  for (int j = 0; j < kSize; ++j) {
    Vector column[kSize], to[kRows];
    EVENFLOW_UNROLL
    for (int i = 0; i < kSize; ++i) column[i] = hn::LoadU(d, m + (i * kSize + j) * point);
    Winograd<kTile>::template output<kHalf>(column, to);
    EVENFLOW_UNROLL
    for (int i = 0; i < kRows; ++i) t[i * kSize + j] = to[i];
  }
  EVENFLOW_UNROLL
  for (int i = 0; i < kRows; ++i) {
    Vector even[kRows], odd[kRows];
    Winograd<kTile>::template output<0>(t + i * kSize, even);
    Winograd<kTile>::template output<1>(t + i * kSize, odd);
    T* to = y + (kHalf + 2 * i) * row;
    EVENFLOW_UNROLL
    for (int j = 0; j < kRows; ++j) {
      store(d, even[j], to + 2 * j * pixel);
      store(d, odd[j], to + (2 * j + 1) * pixel);
    }
  }
}
template <int kTile, class T>
void output_tile(const float* m, int64_t point, T* y, int64_t row, int64_t pixel) {
  output_half<kTile, 0>(m, point, y, row, pixel);
  output_half<kTile, 1>(m, point, y, row, pixel);
}

}  // namespace evenflow::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
