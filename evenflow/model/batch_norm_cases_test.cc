// SPDX-License-Identifier: Apache-2.0
// The cases of Keras's batch_normalization_test.py, in meaning; and every option of the layer with
// every other, against statistics in f64.
#include <gmock/gmock.h>

#include <cmath>

#include "evenflow/model/batch_normalization.h"
#include "evenflow/model/layers.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/random.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"

namespace evenflow {
namespace {
using testing::Each;
using testing::ElementsAre;
using testing::FloatNear;
using Averages = BatchNormAverages;

Tensor normal(const Shape& s, double mean, double deviation, int k = 0) {
  return random_normal_like(tensor(std::vector<int64_t>{9, k}, {2}), zeros(s), mean, deviation);
}
Tensor train(const Layer& layer, const Tensor& x, const Tensor& mask = {}) {
  Step s;
  const Tensor y = layer(x, {.training = true, .mask = mask});
  y.data();
  EXPECT_TRUE(s.commit());
  return y;
}
std::vector<float> channels(const Tensor& x, int64_t axis, bool deviation) {
  const Statistics s = batch_norm_statistics(x, {axis});
  return (deviation ? sqrt(s.variance()) : s.mean).to_vector();
}
BatchNormalization keras(BatchNormalizationConfig c) {
  c.averages = Averages::plain;
  return BatchNormalization(c);
}

TEST(BatchNormalizationOfKeras, test_bn_basics) {
  struct {
    BatchNormalizationConfig config;
    Shape shape;
    size_t trainable, others, losses;
  } cases[] = {
      {{}, {2, 3}, 2, 2, 0},
      {{.center = false, .scale = false}, {2, 3}, 0, 2, 0},
      {{.beta_regularizer = {.l2 = .01}, .gamma_regularizer = {.l2 = .01}}, {2, 4, 4, 3}, 2, 2, 2},
      {{.renorm = true}, {2, 3}, 2, 5, 0},
      {{.renorm = true, .renorm_clipping = {.rmax = 3, .rmin = .3, .dmax = 5}}, {2, 3}, 2, 5, 0}};
  for (auto& c : cases) {
    BatchNormalization layer(c.config);
    EXPECT_EQ(train(layer, normal(c.shape, 0, 1)).shape(), c.shape);
    size_t trainable = 0, losses = 0;
    for (auto& w : layer.weights()) trainable += w.trainable, losses += bool(w.regularizer);
    EXPECT_EQ(trainable, c.trainable);
    EXPECT_EQ(layer.weights().size(), c.trainable + c.others);
    EXPECT_EQ(losses, c.losses);
  }
}

TEST(BatchNormalizationOfKeras, test_correctness) {
  for (int64_t axis : {-1, 1})
    for (const Shape& shape : {Shape{5, 2, 3}, Shape{5, 3, 3, 2}})
      for (const char* mean : {"zeros", "ones"})
        for (const char* variance : {"zeros", "ones"}) {
          const BatchNormalization layer = keras({.axis = axis,
                                                  .momentum = 0,
                                                  .moving_mean_initializer = mean,
                                                  .moving_variance_initializer = variance});
          Tensor x = normal(shape, 5, 10), out = x;
          const auto before = layer(x).to_vector();
          EXPECT_NE(before, train(layer, x).to_vector());
          for (int i = 0; i < 3; ++i) out = train(layer, out);
          EXPECT_THAT(channels(out, axis, false), Each(FloatNear(0, 1e-3f)));
          EXPECT_THAT(channels(out, axis, true), Each(FloatNear(1, 1e-3f)));
          EXPECT_THAT(layer.impl().moving_mean.read().to_vector(), Each(FloatNear(0, 1e-3f)));
          EXPECT_THAT(layer.impl().moving_variance.read().to_vector(), Each(FloatNear(1, 1e-2f)));
          // What is masked has no say in inference, and has one in training.
          std::vector<int64_t> extents(shape.begin(), shape.end());
          extents.erase(axis == 1 ? extents.begin() + 1 : extents.end() - 1);
          const Shape places(extents);
          std::vector<float> keep(size_t(places.count()), 1);
          keep[0] = keep[1] = 0;
          const Tensor mask = tensor(keep, places);
          EXPECT_EQ(layer(out, {.mask = mask}).to_vector(), layer(out).to_vector());
          EXPECT_NE(train(layer, out, mask).to_vector(), train(layer, out).to_vector());
        }
}

TEST(BatchNormalizationOfKeras, test_input_fully_masked) {
  EXPECT_THAT(train(BatchNormalization(), zeros({4, 5}), zeros({4})).to_vector(), Each(0));
}

TEST(BatchNormalizationOfKeras, test_bachnorm_ignore_masked_values) {
  for (float padding : {0.f, .1f, 1.f, NAN}) {
    std::vector<float> x, mask;
    for (int i = 0; i < 10; ++i) {
      x.insert(x.end(), {1, 5, 2, 5, padding, padding, padding, padding});
      mask.insert(mask.end(), {1, 1, 0, 0});
    }
    for (Averages a : {Averages::plain, Averages::exponential}) {
      BatchNormalization layer({.momentum = 0, .averages = a});
      for (int epoch = 0; epoch < 5; ++epoch)
        train(layer, tensor(x, {10, 4, 2}), tensor(mask, {10, 4}));
      EXPECT_THAT(layer.impl().moving_mean.read().to_vector(), ElementsAre(1.5, 5));
      EXPECT_THAT(layer.impl().moving_variance.read().to_vector(), ElementsAre(.25, 0));
    }
  }
}

TEST(BatchNormalizationOfKeras, test_trainable_behavior) {
  const BatchNormalization layer = keras({.momentum = .8, .epsilon = 1e-7});
  const Sequential m({to_layer(Input({4, 4, 3})), layer});
  layer.impl().set_trainable(false);
  EXPECT_EQ(m.trainable_weights().size(), 0u);
  EXPECT_EQ(m.non_trainable_weights().size(), 4u);
  const Tensor x = normal({200, 4, 4, 3}, 5, 10);
  const auto y = train(layer, x).to_vector(), in = x.to_vector();
  for (size_t i = 0; i < in.size(); i += 97) EXPECT_NEAR(y[i], in[i], 1e-4);
  layer.impl().set_trainable(true);
  EXPECT_EQ(m.trainable_weights().size(), 2u);
  EXPECT_EQ(m.non_trainable_weights().size(), 2u);
  for (int i = 0; i < 10; ++i) train(layer, x);
  const Tensor out = train(layer, x);
  EXPECT_THAT(channels(out, -1, false), Each(FloatNear(0, 1e-3f)));
  EXPECT_THAT(channels(out, -1, true), Each(FloatNear(1, 1e-3f)));
}

TEST(BatchNormalizationOfKeras, test_large_value_within_autocast_scope) {
  BatchNormalization layer({.dtype = "mixed_float16"});
  layer(zeros({2, 1}));
  layer.impl().moving_variance.assign(full({1}, 70000));
  EXPECT_EQ(layer.impl().moving_variance.read().item(), 70000);
  EXPECT_NEAR(layer(full({1, 1}, 1000)).item(), 1000 / std::sqrt(70000.), .01);
}

TEST(BatchNormalizationOfKeras, test_masked_broadcast_normalization) {
  BatchNormalization layer;
  EXPECT_THAT(train(layer, ones({1, 2, 3, 4}), ones({1, 2, 1})).to_vector(),
              Each(FloatNear(0, 1e-6f)));
  EXPECT_THAT(layer.impl().moving_mean.read().to_vector(), Each(FloatNear(1, 1e-6f)));
  EXPECT_THAT(layer.impl().moving_variance.read().to_vector(), Each(FloatNear(0, 1e-6f)));
}

TEST(BatchNormalizationOfKeras, test_renorm_inference) {
  const BatchNormalization renorm = keras({.renorm = true}), plain = keras({});
  const Tensor x = normal({8, 3}, 2, 3);
  renorm(x), plain(x);
  for (const BatchNormalization& l : {renorm, plain}) {
    l.impl().moving_mean.assign(full({3}, 2)), l.impl().moving_variance.assign(full({3}, 7));
  }
  EXPECT_EQ(renorm(x).to_vector(), plain(x).to_vector());
}

TEST(BatchNormalizationOfKeras, test_invalid_momentum) {
  for (double m : {-.1, 1.5}) EXPECT_THROW(BatchNormalization({.momentum = m}), Error);
  for (double m : {0., 1.}) EXPECT_NO_THROW(BatchNormalization({.momentum = m}));
}

// ---- everything with everything ----
// Sums of weight, of what it weighs, and of squared deviations, of each channel, in f64.
struct Sums {
  double n = 0, mean = 0, m2 = 0;
};
TEST(BatchNormalizationOptions, AllCombineAndTheMovingStatisticsAreThoseOfTheDefinition) {
  const Shape shape{6, 2, 3};
  int combinations = 0;
  for (int bits = 0; bits < 512; ++bits) {
    const bool mask = bits & 1, weights = bits & 2, ghosts = bits & 4, renorm = bits & 8,
               noise = bits & 16, wide = bits & 32, sample = bits & 64, first = bits & 128,
               twice = bits & 256;
    for (const char* policy : {"float32", "mixed_bfloat16", "float64"}) {
      SCOPED_TRACE(concat({bits, " ", policy}));
      BatchNormalizationConfig c{.averages = Averages::precise, .dtype = policy};
      c.axis = first ? ChannelAxes{1, 2} : ChannelAxes(-1);
      c.renorm = renorm, c.virtual_batch_size = ghosts ? 4 : 0;
      if (noise) c.adjustment = BatchNormAdjustment{.9, 1.1, -.1, .1};
      if (wide) c.statistics_dtype = "float64";
      if (sample) c.variance = BatchNormVariance::sample;
      BatchNormalization layer(c);
      const int64_t many = first ? 6 : 3;
      std::vector<Sums> want(static_cast<size_t>(many));
      const Tensor x = cast(cast(normal(shape, 3, 2), DType::bf16), DType::f32);
      std::vector<double> of_sample{1, 2, 0, .5, 1, 3};
      std::vector<float> keep = first ? std::vector<float>{1, 0, 1, 1, 1, 0}
                                      : std::vector<float>{1, 0, 1, 1, 0, 1, 1, 1, 1, 0, 1, 1};
      const auto v = x.to_vector<double>();
      auto weight = [&](size_t i) {
        return (mask ? keep[first ? i / 6 : i / 3] : 1.) * (weights ? of_sample[i / 6] : 1.);
      };
      for (size_t i = 0; i < v.size(); ++i) {
        Sums& s = want[i % size_t(many)];
        s.n += weight(i), s.mean += weight(i) * v[i];
      }
      for (Sums& s : want) s.mean /= s.n;
      for (size_t i = 0; i < v.size(); ++i) {
        Sums& s = want[i % size_t(many)];
        s.m2 += weight(i) * (v[i] - s.mean) * (v[i] - s.mean);
      }
      CallContext context{.training = true};
      if (mask) context.mask = first ? tensor(keep, {6}) : tensor(keep, {6, 2});
      if (weights) context.sample_weight = tensor(of_sample, {6});
      Step step;
      Tensor y = layer(x, context);
      if (twice) y = layer(x, context);
      EXPECT_TRUE(reduce_all(is_finite(y)).item());
      EXPECT_TRUE(step.commit());
      EXPECT_EQ(layer.impl().update_count.read().item(), 1);
      EXPECT_EQ(layer.impl().rejected_count.read().item(), 0);
      const auto mean = layer.impl().moving_mean.read().to_vector<double>(),
                 variance = layer.impl().moving_variance.read().to_vector<double>();
      for (size_t i = 0; i < want.size(); ++i) {
        const double n = want[i].n * (twice ? 2 : 1), m2 = want[i].m2 * (twice ? 2 : 1);
        EXPECT_NEAR(mean[i], want[i].mean, 2e-6);
        EXPECT_NEAR(variance[i], sample ? m2 / std::max(n - 1, 1.) : m2 / n, 1e-5);
      }
      EXPECT_TRUE(reduce_all(is_finite(layer(x))).item());
      ++combinations;
    }
  }
  EXPECT_EQ(combinations, 1536);
}

}  // namespace
}  // namespace evenflow
