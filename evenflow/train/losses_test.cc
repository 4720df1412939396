// SPDX-License-Identifier: Apache-2.0
// Losses against Keras: tests/reference/losses.json.
#include "evenflow/train/losses.h"

#include <gmock/gmock.h>

#include "evenflow/core/error.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/softmax.h"
#include "tests/reference_values.h"

namespace evenflow {
namespace {
using nlohmann::json;

Tensor floats(const std::vector<float>& v, const Shape& s) { return tensor(v, s); }
using testing::HasSubstr;

Loss loss_of(const std::string& name, const json& attrs, const std::string& reduction) {
  CrossentropyConfig c{.from_logits = attrs.value("from_logits", false),
                       .label_smoothing = attrs.value("label_smoothing", 0.0),
                       .reduction = reduction};
  if (attrs.contains("ignore_class")) c.ignore_class = attrs["ignore_class"].get<int64_t>();
  if (name == "sparse_categorical_crossentropy") return SparseCategoricalCrossentropy(c);
  if (name == "categorical_crossentropy") return CategoricalCrossentropy(c);
  if (name == "binary_crossentropy") return BinaryCrossentropy(c);
  if (name == "mean_squared_error") return MeanSquaredError(reduction);
  if (name == "mean_absolute_error") return MeanAbsoluteError(reduction);
  ADD_FAILURE() << "a loss that is not here: " << name;
  return {};
}

TEST(Losses, ValuesAndGradientsAreKerass) {
  int n = 0, apart = 0;
  for (const json& c : reference::document("losses.json")["cases"]) {
    const std::string name = c["loss"], reduction = c["reduction"];
    SCOPED_TRACE(concat({"case ", n++, " ", name, " ", reduction, " ", c["attrs"].dump()}));
    const Tensor p = watch(reference::to_tensor(c["y_pred"]));
    if (p.rank() == 1 && !c["sample_weight"].is_null()) {  // see Loss: a weight is its sample's
      ++apart;
      continue;
    }
    const Tensor value = loss_of(name, c["attrs"], reduction)(
        reference::to_tensor(c["y_true"]), p, reference::to_tensor(c["sample_weight"]));
    EXPECT_EQ(reference::difference(value, reference::to_tensor(c["value"]), {1e-6, 3e-6}), "");
    EXPECT_EQ(reference::difference(gradient(value, p), reference::to_tensor(c["gradient"]),
                                    {1e-6, 1e-5}),
              "");
  }
  EXPECT_EQ(n, 70);
  EXPECT_EQ(apart, 1);
}

TEST(Losses, ASoftmaxThatIsSureKeepsItsGradient) {
  // Keras looks through a softmax or sigmoid to what went in: the loss of a score of -200 is 200,
  // not -log(1e-7), and its gradient is p - y.
  const Tensor x = watch(floats({200.f, 0.f}, {1, 2}));
  const Tensor label = tensor(std::vector<int64_t>{1}, {1});
  const Tensor sparse = Loss("sparse_categorical_crossentropy")(label, softmax(x));
  EXPECT_FLOAT_EQ(sparse.item(), 200);
  EXPECT_THAT(gradient(sparse, x).to_vector(), testing::ElementsAre(1, -1));
  const Tensor dense = Loss("categorical_crossentropy")(floats({0.f, 1.f}, {1, 2}), softmax(x));
  EXPECT_FLOAT_EQ(dense.item(), 200);
  const Tensor z = watch(floats({-300.f}, {1, 1}));
  const Tensor binary = Loss("binary_crossentropy")(floats({1.f}, {1, 1}), sigmoid(z));
  EXPECT_FLOAT_EQ(binary.item(), 300);
  EXPECT_FLOAT_EQ(gradient(binary, z).item(), -1);
}

TEST(Losses, RanksThatDifferByALastExtentOfOne) {
  const Tensor p = floats({.2f, .7f, .4f}, {3, 1}), t = floats({0.f, 1.f, 1.f}, {3});
  const Tensor w = floats({1.f, 2.f, 0.f}, {3});
  // (0.04 + 2 * 0.09) / 3
  EXPECT_NEAR(Loss("mse")(t, p, w).item(), 0.22 / 3, 1e-6);
  EXPECT_NEAR(Loss("mse")(t, p, floats({1.f, 2.f, 0.f}, {3, 1})).item(), 0.22 / 3, 1e-6);
  // [2, 3] against [2, 3, 1]: a sample is a row.
  const Tensor rows = floats({0.f, 0.f, 0.f, 1.f, 1.f, 1.f}, {2, 3});
  const Tensor predicted = floats({1.f, 1.f, 1.f, 1.f, 1.f, 1.f}, {2, 3, 1});
  EXPECT_THAT(Loss("mse").per_sample(rows, predicted).to_vector(), testing::ElementsAre(1, 0));
}

TEST(Losses, PredictionsOfRankOneAreOneASample) {
  const Tensor t = floats({0, 1, 1}, {3}), p = floats({.2f, .7f, .4f}, {3});
  EXPECT_NEAR(Loss("mse")(t, p, floats({1, 2, 0}, {3})).item(), 0.22 / 3, 1e-6);
}

TEST(Losses, WhatDoesNotFitIsRefused) {
  const Tensor p = tensor(std::vector<float>(12, .25f), {3, 4});
  auto refused = [&](const std::function<void()>& f, const char* text) {
    try {
      f();
      ADD_FAILURE() << "expected a refusal with " << text;
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr(text));
    }
  };
  refused([&] { Loss("hinge"); },
          "loss is \"hinge\", expected one of sparse_categorical_crossentropy");
  refused([&] { Loss(""); }, "loss is \"\"");
  refused(
      [&] {
        Loss("mse")(floats({1.f, 2.f, 3.f}, {3}), p);
      },
      "mean_squared_error: y_true is f32[3], expected the shape of y_pred f32[3,4]");
  refused([&] { Loss("sparse_categorical_crossentropy")(p, p); },
          "expected one label for each row");
  for (int64_t label : {-1, 4})
    refused(
        [&] {
          Loss("sparse_categorical_crossentropy")(tensor(std::vector<int64_t>{0, label, 1}, {3}), p)
              .item();
        },
        "expected 0..3");
  refused(  // a label that is no number is none of the classes
      [&] {
        Loss("sparse_categorical_crossentropy")(floats({0.f, NAN, 1.f}, {3}), p).item();
      },
      "expected 0..3");
  refused([&] { Loss("mse")(p, p, floats({1.f, 2.f}, {2})); }, "sample_weight is f32[2]");
  refused([&] { Loss("mse")(p, p, p); }, "sample_weight is f32[3,4]");
  refused([&] { CategoricalCrossentropy({.label_smoothing = 1.5}); }, "label_smoothing is 1.5");
  refused([&] { SparseCategoricalCrossentropy({.label_smoothing = .1}); }, "expected 0");
  refused([&] { MeanSquaredError("average"); }, "reduction is \"average\"");
  refused([&] { Loss("mse")(Tensor(), p); }, "empty tensor");
}

TEST(Losses, NoneAtAllIsZero) {
  const Tensor p = zeros({0, 4});
  for (const char* name : {"mse", "mae", "binary_crossentropy", "categorical_crossentropy"})
    EXPECT_EQ(Loss(name)(zeros({0, 4}), p).item(), 0) << name;
  EXPECT_EQ(Loss("sparse_categorical_crossentropy")(zeros({0}, DType::i64), p).item(), 0);
  // Weights of zero, and nothing but the ignored class.
  EXPECT_EQ(
      MeanSquaredError("mean_with_sample_weight")(zeros({2, 1}), zeros({2, 1}), zeros({2})).item(),
      0);
  EXPECT_EQ(
      SparseCategoricalCrossentropy({.ignore_class = 0})(zeros({2}, DType::i64), zeros({2, 3}))
          .item(),
      0);
}

}  // namespace
}  // namespace evenflow
