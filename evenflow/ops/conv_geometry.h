// SPDX-License-Identifier: Apache-2.0
// The numbers of a convolution or pooling, checked. For declarations and kernels.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "evenflow/core/shape.h"

namespace evenflow {

/// Windows along one axis.
struct Windows {
  int64_t in = 0, size = 1, stride = 1, dilation = 1, before = 0, after = 0, out = 0;
};
/// Rows or columns of zeros around an image.
struct Padding {
  int64_t before = 0, after = 0;
};
/// {height, width} of {top, bottom, left, right}; throws if these are not four where padding is
/// "explicit", and none elsewhere.
std::pair<Padding, Padding> explicit_padding(const std::string& padding,
                                             const std::vector<int64_t>& explicit_paddings);
/// Throws for sizes, strides or dilations below 1, another padding, or (if not "same") a window
/// larger than the padded image.
Windows windows(int64_t in, int64_t size, int64_t stride, int64_t dilation,
                const std::string& padding, Padding given, std::string_view axis);

struct ConvGeometry {
  int64_t n = 0, c = 0, filters = 0, groups = 1;
  Windows h, w;
};

}  // namespace evenflow
