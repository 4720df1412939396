// SPDX-License-Identifier: Apache-2.0
// TensorFlow's functions of batch normalisation against TensorFlow 2.21 on the shapes and with the
// tolerances of its own tests (tests/reference/nn.json), and what they refuse.
#include "evenflow/ops/nn_batch_norm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "evenflow/graph/compile.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/ops/elementwise.h"
#include "tests/reference_values.h"

namespace evenflow {
namespace {
using nlohmann::json;
using reference::Tolerance;
using testing::HasSubstr;

int check(std::string_view op, const reference::Function& f, Tolerance tolerance) {
  return reference::check(op, f, tolerance, {}, "nn.json");
}
Axes axes_of(const json& attrs) { return attrs["axes"].get<Axes>(); }
template <class F>
std::string refusal(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.code() == Code::InvalidArgument ? e.what()
                                             : "not InvalidArgument: " + std::string(e.what());
  }
  return "nothing was refused";
}

TEST(NnBatchNorm, NormalizationIsTensorFlows) {
  const int n =
      check("batch_normalization",
            [](const Tensors& in, const json& a) -> Tensors {
              size_t next = 3;
              const Tensor offset = a["offset"] ? in[next++] : Tensor(),
                           scale = a["scale"] ? in[next] : Tensor();
              return {batch_normalization(in[0], in[1], in[2], offset, scale, a["epsilon"])};
            },
            {1e-5, 1e-5});
  EXPECT_EQ(n, 48);
}
TEST(NnBatchNorm, MomentsAreTensorFlows) {
  const auto f = [](const Tensors& in, const json& a) -> Tensors {
    const Moments m = moments(in[0], axes_of(a), a["keepdims"]);
    return {m.mean, m.variance};
  };
  EXPECT_EQ(check("moments", f, {1e-6, 1e-5}), 16);
}
TEST(NnBatchNorm, WeightedMomentsAreTensorFlows) {
  const auto f = [](const Tensors& in, const json& a) -> Tensors {
    const Moments m = weighted_moments(in[0], axes_of(a), in[1], a["keepdims"]);
    return {m.mean, m.variance};
  };
  EXPECT_EQ(check("weighted_moments", f, {2e-5, 1e-5}), 77);
}
TEST(NnBatchNorm, SufficientStatisticsAreTensorFlows) {
  const auto f = [](const Tensors& in, const json& a) -> Tensors {
    const SufficientStatistics s =
        sufficient_statistics(in[0], axes_of(a), in.size() > 1 ? in[1] : Tensor(), a["keepdims"]);
    return {s.counts, s.mean_ss, s.variance_ss};
  };
  EXPECT_EQ(check("sufficient_statistics", f, {1e-6, 2e-6}), 48);
}
TEST(NnBatchNorm, NormalizedMomentsAreTensorFlows) {
  const auto f = [](const Tensors& in, const json&) -> Tensors {
    const Moments m = normalize_moments(in[0], in[1], in[2], in.size() > 3 ? in[3] : Tensor());
    return {m.mean, m.variance};
  };
  EXPECT_EQ(check("normalize_moments", f, {2e-6, 2e-6}), 6);
}
TEST(NnBatchNorm, FusedIsTensorFlows) {
  const auto f = [](const Tensors& in, const json& a) -> Tensors {
    const bool given = in.size() > 3;
    if (given && in[0].size() == 0) return {};  // TensorFlow gives NaN for what was given
    const FusedBatchNorm r =
        fused_batch_norm(in[0], in[1], in[2], given ? in[3] : Tensor(), given ? in[4] : Tensor(),
                         {.epsilon = a["epsilon"],
                          .data_format = a["data_format"],
                          .is_training = a["is_training"],
                          .exponential_avg_factor = a["exponential_avg_factor"]});
    return {r.y, r.running_mean, r.running_var};
  };
  EXPECT_EQ(check("fused_batch_norm", f, {1e-4, 1e-4}), 51);
}
// The same in bf16 and f16: x and y are rounded, statistics and parameters are not.
TEST(NnBatchNorm, FusedIn16Bits) {
  int n = 0;
  for (const reference::Case& c : reference::cases("fused_batch_norm", {}, "nn.json")) {
    if (c.inputs[0].size() == 0) continue;
    for (const DType t : {DType::bf16, DType::f16}) {
      const Tensor x = cast(c.inputs[0], t);
      const bool given = c.inputs.size() > 3;
      const FusedBatchNormOptions o{.data_format = c.attrs["data_format"],
                                    .is_training = c.attrs["is_training"],
                                    .exponential_avg_factor = c.attrs["exponential_avg_factor"]};
      const Tensor mean = given ? c.inputs[3] : Tensor(), variance = given ? c.inputs[4] : Tensor();
      const FusedBatchNorm r = fused_batch_norm(x, c.inputs[1], c.inputs[2], mean, variance, o);
      EXPECT_EQ(r.running_var.dtype(), DType::f32);
      // What is judged is the rounding of y: the peer gets the x that we got.
      const FusedBatchNorm wide =
          fused_batch_norm(cast(x, DType::f32), c.inputs[1], c.inputs[2], mean, variance, o);
      const double ulp = t == DType::f16 ? 1e-3 : 8e-3;
      EXPECT_EQ(reference::difference(cast(r.y, DType::f32), wide.y, {ulp, ulp}), "");
      EXPECT_EQ(reference::difference(r.running_var, wide.running_var), "");
      ++n;
    }
  }
  EXPECT_EQ(n, 98);
}
TEST(NnBatchNorm, FusedLarge) {
  for (const json& c : reference::document("nn.json")["large"]) {
    const Shape shape(c["shape"].get<std::vector<int64_t>>());
    std::vector<float> v(size_t(shape.count()));
    for (size_t i = 0; i < v.size(); ++i)
      v[i] = float(double(int64_t(i) * 7919 % 10007) / 10007 + 0.5);
    Tensor mean, variance;
    if (!c["given"].empty())
      mean = reference::to_tensor(c["given"][0]), variance = reference::to_tensor(c["given"][1]);
    const FusedBatchNorm r = fused_batch_norm(tensor(v, shape), reference::to_tensor(c["scale"]),
                                              reference::to_tensor(c["offset"]), mean, variance,
                                              {.is_training = c["is_training"]});
    EXPECT_EQ(reference::difference(r.running_mean, reference::to_tensor(c["mean"]), {1e-5, 1e-5}),
              "");
    EXPECT_EQ(
        reference::difference(r.running_var, reference::to_tensor(c["variance"]), {1e-5, 1e-5}),
        "");
    const std::vector<float> y = r.y.to_vector();
    std::vector<double> some;
    for (const json& i : c["at"]) some.push_back(double(y[i.get<size_t>()]));
    EXPECT_EQ(reference::difference(constant(some, {int64_t(some.size())}, DType::f32),
                                    reference::to_tensor(c["y"]), {1e-4, 1e-4}),
              "");
  }
}
TEST(NnBatchNorm, SecondOrder) {
  for (const json& c : reference::document("nn.json")["second"]) {
    Tensors in;
    for (const json& v : c["inputs"]) in.push_back(reference::to_tensor(v));
    const Tensor x = watch(in[0]), scale = watch(in[1]), dy = watch(reference::to_tensor(c["dy"]));
    const bool training = c["is_training"];
    const FusedBatchNorm r =
        fused_batch_norm(x, scale, in[2], training ? Tensor() : in[3], training ? Tensor() : in[4],
                         {.is_training = training});
    const Tensor dx = gradient({r.y}, {dy}, {x})[0];
    EXPECT_EQ(reference::difference(dx, reference::to_tensor(c["dx"]), {1e-5, 1e-4}), "");
    const Tensors second = gradient({dx}, {reference::to_tensor(c["seed"])}, {x, dy, scale});
    for (size_t i = 0; i < 3; ++i)
      EXPECT_EQ(
          reference::difference(second[i], reference::to_tensor(c["gradients"][i]), {2e-5, 1e-4}),
          "")
          << i;
  }
}
// TensorFlow has no gradient through the statistics that are given out (its issue 20407).
TEST(NnBatchNorm, FusedStatisticsHaveGradients) {
  const Tensor x = watch(tensor(std::vector<double>{1, 2, 4, 8, 0, 3}, {3, 1, 1, 2}));
  const FusedBatchNorm r = fused_batch_norm(x, ones({2}, DType::f64), zeros({2}, DType::f64));
  const Tensors g = gradient(
      {r.running_mean, r.running_var},
      {tensor(std::vector<double>{1, 0}, {2}), tensor(std::vector<double>{0, 1}, {2})}, {x});
  // mean of column 0: 1/3 each; sample variance of column 1, (2, 8, 3): 2 (x - 13/3) / 2
  const std::vector<double> want{1. / 3, -7. / 3, 1. / 3, 11. / 3, 1. / 3, -4. / 3},
      got = g[0].to_vector<double>();
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-12) << i;
}
TEST(NnBatchNorm, OneTraceServesAllBatches) {
  int traced = 0;
  auto f = compile([&](const Tensor& x) {
    ++traced;
    const Moments m = moments(x, {0}, true);
    return batch_normalization(x, m.mean, m.variance, Tensor(), Tensor(), 1e-3) +
           fused_batch_norm(x, ones({2}), zeros({2})).y;
  });
  for (int64_t n : {3, 1, 0, 5}) EXPECT_EQ(f(ones({n, 2, 2, 2})).sig().shape, Shape({n, 2, 2, 2}));
  EXPECT_EQ(traced, 1);
}
TEST(NnBatchNorm, RunningValuesOfNothing) {
  const Tensor x = zeros({0, 3, 3, 2}), one = ones({2}),
               mean = tensor(std::vector<float>{5, 6}, {2});
  const FusedBatchNorm r =
      fused_batch_norm(x, one, one, mean, one, {.exponential_avg_factor = 0.1});
  EXPECT_EQ(r.running_mean.to_vector(), (std::vector<float>{5, 6}));
  EXPECT_EQ(r.running_var.to_vector(), (std::vector<float>{1, 1}));
}
TEST(NnBatchNorm, AConstantWithoutEpsilonIsItsOffset) {
  const Tensor x = full({4, 2}, 3), m = full({2}, 3), v = zeros({2}), offset = full({2}, 7);
  for (const Tensor& y :
       {batch_normalization(x, m, v, offset, Tensor(), 0),
        batch_normalization(x, full({1, 2}, 3), zeros({1, 2}), offset, Tensor(), 0)})
    EXPECT_EQ(y.to_vector(), std::vector<float>(8, 7));
}
TEST(NnBatchNorm, NoNegativeVariance) {
  // 1e4 + small: the squares cancel in f32, to below 0 in some of these columns.
  std::vector<float> v(64 * 50);
  for (size_t i = 0; i < v.size(); ++i) v[i] = 1e4f + float(i * 7919 % 101) * 1e-2f;
  const SufficientStatistics s = sufficient_statistics(tensor(v, {64, 50}), {0});
  for (float x : normalize_moments(s.counts, s.mean_ss, s.variance_ss).variance.to_vector())
    EXPECT_GE(x, 0);
}
// A mean that was rounded to 16 bits would be in every deviation: 2049 is no f16.
TEST(NnBatchNorm, MomentsOf16Bits) {
  const Tensor x = cast(tensor(std::vector<float>{2048, 2050}, {2}), DType::f16);
  EXPECT_EQ(moments(x, {0}).variance.item(), 1);
  EXPECT_EQ(weighted_moments(x, {0}, ones({2})).variance.item(), 1);
}

TEST(NnBatchNorm, Refuses) {
  const Tensor x = ones({2, 3, 3, 4}), c = ones({4});
  EXPECT_THAT(
      refusal([&] { batch_normalization(x, ones({3}), c, c, c, 1e-3); }),
      HasSubstr("batch_normalization: mean is f32[3], expected a shape that broadcasts to x"));
  EXPECT_THAT(refusal([&] {
                batch_normalization(x, c, ones({1, 1, 1, 1, 4}), c, c, 1e-3);
              }),
              HasSubstr("variance is f32[1,1,1,1,4]"));
  EXPECT_THAT(refusal([&] {
                batch_normalization(x, c, c, ones({2, 4}), c, 1e-3);
              }),
              HasSubstr("offset is f32[2,4]"));
  EXPECT_THAT(refusal([&] { batch_normalization(x, c, c, c, ones({8}), 1e-3); }),
              HasSubstr("scale is f32[8]"));
  EXPECT_THAT(refusal([&] { batch_normalization(x, c, c, c, c, -1); }),
              HasSubstr("variance_epsilon is -1"));
  EXPECT_THAT(refusal([&] { batch_normalization(cast(x, DType::i32), c, c, c, c, 1e-3); }),
              HasSubstr("x is i32[2,3,3,4], expected a floating type"));
  EXPECT_THAT(refusal([&] {
                weighted_moments(x, {0}, ones({1, 1, 1, 1, 1}));
              }),
              HasSubstr("weighted_moments: frequency_weights is f32[1,1,1,1,1]"));
  EXPECT_THAT(refusal([&] { weighted_moments(x, {0}, ones({3})); }), HasSubstr("broadcast"));
  EXPECT_THAT(refusal([&] { sufficient_statistics(x, {0}, ones({3})); }),
              HasSubstr("sufficient_statistics: shift is f32[3]"));
  EXPECT_THAT(refusal([&] { sufficient_statistics(x, {4}); }), HasSubstr("4"));
  EXPECT_THAT(refusal([&] { normalize_moments(2, c, ones({3})); }),
              HasSubstr("variance_ss is f32[3], expected f32[4]"));
}
// The kernels of TensorFlow read beyond their inputs for such shapes.
TEST(NnBatchNorm, CVE_2021_29583_FusedParametersHaveTheChannelsOfX) {
  const Tensor x = ones({2, 3, 3, 4}), c = ones({4}), none = zeros({0});
  EXPECT_THAT(refusal([&] { fused_batch_norm(x, none, c); }),
              HasSubstr("fused_batch_norm: scale is f32[0], expected f32[4] (channels of x"));
  EXPECT_THAT(refusal([&] { fused_batch_norm(x, c, ones({3})); }), HasSubstr("offset is f32[3]"));
  EXPECT_THAT(refusal([&] { fused_batch_norm(x, c, c, none, c, {.is_training = false}); }),
              HasSubstr("mean is f32[0]"));
  EXPECT_THAT(refusal([&] {
                fused_batch_norm(x, c, c, c, ones({1, 4}), {.is_training = false});
              }),
              HasSubstr("variance is f32[1,4]"));
  EXPECT_THAT(refusal([&] { fused_batch_norm(x, c, c, {}, {}, {.exponential_avg_factor = 0.5}); }),
              HasSubstr("mean is an empty tensor"));
  EXPECT_THAT(refusal([&] { fused_batch_norm(x, c, c, c, c); }), HasSubstr("expected none"));
  EXPECT_THAT(refusal([&] { fused_batch_norm(x, ones({4}, DType::f64), c); }),
              HasSubstr("scale is f64[4]"));
}
TEST(NnBatchNorm, FusedRefuses) {
  const Tensor x = ones({2, 3, 3, 4}), c = ones({4});
  EXPECT_THAT(refusal([&] { fused_batch_norm(x, c, c, {}, {}, {.data_format = "NDHWC"}); }),
              HasSubstr("x is f32[2,3,3,4], expected 5 axes"));
  EXPECT_THAT(refusal([&] { fused_batch_norm(ones({2, 4}), c, c); }), HasSubstr("expected 4 axes"));
  EXPECT_THAT(refusal([&] { fused_batch_norm(x, c, c, {}, {}, {.data_format = "HWCN"}); }),
              HasSubstr("data_format is \"HWCN\""));
  EXPECT_THAT(refusal([&] { fused_batch_norm(x, c, c, {}, {}, {.epsilon = NAN}); }),
              HasSubstr("epsilon is"));
  EXPECT_THAT(
      refusal([&] { fused_batch_norm(x, c, c, c, c, {.exponential_avg_factor = INFINITY}); }),
      HasSubstr("exponential_avg_factor is"));
}
// x without channels, or without pixels: nothing is divided by, nothing read (CVE-2021-29547 to
// -29549, -29555).
TEST(NnBatchNorm, EmptyShapes) {
  for (const Shape& s :
       {Shape{0, 3, 3, 4}, Shape{2, 0, 3, 4}, Shape{2, 3, 3, 0}, Shape{0, 0, 0, 0}})
    for (const bool training : {true, false}) {
      const Tensor c = ones({s[3]});
      const FusedBatchNorm r = fused_batch_norm(zeros(s), c, c, training ? Tensor() : c,
                                                training ? Tensor() : c, {.is_training = training});
      EXPECT_EQ(r.y.shape(), s);
      EXPECT_EQ(r.running_mean.shape(), c.shape());
    }
}

}  // namespace
}  // namespace evenflow
