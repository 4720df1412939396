// SPDX-License-Identifier: Apache-2.0
// Threads of one process as ranks: they merge at pool(), and equal micro-batches bit for bit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <cstring>
#include <limits>
#include <mutex>
#include <thread>

#include "evenflow/core/communicator.h"
#include "evenflow/model/batch_normalization.h"
#include "evenflow/ops/shape.h"
#include "tests/pooled_net.h"

namespace evenflow {
namespace {
using engine::bits, engine::drawn, engine::error_of, engine::fault, engine::truth;
using engine::labels, engine::PooledNet;
using testing::HasSubstr;

class Ranks {
 public:
  explicit Ranks(int n) : parts_(size_t(n)) {}
  /// Runs f(rank) on a thread for each rank. One that fails makes the others' gathers fail.
  template <class F>
  void run(F f) {
    std::vector<std::thread> all;
    for (size_t r = 0; r < parts_.size(); ++r)
      all.emplace_back([&, r] {
        Rank mine(*this, int(r));
        Communicator::current() = &mine;
        try {
          f(int(r));
        } catch (...) {
          abort();
          Communicator::current() = nullptr;
          return;
        }
        Communicator::current() = nullptr;
      });
    for (auto& t : all) t.join();
  }
  void abort() {
    std::lock_guard l(mutex_);
    aborted_ = true;
    moved_.notify_all();
  }

 private:
  struct Rank : Communicator {
    Ranks& group;
    int me;
    Rank(Ranks& g, int r) : group(g), me(r) {}
    int rank() const override { return me; }
    int size() const override { return int(group.parts_.size()); }
    void all_gather(const void* in, void* out, int64_t bytes) override {
      group.parts_[size_t(me)] = in;
      group.meet();
      for (size_t r = 0; r < group.parts_.size(); ++r)
        std::memcpy(static_cast<char*>(out) + int64_t(r) * bytes, group.parts_[r], size_t(bytes));
      group.meet();
    }
  };
  void meet() {
    std::unique_lock l(mutex_);
    const int round = round_;
    if (++here_ == int(parts_.size())) {
      here_ = 0, ++round_;
      moved_.notify_all();
    } else {
      moved_.wait(l, [&] { return round_ != round || aborted_; });
    }
    if (aborted_) fail(Code::FailedPrecondition, {"another rank has failed"});
  }
  std::mutex mutex_;
  std::condition_variable moved_;
  std::vector<const void*> parts_;
  int here_ = 0, round_ = 0;
  bool aborted_ = false;
};

TEST(RankThreads, equal_micro_batches_bit_for_bit) {
  for (int n : {2, 3}) {
    PooledNet micro;
    std::vector<PooledNet> nets(static_cast<size_t>(n));
    auto batch = [](int step, int rank) {
      const int64_t rows = rank == 1 ? 3 : 6;
      return std::pair{drawn({rows, 4}, uint64_t(10 * step + rank)), labels(rows)};
    };
    Ranks group(n);
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
  Ranks group(2);
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
  Ranks group(2);
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
  Ranks group(2);
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
  Ranks group(2);
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
  Ranks group(2);
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
    Ranks(4).run([&](int r) {
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

}  // namespace
}  // namespace evenflow
