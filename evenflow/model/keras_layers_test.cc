// SPDX-License-Identifier: Apache-2.0
// Each layer against values that Keras made: built from Keras's own configuration and written as it
// was, weights in its order, outputs and gradients.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "evenflow/format/json.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/model/keras_config.h"
#include "evenflow/model/layers.h"
#include "evenflow/model/model.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/reduce.h"
#include "tests/reference_values.h"

namespace evenflow {
namespace {
using nlohmann::json;
using testing::HasSubstr;

constexpr reference::Tolerance kTolerance{2e-6, 2e-5};

std::vector<Tensor> tensors(const json& list) {
  std::vector<Tensor> r;
  for (auto& t : list) r.push_back(reference::to_tensor(t));
  return r;
}
Layer layer_of(const json& c) {
  const json whole{{"module", "keras.layers"},
                   {"class_name", c["class_name"]},
                   {"config", c["config"]},
                   {"registered_name", nullptr}};
  return Layer(layer_from_json(format::parse_json(whole.dump(), "config")));
}

TEST(KerasLayers, PredictAndDifferentiateAsInKeras) {
  std::map<std::string, int> seen;
  for (const json& c : reference::document("keras_layers.json")["cases"]) {
    SCOPED_TRACE(c["config"]["name"].get<std::string>() + " " + c["config"].dump());
    const Layer layer = layer_of(c);
    Tensors x;
    for (const Tensor& t : tensors(c["inputs"])) x.push_back(watch(t));
    layer(x);  // builds it
    const auto names = c["weight_names"].get<std::vector<std::string>>();
    ASSERT_EQ(layer.weights().size(), names.size());
    for (size_t i = 0; i < names.size(); ++i) {
      EXPECT_EQ(layer.weights()[i].name, names[i]);
      layer.weights()[i].variable.assign(reference::to_tensor(c["weights"][i]));
    }
    const Tensor y = layer(x);
    EXPECT_EQ(reference::difference(y, reference::to_tensor(c["output"]), kTolerance), "");
    const std::vector<Tensor> want = [&] {
      auto all = tensors(c["grad_inputs"]);
      for (auto& t : tensors(c["grad_weights"])) all.push_back(t);
      return all;
    }();
    std::vector<Wrt> wrt;
    if (!c["grad_inputs"].empty()) wrt.insert(wrt.end(), x.begin(), x.end());
    for (auto& w : layer.weights()) wrt.push_back(w.variable);
    ASSERT_EQ(wrt.size(), want.size());
    const Tensors got = gradient(reduce_sum(y * reference::to_tensor(c["grad_output"])), wrt);
    for (size_t i = 0; i < want.size(); ++i)
      EXPECT_EQ(reference::difference(got[i], want[i], kTolerance), "") << "gradient " << i;
    ++seen[c["class_name"]];
  }
  EXPECT_EQ(seen.size(), 35u) << "classes";
}
// Keras reads what it wrote.
TEST(KerasLayers, AreWrittenAsKerasWritesThem) {
  for (const json& c : reference::document("keras_layers.json")["cases"]) {
    SCOPED_TRACE(c["config"]["name"].get<std::string>());
    const Layer layer = layer_of(c);
    const json ours = layer_json(*layer.impl())["config"];
    for (auto& [key, value] : ours.items())
      EXPECT_TRUE(c["config"].contains(key)) << key << ", which Keras would not take";
    for (auto& [key, value] : c["config"].items()) {
      if (key == "dtype" || value.is_null()) continue;
      if (value.is_boolean() && !value.get<bool>() && !ours.contains(key)) continue;
      ASSERT_TRUE(ours.contains(key)) << key;
      if (value.is_object() && value.contains("class_name")) {
        EXPECT_EQ(ours[key]["class_name"], value["class_name"]) << key;
        for (auto& [k, v] : value["config"].items())
          if (!v.is_null()) {
            EXPECT_EQ(ours[key]["config"].value(k, json()), v) << key << " " << k;
          }
      } else {
        EXPECT_EQ(ours[key], value) << key;
      }
    }
  }
}

// ---- what is random: by its distribution, from the formulas of the papers
struct Spread {
  double mean = 0, variance = 0;
  explicit Spread(const Tensor& t) {
    const auto v = t.to_vector<double>();
    for (double x : v) mean += x / double(v.size());
    for (double x : v) variance += (x - mean) * (x - mean) / double(v.size());
  }
};
const CallContext kTraining{.training = true};

TEST(NoiseLayers, HaveTheirMeanAndDeviation) {
  const Tensor x = full({400, 500}, 2);
  const Spread noise(GaussianNoise({.stddev = 0.7, .seed = 1})(x, kTraining));
  EXPECT_NEAR(noise.mean, 2, 0.01);
  EXPECT_NEAR(noise.variance, 0.49, 0.01);
  const Spread product(GaussianDropout({.rate = 0.2, .seed = 2})(x, kTraining));
  EXPECT_NEAR(product.mean, 2, 0.01);
  EXPECT_NEAR(product.variance, 4 * 0.2 / 0.8, 0.02);
}
// Klambauer et al. 2017: mean 0 and variance 1 stay.
TEST(NoiseLayers, AlphaDropoutKeepsMeanAndVariance) {
  const Tensor x = tensor(Initializer("RandomNormal", 0, 1)({400, 500}, 3), {400, 500});
  const Spread s(AlphaDropout({.rate = 0.3, .seed = 4})(x, kTraining));
  EXPECT_NEAR(s.mean, 0, 0.01);
  EXPECT_NEAR(s.variance, 1, 0.015);
}
TEST(NoiseLayers, SpatialDropoutDropsWholeChannels) {
  auto check = [](const Layer& layer, const Shape& shape, bool first) {
    const Tensor y = layer(ones(shape), kTraining);
    const auto v = y.to_vector<double>();
    const int64_t n = shape[0], places = shape.count() / n / 64;
    int64_t dropped = 0;
    for (int64_t i = 0; i < n; ++i)
      for (int64_t c = 0; c < 64; ++c) {
        auto at = [&](int64_t p) {
          return v[size_t(i * 64 * places + (first ? c * places + p : p * 64 + c))];
        };
        for (int64_t p = 1; p < places; ++p) ASSERT_EQ(at(p), at(0));
        EXPECT_TRUE(at(0) == 0 || std::abs(at(0) - 1 / 0.75) < 1e-6) << at(0);
        dropped += at(0) == 0;
      }
    EXPECT_NEAR(double(dropped) / double(n * 64), 0.25, 0.03);
  };
  check(SpatialDropout1D({.rate = 0.25, .seed = 1}), {50, 7, 64}, false);
  check(SpatialDropout2D({.rate = 0.25, .seed = 1}), {50, 3, 4, 64}, false);
  check(SpatialDropout2D({.rate = 0.25, .seed = 1, .data_format = "channels_first"}),
        {50, 64, 3, 4}, true);
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
TEST(KerasLayers, RefuseWhatTheyDoNotTake) {
  auto on = [](const Layer& layer, const std::vector<Shape>& shapes) {
    return refusal([&] {
      Tensors x;
      for (auto& s : shapes) x.push_back(zeros(s));
      layer(x);
    });
  };
  EXPECT_THAT(on(Conv1D({.filters = 2, .kernel_size = 3}), {{2, 5, 5, 1}}),
              HasSubstr("expected (batch, steps, channels)"));
  EXPECT_THAT(on(Conv1D({.filters = 2, .kernel_size = 7}), {{2, 5, 1}}),
              HasSubstr("expected at least the window"));
  EXPECT_THAT(refusal([] { Conv2D({.filters = 2, .kernel_size = 3, .padding = "causal"}); }),
              HasSubstr("expected \"valid\" or \"same\""));
  EXPECT_THAT(
      refusal([] { Conv1DTranspose({.filters = 2, .kernel_size = 3, .output_padding = 1}); }),
      HasSubstr("output_padding is 0 x 1, expected from 0 to below the strides 1 x 1"));
  EXPECT_THAT(refusal([] {
                Conv1DTranspose({.filters = 2, .kernel_size = 3, .strides = 2, .dilation_rate = 2});
              }),
              HasSubstr("dilation_rate is 1 x 2"));
  EXPECT_THAT(on(Subtract(), {{2, 3}, {2, 3}, {2, 3}}), HasSubstr("expected 2"));
  EXPECT_THAT(on(Multiply(), {{2, 3}}), HasSubstr("expected at least 2"));
  EXPECT_THAT(on(Average(), {{2, 3}, {2, 4}}), HasSubstr("expected extents of"));
  EXPECT_THAT(on(Dot({.axes = {0}}), {{2, 3}, {2, 3}}), HasSubstr("besides the batch"));
  EXPECT_THAT(on(Dot(), {{2, 3}, {2, 4}}), HasSubstr("expected 3 on axis 1"));
  EXPECT_THAT(refusal([] { Dot({.axes = {1, 2, 3}}); }), HasSubstr("one or two axes"));
  EXPECT_THAT(refusal([] { Permute({.dims = {1, 3}}); }), HasSubstr("each of 1, 2, ... once"));
  EXPECT_THAT(on(Permute({.dims = {2, 1}}), {{2, 3}}), HasSubstr("2 extents behind the batch"));
  EXPECT_THAT(on(RepeatVector({.n = 2}), {{2, 3, 4}}), HasSubstr("(batch, features)"));
  EXPECT_THAT(on(Cropping1D({.cropping = {2, 3}}), {{2, 5, 1}}), HasSubstr("more than the 5"));
  EXPECT_THAT(refusal([] { Cropping2D({.cropping = -1}); }), HasSubstr("cropping is -1"));
  EXPECT_THAT(refusal([] { UpSampling2D({.interpolation = "lanczos3"}); }),
              HasSubstr("expected \"nearest\" or \"bilinear\""));
  EXPECT_THAT(refusal([] { UpSampling1D({.size = 0}); }), HasSubstr("size is 0"));
  EXPECT_THAT(refusal([] { Embedding({.input_dim = 0, .output_dim = 3}); }),
              HasSubstr("input_dim is 0"));
  EXPECT_THAT(on(PReLU({.shared_axes = {2}}), {{2, 3}}), HasSubstr("an axis 2"));
  EXPECT_THAT(refusal([] { AlphaDropout({.rate = 1}); }), HasSubstr("from 0 to below 1"));
  EXPECT_THAT(refusal([] { GaussianNoise({.stddev = -1}); }), HasSubstr("stddev is -1"));
  EXPECT_THAT(on(SpatialDropout1D(), {{2, 3}}), HasSubstr("(batch, steps, channels)"));
}
TEST(KerasLayers, AnIndexBeyondTheTableIsRefused) {
  const Embedding e({.input_dim = 4, .output_dim = 2});
  EXPECT_THAT(refusal([&] {
                e(tensor(std::vector<int32_t>{1, 4}, {2})).to_vector<double>();
              }),
              HasSubstr("4"));
}

}  // namespace
}  // namespace evenflow
