// SPDX-License-Identifier: Apache-2.0
// Recalibrated averages are the statistics of all data, computed here in f64 from what goes into
// each layer.
#include "evenflow/doctor/recalibrate.h"

#include <gmock/gmock.h>

#include "evenflow/data/digits.h"
#include "evenflow/graph/compile.h"
#include "evenflow/model/layers.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/shape.h"
#include "evenflow/train/probe.h"
#include "evenflow/train/train.h"

namespace evenflow::doctor {
namespace {
using testing::HasSubstr;
using testing::SizeIs;

Tensor digits(int64_t n) { return data::digits().take(n).all()[0]; }
Model net() {
  set_random_seed(11);
  return Sequential({to_layer(Input({8, 8, 1})), Conv2D({.filters = 4, .kernel_size = 3}),
                     BatchNormalization({.name = "first"}), ReLU(),
                     Conv2D({.filters = 6, .kernel_size = 3}),
                     BatchNormalization({.name = "second"}), ReLU(), Flatten(), Dense({.units = 5}),
                     BatchNormalization({.name = "third"})});
}
BatchNormalizationImpl& norm(const Model& m, const std::string& name) {
  return static_cast<BatchNormalizationImpl&>(*m.get_layer(name).impl());
}
std::vector<double> get(const Variable& v) { return v.read().to_vector<double>(); }

// Mean and population variance of each channel (the last axis), in two passes in f64.
std::pair<std::vector<double>, std::vector<double>> statistics(const Tensor& x) {
  const std::vector<double> v = x.to_vector<double>();
  const size_t channels = size_t(x.shape().dim(-1));
  std::vector<double> mean(channels), variance(channels);
  const double n = double(v.size() / channels);
  for (size_t i = 0; i < v.size(); ++i) mean[i % channels] += v[i] / n;
  for (size_t i = 0; i < v.size(); ++i)
    variance[i % channels] += (v[i] - mean[i % channels]) * (v[i] - mean[i % channels]) / n;
  return {mean, variance};
}
void expect_near(const std::vector<double>& got, const std::vector<double>& want, double relative) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i)
    EXPECT_NEAR(got[i], want[i], relative * (std::abs(want[i]) + 0.1)) << i;
}

TEST(Recalibrate, every_layer_has_the_statistics_of_all_of_x_under_those_before_it) {
  const Model m = net();
  const Tensor x = digits(200);
  const auto done = recalibrate(m, x, {.batch_size = 32});
  ASSERT_THAT(done, SizeIs(3));
  EXPECT_EQ(done[0].layer, "first");
  EXPECT_EQ(done[0].n, 200 * 6 * 6);
  EXPECT_EQ(done[2].n, 200);
  EXPECT_GT(done[0].divergence, 0.1);  // from mean 0, variance 1
  // In inference, with the new averages of the layers before.
  const Tensors in = layer_inputs(m, {"first", "second", "third"}, x);
  for (size_t i = 0; i < 3; ++i) {
    SCOPED_TRACE(done[i].layer);
    const auto [mean, variance] = statistics(in[i]);
    expect_near(get(norm(m, done[i].layer).moving_mean), mean, 1e-5);
    expect_near(get(norm(m, done[i].layer).moving_variance), variance, 1e-5);
  }
}
// The same in the graph: a layer that keeps precise averages, called in training on each batch.
TEST(Recalibrate, precise_averages_of_a_compiled_step_are_the_same_numbers) {
  auto one_norm = [] {
    set_random_seed(12);
    return Sequential({to_layer(Input({8, 8, 1})), Conv2D({.filters = 4, .kernel_size = 3}),
                       BatchNormalization({.averages = BatchNormAverages::precise, .name = "norm"}),
                       ReLU()});
  };
  const Model called = one_norm(), stepped = one_norm();
  const Tensor x = digits(200);
  recalibrate(called, x, {.batch_size = 32});
  auto step = compile([&](const Tensor& t) { return stepped(t, {.training = true}); });
  int64_t at = 0;
  for (const int64_t size : {7, 64, 100, 29}) {
    step(slice(x, {at, 0, 0, 0}, {size, 8, 8, 1}));
    at += size;
  }
  expect_near(get(norm(stepped, "norm").moving_mean), get(norm(called, "norm").moving_mean), 1e-6);
  expect_near(get(norm(stepped, "norm").moving_variance), get(norm(called, "norm").moving_variance),
              1e-6);
  const auto [mean, variance] = statistics(layer_inputs(called, {"norm"}, x)[0]);
  expect_near(get(norm(stepped, "norm").moving_mean), mean, 1e-6);
  expect_near(get(norm(stepped, "norm").moving_variance), variance, 1e-6);
}
TEST(Recalibrate, the_batch_size_does_not_matter) {
  const Model a = net(), b = net();
  recalibrate(a, digits(100), {.batch_size = 100});
  recalibrate(b, digits(100), {.batch_size = 7});
  for (const char* name : {"first", "second", "third"}) {
    expect_near(get(norm(b, name).moving_variance), get(norm(a, name).moving_variance), 1e-5);
    expect_near(get(norm(b, name).moving_mean), get(norm(a, name).moving_mean), 1e-5);
  }
}
TEST(Recalibrate, counts_batches_as_updates_and_says_nothing_changed_the_second_time) {
  const Model m = net();
  recalibrate(m, digits(100), {.batch_size = 10});
  EXPECT_EQ(norm(m, "first").update_count.read().item(), 10);
  for (auto& l : recalibrate(m, digits(100), {.batch_size = 10})) EXPECT_LT(l.divergence, 1e-9);
}
// Training that goes on starts from what was measured, under every policy.
TEST(Recalibrate, every_policy_and_kind_of_variance_goes_on_from_it) {
  const std::vector<double> v = digits(60).to_vector<double>();
  for (BatchNormAverages policy :
       {BatchNormAverages::exponential, BatchNormAverages::plain, BatchNormAverages::cumulative,
        BatchNormAverages::window, BatchNormAverages::precise})
    for (bool sample : {false, true}) {
      SCOPED_TRACE(concat({name_of(policy), sample ? ", sample" : ", population"}));
      const BatchNormalization b(
          {.averages = policy,
           .window = 3,
           .variance = sample ? BatchNormVariance::sample : BatchNormVariance::population});
      const Sequential m({to_layer(Input({8, 8, 1})), b});
      recalibrate(m, digits(60), {.batch_size = 20});
      const auto [mean, variance] = statistics(digits(60));
      const double n = 60 * 64, ratio = sample ? n / (n - 1) : 1;
      expect_near(get(b.impl().moving_mean), mean, 1e-6);
      expect_near(get(b.impl().moving_variance), {variance[0] * ratio}, 1e-6);
      // The same data once more changes nothing but what a sample's n - 1 does.
      m(digits(60), {.training = true});
      expect_near(get(b.impl().moving_mean), mean, 1e-6);
      expect_near(get(b.impl().moving_variance), {variance[0] * ratio}, 2e-4);
    }
}
TEST(Recalibrate, renorm_starts_from_it_too) {
  const BatchNormalization b({.renorm = true});
  const Sequential m({to_layer(Input({8, 8, 1})), b});
  recalibrate(m, digits(60));
  const auto [mean, variance] = statistics(digits(60));
  expect_near(get(b.impl().renorm_mean), mean, 1e-6);
  expect_near(get(b.impl().renorm_stddev), {std::sqrt(variance[0] + 1e-3)}, 1e-6);
  expect_near(get(b.impl().moving_stddev), {std::sqrt(variance[0] + 1e-3)}, 1e-6);
}
TEST(Recalibrate, several_axes) {
  const BatchNormalization b({.axis = {1, -1}});
  const Sequential m({to_layer(Input({2, 3, 2})), b});
  const Tensor x = tensor(Initializer("RandomNormal", 0, 1)({10, 2, 3, 2}, 4), {10, 2, 3, 2});
  recalibrate(m, x);
  const auto [mean, variance] =
      statistics(reshape(transpose(x, {0, 2, 1, 3}), {10 * 3, 4}));  // channel 2 i + j is [i, j]
  expect_near(get(b.impl().moving_mean), mean, 1e-6);
  expect_near(get(b.impl().moving_variance), variance, 1e-6);
}
TEST(Recalibrate, takes_the_first_samples) {
  const Model a = net(), b = net();
  recalibrate(a, digits(100), {.samples = 40});
  recalibrate(b, digits(40), {.samples = 0});
  EXPECT_EQ(get(norm(a, "third").moving_mean), get(norm(b, "third").moving_mean));
}
TEST(Recalibrate, a_layer_used_twice_gets_the_statistics_of_both_uses) {
  set_random_seed(2);
  const Layer shared = BatchNormalization({.name = "shared"});
  const SymbolicTensor x = Input({8, 8, 1});
  const SymbolicTensor twice = Rescaling({.scale = 3, .offset = 1})(x);
  const Model m(x, Add()(std::vector{shared(x), shared(twice)}));
  const Tensor data = digits(50);
  recalibrate(m, data);
  const std::vector<double> v = data.to_vector<double>();
  std::vector<double> both = v;
  for (double p : v) both.push_back(3 * p + 1);
  const auto [mean, variance] = statistics(constant(both, {int64_t(both.size()), 1}, DType::f64));
  auto& n = static_cast<BatchNormalizationImpl&>(*shared.impl());
  expect_near(get(n.moving_mean), mean, 1e-6);
  expect_near(get(n.moving_variance), variance, 1e-6);
}
TEST(Recalibrate, models_within_models_and_residual_blocks) {
  set_random_seed(2);
  Sequential inner({to_layer(Input({8, 8, 1})), BatchNormalization({.name = "in"})}, "inner");
  const SymbolicTensor x = Input({8, 8, 1});
  const SymbolicTensor a = to_layer(inner)(x);
  const Model m(x, BatchNormalization({.name = "out"})(Add()(std::vector{a, x})));
  const auto done = recalibrate(m, digits(64));
  ASSERT_THAT(done, SizeIs(2));
  EXPECT_EQ(done[0].layer, "inner/in");
  const auto [mean, variance] = statistics(layer_inputs(m, {"out"}, digits(64))[0]);
  expect_near(get(norm(m, "out").moving_variance), variance, 1e-5);
}
TEST(Recalibrate, refuses_and_leaves_all_as_it_was) {
  auto refused = [](auto f) -> std::string {
    try {
      f();
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  const Model m = net();
  const auto before = get(norm(m, "first").moving_mean);
  EXPECT_THAT(refused([&] { recalibrate(m, zeros({3, 5, 5, 1})); }), HasSubstr("[3,5,5,1]"));
  EXPECT_THAT(refused([&] { recalibrate(m, zeros({0, 8, 8, 1})); }), HasSubstr("one sample"));
  EXPECT_THAT(refused([&] { recalibrate(m, digits(8), {.batch_size = 0}); }),
              HasSubstr("batch_size"));
  EXPECT_THAT(refused([&] {
                recalibrate(m, full({4, 8, 8, 1}, NAN));
              }),
              HasSubstr("expected finite numbers"));
  EXPECT_EQ(get(norm(m, "first").moving_mean), before);
  const Sequential plain({to_layer(Input({2})), Dense({.units = 1})});
  EXPECT_THAT(refused([&] {
                recalibrate(plain, zeros({4, 2}));
              }),
              HasSubstr("no BatchNormalization"));
  const Layer again = BatchNormalization({.name = "again"});
  const SymbolicTensor x = Input({8, 8, 1});
  const Model loop(x, again(again(x)));
  EXPECT_THAT(refused([&] { recalibrate(loop, digits(4)); }),
              testing::AllOf(HasSubstr("again"), HasSubstr("2 times")));
}
TEST(Recalibrate, repairs_what_drifted) {
  set_random_seed(3);
  Sequential m({to_layer(Input({8, 8, 1})), Conv2D({.filters = 8, .kernel_size = 3}),
                BatchNormalization({.name = "norm"}), ReLU(), Flatten(),
                Dense({.units = 10, .activation = "softmax"})});
  m.compile({.optimizer = Adam({.learning_rate = 3e-3}),
             .loss = "sparse_categorical_crossentropy",
             .metrics = {"accuracy"}});
  const Tensors t = data::digits().take(800).all();
  m.fit(t[0], t[1], {.epochs = 4, .verbose = 0, .seed = 1});
  const double good = m.evaluate(t[0], t[1], {}).at("loss");
  auto& n = norm(m, "norm");
  n.moving_mean.assign(n.moving_mean.read() + 0.5f);
  n.moving_variance.assign(n.moving_variance.read() * 9);
  const double bad = m.evaluate(t[0], t[1], {}).at("loss");
  recalibrate(m, t[0]);
  EXPECT_GT(bad, 2 * good);
  EXPECT_NEAR(m.evaluate(t[0], t[1], {}).at("loss"), good, 0.1 * good);
}

}  // namespace
}  // namespace evenflow::doctor
