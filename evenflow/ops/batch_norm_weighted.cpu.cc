// SPDX-License-Identifier: Apache-2.0
// Batch normalisation where the elements have weights, masks among them: channels last, a weight a
// row. Rows of weight 0 are not read for statistics.
#include <algorithm>
#include <cmath>

#include "evenflow/core/floating.h"
#include "evenflow/core/parallel.h"
#include "evenflow/core/statistics.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/batch_norm.h"
#include "evenflow/ops/batch_norm_ghosts.h"
#include "evenflow/ops/batch_norm_rules.h"

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "evenflow/ops/batch_norm_weighted.cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "evenflow/backends/cpu/convert-inl.h"
#include "evenflow/backends/cpu/tail-inl.h"
// clang-format on

#ifndef EVENFLOW_OPS_BATCH_NORM_WEIGHTED_
#define EVENFLOW_OPS_BATCH_NORM_WEIGHTED_
namespace evenflow::cpu {
// Rows of x, [rows, channels], with a weight each. Parameters are f32, or f64 for x in f64.
struct WeightedPass {
  DType dtype;
  bool relu;
  int64_t channels;
  const float* weights;
  const void *x, *grad, *residual;
  void *out, *residual_grad;
  const void *mean, *scale, *shift, *slope, *offset;
};
inline constexpr int64_t kWeightedBlock = 64;  // rows
inline constexpr int64_t kWeightedPad = 64;    // more lanes than any machine here has
}  // namespace evenflow::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace evenflow::cpu::HWY_NAMESPACE {
namespace {

template <class T>
struct Weighted {
  using C = compute_t<T>;
  using D = hn::ScalableTag<C>;
  using V = hn::Vec<D>;

  // A vector of a row; the last one may be partial.
  static HWY_INLINE V get(D d, const T* p, int64_t n) {
    return n == int64_t(hn::Lanes(d)) ? load(d, p) : load_n(d, p, n);
  }
  static HWY_INLINE void put(D d, V v, T* p, int64_t n) {
    n == int64_t(hn::Lanes(d)) ? store(d, v, p) : store_n(d, v, p, n);
  }

  // Statistics of at most kWeightedBlock rows, merged into `stats`: twice over the block, about its
  // first row, so that a large mean costs no digits. `sums` is [2, channels + pad].
  static void statistics(const WeightedPass& a, int64_t begin, int64_t end, C* sums, Stats* stats) {
    const D d;
    const int64_t lanes = int64_t(hn::Lanes(d)), channels = a.channels;
    const T* x = static_cast<const T*>(a.x);
    double total = 0;
    int64_t first = -1;
    for (int64_t r = begin; r < end; ++r)
      if (a.weights[r] != 0) {
        total += double(a.weights[r]);
        if (first < 0) first = r;
      }
    if (first < 0) return;
    C *mean = sums, *m2 = sums + channels + kWeightedPad;
    std::fill_n(mean, channels + kWeightedPad, C(0));
    std::fill_n(m2, channels + kWeightedPad, C(0));
    const T* x0 = x + first * channels;
    for (int64_t r = first; r < end; ++r) {
      if (a.weights[r] == 0) continue;
      const T* row = x + r * channels;
      const V w = hn::Set(d, C(a.weights[r]));
      for (int64_t i = 0; i < channels; i += lanes) {
        const int64_t n = std::min(lanes, channels - i);
        const V v = hn::Sub(get(d, row + i, n), get(d, x0 + i, n));
        hn::StoreU(hn::MulAdd(w, v, hn::LoadU(d, mean + i)), d, mean + i);
      }
    }
    const V inverse = hn::Set(d, C(1 / total));
    for (int64_t i = 0; i < channels; i += lanes)
      hn::StoreU(hn::Mul(hn::LoadU(d, mean + i), inverse), d, mean + i);
    for (int64_t r = first; r < end; ++r) {
      if (a.weights[r] == 0) continue;
      const T* row = x + r * channels;
      const V w = hn::Set(d, C(a.weights[r]));
      for (int64_t i = 0; i < channels; i += lanes) {
        const int64_t n = std::min(lanes, channels - i);
        const V v = hn::Sub(hn::Sub(get(d, row + i, n), get(d, x0 + i, n)), hn::LoadU(d, mean + i));
        hn::StoreU(hn::MulAdd(hn::Mul(w, v), v, hn::LoadU(d, m2 + i)), d, m2 + i);
      }
    }
    for (int64_t i = 0; i < channels; ++i)
      stats[i] =
          merge(stats[i], {total, double(compute_t<T>(x0[i])) + double(mean[i]), double(m2[i])});
  }

  struct Row {
    const T *x, *grad, *residual;
  };
  static Row row_of(const WeightedPass& a, int64_t r) {
    const int64_t at = r * a.channels;
    return {static_cast<const T*>(a.x) + at, static_cast<const T*>(a.grad) + at,
            a.residual ? static_cast<const T*>(a.residual) + at : nullptr};
  }
  static const C* of(const void* p) { return static_cast<const C*>(p); }
  // x - mean, and the gradient that passes the activation.
  static HWY_INLINE void passed(D d, const WeightedPass& a, const Row& row, int64_t i, int64_t n,
                                V& centred, V& g) {
    centred = hn::Sub(get(d, row.x + i, n), hn::LoadU(d, of(a.mean) + i));
    g = get(d, row.grad + i, n);
    if (a.relu) {
      V y = hn::MulAdd(centred, hn::LoadU(d, of(a.scale) + i), hn::LoadU(d, of(a.shift) + i));
      if (row.residual) y = hn::Add(y, get(d, row.residual + i, n));
      g = hn::IfThenElseZero(hn::Gt(y, hn::Zero(d)), g);
    }
  }
  static void sums(const WeightedPass& a, int64_t begin, int64_t end, C* acc, double* sum_g,
                   double* sum_gx) {
    const D d;
    const int64_t lanes = int64_t(hn::Lanes(d)), channels = a.channels;
    C *g_of = acc, *gx_of = acc + channels + kWeightedPad;
    for (int64_t b = begin; b < end; b += kWeightedBlock) {
      std::fill_n(acc, 2 * (channels + kWeightedPad), C(0));
      for (int64_t r = b; r < std::min(end, b + kWeightedBlock); ++r) {
        const Row row = row_of(a, r);
        for (int64_t i = 0; i < channels; i += lanes) {
          V c, g;
          passed(d, a, row, i, std::min(lanes, channels - i), c, g);
          // What is masked may be no number, and nothing comes from it.
          c = hn::IfThenElseZero(hn::Ne(g, hn::Zero(d)), c);
          hn::StoreU(hn::Add(hn::LoadU(d, g_of + i), g), d, g_of + i);
          hn::StoreU(hn::MulAdd(g, c, hn::LoadU(d, gx_of + i)), d, gx_of + i);
        }
      }
      for (int64_t i = 0; i < channels; ++i)
        sum_g[i] += double(g_of[i]), sum_gx[i] += double(gx_of[i]);
    }
  }
  static void dx(const WeightedPass& a, int64_t begin, int64_t end) {
    const D d;
    const int64_t lanes = int64_t(hn::Lanes(d)), channels = a.channels;
    for (int64_t r = begin; r < end; ++r) {
      const Row row = row_of(a, r);
      T* out = static_cast<T*>(a.out) + r * channels;
      T* residual_grad =
          a.residual_grad ? static_cast<T*>(a.residual_grad) + r * channels : nullptr;
      const bool counts = a.weights[r] != 0;
      const V w = hn::Set(d, C(a.weights[r]));
      for (int64_t i = 0; i < channels; i += lanes) {
        const int64_t n = std::min(lanes, channels - i);
        V c, g;
        passed(d, a, row, i, n, c, g);
        V v = hn::Mul(g, hn::LoadU(d, of(a.scale) + i));
        if (counts)
          v = hn::MulAdd(
              w, hn::MulAdd(c, hn::LoadU(d, of(a.slope) + i), hn::LoadU(d, of(a.offset) + i)), v);
        put(d, v, out + i, n);
        if (residual_grad) put(d, g, residual_grad + i, n);
      }
    }
  }
};
void weighted_statistics(const WeightedPass& a, int64_t begin, int64_t end, void* memory,
                         Stats* stats) {
  visit_floating(a.dtype, [&](auto zero) {
    using W = Weighted<decltype(zero)>;
    for (int64_t b = begin; b < end; b += kWeightedBlock)
      W::statistics(a, b, std::min(end, b + kWeightedBlock), static_cast<typename W::C*>(memory),
                    stats);
  });
}
void weighted_sums(const WeightedPass& a, int64_t begin, int64_t end, void* memory, double* sum_g,
                   double* sum_gx) {
  visit_floating(a.dtype, [&](auto zero) {
    using W = Weighted<decltype(zero)>;
    W::sums(a, begin, end, static_cast<typename W::C*>(memory), sum_g, sum_gx);
  });
}
void weighted_dx(const WeightedPass& a, int64_t begin, int64_t end) {
  visit_floating(a.dtype, [&](auto zero) { Weighted<decltype(zero)>::dx(a, begin, end); });
}

}  // namespace
}  // namespace evenflow::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace evenflow::cpu {
namespace {
HWY_EXPORT(weighted_statistics);
HWY_EXPORT(weighted_sums);
HWY_EXPORT(weighted_dx);

// x as [rows, channels], cut into tasks by its shape alone.
struct Rows {
  int64_t rows, channels, group, tasks, wide;
  Rows(const Sig& x, const std::vector<int64_t>& axis) {
    const ChannelLayout l = channel_layout(x, axis);
    channels = l.channels.count(), rows = x.shape.count() ? l.outer : 0;
    group = std::max(kWeightedBlock,
                     32768 / std::max<int64_t>(1, channels) / kWeightedBlock * kWeightedBlock);
    tasks = (rows + group - 1) / group;
    wide = size_of(sum_dtype(x.dtype));
  }
  template <class F>
  void each(F f) const {
    parallel_for(tasks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) f(t, t * group, std::min(rows, (t + 1) * group));
    });
  }
  int64_t row_bytes() const { return (checked_mul(channels + kWeightedPad, wide) + 63) / 64 * 64; }
  int64_t weight_bytes() const { return (checked_mul(rows, 4) + 63) / 64 * 64; }
  // Weights; two rows of sums a task; `each` bytes of results a task and channel; five parameters.
  int64_t bytes(int64_t each) const {
    return checked_add(checked_add(weight_bytes(), checked_mul(2 * tasks + 6, row_bytes())),
                       checked_mul(checked_mul(tasks + 1, channels), each));
  }
};
struct Memory {
  float* weights;
  char *sums, *parameters, *results;
  Memory(const Rows& r, void* scratch)
      : weights(static_cast<float*>(scratch)),
        sums(static_cast<char*>(scratch) + r.weight_bytes()),
        parameters(sums + 2 * r.tasks * r.row_bytes()),
        results(parameters + 6 * r.row_bytes()) {}
};
// The weight of each row, from extents that are x's or 1.
void spread(const View& weights, const View& x, const std::vector<int64_t>& axis, int64_t rows,
            float* out) {
  const Shape &w = weights.shape(), &s = x.shape();
  const ChannelLayout l = channel_layout(*x.sig, axis);
  const auto strides = w.strides();
  std::vector<int64_t> at(size_t(s.rank()), 0);
  int64_t from = 0;
  for (int64_t r = 0; r < rows; ++r) {
    out[r] = weights.as<float>()[from];
    for (int i = s.rank() - 1; i >= 0; --i) {
      if (l.kept[size_t(i)]) continue;
      const int64_t step = w[i] == 1 ? 0 : strides[size_t(i)];
      from += step;
      if (++at[size_t(i)] < s[i]) break;
      from -= step * s[i], at[size_t(i)] = 0;
    }
  }
}
std::string channels_last(const Sig& x, const std::vector<int64_t>& axis, bool weighted) {
  if (!weighted) return "there are no weights";
  const ChannelLayout l = channel_layout(x, axis);
  return l.blocked && l.inner == 1 ? "" : "the channels are not last";
}
std::string backward_declines(const CallSig& s, const BatchNormAttrs& a) {
  return channels_last(s.in[0], a.axis, a.weighted);
}
struct Operands {
  const View *gamma = nullptr, *beta = nullptr, *weights, *residual = nullptr;
  Operands(const Call& c, const BatchNormAttrs& a, size_t first) {
    if (a.scale) gamma = &c.in[first++];
    if (a.center) beta = &c.in[first++];
    weights = &c.in[first++];
    if (a.residual) residual = &c.in[first];
  }
};
template <class C>
WeightedPass prepare(const Rows& rows, const Memory& m, const Call& c, const BatchNormAttrs& a,
                     const Operands& o, const View& mean, const View& variance) {
  WeightedPass p{};
  p.dtype = c.in[0].dtype(), p.relu = a.activation == "relu", p.channels = rows.channels;
  p.weights = m.weights, p.x = c.in[0].data, p.grad = c.in[1].data;
  if (o.residual) p.residual = o.residual->data;
  C* at[5];
  for (int i = 0; i < 5; ++i) {
    at[i] = reinterpret_cast<C*>(m.parameters + i * rows.row_bytes());
    std::fill_n(at[i], rows.channels + kWeightedPad, C(0));
  }
  for (int64_t j = 0; j < rows.channels; ++j) {
    const C v = variance.as<C>()[j] + C(a.epsilon), r = v == 0 ? C(0) : 1 / std::sqrt(v);
    at[0][j] = mean.as<C>()[j];
    at[1][j] = o.gamma ? r * o.gamma->as<C>()[j] : r;
    at[2][j] = o.beta ? o.beta->as<C>()[j] : C(0);
  }
  p.mean = at[0], p.scale = at[1], p.shift = at[2], p.slope = at[3], p.offset = at[4];
  return p;
}
}  // namespace
}  // namespace evenflow::cpu

namespace evenflow {
using namespace cpu;  // NOLINT: this file is one kernel

KERNEL(batch_norm_statistics, StatisticsAttrs, weighted) {
  return {.declines =
              [](const CallSig& s, const StatisticsAttrs& a) {
                return channels_last(s.in[0], a.axis, a.weighted);
              },
          .run =
              [](const Call& whole, const StatisticsAttrs& a) {
                each_ghost(whole, a.virtual_batch_size, "rr", "sss", [&](const Call& c) {
                  const Rows rows(*c.in[0].sig, a.axis);
                  const Memory m(rows, c.scratch);
                  spread(c.in[1], c.in[0], a.axis, rows.rows, m.weights);
                  WeightedPass p{};
                  p.dtype = c.in[0].dtype(), p.channels = rows.channels, p.x = c.in[0].data,
                  p.weights = m.weights;
                  Stats* parts = reinterpret_cast<Stats*>(m.results);
                  std::fill_n(parts, (rows.tasks + 1) * rows.channels, Stats{});
                  const auto f = HWY_DYNAMIC_DISPATCH(weighted_statistics);
                  rows.each([&](int64_t t, int64_t begin, int64_t end) {
                    f(p, begin, end, m.sums + 2 * t * rows.row_bytes(), parts + t * rows.channels);
                  });
                  double n = 0;
                  for (int64_t r = 0; r < rows.rows; ++r) n += double(m.weights[r]);
                  *c.out[0].as<float>() = float(n);
                  visit(c.out[1].dtype(), [&](auto zero) {
                    using C = decltype(zero);
                    for (int64_t j = 0; j < rows.channels; ++j) {
                      Stats s;
                      for (int64_t t = 0; t < rows.tasks; ++t)
                        s = merge(s, parts[t * rows.channels + j]);
                      c.out[1].as<C>()[j] = C(compute_t<C>(s.mean));
                      c.out[2].as<C>()[j] = C(compute_t<C>(s.m2));
                    }
                  });
                });
              },
          .scratch =
              [](const CallSig& s, const StatisticsAttrs& a) {
                return most_of_ghosts(s.in[0], a.virtual_batch_size, [&](const Sig& x) {
                  return Rows(x, a.axis).bytes(sizeof(Stats));
                });
              }};
}
KERNEL(batch_norm_backward_sums, BatchNormAttrs, weighted) {
  return {.declines = backward_declines,
          .run =
              [](const Call& whole, const BatchNormAttrs& a) {
                each_ghost(whole, a.virtual_batch_size, "rrss" + operand_kinds(a), "ss",
                           [&](const Call& c) {
                             const Rows rows(*c.in[0].sig, a.axis);
                             const Memory m(rows, c.scratch);
                             double* parts = reinterpret_cast<double*>(m.results);
                             std::fill_n(parts, 2 * (rows.tasks + 1) * rows.channels, 0.0);
                             const auto f = HWY_DYNAMIC_DISPATCH(weighted_sums);
                             visit_sums(c.in[0].dtype(), [&](auto zero) {
                               using C = decltype(zero);
                               const WeightedPass p =
                                   prepare<C>(rows, m, c, a, Operands(c, a, 4), c.in[2], c.in[3]);
                               rows.each([&](int64_t t, int64_t begin, int64_t end) {
                                 double* part = parts + 2 * t * rows.channels;
                                 f(p, begin, end, m.sums + 2 * t * rows.row_bytes(), part,
                                   part + rows.channels);
                               });
                               for (int64_t j = 0; j < 2 * rows.channels; ++j) {
                                 double sum = 0;
                                 for (int64_t t = 0; t < rows.tasks; ++t)
                                   sum += parts[2 * t * rows.channels + j];
                                 c.out[size_t(j / rows.channels)].as<C>()[j % rows.channels] =
                                     C(sum);
                               }
                             });
                           });
              },
          .scratch =
              [](const CallSig& s, const BatchNormAttrs& a) {
                return most_of_ghosts(s.in[0], a.virtual_batch_size, [&](const Sig& x) {
                  return Rows(x, a.axis).bytes(2 * sizeof(double));
                });
              }};
}
KERNEL(batch_norm_dx, BatchNormAttrs, weighted) {
  return {.declines = backward_declines,
          .run =
              [](const Call& whole, const BatchNormAttrs& a) {
                const std::string kinds =
                    concat({"rr", whole.in[2].shape().rank() ? "s" : "w", "ssss"});
                each_ghost(
                    whole, a.virtual_batch_size, kinds + operand_kinds(a), "rr",
                    [&](const Call& c) {
                      const Rows rows(*c.in[0].sig, a.axis);
                      const Memory m(rows, c.scratch);
                      const Operands o(c, a, 7);
                      spread(*o.weights, c.in[0], a.axis, rows.rows, m.weights);
                      const auto f = HWY_DYNAMIC_DISPATCH(weighted_dx);
                      visit_sums(c.in[0].dtype(), [&](auto zero) {
                        using C = decltype(zero);
                        WeightedPass p = prepare<C>(rows, m, c, a, o, c.in[3], c.in[4]);
                        const double n = double(*c.in[2].as<float>()), share = n > 0 ? 1 / n : 1;
                        C *slope = reinterpret_cast<C*>(m.parameters + 3 * rows.row_bytes()),
                          *offset = reinterpret_cast<C*>(m.parameters + 4 * rows.row_bytes());
                        for (int64_t j = 0; j < rows.channels; ++j) {
                          const double v = double(c.in[4].as<C>()[j]) + a.epsilon;
                          const double s = double(static_cast<const C*>(p.scale)[j]) * share;
                          slope[j] = C(v == 0 ? 0 : -s / v * double(c.in[6].as<C>()[j]));
                          offset[j] = C(-s * double(c.in[5].as<C>()[j]));
                        }
                        p.out = c.out[0].data;
                        if (o.residual) p.residual_grad = c.out[1].data;
                        rows.each([&](int64_t, int64_t begin, int64_t end) { f(p, begin, end); });
                      });
                    });
              },
          .scratch =
              [](const CallSig& s, const BatchNormAttrs& a) {
                return most_of_ghosts(s.in[0], a.virtual_batch_size,
                                      [&](const Sig& x) { return Rows(x, a.axis).bytes(0); });
              }};
}

}  // namespace evenflow
#endif
