// SPDX-License-Identifier: Apache-2.0
// Images [n, h, w, c]: where pixels lie, and what colours they have.
#pragma once
#include <string>

#include "evenflow/graph/tensor.h"

namespace evenflow {

struct ProjectAttrs {
  std::string interpolation = "bilinear", fill_mode = "reflect";
  double fill_value = 0;
  static void fields(auto& self, auto&& field) {
    field("interpolation", self.interpolation, "\"bilinear\" or \"nearest\"");
    field("fill_mode", self.fill_mode,
          "what lies outside the image: \"reflect\" (d c b a | a b c d | d c b a), \"wrap\", "
          "\"nearest\", or \"constant\"");
    field("fill_value", self.fill_value, "outside, for \"constant\"");
  }
};
/// Pixel (x, y) of the result is the one at ((a0 x + a1 y + a2) / k, (b0 x + b1 y + b2) / k) of the
/// image, where k = c0 x + c1 y + 1: [n, h, w, c], f32 [n, 8] or [1, 8] -> [n, h, w, c]. The
/// transforms (a0, a1, a2, b0, b1, b2, c0, c1) are constants for differentiation.
Tensor project_images(In images, In transforms, ProjectAttrs attrs = {});

/// Colours between 0 and 1, [..., 3] -> [..., 3]; hue in turns (Smith, "Color gamut transform
/// pairs", SIGGRAPH 1978).
Tensor rgb_to_hsv(In rgb);
Tensor hsv_to_rgb(In hsv);
/// 0.2989 r + 0.5870 g + 0.1140 b: [..., 3] -> [..., 1] (Rec. 601). One channel stays.
Tensor rgb_to_grayscale(In rgb);

}  // namespace evenflow
