// SPDX-License-Identifier: Apache-2.0
// Optimizers against Keras, step by step: tests/reference/optimizers.json.
#include "evenflow/train/optimizers.h"

#include <gmock/gmock.h>

#include "evenflow/core/error.h"
#include "evenflow/graph/compile.h"
#include "evenflow/ops/reduce.h"
#include "tests/optimizer_from_json.h"
#include "tests/reference_values.h"

namespace evenflow {
namespace {
using nlohmann::json;

Tensor floats(const std::vector<float>& v, const Shape& s) { return tensor(v, s); }

std::vector<Weight> weights_of(const json& variables) {
  std::vector<Weight> r;
  for (const json& v : variables)
    r.push_back({"w", Variable(reference::to_tensor(v), {.name = concat({"w", r.size()})})});
  return r;
}

TEST(Optimizers, StepsAreKerass) {
  int n = 0;
  for (const json& c : reference::document("optimizers.json")["cases"]) {
    SCOPED_TRACE(
        concat({"case ", n++, " ", c["optimizer"].get<std::string>(), " ", c["config"].dump()}));
    const auto weights = weights_of(c["variables"]);
    const Optimizer optimizer = tests::optimizer_from_json(c["optimizer"], c["config"]);
    optimizer.impl()->build(weights);
    auto step = compile([impl = optimizer.impl()](const Tensor& kernel, const Tensor& bias) {
      impl->apply({kernel, bias});
    });
    for (const json& s : c["steps"]) {
      step(reference::to_tensor(s["gradients"][0]), reference::to_tensor(s["gradients"][1]));
      for (size_t i = 0; i < weights.size(); ++i)
        EXPECT_EQ(reference::difference(weights[i].variable.read(),
                                        reference::to_tensor(s["variables"][i]), {2e-7, 2e-6}),
                  "")
            << "variable " << i;
    }
    EXPECT_EQ(optimizer.impl()->iterations.read().item(), double(c["steps"].size()));
  }
  EXPECT_EQ(n, 20);
}

TEST(Optimizers, DefaultsAreKerass) {
  struct Defaults : ConfigVisitor {
    std::map<std::string, double> values;
    using ConfigVisitor::field;
    void field(const char* n, bool& v) override { values[n] = v; }
    void field(const char* n, double& v) override { values[n] = v; }
    void field(const char*, std::optional<double>& v) override { EXPECT_FALSE(v); }
  };
  int compared = 0;
  for (const json& c : reference::document("optimizers.json")["cases"]) {
    if (!c["config"].empty()) continue;
    Defaults ours;
    Optimizer(c["optimizer"].get<std::string>()).impl()->visit(ours);
    for (auto& [key, value] : c["whole_config"].items())
      if ((value.is_number() || value.is_boolean()) && ours.values.count(key)) {
        const float theirs = value.is_boolean() ? float(value.get<bool>()) : value.get<float>();
        EXPECT_FLOAT_EQ(float(ours.values[key]), theirs) << c["optimizer"] << " " << key;
        ++compared;
      }
  }
  EXPECT_GE(compared, 16);
}

TEST(Optimizers, HoldWeightsToTheirConstraints) {
  int steps = 0;
  for (const json& c : reference::document("batch_norm_layer.json")["constraints"]) {
    if (!c.contains("optimizer")) continue;
    SCOPED_TRACE(c["optimizer"]);
    const Variable v(reference::to_tensor(c["start"]));
    Optimizer o(c["optimizer"].get<std::string>());
    o.set_learning_rate(.1);
    o.impl()->build({{"kernel", v, true, {}, max_norm(1)}});
    for (const json& s : c["steps"]) {
      Step step;
      o.impl()->apply({reference::to_tensor(s["gradient"])});
      step.commit();
      EXPECT_EQ(reference::difference(v.read(), reference::to_tensor(s["value"])), "");
      ++steps;
    }
  }
  EXPECT_EQ(steps, 6);
}

TEST(Optimizers, ASkippedStepLeavesSlotsAndCount) {
  const auto weights = weights_of(json::parse(R"([{"dtype":"f32","shape":[2],"data":[1,2]}])"));
  const Optimizer adam = Adam();
  adam.impl()->build(weights);
  auto step = compile([impl = adam.impl()](const Tensor& g) {
    require(all_finite({g}));
    impl->apply({g});
  });
  step(floats({1.f, -1.f}, {2}));
  std::vector<std::vector<float>> before;
  for (auto& v : adam.impl()->state()) before.push_back(v.read().to_vector());
  const auto w = weights[0].variable.read().to_vector();
  step(floats({1.f, INFINITY}, {2}));
  EXPECT_FALSE(Function::committed());
  EXPECT_EQ(weights[0].variable.read().to_vector(), w);
  size_t i = 0;
  for (auto& v : adam.impl()->state()) EXPECT_EQ(v.read().to_vector(), before[i++]) << v.name();
}

TEST(Optimizers, SlotsStayWithTheirWeights) {
  const auto two = weights_of(json::parse(
      R"([{"dtype":"f32","shape":[1],"data":[1]},{"dtype":"f32","shape":[1],"data":[1]}])"));
  const Optimizer sgd = SGD({.learning_rate = 1, .momentum = .5});
  sgd.impl()->build(two);
  auto apply = [&](const Tensors& g) {
    Step s;
    sgd.impl()->apply(g);
    s.commit();
  };
  const Tensor one = floats({1.f}, {1});
  apply({one, one});  // v = -1, w = 0
  sgd.impl()->build({two[0]});
  apply({one});  // v = -1.5, w = -1.5
  EXPECT_FLOAT_EQ(two[0].variable.read().item(), -1.5);
  EXPECT_FLOAT_EQ(two[1].variable.read().item(), 0);
  EXPECT_EQ(sgd.impl()->iterations.read().item(), 2);
  sgd.impl()->build(two);
  apply({one, one});  // v = -1.75 and -1.5
  EXPECT_FLOAT_EQ(two[0].variable.read().item(), -3.25);
  EXPECT_FLOAT_EQ(two[1].variable.read().item(), -1.5);
  const auto others = weights_of(json::parse(R"([{"dtype":"f32","shape":[1],"data":[1]}])"));
  sgd.impl()->build(others);
  EXPECT_EQ(sgd.impl()->iterations.read().item(), 0);
}

TEST(Optimizers, AWeightWithoutAGradientStaysAsItIs) {
  const auto two = weights_of(json::parse(
      R"([{"dtype":"f32","shape":[1],"data":[1]},{"dtype":"f32","shape":[1],"data":[1]}])"));
  const Optimizer adam = Adam({.learning_rate = .1});
  adam.impl()->build(two);
  Step s;
  adam.impl()->apply({Tensor(), floats({2.f}, {1})});
  s.commit();
  EXPECT_FLOAT_EQ(two[0].variable.read().item(), 1);
  EXPECT_NEAR(two[1].variable.read().item(), .9, 1e-5);
}

TEST(Optimizers, SettingsOutOfRangeAreRefused) {
  EXPECT_THROW(Optimizer("adagrad"), Error);
  EXPECT_THROW(SGD({.learning_rate = -1}), Error);
  EXPECT_THROW(SGD({.learning_rate = NAN}), Error);
  EXPECT_THROW(SGD({.momentum = 1.5}), Error);
  EXPECT_THROW(SGD({.clipnorm = 0}), Error);
  EXPECT_THROW(SGD({.clipnorm = 1, .clipvalue = 1}), Error);
  EXPECT_THROW(RMSprop({.rho = 1}), Error);
  EXPECT_THROW(Adam({.beta_1 = 1}), Error);
  EXPECT_THROW(AdamW({.weight_decay = -.1}), Error);
  EXPECT_THROW(Optimizer("adam").set_learning_rate(INFINITY), Error);
}

}  // namespace
}  // namespace evenflow
