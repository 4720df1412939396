// SPDX-License-Identifier: Apache-2.0
#include "evenflow/backends/cpu/reduce.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include "evenflow/core/parallel.h"

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "evenflow/backends/cpu/reduce.cc"
#include "hwy/foreach_target.h"
#include "evenflow/backends/cpu/convert-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace evenflow::cpu::HWY_NAMESPACE {

struct SumOf {
  static constexpr double kInit = 0;
  template <class D, class V = hn::Vec<D>>
  HWY_INLINE V operator()(D, V a, V b) const {
    return hn::Add(a, b);
  }
  double operator()(double a, double b) const { return a + b; }
};
// A comparison with NaN is false, so a NaN, once taken, stays.
struct MaxOf {
  static constexpr double kInit = -std::numeric_limits<double>::infinity();
  template <class D, class V = hn::Vec<D>>
  HWY_INLINE V operator()(D, V a, V b) const {
    return hn::IfThenElse(hn::Or(hn::Lt(a, b), hn::IsNaN(b)), b, a);
  }
  double operator()(double a, double b) const { return a < b || b != b ? b : a; }
};
struct MinOf {
  static constexpr double kInit = std::numeric_limits<double>::infinity();
  template <class D, class V = hn::Vec<D>>
  HWY_INLINE V operator()(D, V a, V b) const {
    return hn::IfThenElse(hn::Or(hn::Gt(a, b), hn::IsNaN(b)), b, a);
  }
  double operator()(double a, double b) const { return a > b || b != b ? b : a; }
};

template <class T>
using Tag = hn::ScalableTag<compute_t<T>>;

// f over a run of elements, on eight vectors so that additions need not wait for each other.
template <class Op, class T>
double reduce_run(const T* x, int64_t n) {
  constexpr Op op;
  const Tag<T> d;
  using C = compute_t<T>;
  const int64_t lanes = int64_t(hn::Lanes(d)), block = 8 * lanes * 16;
  HWY_ALIGN C out[hn::MaxLanes(Tag<T>())];
  double sums[hn::MaxLanes(Tag<T>())];
  std::fill(sums, sums + lanes, Op::kInit);
  int64_t i = 0;
  while (i + 8 * lanes <= n) {
    const int64_t end = std::min(n, i + block);
    const auto init = hn::Set(d, C(Op::kInit));
    auto a0 = init, a1 = init, a2 = init, a3 = init, a4 = init, a5 = init, a6 = init, a7 = init;
    for (; i + 8 * lanes <= end; i += 8 * lanes) {
      a0 = op(d, a0, load(d, x + i));
      a1 = op(d, a1, load(d, x + i + lanes));
      a2 = op(d, a2, load(d, x + i + 2 * lanes));
      a3 = op(d, a3, load(d, x + i + 3 * lanes));
      a4 = op(d, a4, load(d, x + i + 4 * lanes));
      a5 = op(d, a5, load(d, x + i + 5 * lanes));
      a6 = op(d, a6, load(d, x + i + 6 * lanes));
      a7 = op(d, a7, load(d, x + i + 7 * lanes));
    }
    hn::Store(op(d, op(d, op(d, a0, a1), op(d, a2, a3)), op(d, op(d, a4, a5), op(d, a6, a7))), d,
              out);
    for (int64_t k = 0; k < lanes; ++k) sums[k] = op(sums[k], double(out[k]));
  }
  for (; i + lanes <= n; i += lanes) {
    hn::Store(load(d, x + i), d, out);
    for (int64_t k = 0; k < lanes; ++k) sums[k] = op(sums[k], double(out[k]));
  }
  double sum = Op::kInit;
  for (int64_t k = 0; k < lanes; ++k) sum = op(sum, sums[k]);
  for (; i < n; ++i) sum = op(sum, double(compute_t<T>(x[i])));
  return sum;
}

// Mean and M2 of a run: of each block the mean first, then deviations from it while the block is in
// the first cache. The rounding of that mean is put right by the sum of the deviations.
template <class T>
Stats moments_run(const T* x, int64_t n) {
  const Tag<T> d;
  using C = compute_t<T>;
  constexpr int64_t kBlock = 2048;
  const int64_t lanes = int64_t(hn::Lanes(d));
  HWY_ALIGN C out[2][hn::MaxLanes(Tag<T>())];
  Stats all;
  for (int64_t b = 0; b < n; b += kBlock) {
    const int64_t m = std::min(kBlock, n - b);
    const T* p = x + b;
    const C mean = C(reduce_run<SumOf>(p, m) / double(m));
    const auto shift = hn::Set(d, mean), zero = hn::Zero(d);
    auto s0 = zero, s1 = zero, s2 = zero, s3 = zero, q0 = zero, q1 = zero, q2 = zero, q3 = zero;
    int64_t i = 0;
    for (; i + 4 * lanes <= m; i += 4 * lanes) {
      const auto e0 = hn::Sub(load(d, p + i), shift), e1 = hn::Sub(load(d, p + i + lanes), shift);
      const auto e2 = hn::Sub(load(d, p + i + 2 * lanes), shift);
      const auto e3 = hn::Sub(load(d, p + i + 3 * lanes), shift);
      s0 = hn::Add(s0, e0), s1 = hn::Add(s1, e1), s2 = hn::Add(s2, e2), s3 = hn::Add(s3, e3);
      q0 = hn::MulAdd(e0, e0, q0), q1 = hn::MulAdd(e1, e1, q1);
      q2 = hn::MulAdd(e2, e2, q2), q3 = hn::MulAdd(e3, e3, q3);
    }
    hn::Store(hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)), d, out[0]);
    hn::Store(hn::Add(hn::Add(q0, q1), hn::Add(q2, q3)), d, out[1]);
    double s = 0, q = 0;
    for (int64_t k = 0; k < lanes; ++k) s += double(out[0][k]), q += double(out[1][k]);
    for (; i < m; ++i) {
      const double e = double(compute_t<T>(p[i])) - double(mean);
      s += e, q += e * e;
    }
    const double count = double(m);
    all = merge(all, {count, double(mean) + s / count, std::max(0.0, q - s * s / count)});
  }
  return all;
}

// Adds (or maximises) rows [0, rows) of the columns [0, columns) into y; columns >= lanes. The last
// strip overlaps the one before it: the columns they share are computed twice and added once.
template <class Op, class T>
void reduce_strips(const T* x, int64_t rows, int64_t columns, int64_t row_stride, double* y) {
  constexpr Op op;
  const Tag<T> d;
  using C = compute_t<T>;
  constexpr int64_t kRows = 64;
  const int64_t lanes = int64_t(hn::Lanes(d));
  HWY_ALIGN C out[4 * hn::MaxLanes(Tag<T>())];
  std::fill(y, y + columns, Op::kInit);
  for (int64_t r = 0; r < rows; r += kRows) {
    const int64_t m = std::min(kRows, rows - r);
    const T* p = x + r * row_stride;
    int64_t c = 0;
    const auto init = hn::Set(d, C(Op::kInit));
    for (; c + 4 * lanes <= columns; c += 4 * lanes) {
      auto a0 = init, a1 = init, a2 = init, a3 = init;
      const T* q = p + c;
      for (int64_t i = 0; i < m; ++i, q += row_stride) {
        a0 = op(d, a0, load(d, q));
        a1 = op(d, a1, load(d, q + lanes));
        a2 = op(d, a2, load(d, q + 2 * lanes));
        a3 = op(d, a3, load(d, q + 3 * lanes));
      }
      hn::Store(a0, d, out);
      hn::Store(a1, d, out + lanes);
      hn::Store(a2, d, out + 2 * lanes);
      hn::Store(a3, d, out + 3 * lanes);
      for (int64_t k = 0; k < 4 * lanes; ++k) y[c + k] = op(y[c + k], double(out[k]));
    }
    while (c < columns) {
      const int64_t at = std::min(c, columns - lanes);
      auto a = init;
      const T* q = p + at;
      for (int64_t i = 0; i < m; ++i, q += row_stride) a = op(d, a, load(d, q));
      hn::Store(a, d, out);
      for (; c < at + lanes; ++c) y[c] = op(y[c], double(out[c - at]));
    }
  }
}

template <int kVectors, class T>
HWY_INLINE void moments_strip(const T* p, int64_t m, int64_t row_stride, int64_t skip, double n,
                              double* mean, double* m2) {
  const Tag<T> d;
  using C = compute_t<T>;
  const int64_t lanes = int64_t(hn::Lanes(d));
  HWY_ALIGN C out[3][kVectors * hn::MaxLanes(Tag<T>())];
  // Each vector's accumulators by name: an array of them would live in memory.
  const auto zero = hn::Zero(d), part = hn::Set(d, C(1) / C(m));
  for (int v = 0; v < kVectors; v += 2) {
    constexpr bool kPair = kVectors > 1;
    const T* q = p + v * lanes;
    auto a = zero, b = zero, a2 = zero, b2 = zero;
    int64_t i = 0;
    for (; i + 2 <= m; i += 2, q += 2 * row_stride) {
      a = hn::Add(a, load(d, q)), a2 = hn::Add(a2, load(d, q + row_stride));
      if constexpr (kPair)
        b = hn::Add(b, load(d, q + lanes)), b2 = hn::Add(b2, load(d, q + row_stride + lanes));
    }
    if (i < m) {
      a = hn::Add(a, load(d, q));
      if constexpr (kPair) b = hn::Add(b, load(d, q + lanes));
    }
    const auto ma = hn::Mul(hn::Add(a, a2), part), mb = hn::Mul(hn::Add(b, b2), part);
    auto sa = zero, sb = zero, qa = zero, qb = zero;
    q = p + v * lanes;
    for (i = 0; i < m; ++i, q += row_stride) {
      const auto e = hn::Sub(load(d, q), ma);
      sa = hn::Add(sa, e), qa = hn::MulAdd(e, e, qa);
      if constexpr (kPair) {
        const auto g = hn::Sub(load(d, q + lanes), mb);
        sb = hn::Add(sb, g), qb = hn::MulAdd(g, g, qb);
      }
    }
    hn::Store(ma, d, out[0] + v * lanes);
    hn::Store(sa, d, out[1] + v * lanes);
    hn::Store(qa, d, out[2] + v * lanes);
    if constexpr (kPair) {
      hn::Store(mb, d, out[0] + (v + 1) * lanes);
      hn::Store(sb, d, out[1] + (v + 1) * lanes);
      hn::Store(qb, d, out[2] + (v + 1) * lanes);
    }
  }
  // Chan's merge, the shares being the same for all columns.
  const double count = double(m), inverse = 1 / count, share = count / (n + count),
               both = n * share;
  const hn::ScalableTag<double> dd;
  const hn::Rebind<C, decltype(dd)> dc;
  const int64_t wide = int64_t(hn::Lanes(dd)), total = kVectors * lanes;
  auto widen = [&](const C* from) HWY_ATTR {
    if constexpr (std::is_same_v<C, double>)
      return hn::LoadU(dd, from);
    else
      return hn::PromoteTo(dd, hn::LoadU(dc, from));
  };
  for (int64_t k = skip - skip % wide; k < total; k += wide) {
    const auto s = widen(out[1] + k), si = hn::Mul(s, hn::Set(dd, inverse));
    const auto mean_b = hn::Add(widen(out[0] + k), si);
    const auto m2_b = hn::Max(hn::Zero(dd), hn::NegMulAdd(s, si, widen(out[2] + k)));
    const auto mean_a = hn::LoadU(dd, mean + k), m2_a = hn::LoadU(dd, m2 + k);
    const auto delta = hn::Sub(mean_b, mean_a);
    auto mean_ab = hn::MulAdd(delta, hn::Set(dd, share), mean_a);
    auto m2_ab = hn::Add(m2_a, hn::MulAdd(hn::Mul(delta, delta), hn::Set(dd, both), m2_b));
    if (k < skip) {  // columns that the strip before has done
      HWY_ALIGN double lanes_of[2][hn::MaxLanes(hn::ScalableTag<double>())];
      hn::Store(mean_ab, dd, lanes_of[0]);
      hn::Store(m2_ab, dd, lanes_of[1]);
      for (int64_t j = skip - k; j < wide; ++j)
        mean[k + j] = lanes_of[0][j], m2[k + j] = lanes_of[1][j];
      continue;
    }
    hn::StoreU(mean_ab, dd, mean + k);
    hn::StoreU(m2_ab, dd, m2 + k);
  }
}

template <class T>
void moments_strips(const T* x, int64_t rows, int64_t columns, int64_t row_stride, double* mean,
                    double* m2) {
  constexpr int64_t kRows = 32;
  const int64_t lanes = int64_t(hn::Lanes(Tag<T>()));
  std::fill(mean, mean + columns, 0.0);
  std::fill(m2, m2 + columns, 0.0);
  for (int64_t r = 0; r < rows; r += kRows) {
    const int64_t m = std::min(kRows, rows - r);
    const T* p = x + r * row_stride;
    int64_t c = 0;
    for (; c + 4 * lanes <= columns; c += 4 * lanes)
      moments_strip<4>(p + c, m, row_stride, 0, double(r), mean + c, m2 + c);
    for (; c < columns; c += lanes) {
      const int64_t at = std::min(c, columns - lanes);
      moments_strip<1>(p + at, m, row_stride, c - at, double(r), mean + at, m2 + at);
    }
  }
}

template <class F>
void with_type(DType dtype, const void* x, F f) {
  switch (dtype) {
    case DType::f32:
      return f(static_cast<const float*>(x));
    case DType::f64:
      return f(static_cast<const double*>(x));
    case DType::bf16:
      return f(static_cast<const bf16*>(x));
    case DType::f16:
      return f(static_cast<const f16*>(x));
    default:
      fail(Code::Unimplemented, {"reduce: dtype is ", str(dtype), ", expected a float"});
  }
}
template <class F>
void with_op(Reduction reduction, F f) {
  switch (reduction) {
    case Reduction::sum:
      return f(SumOf());
    case Reduction::max:
      return f(MaxOf());
    case Reduction::min:
      return f(MinOf());
  }
}

double run(Reduction reduction, DType dtype, const void* x, int64_t from, int64_t n) {
  double y = 0;
  with_type(dtype, x, [&](auto* p) {
    with_op(reduction, [&](auto op) { y = reduce_run<decltype(op)>(p + from, n); });
  });
  return y;
}
Stats stats_run(DType dtype, const void* x, int64_t from, int64_t n) {
  Stats y;
  with_type(dtype, x, [&](auto* p) { y = moments_run(p + from, n); });
  return y;
}
void strips(Reduction reduction, DType dtype, const void* x, int64_t from, int64_t rows,
            int64_t columns, int64_t row_stride, double* y) {
  with_type(dtype, x, [&](auto* p) {
    with_op(reduction,
            [&](auto op) { reduce_strips<decltype(op)>(p + from, rows, columns, row_stride, y); });
  });
}
void stats_strips(DType dtype, const void* x, int64_t from, int64_t rows, int64_t columns,
                  int64_t row_stride, double* mean, double* m2) {
  with_type(dtype, x,
            [&](auto* p) { moments_strips(p + from, rows, columns, row_stride, mean, m2); });
}
double combine(Reduction reduction, double a, double b) {
  double y = 0;
  with_op(reduction, [&](auto op) { y = op(a, b); });
  return y;
}

}  // namespace evenflow::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace evenflow::cpu {
HWY_EXPORT(run);
HWY_EXPORT(stats_run);
HWY_EXPORT(strips);
HWY_EXPORT(stats_strips);
HWY_EXPORT(combine);

namespace {
constexpr int64_t kPiece = 32768;  // elements a task
constexpr int64_t kVector = 64;    // more lanes than any machine here has

// Partial results of the tasks. One for each calling thread, kept: a step allocates nothing the
// second time.
double* scratch(int64_t n) {
  thread_local std::vector<double> memory;
  if (int64_t(memory.size()) < n) memory.resize(size_t(n));
  return memory.data();
}

// Cuts rows into runs. task(index, first element, count), then join(row, first index, runs).
template <class Task, class Join>
void by_rows(int64_t rows, int64_t columns, Task task, Join join) {
  const int64_t pieces = std::max<int64_t>(1, (columns + kPiece - 1) / kPiece);
  const int64_t grain =
      pieces > 1 ? 1 : std::max<int64_t>(1, kPiece / std::max<int64_t>(1, columns));
  parallel_for(rows * pieces, grain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t row = t / pieces, at = t % pieces * kPiece;
      task(t, row * columns + at, std::min(kPiece, columns - at));
    }
  });
  if (pieces > 1)
    for (int64_t r = 0; r < rows; ++r) join(r, r * pieces, pieces);
}

// A tall matrix is cut into groups of rows, a wide one into groups of columns. Of few columns,
// several rows are taken as one: [rows, c] is [rows / k, k c] in memory, and the k sums of a column
// are merged at the end.
struct Columns {
  int64_t rows, columns;       // as given
  int64_t fold = 1, left = 0;  // rows taken as one; rows that remain
  int64_t tall, wide;          // the matrix that is cut
  int64_t groups = 1, group;   // of rows
  int64_t strip;               // columns a task

  Columns(int64_t r, int64_t c) : rows(r), columns(c) {
    if (columns < kVector) fold = kVector / std::gcd(columns, kVector);
    tall = rows / fold, left = rows % fold, wide = columns * fold;
    if (wide >= 4096) {
      strip = 512, group = tall;
    } else {
      strip = wide;
      group = std::max<int64_t>(32, kPiece / wide / 32 * 32);
      groups = std::max<int64_t>(1, (tall + group - 1) / group);
    }
  }
  // task(group, first row, rows, first column, columns)
  template <class Task>
  void run(Task task) const {
    if (tall == 0) return;
    // No strip is narrower than a vector: what is left goes with the last one.
    const int64_t strips = std::max<int64_t>(1, wide / strip);
    parallel_for(groups * strips, 1, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const int64_t g = t / strips, s = t % strips, c = s * strip;
        task(g, g * group, std::min(group, tall - g * group), c,
             s == strips - 1 ? wide - c : strip);
      }
    });
  }
};
}  // namespace

void reduce_rows(Reduction reduction, DType dtype, const void* x, int64_t rows, int64_t columns,
                 double* y) {
  const auto f = HWY_DYNAMIC_DISPATCH(run);
  const auto merge_two = HWY_DYNAMIC_DISPATCH(combine);
  double* part = columns > kPiece ? scratch(rows * ((columns + kPiece - 1) / kPiece)) : y;
  by_rows(
      rows, columns,
      [&](int64_t t, int64_t from, int64_t n) { part[t] = f(reduction, dtype, x, from, n); },
      [&](int64_t row, int64_t first, int64_t n) {
        y[row] = part[first];
        for (int64_t i = 1; i < n; ++i) y[row] = merge_two(reduction, y[row], part[first + i]);
      });
}

void moments_rows(DType dtype, const void* x, int64_t rows, int64_t columns, Stats* y) {
  const auto f = HWY_DYNAMIC_DISPATCH(stats_run);
  Stats* part =
      columns > kPiece
          ? reinterpret_cast<Stats*>(scratch(3 * rows * ((columns + kPiece - 1) / kPiece)))
          : y;
  by_rows(
      rows, columns, [&](int64_t t, int64_t from, int64_t n) { part[t] = f(dtype, x, from, n); },
      [&](int64_t row, int64_t first, int64_t n) {
        y[row] = part[first];
        for (int64_t i = 1; i < n; ++i) y[row] = merge(y[row], part[first + i]);
      });
}

void reduce_columns(Reduction reduction, DType dtype, const void* x, int64_t rows, int64_t columns,
                    double* y) {
  if (columns <= 0) return;
  const auto f = HWY_DYNAMIC_DISPATCH(strips);
  const auto one = HWY_DYNAMIC_DISPATCH(run);
  const auto merge_two = HWY_DYNAMIC_DISPATCH(combine);
  const Columns cut(rows, columns);
  double* part = scratch(cut.groups * cut.wide);
  cut.run([&](int64_t g, int64_t row, int64_t n, int64_t column, int64_t width) {
    f(reduction, dtype, x, row * cut.wide + column, n, width, cut.wide,
      part + g * cut.wide + column);
  });
  for (int64_t c = 0; c < columns; ++c) y[c] = one(reduction, dtype, x, 0, 0);
  for (int64_t g = 0; g < (cut.tall ? cut.groups : 0); ++g)
    for (int64_t k = 0; k < cut.fold; ++k)
      for (int64_t c = 0; c < columns; ++c)
        y[c] = merge_two(reduction, y[c], part[g * cut.wide + k * columns + c]);
  for (int64_t r = cut.rows - cut.left; r < cut.rows; ++r)
    for (int64_t c = 0; c < columns; ++c)
      y[c] = merge_two(reduction, y[c], one(reduction, dtype, x, r * columns + c, 1));
}

void moments_columns(DType dtype, const void* x, int64_t rows, int64_t columns, Stats* y) {
  if (columns <= 0) return;
  const auto f = HWY_DYNAMIC_DISPATCH(stats_strips);
  const auto one = HWY_DYNAMIC_DISPATCH(stats_run);
  const Columns cut(rows, columns);
  double* part = scratch(2 * cut.groups * cut.wide);
  cut.run([&](int64_t g, int64_t row, int64_t n, int64_t column, int64_t width) {
    double* mean = part + 2 * g * cut.wide + column;
    f(dtype, x, row * cut.wide + column, n, width, cut.wide, mean, mean + cut.wide);
  });
  std::fill(y, y + columns, Stats());
  for (int64_t g = 0; g < (cut.tall ? cut.groups : 0); ++g) {
    const double n = double(std::min(cut.group, cut.tall - g * cut.group));
    for (int64_t k = 0; k < cut.fold; ++k)
      for (int64_t c = 0; c < columns; ++c) {
        const double* mean = part + 2 * g * cut.wide + k * columns + c;
        y[c] = merge(y[c], {n, mean[0], mean[cut.wide]});
      }
  }
  for (int64_t r = cut.rows - cut.left; r < cut.rows; ++r)
    for (int64_t c = 0; c < columns; ++c) y[c] = merge(y[c], one(dtype, x, r * columns + c, 1));
}

}  // namespace evenflow::cpu
#endif
