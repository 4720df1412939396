// SPDX-License-Identifier: Apache-2.0
#include "evenflow/train/memory.h"

#include <gtest/gtest.h>

#include "evenflow/model/batch_normalization.h"
#include "evenflow/model/layers.h"
#include "evenflow/train/train.h"

namespace evenflow {
namespace {
SymbolicTensor block(const SymbolicTensor& x, int64_t filters) {
  auto y = Conv2D({.filters = filters, .kernel_size = 3, .padding = "same", .use_bias = false})(x);
  return LeakyReLU({.negative_slope = 0.1})(BatchNormalization()(y));
}
Model net() {
  auto in = Input({16, 16, 3});
  auto x = in;
  for (int i = 0; i < 4; ++i) x = block(x, 16);
  return Model(in, Dense({.units = 10})(GlobalAveragePooling2D()(x)));
}
TEST(TrainingMemory, ListsEachChoiceAndLeavesTheModelAlone) {
  set_random_seed(1);
  const Model m = net();
  std::vector<std::vector<double>> before;
  for (auto& w : m.weights()) before.push_back(w.variable.read().to_vector<double>());
  const Passes passes = default_passes();
  set_default_passes(Passes::all);  // they make the choices differ
  const auto uses = training_memory(m, 8);
  set_default_passes(passes);
  ASSERT_EQ(uses.size(), 5u);
  auto bytes = [&](Activations a) {
    for (auto& u : uses)
      if (u.choice == a) return u.arena_bytes;
    return int64_t(0);
  };
  EXPECT_GT(bytes(Activations::keep), 0);
  EXPECT_LT(bytes(Activations::in_place), bytes(Activations::keep));
  EXPECT_LE(bytes(Activations::recompute), bytes(Activations::keep));
  size_t i = 0;
  for (auto& w : m.weights()) EXPECT_EQ(w.variable.read().to_vector<double>(), before[i++]);
  EXPECT_THROW(training_memory(m, 0), Error);
  EXPECT_THROW(parse_activations("some"), Error);
  for (auto& u : uses) EXPECT_EQ(parse_activations(str(u.choice)), u.choice);
}

struct Trained {
  std::vector<double> weights, losses;
};
Trained trained(CompileModelOptions options, const Tensor& x, const Tensor& y, int64_t steps) {
  set_random_seed(7);
  const Model m = net();
  options.optimizer = SGD({.learning_rate = 0.05, .momentum = 0.9});
  options.loss = SparseCategoricalCrossentropy({.from_logits = true});
  m.compile(options);
  Trained r;
  for (int64_t i = 0; i < steps; ++i) r.losses.push_back(m.train_on_batch(x, y).at("loss"));
  for (auto& w : m.weights())
    for (double v : w.variable.read().to_vector<double>()) r.weights.push_back(v);
  return r;
}
double distance(const Trained& a, const Trained& b) {
  double most = 0;
  for (size_t i = 0; i < a.weights.size(); ++i)
    most = std::max(most, std::abs(a.weights[i] - b.weights[i]));
  return most;
}
Tensor images(int64_t n) {
  const Shape s{n, 16, 16, 3};
  return tensor(Initializer("RandomNormal", 0, 1)(s, 3), s);
}
Tensor labels(int64_t n) {
  std::vector<int64_t> v;
  for (int64_t i = 0; i < n; ++i) v.push_back(i % 10);
  return tensor(v, {n});
}
// pytorch#46516, keras#16633: what accumulation does to batch norm.
TEST(MicroBatches, Thread7ExactOnesAreTheBigBatch) {
  const Tensor x = images(22), y = labels(22);
  const Trained whole = trained({}, x, y, 5),
                exact = trained({.micro_batch_size = 4, .exact_micro_batches = true}, x, y, 5);
  EXPECT_LT(distance(whole, exact), 1e-4);
  for (size_t i = 0; i < whole.losses.size(); ++i)
    EXPECT_NEAR(whole.losses[i], exact.losses[i], 1e-4);
}
TEST(MicroBatches, Thread7PooledOnesUpdateTheStatisticsOnceByThoseOfTheBigBatch) {
  const Tensor x = images(22), y = labels(22);
  set_random_seed(7);
  auto first_norm = [&](int64_t micro) {
    set_random_seed(7);
    const Model m = net();
    m.compile({.optimizer = SGD({.learning_rate = 0}),
               .loss = SparseCategoricalCrossentropy({.from_logits = true}),
               .micro_batch_size = micro});
    m.train_on_batch(x, y);
    for (auto& l : m.layers())
      if (auto* b = dynamic_cast<BatchNormalizationImpl*>(l.impl().get())) {
        EXPECT_EQ(b->update_count.read().item(), 1);
        auto v = b->moving_mean.read().to_vector<double>();
        for (double u : b->moving_variance.read().to_vector<double>()) v.push_back(u);
        return v;
      }
    return std::vector<double>();
  };
  // Of the first layer, whose input does not depend on another batch norm.
  const auto whole = first_norm(0), pooled = first_norm(5);
  ASSERT_EQ(whole.size(), pooled.size());
  for (size_t i = 0; i < whole.size(); ++i)
    EXPECT_NEAR(pooled[i], whole[i], 1e-5 * std::max(1.0, std::abs(whole[i])));
}
// Without batch norm micro-batches are the batch, whatever their size.
TEST(MicroBatches, PooledGradientsAreThoseOfTheBatch) {
  const Tensor x = images(22), y = labels(22);
  auto weights = [&](int64_t micro) {
    set_random_seed(7);
    auto in = Input({16, 16, 3});
    const Model m(in, Dense({.units = 10})(Flatten()(in)));
    m.compile({.optimizer = SGD({.learning_rate = 0.01, .momentum = 0.9}),
               .loss = SparseCategoricalCrossentropy({.from_logits = true}),
               .metrics = {"accuracy"},
               .micro_batch_size = micro});
    std::vector<double> v;
    for (int i = 0; i < 4; ++i) {
      const Logs logs = m.train_on_batch(x, y);
      v.push_back(logs.at("loss")), v.push_back(logs.at("accuracy"));
    }
    m.fit(x, y, {.batch_size = 12, .epochs = 2, .verbose = 0, .shuffle = false});  // 12 and 10
    for (auto& w : m.weights())
      for (double u : w.variable.read().to_vector<double>()) v.push_back(u);
    return v;
  };
  const auto whole = weights(0);
  for (int64_t micro : {1, 5, 11, 30}) {
    const auto parts = weights(micro);
    ASSERT_EQ(parts.size(), whole.size());
    for (size_t i = 0; i < whole.size(); ++i) EXPECT_NEAR(parts[i], whole[i], 2e-5) << micro;
  }
}
TEST(MicroBatches, RefusesWhatIsNoSize) {
  const Model m = net();
  EXPECT_THROW(m.compile({.loss = "mse", .micro_batch_size = -1}), Error);
  EXPECT_THROW(m.compile({.loss = "mse", .exact_micro_batches = true}), Error);
}

}  // namespace
}  // namespace evenflow
