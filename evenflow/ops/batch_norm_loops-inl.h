// SPDX-License-Identifier: Apache-2.0
// The loops of batch normalisation over one piece of x. Compiled once for each target.
#if defined(EVENFLOW_OPS_BATCH_NORM_LOOPS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EVENFLOW_OPS_BATCH_NORM_LOOPS_INL_H_
#undef EVENFLOW_OPS_BATCH_NORM_LOOPS_INL_H_
#else
#define EVENFLOW_OPS_BATCH_NORM_LOOPS_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>

#include "evenflow/backends/cpu/convert-inl.h"
#include "evenflow/backends/cpu/tail-inl.h"
#include "evenflow/ops/batch_norm_pass.h"

HWY_BEFORE_NAMESPACE();
namespace evenflow::cpu::HWY_NAMESPACE {
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
        if constexpr (kResidual) ri = load_n(d, residual + i, n);
        store_n(d, one(i, load_n(d, x + i, n), ri), y + i, n);
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
        if constexpr (kResidual && kRelu) ri = load_n(d, residual + i, n);
        const V c = centred(d, q, i, load_n(d, x + i, n)),
                gi = masked(d, q, i, c, ri, load_n(d, g + i, n));
        store_n(d, one(i, c, gi), out + i, n);
        if constexpr (kResidual) store_n(d, gi, residual_grad + i, n);
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
    // Row after row, as memory lies: several rows at once confuse the prefetcher.
    for (int64_t r = 0; r < p.rows; ++r) {
      const T *x = x0 + r * p.stride, *g = g0 + r * p.stride,
              *res = r0 + (kReads ? r * p.stride : 0);
      auto one = [&](int64_t i, V xi, V gi, V ri) HWY_ATTR {
        const V c = centred(d, q, i, xi), passed = masked(d, q, i, c, ri, gi);
        hn::StoreU(hn::Add(hn::LoadU(d, acc[0] + i), passed), d, acc[0] + i);
        hn::StoreU(hn::MulAdd(passed, c, hn::LoadU(d, acc[1] + i)), d, acc[1] + i);
      };
      int64_t i = 0;
      for (; i + lanes <= p.width; i += lanes) {
        V ri = hn::Zero(d);
        if constexpr (kReads) ri = load(d, res + i);
        one(i, load(d, x + i), load(d, g + i), ri);
      }
      if (const int64_t n = p.width - i) {
        V ri = hn::Zero(d);
        if constexpr (kReads) ri = load_n(d, res + i, n);
        one(i, load_n(d, x + i, n), load_n(d, g + i, n), ri);
      }
    }
    for (int64_t i = 0; i < p.width; ++i)
      sum_g[i] = double(acc[0][i]), sum_gx[i] = double(acc[1][i]);
  }

 private:
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
          if constexpr (kReads) ri = load_n(d, res + i, n);
          const V c = centred(d, q, 0, load_n(d, x + i, n)),
                  gi = masked(d, q, 0, c, ri, load_n(d, g + i, n));
          s0 = hn::Add(s0, gi), q0 = hn::MulAdd(gi, c, q0);
        }
        total += double(hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, s1))));
        total_x += double(hn::GetLane(hn::SumOfLanes(d, hn::Add(q0, q1))));
      }
      sum_g[r] = total, sum_gx[r] = total_x;
    }
  }
};

}  // namespace evenflow::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
