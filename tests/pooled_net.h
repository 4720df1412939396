// SPDX-License-Identifier: Apache-2.0
// A small batch-normalised classifier whose gradients and statistics pass pool(): for tests of
// micro-batches and ranks.
#pragma once
#include "evenflow/graph/compile.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/ops/batch_norm.h"
#include "evenflow/ops/cross_entropy.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/matmul.h"
#include "evenflow/ops/pool.h"
#include "evenflow/ops/reduce.h"
#include "tests/engine.h"

namespace evenflow::engine {

inline Tensor labels(int64_t n) {
  std::vector<int64_t> y;
  for (int64_t i = 0; i < n; ++i) y.push_back(i % 3);
  return tensor(y, {n});
}
/// [n, 4] inputs, three classes.
struct PooledNet {
  Variable w{drawn({4, 3}, 11)}, gamma{ones({3})}, mean{zeros({3})}, variance{ones({3})},
      count{full({}, 0, DType::i64)};
  Tensor train(const Tensor& x, const Tensor& y) const {
    const BatchNormResult r = batch_norm(matmul(x, w), gamma, Tensor());
    Tensor each = sparse_softmax_cross_entropy(r.y, y), loss = reduce_mean(each);
    const Tensors g = gradient(loss, {w, gamma});
    const Tensors s =
        pool(Pooled::statistics, {r.statistics.n, r.statistics.mean, r.statistics.m2});
    const Tensors p = pool(Pooled::mean, {count_like(each, loss), g[0], g[1]});
    require(all_finite({p[1], p[2]}));
    w.assign_sub(0.1f * p[1]), gamma.assign_sub(0.1f * p[2]);
    count.assign_add(1);
    const Statistics whole{s[0], s[1], s[2]};
    mean.assign(moving_average(mean, whole.mean, whole.n, count, 0.9, true));
    variance.assign(moving_average(variance, whole.variance(), whole.n, count, 0.9, true));
    return loss;
  }
  auto compiled(CompileOptions options = {}) const {
    return compile([net = *this](const Tensor& x, const Tensor& y) { return net.train(x, y); },
                   options);
  }
  std::vector<std::string> bits() const {
    return engine::bits(std::vector<Variable>{w, gamma, mean, variance, count});
  }
};

}  // namespace evenflow::engine
