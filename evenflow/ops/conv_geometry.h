// SPDX-License-Identifier: Apache-2.0
// The numbers of a convolution or pooling, checked. For declarations and kernels.
#pragma once
#include <string>
#include <vector>

#include "evenflow/core/shape.h"

namespace evenflow {

/// Windows along one axis.
struct Windows {
  int64_t in = 0, size = 1, stride = 1, dilation = 1, before = 0, after = 0, out = 0;
};
/// Throws for sizes, strides or dilations below 1, another padding, or (valid) a window larger than
/// the image.
Windows windows(int64_t in, int64_t size, int64_t stride, int64_t dilation,
                const std::string& padding, std::string_view axis);

struct ConvGeometry {
  int64_t n = 0, c = 0, filters = 0, groups = 1;
  Windows h, w;
};

}  // namespace evenflow
