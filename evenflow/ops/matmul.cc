// SPDX-License-Identifier: Apache-2.0
#include "evenflow/ops/matmul.h"

#include "evenflow/graph/op.h"
#include "evenflow/ops/matmul_attrs.h"
#include "evenflow/ops/reduce.h"

namespace evenflow {
namespace {
Shape batch_of(const Shape& s) { return Shape(s.dims().first(size_t(s.rank() - 2))); }
// Number of the matrix of an operand that product p of `batch` takes.
int64_t matrix_of(const Shape& operand, const Shape& batch, int64_t p) {
  int64_t at = 0, k = 1;
  for (int i = 0; i < batch.rank(); ++i) {
    const int d = batch.rank() - 1 - i, e = operand.rank() - 1 - i;
    const int64_t x = p % batch[d];
    p /= batch[d];
    if (e < 0) continue;
    at += operand[e] == 1 ? 0 : x * k;
    k *= operand[e];
  }
  return at;
}
}  // namespace

OP(matmul, MatmulAttrs) {
  return {.summary = "Matrix product over the last two axes; the axes before them broadcast",
          .inputs = {{"a", numeric, "[..., m, k]"}, {"b", numeric, "[..., k, n]"}},
          .outputs = {{"y", "[..., m, n]"}},
          .shape = [](std::span<const Sig> in, const MatmulAttrs& t) -> Sigs {
            const Shape &a = in[0].shape, &b = in[1].shape;
            for (size_t i : {0, 1})
              if (in[i].shape.rank() < 2)
                fail({i ? "b" : "a", " is ", str(in[i]), ", expected rank 2 or more"});
            const int64_t m = a.dim(t.transpose_a ? -1 : -2), k = a.dim(t.transpose_a ? -2 : -1),
                          k2 = b.dim(t.transpose_b ? -1 : -2), n = b.dim(t.transpose_b ? -2 : -1);
            if (k != k2)
              fail({"b is ", str(in[1]), t.transpose_b ? " transposed" : "", ", expected ", k,
                    " rows (columns of a ", str(in[0]), t.transpose_a ? " transposed)" : ")"});
            const Shape batch = broadcast(batch_of(a), batch_of(b));
            std::vector<int64_t> d(batch.begin(), batch.end());
            d.push_back(m), d.push_back(n);
            return {{in[0].dtype, Shape(d)}};
          },
          .loop =
              [](const Call& c, const MatmulAttrs& t) {
                const Shape &a = c.in[0].shape(), &b = c.in[1].shape(), &y = c.out[0].shape(),
                            batch = batch_of(y);
                const int64_t m = y.dim(-2), n = y.dim(-1), k = a.dim(t.transpose_a ? -2 : -1),
                              products = y.count() ? batch.count() : 0;
                visit(c.in[0].dtype(), [&](auto zero) {
                  using T = decltype(zero);
                  // Integers wrap around.
                  using C = std::conditional_t<std::is_integral_v<T>, uint64_t, compute_t<T>>;
                  for (int64_t p = 0; p < products; ++p) {
                    const T *x = c.in[0].as<T>() + matrix_of(batch_of(a), batch, p) * m * k,
                            *z = c.in[1].as<T>() + matrix_of(batch_of(b), batch, p) * k * n;
                    T* out = c.out[0].as<T>() + p * m * n;
                    for (int64_t i = 0; i < m; ++i)
                      for (int64_t j = 0; j < n; ++j) {
                        C sum = 0;
                        for (int64_t l = 0; l < k; ++l)
                          sum += C(x[t.transpose_a ? l * m + i : i * k + l]) *
                                 C(z[t.transpose_b ? j * k + l : l * n + j]);
                        out[i * n + j] = static_cast<T>(sum);
                      }
                  }
                });
              },
          .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                         const MatmulAttrs& t) -> Tensors {
            Tensor da = t.transpose_a ? matmul(in[1], g[0], t.transpose_b, true)
                                      : matmul(g[0], in[1], false, !t.transpose_b);
            Tensor db = t.transpose_b ? matmul(g[0], in[0], true, t.transpose_a)
                                      : matmul(in[0], g[0], !t.transpose_a, false);
            return {sum_like(da, in[0]), sum_like(db, in[1])};
          },
          .cost = [](const CallSig& c, const MatmulAttrs& t) -> Cost {
            return {double(c.in[0].bytes() + c.in[1].bytes() + c.out[0].bytes()),
                    2.0 * double(c.out[0].shape.count()) *
                        double(c.in[0].shape.dim(t.transpose_a ? -2 : -1))};
          },
          .batch = [](const CallSig& c, const MatmulAttrs& t) -> std::optional<BatchRule> {
            if (c.in[1].shape.rank() != 2 || c.in[0].shape.rank() < 2) return {};
            if (!t.transpose_a) return BatchRule{2, BatchRule::rows, {}};
            if (c.in[0].shape.rank() != 2 || t.transpose_b) return {};
            return BatchRule{0, BatchRule::sum, {}};
          },
          .cases = {{"plain", {{3, 4}, {4, 5}}},
                    {"transposed", {{4, 3}, {5, 4}}, {true, true}},
                    {"left", {{4, 3}, {4, 5}}, {true, false}},
                    {"right", {{3, 4}, {5, 4}}, {false, true}},
                    {"batched", {{2, 3, 4}, {2, 4, 5}}},
                    {"broadcast", {{2, 1, 3, 4}, {3, 4, 1}}},
                    {"odd", {{1, 63}, {63, 17}}},
                    {"empty", {{0, 3}, {3, 5}}},
                    {"nothing", {{2, 0}, {0, 3}}},
                    {"bench", {{512, 512}, {512, 512}}, {}, {.bench = true}},
                    {"mismatch", {{3, 4}, {5, 6}}, {}, {.fails = "expected 4 rows"}},
                    {"vector", {{3}, {3, 4}}, {}, {.fails = "rank 2 or more"}}}};
}
Tensor matmul(In a, In b, bool transpose_a, bool transpose_b) {
  return call(matmul_op(), {a, b}, MatmulAttrs{transpose_a, transpose_b})[0];
}

}  // namespace evenflow
