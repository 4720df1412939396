// SPDX-License-Identifier: Apache-2.0
// Layers: extents, refusals, and what the nets of Keras do not show. Their values are judged in
// keras_file_test.cc.
#include "evenflow/model/layers.h"

#include <gmock/gmock.h>

#include <cmath>

#include "evenflow/graph/gradient.h"
#include "evenflow/model/batch_normalization.h"
#include "evenflow/model/model.h"
#include "evenflow/model/normalization.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/shape.h"
#include "tests/reference_values.h"

namespace evenflow {
namespace {
using testing::ElementsAre;
using testing::HasSubstr;

Tensor floats(const std::vector<float>& v, const Shape& s) { return tensor(v, s); }
Tensor numbers(const Shape& shape) {
  std::vector<float> v(static_cast<size_t>(shape.count()));
  uint64_t s = 11;
  for (float& x : v)
    s = s * 6364136223846793005u + 1442695040888963407u, x = float(s >> 40) / float(1 << 22) - 2;
  return tensor(v, shape);
}
template <class F>
std::string refusal(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}
void copy_weights(const Layer& from, const Layer& to) {
  for (size_t i = 0; i < from.weights().size(); ++i)
    to.weights()[i].variable.assign(from.weights()[i].variable.read());
}

// A layer's stated extents are those of what it gives, for any batch.
TEST(Layers, SayTheExtentsThatTheyGive) {
  const std::vector<std::pair<Layer, Shape>> all{
      {Dense({.units = 3}), {2, 5}},
      {Dense({.units = 4, .activation = "glu"}), {2, 3, 5}},
      {Flatten(), {2, 3, 4}},
      {Flatten(), {2}},
      {Flatten({.data_format = "channels_first"}), {2, 3, 4, 5}},
      {Reshape({.target_shape = {-1, 2}}), {3, 4, 5}},
      {Reshape({.target_shape = {20}}), {3, 4, 5}},
      {Reshape({.target_shape = {}}), {3, 1}},
      {Activation("glu"), {2, 6}},
      {Softmax({.axis = 1}), {2, 3, 4}},
      {Conv2D({.filters = 6, .kernel_size = {3, 2}, .strides = {2, 1}, .groups = 2}), {2, 9, 8, 4}},
      {Conv2D({.filters = 6, .kernel_size = 3, .padding = "same", .dilation_rate = 2}),
       {2, 4, 5, 3}},
      {Conv2D({.filters = 6,
               .kernel_size = 2,
               .strides = 3,
               .padding = "same",
               .data_format = "channels_first"}),
       {2, 3, 7, 8}},
      {Conv2DTranspose({.filters = 5, .kernel_size = {3, 2}, .strides = {2, 3}}), {2, 4, 3, 2}},
      {Conv2DTranspose({.filters = 5,
                        .kernel_size = {3, 4},
                        .strides = {2, 3},
                        .padding = "same",
                        .output_padding = Size2(1, 2),
                        .data_format = "channels_first"}),
       {2, 2, 4, 3}},
      {Conv2DTranspose(
           {.filters = 5, .kernel_size = 3, .padding = "same", .dilation_rate = {1, 2}}),
       {2, 4, 3, 2}},
      {DepthwiseConv2D({.kernel_size = 3, .depth_multiplier = 2, .data_format = "channels_first"}),
       {2, 3, 7, 8}},
      {SeparableConv2D({.filters = 5, .kernel_size = 3, .strides = 2, .padding = "same"}),
       {2, 7, 8, 3}},
      {ZeroPadding2D({.padding = Padding2(1, 2, 3, 4)}), {2, 3, 3, 1}},
      {ZeroPadding2D({.padding = Padding2(1, 2, 3, 4), .data_format = "channels_first"}),
       {2, 1, 3, 3}},
      {MaxPooling2D(), {2, 5, 6, 3}},
      {MaxPooling2D(
           {.pool_size = {3, 2}, .strides = 1, .padding = "same", .data_format = "channels_first"}),
       {2, 3, 5, 6}},
      {AveragePooling2D({.pool_size = 3, .strides = Size2(2, 1)}), {2, 5, 6, 3}},
      {GlobalMaxPooling2D({.keepdims = true}), {2, 5, 6, 3}},
      {GlobalAveragePooling2D({.data_format = "channels_first"}), {2, 3, 5, 6}},
      {GlobalAveragePooling2D({.data_format = "channels_first", .keepdims = true}), {2, 3, 5, 6}},
      {Rescaling({.scale = 2}), {2, 3}},
      {BatchNormalization({.axis = 1}), {2, 3, 4}},
      {Normalization(), {2, 3}},
  };
  for (auto& [layer, shape] : all) {
    SCOPED_TRACE(layer.name() + " of " + str(shape));
    for (int64_t batch : {shape[0], int64_t(5), int64_t(0)}) {
      const Tensor y = layer(zeros(shape.with(0, batch)));
      Dims d(shape.begin(), shape.end());
      d[0] = -1;
      Dims said = layer.impl()->output_dims({d});
      EXPECT_EQ(said[0], -1);
      said[0] = batch;
      EXPECT_EQ(y.shape(), Shape(said));
    }
  }
}

TEST(Layers, ChannelsFirstIsChannelsLastTurned) {
  const Tensor x = numbers({2, 7, 6, 4}), turned = transpose(x, {0, 3, 1, 2});
  auto check = [&](const Layer& last, const Layer& first) {
    SCOPED_TRACE(std::string(last.impl()->class_name()));
    const Tensor y = last(x);
    first(turned);
    copy_weights(last, first);
    Tensor z = first(turned);
    if (z.rank() == 4) z = transpose(z, {0, 2, 3, 1});
    EXPECT_EQ(reference::difference(z, y, {1e-6, 1e-6}), "");
  };
  const std::string f = "channels_first";
  for (int64_t groups : {1, 2})
    check(Conv2D({.filters = 6, .kernel_size = {3, 2}, .strides = {2, 1}, .groups = groups}),
          Conv2D({.filters = 6,
                  .kernel_size = {3, 2},
                  .strides = {2, 1},
                  .data_format = f,
                  .groups = groups}));
  check(Conv2D({.filters = 5, .kernel_size = 3, .padding = "same", .activation = "relu"}),
        Conv2D({.filters = 5,
                .kernel_size = 3,
                .padding = "same",
                .data_format = f,
                .activation = "relu"}));
  check(DepthwiseConv2D({.kernel_size = 2, .depth_multiplier = 3}),
        DepthwiseConv2D({.kernel_size = 2, .depth_multiplier = 3, .data_format = f}));
  check(SeparableConv2D({.filters = 3, .kernel_size = 2}),
        SeparableConv2D({.filters = 3, .kernel_size = 2, .data_format = f}));
  check(ZeroPadding2D({.padding = Padding2(1, 2, 3, 0)}),
        ZeroPadding2D({.padding = Padding2(1, 2, 3, 0), .data_format = f}));
  check(MaxPooling2D({.pool_size = {3, 2}}), MaxPooling2D({.pool_size = {3, 2}, .data_format = f}));
  check(AveragePooling2D({.pool_size = {3, 2}, .padding = "same"}),
        AveragePooling2D({.pool_size = {3, 2}, .padding = "same", .data_format = f}));
  check(GlobalMaxPooling2D(), GlobalMaxPooling2D({.data_format = f}));
  check(GlobalAveragePooling2D({.keepdims = true}),
        GlobalAveragePooling2D({.data_format = f, .keepdims = true}));
  check(BatchNormalization(), BatchNormalization({.axis = 1}));
  check(Flatten(), Flatten({.data_format = f}));
}

TEST(Layers, DropoutDropsItsShareInTrainingAlone) {
  Dropout d({.rate = .3, .seed = 5});
  const Tensor x = ones({1000, 100});
  EXPECT_EQ(d(x).to_vector(), x.to_vector());
  auto trained = [&](const Layer& l) {
    Step s;
    const auto v = l(x, {.training = true}).to_vector();
    s.commit();
    return v;
  };
  const auto first = trained(d), second = trained(d);
  EXPECT_NE(first, second);
  double kept = 0;
  for (float v : first) {
    EXPECT_TRUE(v == 0 || std::abs(v - 1 / .7f) < 1e-6f) << v;
    kept += v != 0;
  }
  EXPECT_NEAR(kept / 1e5, .7, 5 * std::sqrt(.21 / 1e5));
  EXPECT_EQ(trained(Dropout({.rate = .3, .seed = 5})), first);  // a function of its seed
  EXPECT_EQ(trained(Dropout({.rate = 0})), x.to_vector());
  EXPECT_EQ(trained(Dropout({.rate = 1})), zeros({1000, 100}).to_vector());
}

TEST(Layers, AnActivationInALayerIsTheLayerAfterIt) {
  const Tensor x = numbers({3, 4});
  for (const char* a : {"relu", "softmax", "sparsemax", "gelu", "log_softmax"}) {
    Dense with({.units = 5, .activation = a}), plain({.units = 5});
    const Tensor y = with(x);
    plain(x);
    copy_weights(with, plain);
    EXPECT_EQ(Activation(a)(plain(x)).to_vector(), y.to_vector()) << a;
  }
}

// Keras 3.15 in numpy: max(x - tau, 0) with tau = (sum of the cumulative sums of the support - 1) /
// its size.
TEST(Layers, SparsemaxIsKerass) {
  const Tensor x = watch(floats({.5f, .3f, .1f, 2, 0, 0}, {2, 3}));
  const Tensor y = Activation("sparsemax")(x);
  // First row: all three are in the support; sums .5, .8, .7; tau = (2 - 1) / 3. Second: 2 alone,
  // tau = 1.
  EXPECT_THAT(y.to_vector(), testing::Pointwise(testing::FloatNear(1e-6f),
                                                std::vector<float>{.1f, 0, 0, 1, 0, 0}));
  // y[0] = x0 - (3 x0 + 2 x1 + x2 - 1) / 3
  const auto g = gradient({y}, {floats({1, 0, 0, 1, 0, 0}, {2, 3})}, {Wrt(x)})[0].to_vector();
  EXPECT_THAT(g, testing::Pointwise(testing::FloatNear(1e-6f),
                                    std::vector<float>{0, -2 / 3.f, -1 / 3.f, 0, 0, 0}));
}

TEST(Layers, NormalizationAdaptsToItsData) {
  Normalization n({.axis = {-1}});
  n.adapt(floats({1, 10, 3, 10, 5, 10}, {3, 2}));
  // mean 3 and 10, population variance 8/3 and 0, whose root is taken as 1e-7
  EXPECT_THAT(n(floats({3, 10, 5, 10}, {2, 2})).to_vector(),
              testing::Pointwise(testing::FloatNear(1e-6f),
                                 std::vector<float>{0, 0, 2 / std::sqrt(8 / 3.f), 0}));
  EXPECT_EQ(n.weights()[2].variable.read().item(), 3);
  n.adapt(floats({0, 0, 2, 4}, {2, 2}));  // what was before is forgotten
  EXPECT_THAT(n(floats({2, 4}, {1, 2})).to_vector(), ElementsAre(1, 1));
  Normalization all({.axis = {}});
  all.adapt(floats({1, 2, 3, 4}, {2, 2}));
  EXPECT_THAT(all(floats({2.5f, 2.5f}, {1, 2})).to_vector(), ElementsAre(0, 0));
  Normalization large;  // statistics in f64
  large.adapt(floats({1e6f, 1e6f + 1, 1e6f + 2}, {3, 1}));
  EXPECT_NEAR(large.weights()[1].variable.read().item(), 2 / 3., 1e-6);
  EXPECT_THAT(refusal([] { Normalization().adapt(Tensor()); }), HasSubstr("empty tensor"));
  EXPECT_THAT(refusal([] {
                Normalization().adapt(zeros({0, 3}));
              }),
              HasSubstr("at least one element"));
  EXPECT_THAT(refusal([] {
                Normalization({.mean = {{1.}}, .variance = {{1.}}}).adapt(zeros({2, 3}));
              }),
              HasSubstr("without them"));
  EXPECT_THAT(refusal([] { Normalization({.mean = {{1.}}}); }), HasSubstr("both or none"));
}

TEST(Layers, MergingBroadcasts) {
  EXPECT_EQ(Add()(Tensors{ones({2, 3}), ones({2, 1}), ones({2, 3})}).to_vector(),
            std::vector<float>(6, 3));
  EXPECT_EQ(Concatenate({.axis = 1})(Tensors{ones({2, 1, 3}), zeros({2, 2, 3})}).shape(),
            (Shape{2, 3, 3}));
  EXPECT_THAT(refusal([] { Add()(Tensors{ones({2, 3})}); }), HasSubstr("expected at least 2"));
  EXPECT_THAT(refusal([] {
                Add()(Tensors{ones({2, 3}), ones({2, 4})});
              }),
              HasSubstr("expected extents of"));
  EXPECT_THAT(refusal([] {
                Concatenate()(Tensors{ones({2, 3, 1}), ones({2, 4, 1})});
              }),
              HasSubstr("but for axis"));
  EXPECT_THAT(refusal([] {
                Concatenate({.axis = 0})(Tensors{ones({2, 3})});
              }),
              HasSubstr("besides the batch"));
}

TEST(Layers, WhatNoInputCouldMakeRightIsRefusedAtOnce) {
  EXPECT_THAT(refusal([] { Dense({.units = 0}); }), HasSubstr("Dense \"dense"));
  EXPECT_THAT(refusal([] { Dense({.units = -1, .name = "d"}); }),
              HasSubstr("Dense \"d\": units is -1, expected a positive number"));
  EXPECT_THAT(refusal([] { Dense({.units = 1, .activation = "relu7"}); }),
              HasSubstr("activation is \"relu7\""));
  EXPECT_THAT(refusal([] { Dense({.units = 1, .kernel_initializer = "lucky"}); }),
              HasSubstr("initializer is \"lucky\""));
  EXPECT_THAT(refusal([] { Dense({.units = 1, .name = "a/b"}); }), HasSubstr("without a slash"));
  EXPECT_THAT(refusal([] { Dense({.units = 1, .name = "\xff"}); }), HasSubstr("UTF-8"));
  EXPECT_THAT(refusal([] { Dense({.units = 1}).set_name(""); }), HasSubstr("0 bytes"));
  EXPECT_THAT(refusal([] { Conv2D({.filters = 4}); }), HasSubstr("kernel_size is 0 x 0"));
  EXPECT_THAT(refusal([] { Conv2D({.filters = 4, .kernel_size = 3, .groups = 3}); }),
              HasSubstr("groups is 3"));
  EXPECT_THAT(refusal([] { Conv2D({.filters = 4, .kernel_size = 3, .padding = "causal"}); }),
              HasSubstr("padding is \"causal\""));
  EXPECT_THAT(refusal([] { Conv2D({.filters = 4, .kernel_size = 3, .data_format = "NCHW"}); }),
              HasSubstr("data_format is \"NCHW\""));
  EXPECT_THAT(refusal([] { MaxPooling2D({.strides = Size2(0, 1)}); }),
              HasSubstr("strides is 0 x 1"));
  EXPECT_THAT(refusal([] { Dropout({.rate = 1.5}); }), HasSubstr("rate is 1.5"));
  EXPECT_THAT(refusal([] { Dropout({.rate = NAN}); }), HasSubstr("rate is nan"));
  EXPECT_THAT(refusal([] { ReLU({.max_value = -1}); }), HasSubstr("max_value is -1"));
  EXPECT_THAT(refusal([] { LeakyReLU({.negative_slope = INFINITY}); }),
              HasSubstr("negative_slope is inf"));
  EXPECT_THAT(refusal([] { Reshape({.target_shape = {-1, -1}}); }), HasSubstr("one -1 at most"));
  EXPECT_THAT(refusal([] { ZeroPadding2D({.padding = -1}); }), HasSubstr("padding is -1"));
  EXPECT_THAT(refusal([] { Input({-2}); }), HasSubstr("Input: shape is"));
}

TEST(Layers, InputsThatDoNotFitAreRefusedByName) {
  Dense d({.units = 2, .name = "d"});
  EXPECT_THAT(refusal([&] { d(ones({3})); }),
              HasSubstr("Dense \"d\": input is (None,), expected (batch, ..., features)"));
  d(ones({2, 3}));
  EXPECT_THAT(refusal([&] { d(ones({2, 4})); }), HasSubstr("3 features, for which it was built"));
  EXPECT_THAT(refusal([&] { d(ones({2, 2, 3})); }), HasSubstr("the rank of (None, 3)"));
  EXPECT_THAT(refusal([&] {
                d(Tensors{ones({2, 3}), ones({2, 3})});
              }),
              HasSubstr("2 inputs were given, expected 1"));
  Conv2D c({.filters = 2, .kernel_size = 3, .name = "c"});
  EXPECT_THAT(refusal([&] {
                c(ones({2, 8, 8}));
              }),
              HasSubstr("expected (batch, height, width, channels)"));
  EXPECT_THAT(refusal([&] {
                c(ones({2, 2, 8, 1}));
              }),
              HasSubstr("expected at least the window 3 x 3"));
  EXPECT_THAT(refusal([&] {
                Conv2D({.filters = 2, .kernel_size = 1, .groups = 2})(ones({1, 4, 4, 3}));
              }),
              HasSubstr("2 groups divide"));
  EXPECT_THAT(refusal([&] {
                Reshape({.target_shape = {4}})(ones({2, 3}));
              }),
              HasSubstr("the elements of target_shape"));
  EXPECT_THAT(refusal([&] { Activation("glu")(ones({2, 3})); }), HasSubstr("an even last extent"));
  EXPECT_THAT(refusal([&] { Dense({.units = 2})(Input({-1})); }), HasSubstr("a known last extent"));
  EXPECT_THAT(refusal([] { Layer()(ones({1, 1})); }), HasSubstr("it is empty"));
}

TEST(Layers, NamesAreKerass) {
  EXPECT_EQ(snake_case("BatchNormalization"), "batch_normalization");
  EXPECT_EQ(snake_case("Conv2D"), "conv2d");
  EXPECT_EQ(snake_case("GlobalAveragePooling2D"), "global_average_pooling2d");
  EXPECT_EQ(snake_case("ReLU"), "re_lu");
  EXPECT_EQ(snake_case("LeakyReLU"), "leaky_re_lu");
  EXPECT_EQ(snake_case("ZeroPadding2D"), "zero_padding2d");
  EXPECT_EQ(snake_case("SeparableConv2D"), "separable_conv2d");
  EXPECT_EQ(snake_case(""), "");
  EXPECT_EQ(snake_case(std::string(1 << 20, 'A')).size(), size_t(1 << 20));
}

TEST(Layers, PoliciesSettleTypes) {
  set_dtype_policy("mixed_bfloat16");
  Dense d({.units = 2});
  set_dtype_policy("float32");
  EXPECT_EQ(d(ones({1, 3})).dtype(), DType::bf16);
  EXPECT_EQ(d.weights()[0].variable.sig().dtype, DType::f32);
  EXPECT_EQ(Dense({.units = 2})(ones({1, 3})).dtype(), DType::f32);
  EXPECT_THROW(set_dtype_policy("int8"), Error);
  EXPECT_THAT(refusal([] { Dense({.units = 1, .dtype = "float99"}); }), HasSubstr("\"float99\""));
}

}  // namespace
}  // namespace evenflow
