// SPDX-License-Identifier: Apache-2.0
// Layer normalisation of rows: each row is read from memory once, and while it lies in the first
// caches its statistics are made and it is normalised; backward likewise. Gradients of gamma and
// beta are summed in f32 over 64 rows, then in f64 over groups of rows, in order. Groups depend on
// the shape alone, and so do the bits.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "evenflow/backends/cpu/reduce.h"
#include "evenflow/core/floating.h"
#include "evenflow/core/parallel.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/batch_norm_rules.h"
#include "evenflow/ops/layer_norm.h"
#include "evenflow/ops/layer_norm_rows.h"

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "evenflow/ops/layer_norm.cpu.cc"
#include "hwy/foreach_target.h"
#include "evenflow/backends/cpu/convert-inl.h"
#include "evenflow/backends/cpu/tail-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace evenflow::cpu::HWY_NAMESPACE {
namespace {

template <class T>
struct RowLoops {
  using C = compute_t<T>;
  using D = hn::ScalableTag<C>;
  using V = hn::Vec<D>;
  static constexpr int64_t kShortRow = 2048;
  static constexpr int64_t kBlock = 64;  // vectors summed in C before they are added up in f64

  // Of a row that fits into the first cache. The rounding of the first mean is put right by the sum
  // of the deviations from it.
  static Stats moments(const T* x, int64_t n) {
    const D d;
    const int64_t lanes = int64_t(hn::Lanes(d));
    V s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
    int64_t i = 0;
    for (; i + 4 * lanes <= n; i += 4 * lanes) {
      s0 = hn::Add(s0, load(d, x + i)), s1 = hn::Add(s1, load(d, x + i + lanes));
      s2 = hn::Add(s2, load(d, x + i + 2 * lanes)), s3 = hn::Add(s3, load(d, x + i + 3 * lanes));
    }
    for (; i + lanes <= n; i += lanes) s0 = hn::Add(s0, load(d, x + i));
    if (i < n) s1 = hn::Add(s1, load_n(d, x + i, n - i));
    const V sum = hn::Add(hn::Add(s0, s1), hn::Add(s2, s3));
    const C mean = hn::GetLane(hn::SumOfLanes(d, sum)) / C(n);
    const V m = hn::Set(d, mean), zero = hn::Zero(d);
    V q0 = zero, q1 = zero;
    s0 = s1 = zero;
    for (i = 0; i + 2 * lanes <= n; i += 2 * lanes) {
      const V a = hn::Sub(load(d, x + i), m), b = hn::Sub(load(d, x + i + lanes), m);
      s0 = hn::Add(s0, a), s1 = hn::Add(s1, b), q0 = hn::MulAdd(a, a, q0),
      q1 = hn::MulAdd(b, b, q1);
    }
    for (; i < n; i += lanes) {
      V a = zero;
      if (i + lanes <= n)
        a = hn::Sub(load(d, x + i), m);
      else
        a = hn::IfThenElseZero(hn::FirstN(d, size_t(n - i)), hn::Sub(load_n(d, x + i, n - i), m));
      s0 = hn::Add(s0, a), q0 = hn::MulAdd(a, a, q0);
    }
    const double count = double(n), s = double(hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, s1)))),
                 q = double(hn::GetLane(hn::SumOfLanes(d, hn::Add(q0, q1))));
    return {count, double(mean) + s / count, std::max(0.0, q - s * s / count)};
  }

  // `off` is what the mean lost when it was rounded to C, normalised: at a large mean it shows.
  static void apply(const LayerNormRows& a, int64_t row, C mean, C inverse, C off) {
    const D d;
    const int64_t lanes = int64_t(hn::Lanes(d)), n = a.columns;
    const T* x = static_cast<const T*>(a.x) + row * n;
    T* y = static_cast<T*>(a.out) + row * n;
    const C *gamma = static_cast<const C*>(a.gamma), *beta = static_cast<const C*>(a.beta);
    const V m = hn::Set(d, mean), r = hn::Set(d, inverse), o = hn::Set(d, off);
    auto one = [&](V v, V scale, V shift)
                   HWY_ATTR { return hn::MulAdd(hn::MulAdd(hn::Sub(v, m), r, o), scale, shift); };
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes)
      store(d, one(load(d, x + i), hn::LoadU(d, gamma + i), hn::LoadU(d, beta + i)), y + i);
    if (const int64_t rest = n - i)
      store_n(d, one(load_n(d, x + i, rest), load_n(d, gamma + i, rest), load_n(d, beta + i, rest)),
              y + i, rest);
  }

  // dx of one row; its shares of dgamma and dbeta are added to a.sums.
  template <bool kParameters>
  static void grad(const LayerNormRows& a, int64_t row, C* sums) {
    const D d;
    const int64_t lanes = int64_t(hn::Lanes(d)), n = a.columns;
    const T *x = static_cast<const T*>(a.x) + row * n, *g = static_cast<const T*>(a.grad) + row * n;
    T* dx = static_cast<T*>(a.out) + row * n;
    const C* gamma = static_cast<const C*>(a.gamma);
    const C mean = static_cast<const C*>(a.mean)[row],
            inverse = static_cast<const C*>(a.inverse)[row];
    const V m = hn::Set(d, mean), r = hn::Set(d, inverse);
    double sum = 0, sum_x = 0;
    for (int64_t i = 0; i < n;) {
      const int64_t end = std::min(n, i + kBlock * lanes);
      V s = hn::Zero(d), q = hn::Zero(d), s2 = s, q2 = q;
      auto one = [&](V xi, V gi, V scale, V& to, V& to_x, int64_t at) HWY_ATTR {
        const V c = hn::Sub(xi, m), h = hn::Mul(gi, scale);
        to = hn::Add(to, h), to_x = hn::MulAdd(h, c, to_x);
        if constexpr (kParameters) {
          C *dgamma = sums + at, *dbeta = sums + a.stride + at;
          hn::StoreU(hn::MulAdd(gi, hn::Mul(c, r), hn::LoadU(d, dgamma)), d, dgamma);
          hn::StoreU(hn::Add(gi, hn::LoadU(d, dbeta)), d, dbeta);
        }
      };
      for (; i + 2 * lanes <= end; i += 2 * lanes) {
        one(load(d, x + i), load(d, g + i), hn::LoadU(d, gamma + i), s, q, i);
        one(load(d, x + i + lanes), load(d, g + i + lanes), hn::LoadU(d, gamma + i + lanes), s2, q2,
            i + lanes);
      }
      if (i + lanes <= end)
        one(load(d, x + i), load(d, g + i), hn::LoadU(d, gamma + i), s, q, i), i += lanes;
      if (const int64_t rest = end - i) {  // g is 0 in the lanes that are not there
        one(load_n(d, x + i, rest), load_n(d, g + i, rest), load_n(d, gamma + i, rest), s, q, i);
        i = end;
      }
      sum += double(hn::GetLane(hn::SumOfLanes(d, hn::Add(s, s2))));
      sum_x += double(hn::GetLane(hn::SumOfLanes(d, hn::Add(q, q2))));
    }
    const double share = double(inverse) / double(n);
    const V slope = hn::Set(d, C(-share * double(inverse) * double(inverse) * sum_x)),
            offset = hn::Set(d, a.rms ? C(0) : C(-share * sum));
    auto two = [&](V xi, V gi, V scale) HWY_ATTR {
      return hn::MulAdd(hn::Mul(gi, scale), r, hn::MulAdd(hn::Sub(xi, m), slope, offset));
    };
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes)
      store(d, two(load(d, x + i), load(d, g + i), hn::LoadU(d, gamma + i)), dx + i);
    if (const int64_t rest = n - i)
      store_n(d, two(load_n(d, x + i, rest), load_n(d, g + i, rest), load_n(d, gamma + i, rest)),
              dx + i, rest);
  }

  static void forward(const LayerNormRows& a, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* x = static_cast<const T*>(a.x) + row * a.columns;
      Stats s;
      if (a.columns <= kShortRow)
        s = moments(x, a.columns);
      else
        moments_rows(a.dtype, x, 1, a.columns, &s);
      const double m = a.rms ? 0 : s.mean,
                   v = population_variance(s) + (a.rms ? s.mean * s.mean : 0) + a.epsilon;
      const C mean = C(m), inverse = v == 0 ? C(0) : C(1 / std::sqrt(v));
      static_cast<C*>(a.mean)[row] = mean, static_cast<C*>(a.inverse)[row] = inverse;
      apply(a, row, mean, inverse, C((double(mean) - m) * double(inverse)));
    }
  }
  static void backward(const LayerNormRows& a, int64_t begin, int64_t end, double* part,
                       void* sums) {
    if (!part) {
      for (int64_t row = begin; row < end; ++row) grad<false>(a, row, nullptr);
      return;
    }
    C* s = static_cast<C*>(sums);
    std::fill(part, part + 2 * a.stride, 0.0);
    for (int64_t row = begin; row < end;) {
      std::fill(s, s + 2 * a.stride, C(0));
      for (const int64_t stop = std::min(end, row + 64); row < stop; ++row) grad<true>(a, row, s);
      for (int64_t i = 0; i < 2 * a.stride; ++i) part[i] += double(s[i]);
    }
  }
};

void rows_forward(const LayerNormRows& a, int64_t begin, int64_t end) {
  visit_floating(a.dtype, [&](auto zero) { RowLoops<decltype(zero)>::forward(a, begin, end); });
}
void rows_backward(const LayerNormRows& a, int64_t begin, int64_t end, double* part, void* sums) {
  visit_floating(a.dtype,
                 [&](auto zero) { RowLoops<decltype(zero)>::backward(a, begin, end, part, sums); });
}

}  // namespace
}  // namespace evenflow::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace evenflow::cpu {
namespace {
HWY_EXPORT(rows_forward);
HWY_EXPORT(rows_backward);

constexpr int64_t kTask = 32768;  // elements
constexpr int64_t kGroups = 64;   // of rows, backward: each has sums of its own
constexpr int64_t kLanes = 64;    // more than any vector has

struct Cut {
  int64_t rows, columns, stride, group;
  Cut(const Sig& x, const LayerNormAttrs& a) {
    const ChannelLayout c = channel_layout(x, a.axis);
    rows = c.outer, columns = c.channels.count(), stride = (columns + kLanes) / kLanes * kLanes;
    group = std::max((rows - 1) / kGroups + 1, kTask / std::max<int64_t>(1, columns));
    group = std::max<int64_t>(1, group);
  }
  int64_t grain() const { return std::max<int64_t>(1, kTask / std::max<int64_t>(1, columns)); }
  int64_t groups() const { return rows ? (rows - 1) / group + 1 : 0; }
};
int64_t width(DType x) { return size_of(sum_dtype(x)); }

// A parameter, or a row of `value` in scratch memory where there is none.
const void* parameter(const View* given, double value, int64_t n, DType x, void* scratch) {
  if (given) return given->data;
  visit_sums(x, [&](auto zero) {
    std::fill_n(static_cast<decltype(zero)*>(scratch), n, static_cast<decltype(zero)>(value));
  });
  return scratch;
}
std::string declines(const CallSig& s, const LayerNormAttrs& a) {
  const ChannelLayout c = channel_layout(s.in[0], a.axis);
  return c.blocked && c.inner == 1 ? "" : "the axes are not the last ones";
}

void forward(const Call& c, const LayerNormAttrs& a) {
  const Cut cut(*c.in[0].sig, a);
  const DType t = c.in[0].dtype();
  char* memory = static_cast<char*>(c.scratch);
  size_t next = 1;
  LayerNormRows rows{t, cut.columns, cut.stride};
  rows.rms = a.rms, rows.epsilon = a.epsilon, rows.x = c.in[0].data, rows.out = c.out[0].data,
  rows.mean = c.out[1].data, rows.inverse = c.out[2].data;
  rows.gamma = parameter(a.scale ? &c.in[next++] : nullptr, 1, cut.columns, t, memory);
  rows.beta = parameter(a.center ? &c.in[next] : nullptr, 0, cut.columns, t,
                        memory + cut.stride * width(t));
  const auto f = HWY_DYNAMIC_DISPATCH(rows_forward);
  if (cut.columns)
    return parallel_for(cut.rows, cut.grain(),
                        [&](int64_t begin, int64_t end) { f(rows, begin, end); });
  visit(c.out[1].dtype(), [&](auto zero) {  // rows of nothing
    for (const size_t k : {1, 2}) {
      auto* to = c.out[k].as<decltype(zero)>();
      const double value = k == 1 || a.epsilon == 0 ? 0 : 1 / std::sqrt(a.epsilon);
      for (int64_t i = 0; i < cut.rows; ++i) to[i] = static_cast<decltype(zero)>(value);
    }
  });
}

void backward(const Call& c, const LayerNormAttrs& a) {
  const Cut cut(*c.in[0].sig, a);
  const DType t = c.in[0].dtype();
  const bool parameters = a.scale || a.center;
  char* memory = static_cast<char*>(c.scratch);
  LayerNormRows rows{t, cut.columns, cut.stride};
  rows.rms = a.rms, rows.x = c.in[0].data, rows.grad = c.in[1].data, rows.out = c.out[0].data,
  rows.mean = c.in[2].data, rows.inverse = c.in[3].data;
  rows.gamma = parameter(a.scale ? &c.in[4] : nullptr, 1, cut.columns, t, memory);
  memory += cut.stride * width(t);
  double* part = reinterpret_cast<double*>(memory);
  char* sums = memory + cut.groups() * 2 * cut.stride * 8;
  const auto f = HWY_DYNAMIC_DISPATCH(rows_backward);
  parallel_for(cut.groups(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g)
      f(rows, g * cut.group, std::min(cut.rows, (g + 1) * cut.group),
        parameters ? part + g * 2 * cut.stride : nullptr, sums + g * 2 * cut.stride * width(t));
  });
  size_t next = 1;
  for (const bool is_beta : {false, true}) {
    if (!(is_beta ? a.center : a.scale)) continue;
    visit_sums(t, [&](auto zero) {
      auto* out = c.out[next].as<decltype(zero)>();
      for (int64_t j = 0; j < cut.columns; ++j) {
        double sum = 0;
        for (int64_t g = 0; g < cut.groups(); ++g) sum += part[(g * 2 + is_beta) * cut.stride + j];
        out[j] = static_cast<decltype(zero)>(sum);
      }
    });
    ++next;
  }
}
}  // namespace
}  // namespace evenflow::cpu

namespace evenflow {
KERNEL(layer_norm, LayerNormAttrs, rows) {
  return {.declines = cpu::declines,
          .run = cpu::forward,
          .scratch = [](const CallSig& s, const LayerNormAttrs& a) {
            return checked_mul(2 * cpu::width(s.in[0].dtype), cpu::Cut(s.in[0], a).stride);
          }};
}
KERNEL(layer_norm_grad, LayerNormAttrs, rows) {
  return {.declines = cpu::declines,
          .run = cpu::backward,
          .scratch = [](const CallSig& s, const LayerNormAttrs& a) {
            const cpu::Cut cut(s.in[0], a);
            const int64_t w = cpu::width(s.in[0].dtype);
            return checked_mul(cut.stride, checked_add(w, checked_mul(cut.groups(), 2 * (8 + w))));
          }};
}
}  // namespace evenflow
#endif
