// SPDX-License-Identifier: Apache-2.0
// Own matrix products: a block of 6 rows by a few vectors of C in registers, a panel of B in the
// first cache (Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008).
// Every element of C is summed in the same order wherever it lies and however many threads there
// are. Where A has few rows and many columns, threads part the sum: each meets its own rows of B
// again in the next product and in their update.
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
#include "evenflow/backends/cpu/tail-inl.h"
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

// The last vector of a row: all of it; its first `last` lanes; or so few that half a vector holds
// them, which takes half the time where a core does a 512-bit operation as two halves.
enum class Tail { whole, part, half };
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
constexpr bool kHalves = true;
#else
constexpr bool kHalves = false;
#endif

// C[0..kM)[kV vectors] (+)= A[kM][k] B[k][kV vectors].
template <class T>
struct Block {
  int64_t k;
  const T* a = nullptr;
  int64_t a_row, a_k;
  const T* b;
  int64_t b_k;
  T* c = nullptr;
  int64_t ldc;
  bool add;
  int64_t last;
};
template <class D, class T>
HWY_INLINE void put(D d, hn::Vec<D> v, bool add, T* to) {
  hn::StoreU(add ? hn::Add(hn::LoadU(d, to), v) : v, d, to);
}
template <class D, class M, class T>
HWY_INLINE void put_part(D d, hn::Vec<D> v, bool add, M mask, T* to) {
  hn::BlendedStore(add ? hn::Add(hn::MaskedLoad(mask, d, to), v) : v, mask, d, to);
}
template <int kM, int kV, Tail kTail, class T>
void micro(const Block<T>& x) {
  const hn::ScalableTag<T> d;
  const hn::CappedTag<T, kTail == Tail::half ? hn::MaxLanes(d) / 2 : hn::MaxLanes(d)> dt;
  using V = hn::Vec<decltype(d)>;
  using VT = hn::Vec<decltype(dt)>;
  constexpr int kWhole = kTail == Tail::whole ? kV : kV - 1, kMost = std::max(kWhole, 1);
  const int64_t lanes = int64_t(hn::Lanes(d));
  const auto mask = hn::FirstN(dt, size_t(x.last));
  V sum[kM][kMost];
  VT rest[kM];
  EVENFLOW_UNROLL
  for (int i = 0; i < kM; ++i) {
    EVENFLOW_UNROLL
    for (int v = 0; v < kWhole; ++v) sum[i][v] = hn::Zero(d);
    rest[i] = hn::Zero(dt);
  }
  const T *a = x.a, *b = x.b;
  for (int64_t p = 0; p < x.k; ++p, a += x.a_k, b += x.b_k) {
    V right[kMost];
    VT right_rest = hn::Zero(dt);
    EVENFLOW_UNROLL
    for (int v = 0; v < kWhole; ++v) right[v] = hn::LoadU(d, b + v * lanes);
    if constexpr (kTail != Tail::whole) right_rest = hn::MaskedLoad(mask, dt, b + kWhole * lanes);
    EVENFLOW_UNROLL
    for (int i = 0; i < kM; ++i) {
      const V left = hn::Set(d, a[i * x.a_row]);
      EVENFLOW_UNROLL
      for (int v = 0; v < kWhole; ++v) sum[i][v] = hn::MulAdd(left, right[v], sum[i][v]);
      if constexpr (kTail == Tail::part) rest[i] = hn::MulAdd(left, right_rest, rest[i]);
      if constexpr (kTail == Tail::half)
        rest[i] = hn::MulAdd(hn::LowerHalf(dt, left), right_rest, rest[i]);
    }
  }
  EVENFLOW_UNROLL
  for (int i = 0; i < kM; ++i) {
    T* to = x.c + i * x.ldc;
    EVENFLOW_UNROLL
    for (int v = 0; v < kWhole; ++v) put(d, sum[i][v], x.add, to + v * lanes);
    if constexpr (kTail != Tail::whole) put_part(dt, rest[i], x.add, mask, to + kWhole * lanes);
  }
}

template <class T>
using Micro = void (*)(const Block<T>&);
template <class T>
struct Micros {
  Micro<T> full, rows[kRows + 1];
};
template <int kV, Tail kTail, class T>
constexpr Micros<T> micros() {
  return {micro<full_rows(kV), kV, kTail, T>,
          {nullptr, micro<1, kV, kTail, T>, micro<2, kV, kTail, T>, micro<3, kV, kTail, T>,
           micro<4, kV, kTail, T>, micro<5, kV, kTail, T>, micro<6, kV, kTail, T>}};
}
template <Tail kTail, class T>
constexpr Micros<T> kMicros[] = {micros<1, kTail, T>(), micros<2, kTail, T>(),
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || HWY_TARGET == HWY_NEON
                                 micros<3, kTail, T>(), micros<4, kTail, T>()
#endif
};
template <class T>
const Micros<T>& micros_of(int64_t vectors, int64_t last, int64_t lanes) {
  if constexpr (kHalves)
    if (last <= lanes / 2) return kMicros<Tail::half, T>[vectors - 1];
  if constexpr (kMasksMemory)
    if (last < lanes) return kMicros<Tail::part, T>[vectors - 1];
  return kMicros<Tail::whole, T>[vectors - 1];
}

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

// In how many parts the sum is made.
inline int64_t parts_of_sum(const Gemm& g) {
  constexpr double kWork = 2e6;
  if (g.m > 128 || double(g.m) * double(g.n) * double(g.k) < kWork) return 1;
  int64_t parts = 1;
  while (parts < 8 && g.k >= 512 * parts && g.k >= 8 * g.m * parts) parts *= 2;
  return parts;
}

// One product of the batch.
template <class T>
void one(const Gemm& g, const T* a, const T* b, T* c) {
  const int64_t lanes = int64_t(hn::Lanes(hn::ScalableTag<T>()));
  const int64_t panel = panel_width<T>(), panels = (g.n + panel - 1) / panel;
  auto vectors_of = [&](int64_t width) { return (width + lanes - 1) / lanes; };
  const int64_t a_row = g.trans_a ? 1 : g.lda, a_k = g.trans_a ? g.lda : 1;
  // Panels of a plain B are read where they lie, unless there are rows enough to make up for
  // packing them (rows a power of two apart fall on the same lines of the cache).
  const bool direct = !g.trans_b && g.m <= 128;
  const int64_t packed_from = direct ? kMasksMemory ? panels : g.n / panel : 0;
  const int64_t parts = parts_of_sum(g), part = (g.k + parts - 1) / parts;
  const int64_t packed_size = (panels - packed_from) * panel * g.k;
  T* packed = nullptr;
  if (packed_size > 0 || parts > 1)
    packed =
        static_cast<T*>(pack_memory((packed_size + (parts - 1) * g.m * g.n) * int64_t(sizeof(T))));
  T* const sums = packed + packed_size;
  // Of a panel what is summed from p0 to p1.
  auto pack = [&](int64_t j, int64_t p0, int64_t p1) {
    const int64_t column = (packed_from + j) * panel, width = std::min(panel, g.n - column),
                  wide = vectors_of(width) * lanes;
    T* to = packed + j * panel * g.k + p0 * wide;
    if (g.trans_b)
      pack_transposed(b + column * g.ldb + p0, g.ldb, p1 - p0, width, wide, to);
    else
      pack_plain(b + p0 * g.ldb + column, g.ldb, p1 - p0, width, wide, to);
  };
  // Few rows: who needs a part of a panel packs it, and nobody else's.
  constexpr int64_t kFewRows = 192;
  const bool packs_itself = packed_size > 0 && g.m <= kFewRows && panels > 1;
  if (packed_size > 0 && !packs_itself)
    parallel_for(panels - packed_from, std::max<int64_t>(1, 65536 / (panel * g.k)),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t j = begin; j < end; ++j) pack(j, 0, g.k);
                 });
  // A task is a part of the sum of a block of rows by some panels, worth a few microseconds.
  const int64_t block = g.m <= kRows || parts > 1 || packs_itself ? g.m
                        : g.m <= kFewRows ? ((g.m + 1) / 2 + kRows - 1) / kRows * kRows
                                          : 8 * kRows;
  const int64_t row_blocks = (g.m + block - 1) / block;
  const int64_t width = std::min(panel, g.n);
  const double column_work = double(block) * double(part);
  const int64_t group = std::max<int64_t>(
      1, std::min<int64_t>(panels, int64_t(262144 / (column_work * double(width)))));
  const int64_t groups = (panels + group - 1) / group;
  const double work = column_work * double(width) * double(group);
  // Up to some ten microseconds one thread is faster: what follows finds all of it in one cache.
  constexpr double kAlone = 2e5;
  const int64_t grain = double(g.m) * double(g.n) * double(g.k) < kAlone
                            ? parts * row_blocks * groups
                            : std::max<int64_t>(1, int64_t(131072 / work));
  parallel_for(parts * row_blocks * groups, grain, [&](int64_t begin, int64_t end) {
    alignas(64) T rest[kRows * kVectors * hn::MaxLanes(hn::ScalableTag<T>())];
    for (int64_t t = begin; t < end; ++t) {
      const int64_t s = t / (row_blocks * groups), r = t / groups % row_blocks;
      const int64_t i0 = r * block, i1 = std::min(g.m, i0 + block);
      const int64_t j0 = t % groups * group, j1 = std::min(panels, j0 + group);
      const int64_t p0 = s * part, p1 = std::min(g.k, p0 + part);
      T* const result = s ? sums + (s - 1) * g.m * g.n : c;
      const int64_t ldc = s ? g.n : g.ldc;
      for (int64_t j = std::max(j0, packed_from); packs_itself && j < j1; ++j)
        pack(j - packed_from, p0, p1);
      const int64_t steps = (p1 - p0 + kDepth - 1) / kDepth, step = (p1 - p0 + steps - 1) / steps;
      for (int64_t p = p0; p < p1; p += step) {
        const int64_t depth = std::min(step, p1 - p);
        const bool add = p > p0 || (s == 0 && g.accumulate);
        for (int64_t j = j0; j < j1; ++j) {
          const int64_t column = j * panel, columns = std::min(panel, g.n - column);
          const int64_t vectors = vectors_of(columns), wide = vectors * lanes;
          const bool whole = columns == wide, masked = kMasksMemory && !whole;
          const int64_t last = columns - (vectors - 1) * lanes;
          const Micros<T>& micros = micros_of<T>(vectors, last, lanes);
          const int64_t full = full_rows(int(vectors));
          const bool here = j < packed_from;
          Block<T> x{.k = depth,
                     .a_row = a_row,
                     .a_k = a_k,
                     .b = here ? b + p * g.ldb + column
                               : packed + (j - packed_from) * panel * g.k + p * wide,
                     .b_k = here ? g.ldb : wide,
                     .ldc = whole || masked ? ldc : wide,
                     .add = add && (whole || masked),
                     .last = last};
          for (int64_t i = i0, rows; i < i1; i += rows) {
            rows = i1 - i >= full ? full : std::min<int64_t>(kRows, i1 - i);
            const Micro<T> f = rows == full ? micros.full : micros.rows[rows];
            T* to = result + i * ldc + column;
            x.a = a + i * a_row + p * a_k, x.c = whole || masked ? to : rest;
            f(x);
            if (whole || masked) continue;
            for (int64_t y = 0; y < rows; ++y)
              for (int64_t z = 0; z < columns; ++z)
                to[y * ldc + z] = add ? to[y * ldc + z] + rest[y * wide + z] : rest[y * wide + z];
          }
        }
      }
    }
  });
  if (parts == 1) return;
  parallel_for(g.m, std::max<int64_t>(1, 16384 / (g.n * parts)), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t s = 1; s < parts; ++s) {
        const T* from = sums + ((s - 1) * g.m + i) * g.n;
        for (int64_t j = 0; j < g.n; ++j) c[i * g.ldc + j] += from[j];
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
