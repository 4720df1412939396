// SPDX-License-Identifier: Apache-2.0
#include "evenflow/model/conv_layers.h"

#include <algorithm>

#include "evenflow/model/layer_parts.h"
#include "evenflow/ops/conv.h"
#include "evenflow/ops/conv_transpose.h"
#include "evenflow/ops/depthwise_conv.h"
#include "evenflow/ops/pooling.h"

namespace evenflow {

template <class L>
static LayerEntry entry(const char* name) {
  return {name, []() -> std::shared_ptr<LayerImpl> { return std::make_shared<L>(); }};
}
static const LayerEntry entries[] = {
    entry<ConvImpl<Size1>>("Conv1D"),
    entry<ConvImpl<Size2>>("Conv2D"),
    entry<ConvTransposeImpl<Size1>>("Conv1DTranspose"),
    entry<ConvTransposeImpl<Size2>>("Conv2DTranspose"),
    entry<DepthwiseConvImpl<Size1>>("DepthwiseConv1D"),
    entry<DepthwiseConvImpl<Size2>>("DepthwiseConv2D"),
    entry<SeparableConvImpl<Size1>>("SeparableConv1D"),
    entry<SeparableConvImpl<Size2>>("SeparableConv2D"),
    entry<PoolingImpl<Size1, true>>("MaxPooling1D"),
    entry<PoolingImpl<Size2, true>>("MaxPooling2D"),
    entry<PoolingImpl<Size1, false>>("AveragePooling1D"),
    entry<PoolingImpl<Size2, false>>("AveragePooling2D"),
    entry<GlobalPoolingImpl<Size1, true>>("GlobalMaxPooling1D"),
    entry<GlobalPoolingImpl<Size2, true>>("GlobalMaxPooling2D"),
    entry<GlobalPoolingImpl<Size1, false>>("GlobalAveragePooling1D"),
    entry<GlobalPoolingImpl<Size2, false>>("GlobalAveragePooling2D")};

namespace {
// Sizes of windows as rows and columns; a sequence has `rows` of them.
Size2 wide(Size2 s, int64_t = 1) { return s; }
Size2 wide(Size1 s, int64_t rows = 1) { return {rows, s.size}; }
std::vector<int64_t> pair(Size2 s) { return {s.height, s.width}; }
// Kernels are stored without the row of a sequence.
template <class Size>
Shape kernel_shape(Size s, int64_t a, int64_t b) {
  if constexpr (Size::rank == 1)
    return {s.size, a, b};
  else
    return {s.height, s.width, a, b};
}

// In the layer's format [batch, (height,) width, channels], as an image with the channels last.
template <int kRank, class L>
Dims image(const L& layer, const Dims& in) {
  const std::string& format = layer.config.data_format;
  const bool first = format == "channels_first";
  if (in.size() != kRank + 2)
    fail({layer.class_name(), " \"", layer.name, "\": input is ", str_dims(in),
          ", expected (batch, ",
          kRank == 1 ? (first ? "channels, steps)" : "steps, channels)")
                     : (first ? "channels, height, width)" : "height, width, channels)")});
  Dims r = to_last(format, in);
  if (kRank == 1) r.insert(r.begin() + 1, 1);
  return r;
}
template <int kRank>
Dims as_stored(const std::string& format, Dims d) {
  if (kRank == 1) d.erase(d.begin() + 1);
  return from_last(format, d);
}
template <int kRank>
Tensor image(const std::string& format, const Tensor& x) {
  const Tensor last = to_last(format, x);
  return kRank == 1 ? expand_dims(last, 1) : last;
}
template <int kRank>
Tensor as_stored(const std::string& format, const Tensor& y) {
  return from_last(format, kRank == 1 ? squeeze(y, {1}) : y);
}

template <class L>
void expect_padding(const L& layer, bool causal = false) {
  const std::string& p = layer.config.padding;
  expect(layer, p == "valid" || p == "same" || (causal && p == "causal"), "padding",
         "\"" + p.substr(0, 80) + "\"",
         causal ? "\"valid\", \"same\" or \"causal\"" : "\"valid\" or \"same\"");
}
template <class L>
void expect_positive(const L& layer, std::string_view what, Size2 s) {
  constexpr int64_t most = 1 << 20;
  expect(layer, s.height >= 1 && s.width >= 1 && s.height <= most && s.width <= most, what,
         concat({s.height, " x ", s.width}), concat({"from 1 to ", most}));
}
template <class L>
void check_convolution(const L& layer, bool causal = false) {
  expect_positive(layer, "kernel_size", wide(layer.config.kernel_size));
  expect_positive(layer, "strides", wide(layer.config.strides));
  expect_positive(layer, "dilation_rate", wide(layer.config.dilation_rate));
  expect_padding(layer, causal);
  expect_format(layer, layer.config.data_format);
  expect_activation(layer, layer.config.activation);
}
template <class L>
void expect_filters(const L& layer) {
  expect(layer, layer.config.filters >= 1 && layer.config.filters <= 1 << 24, "filters",
         layer.config.filters, "from 1 to 2^24");
}

// Extent of a window's output; -1 stays unknown.
int64_t windows(int64_t n, int64_t size, int64_t stride, int64_t dilation,
                const std::string& padding) {
  if (n < 0) return -1;
  if (padding == "same" || padding == "causal") return (n + stride - 1) / stride;
  const int64_t reach = (size - 1) * dilation + 1;
  return n < reach ? 0 : (n - reach) / stride + 1;
}
// `x` an image, the result in the layer's format.
template <int kRank, class L>
Dims window_dims(const L& layer, const Dims& x, Size2 size, Size2 stride, Size2 dilation,
                 int64_t channels) {
  const std::string &padding = layer.config.padding, &format = layer.config.data_format;
  const Dims r{x[0], windows(x[1], size.height, stride.height, dilation.height, padding),
               windows(x[2], size.width, stride.width, dilation.width, padding), channels};
  if (!r[1] || !r[2])
    fail({layer.class_name(), " \"", layer.name, "\": input is ",
          str_dims(as_stored<kRank>(format, x)), ", expected at least the window ",
          (size.height - 1) * dilation.height + 1, " x ", (size.width - 1) * dilation.width + 1});
  return as_stored<kRank>(format, r);
}
template <class L>
int64_t channels_of(const L& layer, const Dims& in) {
  return to_last(layer.config.data_format, in).back();
}
// The input as an image; its channels are known and those for which the layer was built.
template <int kRank, class L>
Dims convolved(const L& layer, const Dims& in) {
  const Dims x = image<kRank>(layer, in);
  if (layer.built) {
    const int64_t was = channels_of(layer, layer.input_dims[0]);
    expect(layer, x[3] == was, "input", str_dims(in),
           concat({was, " channels, for which it was built"}));
  }
  expect(layer, x[3] >= 1, "input", str_dims(in), "a known and positive number of channels");
  return x;
}
template <int kRank, class L>
Dims convolution_dims(const L& layer, const Dims& in, int64_t channels) {
  const auto& c = layer.config;
  return activated(layer, c.activation,
                   window_dims<kRank>(layer, convolved<kRank>(layer, in), wide(c.kernel_size),
                                      wide(c.strides), wide(c.dilation_rate), channels));
}
template <class Config>
Conv2DAttrs conv_attrs(const Config& c) {
  Conv2DAttrs a{.strides = pair(wide(c.strides)),
                .padding = c.padding,
                .dilations = pair(wide(c.dilation_rate))};
  if (c.padding == "causal") {
    a.padding = "explicit";
    const int64_t reach = (wide(c.kernel_size).width - 1) * wide(c.dilation_rate).width;
    a.explicit_paddings = {0, 0, reach, 0};
  }
  return a;
}
template <int kRank, class Config>
Tensor finished(const Config& c, const Tensor& y, const Variable& bias) {
  return activated(c.activation, as_stored<kRank>(c.data_format, with_bias(y, bias)));
}
template <int kRank>
Tensor kernel_for(const Variable& w, const Tensor& x) {
  const Tensor k = cast(w.read(), x.dtype());
  return kRank == 1 ? expand_dims(k, 0) : k;
}
}  // namespace

// ---- convolution ----
template <class S>
void ConvImpl<S>::check() const {
  expect_filters(*this);
  const auto& c = this->config;
  expect(*this, c.groups >= 1 && c.filters % std::max<int64_t>(1, c.groups) == 0, "groups",
         c.groups, "a positive divisor of filters");
  check_convolution(*this, S::rank == 1);
}
template <class S>
Dims ConvImpl<S>::output_dims(const std::vector<Dims>& in) const {
  check();
  const Dims r = convolution_dims<S::rank>(*this, in[0], this->config.filters);
  if (channels_of(*this, in[0]) % this->config.groups)
    this->refuse("input", in[0], concat({"channels that ", this->config.groups, " groups divide"}));
  return r;
}
template <class S>
void ConvImpl<S>::build(const std::vector<Dims>& in) {
  const auto& c = this->config;
  kernel = this->add_weight(
      "kernel", kernel_shape(c.kernel_size, channels_of(*this, in[0]) / c.groups, c.filters),
      c.kernel_initializer, true, c.kernel_regularizer, c.kernel_constraint);
  if (c.use_bias)
    bias = this->add_weight("bias", {c.filters}, c.bias_initializer, true, c.bias_regularizer,
                            c.bias_constraint);
}
template <class S>
Tensor ConvImpl<S>::call(const Tensors& in, const CallContext&) {
  const auto& c = this->config;
  Conv2DAttrs attrs = conv_attrs(c);
  attrs.groups = c.groups;
  const Tensor x = image<S::rank>(c.data_format, in[0]);
  return finished<S::rank>(c, conv2d(x, kernel_for<S::rank>(kernel, x), attrs), bias);
}

namespace {
template <class Config>
Conv2DTransposeAttrs transpose_attrs(const Config& c) {
  Conv2DTransposeAttrs a{.strides = pair(wide(c.strides)),
                         .padding = c.padding,
                         .dilations = pair(wide(c.dilation_rate))};
  if (c.output_padding) a.output_padding = pair(wide(*c.output_padding, 0));
  return a;
}
}  // namespace
template <class S>
void ConvTransposeImpl<S>::check() const {
  expect_filters(*this);
  check_convolution(*this);
  const Size2 s = wide(this->config.strides), d = wide(this->config.dilation_rate);
  expect(*this, (s.height == 1 && s.width == 1) || (d.height == 1 && d.width == 1), "dilation_rate",
         concat({d.height, " x ", d.width}), "1 where there are strides");
  if (const auto& given = this->config.output_padding) {
    const Size2 p = wide(*given, 0);
    expect(*this, p.height >= 0 && p.width >= 0 && p.height < s.height && p.width < s.width,
           "output_padding", concat({p.height, " x ", p.width}),
           concat({"from 0 to below the strides ", s.height, " x ", s.width}));
  }
}
template <class S>
Dims ConvTransposeImpl<S>::output_dims(const std::vector<Dims>& in) const {
  check();
  const auto& c = this->config;
  Dims r = convolved<S::rank>(*this, in[0]);
  const Conv2DTransposeAttrs a = transpose_attrs(c);
  const Size2 k = wide(c.kernel_size);
  for (int axis : {0, 1})
    if (int64_t& n = r[size_t(axis) + 1]; n >= 0)
      n = conv_transpose_extent(n, axis ? k.width : k.height, a, axis);
  r[3] = c.filters;
  return activated(*this, c.activation, as_stored<S::rank>(c.data_format, r));
}
template <class S>
void ConvTransposeImpl<S>::build(const std::vector<Dims>& in) {
  const auto& c = this->config;
  kernel =
      this->add_weight("kernel", kernel_shape(c.kernel_size, c.filters, channels_of(*this, in[0])),
                       c.kernel_initializer, true, c.kernel_regularizer, c.kernel_constraint);
  if (c.use_bias)
    bias = this->add_weight("bias", {c.filters}, c.bias_initializer, true, c.bias_regularizer,
                            c.bias_constraint);
}
template <class S>
Tensor ConvTransposeImpl<S>::call(const Tensors& in, const CallContext&) {
  const auto& c = this->config;
  const Tensor x = image<S::rank>(c.data_format, in[0]);
  return finished<S::rank>(
      c, conv2d_transpose(x, kernel_for<S::rank>(kernel, x), transpose_attrs(c)), bias);
}

template <class S>
void DepthwiseConvImpl<S>::check() const {
  const int64_t m = this->config.depth_multiplier;
  expect(*this, m >= 1 && m <= 1 << 16, "depth_multiplier", m, "from 1 to 2^16");
  check_convolution(*this);
}
template <class S>
Dims DepthwiseConvImpl<S>::output_dims(const std::vector<Dims>& in) const {
  check();
  const int64_t channels = image<S::rank>(*this, in[0])[3];
  return convolution_dims<S::rank>(
      *this, in[0], channels < 1 ? 1 : checked_mul(channels, this->config.depth_multiplier));
}
template <class S>
void DepthwiseConvImpl<S>::build(const std::vector<Dims>& in) {
  const auto& c = this->config;
  const int64_t channels = channels_of(*this, in[0]);
  kernel = this->add_weight("kernel", kernel_shape(c.kernel_size, channels, c.depth_multiplier),
                            c.depthwise_initializer, true, c.depthwise_regularizer,
                            c.depthwise_constraint);
  if (c.use_bias)
    bias = this->add_weight("bias", {checked_mul(channels, c.depth_multiplier)}, c.bias_initializer,
                            true, c.bias_regularizer, c.bias_constraint);
}
template <class S>
Tensor DepthwiseConvImpl<S>::call(const Tensors& in, const CallContext&) {
  const auto& c = this->config;
  const Tensor x = image<S::rank>(c.data_format, in[0]);
  return finished<S::rank>(c, depthwise_conv2d(x, kernel_for<S::rank>(kernel, x), conv_attrs(c)),
                           bias);
}

template <class S>
void SeparableConvImpl<S>::check() const {
  expect_filters(*this);
  const int64_t m = this->config.depth_multiplier;
  expect(*this, m >= 1 && m <= 1 << 16, "depth_multiplier", m, "from 1 to 2^16");
  check_convolution(*this);
}
template <class S>
Dims SeparableConvImpl<S>::output_dims(const std::vector<Dims>& in) const {
  check();
  return convolution_dims<S::rank>(*this, in[0], this->config.filters);
}
template <class S>
void SeparableConvImpl<S>::build(const std::vector<Dims>& in) {
  const auto& c = this->config;
  const int64_t channels = channels_of(*this, in[0]);
  depthwise = this->add_weight(
      "depthwise_kernel", kernel_shape(c.kernel_size, channels, c.depth_multiplier),
      c.depthwise_initializer, true, c.depthwise_regularizer, c.depthwise_constraint);
  pointwise = this->add_weight(
      "pointwise_kernel", kernel_shape(S(1), checked_mul(channels, c.depth_multiplier), c.filters),
      c.pointwise_initializer, true, c.pointwise_regularizer, c.pointwise_constraint);
  if (c.use_bias)
    bias = this->add_weight("bias", {c.filters}, c.bias_initializer, true, c.bias_regularizer,
                            c.bias_constraint);
}
template <class S>
Tensor SeparableConvImpl<S>::call(const Tensors& in, const CallContext&) {
  const auto& c = this->config;
  const Tensor x = image<S::rank>(c.data_format, in[0]);
  const Tensor y = depthwise_conv2d(x, kernel_for<S::rank>(depthwise, x), conv_attrs(c));
  return finished<S::rank>(c, conv2d(y, kernel_for<S::rank>(pointwise, y)), bias);
}

// ---- pooling ----
template <class S, bool kMax>
void PoolingImpl<S, kMax>::check() const {
  const auto& c = this->config;
  expect_positive(*this, "pool_size", wide(c.pool_size));
  if (c.strides) expect_positive(*this, "strides", wide(*c.strides));
  expect_padding(*this);
  expect_format(*this, c.data_format);
}
template <class S, bool kMax>
Dims PoolingImpl<S, kMax>::output_dims(const std::vector<Dims>& in) const {
  check();
  const auto& c = this->config;
  const Dims x = image<S::rank>(*this, in[0]);
  return window_dims<S::rank>(*this, x, wide(c.pool_size), wide(c.strides.value_or(c.pool_size)), 1,
                              x[3]);
}
template <class S, bool kMax>
Tensor PoolingImpl<S, kMax>::call(const Tensors& in, const CallContext&) {
  const auto& c = this->config;
  const Pool2DAttrs a{.pool_size = pair(wide(c.pool_size)),
                      .strides = pair(wide(c.strides.value_or(c.pool_size))),
                      .padding = c.padding};
  const Tensor x = image<S::rank>(c.data_format, in[0]);
  return as_stored<S::rank>(c.data_format, kMax ? max_pool2d(x, a) : average_pool2d(x, a));
}

template <class S, bool kMax>
void GlobalPoolingImpl<S, kMax>::check() const {
  expect_format(*this, config.data_format);
}
template <class S, bool kMax>
Dims GlobalPoolingImpl<S, kMax>::output_dims(const std::vector<Dims>& in) const {
  check();
  const Dims x = image<S::rank>(*this, in[0]);
  expect(*this, x[1] && x[2], "input", str_dims(in[0]), "at least one pixel");
  if (config.keepdims) return as_stored<S::rank>(config.data_format, {x[0], 1, 1, x[3]});
  return {x[0], x[3]};
}
template <class S, bool kMax>
Tensor GlobalPoolingImpl<S, kMax>::call(const Tensors& in, const CallContext&) {
  const std::string& format = config.data_format;
  const Tensor x = image<S::rank>(format, in[0]);
  const Tensor y =
      kMax ? global_max_pool2d(x, config.keepdims) : global_average_pool2d(x, config.keepdims);
  return config.keepdims ? as_stored<S::rank>(format, y) : y;
}

template struct ConvImpl<Size1>;
template struct ConvImpl<Size2>;
template struct ConvTransposeImpl<Size1>;
template struct ConvTransposeImpl<Size2>;
template struct DepthwiseConvImpl<Size1>;
template struct DepthwiseConvImpl<Size2>;
template struct SeparableConvImpl<Size1>;
template struct SeparableConvImpl<Size2>;
template struct PoolingImpl<Size1, true>;
template struct PoolingImpl<Size2, true>;
template struct PoolingImpl<Size1, false>;
template struct PoolingImpl<Size2, false>;
template struct GlobalPoolingImpl<Size1, true>;
template struct GlobalPoolingImpl<Size2, true>;
template struct GlobalPoolingImpl<Size1, false>;
template struct GlobalPoolingImpl<Size2, false>;

}  // namespace evenflow
