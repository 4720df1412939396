// SPDX-License-Identifier: Apache-2.0
// Watching a training.
#include "evenflow/doctor/doctor_testing.h"

namespace evenflow::doctor {
namespace {
using testing::AllOf;
using testing::Contains;
using testing::Field;
using testing::Not;

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

TEST(Checkup, sees_plain_averages_begin) {
  Model m = small_net(0);
  for (const char* name : {"first", "second"}) norm(m, name).adopt_keras_weights();
  auto checkup = std::make_shared<Checkup>();
  train(m, 1, {.callbacks = {checkup}});
  EXPECT_EQ(found(checkup->diagnosis, "T1").level, Level::warning);
  train(m, 1, {.callbacks = {checkup}});  // these began where the first left them
  EXPECT_EQ(found(checkup->diagnosis, "T1").level, Level::note);
}

}  // namespace
}  // namespace evenflow::doctor
