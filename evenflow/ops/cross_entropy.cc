// SPDX-License-Identifier: Apache-2.0
#include "evenflow/ops/cross_entropy.h"

#include <algorithm>
#include <cmath>

#include "evenflow/core/parallel.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/elementwise_loops.h"
#include "evenflow/ops/index.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/scalar.h"
#include "evenflow/ops/shape.h"
#include "evenflow/ops/softmax.h"
#include "evenflow/ops/softmax_rules.h"

namespace evenflow {
namespace {
Shape rows_of(const Sig& logits) {
  const Shape& s = logits.shape;
  if (!s.rank()) fail({"logits is ", str(logits), ", expected a last extent of classes"});
  if (s[s.rank() - 1] < 1) fail({"logits is ", str(logits), ", expected at least one class"});
  return Shape(s.dims().first(size_t(s.rank() - 1)));
}
template <class F>
void floats(DType d, F f) {
  visit(d, [&](auto zero) {
    if constexpr (!std::is_integral_v<decltype(zero)>) f(zero);
  });
}
}  // namespace

OP(sparse_softmax_cross_entropy, NoAttrs) {
  return {
      .summary = "-log softmax(logits)[label] for each row",
      .inputs = {{"logits", floating, "[..., classes]"},
                 {"labels", index_type, "[...], 0..classes-1"}},
      .outputs = {{"loss", "[...]"}},
      .shape = [](std::span<const Sig> in, const NoAttrs&) -> Sigs {
        const Shape rows = rows_of(in[0]);
        if (in[1].shape != rows)
          fail({"labels is ", str(in[1]), ", expected shape ", str(rows), " (rows of logits ",
                str(in[0]), ")"});
        return {{in[0].dtype, rows}};
      },
      .loop =
          [](const Call& c, const NoAttrs&) {
            const Shape& s = c.in[0].shape();
            const int64_t n = s[s.rank() - 1], rows = c.out[0].count();
            floats(c.in[0].dtype(), [&](auto zero) {
              using T = decltype(zero);
              using C = compute_t<T>;
              with_labels(c.in[1], [&](auto* labels) {
                parallel_for(rows, std::max<int64_t>(1, 8192 / n), [&](int64_t b, int64_t e) {
                  for (int64_t r = b; r < e; ++r) {
                    const T* x = c.in[0].as<T>() + r * n;
                    const int64_t l = label_at(labels, r, n);
                    C top = C(x[0]), sum = 0;
                    for (int64_t i = 1; i < n; ++i) top = std::max(top, C(x[i]));
                    for (int64_t i = 0; i < n; ++i) sum += std::exp(C(x[i]) - top);
                    c.out[0].as<T>()[r] = static_cast<T>(std::log(sum) - (C(x[l]) - top));
                  }
                });
              });
            });
          },
      .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                     const NoAttrs&) -> Tensors {
        const OpDef& op = find_op("sparse_softmax_cross_entropy_grad");
        return {apply(op, op.defaults, to_inputs({in[0], in[1], g[0]}))[0], Tensor()};
      },
      .traits = {.keeps_float32 = true},
      .cases = {{"rows", {{5, 10}, integers({5}, 0, 10)}},
                {"image", {{2, 3, 4}, integers({2, 3}, 0, 4)}},
                {"large", {normal({3, 4}, 0, 300), integers({3}, 0, 4)}, {}, {.no_gradient = true}},
                {"empty", {{0, 3}, integers({0}, 0, 3)}},
                {"bench", {{4096, 1000}, integers({4096}, 0, 1000)}, {}, {.bench = true}},
                {"shape", {{5, 10}, integers({4}, 0, 10)}, {}, {.fails = "expected shape [5]"}}}};
}
OP(sparse_softmax_cross_entropy_grad, NoAttrs) {
  return {.summary =
              "Gradient of sparse_softmax_cross_entropy: (softmax(logits) - one_hot(labels)) grad",
          .inputs = {{"logits", floating, "[..., classes]"},
                     {"labels", index_type, "[...]"},
                     {"grad", floating, "[...]"}},
          .outputs = {{"dlogits", "like logits"}},
          .shape = [](std::span<const Sig> in, const NoAttrs&) -> Sigs {
            const Shape rows = rows_of(in[0]);
            for (size_t i : {1, 2})
              if (in[i].shape != rows)
                fail({i == 1 ? "labels" : "grad", " is ", str(in[i]), ", expected shape ",
                      str(rows), " (rows of logits ", str(in[0]), ")"});
            return {in[0]};
          },
          .loop =
              [](const Call& c, const NoAttrs&) {
                const Shape& s = c.in[0].shape();
                const int64_t n = s[s.rank() - 1], rows = c.in[2].count();
                floats(c.in[0].dtype(), [&](auto zero) {
                  using T = decltype(zero);
                  using C = compute_t<T>;
                  with_labels(c.in[1], [&](auto* labels) {
                    parallel_for(rows, std::max<int64_t>(1, 8192 / n), [&](int64_t b, int64_t e) {
                      for (int64_t r = b; r < e; ++r) {
                        const T* x = c.in[0].as<T>() + r * n;
                        T* d = c.out[0].as<T>() + r * n;
                        const int64_t l = label_at(labels, r, n);
                        const C g = C(c.in[2].as<T>()[r]);
                        C top = C(x[0]), sum = 0;
                        for (int64_t i = 1; i < n; ++i) top = std::max(top, C(x[i]));
                        for (int64_t i = 0; i < n; ++i) sum += std::exp(C(x[i]) - top);
                        for (int64_t i = 0; i < n; ++i)
                          d[i] = static_cast<T>((std::exp(C(x[i]) - top) / sum - C(i == l)) * g);
                      }
                    });
                  });
                });
              },
          .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                         const NoAttrs&) -> Tensors {
            Tensor p = softmax(in[0]), row = expand_dims(in[2], -1),
                   e = g[0] * expand_like(row, g[0]);
            Tensor dlogits = p * (e - reduce_sum(p * e, {-1}, true));
            Tensor dgrad = reduce_sum(g[0] * (p - one_hot_like(in[1], p)), {-1});
            return {dlogits, Tensor(), dgrad};
          },
          .traits = {.keeps_float32 = true},
          .cases = {{"rows", {{5, 10}, integers({5}, 0, 10), {5}}},
                    {"empty", {{0, 3}, integers({0}, 0, 3), {0}}},
                    {"shape", {{5, 10}, integers({5}, 0, 10), {4}}, {}, {.fails = "grad is"}}}};
}
Tensor sparse_softmax_cross_entropy(In logits, In labels) {
  return call(sparse_softmax_cross_entropy_op(), {logits, labels})[0];
}

OP(softmax_cross_entropy, NoAttrs) {
  return {.summary = "-sum(targets * log_softmax(logits)) over the last axis",
          .inputs = {{"logits", floating, "[..., classes]"}, {"targets", floating, "like logits"}},
          .outputs = {{"loss", "[...]"}},
          .shape = [](std::span<const Sig> in, const NoAttrs&) -> Sigs {
            const Shape rows = rows_of(in[0]);
            if (in[1].shape != in[0].shape)
              fail({"targets is ", str(in[1]), ", expected shape ", str(in[0].shape), " (logits)"});
            return {{in[0].dtype, rows}};
          },
          .reference = [](const Tensors& in, const NoAttrs&) -> Tensors {
            return {-reduce_sum(in[1] * log_softmax(in[0]), {-1})};
          },
          .traits = {.keeps_float32 = true},
          .cases = {{"rows", {{5, 10}, uniform({5, 10}, 0, 1)}},
                    {"image", {{2, 3, 4}, uniform({2, 3, 4}, 0, 1)}},
                    {"empty", {{0, 3}, {0, 3}}},
                    {"shape", {{5, 10}, {5, 9}}, {}, {.fails = "expected shape [5,10]"}}}};
}
Tensor softmax_cross_entropy(In logits, In targets) {
  return call(softmax_cross_entropy_op(), {logits, targets})[0];
}

OP(sigmoid_cross_entropy, NoAttrs) {
  return {
      .summary = "max(x, 0) - x t + log(1 + e^-|x|), element by element",
      .inputs = {{"logits", floating, "[...]"}, {"targets", floating, "like logits"}},
      .outputs = {{"loss", "like logits"}},
      .shape = [](std::span<const Sig> in, const NoAttrs&) -> Sigs {
        if (in[1].shape != in[0].shape)
          fail({"targets is ", str(in[1]), ", expected shape ", str(in[0].shape), " (logits)"});
        return {in[0]};
      },
      .loop =
          [](const Call& c, const NoAttrs&) {
            detail::map2(c, [](auto x, auto t) {
              using T = decltype(x);
              return T(std::max(x, T(0)) - x * t + std::log1p(std::exp(-T(std::abs(x)))));
            });
          },
      .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                     const NoAttrs&) -> Tensors {
        return {g[0] * (sigmoid(in[0]) - in[1]), -(g[0] * in[0])};
      },
      .traits = {.pointwise = true, .keeps_float32 = true},
      .cases = {{"matrix", {{5, 3}, uniform({5, 3}, 0, 1)}},
                {"large", {normal({33}, 0, 100), uniform({33}, 0, 1)}, {}, {.no_gradient = true}},
                {"empty", {{0, 3}, {0, 3}}},
                {"shape", {{5}, {4}}, {}, {.fails = "expected shape [5]"}}}};
}
Tensor sigmoid_cross_entropy(In logits, In targets) {
  return call(sigmoid_cross_entropy_op(), {logits, targets})[0];
}

}  // namespace evenflow
