// SPDX-License-Identifier: Apache-2.0
// Planted faults are found, where they are.
#include <algorithm>
#include <cmath>

#include "evenflow/doctor/doctor_testing.h"
#include "evenflow/doctor/recalibrate.h"

namespace evenflow::doctor {
namespace {
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

TEST(Planted, a_mean_that_drifted) {
  const Model m = small_net();
  auto mean = get(norm(m, "second").moving_mean);
  const auto variance = get(norm(m, "second").moving_variance);
  for (size_t c = 0; c < mean.size(); ++c) mean[c] += 2 * std::sqrt(variance[c]);
  set(norm(m, "second").moving_mean, mean);
  const Diagnosis d = examine(m, with_data());
  const Finding& f = found(d, "D3");
  EXPECT_EQ(f.layer, "second");
  EXPECT_THAT(f.channels, SizeIs(16));
  EXPECT_NEAR(f.value, 2, 0.5);  // KL of a shift by 2 deviations
  EXPECT_EQ(f.fix, "recalibrate");
  EXPECT_EQ(d.gap->guilty, "averages");
  EXPECT_EQ(ids(d), "D1 D3 T2");
}
TEST(Planted, a_variance_that_drifted_in_the_first_layer) {
  const Model m = small_net();
  auto v = get(norm(m, "first").moving_variance);
  for (double& x : v) x *= 100;
  set(norm(m, "first").moving_variance, v);
  const Diagnosis d = examine(m, with_data());
  EXPECT_EQ(found(d, "D3").layer, "first");
  EXPECT_EQ(found(d, "S10").layer, "first");
  EXPECT_EQ(found(d, "T2").layer, "first");
}
TEST(Planted, pixels_of_0_to_255) {
  const Model m = small_net();
  Options o = with_data();
  o.x = o.x * 255;
  const Finding f = found(examine(m, o), "S10");
  EXPECT_EQ(f.layer, "first");
  EXPECT_EQ(f.level, Level::warning);
}
TEST(Planted, channels_without_gamma) {
  const Model m = small_net();
  auto g = get(norm(m, "first").gamma);
  g[2] = 0, g[5] = 1e-6;
  set(norm(m, "first").gamma, g);
  const Diagnosis d = examine(m);
  EXPECT_EQ(found(d, "S5").layer, "first");
  EXPECT_THAT(found(d, "S5").channels, ElementsAre(2, 5));
  EXPECT_EQ(found(d, "S5").level, Level::warning);
  g[5] = 1;
  set(norm(m, "first").gamma, g);
  EXPECT_THAT(found(examine(m), "S5").channels, ElementsAre(2));
  EXPECT_EQ(found(examine(m), "S5").level, Level::note) << "one of eight is a note";
}
TEST(Planted, channels_that_epsilon_rules) {
  const Model m = small_net();
  auto v = get(norm(m, "second").moving_variance);
  for (size_t c = 8; c < 16; ++c) v[c] = 1e-5;
  set(norm(m, "second").moving_variance, v);
  const Finding f = found(examine(m), "S5");
  EXPECT_EQ(f.layer, "second");
  EXPECT_THAT(f.channels, ElementsAre(8, 9, 10, 11, 12, 13, 14, 15));
  EXPECT_THAT(f.saw, HasSubstr("epsilon"));
  EXPECT_EQ(f.level, Level::warning);
  for (size_t c = 8; c < 16; ++c) v[c] = 5e-4;  // half of epsilon: a deviation of 0.58 comes out
  set(norm(m, "second").moving_variance, v);
  EXPECT_EQ(found(examine(m), "S5").level, Level::note);
}
TEST(Planted, a_beta_that_kills_the_relu) {
  const Model m = small_net();
  auto b = get(norm(m, "first").beta);
  b[3] = -20;
  set(norm(m, "first").beta, b);
  const Diagnosis d = examine(m, with_data());
  EXPECT_EQ(found(d, "T9").layer, "first");
  EXPECT_THAT(found(d, "T9").channels, ElementsAre(3));
  EXPECT_FALSE(d.healthy());
  EXPECT_THAT(d.readings[0].dead, ElementsAre(3));
  EXPECT_THAT(d.readings[0].saturated, IsEmpty());
}
TEST(Planted, averages_that_nobody_updated) {
  const Model m = small_net();
  for (const char* name : {"first", "second"}) {
    auto& n = norm(m, name);
    set(n.moving_mean, std::vector<double>(size_t(n.moving_mean.sig().shape.count()), 0));
    set(n.moving_variance, std::vector<double>(size_t(n.moving_mean.sig().shape.count()), 1));
    n.update_count.assign(zeros({}, DType::i64));
  }
  const Diagnosis d = examine(m);
  EXPECT_EQ(found(d, "S6").level, Level::error);
  EXPECT_EQ(ids(d), "S6");
  EXPECT_EQ(found(examine(small_net(0)), "S6").level, Level::note) << "a new model is no fault";
}
TEST(Planted, one_layer_frozen_by_accident) {
  const Model m = small_net();
  m.get_layer("second").set_trainable(false);
  EXPECT_EQ(found(examine(m), "S9").layer, "second");
  EXPECT_EQ(ids(examine(m)), "S9");
  m.get_layer("first").set_trainable(false);  // all of them: as detectors are tuned
  EXPECT_TRUE(examine(m).healthy());
}
TEST(Planted, a_mode_for_the_time_being) {
  const Model m = small_net();
  auto set = [&](BatchNormMode mode) { norm(m, "second").set_mode(mode); };
  set(BatchNormMode::eval);
  EXPECT_THAT(found(examine(m), "S9").saw, HasSubstr("its mode is eval, for the time being"));
  for (BatchNormMode meant : {BatchNormMode::frozen, BatchNormMode::frozen_statistics}) {
    set(meant);
    EXPECT_TRUE(examine(m).healthy()) << name_of(meant);
  }
}
TEST(Planted, the_wrong_axis) {
  Sequential m({to_layer(Input({8, 8, 1})), conv(4), ReLU(),
                BatchNormalization({.axis = 1, .name = "rows"}), Flatten(), top()});
  const Finding f = found(examine(m), "S2");
  EXPECT_EQ(f.layer, "rows");
  EXPECT_EQ(f.level, Level::error);
  EXPECT_THAT(f.saw, AllOf(HasSubstr("axis is 1"), HasSubstr("channels_last")));
}
TEST(Planted, weight_decay_on_gamma) {
  Sequential m({to_layer(Input({8, 8, 1})), conv(4),
                BatchNormalization({.gamma_regularizer = {.l2 = 1e-4}, .name = "decays"}),
                Flatten(), top()});
  EXPECT_EQ(found(examine(m), "S3").layer, "decays");
  EXPECT_EQ(ids(examine(m)), "S3");
  const Diagnosis d = examine(small_net(0), {.optimizer = "adamw"});
  EXPECT_EQ(found(d, "S3").level, Level::note);
}
TEST(Planted, dropout_directly_before) {
  Sequential m({to_layer(Input({8, 8, 1})), Flatten(), Dense({.units = 8}), Dropout({.rate = .5}),
                BatchNormalization({.name = "shifted"}), ReLU(), Dropout({.rate = .5}),
                Dense({.units = 8}), BatchNormalization({.name = "after"}), top()});
  std::vector<std::string> where;
  for (auto& f : examine(m, {.only = {"S4"}}).findings)
    where.push_back(concat({str(f.level), " ", f.layer}));
  EXPECT_THAT(where, ElementsAre("warning shifted", "note after"));
}
TEST(Planted, the_momentum_of_PyTorch) {
  Sequential m({to_layer(Input({8, 8, 1})), conv(4), BatchNormalization({.momentum = 0.1}), ReLU(),
                Flatten(), top()});
  EXPECT_EQ(ids(examine(m)), "S7");
}
TEST(Planted, a_channel_that_folds_badly) {
  const Model m = small_net();
  auto g = get(norm(m, "second").gamma);
  g[7] = 500;
  set(norm(m, "second").gamma, g);
  EXPECT_THAT(found(examine(m), "S8").channels, ElementsAre(7));
  EXPECT_TRUE(examine(m).healthy());
}
TEST(Planted, plain_averages_that_did_not_warm_up) {
  Model m = small_net(0);
  for (const char* name : {"first", "second"}) norm(m, name).adopt_keras_weights();
  train(m, 2);  // 40 steps: 0.99^40 = 0.67 of the beginning are left
  const Diagnosis d = examine(m, with_data());
  EXPECT_NEAR(found(d, "T1").value, std::pow(0.99, 40), 1e-12);
  EXPECT_THAT(found(d, "T1").saw, HasSubstr("419 more"));  // ln .01 / ln .99 = 458.2
  EXPECT_EQ(found(d, "T1").fix, "debias");
  EXPECT_EQ(d.gap->guilty, "averages") << diagnosis_text(d);
}
TEST(Planted, averages_that_stand_still) {
  Model m = small_net();
  norm(m, "first").config.momentum = 1 - 1e-9;
  auto mean = get(norm(m, "first").moving_mean);
  mean[1] += 3 * std::sqrt(get(norm(m, "first").moving_variance)[1]);
  set(norm(m, "first").moving_mean, mean);
  EXPECT_THAT(found(examine(m, with_data()), "T7").channels, Contains(1));
}
TEST(Planted, a_mean_that_swallows_the_deviation) {
  const Model m = small_net();
  auto mean = get(norm(m, "first").moving_mean);
  mean[4] = 5e3;
  set(norm(m, "first").moving_mean, mean);
  EXPECT_THAT(found(examine(m), "T8").channels, ElementsAre(4));
}
TEST(Planted, averages_that_are_not_finite) {
  const Model m = small_net();
  auto v = get(norm(m, "second").moving_variance);
  v[0] = NAN;
  set(norm(m, "second").moving_variance, v);
  EXPECT_EQ(found(examine(m), "T5").level, Level::error);
  EXPECT_THAT(found(examine(m), "T5").channels, ElementsAre(0));
}
TEST(Planted, replicas_that_went_apart) {
  const Model m = small_net(2), same = small_net(2), other = small_net(2);
  EXPECT_EQ(ids(examine(m, {.replicas = {same}})), "");
  auto mean = get(norm(other, "first").moving_mean);
  for (double& x : mean) x += 5;
  set(norm(other, "first").moving_mean, mean);
  const Finding f = found(examine(m, {.replicas = {same, other}}), "T6");
  EXPECT_EQ(f.layer, "first");
  EXPECT_THAT(f.saw, HasSubstr("replica 2 of 3"));
}

TEST(Planted, a_layer_that_takes_the_statistics_of_the_batch_in_inference) {
  const Model m = small_net();
  norm(m, "second").set_mode(BatchNormMode::batch_only);
  const Diagnosis d = examine(m, with_data());
  EXPECT_EQ(found(d, "D2").level, Level::error);
  EXPECT_EQ(found(d, "D2").layer, "second");
  EXPECT_EQ(found(d, "D4").level, Level::error);
}
// Each batch of 16 has a mean of its own, and the target is on which side of it a sample lies: that
// is seen by the batch's own statistics, and by no others.
struct TellTale {
  Options o;
  Model m;
  TellTale() {
    std::vector<float> x, y;
    for (int i = 0; i < 160; ++i)
      x.push_back(float(10 * (i / 16)) + (i % 2 ? 1.f : -1.f)), y.push_back(float(i % 2));
    o = {.x = tensor(x, {160, 1}),
         .y = tensor(y, {160, 1}),
         .loss = "binary_crossentropy",
         .batch_size = 16};
    m = Sequential({to_layer(Input({1})), BatchNormalization({.name = "norm"}),
                    Dense({.units = 1, .activation = "sigmoid", .name = "side"})});
    m.get_layer("side").weights()[0].variable.assign(full({1, 1}, 10));
    recalibrate(m, o.x);
  }
};
TEST(Planted, batch_noise_is_guilty_where_a_net_lives_on_its_batches) {
  const TellTale t;
  const Diagnosis d = examine(t.m, t.o);
  EXPECT_EQ(d.gap->guilty, "batch noise") << diagnosis_text(d);
  EXPECT_LT(d.gap->batch, 1e-3);
  EXPECT_EQ(found(d, "D1").fix, "");
}
TEST(Planted, a_mode_is_guilty_where_inference_does_not_use_the_averages) {
  const TellTale t;
  norm(t.m, "norm").set_mode(BatchNormMode::batch_only);
  const Diagnosis d = examine(t.m, t.o);
  EXPECT_EQ(d.gap->guilty, "mode") << diagnosis_text(d);
}
TEST(Planted, data_sorted_by_class_is_a_note) {
  const Model m = small_net();
  Options o = with_data(300);
  auto label = o.y.to_vector<int64_t>();
  std::sort(label.begin(), label.end());  // wrong for x, and that does not matter here
  o.y = tensor(label, {300});
  o.only = {"D4"};
  EXPECT_EQ(found(examine(m, o), "D4").level, Level::note);
}
TEST(Planted, batches_whose_statistics_were_rejected) {
  const Model m = small_net();
  norm(m, "first").rejected_count.assign(full({}, 40, DType::i64));
  EXPECT_EQ(found(examine(m), "T5").layer, "first");
  EXPECT_EQ(found(examine(m), "T5").level, Level::warning);  // 40 of 120
  norm(m, "first").rejected_count.assign(full({}, 0, DType::i64));
}

}  // namespace
}  // namespace evenflow::doctor
