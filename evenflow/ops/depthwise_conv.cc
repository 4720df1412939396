// SPDX-License-Identifier: Apache-2.0
#include "evenflow/ops/depthwise_conv.h"

#include "evenflow/graph/op.h"
#include "evenflow/ops/conv_rules.h"
#include "evenflow/ops/shape.h"

namespace evenflow {

// A convolution in as many groups as channels: [kh, kw, c, m] is [kh, kw, 1, c m] with the same
// bytes.
OP(depthwise_conv2d, Conv2DAttrs) {
  return {
      .summary = "Convolution of each channel by itself",
      .inputs = {{"x", floating, "[n, h, w, c]"}, {"kernel", floating, "[kh, kw, c, multiplier]"}},
      .outputs = {{"y", "[n, oh, ow, c multiplier]"}},
      .shape = [](std::span<const Sig> in, const Conv2DAttrs& a) -> Sigs {
        return {{in[0].dtype, conv_output(conv_geometry(in[0], in[1], a, true))}};
      },
      .reference = [](const Tensors& in, const Conv2DAttrs& a) -> Tensors {
        const Shape& k = in[1].sig().shape;  // of a weight: the same for every batch
        Conv2DAttrs b = a;
        b.groups = std::max<int64_t>(1, k[2]);
        return {conv2d(in[0], reshape(in[1], {k[0], k[1], k[2] ? 1 : 0, k[2] * k[3]}), b)};
      },
      .batch = batch_of<Conv2DAttrs, 2>,
      .cases = {{"valid", {{2, 5, 6, 3}, {3, 3, 3, 1}}},
                {"same", {{2, 5, 6, 3}, {3, 3, 3, 2}}, {.padding = "same"}},
                {"strided", {{1, 7, 6, 2}, {3, 2, 2, 3}}, {.strides = {2, 2}, .padding = "same"}},
                {"dilated", {{1, 7, 8, 2}, {3, 3, 2, 1}}, {.dilations = {2, 2}}},
                {"empty", {{0, 5, 6, 3}, {3, 3, 3, 1}}},
                {"bench", {{8, 32, 32, 64}, {3, 3, 64, 1}}, {.padding = "same"}, {.bench = true}},
                {"channels", {{1, 5, 5, 3}, {3, 3, 2, 1}}, {}, {.fails = "expected 3 on axis 2"}}}};
}
Tensor depthwise_conv2d(In x, In kernel, Conv2DAttrs a) {
  a.groups = 1;
  return call(depthwise_conv2d_op(), {x, kernel}, std::move(a))[0];
}

}  // namespace evenflow
