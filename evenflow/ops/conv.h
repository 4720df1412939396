// SPDX-License-Identifier: Apache-2.0
// Convolution of images, channels last; kernels are [height, width, channels / groups, filters] as
// in TensorFlow and Keras. "same" padding puts the odd row or column at the end.
#pragma once
#include <string>
#include <vector>

#include "evenflow/graph/tensor.h"

namespace evenflow {

struct Conv2DAttrs {
  std::vector<int64_t> strides = {1, 1};
  std::string padding = "valid";
  std::vector<int64_t> dilations = {1, 1};
  int64_t groups = 1;
  std::vector<int64_t> explicit_paddings = {};
  static void fields(auto& self, auto&& field) {
    field("strides", self.strides, "rows and columns from window to window");
    field("padding", self.padding,
          "\"valid\": none; \"same\": zeros, so that stride 1 keeps the extents; \"explicit\"");
    field("dilations", self.dilations, "rows and columns from tap to tap");
    field("groups", self.groups, "channel groups that do not mix");
    field("explicit_paddings", self.explicit_paddings,
          "top, bottom, left, right: zeros for \"explicit\" padding");
  }
};
/// x [n, h, w, c], kernel [kh, kw, c / groups, filters] -> [n, oh, ow, filters].
Tensor conv2d(In x, In kernel, Conv2DAttrs attrs = {});
/// Gradient for x, in the shape of x_like.
Tensor conv2d_input_grad(In kernel, In dy, In x_like, Conv2DAttrs attrs = {});
/// Gradient for the kernel, in the shape of kernel_like.
Tensor conv2d_kernel_grad(In x, In dy, In kernel_like, Conv2DAttrs attrs = {});

}  // namespace evenflow
