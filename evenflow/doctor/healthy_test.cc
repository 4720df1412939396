// SPDX-License-Identifier: Apache-2.0
// Healthy models of several kinds pass.
#include "evenflow/doctor/doctor_testing.h"
#include "evenflow/doctor/recalibrate.h"
#include "tests/keras_nets.h"

namespace evenflow::doctor {
namespace {
using testing::ElementsAre;
using testing::IsEmpty;

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

}  // namespace
}  // namespace evenflow::doctor
