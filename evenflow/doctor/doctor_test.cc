// SPDX-License-Identifier: Apache-2.0
// Planted faults are found, where they are; healthy models of several kinds pass.
#include "evenflow/doctor/doctor.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "evenflow/data/digits.h"
#include "evenflow/doctor/examination.h"
#include "evenflow/doctor/recalibrate.h"
#include "evenflow/doctor/rewrite.h"
#include "evenflow/model/layers.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/train/train.h"
#include "tests/keras_nets.h"

namespace evenflow::doctor {
namespace {
using testing::AllOf;
using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;
using testing::StartsWith;

struct Digits {
  Tensor x, y;
};
Digits digits(int64_t n, int64_t skip = 0) {
  const Tensors t = data::digits().skip(skip).take(n).all();
  return {t[0], t[1]};
}
const char* const kLoss = "sparse_categorical_crossentropy";

void train(const Model& m, int64_t epochs, FitOptions o = {}) {
  m.compile({.optimizer = Adam({.learning_rate = 2e-3}), .loss = kLoss});
  const Digits d = digits(640);
  o.epochs = epochs, o.verbose = 0, o.seed = 3;
  m.fit(d.x, d.y, o);
}
Layer top() { return Dense({.units = 10, .activation = "softmax", .name = "class"}); }
Layer conv(int64_t filters, bool bias = false) {
  return Conv2D({.filters = filters, .kernel_size = 3, .padding = "same", .use_bias = bias});
}
// Trained once, then copied for each test.
Model small_net(int64_t epochs = 4) {
  static std::map<int64_t, Model> made;
  if (!made.count(epochs)) {
    set_random_seed(5);
    const Sequential m({to_layer(Input({8, 8, 1})), conv(8), BatchNormalization({.name = "first"}),
                        ReLU(), MaxPooling2D(), conv(16), BatchNormalization({.name = "second"}),
                        ReLU(), Flatten(), top()});
    if (epochs) train(m, epochs);
    made[epochs] = m;
  }
  return rewritten(made[epochs], {}).model;
}
BatchNormalizationImpl& norm(const Model& m, const std::string& name) {
  return static_cast<BatchNormalizationImpl&>(*m.get_layer(name).impl());
}
void set(const Variable& v, const std::vector<double>& values) {
  v.assign(constant(values, v.sig().shape, v.sig().dtype));
}
std::vector<double> get(const Variable& v) { return v.read().to_vector<double>(); }

Options with_data(int64_t n = 512, int64_t skip = 700) {
  const Digits d = digits(n, skip);
  return {.x = d.x, .y = d.y, .loss = kLoss};
}
std::string ids(const Diagnosis& d, Level least = Level::warning) {
  std::set<std::string> s;
  for (auto& f : d.findings)
    if (f.level >= least) s.insert(f.id);
  std::string r;
  for (auto& id : s) r += (r.empty() ? "" : " ") + id;
  return r;
}
const Finding& found(const Diagnosis& d, const std::string& id) {
  for (auto& f : d.findings)
    if (f.id == id) return f;
  ADD_FAILURE() << id << " is not among\n" << diagnosis_text(d);
  static const Finding none;
  return none;
}

// ---- the declarations ----
TEST(Checks, are_all_there_and_say_everything) {
  std::vector<std::string> have;
  for (auto& c : checks()) {
    have.push_back(c.id);
    for (const char* text : {c.check.name, c.check.looks_for, c.check.why, c.check.advice})
      EXPECT_GT(std::string_view(text ? text : "").size(), 3u) << c.id;
    EXPECT_TRUE(c.check.run) << c.id;
  }
  EXPECT_THAT(have,
              ElementsAre("S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "T1", "T2",
                          "T3", "T4", "T5", "T6", "T7", "T8", "T9", "D1", "D2", "D3", "D4", "D5"));
}
TEST(Checks, run_where_they_have_what_they_need) {
  const Model m = small_net(0);
  const Diagnosis d = examine(m);
  EXPECT_EQ(d.ran.size() + d.skipped.size(), checks().size());
  EXPECT_THAT(d.ran, Not(Contains("D3")));
  EXPECT_THAT(examine(m, {.x = digits(8).x}).ran, Contains("D3"));
  EXPECT_THAT(examine(m, {.only = {"S1"}}).ran, ElementsAre("S1"));
}
TEST(Examine, refuses_with_the_reason) {
  auto refused = [](auto f) -> std::string {
    try {
      f();
    } catch (const Error& e) {
      return concat({str(e.code()), ": ", e.what()});
    }
    return "";
  };
  const Model m = small_net(0);
  const Tensor x = digits(4).x;
  EXPECT_THAT(refused([&] { examine(Sequential({conv(2)})); }), HasSubstr("not built"));
  EXPECT_THAT(refused([&] {
                examine(m, {.x = zeros({4, 9, 9, 1})});
              }),
              AllOf(HasSubstr("[4,9,9,1]"), HasSubstr("(None, 8, 8, 1)")));
  EXPECT_THAT(refused([&] { examine(m, {.x = zeros({0, 8, 8, 1})}); }), HasSubstr("one sample"));
  EXPECT_THAT(refused([&] { examine(m, {.y = x}); }), HasSubstr("without x"));
  EXPECT_THAT(refused([&] { examine(m, {.x = x, .batch_size = 0}); }),
              HasSubstr("batch_size is 0"));
  EXPECT_THAT(refused([&] { examine(m, {.only = {"S99"}}); }),
              AllOf(HasSubstr("S99"), HasSubstr("S1, S2"), HasSubstr("D5")));
}
TEST(Examine, changes_nothing) {
  const Model m = small_net(1);
  std::vector<std::vector<double>> before;
  for (auto& w : m.weights()) before.push_back(get(w.variable));
  const double count = norm(m, "first").update_count.read().item();
  examine(m, with_data(96));
  for (size_t i = 0; i < before.size(); ++i) EXPECT_EQ(get(m.weights()[i].variable), before[i]);
  EXPECT_EQ(norm(m, "first").update_count.read().item(), count);
}

// ---- what is healthy ----
void expect_healthy(const Model& m, const Options& o) {
  const Diagnosis d = examine(m, o);
  EXPECT_TRUE(d.healthy()) << diagnosis_text(d);
}
TEST(Healthy, a_convolutional_net) { expect_healthy(small_net(), with_data()); }
TEST(Healthy, Keras_defaults_with_biases_and_dropout_at_the_end) {
  set_random_seed(1);
  Sequential m({to_layer(Input({8, 8, 1})), Conv2D({.filters = 8, .kernel_size = 3}),
                BatchNormalization(), Activation("relu"), Conv2D({.filters = 16, .kernel_size = 3}),
                BatchNormalization(), Activation("relu"), Flatten(), Dropout({.rate = 0.3}),
                top()});
  train(m, 4);
  expect_healthy(m, with_data());
  EXPECT_EQ(ids(examine(m), Level::note), "S1");
}
TEST(Healthy, a_dense_net_with_sigmoids) {
  set_random_seed(2);
  Sequential m({to_layer(Input({8, 8, 1})), Flatten(), Dense({.units = 32, .use_bias = false}),
                BatchNormalization(), Activation("sigmoid"),
                Dense({.units = 32, .use_bias = false}), BatchNormalization(), Activation("tanh"),
                top()});
  train(m, 4);
  expect_healthy(m, with_data());
}
TEST(Healthy, batch_norm_on_the_raw_pixels_some_of_which_are_constant) {
  set_random_seed(3);
  Sequential m({to_layer(Input({8, 8, 1})), Flatten(), BatchNormalization(), Dense({.units = 32}),
                ReLU(), top()});
  train(m, 4);
  expect_healthy(m, with_data());
}
TEST(Healthy, a_residual_net_whose_blocks_begin_with_gamma_zero) {
  set_random_seed(4);
  const SymbolicTensor x = Input({8, 8, 1});
  SymbolicTensor a = ReLU()(BatchNormalization()(conv(8)(x)));
  for (int i = 0; i < 2; ++i) {
    SymbolicTensor b = ReLU()(BatchNormalization()(conv(8)(a)));
    b = BatchNormalization({.gamma_initializer = "zeros"})(conv(8)(b));
    a = ReLU()(Add()(std::vector{a, b}));
  }
  const Model m(x, top()(GlobalAveragePooling2D()(a)));
  expect_healthy(m, {});  // new
  train(m, 4);
  expect_healthy(m, with_data());
}
TEST(Healthy, a_net_before_its_activations) {
  set_random_seed(5);
  const SymbolicTensor x = Input({8, 8, 1});
  SymbolicTensor a = conv(8)(x);
  a = Add()(std::vector{a, conv(8)(ReLU()(BatchNormalization()(a)))});
  const Model m(x, top()(Flatten()(ReLU()(BatchNormalization()(a)))));
  train(m, 4);
  expect_healthy(m, with_data());
}
TEST(Healthy, depthwise_and_separable_convolutions) {
  set_random_seed(6);
  Sequential m({to_layer(Input({8, 8, 1})), conv(8), BatchNormalization(), ReLU({.max_value = 6.}),
                DepthwiseConv2D({.kernel_size = 3, .padding = "same", .use_bias = false}),
                BatchNormalization(), ReLU({.max_value = 6.}),
                SeparableConv2D({.filters = 16, .kernel_size = 3, .use_bias = false}),
                BatchNormalization(), ReLU(), GlobalAveragePooling2D(), top()});
  train(m, 5);
  expect_healthy(m, with_data());
}
TEST(Healthy, images_with_channels_first) {
  set_random_seed(7);
  Sequential m(
      {to_layer(Input({8, 8, 1})), Reshape({.target_shape = {1, 8, 8}}),
       Conv2D({.filters = 8, .kernel_size = 3, .data_format = "channels_first", .use_bias = false}),
       BatchNormalization({.axis = 1}), ReLU(), Flatten(), top()});
  train(m, 4);
  expect_healthy(m, with_data());
}
TEST(Healthy, a_frozen_base_under_a_new_head) {
  set_random_seed(8);
  Sequential base({to_layer(Input({8, 8, 1})), conv(8), BatchNormalization(), ReLU(), Flatten()},
                  "base");
  Sequential pretrained({to_layer(Input({8, 8, 1})), to_layer(base), top()});
  train(pretrained, 4);
  base.set_trainable(false);
  Sequential m({to_layer(Input({8, 8, 1})), to_layer(base),
                Dense({.units = 16, .use_bias = false, .name = "new"}), BatchNormalization(),
                ReLU(), Dense({.units = 10, .activation = "softmax", .name = "last"})});
  train(m, 4);
  expect_healthy(m, with_data());
}
TEST(Healthy, a_shared_tower) {
  set_random_seed(9);
  const Layer c = conv(8), b = BatchNormalization({.name = "shared"});
  const SymbolicTensor x = Input({8, 8, 1});
  auto tower = [&](const SymbolicTensor& t) { return GlobalAveragePooling2D()(ReLU()(b(c(t)))); };
  const Model m(
      x,
      top()(Concatenate()(std::vector{tower(x), tower(Rescaling({.scale = -1, .offset = 1})(x))})));
  train(m, 4);
  expect_healthy(m, with_data());
}
TEST(Healthy, nets_that_Keras_trained) {
  expect_healthy(load_model(reference::net_file("cnn_adam_trained.keras")), {});
  for (const char* name : {"conv_net", "dense_net", "residual_net", "mobile_net"}) {
    SCOPED_TRACE(name);
    const std::string file =
        EVENFLOW_SOURCE_DIR "/tests/reference/healthy/" + std::string(name) + ".keras";
    expect_healthy(load_model(file), with_data(700, 1000));  // trained on the first 1000
  }
}
TEST(Healthy, constant_columns_of_the_input) {
  const Sequential m(
      {to_layer(Input({6})), BatchNormalization({.name = "columns"}), Dense({.units = 3})});
  std::vector<float> x(60);
  for (size_t i = 0; i < x.size(); i += 6) x[i] = float(i % 7), x[i + 1] = float(i % 11);
  recalibrate(m, tensor(x, {10, 6}));  // four of six are always 0
  const Diagnosis d = examine(m, {.x = tensor(x, {10, 6})});
  EXPECT_EQ(found(d, "S5").level, Level::note);
  EXPECT_THAT(found(d, "S5").channels, ElementsAre(2, 3, 4, 5));
  EXPECT_TRUE(d.healthy()) << diagnosis_text(d);
}
TEST(Healthy, a_net_without_batch_norm) {
  Sequential m({to_layer(Input({8, 8, 1})), Flatten(), top()});
  const Diagnosis d = examine(m, with_data(64));
  EXPECT_TRUE(d.healthy());
  EXPECT_THAT(d.readings, IsEmpty());
}

// ---- what is planted ----
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
// A file of Keras has no count of updates: a few more in Evenflow prove nothing.
TEST(Healthy, a_net_of_Keras_that_is_trained_a_little_more) {
  const Model m = small_net();
  for (const char* name : {"first", "second"}) {
    norm(m, name).adopt_keras_weights();
    norm(m, name).update_count.assign(zeros({}, DType::i64));
  }
  train(m, 1);
  for (const Options& o : {Options{}, with_data()}) {
    const Diagnosis d = examine(m, o);
    EXPECT_EQ(found(d, "T1").level, Level::note) << diagnosis_text(d);
    EXPECT_EQ(found(d, "T1").fix, "");
  }
}
TEST(Checkup, sees_plain_averages_begin) {
  Model m = small_net(0);
  for (const char* name : {"first", "second"}) norm(m, name).adopt_keras_weights();
  auto checkup = std::make_shared<Checkup>();
  train(m, 1, {.callbacks = {checkup}});
  EXPECT_EQ(found(checkup->diagnosis, "T1").level, Level::warning);
  train(m, 1, {.callbacks = {checkup}});  // these began where the first left them
  EXPECT_EQ(found(checkup->diagnosis, "T1").level, Level::note);
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

// ---- watching a training ----
TEST(Checkup, a_good_training_has_no_finding) {
  const Model m = small_net(0);
  auto checkup = std::make_shared<Checkup>(Options{.x = digits(256).x});
  train(m, 4, {.callbacks = {checkup}});
  EXPECT_EQ(checkup->trace.steps, 80);
  EXPECT_EQ(checkup->trace.layers.at("first").updates, 80);
  EXPECT_TRUE(checkup->diagnosis.healthy()) << diagnosis_text(checkup->diagnosis);
  EXPECT_THAT(checkup->diagnosis.ran, AllOf(Contains("T4"), Not(Contains("S1"))));
}
TEST(Checkup, a_shared_layer_counts_once_a_step_and_a_plain_one_each_use) {
  for (bool plain : {false, true}) {
    set_random_seed(9);
    const BatchNormalization b({.name = "shared"});
    const SymbolicTensor x = Input({8, 8, 1});
    const Model m(x, top()(Flatten()(Add()(std::vector{b(x), b(Rescaling({.scale = -1})(x))}))));
    if (plain) b.impl().adopt_keras_weights();
    auto checkup = std::make_shared<Checkup>();
    train(m, 1, {.callbacks = {checkup}});
    EXPECT_EQ(checkup->trace.layers.at("shared").updates, plain ? 40 : 20);
    EXPECT_THAT(checkup->diagnosis.findings, Not(Contains(Field(&Finding::id, "T4"))));
  }
}
// Calls the model in training once more after each step, as a careless loop does.
struct SecondForward : Callback {
  void on_train_batch_end(TrainingState& s, int64_t, const Logs&) override {
    Step step;
    s.model(digits(8).x, {.training = true});
    step.commit();
  }
};
TEST(Checkup, a_second_forward_pass_is_seen) {
  const Model m = small_net(0);
  auto checkup = std::make_shared<Checkup>();
  train(m, 1, {.callbacks = {std::make_shared<SecondForward>(), checkup}});
  const Finding& f = found(checkup->diagnosis, "T4");
  EXPECT_EQ(f.value, 2);
  EXPECT_EQ(checkup->trace.layers.at("second").odd_steps, 20);
}
TEST(Checkup, tiny_batches_are_seen) {
  set_random_seed(1);
  Sequential m({to_layer(Input({8, 8, 1})), Flatten(), Dense({.units = 8}),
                BatchNormalization({.name = "norm"}), ReLU(), top()});
  auto checkup = std::make_shared<Checkup>(Options{.batch_size = 4});
  train(m, 1, {.batch_size = 4, .callbacks = {checkup}});
  EXPECT_EQ(found(checkup->diagnosis, "T3").level, Level::warning);
  EXPECT_NEAR(found(checkup->diagnosis, "T3").value, std::sqrt(2. / 3), 1e-12);
}
TEST(Checkup, skipped_steps_are_counted) {
  Sequential m({to_layer(Input({2})), Dense({.units = 4}), BatchNormalization(), ReLU(),
                Dense({.units = 1})});
  m.compile({.optimizer = "sgd", .loss = "mse"});
  std::vector<float> x(64, 0.5f);
  for (size_t i = 0; i < x.size(); ++i) x[i] = float(i % 7) / 7;
  x[10] = INFINITY;
  auto checkup = std::make_shared<Checkup>();
  m.fit(tensor(x, {32, 2}), zeros({32, 1}),
        {.batch_size = 8, .epochs = 3, .verbose = 0, .callbacks = {checkup}, .shuffle = false});
  EXPECT_EQ(checkup->trace.skipped, 3);
  EXPECT_EQ(checkup->trace.steps, 9);
  EXPECT_EQ(found(checkup->diagnosis, "T5").level, Level::warning);
  EXPECT_THAT(checkup->diagnosis.findings, Not(Contains(Field(&Finding::id, "T4"))));
}

// ---- what it says ----
TEST(Diagnosis, json_has_everything_a_program_needs) {
  const Model m = small_net();
  auto b = get(norm(m, "first").beta);
  b[3] = -20;
  set(norm(m, "first").beta, b);
  const auto j = nlohmann::json::parse(diagnosis_json(examine(m, with_data(96))));
  EXPECT_EQ(j["healthy"], false);
  EXPECT_EQ(j["findings"][0]["id"], "T9");
  EXPECT_EQ(j["findings"][0]["channels"], nlohmann::json({3}));
  EXPECT_EQ(j["layers"][0]["dead"], nlohmann::json({3}));
  EXPECT_EQ(j["layers"][1]["data_mean"].size(), 16u);
  EXPECT_TRUE(j["loss"]["stored"].is_number());
}
TEST(Diagnosis, the_page_is_self_contained_and_shows_every_layer) {
  const Model m = small_net();
  const std::string page = diagnosis_html(examine(m, with_data(96)));
  EXPECT_THAT(page, AllOf(StartsWith("<!DOCTYPE html>"), HasSubstr("<h2>first</h2>"),
                          HasSubstr("<h2>second</h2>"), HasSubstr("Who is guilty of the gap"),
                          HasSubstr("the stored averages"), HasSubstr("Share of x")));
  for (const char* outside : {"http:", "https:", "<script", "src=", "<link", "url("})
    EXPECT_THAT(page, Not(HasSubstr(outside)));
  const std::string bare = diagnosis_html(examine(m));
  EXPECT_THAT(bare, AllOf(HasSubstr("Without data only what is stored"), HasSubstr("Not checked"),
                          Not(HasSubstr("<svg"))));
}
TEST(Diagnosis, text_names_layer_channels_and_what_to_do) {
  const Model m = small_net();
  auto b = get(norm(m, "first").beta);
  b[3] = -20;
  set(norm(m, "first").beta, b);
  const std::string s = diagnosis_text(examine(m));
  EXPECT_THAT(
      s, AllOf(StartsWith("warning T9 dead_relu, layer first"), HasSubstr("channels: 3\n"),
               HasSubstr("what to do: "), HasSubstr("not healthy"), HasSubstr("not checked: ")));
}
TEST(Diagnosis, the_manual_has_the_table_of_the_declarations) {
  std::ifstream in(EVENFLOW_SOURCE_DIR "/docs/doctor.md");
  std::stringstream page;
  page << in.rdbuf();
  EXPECT_NE(page.str().find(checks_table()), std::string::npos)
      << "the table is what `build/evenflow doctor --checks` prints";
}

}  // namespace
}  // namespace evenflow::doctor
