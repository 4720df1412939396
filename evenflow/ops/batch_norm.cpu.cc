// SPDX-License-Identifier: Apache-2.0
// Batch normalisation as few passes over memory: forward statistics, then apply; backward sums,
// then dx. The second pass starts where the first one ended, in what the caches still hold. x is
// cut by its shape alone and partial sums are merged in order, in f64, so the bits do not depend on
// the number of threads.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "evenflow/backends/cpu/reduce.h"
#include "evenflow/core/parallel.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/batch_norm.h"
#include "evenflow/ops/batch_norm_pass.h"
#include "evenflow/ops/batch_norm_rules.h"

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "evenflow/ops/batch_norm.cpu.cc"
#include "hwy/foreach_target.h"
#include "evenflow/backends/cpu/convert-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace evenflow::cpu::HWY_NAMESPACE {
namespace {

// n elements, fewer than a vector holds; the other lanes are zero.
template <class D, class T>
HWY_INLINE hn::Vec<D> load_some(D d, const T* p, int64_t n) {
  HWY_ALIGN T rest[hn::MaxLanes(D())] = {};
  std::memcpy(rest, p, size_t(n) * sizeof(T));
  return load(d, rest);
}
template <class D, class T>
HWY_INLINE void store_some(D d, hn::Vec<D> v, T* p, int64_t n) {
  HWY_ALIGN T rest[hn::MaxLanes(D())];
  store(d, v, rest);
  std::memcpy(p, rest, size_t(n) * sizeof(T));
}

template <class T, bool kRelu, bool kResidual>
struct Loops {
  using C = compute_t<T>;
  using D = hn::ScalableTag<C>;
  using V = hn::Vec<D>;

  // Parameters of a row: by column, or the same for all of it.
  struct Parameters {
    const C *mean, *scale, *shift, *slope, *offset;
    int64_t step;
    HWY_ALIGN C splat[5][hn::MaxLanes(D())];

    HWY_INLINE void of(const BatchNormPass& a, const BatchNormPiece& p, int64_t row) {
      const C* from[] = {static_cast<const C*>(a.mean), static_cast<const C*>(a.scale),
                         static_cast<const C*>(a.shift), static_cast<const C*>(a.slope),
                         static_cast<const C*>(a.offset)};
      const C** to[] = {&mean, &scale, &shift, &slope, &offset};
      const D d;
      step = p.runs ? 0 : 1;
      for (int i = 0; i < 5; ++i) {
        if (!from[i]) {
          *to[i] = nullptr;
        } else if (p.runs) {
          hn::Store(hn::Set(d, from[i][(p.column + row) % p.runs]), d, splat[i]);
          *to[i] = splat[i];
        } else {
          *to[i] = from[i] + p.column;
        }
      }
    }
  };
  static HWY_INLINE V before_activation(D d, const Parameters& q, int64_t i, V centred,
                                        V residual) {
    V y =
        hn::MulAdd(centred, hn::LoadU(d, q.scale + i * q.step), hn::LoadU(d, q.shift + i * q.step));
    if constexpr (kResidual) y = hn::Add(y, residual);
    return y;
  }
  static HWY_INLINE V centred(D d, const Parameters& q, int64_t i, V x) {
    return hn::Sub(x, hn::LoadU(d, q.mean + i * q.step));
  }
  static HWY_INLINE V masked(D d, const Parameters& q, int64_t i, V centred, V residual, V grad) {
    if constexpr (kRelu)
      return hn::IfThenElseZero(hn::Gt(before_activation(d, q, i, centred, residual), hn::Zero(d)),
                                grad);
    return grad;
  }

  static void apply(const BatchNormPass& a, const BatchNormPiece& p) {
    const D d;
    const int64_t lanes = int64_t(hn::Lanes(d));
    Parameters q;
    if (!p.runs) q.of(a, p, 0);
    for (int64_t r = 0; r < p.rows; ++r) {
      if (p.runs) q.of(a, p, r);
      const int64_t at = p.at + r * p.stride;
      const T *x = static_cast<const T*>(a.x) + at,
              *residual = static_cast<const T*>(a.residual) + (kResidual ? at : 0);
      T* y = static_cast<T*>(a.out) + at;
      auto one = [&](int64_t i, V xi, V ri) HWY_ATTR {
        V v = before_activation(d, q, i, centred(d, q, i, xi), ri);
        if constexpr (kRelu)
          v = hn::IfThenElse(hn::Le(v, hn::Zero(d)), hn::Zero(d), v);  // NaN stays
        return v;
      };
      int64_t i = 0;
      for (; i + lanes <= p.width; i += lanes) {
        V ri = hn::Zero(d);
        if constexpr (kResidual) ri = load(d, residual + i);
        store(d, one(i, load(d, x + i), ri), y + i);
      }
      if (const int64_t n = p.width - i) {
        V ri = hn::Zero(d);
        if constexpr (kResidual) ri = load_some(d, residual + i, n);
        store_some(d, one(i, load_some(d, x + i, n), ri), y + i, n);
      }
    }
  }

  static void dx(const BatchNormPass& a, const BatchNormPiece& p) {
    const D d;
    const int64_t lanes = int64_t(hn::Lanes(d));
    Parameters q;
    if (!p.runs) q.of(a, p, 0);
    for (int64_t r = 0; r < p.rows; ++r) {
      if (p.runs) q.of(a, p, r);
      const int64_t at = p.at + r * p.stride;
      const T *x = static_cast<const T*>(a.x) + at, *g = static_cast<const T*>(a.grad) + at;
      const T* residual = static_cast<const T*>(a.residual) + (kResidual ? at : 0);
      T *out = static_cast<T*>(a.out) + at,
        *residual_grad = static_cast<T*>(a.residual_grad) + (kResidual ? at : 0);
      auto one = [&](int64_t i, V c, V gi) HWY_ATTR {
        const V rest =
            hn::MulAdd(c, hn::LoadU(d, q.slope + i * q.step), hn::LoadU(d, q.offset + i * q.step));
        return hn::MulAdd(gi, hn::LoadU(d, q.scale + i * q.step), rest);
      };
      int64_t i = 0;
      for (; i + lanes <= p.width; i += lanes) {
        V ri = hn::Zero(d);
        if constexpr (kResidual && kRelu) ri = load(d, residual + i);
        const V c = centred(d, q, i, load(d, x + i)), gi = masked(d, q, i, c, ri, load(d, g + i));
        store(d, one(i, c, gi), out + i);
        if constexpr (kResidual) store(d, gi, residual_grad + i);
      }
      if (const int64_t n = p.width - i) {
        V ri = hn::Zero(d);
        if constexpr (kResidual && kRelu) ri = load_some(d, residual + i, n);
        const V c = centred(d, q, i, load_some(d, x + i, n)),
                gi = masked(d, q, i, c, ri, load_some(d, g + i, n));
        store_some(d, one(i, c, gi), out + i, n);
        if constexpr (kResidual) store_some(d, gi, residual_grad + i, n);
      }
    }
  }

  // sums[0][j] and sums[1][j] become the sums of column j, or of row j for runs.
  static void sums(const BatchNormPass& a, const BatchNormPiece& p, double* sum_g, double* sum_gx) {
    if (p.runs) return run_sums(a, p, sum_g, sum_gx);
    const D d;
    const int64_t lanes = int64_t(hn::Lanes(d));
    HWY_ALIGN C acc[2][kBatchNormStrip + kBatchNormPad];
    Parameters q;
    q.of(a, p, 0);
    const T *x0 = static_cast<const T*>(a.x) + p.at, *g0 = static_cast<const T*>(a.grad) + p.at;
    const T* r0 = static_cast<const T*>(a.residual) + (kResidual ? p.at : 0);
    std::fill(acc[0], acc[0] + p.width + lanes, C(0));
    std::fill(acc[1], acc[1] + p.width + lanes, C(0));
    constexpr bool kReads = kResidual && kRelu;
    int64_t r = 0;
    for (; r + 4 <= p.rows; r += 4) {
      const T *x = x0 + r * p.stride, *g = g0 + r * p.stride,
              *res = r0 + (kReads ? r * p.stride : 0);
      const int64_t s = p.stride;
      int64_t i = 0;
      for (; i + lanes <= p.width; i += lanes) {
        V ra = hn::Zero(d), rb = ra, rc = ra, rd = ra;
        if constexpr (kReads)
          ra = load(d, res + i), rb = load(d, res + s + i), rc = load(d, res + 2 * s + i),
          rd = load(d, res + 3 * s + i);
        const V ca = centred(d, q, i, load(d, x + i)), cb = centred(d, q, i, load(d, x + s + i));
        const V cc = centred(d, q, i, load(d, x + 2 * s + i)),
                cd = centred(d, q, i, load(d, x + 3 * s + i));
        const V ga = masked(d, q, i, ca, ra, load(d, g + i)),
                gb = masked(d, q, i, cb, rb, load(d, g + s + i));
        const V gc = masked(d, q, i, cc, rc, load(d, g + 2 * s + i)),
                gd = masked(d, q, i, cd, rd, load(d, g + 3 * s + i));
        const V sum = hn::Add(hn::Add(ga, gb), hn::Add(gc, gd));
        const V sum_x =
            hn::Add(hn::MulAdd(ga, ca, hn::Mul(gb, cb)), hn::MulAdd(gc, cc, hn::Mul(gd, cd)));
        hn::StoreU(hn::Add(hn::LoadU(d, acc[0] + i), sum), d, acc[0] + i);
        hn::StoreU(hn::Add(hn::LoadU(d, acc[1] + i), sum_x), d, acc[1] + i);
      }
      if (const int64_t n = p.width - i)
        for (int64_t k = 0; k < 4; ++k)
          one_row(d, q, i, n, x + k * s, g + k * s, res + (kReads ? k * s : 0), acc[0], acc[1]);
    }
    for (; r < p.rows; ++r)
      for (int64_t i = 0; i < p.width; i += lanes)
        one_row(d, q, i, std::min(lanes, p.width - i), x0 + r * p.stride, g0 + r * p.stride,
                r0 + (kReads ? r * p.stride : 0), acc[0], acc[1]);
    for (int64_t i = 0; i < p.width; ++i)
      sum_g[i] = double(acc[0][i]), sum_gx[i] = double(acc[1][i]);
  }

 private:
  static HWY_INLINE void one_row(D d, const Parameters& q, int64_t i, int64_t n, const T* x,
                                 const T* g, const T* residual, C* acc, C* acc_x) {
    V r = hn::Zero(d);
    if constexpr (kResidual && kRelu) r = load_some(d, residual + i, n);
    const V c = centred(d, q, i, load_some(d, x + i, n)),
            gi = masked(d, q, i, c, r, load_some(d, g + i, n));
    hn::StoreU(hn::Add(hn::LoadU(d, acc + i), gi), d, acc + i);
    hn::StoreU(hn::MulAdd(gi, c, hn::LoadU(d, acc_x + i)), d, acc_x + i);
  }

  static void run_sums(const BatchNormPass& a, const BatchNormPiece& p, double* sum_g,
                       double* sum_gx) {
    const D d;
    const int64_t lanes = int64_t(hn::Lanes(d));
    constexpr bool kReads = kResidual && kRelu;
    Parameters q;
    for (int64_t r = 0; r < p.rows; ++r) {
      q.of(a, p, r);
      const int64_t at = p.at + r * p.stride;
      const T *x = static_cast<const T*>(a.x) + at, *g = static_cast<const T*>(a.grad) + at,
              *res = static_cast<const T*>(a.residual) + (kReads ? at : 0);
      double total = 0, total_x = 0;
      for (int64_t i = 0; i < p.width;) {
        const int64_t end = std::min(p.width, i + 64 * 4 * lanes);
        V s0 = hn::Zero(d), s1 = s0, q0 = s0, q1 = s0;
        for (; i + 2 * lanes <= end; i += 2 * lanes) {
          V ra = hn::Zero(d), rb = ra;
          if constexpr (kReads) ra = load(d, res + i), rb = load(d, res + i + lanes);
          const V ca = centred(d, q, 0, load(d, x + i)),
                  cb = centred(d, q, 0, load(d, x + i + lanes));
          const V ga = masked(d, q, 0, ca, ra, load(d, g + i)),
                  gb = masked(d, q, 0, cb, rb, load(d, g + i + lanes));
          s0 = hn::Add(s0, ga), s1 = hn::Add(s1, gb);
          q0 = hn::MulAdd(ga, ca, q0), q1 = hn::MulAdd(gb, cb, q1);
        }
        for (; i < end; i += std::min(lanes, end - i)) {  // g is 0 in the lanes that are not there
          const int64_t n = std::min(lanes, end - i);
          V ri = hn::Zero(d);
          if constexpr (kReads) ri = load_some(d, res + i, n);
          const V c = centred(d, q, 0, load_some(d, x + i, n)),
                  gi = masked(d, q, 0, c, ri, load_some(d, g + i, n));
          s0 = hn::Add(s0, gi), q0 = hn::MulAdd(gi, c, q0);
        }
        total += double(hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, s1))));
        total_x += double(hn::GetLane(hn::SumOfLanes(d, hn::Add(q0, q1))));
      }
      sum_g[r] = total, sum_gx[r] = total_x;
    }
  }
};

template <class T, class F>
void with_form(const BatchNormPass& a, bool residual, F f) {
  if (a.relu) return residual ? f(Loops<T, true, true>()) : f(Loops<T, true, false>());
  return residual ? f(Loops<T, false, true>()) : f(Loops<T, false, false>());
}
template <class F>
void with_loops(const BatchNormPass& a, bool residual, F f) {
  switch (a.dtype) {
    case DType::f32:
      return with_form<float>(a, residual, f);
    case DType::f64:
      return with_form<double>(a, residual, f);
    case DType::bf16:
      return with_form<bf16>(a, residual, f);
    default:
      return with_form<f16>(a, residual, f);
  }
}
void apply_piece(const BatchNormPass& a, const BatchNormPiece& p) {
  with_loops(a, a.residual, [&](auto loops) { loops.apply(a, p); });
}
void dx_piece(const BatchNormPass& a, const BatchNormPiece& p) {
  with_loops(a, a.residual_grad, [&](auto loops) { loops.dx(a, p); });
}
void sums_piece(const BatchNormPass& a, const BatchNormPiece& p, double* sum_g, double* sum_gx) {
  with_loops(a, a.relu && a.residual, [&](auto loops) { loops.sums(a, p, sum_g, sum_gx); });
}

}  // namespace
}  // namespace evenflow::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace evenflow::cpu {
namespace {
HWY_EXPORT(apply_piece);
HWY_EXPORT(dx_piece);
HWY_EXPORT(sums_piece);

constexpr int64_t kTask = 32768;  // elements
constexpr int64_t kLongRun =
    32;  // channels first: from here on a channel's neighbours fill vectors by themselves

// x, [outer, channels, inner], is either runs of `inner` elements of one channel; or a matrix whose
// columns have parameters of their own, several rows taken as one where they are short.
struct Cut {
  int64_t outer, channels, inner, count;
  bool runs;
  int64_t width = 1, rows = 0,
          left = 0;  // columns: of the matrix; elements of its last, shorter row
  int64_t strips = 1, group = 1, groups = 0,
          tasks = 0;              // columns: `groups` of rows, besides that row
  int64_t pieces = 1, grain = 1;  // runs: cut where they are long

  Cut(const Shape& shape, int64_t o, int64_t c, int64_t i)
      : outer(o), channels(c), inner(i), count(shape.count()), runs(i >= kLongRun) {
    if (count == 0) return;
    if (runs) {
      pieces = (inner - 1) / kTask + 1;
      grain = std::max<int64_t>(1, kTask / inner);
      tasks = outer * channels * pieces;
      return;
    }
    const int64_t period = channels * inner;
    int64_t fold = 1;
    if (period < 1024) {
      fold = 16 / std::gcd(period, int64_t(16));
      fold *= std::max<int64_t>(1, 256 / (period * fold));
      fold = std::min(fold, std::max<int64_t>(1, outer));
    }
    width = period * fold, rows = outer / fold, left = outer % fold * period;
    strips = (width - 1) / kBatchNormStrip + 1;
    group = std::max<int64_t>(32, kTask / std::min(width, kBatchNormStrip) / 4 * 4);
    groups = (rows - 1) / group + 1;
    tasks = groups * strips + (left ? (left - 1) / kBatchNormStrip + 1 : 0);
  }
  int64_t parameters() const { return runs ? channels : width; }
  int64_t partials() const { return runs ? tasks : (groups + (left ? 1 : 0)) * width; }

  // f(piece, where its partial sums go), last task first if `backwards`.
  template <class F>
  void each(bool backwards, F f) const {
    parallel_for(tasks, runs ? grain : 1, [&](int64_t begin, int64_t end) {
      if (runs) {
        if (backwards) std::tie(begin, end) = std::pair(tasks - end, tasks - begin);
        if (pieces == 1)
          return f(
              BatchNormPiece{begin * inner, end - begin, inner, inner, begin % channels, channels},
              begin);
        for (int64_t t = begin; t < end; ++t) {
          const int64_t run = t / pieces, from = t % pieces * kTask;
          f(BatchNormPiece{run * inner + from, 1, std::min(kTask, inner - from), 0, run % channels,
                           channels},
            t);
        }
        return;
      }
      for (int64_t k = begin; k < end; ++k) {
        const int64_t t = backwards ? tasks - 1 - k : k, g = t / strips;
        if (g < groups) {
          const int64_t column = t % strips * kBatchNormStrip, row = g * group;
          f(BatchNormPiece{row * width + column, std::min(group, rows - row),
                           std::min(kBatchNormStrip, width - column), width, column, 0},
            g * width + column);
        } else {
          const int64_t column = (t - groups * strips) * kBatchNormStrip;
          f(BatchNormPiece{rows * width + column, 1, std::min(kBatchNormStrip, left - column), 0,
                           column, 0},
            groups * width + column);
        }
      }
    });
  }
  // part[i] of all pieces, added up by channel: in the order of the pieces, then of the columns.
  void add_up(double* part, double* channel) const {
    std::fill(channel, channel + channels, 0.0);
    if (runs) {
      for (int64_t t = 0; t < tasks; ++t) channel[t / pieces % channels] += part[t];
      return;
    }
    for (int64_t g = 1; g < groups; ++g)
      for (int64_t j = 0; j < width; ++j) part[j] += part[g * width + j];
    for (int64_t j = 0; j < left; ++j) part[j] += part[groups * width + j];
    for (int64_t j = 0; j < width;)
      for (int64_t c = 0; c < channels; ++c)
        for (int64_t i = 0; i < inner; ++i) channel[c] += part[j++];
  }
};
Cut cut_of(const Sig& x, const std::vector<int64_t>& axis) {
  const ChannelLayout l = channel_layout(x, axis);
  return Cut(x.shape, l.outer, l.channels.count(), l.inner);
}

// Scratch memory, counted first and handed out later by the same code.
class Bump {
 public:
  explicit Bump(void* memory) : base_(static_cast<char*>(memory)) {}
  template <class T>
  T* take(int64_t n) {
    T* p = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ = checked_add(used_, checked_mul(n, int64_t(sizeof(T))) + 63) / 64 * 64;
    return p;
  }
  int64_t used() const { return used_; }

 private:
  char* base_;
  int64_t used_ = 0;
};
struct Memory {
  char* parameters[5];  // f32 or f64
  Stats* stats;
  double *part_g, *part_gx, *sum_g, *sum_gx;
  int64_t bytes;
  Memory(const Cut& c, DType x, bool forward, bool backward, void* memory = nullptr) {
    Bump b(memory);
    for (char*& p : parameters)
      p = b.take<char>((c.parameters() + kBatchNormPad) * (x == DType::f64 ? 8 : 4));
    stats = b.take<Stats>(!forward ? 0 : c.runs ? c.outer * c.channels : c.channels * c.inner);
    part_g = b.take<double>(backward ? c.partials() : 0),
    part_gx = b.take<double>(backward ? c.partials() : 0);
    sum_g = b.take<double>(backward ? c.channels : 0),
    sum_gx = b.take<double>(backward ? c.channels : 0);
    bytes = b.used();
  }
};

// values[k][channel] to parameters[k], one for each column.
template <class C>
void spread(const Cut& c, C* p) {
  if (c.runs) return;
  // The first `channels` entries hold the values.
  if (c.inner > 1)
    for (int64_t j = c.channels; j--;) std::fill(p + j * c.inner, p + (j + 1) * c.inner, C(p[j]));
  const int64_t period = c.channels * c.inner;
  for (int64_t j = period; j < c.width; ++j) p[j] = p[j - period];
}

// How a channel's numbers become parameters, in f64, rounded once. Forward and backward must agree
// to the bit: the ReLU's mask is computed anew. Type C is that of the statistics, to which a
// variance M2 / n is rounded when it is handed on.
template <class C>
double inverse_deviation(const void* variance, int64_t channel, double n, double epsilon) {
  const double v = double(C(double(static_cast<const C*>(variance)[channel]) / n));
  return epsilon == 0 && v == 0 ? 0 : 1 / std::sqrt(v + epsilon);
}

struct Operands {
  const View *gamma = nullptr, *beta = nullptr, *residual = nullptr;
  Operands(const Call& c, const BatchNormAttrs& a, size_t first) {
    if (a.scale) gamma = &c.in[first++];
    if (a.center) beta = &c.in[first++];
    if (a.residual) residual = &c.in[first++];
  }
};
template <class F>
void with_statistics_type(DType x, F f) {
  if (x == DType::f64)
    f(double{});
  else
    f(float{});
}

void statistics(const Cut& c, DType dtype, const void* x, Stats* s) {
  if (c.runs) {
    moments_rows(dtype, x, c.outer * c.channels, c.inner, s);
    for (int64_t o = 1; o < c.outer; ++o)
      for (int64_t k = 0; k < c.channels; ++k) s[k] = merge(s[k], s[o * c.channels + k]);
  } else {
    moments_columns(dtype, x, c.outer, c.channels * c.inner, s);
    if (c.inner > 1)
      for (int64_t k = 0; k < c.channels; ++k) {
        Stats sum = s[k * c.inner];
        for (int64_t i = 1; i < c.inner; ++i) sum = merge(sum, s[k * c.inner + i]);
        s[k] = sum;
      }
  }
}
void write_statistics(const Cut& c, const View& x, const Stats* s, int64_t n, const View& out_n,
                      const View& mean, const View& m2) {
  *out_n.as<float>() = float(n);
  with_statistics_type(x.dtype(), [&](auto zero) {
    using C = decltype(zero);
    for (int64_t k = 0; k < c.channels; ++k)
      mean.as<C>()[k] = c.count ? C(s[k].mean) : C(0), m2.as<C>()[k] = c.count ? C(s[k].m2) : C(0);
  });
}

// y from mean and variance, which may be M2 to be divided by n.
void normalise(const Cut& c, const Call& call, const BatchNormAttrs& a, const Operands& o,
               const Memory& m, const void* mean_in, const void* variance_in, double n) {
  const View &x = call.in[0], &y = call.out[0];
  if (c.count == 0) return;
  with_statistics_type(x.dtype(), [&](auto zero) {
    using C = decltype(zero);
    C *mean = reinterpret_cast<C*>(m.parameters[0]), *scale = reinterpret_cast<C*>(m.parameters[1]),
      *shift = reinterpret_cast<C*>(m.parameters[2]);
    for (int64_t j = 0; j < c.channels; ++j) {
      mean[j] = static_cast<const C*>(mean_in)[j];
      scale[j] = C(inverse_deviation<C>(variance_in, j, n, a.epsilon) *
                   (o.gamma ? double(o.gamma->as<C>()[j]) : 1));
      shift[j] = o.beta ? o.beta->as<C>()[j] : C(0);
    }
    spread(c, mean), spread(c, scale), spread(c, shift);
    const BatchNormPass pass{x.dtype(),
                             a.activation == "relu",
                             x.data,
                             nullptr,
                             o.residual ? o.residual->data : nullptr,
                             y.data,
                             nullptr,
                             mean,
                             scale,
                             shift,
                             nullptr,
                             nullptr};
    const auto f = HWY_DYNAMIC_DISPATCH(apply_piece);
    c.each(true, [&](const BatchNormPiece& p, int64_t) { f(pass, p); });
  });
}

// What the two passes of a gradient have in common.
struct Backward {
  const Cut& c;
  const BatchNormAttrs& a;
  const Operands& o;
  const Memory& m;
  const View &x, &grad;
  const void *mean, *variance;  // `variance` divided by n is the variance
  double n;

  template <class C>
  BatchNormPass pass() const {
    C *means = reinterpret_cast<C*>(m.parameters[0]),
      *scale = reinterpret_cast<C*>(m.parameters[1]),
      *shift = reinterpret_cast<C*>(m.parameters[2]);
    for (int64_t j = 0; j < c.channels; ++j) {
      means[j] = static_cast<const C*>(mean)[j];
      scale[j] = C(inverse_deviation<C>(variance, j, n, a.epsilon) *
                   (o.gamma ? double(o.gamma->as<C>()[j]) : 1));
      shift[j] = o.beta ? o.beta->as<C>()[j] : C(0);
    }
    spread(c, means), spread(c, scale), spread(c, shift);
    return {x.dtype(),
            a.activation == "relu",
            x.data,
            grad.data,
            o.residual ? o.residual->data : nullptr,
            nullptr,
            nullptr,
            means,
            scale,
            shift,
            nullptr,
            nullptr};
  }
  void sums(const BatchNormPass& p) const {
    const auto f = HWY_DYNAMIC_DISPATCH(sums_piece);
    c.each(false, [&](const BatchNormPiece& piece, int64_t at) {
      f(p, piece, m.part_g + at, m.part_gx + at);
    });
    c.add_up(m.part_g, m.sum_g), c.add_up(m.part_gx, m.sum_gx);
  }
  template <class C, class S>
  void dx(BatchNormPass p, const S* sum_g, const S* sum_gx, double count, const View& out,
          const View* residual_grad, bool backwards) const {
    C *slope = reinterpret_cast<C*>(m.parameters[3]),
      *offset = reinterpret_cast<C*>(m.parameters[4]);
    for (int64_t j = 0; j < c.channels; ++j) {
      const double r = inverse_deviation<C>(variance, j, n, a.epsilon),
                   s = r * (o.gamma ? double(o.gamma->as<C>()[j]) : 1);
      slope[j] = C(-s * r * r * double(sum_gx[j]) / count),
      offset[j] = C(-s * double(sum_g[j]) / count);
    }
    spread(c, slope), spread(c, offset);
    p.slope = slope, p.offset = offset, p.out = out.data;
    if (residual_grad) p.residual_grad = residual_grad->data;
    const auto f = HWY_DYNAMIC_DISPATCH(dx_piece);
    c.each(backwards, [&](const BatchNormPiece& piece, int64_t) { f(p, piece); });
  }
};
double at_least_one(const View& n) { return std::max(1.0, double(*n.as<float>())); }
std::string declines(const Sig& x, const std::vector<int64_t>& axis) {
  return channel_layout(x, axis).blocked ? "" : "the channels are not neighbours";
}
}  // namespace
}  // namespace evenflow::cpu

namespace evenflow {
namespace {
using namespace cpu;  // NOLINT: this file is one kernel
template <bool kForward, bool kBackward>
int64_t scratch(const CallSig& s, const BatchNormAttrs& a) {
  return Memory(cut_of(s.in[0], a.axis), s.in[0].dtype, kForward, kBackward).bytes;
}
std::string neighbours(const CallSig& s, const BatchNormAttrs& a) {
  return cpu::declines(s.in[0], a.axis);
}
}  // namespace

KERNEL(batch_norm_statistics, AxisSetAttrs, blocks) {
  return {.declines = [](const CallSig& s,
                         const AxisSetAttrs& a) { return cpu::declines(s.in[0], a.axis); },
          .run =
              [](const Call& c, const AxisSetAttrs& a) {
                const Cut cut = cut_of(*c.in[0].sig, a.axis);
                const Memory m(cut, c.in[0].dtype(), true, false, c.scratch);
                if (cut.count) statistics(cut, c.in[0].dtype(), c.in[0].data, m.stats);
                write_statistics(cut, c.in[0], m.stats, channel_layout(*c.in[0].sig, a.axis).n,
                                 c.out[0], c.out[1], c.out[2]);
              },
          .scratch =
              [](const CallSig& s, const AxisSetAttrs& a) {
                return Memory(cut_of(s.in[0], a.axis), s.in[0].dtype, true, false).bytes;
              }};
}
KERNEL(batch_normalize, BatchNormAttrs, one_pass) {
  return {.declines = neighbours,
          .run =
              [](const Call& c, const BatchNormAttrs& a) {
                const Cut cut = cut_of(*c.in[0].sig, a.axis);
                normalise(cut, c, a, Operands(c, a, 3),
                          Memory(cut, c.in[0].dtype(), false, false, c.scratch), c.in[1].data,
                          c.in[2].data, 1);
              },
          .scratch = scratch<false, false>};
}
KERNEL(batch_norm, BatchNormAttrs, two_passes) {
  return {.declines = neighbours,
          .run =
              [](const Call& c, const BatchNormAttrs& a) {
                const Cut cut = cut_of(*c.in[0].sig, a.axis);
                const Memory m(cut, c.in[0].dtype(), true, false, c.scratch);
                if (cut.count) statistics(cut, c.in[0].dtype(), c.in[0].data, m.stats);
                write_statistics(cut, c.in[0], m.stats, channel_layout(*c.in[0].sig, a.axis).n,
                                 c.out[1], c.out[2], c.out[3]);
                normalise(cut, c, a, Operands(c, a, 1), m, c.out[2].data, c.out[3].data,
                          at_least_one(c.out[1]));
              },
          .scratch = scratch<true, false>};
}
KERNEL(batch_norm_backward_sums, BatchNormAttrs, one_pass) {
  return {.declines = neighbours,
          .run =
              [](const Call& c, const BatchNormAttrs& a) {
                const Cut cut = cut_of(*c.in[0].sig, a.axis);
                const Memory m(cut, c.in[0].dtype(), false, true, c.scratch);
                const Operands o(c, a, 4);
                const Backward b{cut, a, o, m, c.in[0], c.in[1], c.in[2].data, c.in[3].data, 1};
                with_statistics_type(c.in[0].dtype(), [&](auto zero) {
                  using C = decltype(zero);
                  if (cut.count) b.sums(b.pass<C>());
                  for (int64_t j = 0; j < cut.channels; ++j)
                    c.out[0].as<C>()[j] = cut.count ? C(m.sum_g[j]) : C(0),
                    c.out[1].as<C>()[j] = cut.count ? C(m.sum_gx[j]) : C(0);
                });
              },
          .scratch = scratch<false, true>};
}
KERNEL(batch_norm_dx, BatchNormAttrs, one_pass) {
  return {.declines = neighbours,
          .run =
              [](const Call& c, const BatchNormAttrs& a) {
                const Cut cut = cut_of(*c.in[0].sig, a.axis);
                const Memory m(cut, c.in[0].dtype(), false, false, c.scratch);
                const Operands o(c, a, 7);
                const Backward b{cut, a, o, m, c.in[0], c.in[1], c.in[3].data, c.in[4].data, 1};
                if (cut.count == 0) return;
                with_statistics_type(c.in[0].dtype(), [&](auto zero) {
                  using C = decltype(zero);
                  b.dx<C>(b.pass<C>(), c.in[5].as<C>(), c.in[6].as<C>(), at_least_one(c.in[2]),
                          c.out[0], o.residual ? &c.out[1] : nullptr, false);
                });
              },
          .scratch = scratch<false, false>};
}
KERNEL(batch_norm_grad, BatchNormAttrs, two_passes) {
  return {.declines = neighbours,
          .run =
              [](const Call& c, const BatchNormAttrs& a) {
                const Cut cut = cut_of(*c.in[0].sig, a.axis);
                const Memory m(cut, c.in[0].dtype(), false, true, c.scratch);
                const Operands o(c, a, 5);
                const double n = at_least_one(c.in[2]);
                const Backward b{cut, a, o, m, c.in[0], c.in[1], c.in[3].data, c.in[4].data, n};
                with_statistics_type(c.in[0].dtype(), [&](auto zero) {
                  using C = decltype(zero);
                  size_t next = 1;
                  const View *dgamma = o.gamma ? &c.out[next++] : nullptr,
                             *dbeta = o.beta ? &c.out[next++] : nullptr;
                  if (cut.count) {
                    const BatchNormPass pass = b.pass<C>();
                    b.sums(pass);
                    b.dx<C>(pass, m.sum_g, m.sum_gx, n, c.out[0],
                            o.residual ? &c.out[next] : nullptr, true);
                  }
                  for (int64_t j = 0; j < cut.channels; ++j) {
                    if (dgamma)
                      dgamma->as<C>()[j] =
                          cut.count
                              ? C(m.sum_gx[j] * inverse_deviation<C>(c.in[4].data, j, n, a.epsilon))
                              : C(0);
                    if (dbeta) dbeta->as<C>()[j] = cut.count ? C(m.sum_g[j]) : C(0);
                  }
                });
              },
          .scratch = scratch<false, true>};
}
KERNEL(merge_stacked_statistics, NoAttrs, chan) {
  return {.run = [](const Call& c, const NoAttrs&) {
    const int64_t parts = c.in[0].count(), channels = c.out[1].count();
    double n = 0;
    for (int64_t p = 0; p < parts; ++p) n += double(c.in[0].as<float>()[p]);
    *c.out[0].as<float>() = float(n);
    with_statistics_type(c.in[1].dtype(), [&](auto zero) {
      using C = decltype(zero);
      for (int64_t j = 0; j < channels; ++j) {
        Stats s;
        for (int64_t p = 0; p < parts; ++p)
          s = merge(s, {double(c.in[0].as<float>()[p]), double(c.in[1].as<C>()[p * channels + j]),
                        double(c.in[2].as<C>()[p * channels + j])});
        c.out[1].as<C>()[j] = C(s.mean), c.out[2].as<C>()[j] = C(s.m2);
      }
    });
  }};
}

}  // namespace evenflow
#endif
