// SPDX-License-Identifier: Apache-2.0
// Own matrix products: a block of 6 rows by a few vectors of C in registers, a panel of B in the
// first cache (Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008).
// Every element of C is summed in the same order wherever it lies and however many threads there
// are.
#include <algorithm>
#include <cstring>

#include "evenflow/backends/cpu/gemm.h"
#include "evenflow/backends/cpu/unroll.h"
#include "evenflow/core/buffer.h"
#include "evenflow/core/parallel.h"

// Vectors of unknown size cannot stand in arrays.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "evenflow/backends/cpu/gemm_kernel.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// clang-format on

#ifndef EVENFLOW_BACKENDS_CPU_GEMM_KERNEL_ONCE
#define EVENFLOW_BACKENDS_CPU_GEMM_KERNEL_ONCE
// Memory of the calling thread for packed panels; kept.
namespace evenflow::cpu {
inline void* pack_memory(int64_t bytes) {
  thread_local BufferPtr memory;
  if (!memory || memory->bytes() < bytes) memory = make_buffer(bytes);
  return memory->data();
}
}  // namespace evenflow::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace evenflow::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int kRows = 6;
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || HWY_TARGET == HWY_NEON
constexpr int kVectors = 4;  // 24 accumulators of 32 registers
#else
constexpr int kVectors = 2;  // 12 of 16
#endif
constexpr int64_t kDepth = 128;  // of a panel: 32 KiB with 16 lanes
// Of a panel with fewer vectors: as many accumulators, or the sums would wait for one another.
constexpr int full_rows(int vectors) { return std::min(12, kRows * kVectors / vectors); }

template <class T>
int64_t panel_width() {
  return kVectors * int64_t(hn::Lanes(hn::ScalableTag<T>()));
}

// C[0..kM)[kV vectors] (+)= A[kM][k] B[k][kV vectors]
template <int kM, int kV, class T>
void micro(int64_t k, const T* a, int64_t a_row, int64_t a_k, const T* b, int64_t b_k, T* c,
           int64_t ldc, bool add) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const int64_t lanes = int64_t(hn::Lanes(d));
  V sum[kM][kV];
  EVENFLOW_UNROLL
  for (int i = 0; i < kM; ++i) {
    EVENFLOW_UNROLL
    for (int v = 0; v < kV; ++v) sum[i][v] = hn::Zero(d);
  }
  for (int64_t p = 0; p < k; ++p, a += a_k, b += b_k) {
    V right[kV];
    EVENFLOW_UNROLL
    for (int v = 0; v < kV; ++v) right[v] = hn::LoadU(d, b + v * lanes);
    EVENFLOW_UNROLL
    for (int i = 0; i < kM; ++i) {
      const V left = hn::Set(d, a[i * a_row]);
      EVENFLOW_UNROLL
      for (int v = 0; v < kV; ++v) sum[i][v] = hn::MulAdd(left, right[v], sum[i][v]);
    }
  }
  EVENFLOW_UNROLL
  for (int i = 0; i < kM; ++i) {
    EVENFLOW_UNROLL
    for (int v = 0; v < kV; ++v) {
      T* to = c + i * ldc + v * lanes;
      hn::StoreU(add ? hn::Add(hn::LoadU(d, to), sum[i][v]) : sum[i][v], d, to);
    }
  }
}

template <class T>
using Micro = void (*)(int64_t, const T*, int64_t, int64_t, const T*, int64_t, T*, int64_t, bool);
template <class T>
struct Micros {
  Micro<T> full, rows[kRows + 1];
};
template <int kV, class T>
constexpr Micros<T> micros() {
  return {micro<full_rows(kV), kV, T>,
          {nullptr, micro<1, kV, T>, micro<2, kV, T>, micro<3, kV, T>, micro<4, kV, T>,
           micro<5, kV, T>, micro<6, kV, T>}};
}
template <class T>
constexpr Micros<T> kMicros[] = {micros<1, T>(), micros<2, T>(),
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || HWY_TARGET == HWY_NEON
                                 micros<3, T>(), micros<4, T>()
#endif
};

// Rows of the transposed B are columns here: four by four through registers.
template <class T>
void pack_transposed(const T* b, int64_t ldb, int64_t k, int64_t width, int64_t panel, T* to) {
  if (width < panel) std::fill(to, to + k * panel, T(0));
  int64_t j = 0;
#if HWY_TARGET != HWY_SCALAR
  if constexpr (std::is_same_v<T, float>) {
    const hn::FixedTag<float, 4> d;
    const hn::FixedTag<double, 2> dd;
    for (; j + 4 <= width; j += 4) {
      const float* row = b + j * ldb;
      float* out = to + j;
      int64_t p = 0;
      for (; p + 4 <= k; p += 4, out += 4 * panel) {
        const auto r0 = hn::LoadU(d, row + p), r1 = hn::LoadU(d, row + ldb + p);
        const auto r2 = hn::LoadU(d, row + 2 * ldb + p), r3 = hn::LoadU(d, row + 3 * ldb + p);
        const auto l01 = hn::BitCast(dd, hn::InterleaveLower(d, r0, r1));
        const auto l23 = hn::BitCast(dd, hn::InterleaveLower(d, r2, r3));
        const auto u01 = hn::BitCast(dd, hn::InterleaveUpper(d, r0, r1));
        const auto u23 = hn::BitCast(dd, hn::InterleaveUpper(d, r2, r3));
        hn::StoreU(hn::BitCast(d, hn::InterleaveLower(dd, l01, l23)), d, out);
        hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(dd, l01, l23)), d, out + panel);
        hn::StoreU(hn::BitCast(d, hn::InterleaveLower(dd, u01, u23)), d, out + 2 * panel);
        hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(dd, u01, u23)), d, out + 3 * panel);
      }
      for (; p < k; ++p)
        for (int64_t i = 0; i < 4; ++i) to[p * panel + j + i] = row[i * ldb + p];
    }
  }
#endif
  for (; j < width; ++j)
    for (int64_t p = 0; p < k; ++p) to[p * panel + j] = b[j * ldb + p];
}

template <class T>
void pack_plain(const T* b, int64_t ldb, int64_t k, int64_t width, int64_t panel, T* to) {
  for (int64_t p = 0; p < k; ++p) {
    std::memcpy(to + p * panel, b + p * ldb, size_t(width) * sizeof(T));
    if (width < panel) std::fill(to + p * panel + width, to + (p + 1) * panel, T(0));
  }
}

// One product of the batch.
template <class T>
void one(const Gemm& g, const T* a, const T* b, T* c) {
  const int64_t lanes = int64_t(hn::Lanes(hn::ScalableTag<T>()));
  const int64_t panel = panel_width<T>(), panels = (g.n + panel - 1) / panel;
  auto vectors_of = [&](int64_t width) { return (width + lanes - 1) / lanes; };
  const int64_t a_row = g.trans_a ? 1 : g.lda, a_k = g.trans_a ? g.lda : 1;
  // Whole panels of a plain B are read where they lie, unless there are rows enough to make up for
  // packing them (rows a power of two apart fall on the same lines of the cache).
  const bool direct = !g.trans_b && g.m < 96;
  const int64_t packed_from = direct ? g.n / panel : 0;
  T* packed = nullptr;
  if (packed_from < panels) {
    packed =
        static_cast<T*>(pack_memory((panels - packed_from) * panel * g.k * int64_t(sizeof(T))));
    const int64_t grain = std::max<int64_t>(1, 65536 / (panel * g.k));
    parallel_for(panels - packed_from, grain, [&](int64_t begin, int64_t end) {
      for (int64_t j = begin; j < end; ++j) {
        const int64_t column = (packed_from + j) * panel, width = std::min(panel, g.n - column);
        T* to = packed + j * panel * g.k;
        if (g.trans_b)
          pack_transposed(b + column * g.ldb, g.ldb, g.k, width, vectors_of(width) * lanes, to);
        else
          pack_plain(b + column, g.ldb, g.k, width, vectors_of(width) * lanes, to);
      }
    });
  }
  // A task is a block of rows by some panels, worth a few microseconds.
  const int64_t block = g.m <= kRows ? g.m
                        : g.m <= 96  ? ((g.m + 1) / 2 + kRows - 1) / kRows * kRows
                                     : 8 * kRows;
  const int64_t row_blocks = (g.m + block - 1) / block;
  const double column_work = double(block) * double(g.k);
  const int64_t group = std::max<int64_t>(
      1, std::min<int64_t>(panels, int64_t(262144 / (column_work * double(panel)))));
  const int64_t groups = (panels + group - 1) / group;
  const double work = column_work * double(panel) * double(group);
  const int64_t grain = std::max<int64_t>(1, int64_t(131072 / work));
  parallel_for(row_blocks * groups, grain, [&](int64_t begin, int64_t end) {
    alignas(64) T rest[kRows * kVectors * hn::MaxLanes(hn::ScalableTag<T>())];
    for (int64_t t = begin; t < end; ++t) {
      const int64_t i0 = t / groups * block, i1 = std::min(g.m, i0 + block);
      const int64_t j0 = t % groups * group, j1 = std::min(panels, j0 + group);
      for (int64_t p = 0; p < g.k; p += kDepth) {
        const int64_t depth = std::min(kDepth, g.k - p);
        const bool add = g.accumulate || p > 0;
        for (int64_t j = j0; j < j1; ++j) {
          const int64_t column = j * panel, width = std::min(panel, g.n - column);
          const int64_t vectors = vectors_of(width), wide = vectors * lanes;
          const Micros<T>& micros = kMicros<T>[vectors - 1];
          const int64_t full = full_rows(int(vectors));
          const bool here = j < packed_from;
          const T* right =
              here ? b + p * g.ldb + column : packed + (j - packed_from) * panel * g.k + p * wide;
          const int64_t b_k = here ? g.ldb : wide;
          for (int64_t i = i0, rows; i < i1; i += rows) {
            rows = i1 - i >= full ? full : std::min<int64_t>(kRows, i1 - i);
            const Micro<T> f = rows == full ? micros.full : micros.rows[rows];
            const T* left = a + i * a_row + p * a_k;
            T* to = c + i * g.ldc + column;
            if (width == wide) {
              f(depth, left, a_row, a_k, right, b_k, to, g.ldc, add);
              continue;
            }
            f(depth, left, a_row, a_k, right, b_k, rest, wide, false);
            for (int64_t r = 0; r < rows; ++r)
              for (int64_t x = 0; x < width; ++x)
                to[r * g.ldc + x] =
                    add ? to[r * g.ldc + x] + rest[r * wide + x] : rest[r * wide + x];
          }
        }
      }
    }
  });
}

template <class T>
void all(const Gemm& g, const T* a, const T* b, T* c) {
  const double work = double(g.m) * double(g.n) * double(g.k);
  auto some = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      one(g, a + i * g.stride_a, b + i * g.stride_b, c + i * g.stride_c);
  };
  if (g.batch == 1 || work > 4e6) return some(0, g.batch);
  parallel_for(g.batch, std::max<int64_t>(1, int64_t(131072 / work)), some);
}

void gemm_f32(const Gemm& g, const float* a, const float* b, float* c) { all(g, a, b, c); }
void gemm_f64(const Gemm& g, const double* a, const double* b, double* c) { all(g, a, b, c); }

}  // namespace evenflow::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace evenflow::cpu {
HWY_EXPORT(gemm_f32);
HWY_EXPORT(gemm_f64);

void detail::own_gemm(const Gemm& g, DType dtype, const void* a, const void* b, void* c) {
  if (dtype == DType::f64) HWY_DYNAMIC_DISPATCH(gemm_f64)
  (g, static_cast<const double*>(a), static_cast<const double*>(b), static_cast<double*>(c));
  else HWY_DYNAMIC_DISPATCH(gemm_f32)(g, static_cast<const float*>(a), static_cast<const float*>(b),
                                      static_cast<float*>(c));
}

}  // namespace evenflow::cpu
#endif
