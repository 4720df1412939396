// SPDX-License-Identifier: Apache-2.0
// Regions along the batch against the same graph without any pass.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "evenflow/core/parallel.h"
#include "evenflow/graph/compile.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/graph/pass.h"
#include "evenflow/graph/program.h"
#include "evenflow/ops/activations.h"
#include "evenflow/ops/batch_norm.h"
#include "evenflow/ops/conv.h"
#include "evenflow/ops/cross_entropy.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/matmul.h"
#include "evenflow/ops/pooling.h"
#include "evenflow/ops/reduce.h"

namespace evenflow {
namespace {

Tensor noise(const Shape& s, DType d, uint64_t seed, double deviation = 1, double mean = 0) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal(mean, deviation);
  std::vector<double> v(size_t(s.count()));
  for (double& x : v) x = normal(random);
  return constant(v, s, d);
}

// A residual block with a shortcut, pooling and a head: loss, statistics, and the gradients of all
// weights.
struct Net {
  DType type;
  std::vector<Variable> weights;
  explicit Net(DType d) : type(d) {
    auto add = [&](const Shape& s, double deviation, double mean = 0) {
      weights.emplace_back(noise(s, d, 100 + weights.size(), deviation, mean));
    };
    add({3, 3, 16, 16}, 0.1), add({16}, 0.1, 1), add({16}, 0.1);
    add({3, 3, 16, 32}, 0.1), add({32}, 0.1, 1), add({32}, 0.1);
    add({1, 1, 16, 32}, 0.2), add({32}, 0.1, 1), add({32}, 0.1);
    add({32, 10}, 0.2);
  }
  Tensors operator()(const Tensor& x, const Tensor& y) const {
    const auto& w = weights;
    auto bn = [&](const Tensor& t, size_t at) {
      return batch_norm(t, Tensor(w[at]), Tensor(w[at + 1]));
    };
    auto first = bn(conv2d(x, Tensor(w[0]), {.padding = "same"}), 1);
    Tensor a = relu(first.y);
    auto second = bn(conv2d(a, Tensor(w[3]), {.strides = {2, 2}, .padding = "same"}), 4);
    auto skip = bn(conv2d(x, Tensor(w[6]), {.strides = {2, 2}, .padding = "same"}), 7);
    Tensor b = relu(second.y + skip.y);
    Tensor logits = matmul(reduce_mean(max_pool2d(b, {.pool_size = {2, 2}}), {1, 2}), Tensor(w[9]));
    Tensor loss = reduce_mean(sparse_softmax_cross_entropy(logits, y));
    Tensors out{loss,
                first.statistics.n,
                first.statistics.mean,
                first.statistics.m2,
                second.statistics.mean,
                skip.statistics.m2};
    std::vector<Wrt> wrt(w.begin(), w.end());
    for (const Tensor& g : gradient(loss, wrt)) out.push_back(g);
    return out;
  }
};
Tensor labels(int64_t n) {
  std::vector<int64_t> v;
  for (int64_t i = 0; i < n; ++i) v.push_back(i * 7 % 10);
  return tensor(v, {n});
}
// Largest difference over the rms of what is expected.
double difference(const Tensor& found, const Tensor& expected) {
  const auto a = found.to_vector<double>(), b = expected.to_vector<double>();
  double worst = 0, square = 0;
  for (size_t i = 0; i < a.size(); ++i)
    worst = std::max(worst, std::abs(a[i] - b[i])), square += b[i] * b[i];
  return worst / (std::sqrt(square / double(a.size())) + 1e-30);
}
Tensors run(const Net& net, int64_t n, Passes passes) {
  auto f =
      compile([net](const Tensor& x, const Tensor& y) { return net(x, y); }, {.passes = passes});
  return f(noise({n, 16, 16, 16}, net.type, 7, 1, 0.5), labels(n));
}
std::string optimised(const Net& net, int64_t n) {
  const Graph g = trace({{net.type, {n, 16, 16, 16}}, {DType::i64, {n}}}, [&](const Tensors& in) {
                    return net(in[0], in[1]);
                  }).graph;
  return str(optimise(g, Passes::all));
}

TEST(BatchTiles, TheNetIsCutIntoRegions) {
  const std::string g = optimised(Net(DType::f32), 128);
  EXPECT_THAT(g, testing::HasSubstr("batch_tiles"));
  EXPECT_THAT(g, testing::Not(testing::HasSubstr("conv2d(")));  // all of them are inside
}
TEST(BatchTiles, SmallWorkStaysAsItIs) {
  EXPECT_THAT(optimised(Net(DType::f32), 4), testing::Not(testing::HasSubstr("batch_tiles")));
}
// Each tile would read a dense layer's weights anew, and add to their gradient.
TEST(BatchTiles, WeightsThatWeighMoreThanTheirRowsAreReadOnce) {
  const auto after = [](int64_t units) {
    const Sig x{DType::f32, {4096, units}}, w{DType::f32, {units, units}};
    return str(
        optimise(trace({x, w, w},
                       [](const Tensors& t) -> Tensors {
                         const Tensor y = matmul(relu(matmul(t[0], t[1])), t[2]);
                         return {y, gradient(reduce_mean(square(y)), std::vector<Wrt>{t[1]})[0]};
                       })
                     .graph,
                 Passes::all));
  };
  EXPECT_THAT(after(256), testing::HasSubstr("batch_tiles"));
  EXPECT_THAT(after(2048), testing::Not(testing::HasSubstr("batch_tiles")));
}
TEST(BatchTiles, F64EqualsTheUncutGraph) {
  for (int64_t n : {128, 125}) {  // the last tile is a part of one
    const Tensors expected = run(Net(DType::f64), n, Passes::none),
                  found = run(Net(DType::f64), n, Passes::all);
    for (size_t i = 0; i < expected.size(); ++i)
      EXPECT_LT(difference(found[i], expected[i]), 1e-9) << "result " << i << ", batch " << n;
  }
}
TEST(BatchTiles, F32EqualsTheUncutGraphToRounding) {
  const Net net(DType::f32), exact(DType::f64);
  for (int64_t n : {128, 125}) {
    const Tensors expected = run(exact, n, Passes::none), found = run(net, n, Passes::all);
    for (size_t i = 0; i < expected.size(); ++i)
      EXPECT_LT(difference(found[i], expected[i]), 1e-3) << "result " << i << ", batch " << n;
  }
}
TEST(BatchTiles, TheBitsDoNotDependOnThreads) {
  const int before = thread_count();
  std::vector<Tensors> all;
  for (int threads : {1, 2, 3}) {
    set_thread_count(threads);
    all.push_back(run(Net(DType::f32), 125, Passes::all));
  }
  set_thread_count(before);
  for (size_t t = 1; t < all.size(); ++t)
    for (size_t i = 0; i < all[0].size(); ++i)
      EXPECT_EQ(all[t][i].to_vector(), all[0][i].to_vector()) << "result " << i;
}
TEST(BatchTiles, StatisticsOfValuesFarFromZero) {
  // Merged from tiles: mean / deviation = 1e4, where E[x^2] - E[x]^2 has no digit left.
  auto f = compile([](const Tensor& x, const Tensor& k) {
    auto r = batch_norm(conv2d(x, k), Tensor(), Tensor());
    return Tensors{r.statistics.mean, r.statistics.m2, r.y};
  });
  const Tensor x = noise({64, 32, 32, 16}, DType::f32, 3, 1, 1e4);
  std::vector<double> identity(256);
  for (size_t i = 0; i < 16; ++i) identity[i * 17] = 1;
  const Tensors r = f(x, constant(identity, {1, 1, 16, 16}, DType::f32));
  const auto v = x.to_vector<double>();
  for (size_t c = 0; c < 16; ++c) {
    double mean = 0, m2 = 0;
    const double n = double(v.size()) / 16;
    for (size_t i = c; i < v.size(); i += 16) mean += v[i] / n;
    for (size_t i = c; i < v.size(); i += 16) m2 += (v[i] - mean) * (v[i] - mean);
    EXPECT_NEAR(r[0].to_vector<double>()[c], mean, 2e-3);
    EXPECT_NEAR(r[1].to_vector<double>()[c] / m2, 1, 1e-6);
  }
}
TEST(BatchTiles, AFailureInATileLeavesNothing) {
  Variable w(noise({3, 3, 16, 16}, DType::f32, 1, 0.1));
  auto f = compile([w](const Tensor& x, const Tensor& y) {
    Tensor logits = reduce_mean(
        relu(batch_norm(conv2d(x, Tensor(w), {.padding = "same"}), Tensor(), Tensor()).y), {1, 2});
    Tensor loss = reduce_mean(sparse_softmax_cross_entropy(logits, y));
    w.assign_sub(gradient(loss, w));
    return loss;
  });
  const auto before = w.read().to_vector();
  const Tensor x = noise({64, 16, 16, 16}, DType::f32, 2);
  std::vector<int64_t> bad(64, 3);
  bad[40] = 99;
  EXPECT_THROW(f(x, tensor(bad, {64})), Error);
  EXPECT_EQ(w.read().to_vector(), before);
  EXPECT_NO_THROW(f(x, labels(64)));
}
TEST(FuseBatchNorm, TakesInResidualAndActivation) {
  const Graph g = trace({{DType::f32, {8, 4, 4, 3}},
                         {DType::f32, {8, 4, 4, 3}},
                         {DType::f32, {3}},
                         {DType::f32, {3}}},
                        [](const Tensors& in) -> Tensors {
                          Tensor y = relu(batch_norm(in[0], in[2], in[3]).y + in[1]);
                          return {y, gradient({y}, {y}, {in[0]})[0]};
                        })
                      .graph;
  std::string now;
  optimise(g, Passes::all, [&](std::string_view pass, const Graph& after) {
    if (pass == "fuse_batch_norm") now = str(after);
  });
  EXPECT_THAT(now, testing::AllOf(testing::HasSubstr("residual=true activation=\"relu\""),
                                  testing::Not(testing::HasSubstr("= add(")),
                                  testing::Not(testing::HasSubstr("= relu("))));
}

}  // namespace
}  // namespace evenflow
