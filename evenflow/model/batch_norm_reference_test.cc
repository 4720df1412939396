// SPDX-License-Identifier: Apache-2.0
// The layer against Keras, tf-keras and PyTorch, step for step
// (tests/reference/batch_norm_layer.json).
#include <gmock/gmock.h>

#include "evenflow/format/json.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/model/batch_normalization.h"
#include "evenflow/model/keras_config.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/reduce.h"
#include "tests/reference_values.h"

namespace evenflow {
namespace {
using nlohmann::json;

// A layer of Keras's configuration.
std::shared_ptr<BatchNormalizationImpl> layer_of(json config) {
  config["name"] = "bn";
  const auto document = std::make_shared<const format::Json>(
      format::Json{{"class_name", "BatchNormalization"}, {"config", std::move(config)}});
  return std::static_pointer_cast<BatchNormalizationImpl>(
      layer_from_json(format::JsonValue(document, "case")));
}
// What lies between blocks of so many samples: the variance of their means, [channels] in f64.
std::vector<double> between(const Tensor& x, int64_t block) {
  const auto v = x.to_vector<double>();
  const size_t channels = size_t(x.shape().dim(-1)), blocks = size_t(x.shape()[0] / block),
               rows = v.size() / channels / blocks;
  std::vector<double> r(channels);
  for (size_t c = 0; c < channels; ++c) {
    double sum = 0, squares = 0;
    std::vector<double> means(blocks);
    for (size_t b = 0; b < blocks; ++b) {
      for (size_t i = 0; i < rows; ++i) means[b] += v[(b * rows + i) * channels + c];
      sum += means[b] /= double(rows);
    }
    for (double m : means) squares += (m - sum / double(blocks)) * (m - sum / double(blocks));
    r[c] = squares / double(blocks);
  }
  return r;
}

TEST(BatchNormalizationReference, EachPeerStepForStep) {
  std::map<std::string, int> n;
  for (const json& c : reference::document("batch_norm_layer.json")["cases"]) {
    const std::string from = c["from"];
    SCOPED_TRACE(concat({from, " ", n[from]++, " ", c["config"].dump(), " ", c.value("note", "")}));
    json config = c["config"];
    const int64_t ghosts = config.value("virtual_batch_size", 0);
    config.erase("virtual_batch_size");
    const auto l = layer_of(config);
    l->config.virtual_batch_size = ghosts;
    if (c.contains("adjustment")) {
      const double scale = c["adjustment"][0], bias = c["adjustment"][1];
      l->config.adjustment = {scale, scale, bias, bias};
    }
    l->set_averages(c.value("cumulative", false) ? BatchNormAverages::cumulative
                                                 : BatchNormAverages::plain);
    if (from == "torch") l->config.variance = BatchNormVariance::sample;
    const Layer layer(l);
    const Tensor first = reference::to_tensor(c["steps"][0]["x"]);
    layer(first);  // builds it
    std::map<std::string, Variable> state;
    for (auto& w : layer.weights()) state[w.name] = w.variable;
    ASSERT_EQ(state.size(), c["initial"].size());
    for (auto& [name, v] : state)  // what it began with by itself is right too
      if (name == "gamma" || name == "beta")
        v.assign(reference::to_tensor(c["initial"][name]));
      else
        EXPECT_EQ(reference::difference(v.read(), reference::to_tensor(c["initial"][name])), "");
    std::vector<double> more(size_t(l->moving_mean.sig().shape.count()));
    const bool counts = c.value("note", "").find("nothing counts") == std::string::npos;
    for (const json& s : c["steps"]) {
      Step step;
      const Tensor x = watch(reference::to_tensor(s["x"]));
      CallContext context{.training = true};
      if (s.contains("mask")) context.mask = reference::to_tensor(s["mask"]);
      const Tensor y = layer(x, context);
      if (counts) {
        EXPECT_EQ(reference::difference(y, reference::to_tensor(s["y"]), {5e-6, 1e-5}), "");
      }
      if (s.contains("dy") && counts) {
        std::vector<Wrt> by{x};
        Tensors want{reference::to_tensor(s["dx"])};
        if (l->gamma) by.emplace_back(l->gamma), want.push_back(reference::to_tensor(s["dgamma"]));
        if (l->beta) by.emplace_back(l->beta), want.push_back(reference::to_tensor(s["dbeta"]));
        const Tensors got = gradient({y}, {reference::to_tensor(s["dy"])}, by);
        for (size_t i = 0; i < got.size(); ++i)
          EXPECT_EQ(reference::difference(got[i], want[i], {1e-5, 2e-5}), "") << "gradient " << i;
      }
      EXPECT_TRUE(step.commit());
      if (ghosts) {  // the peer's moving variance leaves out what lies between ghosts
        const std::vector<double> b = between(x, ghosts);
        const double keep = config["momentum"];
        for (size_t i = 0; i < b.size(); ++i) more[i] = keep * more[i] + (1 - keep) * b[i];
      }
      for (auto& [name, v] : state) {
        if (name == "gamma" || name == "beta") continue;
        Tensor want = reference::to_tensor(s[name]);
        if (!counts) want = reference::to_tensor(c["initial"][name]);
        if (name == "moving_variance")
          want =
              cast(cast(want, DType::f64) + constant(more, want.shape(), DType::f64), DType::f32);
        EXPECT_EQ(reference::difference(v.read(), want, {2e-6, 1e-5}), "") << name;
      }
    }
    if (!ghosts && counts) {
      EXPECT_EQ(reference::difference(layer(reference::to_tensor(c["inference"]["x"])),
                                      reference::to_tensor(c["inference"]["y"]), {5e-6, 1e-5}),
                "");
    }
  }
  EXPECT_EQ(n["keras"], 12);
  EXPECT_EQ(n["tf_keras"], 6);
  EXPECT_EQ(n["torch"], 4);
}

TEST(Constraints, AreKerass) {
  int values = 0;
  for (const json& c : reference::document("batch_norm_layer.json")["constraints"]) {
    SCOPED_TRACE(c.dump().substr(0, 200));
    if (!c.contains("constraint")) continue;  // optimizers_test.cc
    const auto l = layer_of({{"gamma_constraint", c["serialized"]}});
    EXPECT_EQ(reference::difference(l->config.gamma_constraint(reference::to_tensor(c["w"])),
                                    reference::to_tensor(c["value"])),
              "");
    EXPECT_EQ(json(layer_json(*l))["config"]["gamma_constraint"], c["serialized"]);
    ++values;
  }
  EXPECT_EQ(values, 8);
}

}  // namespace
}  // namespace evenflow
