// SPDX-License-Identifier: Apache-2.0
// The layers over images: convolution, padding, pooling.
#include <algorithm>

#include "evenflow/model/layer_parts.h"
#include "evenflow/model/layers.h"
#include "evenflow/ops/conv.h"
#include "evenflow/ops/conv_transpose.h"
#include "evenflow/ops/depthwise_conv.h"
#include "evenflow/ops/pooling.h"

namespace evenflow {

LAYER(Conv2D);
LAYER(Conv2DTranspose);
LAYER(DepthwiseConv2D);
LAYER(SeparableConv2D);
LAYER(ZeroPadding2D);
LAYER(MaxPooling2D);
LAYER(AveragePooling2D);
LAYER(GlobalMaxPooling2D);
LAYER(GlobalAveragePooling2D);

namespace {
template <class L>
void expect_padding(const L& layer, const std::string& padding) {
  expect(layer, padding == "valid" || padding == "same", "padding",
         "\"" + padding.substr(0, 80) + "\"", "\"valid\" or \"same\"");
}
template <class L>
void expect_positive(const L& layer, std::string_view what, Size2 s) {
  constexpr int64_t most = 1 << 20;
  expect(layer, s.height >= 1 && s.width >= 1 && s.height <= most && s.width <= most, what,
         concat({s.height, " x ", s.width}), concat({"from 1 to ", most}));
}
template <class L>
Dims image(const L& layer, const Dims& in) {
  const std::string& format = layer.config.data_format;
  if (in.size() != 4)
    fail({layer.class_name(), " \"", layer.name, "\": input is ", str_dims(in),
          ", expected (batch, ",
          format == "channels_first" ? "channels, height, width)" : "height, width, channels)"});
  return to_last(format, in);
}
// Extent of a window's output; -1 stays unknown.
int64_t windows(int64_t n, int64_t size, int64_t stride, int64_t dilation,
                const std::string& padding) {
  if (n < 0) return -1;
  if (padding == "same") return (n + stride - 1) / stride;
  const int64_t reach = (size - 1) * dilation + 1;
  return n < reach ? 0 : (n - reach) / stride + 1;
}
// `x` channels last, the result in the layer's format.
template <class L>
Dims window_dims(const L& layer, const Dims& x, Size2 size, Size2 stride, Size2 dilation,
                 int64_t channels) {
  const std::string& padding = layer.config.padding;
  const Dims r{x[0], windows(x[1], size.height, stride.height, dilation.height, padding),
               windows(x[2], size.width, stride.width, dilation.width, padding), channels};
  if (!r[1] || !r[2])
    fail({layer.class_name(), " \"", layer.name, "\": input is ",
          str_dims(from_last(layer.config.data_format, x)), ", expected at least the window ",
          (size.height - 1) * dilation.height + 1, " x ", (size.width - 1) * dilation.width + 1});
  return from_last(layer.config.data_format, r);
}
template <class L>
void check_convolution(const L& layer) {
  expect_positive(layer, "kernel_size", layer.config.kernel_size);
  expect_positive(layer, "strides", layer.config.strides);
  expect_positive(layer, "dilation_rate", layer.config.dilation_rate);
  expect_padding(layer, layer.config.padding);
  expect_format(layer, layer.config.data_format);
  expect_activation(layer, layer.config.activation);
}
// The input channels last; its channels are known and those for which the layer was built.
template <class L>
Dims convolved(const L& layer, const Dims& in) {
  const Dims x = image(layer, in);
  if (layer.built) {
    const int64_t was = to_last(layer.config.data_format, layer.input_dims[0])[3];
    expect(layer, x[3] == was, "input", str_dims(in),
           concat({was, " channels, for which it was built"}));
  }
  expect(layer, x[3] >= 1, "input", str_dims(in), "a known and positive number of channels");
  return x;
}
template <class L>
Dims convolution_dims(const L& layer, const Dims& in, int64_t channels) {
  const auto& c = layer.config;
  return activated(layer, c.activation,
                   window_dims(layer, convolved(layer, in), c.kernel_size, c.strides,
                               c.dilation_rate, channels));
}
std::vector<int64_t> pair(Size2 s) { return {s.height, s.width}; }
template <class Config>
Conv2DAttrs conv_attrs(const Config& c) {
  return {.strides = pair(c.strides), .padding = c.padding, .dilations = pair(c.dilation_rate)};
}
template <class Config>
Tensor finished(const Config& c, const Tensor& y, const Variable& bias) {
  return activated(c.activation, from_last(c.data_format, with_bias(y, bias)));
}
Tensor in_type_of(const Variable& w, const Tensor& x) { return cast(w.read(), x.dtype()); }
}  // namespace

// ---- convolution ----
void Conv2DImpl::check() const {
  expect(*this, config.filters >= 1 && config.filters <= 1 << 24, "filters", config.filters,
         "from 1 to 2^24");
  expect(*this, config.groups >= 1 && config.filters % std::max<int64_t>(1, config.groups) == 0,
         "groups", config.groups, "a positive divisor of filters");
  check_convolution(*this);
}
Dims Conv2DImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  const Dims r = convolution_dims(*this, in[0], config.filters);
  if (to_last(config.data_format, in[0])[3] % config.groups)
    refuse("input", in[0], concat({"channels that ", config.groups, " groups divide"}));
  return r;
}
void Conv2DImpl::build(const std::vector<Dims>& in) {
  const int64_t channels = to_last(config.data_format, in[0])[3];
  kernel = add_weight("kernel",
                      {config.kernel_size.height, config.kernel_size.width,
                       channels / config.groups, config.filters},
                      config.kernel_initializer, true, config.kernel_regularizer,
                      config.kernel_constraint);
  if (config.use_bias)
    bias = add_weight("bias", {config.filters}, config.bias_initializer, true,
                      config.bias_regularizer, config.bias_constraint);
}
Tensor Conv2DImpl::call(const Tensors& in, const CallContext&) {
  Conv2DAttrs attrs = conv_attrs(config);
  attrs.groups = config.groups;
  const Tensor x = to_last(config.data_format, in[0]);
  return finished(config, conv2d(x, in_type_of(kernel, x), attrs), bias);
}

namespace {
Conv2DTransposeAttrs transpose_attrs(const Conv2DTransposeConfig& c) {
  Conv2DTransposeAttrs a{
      .strides = pair(c.strides), .padding = c.padding, .dilations = pair(c.dilation_rate)};
  if (c.output_padding) a.output_padding = pair(*c.output_padding);
  return a;
}
}  // namespace
void Conv2DTransposeImpl::check() const {
  expect(*this, config.filters >= 1 && config.filters <= 1 << 24, "filters", config.filters,
         "from 1 to 2^24");
  check_convolution(*this);
  const Size2 s = config.strides, d = config.dilation_rate;
  expect(*this, (s.height == 1 && s.width == 1) || (d.height == 1 && d.width == 1), "dilation_rate",
         concat({d.height, " x ", d.width}), "1 where there are strides");
  if (const auto& p = config.output_padding)
    expect(*this, p->height >= 0 && p->width >= 0 && p->height < s.height && p->width < s.width,
           "output_padding", concat({p->height, " x ", p->width}),
           concat({"from 0 to below the strides ", s.height, " x ", s.width}));
}
Dims Conv2DTransposeImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  Dims r = convolved(*this, in[0]);
  const Conv2DTransposeAttrs a = transpose_attrs(config);
  const Size2 k = config.kernel_size;
  for (int axis : {0, 1})
    if (int64_t& n = r[size_t(axis) + 1]; n >= 0)
      n = conv_transpose_extent(n, axis ? k.width : k.height, a, axis);
  r[3] = config.filters;
  return activated(*this, config.activation, from_last(config.data_format, r));
}
void Conv2DTransposeImpl::build(const std::vector<Dims>& in) {
  kernel = add_weight("kernel",
                      {config.kernel_size.height, config.kernel_size.width, config.filters,
                       to_last(config.data_format, in[0])[3]},
                      config.kernel_initializer, true, config.kernel_regularizer,
                      config.kernel_constraint);
  if (config.use_bias)
    bias = add_weight("bias", {config.filters}, config.bias_initializer, true,
                      config.bias_regularizer, config.bias_constraint);
}
Tensor Conv2DTransposeImpl::call(const Tensors& in, const CallContext&) {
  const Tensor x = to_last(config.data_format, in[0]);
  return finished(config, conv2d_transpose(x, in_type_of(kernel, x), transpose_attrs(config)),
                  bias);
}

void DepthwiseConv2DImpl::check() const {
  expect(*this, config.depth_multiplier >= 1 && config.depth_multiplier <= 1 << 16,
         "depth_multiplier", config.depth_multiplier, "from 1 to 2^16");
  check_convolution(*this);
}
Dims DepthwiseConv2DImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  const int64_t channels = image(*this, in[0])[3];
  return convolution_dims(*this, in[0],
                          channels < 1 ? 1 : checked_mul(channels, config.depth_multiplier));
}
void DepthwiseConv2DImpl::build(const std::vector<Dims>& in) {
  const int64_t channels = to_last(config.data_format, in[0])[3];
  kernel = add_weight(
      "kernel",
      {config.kernel_size.height, config.kernel_size.width, channels, config.depth_multiplier},
      config.depthwise_initializer, true, config.depthwise_regularizer,
      config.depthwise_constraint);
  if (config.use_bias)
    bias =
        add_weight("bias", {checked_mul(channels, config.depth_multiplier)},
                   config.bias_initializer, true, config.bias_regularizer, config.bias_constraint);
}
Tensor DepthwiseConv2DImpl::call(const Tensors& in, const CallContext&) {
  const Tensor x = to_last(config.data_format, in[0]);
  return finished(config, depthwise_conv2d(x, in_type_of(kernel, x), conv_attrs(config)), bias);
}

void SeparableConv2DImpl::check() const {
  expect(*this, config.filters >= 1 && config.filters <= 1 << 24, "filters", config.filters,
         "from 1 to 2^24");
  expect(*this, config.depth_multiplier >= 1 && config.depth_multiplier <= 1 << 16,
         "depth_multiplier", config.depth_multiplier, "from 1 to 2^16");
  check_convolution(*this);
}
Dims SeparableConv2DImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  return convolution_dims(*this, in[0], config.filters);
}
void SeparableConv2DImpl::build(const std::vector<Dims>& in) {
  const int64_t channels = to_last(config.data_format, in[0])[3];
  depthwise = add_weight(
      "depthwise_kernel",
      {config.kernel_size.height, config.kernel_size.width, channels, config.depth_multiplier},
      config.depthwise_initializer, true, config.depthwise_regularizer,
      config.depthwise_constraint);
  pointwise = add_weight("pointwise_kernel",
                         {1, 1, checked_mul(channels, config.depth_multiplier), config.filters},
                         config.pointwise_initializer, true, config.pointwise_regularizer,
                         config.pointwise_constraint);
  if (config.use_bias)
    bias = add_weight("bias", {config.filters}, config.bias_initializer, true,
                      config.bias_regularizer, config.bias_constraint);
}
Tensor SeparableConv2DImpl::call(const Tensors& in, const CallContext&) {
  const Tensor x = to_last(config.data_format, in[0]);
  const Tensor y = depthwise_conv2d(x, in_type_of(depthwise, x), conv_attrs(config));
  return finished(config, conv2d(y, in_type_of(pointwise, y)), bias);
}

void ZeroPadding2DImpl::check() const {
  const Padding2& p = config.padding;
  constexpr int64_t most = 1 << 20;
  for (int64_t n : {p.top, p.bottom, p.left, p.right})
    expect(*this, n >= 0 && n <= most, "padding", n, concat({"from 0 to ", most}));
  expect_format(*this, config.data_format);
}
Dims ZeroPadding2DImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  Dims r = image(*this, in[0]);
  if (r[1] >= 0) r[1] = checked_add(r[1], config.padding.top + config.padding.bottom);
  if (r[2] >= 0) r[2] = checked_add(r[2], config.padding.left + config.padding.right);
  return from_last(config.data_format, r);
}
Tensor ZeroPadding2DImpl::call(const Tensors& x, const CallContext&) {
  const Padding2& p = config.padding;
  if (config.data_format == "channels_first")
    return pad(x[0], {0, 0, 0, 0, p.top, p.bottom, p.left, p.right});
  return pad(x[0], {0, 0, p.top, p.bottom, p.left, p.right, 0, 0});
}

// ---- pooling ----
void Pooling2DImpl::check() const {
  expect_positive(*this, "pool_size", config.pool_size);
  if (config.strides) expect_positive(*this, "strides", *config.strides);
  expect_padding(*this, config.padding);
  expect_format(*this, config.data_format);
}
Dims Pooling2DImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  const Dims x = image(*this, in[0]);
  return window_dims(*this, x, config.pool_size, config.strides.value_or(config.pool_size), 1,
                     x[3]);
}
namespace {
Pool2DAttrs pool_attrs(const Pooling2DConfig& c) {
  return {.pool_size = pair(c.pool_size),
          .strides = pair(c.strides.value_or(c.pool_size)),
          .padding = c.padding};
}
}  // namespace
Tensor MaxPooling2DImpl::call(const Tensors& x, const CallContext&) {
  const std::string& format = config.data_format;
  return from_last(format, max_pool2d(to_last(format, x[0]), pool_attrs(config)));
}
Tensor AveragePooling2DImpl::call(const Tensors& x, const CallContext&) {
  const std::string& format = config.data_format;
  return from_last(format, average_pool2d(to_last(format, x[0]), pool_attrs(config)));
}

void GlobalPooling2DImpl::check() const { expect_format(*this, config.data_format); }
Dims GlobalPooling2DImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  const Dims x = image(*this, in[0]);
  expect(*this, x[1] && x[2], "input", str_dims(in[0]), "at least one pixel");
  if (config.keepdims) return from_last(config.data_format, {x[0], 1, 1, x[3]});
  return {x[0], x[3]};
}
Tensor GlobalMaxPooling2DImpl::call(const Tensors& x, const CallContext&) {
  const std::string& format = config.data_format;
  return from_last(format, global_max_pool2d(to_last(format, x[0]), config.keepdims));
}
Tensor GlobalAveragePooling2DImpl::call(const Tensors& x, const CallContext&) {
  const std::string& format = config.data_format;
  return from_last(format, global_average_pool2d(to_last(format, x[0]), config.keepdims));
}

}  // namespace evenflow
