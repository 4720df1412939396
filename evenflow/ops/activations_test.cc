// SPDX-License-Identifier: Apache-2.0
// Values by Keras, names, and values far out.
#include "evenflow/ops/activations.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "evenflow/graph/gradient.h"
#include "evenflow/graph/op.h"
#include "tests/reference_values.h"

namespace evenflow {
namespace {
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
constexpr float kInf = std::numeric_limits<float>::infinity();

template <class F>
std::string message(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

// The operation behind a name with attributes as in the file, given by their names.
Tensor with_attrs(const Tensor& x, const nlohmann::json& attrs) {
  static const std::map<std::string, std::string> other{{"exponential", "exp"},
                                                        {"linear", "identity"},
                                                        {"swish", "silu"},
                                                        {"hard_swish", "hard_silu"}};
  const std::string name = attrs["name"];
  if (attrs.size() == 1) return activation(name, x);
  const OpDef& op = find_op(other.count(name) ? other.at(name) : name);
  std::vector<AttrValue> values = op.get_attrs(op.defaults.get());
  for (size_t i = 0; i < values.size(); ++i) {
    if (!attrs.contains(op.attrs[i].name)) continue;
    const nlohmann::json& v = attrs[op.attrs[i].name];
    if (v.is_boolean())
      values[i] = v.get<bool>();
    else if (std::holds_alternative<double>(values[i]))
      values[i] = v.get<double>();
    else if (std::holds_alternative<std::vector<int64_t>>(values[i]))
      values[i] = std::vector<int64_t>{v.get<int64_t>()};
    else
      values[i] = v.get<int64_t>();
  }
  const In in(x);
  return apply(op, op.make_attrs(values), {&in, 1})[0];
}

TEST(Activations, AgreeWithKeras) {
  const auto f = [](const Tensors& x, const nlohmann::json& attrs) -> Tensors {
    // Keras 3.15 sums cumulative sums: its rows add up to 0 or 1.58 instead of 1.
    if (attrs["name"] == "sparsemax") return {};
    return {with_attrs(x[0], attrs)};
  };
  EXPECT_EQ(reference::check("activation", f, {.absolute = 3e-6, .relative = 3e-6}), 71);
  EXPECT_GT(
      reference::check("relu", [](const Tensors& x, auto&) -> Tensors { return {relu(x[0])}; }), 0);
  EXPECT_GT(reference::check("softplus",
                             [](const Tensors& x, auto&) -> Tensors { return {softplus(x[0])}; }),
            0);
}
TEST(Activations, SparsemaxGivesProbabilities) {
  const Tensor x = tensor(std::vector<float>{0.5, 0.2, -1, 3, 3, 3, 9, 0, 0}, {3, 3});
  const std::vector<float> expected{0.65f, 0.35f, 0, 1 / 3.f, 1 / 3.f, 1 / 3.f, 1, 0, 0};
  EXPECT_THAT(sparsemax(x).to_vector(), testing::Pointwise(testing::FloatNear(1e-6f), expected));
}
TEST(Activations, NamesOfKeras) {
  const Tensor x = full({3}, -0.7);
  EXPECT_EQ(activation("", x).to_vector(), x.to_vector());
  EXPECT_EQ(activation("swish", x).to_vector(), silu(x).to_vector());
  EXPECT_TRUE(is_activation("hard_swish"));
  EXPECT_FALSE(is_activation("matmul"));
  EXPECT_THAT(message([&] { activation("rellu", x); }), HasSubstr("the nearest is \"relu\""));
  EXPECT_THAT(message([&] { activation("matmul", x); }), HasSubstr("\"matmul\""));
  EXPECT_LT(message([&] { activation(std::string(100000, 'a'), x); }).size(), 300u);
}
TEST(Activations, AttributesAreChecked) {
  const Tensor x = zeros({4});
  const double nan = std::nan("");
  EXPECT_THAT(message([&] { relu(x, {.negative_slope = -1}); }), HasSubstr("negative_slope is -1"));
  EXPECT_THAT(message([&] { relu(x, {.max_value = nan}); }), HasSubstr("max_value is nan"));
  EXPECT_THAT(message([&] { relu(x, {.max_value = -1}); }), HasSubstr("at least the threshold"));
  EXPECT_THAT(message([&] { elu(x, kInf); }), HasSubstr("alpha is inf"));
  EXPECT_THAT(message([&] { celu(x, 0); }), HasSubstr("alpha is 0"));
  EXPECT_THAT(message([&] { soft_shrink(x, -1); }), HasSubstr("threshold is -1"));
  EXPECT_THAT(message([&] { glu(zeros({2, 3})); }), HasSubstr("an even extent along axis 1"));
  EXPECT_THAT(message([&] { glu(x, 7); }), HasSubstr("expected an axis of x f32[4]"));
}
TEST(Activations, FarValuesAndNan) {
  // 37: whole vectors and a rest.
  const Tensor low = full({37}, -kInf), high = full({37}, kInf), nan = full({37}, std::nan(""));
  EXPECT_THAT(relu(low).to_vector(), Each(0.0f));
  EXPECT_THAT(relu(high).to_vector(), Each(kInf));
  EXPECT_THAT(relu(high, {.max_value = 6}).to_vector(), Each(6.0f));
  EXPECT_THAT(elu(low).to_vector(), Each(-1.0f));
  EXPECT_THAT(softplus(low).to_vector(), Each(0.0f));
  EXPECT_THAT(softplus(high).to_vector(), Each(kInf));
  EXPECT_THAT(mish(high).to_vector(), Each(kInf));
  EXPECT_THAT(hard_sigmoid(low).to_vector(), Each(0.0f));
  for (auto* name : {"relu", "relu6", "elu", "selu", "celu", "gelu", "silu", "hard_silu",
                     "softplus", "mish", "log_sigmoid", "hard_tanh", "soft_shrink", "hard_shrink",
                     "threshold", "sparse_plus", "squareplus", "sparsemax"})
    EXPECT_THAT(activation(name, nan).to_vector(), Each(testing::IsNan())) << name;
  for (auto* name :
       {"elu", "selu", "celu", "softplus", "gelu", "silu", "mish", "log_sigmoid", "relu"}) {
    const Tensor x = watch(tensor(std::vector<float>{-200, -90, 90, 200}, {4}));
    for (const float g : gradient(activation(name, x), x).to_vector())
      EXPECT_TRUE(std::isfinite(g)) << name;
  }
}
TEST(Activations, GradientsAtKinks) {
  const Tensor x = watch(tensor(std::vector<float>{-1, 0, 2, 7}, {4}));
  EXPECT_THAT(gradient(relu(x), x).to_vector(), ElementsAre(0, 0, 1, 1));
  EXPECT_THAT(gradient(relu6(x), x).to_vector(), ElementsAre(0, 0, 1, 0));
  EXPECT_THAT(gradient(leaky_relu(x, 0.5), x).to_vector(), ElementsAre(0.5f, 0.5f, 1, 1));
}

}  // namespace
}  // namespace evenflow
