// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "evenflow/ops/conv.h"
#include "evenflow/ops/conv_geometry.h"

namespace evenflow {

/// Throws what the declarations of conv2d and depthwise_conv2d say.
ConvGeometry conv_geometry(const Sig& x, const Sig& kernel, const Conv2DAttrs& attrs,
                           bool depthwise = false);
Shape conv_output(const ConvGeometry& geometry);
void check_conv_grad(const Sig& dy, const ConvGeometry& geometry, const Sig& x);

}  // namespace evenflow
