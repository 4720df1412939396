// SPDX-License-Identifier: Apache-2.0
// Batch normalisation as few passes over memory: forward statistics, then apply; backward sums,
// then dx. The second pass starts where the first one ended, in what the caches still hold. x is
// cut by its shape alone and partial sums are merged in order, in f64, so the bits do not depend on
// the number of threads.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "evenflow/backends/cpu/reduce.h"
#include "evenflow/core/floating.h"
#include "evenflow/core/parallel.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/batch_norm.h"
#include "evenflow/ops/batch_norm_ghosts.h"
#include "evenflow/ops/batch_norm_pass.h"
#include "evenflow/ops/batch_norm_rules.h"

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "evenflow/ops/batch_norm.cpu.cc"
#include "hwy/foreach_target.h"
#include "evenflow/ops/batch_norm_loops-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace evenflow::cpu::HWY_NAMESPACE {
namespace {

template <class C>
void inverse_deviations_of(const C* variance, int64_t channels, double n, double epsilon, C* r) {
  const hn::ScalableTag<C> d;
  const int64_t lanes = int64_t(hn::Lanes(d));
  const auto zero = hn::Zero(d);
  for (int64_t j = 0; j < channels; j += lanes) {
    const int64_t m = std::min(lanes, channels - j);
    const auto v =
        hn::Add(hn::Div(load_n(d, variance + j, m), hn::Set(d, C(n))), hn::Set(d, C(epsilon)));
    const auto one = hn::Div(hn::Set(d, C(1)), hn::Sqrt(v));
    store_n(d, hn::IfThenElse(hn::Eq(v, zero), zero, one), r + j, m);
  }
}
// 1 / sqrt(variance / n + epsilon), and 0 for 1 / 0.
void inverse_deviations(DType x, const void* variance, int64_t channels, double n, double epsilon,
                        void* r) {
  visit_sums(x, [&](auto zero) {
    using C = decltype(zero);
    inverse_deviations_of(static_cast<const C*>(variance), channels, n, epsilon,
                          static_cast<C*>(r));
  });
}

template <class T, class F>
void with_form(const BatchNormPass& a, bool residual, F f) {
  if (a.relu) return residual ? f(Loops<T, true, true>()) : f(Loops<T, true, false>());
  return residual ? f(Loops<T, false, true>()) : f(Loops<T, false, false>());
}
template <class F>
void with_loops(const BatchNormPass& a, bool residual, F f) {
  visit_floating(a.dtype, [&](auto zero) { with_form<decltype(zero)>(a, residual, f); });
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
HWY_EXPORT(inverse_deviations);
HWY_EXPORT(apply_piece);
HWY_EXPORT(dx_piece);
HWY_EXPORT(sums_piece);

constexpr int64_t kTask = 32768;  // elements
// Channels first: runs of one channel fill vectors by themselves from kLongRun on. Shorter ones are
// columns with parameters of their own, unless there are too few rows for that to pay.
constexpr int64_t kLongRun = 128, kShortRun = 16, kFewRows = 8;

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
      : outer(o),
        channels(c),
        inner(i),
        count(shape.count()),
        runs(i >= kLongRun || (i >= kShortRun && o < kFewRows)) {
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
  char *parameters[5], *inverse;  // f32 or f64
  Stats* stats;
  double *part_g, *part_gx, *sum_g, *sum_gx;
  int64_t bytes;
  Memory(const Cut& c, DType x, bool forward, bool backward, void* memory = nullptr) {
    Bump b(memory);
    for (char*& p : parameters)
      p = b.take<char>((c.parameters() + kBatchNormPad) * size_of(sum_dtype(x)));
    inverse = b.take<char>((c.channels + kBatchNormPad) * size_of(sum_dtype(x)));
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

struct Operands {
  const View *gamma = nullptr, *beta = nullptr, *residual = nullptr;
  Operands(const Call& c, const BatchNormAttrs& a, size_t first) {
    if (a.scale) gamma = &c.in[first++];
    if (a.center) beta = &c.in[first++];
    if (a.weighted) ++first;
    if (a.residual) residual = &c.in[first++];
  }
};

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
void write_statistics(const Cut& c, const Stats* s, int64_t n, const View& out_n, const View& mean,
                      const View& m2) {
  *out_n.as<float>() = float(n);
  visit_sums(mean.dtype(), [&](auto zero) {
    using C = decltype(zero);
    for (int64_t k = 0; k < c.channels; ++k)
      mean.as<C>()[k] = c.count ? C(s[k].mean) : C(0), m2.as<C>()[k] = c.count ? C(s[k].m2) : C(0);
  });
}

// The parameters of y. `variance` divided by n is the variance. Forward and backward make them
// alike to the bit: the ReLU's mask is computed anew.
template <class C>
BatchNormPass prepare(const Cut& c, const View& x, const BatchNormAttrs& a, const Operands& o,
                      const Memory& m, const void* mean, const void* variance, double n) {
  BatchNormPass p{};
  p.dtype = x.dtype(), p.relu = a.activation == "relu", p.x = x.data;
  if (o.residual) p.residual = o.residual->data;
  C* r = reinterpret_cast<C*>(m.inverse);
  HWY_DYNAMIC_DISPATCH(inverse_deviations)(x.dtype(), variance, c.channels, n, a.epsilon, r);
  C *means = reinterpret_cast<C*>(m.parameters[0]), *scale = reinterpret_cast<C*>(m.parameters[1]),
    *shift = reinterpret_cast<C*>(m.parameters[2]);
  const C *gamma = o.gamma ? o.gamma->as<C>() : nullptr, *beta = o.beta ? o.beta->as<C>() : nullptr;
  std::copy_n(static_cast<const C*>(mean), c.channels, means);
  for (int64_t j = 0; j < c.channels; ++j) {
    scale[j] = gamma ? r[j] * gamma[j] : r[j];
    shift[j] = beta ? beta[j] : C(0);
  }
  spread(c, means), spread(c, scale), spread(c, shift);
  p.mean = means, p.scale = scale, p.shift = shift;
  return p;
}
void normalise(const Cut& c, const Call& call, const BatchNormAttrs& a, const Operands& o,
               const Memory& m, const void* mean, const void* variance, double n) {
  if (c.count == 0) return;
  visit_sums(call.in[0].dtype(), [&](auto zero) {
    BatchNormPass pass = prepare<decltype(zero)>(c, call.in[0], a, o, m, mean, variance, n);
    pass.out = call.out[0].data;
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
    BatchNormPass p = prepare<C>(c, x, a, o, m, mean, variance, n);
    p.grad = grad.data;
    return p;
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
    const C *r = reinterpret_cast<C*>(m.inverse), *gamma = o.gamma ? o.gamma->as<C>() : nullptr;
    const double share = 1 / count;
    for (int64_t j = 0; j < c.channels; ++j) {
      const double s = double(gamma ? r[j] * gamma[j] : r[j]) * share;
      slope[j] = C(-s * double(r[j]) * double(r[j]) * double(sum_gx[j]));
      offset[j] = C(-s * double(sum_g[j]));
    }
    spread(c, slope), spread(c, offset);
    p.slope = slope, p.offset = offset, p.out = out.data;
    if (residual_grad) p.residual_grad = residual_grad->data;
    const auto f = HWY_DYNAMIC_DISPATCH(dx_piece);
    c.each(backwards, [&](const BatchNormPiece& piece, int64_t) { f(p, piece); });
  }
};
double count_of(const View& n) {
  const double v = double(*n.as<float>());
  return v > 0 ? v : 1;
}
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
  return most_of_ghosts(s.in[0], a.virtual_batch_size, [&](const Sig& x) {
    return Memory(cut_of(x, a.axis), x.dtype, kForward, kBackward).bytes;
  });
}
std::string neighbours(const CallSig& s, const BatchNormAttrs& a) {
  return cpu::declines(s.in[0], a.axis);
}
// Weights count in the statistics and come back in the gradient.
std::string unweighted(const CallSig& s, const BatchNormAttrs& a) {
  return a.weighted ? "there are weights" : neighbours(s, a);
}
std::string one_batch(const CallSig& s, const BatchNormAttrs& a) {
  return a.virtual_batch_size ? "there are ghost batches" : unweighted(s, a);
}
}  // namespace

KERNEL(batch_norm_statistics, StatisticsAttrs, blocks) {
  return {.declines = [](const CallSig& s, const StatisticsAttrs& a) -> std::string {
            return a.weighted ? "there are weights" : cpu::declines(s.in[0], a.axis);
          },
          .run =
              [](const Call& whole, const StatisticsAttrs& a) {
                each_ghost(whole, a.virtual_batch_size, "r", "sss", [&](const Call& c) {
                  const Cut cut = cut_of(*c.in[0].sig, a.axis);
                  const Memory m(cut, c.in[0].dtype(), true, false, c.scratch);
                  if (cut.count) statistics(cut, c.in[0].dtype(), c.in[0].data, m.stats);
                  write_statistics(cut, m.stats, channel_layout(*c.in[0].sig, a.axis).n, c.out[0],
                                   c.out[1], c.out[2]);
                });
              },
          .scratch =
              [](const CallSig& s, const StatisticsAttrs& a) {
                return most_of_ghosts(s.in[0], a.virtual_batch_size, [&](const Sig& x) {
                  return Memory(cut_of(x, a.axis), x.dtype, true, false).bytes;
                });
              }};
}
KERNEL(batch_normalize, BatchNormAttrs, one_pass) {
  return {.declines = neighbours,
          .run =
              [](const Call& whole, const BatchNormAttrs& a) {
                each_ghost(whole, a.virtual_batch_size, "rss" + operand_kinds(a), "r",
                           [&](const Call& c) {
                             const Cut cut = cut_of(*c.in[0].sig, a.axis);
                             normalise(cut, c, a, Operands(c, a, 3),
                                       Memory(cut, c.in[0].dtype(), false, false, c.scratch),
                                       c.in[1].data, c.in[2].data, 1);
                           });
              },
          .scratch = scratch<false, false>};
}
KERNEL(batch_norm, BatchNormAttrs, two_passes) {
  return {.declines = one_batch,
          .run =
              [](const Call& c, const BatchNormAttrs& a) {
                const Cut cut = cut_of(*c.in[0].sig, a.axis);
                const Memory m(cut, c.in[0].dtype(), true, false, c.scratch);
                if (cut.count) statistics(cut, c.in[0].dtype(), c.in[0].data, m.stats);
                write_statistics(cut, m.stats, channel_layout(*c.in[0].sig, a.axis).n, c.out[1],
                                 c.out[2], c.out[3]);
                normalise(cut, c, a, Operands(c, a, 1), m, c.out[2].data, c.out[3].data,
                          count_of(c.out[1]));
              },
          .scratch = scratch<true, false>};
}
KERNEL(batch_norm_backward_sums, BatchNormAttrs, one_pass) {
  return {.declines = unweighted,
          .run =
              [](const Call& whole, const BatchNormAttrs& a) {
                each_ghost(whole, a.virtual_batch_size, "rrss" + operand_kinds(a), "ss",
                           [&](const Call& c) {
                             const Cut cut = cut_of(*c.in[0].sig, a.axis);
                             const Memory m(cut, c.in[0].dtype(), false, true, c.scratch);
                             const Operands o(c, a, 4);
                             const Backward b{cut,          a, o, m, c.in[0], c.in[1], c.in[2].data,
                                              c.in[3].data, 1};
                             visit_sums(c.in[0].dtype(), [&](auto zero) {
                               using C = decltype(zero);
                               if (cut.count) b.sums(b.pass<C>());
                               for (int64_t j = 0; j < cut.channels; ++j)
                                 c.out[0].as<C>()[j] = cut.count ? C(m.sum_g[j]) : C(0),
                                 c.out[1].as<C>()[j] = cut.count ? C(m.sum_gx[j]) : C(0);
                             });
                           });
              },
          .scratch = scratch<false, true>};
}
KERNEL(batch_norm_dx, BatchNormAttrs, one_pass) {
  return {
      .declines = unweighted,
      .run =
          [](const Call& whole, const BatchNormAttrs& a) {
            const std::string kinds =
                concat({"rr", whole.in[2].shape().rank() ? "s" : "w", "ssss"});
            each_ghost(
                whole, a.virtual_batch_size, kinds + operand_kinds(a), "rr", [&](const Call& c) {
                  const Cut cut = cut_of(*c.in[0].sig, a.axis);
                  const Memory m(cut, c.in[0].dtype(), false, false, c.scratch);
                  const Operands o(c, a, 7);
                  const Backward b{cut, a, o, m, c.in[0], c.in[1], c.in[3].data, c.in[4].data, 1};
                  if (cut.count == 0) return;
                  visit_sums(c.in[0].dtype(), [&](auto zero) {
                    using C = decltype(zero);
                    b.dx<C>(b.pass<C>(), c.in[5].as<C>(), c.in[6].as<C>(), count_of(c.in[2]),
                            c.out[0], o.residual ? &c.out[1] : nullptr, false);
                  });
                });
          },
      .scratch = scratch<false, false>};
}
KERNEL(batch_norm_grad, BatchNormAttrs, two_passes) {
  return {.declines = one_batch,
          .run =
              [](const Call& c, const BatchNormAttrs& a) {
                const Cut cut = cut_of(*c.in[0].sig, a.axis);
                const Memory m(cut, c.in[0].dtype(), false, true, c.scratch);
                const Operands o(c, a, 5);
                const double n = count_of(c.in[2]);
                const Backward b{cut, a, o, m, c.in[0], c.in[1], c.in[3].data, c.in[4].data, n};
                visit_sums(c.in[0].dtype(), [&](auto zero) {
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
                  const C* r = reinterpret_cast<const C*>(m.inverse);
                  for (int64_t j = 0; j < cut.channels; ++j) {
                    if (dgamma) dgamma->as<C>()[j] = cut.count ? C(m.sum_gx[j] * r[j]) : C(0);
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
    visit_sums(c.in[1].dtype(), [&](auto zero) {
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

KERNEL(moving_average, MovingAverageAttrs, one_pass) {
  return {.declines = [](const CallSig& c, const MovingAverageAttrs&) -> std::string {
            const DType d = c.in[0].dtype;
            return d == DType::f32 || d == DType::f64 ? "" : "the average is neither f32 nor f64";
          },
          .run =
              [](const Call& c, const MovingAverageAttrs& a) {
                double n = 0, rate = 1 - a.momentum;
                visit(c.in[2].dtype(), [&](auto zero) {
                  n = double(compute_t<decltype(zero)>(*c.in[2].as<decltype(zero)>()));
                });
                const double count = double(*c.in[3].as<int64_t>());
                if (a.debiased)
                  rate = a.momentum == 1 ? 1 / count : rate / (1 - std::pow(a.momentum, count));
                visit_sums(c.in[0].dtype(), [&](auto zero) {
                  using C = decltype(zero);
                  const C *moving = c.in[0].as<C>(), *value = c.in[1].as<C>();
                  C* next = c.out[0].as<C>();
                  const C r = C(rate);
                  for (int64_t i = 0, size = c.out[0].count(); i < size; ++i)
                    next[i] = n > 0 ? moving[i] + (value[i] - moving[i]) * r : moving[i];
                });
              }};
}

}  // namespace evenflow
#endif
