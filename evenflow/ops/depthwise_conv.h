// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "evenflow/ops/conv.h"

namespace evenflow {

/// Each channel by itself: x [n, h, w, c], kernel [kh, kw, c, multiplier] -> [n, oh, ow, c
/// multiplier]; groups is unused.
Tensor depthwise_conv2d(In x, In kernel, Conv2DAttrs attrs = {});

}  // namespace evenflow
