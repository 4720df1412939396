// SPDX-License-Identifier: Apache-2.0
// Metrics against Keras: tests/reference/metrics.json.
#include <gmock/gmock.h>

#include "evenflow/core/error.h"
#include "evenflow/train/losses.h"
#include "tests/reference_values.h"

namespace evenflow {
namespace {
using nlohmann::json;

Tensor floats(const std::vector<float>& v, const Shape& s) { return tensor(v, s); }

Metric metric_of(const std::string& name, const json& attrs) {
  if (name == "binary_accuracy") return BinaryAccuracy(attrs.value("threshold", 0.5));
  if (name == "top_k_categorical_accuracy") return TopKCategoricalAccuracy(attrs.value("k", 5));
  if (name == "sparse_top_k_categorical_accuracy")
    return SparseTopKCategoricalAccuracy(attrs.value("k", 5));
  return Metric(name);
}

TEST(Metrics, ResultsAreKerassUpdateByUpdate) {
  int n = 0, classes = 0;
  for (const json& c : reference::document("metrics.json")["cases"]) {
    const std::string name = c["metric"];
    if (name == "accuracy") {  // the class Accuracy, not what compile() makes of the word
      ++classes;
      continue;
    }
    SCOPED_TRACE(
        concat({"case ", n++, " ", name, " ", c["attrs"].dump(), " ", c.value("note", "")}));
    const Metric metric = metric_of(name, c["attrs"]);
    double sum = 0, count = 0;
    for (const json& u : c["updates"]) {
      const auto v =
          metric.values(reference::to_tensor(u["y_true"]), reference::to_tensor(u["y_pred"]))
              .to_vector<double>();
      std::vector<double> w(v.size(), 1);
      if (!u["sample_weight"].is_null())
        w = reference::to_tensor(u["sample_weight"]).to_vector<double>();
      ASSERT_EQ(w.size(), v.size());
      for (size_t i = 0; i < v.size(); ++i) sum += w[i] * v[i], count += w[i];
      EXPECT_NEAR(sum / count, u["result"].get<double>(),
                  2e-6 * std::max(1.0, std::abs(sum / count)));
    }
  }
  EXPECT_EQ(n, 32);
  EXPECT_EQ(classes, 2);
}

TEST(Metrics, AccuracyIsWhatTargetsAndPredictionsMakeOfIt) {
  const Metric accuracy("accuracy");
  const Tensor p = floats({.1f, .9f, .8f, .2f}, {2, 2});
  EXPECT_THAT(accuracy.values(tensor(std::vector<int64_t>{1, 1}, {2}), p).to_vector(),
              testing::ElementsAre(1, 0));
  EXPECT_THAT(accuracy.values(tensor(std::vector<int64_t>{1, 1}, {2, 1}), p).to_vector(),
              testing::ElementsAre(1, 0));
  EXPECT_THAT(accuracy.values(floats({0.f, 1.f, 0.f, 1.f}, {2, 2}), p).to_vector(),
              testing::ElementsAre(1, 0));
  const Tensor q = floats({.1f, .9f, .8f}, {3, 1});
  EXPECT_THAT(accuracy.values(floats({0.f, 1.f, 0.f}, {3}), q).to_vector(),
              testing::ElementsAre(1, 1, 0));
  EXPECT_THAT(accuracy.values(tensor(std::vector<int64_t>{0, 1, 0}, {3, 1}), q).to_vector(),
              testing::ElementsAre(1, 1, 0));
}

TEST(Metrics, UnknownOnesAreRefusedByName) {
  try {
    Metric("auc");
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), testing::HasSubstr("metric is \"auc\", expected accuracy,"));
  }
  EXPECT_THROW(TopKCategoricalAccuracy(0), Error);
  EXPECT_THROW(Metric("accuracy").values(zeros({3, 2}), zeros({3, 4})), Error);
}

}  // namespace
}  // namespace evenflow
