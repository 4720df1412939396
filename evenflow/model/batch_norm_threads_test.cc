// SPDX-License-Identifier: Apache-2.0
// What users of other systems report of batch normalisation's state, each as a test with the number
// of the report: none of it happens here.
#include <gmock/gmock.h>

#include <cmath>

#include "evenflow/graph/compile.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/model/batch_normalization.h"
#include "evenflow/model/export.h"
#include "evenflow/model/layers.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/pool.h"
#include "evenflow/ops/random.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"

namespace evenflow {
namespace {
using testing::DoubleNear;
using testing::ElementsAre;
using testing::Pointwise;
using Averages = BatchNormAverages;
constexpr Averages kAll[] = {Averages::exponential, Averages::plain, Averages::cumulative,
                             Averages::window, Averages::precise};

// Normal numbers about a mean, another draw for each k: [rows, 3].
Tensor x(int k, int64_t rows = 8, double mean = 2) {
  return random_normal_like(tensor(std::vector<int64_t>{5, k}, {2}), zeros({rows, 3}), mean, 1.5);
}
bool train(const Layer& layer, const Tensor& t, CallContext context = {.training = true}) {
  Step s;
  layer(t, context);
  return s.commit();
}
// All weights and extra state, as they are: to be compared bit for bit.
std::vector<std::vector<double>> state(const BatchNormalization& layer, bool rejected = true) {
  std::vector<std::vector<double>> r;
  for (auto& w : layer.weights()) r.push_back(w.variable.read().to_vector<double>());
  for (auto& w : layer.impl().extra_state())
    if (rejected || w.name != "rejected_count") r.push_back(w.variable.read().to_vector<double>());
  return r;
}
struct Moments64 {
  std::vector<double> mean, variance;
};
Moments64 moments64(const Tensor& t) {  // population
  const auto v = t.to_vector<double>();
  const size_t c = size_t(t.shape().dim(-1)), n = v.size() / c;
  Moments64 r{std::vector<double>(c), std::vector<double>(c)};
  for (size_t i = 0; i < v.size(); ++i) r.mean[i % c] += v[i] / double(n);
  for (size_t i = 0; i < v.size(); ++i)
    r.variance[i % c] += (v[i] - r.mean[i % c]) * (v[i] - r.mean[i % c]) / double(n);
  return r;
}
void expect_moving(const BatchNormalization& layer, const Moments64& want) {
  EXPECT_THAT(layer.impl().moving_mean.read().to_vector<double>(),
              Pointwise(DoubleNear(2e-6), want.mean));
  EXPECT_THAT(layer.impl().moving_variance.read().to_vector<double>(),
              Pointwise(DoubleNear(5e-6), want.variance));
}

// Loss of fit() and evaluate() on the same batch, far apart: averages still hold what they began
// with.
TEST(BatchNormalizationThreads, Thread1Keras7265InferenceAgreesAfterOneStep) {
  BatchNormalization layer, keras({.averages = Averages::plain});
  auto distance = [&](const BatchNormalization& l) {
    Step s;
    const auto trained = l(x(0), {.training = true}).to_vector<double>();
    s.commit();
    const auto after = l(x(0)).to_vector<double>();
    double d = 0;
    for (size_t i = 0; i < after.size(); ++i) d = std::max(d, std::abs(after[i] - trained[i]));
    return d;
  };
  EXPECT_LT(distance(layer), 2e-6);
  EXPECT_GT(distance(keras), .5);
}

TEST(BatchNormalizationThreads, Thread2Keras9965FrozenSaysWhatItFreezes) {
  const BatchNormalization a({.name = "a"});
  const Sequential m({to_layer(Input({3})), a});
  train(a, x(0));
  const auto before = state(a);
  auto trained = [&] { return m.trainable_weights().size(); };
  a.set_mode(BatchNormMode::frozen_statistics);  // like Keras's in 2017: gamma and beta train
  EXPECT_EQ(trained(), 2u);
  train(a, x(1));
  a.set_mode(BatchNormMode::frozen);
  EXPECT_EQ(trained(), 0u);
  train(a, x(1));
  a.set_mode(BatchNormMode::train);
  m.get_layer("a").impl()->set_trainable(false);  // like Keras's since
  EXPECT_EQ(trained(), 0u);
  train(a, x(1));
  EXPECT_EQ(state(a), before);
}

TEST(BatchNormalizationThreads, Thread3TensorFlow11965ALoopOfOnesOwnUpdates) {
  BatchNormalization layer;
  layer(x(0));
  auto step = compile([&](const Tensor& t) {
    const Tensor loss = reduce_sum(square(layer(t, {.training = true})));
    layer.impl().gamma.assign_sub(gradient(loss, std::vector<Wrt>{layer.impl().gamma})[0] * .001);
    return loss;
  });
  for (int k = 0; k < 3; ++k) step(x(k));
  EXPECT_EQ(layer.impl().update_count.read().item(), 3);
}

// n / (n - 1) of one value is infinite: NaN on one device, a number on another.
TEST(BatchNormalizationThreads, Thread4TensorFlow34062OneValueAChannel) {
  for (BatchNormVariance v : {BatchNormVariance::population, BatchNormVariance::sample})
    for (Averages a : kAll) {
      BatchNormalization layer({.renorm = true, .averages = a, .variance = v});
      for (int k = 0; k < 3; ++k) train(layer, x(k, 1));
      EXPECT_EQ(layer.impl().rejected_count.read().item(), 0);
      EXPECT_EQ(layer.impl().update_count.read().item(), 3);
      for (auto& values : state(layer))
        for (double y : values) EXPECT_TRUE(std::isfinite(y)) << name_of(a);
    }
}

// One overflowed batch poisons the running mean for ever, and the scaler skips only the weights.
TEST(BatchNormalizationThreads, Thread5PyTorch88474OverflowLeavesStatistics) {
  for (const char* policy : {"mixed_float16", "mixed_bfloat16", "float32", "float64"})
    for (Averages a : kAll)
      for (double bad : {70000., 3e38, HUGE_VAL, std::nan("")}) {
        if (bad == 70000 && std::string_view(policy) != "mixed_float16") continue;
        if (bad == 3e38 && std::string_view(policy) == "float64") continue;
        SCOPED_TRACE(concat({policy, " ", name_of(a), " ", bad}));
        BatchNormalization layer({.renorm = true, .averages = a, .dtype = policy});
        for (int k = 0; k < 2; ++k) train(layer, x(k));
        const auto before = state(layer, false);
        auto values = x(2).to_vector();
        values[4] = float(bad), values[7] = -float(bad);
        const Tensor batch = tensor(values, {8, 3});
        EXPECT_TRUE(train(layer, batch));  // a bare step, without a predicate
        EXPECT_EQ(state(layer, false), before);
        EXPECT_EQ(layer.impl().rejected_count.read().item(), 1);
        {  // a step that is skipped for it counts too
          Step s;
          layer(batch, {.training = true});
          require(tensor(std::vector<bool>{false}, {}));
          EXPECT_FALSE(s.commit());
        }
        EXPECT_EQ(state(layer, false), before);
        EXPECT_EQ(layer.impl().rejected_count.read().item(), 2);
        train(layer, x(3));
        EXPECT_EQ(layer.impl().update_count.read().item(), 3);
      }
  BatchNormalization layer;
  layer(x(0));
  auto step = compile([&](const Tensor& t) { return layer(t, {.training = true}); });
  step(x(0));
  const auto before = state(layer, false);
  step(x(1) / 0.);
  EXPECT_EQ(state(layer, false), before);
  EXPECT_EQ(layer.impl().rejected_count.read().item(), 1);
  // Weights that are not finite or negative are no statistics either.
  for (float w : {NAN, INFINITY, -5.f})
    train(layer, x(1),
          {.training = true,
           .sample_weight = tensor(std::vector<float>{w, 1, 1, 1, 1, 1, 1, 1}, {8})});
  for (auto& values : state(layer))
    for (double y : values) EXPECT_TRUE(std::isfinite(y));
}

// A forward pass that is repeated for its gradient updates twice.
TEST(BatchNormalizationThreads, Thread6PyTorch96136TheSamePassTwiceIsOneUpdate) {
  for (Averages a : {Averages::exponential, Averages::cumulative, Averages::window})
    for (bool renorm : {false, true}) {
      BatchNormalization once({.renorm = renorm, .averages = a}),
          twice({.renorm = renorm, .averages = a});
      for (int k = 0; k < 3; ++k) {
        train(once, x(k));
        Step s;
        const Tensor t = x(k);
        EXPECT_EQ(twice(t, {.training = true}).to_vector(),
                  twice(t, {.training = true}).to_vector());
        s.commit();
      }
      EXPECT_EQ(twice.impl().update_count.read().item(), 3);
      for (size_t i = 0; i < once.weights().size(); ++i)
        EXPECT_EQ(once.weights()[i].variable.read().to_vector(),
                  twice.weights()[i].variable.read().to_vector())
            << name_of(a) << " " << once.weights()[i].name;
    }
}

// Gradient accumulation updates k times, each time by a part of the batch.
TEST(BatchNormalizationThreads, Thread7PyTorch46516MicroBatchesMakeOneUpdate) {
  for (int i = 0; i < 6; ++i) {
    const Averages a = i < 5 ? kAll[i] : Averages::exponential;
    if (a == Averages::plain) continue;
    SCOPED_TRACE(concat({name_of(a), " ", i}));
    BatchNormalization layer({.averages = a, .statistics_dtype = i < 5 ? "float32" : "float64"});
    layer(x(0));
    auto step = compile(
        [&](const Tensor& t) {
          const Tensor y = layer(t, {.training = true});
          pool(Pooled::mean, {count_like(t, reduce_mean(t)), reduce_mean(t)});
          return y;
        },
        {.micro_batches = 3});
    const Tensors parts = split(x(0, 9), {4, 3, 2}, 0);
    for (auto& p : parts) step(p);
    EXPECT_EQ(layer.impl().update_count.read().item(), 1);
    expect_moving(layer, moments64(x(0, 9)));
    // One bad part is left out, and counted; the others make the update.
    layer.impl().reset_statistics();
    step(x(1, 4)), step(x(1, 4) / 0.), step(x(2, 2));
    EXPECT_EQ(layer.impl().rejected_count.read().item(), 1);
    EXPECT_EQ(layer.impl().update_count.read().item(), 1);
    expect_moving(layer, moments64(evenflow::concat({x(1, 4), x(2, 2)}, 0)));
  }
}

// Two passes and one backward pass fail, since the buffers were written in between.
TEST(BatchNormalizationThreads, Thread8PyTorch175024TwoPassesAndOneGradient) {
  auto gradients = [](const std::vector<Tensor>& batches) {
    BatchNormalization layer;
    layer(x(0));
    Step s;
    Tensor loss;
    for (auto& b : batches) {
      const Tensor y = layer(b, {.training = true}), one = reduce_sum(y * y * y);
      loss = loss ? loss + one : one;
    }
    const Tensors g = gradient(loss, {layer.impl().gamma, layer.impl().beta});
    const std::vector<std::vector<double>> r{g[0].to_vector<double>(), g[1].to_vector<double>()};
    EXPECT_TRUE(s.commit());
    return r;
  };
  const auto both = gradients({x(0), x(1)}), first = gradients({x(0)}), second = gradients({x(1)});
  for (size_t i = 0; i < 2; ++i)
    for (size_t c = 0; c < 3; ++c) EXPECT_NEAR(both[i][c], first[i][c] + second[i][c], 1e-4);
}

TEST(BatchNormalizationThreads, Thread8TwoCallsOfAStepAreOneUpdateOrTwoAsKeras) {
  for (Averages a : kAll) {
    SCOPED_TRACE(name_of(a));
    BatchNormalization layer({.momentum = .5, .averages = a});
    layer(x(0));
    auto step = compile([&](const Tensor& r, const Tensor& f) {
      return Tensors{layer(r, {.training = true}), layer(f, {.training = true})};
    });
    step(x(0, 6), x(1, 2));
    if (a != Averages::plain) {
      EXPECT_EQ(layer.impl().update_count.read().item(), 1);
      expect_moving(layer, moments64(evenflow::concat({x(0, 6), x(1, 2)}, 0)));
      continue;
    }
    EXPECT_EQ(layer.impl().update_count.read().item(), 2);
    const Moments64 r = moments64(x(0, 6)), f = moments64(x(1, 2));
    Moments64 want;
    for (size_t c = 0; c < 3; ++c) {
      want.mean.push_back(.25 * r.mean[c] + .5 * f.mean[c]);
      want.variance.push_back(.25 + .25 * r.variance[c] + .5 * f.variance[c]);
    }
    expect_moving(layer, want);
  }
}

// What somebody writes between two calls is what the second one starts from.
TEST(BatchNormalizationThreads, AnAssignmentBetweenTwoCallsCounts) {
  BatchNormalization layer({.momentum = .5});
  train(layer, x(0));
  Step s;
  layer(x(1), {.training = true});
  layer.impl().moving_mean.assign(zeros({3}));
  layer(x(2), {.training = true});
  s.commit();
  // The third update: rate .5 / (1 - .5^3).
  const Moments64 m = moments64(x(2));
  for (size_t c = 0; c < 3; ++c)
    EXPECT_NEAR(layer.impl().moving_mean.read().to_vector<double>()[c], m.mean[c] * .5 / .875,
                2e-6);
}

// Counts that differ (flax#2417), and a last batch of nothing (tensorflow#52986).
TEST(BatchNormalizationThreads, Thread10Flax2417CountsWeighAndNothingIsNeutral) {
  BatchNormalization layer({.averages = Averages::precise});
  for (int64_t rows : {7, 1, 0, 4}) train(layer, x(0, 12), {}), train(layer, x(int(rows), rows));
  expect_moving(layer, moments64(evenflow::concat({x(7, 7), x(1, 1), x(4, 4)}, 0)));
  EXPECT_EQ(layer.impl().update_count.read().item(), 3);
}

TEST(BatchNormalizationThreads, Thread12Flax1491ALargeMeanMakesNoNegativeVariance) {
  for (Averages a : kAll) {
    BatchNormalization layer({.momentum = 0, .averages = a});
    for (int k = 0; k < 3; ++k) train(layer, x(k, 64, 1e6));
    for (double v : layer.impl().moving_variance.read().to_vector<double>())
      EXPECT_NEAR(v, 2.25, 1.2) << name_of(a);
  }
}

TEST(BatchNormalizationThreads, Thread13PyTorch19902WhichVarianceIsNamed) {
  BatchNormalization keras, torch({.variance = BatchNormVariance::sample});
  for (const BatchNormalization& l : {keras, torch}) train(l, x(0, 5));
  Moments64 m = moments64(x(0, 5));
  expect_moving(keras, m);
  for (double& v : m.variance) v *= 5. / 4;
  expect_moving(torch, m);
}

// Exporting changes a model's mode, or cannot keep one.
TEST(BatchNormalizationThreads, Thread14PyTorch49226ExportLeavesTheMode) {
  const BatchNormalization a({.name = "a"}), b({.mode = BatchNormMode::frozen, .name = "b"});
  const Sequential m({to_layer(Input({3})), a, b});
  {
    Step s;
    m(x(0), {.training = true});
    s.commit();
  }
  const auto before = state(a);
  inference_function(m);
  m.save(testing::TempDir() + "modes.keras");
  EXPECT_EQ(a.mode(), BatchNormMode::train);
  EXPECT_EQ(b.mode(), BatchNormMode::frozen);
  EXPECT_EQ(state(a), before);
}

TEST(BatchNormalizationThreads, ARestoredCheckpointRollsStatisticsBack) {
  const std::string path = testing::TempDir() + "rollback.keras";
  for (Averages a : kAll) {
    const BatchNormalization layer({.renorm = true, .averages = a, .name = "bn"});
    const Sequential m({to_layer(Input({3})), layer});
    for (int k = 0; k < 3; ++k) train(layer, x(k));
    const auto then = state(layer);
    m.save(path);
    for (int k = 3; k < 5; ++k) train(layer, x(k));
    train(layer, x(0) / 0.);
    const auto later = state(layer);
    EXPECT_NE(later, then);
    const Model back = load_model(path);
    BatchNormalization again;
    static_cast<Layer&>(again) = back.get_layer("bn");
    EXPECT_EQ(state(again), then) << name_of(a);
    for (int k = 3; k < 5; ++k) train(again, x(k));
    train(again, x(0) / 0.);
    EXPECT_EQ(state(again), later) << name_of(a);
  }
}

}  // namespace
}  // namespace evenflow
