// SPDX-License-Identifier: Apache-2.0
// Preprocessing layers against values of Keras; what is drawn by its range, its mean and by what it
// depends on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "evenflow/model/keras_config.h"
#include "evenflow/model/layers.h"
#include "evenflow/ops/elementwise.h"
#include "tests/reference_values.h"

namespace evenflow {
namespace {
using nlohmann::json;
using testing::HasSubstr;

const CallContext kTraining{.training = true};

Layer layer_of(const json& c) {
  const json whole{{"module", "keras.layers"},
                   {"class_name", c["class_name"]},
                   {"config", c["config"]},
                   {"registered_name", nullptr}};
  return Layer(layer_from_json(format::parse_json(whole.dump(), "config")));
}
template <class F>
std::string refusal(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(PreprocessingLayers, GiveWhatKerasGives) {
  for (const json& c : reference::document("preprocessing.json")["cases"]) {
    SCOPED_TRACE(c["config"].dump());
    const Layer layer = layer_of(c);
    const Tensor x = reference::to_tensor(c["input"]), want = reference::to_tensor(c["output"]);
    const Tensor y = layer(x, {.training = c["training"].get<bool>()});
    EXPECT_EQ(y.dtype(), want.dtype());
    EXPECT_EQ(reference::difference(y, want, {2e-5, 2e-5}), "");
  }
}
TEST(PreprocessingLayers, AreWrittenAsKerasWritesThem) {
  for (const json& c : reference::document("preprocessing.json")["cases"]) {
    SCOPED_TRACE(c["config"].dump());
    const json ours = layer_json(*layer_of(c).impl())["config"];
    for (auto& [key, value] : ours.items())
      EXPECT_TRUE(c["config"].contains(key)) << key << ", which Keras would not take";
    for (auto& [key, value] : c["config"].items()) {
      if (key == "dtype" || key == "sparse") continue;
      ASSERT_TRUE(ours.contains(key)) << key;
      EXPECT_EQ(ours[key], value) << key;
    }
  }
}
TEST(PreprocessingLayers, DiscretizationFindsKerasBoundaries) {
  for (const json& c : reference::document("preprocessing.json")["adapted"]) {
    const Discretization layer(
        {.num_bins = c["num_bins"].get<int64_t>(), .epsilon = c["epsilon"].get<double>()});
    Tensors batches;
    for (const json& b : c["batches"]) batches.push_back(reference::to_tensor(b));
    layer.adapt(batches);
    const auto want = c["bin_boundaries"].get<std::vector<double>>();
    const auto& got = static_cast<DiscretizationImpl&>(*layer.impl()).config.bin_boundaries;
    EXPECT_THAT(got, testing::Pointwise(testing::DoubleNear(1e-5), want));
  }
}

// ---- what is drawn
// An image of one pixel column for each element of a batch: what brightness adds to it.
std::vector<float> brightness(const Layer& layer, int64_t n, const Tensor& index = {}) {
  return layer(full({n, 1, 1, 1}, .5), {.training = true, .index = index}).to_vector<float>();
}
TEST(Augmentation, DrawsUniformNumbersOfItsRange) {
  const auto v =
      brightness(RandomBrightness({.factor = {-.1, .3}, .value_range = {0, 1}, .seed = 5}), 20000);
  double mean = 0, variance = 0;
  for (float x : v) mean += double(x) / double(v.size());
  for (float x : v) variance += (double(x) - mean) * (double(x) - mean) / double(v.size());
  EXPECT_GE(*std::min_element(v.begin(), v.end()), .4f);
  EXPECT_LE(*std::max_element(v.begin(), v.end()), .8f);
  EXPECT_NEAR(mean, .6, .004);                 // the middle
  EXPECT_NEAR(variance, .4 * .4 / 12, .0005);  // of a uniform number
}
TEST(Augmentation, DependsOnSeedDrawAndElement) {
  auto layer = [](int64_t seed) {
    return RandomBrightness({.factor = .3, .value_range = {0, 1}, .seed = seed});
  };
  const Layer a = layer(1), b = layer(1);
  const auto first = brightness(a, 6);
  EXPECT_EQ(first, brightness(b, 6));
  EXPECT_NE(first, brightness(a, 6));
  EXPECT_NE(first, brightness(layer(2), 6));
  const auto some = brightness(layer(1), 2, tensor(std::vector<int64_t>{4, 1}, {2}));
  EXPECT_EQ(some, (std::vector<float>{first[4], first[1]}));
}
TEST(Augmentation, FlipsEachImageOrNot) {
  const Tensor one = tensor(std::vector<float>{1, 2, 3, 4}, {1, 2, 2, 1});
  auto share = [&](const char* mode, const std::vector<float>& flipped) {
    const auto v = RandomFlip({.mode = mode, .seed = 2})(one * ones({4000, 1, 1, 1}), kTraining)
                       .to_vector<float>();
    int64_t count = 0;
    for (size_t i = 0; i < v.size(); i += 4) {
      const std::vector<float> image(v.begin() + int64_t(i), v.begin() + int64_t(i) + 4);
      if (image == flipped)
        ++count;
      else
        EXPECT_EQ(image, (std::vector<float>{1, 2, 3, 4}));
    }
    return double(count) / 4000;
  };
  EXPECT_NEAR(share("horizontal", {2, 1, 4, 3}), .5, .03);
  EXPECT_NEAR(share("vertical", {3, 4, 1, 2}), .5, .03);
  EXPECT_NEAR(share("horizontal_and_vertical", {4, 3, 2, 1}), .5, .03);
}
TEST(Augmentation, ContrastStretchesAboutTheMean) {
  const int64_t n = 5000;  // images (-1, 1): the second pixel is the factor
  const Tensor x = tensor(std::vector<float>{-1, 1}, {1, 1, 2, 1}) * ones({n, 1, 1, 1});
  auto range = [&](Factor f) {
    const auto v = RandomContrast({.factor = f, .value_range = {-9, 9}, .seed = 3})(x, kTraining)
                       .to_vector<float>();
    float low = 9, high = -9;
    for (size_t i = 1; i < v.size(); i += 2) {
      EXPECT_EQ(v[i - 1], -v[i]);
      low = std::min(low, v[i]), high = std::max(high, v[i]);
    }
    return std::pair(double(low), double(high));
  };
  const auto one = range(.4), two = range({.2, .5});
  EXPECT_NEAR(one.first, 1, .002);
  EXPECT_NEAR(one.second, 1.4, .002);
  EXPECT_NEAR(two.first, .8, .002);
  EXPECT_NEAR(two.second, 1.5, .002);
}
TEST(PreprocessingLayers, RefuseWhatTheyDoNotTake) {
  EXPECT_THAT(refusal([] { Resizing({.height = 0, .width = 2}); }), HasSubstr("at least one"));
  EXPECT_THAT(refusal([] {
                Resizing({.height = 2, .width = 2})(zeros({2, 3, 4}));
              }),
              HasSubstr("an image and its channels"));
  EXPECT_THAT(refusal([] { CategoryEncoding(); }), HasSubstr("num_tokens is 0"));
  EXPECT_THAT(refusal([] { Discretization(); }), HasSubstr("bin_boundaries is empty"));
  EXPECT_THAT(refusal([] { Discretization({.num_bins = 3})(zeros({2})); }),
              HasSubstr("expected adapt() before"));
  EXPECT_THAT(refusal([] { Discretization({.bin_boundaries = {1}}).adapt(zeros({2})); }),
              HasSubstr("without num_bins"));
  EXPECT_THAT(refusal([] {
                Rescaling({.scale = {1, 2}})(zeros({2, 3}));
              }),
              HasSubstr("2 on the last axis"));
  EXPECT_THAT(refusal([] { RandomRotation({.factor = 1.5}); }), HasSubstr("from -1 to 1"));
  EXPECT_THAT(refusal([] { RandomZoom({.height_factor = -1}); }), HasSubstr("more than -1"));
  EXPECT_THAT(refusal([] { RandomContrast({.factor = {-.5, .5}}); }), HasSubstr("from 0 to 1"));
  EXPECT_THAT(refusal([] { RandomFlip({.mode = "both"}); }), HasSubstr("mode is \"both\""));
}

}  // namespace
}  // namespace evenflow
