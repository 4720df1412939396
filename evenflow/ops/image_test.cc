// SPDX-License-Identifier: Apache-2.0
// Images resized and projected, against values of TensorFlow 2.21.
#include "evenflow/ops/image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "evenflow/graph/gradient.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/resize.h"

namespace evenflow {
namespace {
using testing::FloatNear;
using testing::Pointwise;
using Floats = std::vector<float>;

Tensor image() {  // [1, 3, 4, 1]
  Floats v;
  for (int i = 0; i < 12; ++i) v.push_back(float(i * 7 % 5));
  return tensor(v, {1, 3, 4, 1});
}
const Floats kTurn{.866f, -.5f, .8f, .5f, .866f, -.6f, 0, 0},
    kFar{3.2f, 0, -9.3f, .1f, -2.7f, 11.4f, .01f, -.02f};

TEST(ResizeImages, AsTensorFlow) {
  struct {
    std::string kind;
    bool antialias;
    Floats want;
  } const cases[] = {
      {"bilinear", false, {0.75, 1.275, 2.5, 2.975, 1.75, 1.5, 2.025, 1.375, 1.1, 2.5}},
      {"nearest", false, {0, 2, 4, 4, 1, 1, 3, 0, 0, 2}},
      {"bicubic",
       false,
       {0.5725331, 1.140393, 2.796533, 3.239363, 1.524688, 1.40465, 2.268956, 1.288321, 0.7811726,
        2.536225}},
      {"area", false, {1, 1.25, 2.333334, 3, 2, 1.666667, 1.916667, 1.333333, 1.166667, 2.666667}},
      {"lanczos3",
       false,
       {0.6786454, 0.9027475, 3.003731, 3.320293, 1.517076, 1.474042, 2.363263, 1.062277, 0.7342281,
        2.728823}},
      {"lanczos5",
       true,
       {1.287915, 0.7953453, 2.498049, 3.301198, 2.064662, 1.890219, 2.126259, 0.6272003, 1.193427,
        3.137534}},
      {"bilinear", true, {1.125, 1.2125, 2.25, 2.9125, 2.125, 1.75, 1.8375, 1.3125, 1.35, 2.75}},
      {"bicubic",
       true,
       {1.127863, 1.009002, 2.361356, 3.186288, 2.075912, 1.818072, 1.945116, 1.110353, 1.148115,
        2.915445}},
  };
  for (auto& c : cases) {
    SCOPED_TRACE(c.kind);
    const Tensor y = resize_images(image(), {2, 5, c.kind, c.antialias});
    EXPECT_THAT(y.to_vector<float>(), Pointwise(FloatNear(2e-5f), c.want));
  }
}
TEST(ProjectImages, AsTensorFlow) {
  struct {
    std::string mode, kind;
    Floats transform, want;
  } const cases[] = {
      {"reflect",
       "bilinear",
       kTurn,
       {1.6, 3.332, 2.668, 3.7, 0.999, 0.8000002, 1.532, 2.264, 2.736, 1.84256, 1.404, 0.796}},
      {"reflect",
       "bilinear",
       kFar,
       {0.6000004, 3.920792, 3.686275, 0.5825247, 1.979591, 0.484849, 0.2999997, 1.59406, 1.265625,
        2.845362, 3.265307, 1.146005}},
      {"reflect", "nearest", kTurn, {2, 4, 1, 4, 0, 0, 2, 2, 3, 3, 0, 0}},
      {"reflect", "nearest", kFar, {0, 4, 4, 0, 1, 0, 0, 1, 2, 4, 4, 0}},
      {"wrap",
       "bilinear",
       kTurn,
       {2.6, 1.002, 2.668, 2.7, 0.999, 0.8000002, 1.532, 2.264, 3.736, 1.84256, 3.064, 2.806}},
      {"wrap",
       "bilinear",
       kFar,
       {1, 1, 2.313725, 0.5825247, 1, 1, 2.2, 0.5940598, 1, 1, 2.081633, 0.606061}},
      {"wrap", "nearest", kTurn, {3, 0, 1, 3, 0, 0, 2, 2, 4, 3, 4, 4}},
      {"wrap", "nearest", kFar, {1, 1, 2, 0, 1, 1, 2, 0, 1, 1, 2, 0}},
      {"nearest",
       "bilinear",
       kTurn,
       {1.6, 3.332, 2.668, 3.7, 0.999, 0.8000002, 1.532, 2.264, 2.736, 1.84256, 1.404, 0.796}},
      {"nearest", "bilinear", kFar, {1, 1, 1, 1.582525, 1, 1, 1, 1.59406, 1, 1, 1, 1.606061}},
      {"nearest", "nearest", kTurn, {2, 4, 1, 4, 0, 0, 2, 2, 3, 3, 0, 0}},
      {"nearest", "nearest", kFar, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
      {"constant",
       "bilinear",
       kTurn,
       {6.04, 3.8988, 2.668, 5.8094, 0.999, 0.8000002, 1.532, 2.264, 3.9888, 1.84256, 2.406672,
        5.980928}},
      {"constant", "bilinear", kFar, {9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9}},
      {"constant", "nearest", kTurn, {9, 4, 1, 4, 0, 0, 2, 2, 3, 3, 0, 9}},
      {"constant", "nearest", kFar, {9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9}},
  };
  for (auto& c : cases) {
    SCOPED_TRACE(c.mode + " " + c.kind);
    const Tensor y = project_images(image(), tensor(c.transform, {1, 8}), {c.kind, c.mode, 9});
    EXPECT_THAT(y.to_vector<float>(), Pointwise(FloatNear(2e-5f), c.want));
  }
}
// The operation is linear: <project(x), y> = <x, gradient by y>.
TEST(ProjectImages, ItsGradientIsTheAdjoint) {
  for (auto& t : {kTurn, kFar}) {
    const Tensor x = watch(image()), y = image() * image() - 3,
                 sum = reduce_sum(project_images(x, tensor(t, {1, 8}), {"bilinear", "wrap"}) * y);
    const Tensor g = gradient(sum, std::vector<Wrt>{x})[0];
    EXPECT_NEAR(reduce_sum(g * x).to_vector<float>()[0], sum.to_vector<float>()[0], 1e-3);
  }
}
TEST(RgbToHsv, AsTensorFlowAndBack) {
  const Tensor rgb =
      tensor(Floats{.2f, .5f, .9f, .9f, .1f, .1f, .3f, .3f, .3f, .6f, .7f, .1f}, {4, 3});
  const Floats want{0.5952381, 0.7777778, 0.9, 0,         0.8888888, 0.9,
                    0,         0,         0.3, 0.1944444, 0.8571428, 0.7};
  EXPECT_THAT(rgb_to_hsv(rgb).to_vector<float>(), Pointwise(FloatNear(1e-6f), want));
  EXPECT_THAT(hsv_to_rgb(rgb_to_hsv(rgb)).to_vector<float>(),
              Pointwise(FloatNear(1e-6f), rgb.to_vector<float>()));
}

}  // namespace
}  // namespace evenflow
