// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <vector>

#include "evenflow/graph/tensor.h"

namespace evenflow {

struct Conv2DTransposeAttrs {
  std::vector<int64_t> strides = {1, 1};
  std::string padding = "valid";
  std::vector<int64_t> output_padding = {};
  std::vector<int64_t> dilations = {1, 1};
  int64_t groups = 1;
  std::vector<int64_t> explicit_paddings = {};
  static void fields(auto& self, auto&& field) {
    field("strides", self.strides, "rows and columns of y from pixel to pixel of x");
    field("padding", self.padding,
          "what is cut off y: \"valid\": nothing; \"same\": so much that y is strides times as "
          "large as x; \"explicit\"");
    field("output_padding", self.output_padding,
          "rows and columns that y has at its end beyond the least, below strides; none: what "
          "padding says, as in Keras");
    field("dilations", self.dilations, "rows and columns from tap to tap");
    field("groups", self.groups, "channel groups that do not mix");
    field("explicit_paddings", self.explicit_paddings,
          "top, bottom, left, right: what \"explicit\" padding cuts off");
  }
};
/// The transpose of a convolution (Zeiler et al. 2010, "Deconvolutional Networks"), with the
/// extents of Keras's conv_transpose: x [n, h, w, c], kernel [kh, kw, filters / groups, c] ->
/// [n, oh, ow, filters].
Tensor conv2d_transpose(In x, In kernel, Conv2DTransposeAttrs attrs = {});

/// Extent of the output along an axis: `in` pixels, a window of `size`. Throws InvalidArgument that
/// names the axis.
int64_t conv_transpose_extent(int64_t in, int64_t size, const Conv2DTransposeAttrs& attrs,
                              int axis);

}  // namespace evenflow
