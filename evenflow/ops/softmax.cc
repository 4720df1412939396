// SPDX-License-Identifier: Apache-2.0
#include "evenflow/ops/softmax.h"

#include <algorithm>
#include <cmath>

#include "evenflow/core/parallel.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/softmax_rules.h"

namespace evenflow {
namespace {
Sigs checked(std::span<const Sig> in, const SoftmaxAttrs& a) {
  if (a.axis < -kMaxRank || a.axis >= kMaxRank)
    fail({"axis is ", a.axis, ", expected an axis of x ", str(in[0])});
  in[0].shape.resolve(int(a.axis));
  return {in[0]};
}
// f(x, y, n, stride) for each line along the axis; lines are independent.
template <class F>
void lines(const Call& c, int64_t axis, F f) {
  const Shape& s = c.in[0].shape();
  const int d = s.resolve(int(axis));
  int64_t inner = 1;
  for (int i = d + 1; i < s.rank(); ++i) inner *= s[i];
  const int64_t n = s[d];
  if (s.count() == 0) return;
  visit(c.in[0].dtype(), [&](auto zero) {
    using T = decltype(zero);
    if constexpr (!std::is_integral_v<T>) {
      const T* x = c.in[0].as<T>();
      T* y = c.out[0].as<T>();
      parallel_for(s.count() / n, std::max<int64_t>(1, 8192 / n), [&](int64_t b, int64_t e) {
        for (int64_t o = b; o < e; ++o) {
          const int64_t at = o / inner * n * inner + o % inner;
          f(x + at, y + at, n, inner);
        }
      });
    }
  });
}
std::vector<Op<SoftmaxAttrs>::Case> softmax_cases() {
  return {{"rows", {{5, 10}}},
          {"columns", {{33, 3}}, {0}},
          {"middle", {{2, 5, 3}}, {1}},
          {"large", {normal({3, 7}, 200, 30)}, {}, {.no_gradient = true}},
          {"empty", {{0, 3}}},
          {"bench", {{4096, 1000}}, {}, {.bench = true}},
          {"axis", {{3}}, {1}, {.fails = "expected"}}};
}
}  // namespace

OP(softmax, SoftmaxAttrs) {
  return {.summary = "exp(x) / sum(exp(x)) along an axis",
          .inputs = {{"x", floating, "[...]"}},
          .outputs = {{"y", "like x"}},
          .shape = checked,
          .loop =
              [](const Call& c, const SoftmaxAttrs& a) {
                lines(c, a.axis, [](auto* x, auto* y, int64_t n, int64_t step) {
                  using T = std::decay_t<decltype(*y)>;
                  using C = compute_t<T>;
                  C top = C(x[0]), sum = 0;
                  for (int64_t i = 1; i < n; ++i) top = std::max(top, C(x[i * step]));
                  for (int64_t i = 0; i < n; ++i) sum += std::exp(C(x[i * step]) - top);
                  for (int64_t i = 0; i < n; ++i)
                    y[i * step] = static_cast<T>(std::exp(C(x[i * step]) - top) / sum);
                });
              },
          .gradient = [](const Tensors&, const Tensors& out, const Tensors& g,
                         const SoftmaxAttrs& a) -> Tensors {
            const Tensor& y = out[0];
            return {y * (g[0] - reduce_sum(g[0] * y, {a.axis}, true))};
          },
          .traits = {.keeps_float32 = true},
          .cases = softmax_cases()};
}
Tensor softmax(In x, int64_t axis) { return call(softmax_op(), {x}, SoftmaxAttrs{axis})[0]; }
OP(log_softmax, SoftmaxAttrs) {
  return {.summary = "x - log(sum(exp(x))) along an axis",
          .inputs = {{"x", floating, "[...]"}},
          .outputs = {{"y", "like x"}},
          .shape = checked,
          .loop =
              [](const Call& c, const SoftmaxAttrs& a) {
                lines(c, a.axis, [](auto* x, auto* y, int64_t n, int64_t step) {
                  using T = std::decay_t<decltype(*y)>;
                  using C = compute_t<T>;
                  C top = C(x[0]), sum = 0;
                  for (int64_t i = 1; i < n; ++i) top = std::max(top, C(x[i * step]));
                  for (int64_t i = 0; i < n; ++i) sum += std::exp(C(x[i * step]) - top);
                  const C log_sum = std::log(sum);
                  for (int64_t i = 0; i < n; ++i)
                    y[i * step] = static_cast<T>(C(x[i * step]) - top - log_sum);
                });
              },
          .gradient = [](const Tensors&, const Tensors& out, const Tensors& g,
                         const SoftmaxAttrs& a) -> Tensors {
            return {g[0] - exp(out[0]) * reduce_sum(g[0], {a.axis}, true)};
          },
          .traits = {.keeps_float32 = true},
          .cases = softmax_cases()};
}
Tensor log_softmax(In x, int64_t axis) {
  return call(log_softmax_op(), {x}, SoftmaxAttrs{axis})[0];
}

}  // namespace evenflow
