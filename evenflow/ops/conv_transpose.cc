// SPDX-License-Identifier: Apache-2.0
#include "evenflow/ops/conv_transpose.h"

#include <algorithm>

#include "evenflow/graph/op.h"
#include "evenflow/ops/conv_rules.h"
#include "evenflow/ops/shape.h"

namespace evenflow {
namespace {
constexpr std::string_view axis_names[] = {"height", "width"};

// Along one axis: the output's extent, and the padding of the convolution from y to x that this is
// the transpose of. What "same" cuts off lies evenly at both ends, the odd one at the end.
struct Extent {
  int64_t out, before, after;
};
Extent extent(int64_t in, int64_t size, const Conv2DTransposeAttrs& a, int axis) {
  const std::string_view name = axis_names[axis];
  const int64_t stride = a.strides[size_t(axis)], dilation = a.dilations[size_t(axis)];
  if (in < 1) fail({"x has ", in, " of ", name, ", expected at least 1"});
  for (auto [v, what] : {std::pair{size, "window"}, {stride, "stride"}, {dilation, "dilation"}})
    if (v < 1 || v > 1 << 30) fail({what, " of ", name, " is ", v, ", expected 1..2^30"});
  int64_t more = -1;
  if (!a.output_padding.empty()) {
    more = a.output_padding[size_t(axis)];
    if (more < 0 || more >= stride)
      fail({"output_padding of ", name, " is ", more, ", expected from 0 to below the stride ",
            stride});
  }
  const int64_t reach = checked_add(checked_mul(size - 1, dilation), 1);
  const int64_t whole = checked_add(checked_mul(in - 1, stride), reach);
  Extent r{};
  if (a.padding == "same") {
    r.out = more < 0 ? checked_mul(in, stride) : whole - reach + reach % 2 + more;
    if (r.out < 1)
      fail({"y has no ", name, ": x has one, the window is even and nothing is added"});
    r.before = std::max<int64_t>(0, whole - r.out) / 2;
  } else if (a.padding == "valid") {
    r.out = checked_add(whole, more < 0 ? std::max(reach, stride) - reach : more);
  } else {
    const auto [h, w] = explicit_padding(a.padding, a.explicit_paddings);
    const Padding cut = axis ? w : h;
    r.out = checked_add(whole, std::max<int64_t>(0, more)) - cut.before - cut.after;
    if (r.out < 1)
      fail({"explicit_paddings cut ", cut.before, " and ", cut.after, " off ", whole, " of ", name,
            ", expected that something is left"});
    r.before = cut.before;
  }
  // What lies behind the last window needs no padding to be there.
  r.after = std::max<int64_t>(0, whole - r.out - r.before);
  return r;
}
struct Geometry {
  Shape out;
  Conv2DAttrs conv;  // from y to x
};
Geometry geometry(const Sig& x, const Sig& kernel, const Conv2DTransposeAttrs& a) {
  if (x.shape.rank() != 4) fail({"x is ", str(x), ", expected [n, height, width, channels]"});
  if (kernel.shape.rank() != 4) fail({"kernel is ", str(kernel), ", expected rank 4"});
  for (auto [v, what] : {std::pair{&a.strides, "strides"}, {&a.dilations, "dilations"}})
    if (v->size() != 2) fail({what, " has ", v->size(), " numbers, expected 2"});
  if (!a.output_padding.empty() && a.output_padding.size() != 2)
    fail({"output_padding has ", a.output_padding.size(), " numbers, expected 2 or none"});
  if (a.padding != "explicit") explicit_padding(a.padding, a.explicit_paddings);
  if (a.padding != "valid" && a.padding != "same" && a.padding != "explicit")
    fail({"padding is \"", a.padding.substr(0, 80),
          "\", expected \"valid\", \"same\" or \"explicit\""});
  const int64_t channels = x.shape[3];
  if (kernel.shape[3] != channels)
    fail({"kernel is ", str(kernel), ", expected ", channels, " on axis 3 (channels of x ", str(x),
          ")"});
  if (a.groups < 1 || channels % a.groups)
    fail({"groups is ", a.groups, ", expected a divisor of ", channels, " channels"});
  const Extent h = extent(x.shape[1], kernel.shape[0], a, 0),
               w = extent(x.shape[2], kernel.shape[1], a, 1);
  return {{x.shape[0], h.out, w.out, checked_mul(kernel.shape[2], a.groups)},
          {.strides = a.strides,
           .padding = "explicit",
           .dilations = a.dilations,
           .groups = a.groups,
           .explicit_paddings = {h.before, h.after, w.before, w.after}}};
}
}  // namespace

int64_t conv_transpose_extent(int64_t in, int64_t size, const Conv2DTransposeAttrs& a, int axis) {
  return extent(in, size, a, axis).out;
}

OP(conv2d_transpose, Conv2DTransposeAttrs) {
  using A = Conv2DTransposeAttrs;
  return {
      .summary = "Transposed convolution of images, channels last",
      .doc =
          "Each pixel of x spreads a window of kernel times its channels over y, strides apart, "
          "and what overlaps is added: the gradient of conv2d for its input.",
      .inputs = {{"x", floating, "[n, h, w, c]"},
                 {"kernel", floating, "[kh, kw, filters / groups, c]"}},
      .outputs = {{"y", "[n, oh, ow, filters]"}},
      .shape = [](std::span<const Sig> in, const A& a) -> Sigs {
        return {{in[0].dtype, geometry(in[0], in[1], a).out}};
      },
      .reference = [](const Tensors& in, const A& a) -> Tensors {
        const Geometry g = geometry(in[0].sig(), in[1].sig(), a);
        // Only its shape is read.
        const Tensor like = broadcast_to(zeros({}, in[0].dtype()), {g.out.begin(), g.out.end()});
        return {conv2d_input_grad(in[1], in[0], like, g.conv)};
      },
      .batch = batch_of<A, 2>,
      .cases = {{"valid", {{2, 4, 5, 3}, {3, 3, 4, 3}}},
                {"same", {{2, 4, 5, 3}, {3, 3, 4, 3}}, {.strides = {2, 2}, .padding = "same"}},
                {"even", {{1, 3, 4, 2}, {4, 2, 3, 2}}, {.strides = {2, 3}, .padding = "same"}},
                {"gaps", {{1, 3, 2, 2}, {2, 1, 3, 2}}, {.strides = {3, 2}}},
                {"gaps_same", {{1, 3, 2, 2}, {2, 1, 3, 2}}, {.strides = {3, 2}, .padding = "same"}},
                {"dilated", {{1, 4, 3, 2}, {3, 2, 2, 2}}, {.padding = "same", .dilations = {2, 3}}},
                {"output_padding",
                 {{2, 3, 4, 3}, {3, 3, 2, 3}},
                 {.strides = {2, 3}, .padding = "same", .output_padding = {0, 2}}},
                {"output_padding_valid",
                 {{2, 3, 4, 3}, {2, 4, 2, 3}},
                 {.strides = {2, 3}, .output_padding = {1, 0}}},
                {"grouped",
                 {{2, 3, 3, 6}, {3, 3, 2, 6}},
                 {.strides = {2, 2}, .padding = "same", .groups = 2}},
                {"explicit",
                 {{2, 4, 3, 3}, {4, 3, 2, 3}},
                 {.strides = {2, 1}, .padding = "explicit", .explicit_paddings = {1, 2, 0, 1}}},
                {"empty", {{0, 4, 5, 3}, {3, 3, 4, 3}}},
                {"bench",
                 {{32, 16, 16, 32}, {3, 3, 16, 32}},
                 {.strides = {2, 2}, .padding = "same"},
                 {.bench = true}},
                {"mismatch", {{1, 5, 5, 3}, {3, 3, 3, 4}}, {}, {.fails = "expected 3 on axis 3"}},
                {"nothing", {{1, 0, 5, 3}, {3, 3, 4, 3}}, {}, {.fails = "expected at least 1"}},
                {"more",
                 {{1, 5, 5, 3}, {3, 3, 4, 3}},
                 {.output_padding = {0, 1}},
                 {.fails = "below the stride 1"}},
                {"cut",
                 {{1, 1, 2, 3}, {3, 3, 4, 3}},
                 {.padding = "explicit", .explicit_paddings = {2, 1, 0, 0}},
                 {.fails = "something is left"}}}};
}
Tensor conv2d_transpose(In x, In kernel, Conv2DTransposeAttrs a) {
  return call(conv2d_transpose_op(), {x, kernel}, std::move(a))[0];
}

}  // namespace evenflow
