// SPDX-License-Identifier: Apache-2.0
// Threads of one process as ranks: they merge at pool(), and equal micro-batches bit for bit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "evenflow/core/rank_threads.h"
#include "evenflow/model/batch_normalization.h"
#include "evenflow/model/layers.h"
#include "evenflow/ops/control_flow.h"
#include "evenflow/ops/shape.h"
#include "evenflow/train/train.h"
#include "tests/pooled_net.h"

namespace evenflow {
namespace {
using engine::bits, engine::drawn, engine::error_of, engine::fault, engine::truth;
using engine::labels, engine::PooledNet;
using testing::HasSubstr;

TEST(RankThreads, equal_micro_batches_bit_for_bit) {
  for (int n : {2, 3}) {
    PooledNet micro;
    std::vector<PooledNet> nets(static_cast<size_t>(n));
    auto batch = [](int step, int rank) {
      const int64_t rows = rank == 1 ? 3 : 6;
      return std::pair{drawn({rows, 4}, uint64_t(10 * step + rank)), labels(rows)};
    };
    RankThreads group(n);
    group.run([&](int r) {
      auto f = nets[size_t(r)].compiled();
      for (int i = 0; i < 4; ++i) {
        const auto [x, y] = batch(i, r);
        f(x, y);
      }
    });
    auto f = micro.compiled({.micro_batches = n});
    for (int i = 0; i < 4; ++i)
      for (int r = 0; r < n; ++r) {
        const auto [x, y] = batch(i, r);
        f(x, y);
      }
    for (auto& net : nets) EXPECT_EQ(net.bits(), micro.bits()) << n;
    EXPECT_NE(micro.bits(), PooledNet().bits());
  }
}

TEST(RankThreads, steps_equal_compiled_functions) {
  PooledNet a[2], b[2];
  RankThreads group(2);
  group.run([&](int r) {
    auto f = a[r].compiled();
    for (uint64_t i = 0; i < 3; ++i) {
      const Tensor x = drawn({4 + r, 4}, 10 * i + uint64_t(r));
      f(x, labels(4 + r));
      Step s;
      b[r].train(x, labels(4 + r));
      EXPECT_TRUE(s.commit());
    }
  });
  EXPECT_EQ(a[0].bits(), a[1].bits());
  for (auto& net : b) EXPECT_EQ(net.bits(), a[0].bits());
}

// Replicas that see different data: one mean, that of all rows, whatever each has of them.
TEST(RankThreads, Thread11Flax877StatisticsDoNotDriftApart) {
  PooledNet nets[2];
  const Tensor x[2] = {drawn({6, 4}, 1), drawn({2, 4}, 2) + 3};
  std::vector<double> want(3);
  for (const Tensor& part : x) {
    const auto rows = matmul(part, nets[0].w).to_vector<double>();
    for (size_t i = 0; i < rows.size(); ++i) want[i % 3] += rows[i] / 8;
  }
  RankThreads group(2);
  auto step = [&](int steps) {
    group.run([&](int r) {
      auto f = nets[r].compiled();
      for (int i = 0; i < steps; ++i) f(x[r], labels(r ? 2 : 6));
    });
  };
  step(1);
  const auto mean = nets[0].mean.read().to_vector<double>();
  for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(mean[i], want[i], 1e-6);
  step(5);
  EXPECT_EQ(nets[0].bits(), nets[1].bits());
}

TEST(RankThreads, an_inf_on_one_rank_skips_the_step_on_all) {
  PooledNet nets[2];
  const auto before = nets[0].bits();
  bool committed[2] = {true, true};
  RankThreads group(2);
  group.run([&](int r) {
    auto f = nets[r].compiled();
    Tensor x = drawn({6, 4}, uint64_t(r));
    if (r) x = x * std::numeric_limits<float>::infinity();
    f(x, labels(6));
    committed[r] = Function::committed();
  });
  for (int r : {0, 1}) {
    EXPECT_FALSE(committed[r]);
    EXPECT_EQ(nets[r].bits(), before);
  }
}

TEST(RankThreads, one_that_fails_leaves_the_state_of_all) {
  PooledNet nets[2];
  const auto before = nets[0].bits();
  std::string said[2];
  RankThreads group(2);
  group.run([&](int r) {
    auto f = compile([net = nets[r]](const Tensor& x, const Tensor& y, const Tensor& bad) {
      return net.train(fault(x, bad), y);
    });
    said[r] = error_of([&] { f(drawn({6, 4}, uint64_t(r)), labels(6), truth(r == 1)); });
    if (r) group.abort();
  });
  EXPECT_THAT(said[0], HasSubstr("another rank has failed"));
  EXPECT_THAT(said[1], HasSubstr("bad holds"));
  for (auto& net : nets) EXPECT_EQ(net.bits(), before);
}

TEST(RankThreads, a_function_traced_alone_is_traced_again_in_a_group) {
  std::vector<decltype(PooledNet().compiled())> functions;
  PooledNet nets[2];
  for (auto& net : nets) functions.push_back(net.compiled());
  const Tensor x = drawn({6, 4}, 1);
  for (auto& f : functions) f(x, labels(6));
  const auto alone = nets[0].bits();
  EXPECT_EQ(nets[1].bits(), alone);
  RankThreads group(2);
  group.run([&](int r) { functions[size_t(r)](drawn({6, 4}, uint64_t(r + 5)), labels(6)); });
  EXPECT_EQ(nets[0].bits(), nets[1].bits()) << "merged";
  EXPECT_NE(nets[0].bits(), alone);
  EXPECT_THAT(functions[0].function().log().back(), HasSubstr("group of ranks has changed"));
  functions[0](x, labels(6));
  EXPECT_EQ(functions[0].function().traces(), 2) << "the first trace holds again";
}

// Means of means where counts differ (flax#2417), a replica without samples (tensorflow#52986), and
// statistics that drift apart (flax#877): the layer's are those of all samples, on every rank, to
// the bit. A rank whose batch overflows is left out, and counts it.
TEST(RankThreads, Thread11Flax877BatchNormLayersOfAllRanksHoldTheSame) {
  for (const char* type : {"float32", "float64"}) {
    SCOPED_TRACE(type);
    const Tensor x = drawn({12, 3}, 5);
    const Tensors parts = split(x, {7, 0, 5, 0}, 0);
    std::vector<BatchNormalization> layers;
    for (int r = 0; r < 4; ++r) {
      layers.push_back(BatchNormalization({.statistics_dtype = type}));
      layers.back()(x);
    }
    RankThreads(4).run([&](int r) {
      Step s;
      layers[size_t(r)](r < 3 ? parts[size_t(r)] : x / 0., {.training = true});
      s.commit();
    });
    const std::vector<double> v = x.to_vector<double>();
    for (int r = 0; r < 4; ++r) {
      const BatchNormalizationImpl& l = layers[size_t(r)].impl();
      EXPECT_EQ(l.update_count.read().item(), 1);
      EXPECT_EQ(l.rejected_count.read().item(), r == 3);
      EXPECT_EQ(bits(std::vector<Variable>{l.moving_mean, l.moving_variance}),
                bits(std::vector<Variable>{layers[0].impl().moving_mean,
                                           layers[0].impl().moving_variance}));
      for (size_t c = 0; c < 3; ++c) {
        double mean = 0, variance = 0;
        for (size_t i = c; i < v.size(); i += 3) mean += v[i] / 12;
        for (size_t i = c; i < v.size(); i += 3) variance += (v[i] - mean) * (v[i] - mean) / 12;
        EXPECT_NEAR(l.moving_mean.read().to_vector<double>()[c], mean, 1e-6);
        EXPECT_NEAR(l.moving_variance.read().to_vector<double>()[c], variance, 1e-6);
      }
    }
  }
}

// Two and three ranks of unequal shares train as one with the whole batch: what is normalised by,
// gradients through it and moving averages are those of all samples.
TEST(RankThreads, SynchronizedLayersTrainAsTheWholeBatch) {
  auto seeded = [](int64_t seed) {
    Initializer init = "glorot_uniform";
    init.seed = seed;
    return init;
  };
  auto net = [&](bool synchronized) {
    const Sequential m({to_layer(Input({3, 2})),
                        Dense({.units = 4, .kernel_initializer = seeded(1)}),
                        BatchNormalization({.synchronized = synchronized, .activation = "relu"}),
                        Dense({.units = 5, .kernel_initializer = seeded(2)}),
                        BatchNormalization({.synchronized = synchronized,
                                            .renorm = true,
                                            .averages = BatchNormAverages::plain,
                                            .statistics_dtype = "float64"}),
                        Flatten(), Dense({.units = 3, .kernel_initializer = seeded(3)})});
    m.compile({.optimizer = SGD({.learning_rate = 0.2, .momentum = 0.9}), .loss = "mse"});
    return m;
  };
  for (const std::vector<int64_t>& shares : {std::vector<int64_t>{6, 2}, {1, 4, 3}, {8}}) {
    const int ranks = int(shares.size());
    std::vector<Sequential> apart, alone;
    for (int r = 0; r < ranks; ++r) apart.push_back(net(true)), alone.push_back(net(false));
    const Sequential whole = net(false);
    RankThreads group(ranks);
    for (uint64_t step = 0; step < 5; ++step) {
      const Tensor x = drawn({8, 3, 2}, 10 + step) * 2 + 1, y = drawn({8, 3}, 50 + step);
      const Tensors xs = split(x, shares, 0), ys = split(y, shares, 0);
      group.run([&](int r) {
        apart[size_t(r)].train_on_batch(xs[size_t(r)], ys[size_t(r)]);
        alone[size_t(r)].train_on_batch(xs[size_t(r)], ys[size_t(r)]);
      });
      whole.train_on_batch(x, y);
    }
    auto worst = [&](const Sequential& a) {
      double d = 0;
      for (size_t w = 0; w < a.weights().size(); ++w) {
        const auto v = a.weights()[w].variable.read().to_vector<double>(),
                   want = whole.weights()[w].variable.read().to_vector<double>();
        for (size_t i = 0; i < v.size(); ++i) d = std::max(d, std::abs(v[i] - want[i]));
      }
      return d;
    };
    for (const Sequential& a : apart) EXPECT_LT(worst(a), 2e-5) << ranks;
    if (ranks > 1) {
      EXPECT_GT(worst(alone[0]), 1e-2) << ranks;
    }
  }
}
TEST(RankThreads, a_sum_over_ranks_and_its_gradient) {
  RankThreads group(3);
  double sum[3], slope[3];
  group.run([&](int r) {
    const Tensor x = watch(full({}, r + 1.5)), y = all_sum(x * x);
    sum[r] = y.item();
    slope[r] = gradient(y * double(r + 1), std::vector<Wrt>{x})[0].item();
  });
  for (int r = 0; r < 3; ++r) {
    EXPECT_EQ(sum[r], 2.25 + 6.25 + 12.25);
    EXPECT_EQ(slope[r], 2 * (r + 1.5) * (1 + 2 + 3));  // of the losses of all
  }
}
TEST(RankThreads, statistics_are_not_synchronized_in_a_branch) {
  RankThreads group(2);
  std::string said[2];
  group.run([&](int r) {
    auto f = compile([](const Tensor& x, const Tensor& which) {
      return cond(
          which,
          [&]() -> Tensors {
            return {synchronize_statistics({ones({}), x, x}, ones({}))[1]};
          },
          [&]() -> Tensors { return {x}; })[0];
    });
    said[r] = error_of([&] { f(ones({3}), truth(true)); });
  });
  for (auto& s : said) EXPECT_THAT(s, HasSubstr("which not every rank may take"));
}

}  // namespace
}  // namespace evenflow
