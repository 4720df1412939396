// SPDX-License-Identifier: Apache-2.0
// softmax and cross-entropy of rows, a vector of classes at a time.
#include <cmath>
#include <limits>

#include "evenflow/core/parallel.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/softmax_rules.h"

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "evenflow/ops/softmax.cpu.cc"
#include "hwy/foreach_target.h"
#include "evenflow/backends/cpu/tail-inl.h"
#include "evenflow/backends/cpu/vector_math-inl.h"
// clang-format on

#ifndef EVENFLOW_OPS_SOFTMAX_CPU_ONCE
#define EVENFLOW_OPS_SOFTMAX_CPU_ONCE
namespace evenflow::cpu {
enum class RowResult { softmax, log_softmax, loss, loss_grad };
// A row of n logits; `label` and `grad` for the losses.
struct SoftmaxRow {
  const void* x;
  void* out;
  int64_t n;
  int64_t label = 0;
  float grad = 0;
};
}  // namespace evenflow::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace evenflow::cpu::HWY_NAMESPACE {
namespace {
using Float = hn::ScalableTag<float>;
using Vector = hn::Vec<Float>;

// f(vector, first element, how many are there)
template <class T, class F>
HWY_INLINE void each_vector(const T* x, int64_t n, F f) {
  const Float d;
  const int64_t lanes = int64_t(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) f(load(d, x + i), i, lanes);
  if (i < n) f(load_n(d, x + i, n - i), i, n - i);
}
template <class T>
HWY_INLINE void put(Vector v, T* to, int64_t n) {
  const Float d;
  if (n == int64_t(hn::Lanes(d)))
    store(d, v, to);
  else
    store_n(d, v, to, n);
}

template <class T>
void softmax_row(RowResult result, const SoftmaxRow& row) {
  const Float d;
  const T* x = static_cast<const T*>(row.x);
  const Vector lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
  Vector most = lowest, total = hn::Zero(d);
  each_vector(x, row.n, [&](Vector v, int64_t, int64_t n) {
    most = hn::Max(most, hn::IfThenElse(hn::FirstN(d, size_t(n)), v, lowest));
  });
  const float top = hn::GetLane(hn::MaxOfLanes(d, most));
  const Vector shift = hn::Set(d, top);
  // Exponentials are kept where they fit without rounding.
  constexpr bool kKeeps = std::is_same_v<T, float>;
  const bool keeps = kKeeps && (result == RowResult::softmax || result == RowResult::loss_grad);
  T* to = static_cast<T*>(row.out);
  each_vector(x, row.n, [&](Vector v, int64_t i, int64_t n) {
    const Vector e = hn::IfThenElseZero(hn::FirstN(d, size_t(n)), exp(d, hn::Sub(v, shift)));
    total = hn::Add(total, e);
    if (keeps) put(e, to + i, n);
  });
  const float sum = hn::GetLane(hn::SumOfLanes(d, total));
  if (result == RowResult::loss) {
    *to = static_cast<T>(std::log(sum) - (float(x[row.label]) - top));
    return;
  }
  if (result == RowResult::log_softmax) {
    const Vector log_sum = hn::Set(d, std::log(sum));
    each_vector(x, row.n, [&](Vector v, int64_t i, int64_t n) {
      put(hn::Sub(hn::Sub(v, shift), log_sum), to + i, n);
    });
    return;
  }
  const bool grad = result == RowResult::loss_grad;
  const float at_label = grad ? (std::exp(float(x[row.label]) - top) / sum - 1) * row.grad : 0;
  const Vector scale = hn::Set(d, grad ? row.grad / sum : 1 / sum);
  if (keeps)
    each_vector(to, row.n,
                [&](Vector e, int64_t i, int64_t n) { put(hn::Mul(e, scale), to + i, n); });
  else
    each_vector(x, row.n, [&](Vector v, int64_t i, int64_t n) {
      put(hn::Mul(exp(d, hn::Sub(v, shift)), scale), to + i, n);
    });
  if (grad) to[row.label] = static_cast<T>(at_label);
}
void softmax_rows(DType type, RowResult result, const SoftmaxRow& row) {
  switch (type) {
    case DType::bf16:
      return softmax_row<bf16>(result, row);
    case DType::f16:
      return softmax_row<f16>(result, row);
    default:
      return softmax_row<float>(result, row);
  }
}
}  // namespace
}  // namespace evenflow::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace evenflow {
namespace cpu {
namespace {
HWY_EXPORT(softmax_rows);
}  // namespace
}  // namespace cpu
using namespace cpu;  // one target alone is dispatched to by its namespace

namespace {
using cpu::RowResult;

// f(row number, row) may set what the losses need.
template <class F>
void run(RowResult result, const Call& c, F f) {
  const View &x = c.in[0], &out = c.out[0];
  if (!x.count()) return;
  const int64_t n = x.shape()[x.shape().rank() - 1], size = size_of(x.dtype());
  const int64_t wide = result == RowResult::loss ? 1 : n;  // of the result
  const auto kernel = HWY_DYNAMIC_DISPATCH(softmax_rows);
  parallel_for(x.count() / n, std::max<int64_t>(1, 8192 / n), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      cpu::SoftmaxRow row{static_cast<const char*>(x.data) + r * n * size,
                          static_cast<char*>(out.data) + r * wide * size, n};
      f(r, row);
      kernel(x.dtype(), result, row);
    }
  });
}
std::string along_another(const CallSig& c, const SoftmaxAttrs& a) {
  if (c.in[0].dtype == DType::f64) return "f64";
  const Shape& s = c.in[0].shape;
  return s.resolve(int(a.axis)) == s.rank() - 1 ? "" : "the axis is not the last";
}
template <RowResult kResult>
KernelSheet<SoftmaxAttrs> softmax_sheet() {
  return {.declines = along_another, .run = [](const Call& c, const SoftmaxAttrs&) {
            run(kResult, c, [](int64_t, cpu::SoftmaxRow&) {});
          }};
}
std::string in_f64(const CallSig& c, const NoAttrs&) {
  return c.in[0].dtype == DType::f64 ? "f64" : "";
}
}  // namespace

KERNEL(softmax, SoftmaxAttrs, rows) { return softmax_sheet<RowResult::softmax>(); }
KERNEL(log_softmax, SoftmaxAttrs, rows) { return softmax_sheet<RowResult::log_softmax>(); }
KERNEL(sparse_softmax_cross_entropy, NoAttrs, rows) {
  return {.declines = in_f64, .run = [](const Call& c, const NoAttrs&) {
            with_labels(c.in[1], [&](auto* labels) {
              run(RowResult::loss, c,
                  [&](int64_t r, cpu::SoftmaxRow& row) { row.label = label_at(labels, r, row.n); });
            });
          }};
}
KERNEL(sparse_softmax_cross_entropy_grad, NoAttrs, rows) {
  return {.declines = in_f64, .run = [](const Call& c, const NoAttrs&) {
            visit(c.in[2].dtype(), [&](auto zero) {
              using T = decltype(zero);
              with_labels(c.in[1], [&](auto* labels) {
                run(RowResult::loss_grad, c, [&](int64_t r, cpu::SoftmaxRow& row) {
                  row.label = label_at(labels, r, row.n);
                  row.grad = float(c.in[2].as<T>()[r]);
                });
              });
            });
          }};
}

}  // namespace evenflow
#endif
