// SPDX-License-Identifier: Apache-2.0
// Images of another size. Pixel o of the result lies at (o + 1/2) in / out - 1/2, as in
// tf.image.resize.
#pragma once
#include <string>

#include "evenflow/graph/tensor.h"

namespace evenflow {

struct ResizeAttrs {
  int64_t height = 1, width = 1;
  std::string interpolation = "bilinear";
  bool antialias = false;
  static void fields(auto& self, auto&& field) {
    field("height", self.height, "rows of the result");
    field("width", self.width, "columns of the result");
    field("interpolation", self.interpolation,
          "\"bilinear\", \"nearest\", \"bicubic\", \"area\", \"lanczos3\" or \"lanczos5\"");
    field("antialias", self.antialias, "widen the filter where the image becomes smaller");
  }
};
/// [n, h, w, c] -> [n, height, width, c] of the type of x; integers give f32, but for "nearest".
/// Throws InvalidArgument for a size below 1, an image without pixels, an unknown interpolation.
Tensor resize_images(In x, ResizeAttrs attrs);

}  // namespace evenflow
