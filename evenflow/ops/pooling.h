// SPDX-License-Identifier: Apache-2.0
// Pooling of images [n, h, w, c]. What lies in the padding does not count: a maximum is of real
// elements, an average divides by their number.
#pragma once
#include <string>
#include <vector>

#include "evenflow/graph/tensor.h"

namespace evenflow {

struct Pool2DAttrs {
  std::vector<int64_t> pool_size = {2, 2}, strides = {};
  std::string padding = "valid";
  std::vector<int64_t> explicit_paddings = {};
  static void fields(auto& self, auto&& field) {
    field("pool_size", self.pool_size, "rows and columns of a window");
    field("strides", self.strides, "from window to window; none: pool_size");
    field("padding", self.padding, "\"valid\", \"same\" or \"explicit\"");
    field("explicit_paddings", self.explicit_paddings,
          "top, bottom, left, right: for \"explicit\" padding; each less than the window");
  }
};
/// The gradient goes to the first largest element of a window.
Tensor max_pool2d(In x, Pool2DAttrs attrs = {});
Tensor average_pool2d(In x, Pool2DAttrs attrs = {});
/// [n, h, w, c] -> [n, c], or [n, 1, 1, c].
Tensor global_average_pool2d(In x, bool keepdims = false);
Tensor global_max_pool2d(In x, bool keepdims = false);

}  // namespace evenflow
