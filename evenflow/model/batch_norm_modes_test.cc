// SPDX-License-Identifier: Apache-2.0
// Modes and policies of the layer: what is used, what is updated, what is held, what a file keeps.
#include <gmock/gmock.h>

#include <cmath>

#include "evenflow/format/json.h"
#include "evenflow/format/zip.h"
#include "evenflow/graph/compile.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/model/batch_normalization.h"
#include "evenflow/model/layers.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"

namespace evenflow {
namespace {
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pointwise;
using Mode = BatchNormMode;
using Averages = BatchNormAverages;

std::string temporary(const char* name) { return testing::TempDir() + name; }
Tensor batch(int k, int64_t rows = 4) {  // another distribution for each k
  return cast(arange(rows * 2), DType::f32) * (1.0 + k) - 3.0 * k;
}
Tensor x(int k, int64_t rows = 4) { return reshape(batch(k, rows), {rows, 2}); }
void train(const Layer& layer, const Tensor& t, CallContext context = {.training = true}) {
  Step s;
  layer(t, context);
  ASSERT_TRUE(s.commit());
}
std::vector<std::string> names(const std::vector<Weight>& weights) {
  std::vector<std::string> r;
  for (auto& w : weights) r.push_back(w.name);
  return r;
}
std::string why(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}
bool same(const Tensor& a, const Tensor& b) {
  return a.to_vector<double>() == b.to_vector<double>();
}
// n, mean and M2 of some values, in f64.
struct Sums {
  double n = 0, mean = 0, m2 = 0;
  explicit Sums(const std::vector<double>& v) : n(double(v.size())) {
    for (double y : v) mean += y / n;
    for (double y : v) m2 += (y - mean) * (y - mean);
  }
};
std::vector<double> column(const Tensor& t, int c) {
  std::vector<double> r;
  const auto v = t.to_vector<double>();
  for (size_t i = size_t(c); i < v.size(); i += 2) r.push_back(v[i]);
  return r;
}

TEST(BatchNormalizationModes, SayWhichStatisticsAreUsedAndWhichChange) {
  struct {
    Mode mode;
    bool trainable, batch_in_training, batch_at_inference, updates, held;
  } cases[] = {{Mode::train, true, true, false, true, false},
               {Mode::eval, true, false, false, false, true},
               {Mode::frozen_statistics, true, false, false, false, false},
               {Mode::frozen, true, false, false, false, true},
               {Mode::batch_only, true, true, true, false, false},
               {Mode::train, false, false, false, false, true},
               {Mode::frozen_statistics, false, false, false, false, true},
               {Mode::batch_only, false, true, true, false, true}};
  for (auto& c : cases) {
    SCOPED_TRACE(concat({name_of(c.mode), " ", c.trainable}));
    BatchNormalization layer;
    train(layer, x(0));  // averages that are not those of a batch to come
    layer.set_mode(c.mode), layer.set_trainable(c.trainable);
    const BatchNormalizationImpl& l = layer.impl();
    const std::vector<Tensor> before{l.moving_mean, l.moving_variance, l.update_count};
    auto by = [&](const Tensor& mean, const Tensor& variance) {
      return batch_normalize(x(1), mean, variance, l.gamma, l.beta);
    };
    const Statistics s = batch_norm_statistics(x(1));
    const Tensor moving = by(l.moving_mean, l.moving_variance), of_batch = by(s.mean, s.variance());
    EXPECT_TRUE(same(layer(x(1)), c.batch_at_inference ? of_batch : moving));
    {
      Step step;
      EXPECT_TRUE(same(layer(x(1), {.training = true}), c.batch_in_training ? of_batch : moving));
      step.commit();
    }
    EXPECT_EQ(same(l.moving_mean, before[0]), !c.updates);
    EXPECT_EQ(same(l.moving_variance, before[1]), !c.updates);
    EXPECT_EQ(same(l.update_count, before[2]), !c.updates);
    const Sequential model({to_layer(Input({2})), layer});
    EXPECT_EQ(names(model.trainable_weights()),
              c.held ? std::vector<std::string>{} : std::vector<std::string>({"gamma", "beta"}));
    EXPECT_EQ(names(model.weights()),  // whatever is held, a file has one order
              (std::vector<std::string>{"gamma", "beta", "moving_mean", "moving_variance"}));
    EXPECT_THAT(model.summary(), HasSubstr("[" + std::string(name_of(c.mode)) + "/exponential]"));
  }
}

TEST(BatchNormalizationModes, FrozenStatisticsPassGradientsToGammaAndBeta) {
  BatchNormalization layer({.mode = Mode::frozen_statistics});
  layer(x(0));
  Step step;
  const Tensor in = watch(x(1)), y = layer(in, {.training = true});
  const Tensors g = gradient({y}, {ones({4, 2})}, {in, layer.impl().gamma, layer.impl().beta});
  // Moving mean 0 and variance 1: dx = gamma r, dgamma = r sum x, dbeta = n.
  const double r = 1 / std::sqrt(1.001);
  EXPECT_THAT(g[0].to_vector<double>(), testing::Each(testing::DoubleNear(r, 1e-6)));
  EXPECT_NEAR(g[1].to_vector<double>()[0], r * (-3 + 1 + 5 + 9), 1e-5);
  EXPECT_THAT(g[2].to_vector(), ElementsAre(4, 4));
}

TEST(BatchNormalizationModes, AChangedModeTracesACompiledStepAgain) {
  BatchNormalization layer;
  layer(x(0));
  auto step = compile([&](const Tensor& t) { return layer(t, {.training = true}); });
  step(x(0));
  EXPECT_EQ(layer.impl().update_count.read().item(), 1);
  layer.set_mode(Mode::frozen);
  const Tensor y = step(x(1));
  EXPECT_EQ(layer.impl().update_count.read().item(), 1);
  EXPECT_TRUE(same(y, layer(x(1))));
  layer.set_mode(Mode::train);
  step(x(1));
  EXPECT_EQ(layer.impl().update_count.read().item(), 2);
  EXPECT_EQ(step.function().traces(), 2);
}

TEST(BatchNormalizationModes, AreSetByPrefixAlsoInModelsWithin) {
  const Sequential inner({BatchNormalization({.name = "a"}), BatchNormalization({.name = "b"})},
                         "inner");
  const Sequential model(
      {to_layer(Input({2})), BatchNormalization({.name = "a"}), to_layer(inner)});
  EXPECT_EQ(set_batch_norm_mode(model, Mode::frozen, "inner/"), 2);
  EXPECT_EQ(model.trainable_weights().size(), 2u);
  EXPECT_EQ(set_batch_norm_mode(model, Mode::frozen_statistics), 3);
  EXPECT_EQ(model.trainable_weights().size(), 6u);
}

// A model that has been trained, with every setting that a file can keep.
TEST(BatchNormalizationModes, AFileKeepsAllSettingsAndGoesOnBitForBit) {
  for (Averages a : {Averages::exponential, Averages::plain, Averages::cumulative, Averages::window,
                     Averages::precise})
    for (bool all : {false, true}) {
      SCOPED_TRACE(concat({name_of(a), " ", all}));
      BatchNormalizationConfig c{.momentum = .9, .averages = a, .window = 3, .name = "bn"};
      if (all) {
        c.renorm = true, c.renorm_clipping = {.rmax = 2, .rmin = .5, .dmax = 1};
        c.gamma_constraint = max_norm(1), c.beta_constraint = "NonNeg";
        c.variance = BatchNormVariance::sample, c.virtual_batch_size = 2;
        c.adjustment = BatchNormAdjustment{.5, 1.5, -.1, .1};
        c.statistics_dtype = "float64";
      }
      BatchNormalization layer(c);
      const Sequential m({to_layer(Input({2})), layer});
      for (int k = 0; k < 4; ++k) train(layer, x(k));
      m.save(temporary("bn.keras"));
      const Model n = load_model(temporary("bn.keras"));
      auto& l = static_cast<BatchNormalizationImpl&>(*n.get_layer("bn").impl());
      EXPECT_EQ(l.averages(), a);
      EXPECT_EQ(l.config.virtual_batch_size, layer.impl().config.virtual_batch_size);
      EXPECT_EQ(l.config.gamma_constraint.name, layer.impl().config.gamma_constraint.name);
      for (const Model& k : {Model(m), n}) train(k.get_layer("bn"), x(7));
      const auto w = m.weights(), v = n.weights();
      ASSERT_EQ(w.size(), all ? 7u : 4u);
      ASSERT_EQ(v.size(), w.size());
      for (size_t i = 0; i < w.size(); ++i) {
        EXPECT_EQ(w[i].variable.sig(), v[i].variable.sig()) << w[i].name;
        EXPECT_TRUE(same(w[i].variable, v[i].variable)) << w[i].name;
      }
      const auto s = layer.impl().extra_state(), t = l.extra_state();
      ASSERT_EQ(s.size(), t.size());
      for (size_t i = 0; i < s.size(); ++i)
        EXPECT_TRUE(same(s[i].variable, t[i].variable)) << s[i].name;
      l.set_mode(Mode::frozen_statistics);
      n.save(temporary("again.keras"));
      EXPECT_EQ(static_cast<BatchNormalizationImpl&>(
                    *load_model(temporary("again.keras")).get_layer("bn").impl())
                    .mode(),
                Mode::frozen_statistics);
    }
}

// To Keras a layer whose weights a mode holds is one that is not trainable, which means the same.
TEST(BatchNormalizationModes, InAFileTrainableStaysApart) {
  for (Mode mode : {Mode::train, Mode::eval, Mode::frozen_statistics, Mode::frozen})
    for (bool trainable : {false, true}) {
      SCOPED_TRACE(concat({name_of(mode), " ", trainable}));
      const BatchNormalization layer({.mode = mode, .name = "bn"});
      layer.impl().set_trainable(trainable);
      const Sequential m({to_layer(Input({2})), layer});
      m.save(temporary("apart.keras"));
      const Layer again = load_model(temporary("apart.keras")).get_layer("bn");
      EXPECT_EQ(again.trainable(), trainable);
      EXPECT_EQ(static_cast<BatchNormalizationImpl&>(*again.impl()).mode(), mode);
      const bool held = !trainable || mode == Mode::eval || mode == Mode::frozen;
      const auto config = format::parse_json(
          format::ZipReader(format::read_file(temporary("apart.keras")), "f").read("config.json"),
          "c");
      EXPECT_EQ(config["config"]["layers"][1]["config"]["trainable"].boolean(), !held);
    }
}

TEST(BatchNormalizationModes, WhatKerasWouldPredictOtherwiseIsNotSaved) {
  auto refused = [&](BatchNormalizationConfig c) {
    c.name = "bn";
    const Sequential m({to_layer(Input({3, 2})), BatchNormalization(c)});
    return why([&] { m.save(temporary("no.keras")); });
  };
  EXPECT_THAT(refused({.axis = {1, 2}}),
              HasSubstr("save: BatchNormalization \"bn\": it keeps 2 axes, expected one"));
  EXPECT_THAT(refused({.activation = "relu"}), HasSubstr("its activation is \"relu\""));
  EXPECT_THAT(refused({.mode = Mode::batch_only}), HasSubstr("its mode is batch_only"));
  EXPECT_EQ(refused({.mode = Mode::frozen}), "");
}

// ---- policies ----
TEST(BatchNormalizationAverages, AreThoseOfTheirDefinition) {
  const double keep = .9;
  for (BatchNormVariance kind : {BatchNormVariance::population, BatchNormVariance::sample})
    for (Averages a : {Averages::exponential, Averages::plain, Averages::cumulative,
                       Averages::window, Averages::precise}) {
      SCOPED_TRACE(concat({name_of(a), " ", int(kind)}));
      BatchNormalization layer({.momentum = keep, .averages = a, .window = 3, .variance = kind});
      auto variance = [&](const Sums& s) {
        return kind == BatchNormVariance::sample ? s.m2 / std::max(s.n - 1, 1.) : s.m2 / s.n;
      };
      std::vector<std::vector<double>> seen;
      double weight = 0, mean = 0, var = 0;
      for (int k = 0; k < 6; ++k) {
        const Tensor t = x(k, 2 + k);
        train(layer, t);
        seen.push_back(column(t, 1));
        const Sums one(seen.back());
        double want_mean, want_variance;
        if (a == Averages::window || a == Averages::precise) {
          std::vector<double> all;
          const size_t from = a == Averages::window && seen.size() > 3 ? seen.size() - 3 : 0;
          for (size_t i = from; i < seen.size(); ++i)
            all.insert(all.end(), seen[i].begin(), seen[i].end());
          const Sums s(all);
          want_mean = s.mean, want_variance = variance(s);
        } else {
          const double m = a == Averages::cumulative ? 1 : keep,
                       take = a == Averages::cumulative ? 1 : 1 - keep;
          if (k == 0 && a == Averages::plain) weight = 1, var = 1;
          mean = m * mean + take * one.mean, var = m * var + take * variance(one);
          weight = a == Averages::plain ? 1 : m * weight + take;
          want_mean = mean / weight, want_variance = var / weight;
        }
        EXPECT_NEAR(layer.impl().moving_mean.read().to_vector<double>()[1], want_mean, 1e-4) << k;
        EXPECT_NEAR(layer.impl().moving_variance.read().to_vector<double>()[1] / want_variance, 1,
                    1e-5)
            << k;
        EXPECT_EQ(layer.impl().update_count.read().item(), k + 1);
      }
      layer.impl().reset_statistics();
      EXPECT_EQ(layer.impl().update_count.read().item(), 0);
      EXPECT_THAT(layer.impl().moving_variance.read().to_vector(), ElementsAre(1, 1));
      train(layer, x(2));
      if (a != Averages::plain) {
        EXPECT_NEAR(layer.impl().moving_mean.read().to_vector<double>()[1],
                    Sums(column(x(2), 1)).mean, 1e-5);
      }
    }
}

// An f32 count would stand still at 2^24.
TEST(BatchNormalizationAverages, PreciseCountsFurtherThanFloat32) {
  BatchNormalization layer({.averages = Averages::precise});
  layer(x(0));
  for (auto& w : layer.impl().extra_state())
    if (w.name == "total_n") w.variable.assign(full({}, std::pow(2, 30), DType::f64));
  train(layer, x(1));
  for (auto& w : layer.impl().extra_state())
    if (w.name == "total_n") {
      EXPECT_EQ(w.variable.read().item(), std::pow(2, 30) + 4);
    }
}

TEST(BatchNormalizationAverages, RenormKnowsNothingBeforeTheFirstUpdate) {
  BatchNormalization renorm({.renorm = true}), ordinary;
  Step s;
  const auto a = renorm(x(3), {.training = true}).to_vector<double>(),
             b = ordinary(x(3), {.training = true}).to_vector<double>();
  EXPECT_THAT(a, Pointwise(testing::DoubleNear(1e-6), b));
  s.commit();
  const Statistics batch = batch_norm_statistics(x(3));
  EXPECT_THAT(renorm.impl().renorm_mean.read().to_vector<double>(),
              Pointwise(testing::DoubleNear(1e-5), batch.mean.to_vector<double>()));
}

TEST(BatchNormalizationAverages, StatisticsInFloat64OnRequest) {
  BatchNormalization layer({.statistics_dtype = "float64"});
  const Tensor t = tensor(std::vector<float>{16777216, 16777218, 16777222, 16777220}, {4, 1});
  train(layer, t);
  EXPECT_EQ(layer.impl().moving_mean.read().dtype(), DType::f64);
  EXPECT_EQ(layer.impl().moving_mean.read().item(), 16777219);  // no f32
  EXPECT_NEAR(layer.impl().moving_variance.read().item(), 5, 1e-8);
}

TEST(BatchNormalizationAverages, NoiseIsDrawnInTrainingAloneAndAnewEachTime) {
  BatchNormalization layer({.adjustment = BatchNormAdjustment{.5, 1.5, -1, 1}}), plain;
  std::vector<double> scales;
  for (int k = 0; k < 20; ++k) {
    Step s;
    const auto y = layer(x(1), {.training = true}).to_vector<double>(),
               z = plain(x(1), {.training = true}).to_vector<double>();
    s.commit();
    const double scale = (y[6] - y[0]) / (z[6] - z[0]), bias = y[0] - scale * z[0];
    EXPECT_GE(scale, .5 - 1e-5);
    EXPECT_LE(scale, 1.5 + 1e-5);
    EXPECT_LE(std::abs(bias), 1 + 1e-5);
    EXPECT_NEAR(y[2], scale * z[2] + bias, 1e-5);  // one draw a channel
    scales.push_back(scale);
  }
  std::sort(scales.begin(), scales.end());
  EXPECT_EQ(std::unique(scales.begin(), scales.end()), scales.end());
  EXPECT_TRUE(same(layer.impl().moving_mean, plain.impl().moving_mean));  // of what came, not of y
  EXPECT_TRUE(same(layer(x(2)), plain(x(2))));
}

TEST(BatchNormalizationAverages, SeveralAxesAndAnActivation) {
  BatchNormalization layer({.axis = {1, -1}, .activation = "relu"});
  const Tensor t = reshape(cast(arange(24), DType::f32) * cast(arange(24), DType::f32), {4, 3, 2});
  train(layer, t);
  EXPECT_EQ(layer.impl().moving_mean.sig().shape, (Shape{3, 2}));
  const auto v = t.to_vector<double>();
  const auto mean = layer.impl().moving_mean.read().to_vector<double>();
  for (size_t c = 0; c < 6; ++c)
    EXPECT_NEAR(mean[c], Sums({v[c], v[c + 6], v[c + 12], v[c + 18]}).mean, 1e-4);
  const auto y = layer(t).to_vector();
  EXPECT_EQ(*std::min_element(y.begin(), y.end()), 0);
  EXPECT_GT(*std::max_element(y.begin(), y.end()), 1);
}

TEST(BatchNormalizationAverages, SettingsOutOfRangeAreRefusedByName) {
  auto refused = [](BatchNormalizationConfig c) {
    c.name = "bn";
    return why([&] { BatchNormalization{c}; });
  };
  auto clip = [&](RenormClipping c) { return refused({.renorm = true, .renorm_clipping = c}); };
  EXPECT_THAT(
      clip({.rmax = .5, .rmin = 1}),
      HasSubstr("BatchNormalization \"bn\": renorm_clipping: rmax is 0.5, expected above 0, "
                "and at least rmin, 1"));
  EXPECT_THAT(clip({.dmax = -1}), HasSubstr("renorm_clipping: dmax is -1"));
  EXPECT_THAT(clip({.rmin = -1}), HasSubstr("renorm_clipping: rmin is -1"));
  EXPECT_THAT(clip({.rmax = NAN}), HasSubstr("renorm_clipping: rmax is nan"));
  EXPECT_THAT(refused({.renorm_momentum = 2}), HasSubstr("renorm_momentum is 2"));
  EXPECT_THAT(refused({.window = 0}), HasSubstr("window is 0"));
  EXPECT_THAT(refused({.virtual_batch_size = -1}), HasSubstr("virtual_batch_size is -1"));
  EXPECT_THAT(refused({.synchronized = true, .virtual_batch_size = 4}),
              HasSubstr("virtual_batch_size is 4, expected 0 where the layer is synchronized"));
  EXPECT_THAT(refused({.adjustment = BatchNormAdjustment{0, 1, 0, 0}}),
              HasSubstr("adjustment: scale is 0..1"));
  EXPECT_THAT(refused({.adjustment = BatchNormAdjustment{1, 1, 1, -1}}),
              HasSubstr("adjustment: bias is 1..-1"));
  EXPECT_THAT(refused({.statistics_dtype = "bfloat16"}), HasSubstr("statistics_dtype is"));
  EXPECT_THAT(refused({.activation = "tanh"}), HasSubstr("activation is \"tanh\""));
  EXPECT_THAT(refused({.axis = {}}), HasSubstr("axis is empty"));
  EXPECT_THAT(why([] {
                BatchNormalization({.axis = {1, -1}, .name = "bn"})(zeros({2, 3}));
              }),
              HasSubstr("an axis -1 once"));
  EXPECT_THAT(
      why([] { BatchNormalization({.gamma_constraint = max_norm(1, {1}), .name = "bn"})(x(0)); }),
      HasSubstr("\"bn\": gamma: MaxNorm: axis is 1, expected -1..0"));
  EXPECT_THAT(why([] { Dense({.units = 2, .kernel_constraint = min_max_norm(2, 1)})(x(0)); }),
              HasSubstr("MinMaxNorm: min_value is 2, max_value 1"));
}

// ---- masks ----
TEST(BatchNormalizationMasks, MasksOfAnyAxisAndWeightsCount) {
  // Twice the same layer: channels last, and channels first. Values under the mask are no numbers.
  const std::vector<float> v{1, 5, 2, NAN, 3, 1, NAN, 8, 4, 4, 9, 2};
  const Tensor last = tensor(v, {2, 3, 2});
  const Tensor keep = tensor(std::vector<bool>{true, false, true, false, true, true}, {2, 3});
  BatchNormalization a({.averages = Averages::precise}),
      b({.axis = 1, .averages = Averages::precise});
  train(a, last, {.training = true, .mask = keep});
  train(b, transpose(last, {0, 2, 1}), {.training = true, .mask = keep});
  for (const auto& l : {a, b}) {
    EXPECT_THAT(l.impl().moving_mean.read().to_vector(), ElementsAre(4.25, 3));
    EXPECT_THAT(l.impl().moving_variance.read().to_vector(),
                Pointwise(testing::FloatNear(1e-5), {8.6875f, 2.5f}));
  }
  // A weight of 2 is the sample twice; a mask and weights are multiplied.
  BatchNormalization c({.averages = Averages::precise}), d({.averages = Averages::precise});
  train(c, x(1, 3), {.training = true, .sample_weight = tensor(std::vector<float>{2, 0, 1}, {3})});
  train(d, x(1, 3),
        {.training = true,
         .mask = tensor(std::vector<bool>{true, false, true}, {3}),
         .sample_weight = tensor(std::vector<float>{2, NAN, 1}, {3})});
  for (const auto& l : {c, d})
    EXPECT_NEAR(l.impl().moving_mean.read().to_vector<double>()[0], (2 * -3. + 5) / 3, 1e-5);
}

TEST(BatchNormalizationMasks, ABatchOfWhichNothingCountsChangesNothing) {
  for (Averages a : {Averages::exponential, Averages::plain, Averages::cumulative, Averages::window,
                     Averages::precise}) {
    SCOPED_TRACE(name_of(a));
    BatchNormalization layer({.renorm = true, .averages = a});
    train(layer, x(1));
    std::vector<Tensor> before;
    for (auto& w : layer.weights()) before.push_back(w.variable.read());
    train(layer, x(2), {.training = true, .mask = zeros({4})});
    for (size_t i = 0; i < before.size(); ++i)
      EXPECT_TRUE(same(before[i], layer.weights()[i].variable)) << layer.weights()[i].name;
    EXPECT_EQ(layer.impl().update_count.read().item(), 1);
    EXPECT_EQ(layer.impl().rejected_count.read().item(), 0);
  }
}

TEST(BatchNormalizationMasks, AModelHandsThemToItsLayers) {
  BatchNormalization alone, inside, nested;
  const Sequential inner({nested}, "inner_mask");
  const Sequential m({to_layer(Input({3, 2})), inside, to_layer(inner), Flatten()});
  const Tensor t = reshape(cast(arange(24), DType::f32), {4, 3, 2}),
               keep = tensor(std::vector<float>{1, 1, 0, 1, 0, 0, 1, 1, 1, 1, 0, 0}, {4, 3});
  train(alone, t, {.training = true, .mask = keep});
  Step s;
  m(t, {.training = true, .mask = keep});
  s.commit();
  EXPECT_TRUE(same(alone.impl().moving_mean, inside.impl().moving_mean));
  for (float v : nested.impl().moving_mean.read().to_vector()) EXPECT_NEAR(v, 0, 1e-5);
}

TEST(BatchNormalizationMasks, OfTheWrongShapeAreRefused) {
  BatchNormalization layer({.name = "bn"});
  auto refused = [&](const Tensor& mask, const Tensor& weight = {}) {
    return why([&] { layer(zeros({4, 3, 2}), {.mask = mask, .sample_weight = weight}); });
  };
  EXPECT_THAT(
      refused(zeros({4})),
      HasSubstr("BatchNormalization \"bn\": mask is f32[4], expected one dimension less than "
                "the input"));
  EXPECT_THAT(refused(zeros({4, 2})), HasSubstr("mask is f32[4,2]"));
  EXPECT_THAT(refused(zeros({4, 3, 2})), HasSubstr("mask is f32[4,3,2]"));
  EXPECT_THAT(refused({}, zeros({3})), HasSubstr("sample_weight is f32[3]"));
  EXPECT_EQ(refused(zeros({4, 1}), zeros({1, 3})), "");
}

}  // namespace
}  // namespace evenflow
