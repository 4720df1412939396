// SPDX-License-Identifier: Apache-2.0
// Values by Keras and TensorFlow; infinities and NaN.
#include "evenflow/ops/pooling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "evenflow/graph/gradient.h"
#include "tests/reference_values.h"

namespace evenflow {
namespace {
using testing::HasSubstr;
constexpr float kInf = std::numeric_limits<float>::infinity();

Pool2DAttrs attrs_of(const nlohmann::json& a) {
  return {.pool_size = a["pool_size"].get<std::vector<int64_t>>(),
          .strides = a["strides"].get<std::vector<int64_t>>(),
          .padding = a["padding"]};
}

TEST(Pooling, AgreesWithKeras) {
  using J = nlohmann::json;
  EXPECT_EQ(11, reference::check("max_pool2d", [](const Tensors& x, const J& a) -> Tensors {
              return {max_pool2d(x[0], attrs_of(a))};
            }));
  EXPECT_EQ(9, reference::check("average_pool2d", [](const Tensors& x, const J& a) -> Tensors {
              return {average_pool2d(x[0], attrs_of(a))};
            }));
  EXPECT_EQ(2,
            reference::check("global_average_pool2d", [](const Tensors& x, const J& a) -> Tensors {
              return {global_average_pool2d(x[0], a["keepdims"])};
            }));
  EXPECT_EQ(1, reference::check("global_max_pool2d", [](const Tensors& x, const J& a) -> Tensors {
              return {global_max_pool2d(x[0], a["keepdims"])};
            }));
}

// With one channel and with vectors of them.
TEST(Pooling, MaximumOfInfinitiesAndNaN) {
  for (int64_t c : {1, 33}) {
    std::vector<float> v;
    for (float x : {-kInf, -kInf, 1.f, std::nanf("")}) v.insert(v.end(), size_t(c), x);
    const Tensor y = max_pool2d(tensor(v, {1, 1, 4, c}), {.pool_size = {1, 2}});
    for (int64_t i = 0; i < c; ++i) {
      EXPECT_EQ(y.data_as<float>()[i], -kInf);
      EXPECT_TRUE(std::isnan(y.data_as<float>()[c + i]));
    }
  }
}
// The first of equal elements has the whole gradient, and overlapping windows add theirs.
TEST(Pooling, GradientOfTies) {
  for (int64_t c : {1, 19}) {
    const Tensor x = watch(ones({1, 3, 3, c}));
    const Tensor g = gradient(max_pool2d(x, {.pool_size = {2, 2}, .strides = {1, 1}}), x);
    for (int64_t i = 0; i < 9 * c; ++i)
      EXPECT_EQ(g.data_as<float>()[i], i / c % 3 < 2 && i / c / 3 < 2 ? 1 : 0) << i;
  }
}
// Extents beside a zero may be beyond all bounds, and cost nothing.
TEST(Pooling, NothingOfMuch) {
  constexpr int64_t much = int64_t(1) << 28;
  const Tensor x = watch(zeros({much, much, 4, 0}));
  for (const Tensor& y : {max_pool2d(x), average_pool2d(x)}) {
    EXPECT_EQ(y.shape(), Shape({much, much / 2, 2, 0}));
    EXPECT_EQ(gradient(y, x).shape(), x.shape());
  }
}
// Padding does not count, wherever it comes from.
TEST(Pooling, ExplicitPadding) {
  const Tensor x = watch(full({1, 5, 5, 3}, -2));
  const Pool2DAttrs a{.pool_size = {3, 3},
                      .strides = {2, 2},
                      .padding = "explicit",
                      .explicit_paddings = {1, 1, 2, 0}};
  for (const Tensor& y : {max_pool2d(x, a), average_pool2d(x, a)}) {
    EXPECT_EQ(y.shape(), (Shape{1, 3, 3, 3}));
    EXPECT_THAT(y.to_vector(), testing::Each(-2));
  }
  float sum = 0;
  for (float g : gradient(average_pool2d(x, a), x).to_vector()) sum += g;
  EXPECT_NEAR(sum, 27, 1e-5);
  Pool2DAttrs wide = a;
  wide.explicit_paddings = {1, 3, 0, 0};
  EXPECT_THROW(max_pool2d(x, wide), Error);
  EXPECT_THROW(max_pool2d(zeros({1, 0, 5, 3}), a), Error);
}
TEST(Pooling, RefusesAttributesThatMakeNoSense) {
  const Tensor x = zeros({1, 4, 4, 2});
  const auto refusal = [&](Pool2DAttrs a) -> std::string {
    try {
      max_pool2d(x, a);
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  EXPECT_THAT(refusal({.pool_size = {2}}), HasSubstr("expected 2"));
  EXPECT_THAT(refusal({.pool_size = {0, 2}}), HasSubstr("window of height is 0"));
  EXPECT_THAT(refusal({.strides = {2, 0}}), HasSubstr("stride of width is 0"));
  EXPECT_THAT(refusal({.padding = "SAME"}), HasSubstr("\"valid\", \"same\" or"));
  EXPECT_THAT(refusal({.pool_size = {5, 2}}), HasSubstr("expected at most 4"));
  EXPECT_THROW(global_max_pool2d(zeros({2, 3})), Error);
}

}  // namespace
}  // namespace evenflow
