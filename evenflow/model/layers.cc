// SPDX-License-Identifier: Apache-2.0
#include "evenflow/model/layers.h"

#include <algorithm>
#include <cmath>

#include "evenflow/core/statistics.h"
#include "evenflow/ops/activations.h"
#include "evenflow/ops/conv.h"
#include "evenflow/ops/depthwise_conv.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/matmul.h"
#include "evenflow/ops/pooling.h"
#include "evenflow/ops/random.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"
#include "evenflow/ops/softmax.h"

namespace evenflow {

// Makes a class known to load_model by its name.
#define LAYER(name)                                                                        \
  static const LayerEntry name##_entry {                                                   \
#name, []() -> std::shared_ptr < LayerImpl> { return std::make_shared<name##Impl>(); } \
  }
LAYER(InputLayer);
LAYER(Dense);
LAYER(Flatten);
LAYER(Reshape);
LAYER(Dropout);
LAYER(Activation);
LAYER(ReLU);
LAYER(LeakyReLU);
LAYER(Softmax);
LAYER(Conv2D);
LAYER(DepthwiseConv2D);
LAYER(SeparableConv2D);
LAYER(ZeroPadding2D);
LAYER(MaxPooling2D);
LAYER(AveragePooling2D);
LAYER(GlobalMaxPooling2D);
LAYER(GlobalAveragePooling2D);
LAYER(Add);
LAYER(Concatenate);
LAYER(Rescaling);
LAYER(Normalization);
#undef LAYER

namespace {
template <class L>
void expect(const L& layer, bool ok, std::string_view what, Part found, std::string_view expected) {
  if (!ok)
    fail({layer.class_name(), " \"", layer.name, "\": ", what, " is ", found.text, ", expected ",
          expected});
}
template <class L>
void expect_activation(const L& layer, const std::string& a) {
  expect(layer, is_activation(a), "activation", "\"" + a.substr(0, 80) + "\"",
         "one of Keras's names");
}
template <class L>
void expect_channels_last(const L& layer, const std::string& format) {
  expect(layer, format == "channels_last", "data_format", "\"" + format.substr(0, 80) + "\"",
         "\"channels_last\"");
}
template <class L>
void expect_padding(const L& layer, const std::string& padding) {
  expect(layer, padding == "valid" || padding == "same", "padding",
         "\"" + padding.substr(0, 80) + "\"", "\"valid\" or \"same\"");
}
template <class L>
void expect_positive(const L& layer, std::string_view what, Size2 s) {
  constexpr int64_t most = 1 << 20;
  expect(layer, s.height >= 1 && s.width >= 1 && s.height <= most && s.width <= most, what,
         concat({s.height, " x ", s.width}), "positive numbers");
}
// Extent of a window's output; -1 stays unknown.
int64_t windows(int64_t n, int64_t size, int64_t stride, int64_t dilation,
                const std::string& padding) {
  if (n < 0) return -1;
  if (padding == "same") return (n + stride - 1) / stride;
  const int64_t reach = (size - 1) * dilation + 1;
  return n < reach ? 0 : (n - reach) / stride + 1;
}
template <class L>
Dims window_dims(const L& layer, const Dims& in, Size2 size, Size2 stride, Size2 dilation,
                 const std::string& padding, int64_t channels) {
  if (in.size() != 4)
    fail({layer.class_name(), " \"", layer.name, "\": input is ", str_dims(in),
          ", expected (batch, height, width, channels)"});
  Dims r{in[0], windows(in[1], size.height, stride.height, dilation.height, padding),
         windows(in[2], size.width, stride.width, dilation.width, padding), channels};
  for (int i : {1, 2})
    if (r[size_t(i)] == 0)
      fail({layer.class_name(), " \"", layer.name, "\": input is ", str_dims(in),
            ", expected at least the window ", size.height, " x ", size.width});
  return r;
}
Tensor with_bias(const Tensor& y, const Variable& bias, const std::string& activation_name) {
  Tensor z = bias ? y + cast(bias.read(), y.dtype()) : y;
  return activation_name == "linear" ? z : activation(activation_name, z);
}
std::vector<int64_t> pair(Size2 s) { return {s.height, s.width}; }
}  // namespace

SymbolicTensor Input(const Dims& shape, const std::string& name, DType dtype) {
  for (int64_t d : shape)
    if (d < -1)
      fail({"Input: shape is ", str_dims(shape), ", expected extents of at least 0, or -1"});
  if (shape.size() >= size_t(kMaxRank))
    fail({"Input: shape is ", str_dims(shape), ", expected at most ", kMaxRank - 1, " extents"});
  Dims d{-1};
  d.insert(d.end(), shape.begin(), shape.end());
  auto impl = std::make_shared<InputLayerImpl>();
  impl->config.batch_shape = d, impl->config.input_dtype = numpy_name(dtype);
  impl->name = name.empty() ? automatic_name("InputLayer") : name;
  impl->built = true;
  return {std::make_shared<SymbolicTensor::Source>(SymbolicTensor::Source{impl, {}}), d};
}

// ---- core
// --------------------------------------------------------------------------------------------------------------
void DenseImpl::check() const {
  expect(*this, config.units >= 1 && config.units <= int64_t(1) << 32, "units", config.units,
         "a positive number");
  expect_activation(*this, config.activation);
}
Dims DenseImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  if (in[0].size() < 2) refuse("input", in[0], "(batch, ..., features)");
  if (in[0].back() < 0) refuse("input", in[0], "a known last extent");
  if (built && in[0].back() != input_dims[0].back())
    refuse("input", in[0], concat({input_dims[0].back(), " features, for which it was built"}));
  Dims r = in[0];
  r.back() = config.units;
  return r;
}
void DenseImpl::build(const std::vector<Dims>& in) {
  kernel = add_weight("kernel", {in[0].back(), config.units}, config.kernel_initializer, true,
                      config.kernel_regularizer);
  if (config.use_bias)
    bias =
        add_weight("bias", {config.units}, config.bias_initializer, true, config.bias_regularizer);
}
Tensor DenseImpl::call(const Tensors& x, const CallContext&) {
  return with_bias(matmul(x[0], cast(kernel.read(), x[0].dtype())), bias, config.activation);
}

void FlattenImpl::check() const { expect_channels_last(*this, config.data_format); }
Dims FlattenImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  if (in[0].empty()) refuse("input", in[0], "(batch, ...)");
  int64_t n = 1;
  for (size_t i = 1; i < in[0].size(); ++i)
    n = n < 0 || in[0][i] < 0 ? -1 : checked_mul(n, in[0][i]);
  return {in[0][0], n};
}
Tensor FlattenImpl::call(const Tensors& x, const CallContext&) { return flatten(x[0], 1); }

void ReshapeImpl::check() const {
  expect(*this, config.target_shape.size() < size_t(kMaxRank), "target_shape",
         str_dims(config.target_shape), "at most 7 extents");
  int open = 0;
  for (int64_t d : config.target_shape)
    expect(*this, d >= -1 && (open += d < 0) <= 1, "target_shape", str_dims(config.target_shape),
           "extents of at least 0, and one -1 at most");
}
Dims ReshapeImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  if (in[0].empty()) refuse("input", in[0], "(batch, ...)");
  int64_t have = 1, known = 1;
  for (size_t i = 1; i < in[0].size(); ++i)
    have = have < 0 || in[0][i] < 0 ? -1 : checked_mul(have, in[0][i]);
  Dims r{in[0][0]};
  bool open = false;
  for (int64_t d : config.target_shape) {
    r.push_back(d);
    if (d < 0)
      open = true;
    else
      known = checked_mul(known, d);
  }
  if (have < 0) {
    if (open) refuse("input", in[0], "known extents for a target_shape with -1");
    return r;
  }
  if (open ? !known || have % known : have != known)
    refuse("input", in[0], "the elements of target_shape " + str_dims(config.target_shape));
  for (int64_t& d : r)
    if (&d != &r[0] && d < 0) d = have / known;
  return r;
}
Tensor ReshapeImpl::call(const Tensors& x, const CallContext&) {
  Dims d(x[0].sig().shape.begin(), x[0].sig().shape.end());
  d[0] = -1;
  d = output_dims({d});
  d[0] = -1;
  return reshape(x[0], d);
}

void DropoutImpl::check() const {
  expect(*this, config.rate >= 0 && config.rate <= 1, "rate", config.rate, "between 0 and 1");
  expect(*this, !config.noise_shape, "noise_shape", "given", "none");
}
void DropoutImpl::build(const std::vector<Dims>&) {
  const uint64_t key = config.seed ? uint64_t(*config.seed) : seed;
  draw = Generator(key & 0xffffffffffffu).state();  // 48 bits: exact as a number in JSON
}
Tensor DropoutImpl::call(const Tensors& x, const CallContext& c) {
  if (!c.training || config.rate == 0) return x[0];
  if (config.rate == 1) return fill_like(x[0], 0);
  return x[0] * dropout_mask(Generator(draw).next(), x[0], config.rate);
}
std::vector<Weight> DropoutImpl::extra_state() const {
  return built ? std::vector<Weight>{{"draw", draw, false}} : std::vector<Weight>{};
}

// ---- activations
// ---------------------------------------------------------------------------------------------------------
void ActivationImpl::check() const { expect_activation(*this, config.activation); }
Tensor ActivationImpl::call(const Tensors& x, const CallContext&) {
  return activation(config.activation, x[0]);
}
void ReLUImpl::check() const {
  expect(*this, !config.max_value || *config.max_value >= 0, "max_value",
         config.max_value.value_or(0), "at least 0");
  expect(*this, config.negative_slope >= 0 && std::isfinite(config.negative_slope),
         "negative_slope", config.negative_slope, "at least 0");
  expect(*this, config.threshold >= 0 && std::isfinite(config.threshold), "threshold",
         config.threshold, "at least 0");
}
Tensor ReLUImpl::call(const Tensors& x, const CallContext&) {
  ReluAttrs a{.negative_slope = config.negative_slope, .threshold = config.threshold};
  if (config.max_value) a.max_value = *config.max_value;
  return relu(x[0], a);
}
void LeakyReLUImpl::check() const {
  expect(*this, std::isfinite(config.negative_slope), "negative_slope", config.negative_slope,
         "a finite number");
}
Tensor LeakyReLUImpl::call(const Tensors& x, const CallContext&) {
  return leaky_relu(x[0], config.negative_slope);
}
Tensor SoftmaxImpl::call(const Tensors& x, const CallContext&) {
  return softmax(x[0], config.axis);
}

// ---- convolution
// ---------------------------------------------------------------------------------------------------------
void Conv2DImpl::check() const {
  expect(*this, config.filters >= 1 && config.filters <= 1 << 24, "filters", config.filters,
         "a positive number");
  expect(*this, config.groups >= 1 && config.filters % std::max<int64_t>(1, config.groups) == 0,
         "groups", config.groups, "a positive divisor of filters");
  expect_positive(*this, "kernel_size", config.kernel_size),
      expect_positive(*this, "strides", config.strides),
      expect_positive(*this, "dilation_rate", config.dilation_rate);
  expect_padding(*this, config.padding), expect_channels_last(*this, config.data_format),
      expect_activation(*this, config.activation);
}
Dims Conv2DImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  Dims r = window_dims(*this, in[0], config.kernel_size, config.strides, config.dilation_rate,
                       config.padding, config.filters);
  if (in[0][3] < 1 || in[0][3] % config.groups)
    refuse("input", in[0], concat({"channels that ", config.groups, " groups divide"}));
  if (built && in[0][3] != input_dims[0][3])
    refuse("input", in[0], concat({input_dims[0][3], " channels, for which it was built"}));
  return r;
}
void Conv2DImpl::build(const std::vector<Dims>& in) {
  kernel = add_weight("kernel",
                      {config.kernel_size.height, config.kernel_size.width,
                       in[0][3] / config.groups, config.filters},
                      config.kernel_initializer, true, config.kernel_regularizer);
  if (config.use_bias)
    bias = add_weight("bias", {config.filters}, config.bias_initializer, true,
                      config.bias_regularizer);
}
Tensor Conv2DImpl::call(const Tensors& x, const CallContext&) {
  const Conv2DAttrs a{.strides = pair(config.strides),
                      .padding = config.padding,
                      .dilations = pair(config.dilation_rate),
                      .groups = config.groups};
  return with_bias(conv2d(x[0], cast(kernel.read(), x[0].dtype()), a), bias, config.activation);
}

void DepthwiseConv2DImpl::check() const {
  expect(*this, config.depth_multiplier >= 1 && config.depth_multiplier <= 1 << 16,
         "depth_multiplier", config.depth_multiplier, "a positive number");
  expect_positive(*this, "kernel_size", config.kernel_size),
      expect_positive(*this, "strides", config.strides),
      expect_positive(*this, "dilation_rate", config.dilation_rate);
  expect_padding(*this, config.padding), expect_channels_last(*this, config.data_format),
      expect_activation(*this, config.activation);
}
Dims DepthwiseConv2DImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  Dims r = window_dims(*this, in[0], config.kernel_size, config.strides, config.dilation_rate,
                       config.padding, 0);
  if (in[0][3] < 1 || (built && in[0][3] != input_dims[0][3]))
    refuse("input", in[0], "the channels for which it was built");
  r[3] = checked_mul(in[0][3], config.depth_multiplier);
  return r;
}
void DepthwiseConv2DImpl::build(const std::vector<Dims>& in) {
  kernel = add_weight(
      "kernel",
      {config.kernel_size.height, config.kernel_size.width, in[0][3], config.depth_multiplier},
      config.depthwise_initializer, true, config.depthwise_regularizer);
  if (config.use_bias)
    bias = add_weight("bias", {in[0][3] * config.depth_multiplier}, config.bias_initializer, true,
                      config.bias_regularizer);
}
Tensor DepthwiseConv2DImpl::call(const Tensors& x, const CallContext&) {
  const Conv2DAttrs a{.strides = pair(config.strides),
                      .padding = config.padding,
                      .dilations = pair(config.dilation_rate)};
  return with_bias(depthwise_conv2d(x[0], cast(kernel.read(), x[0].dtype()), a), bias,
                   config.activation);
}

void SeparableConv2DImpl::check() const {
  expect(*this, config.filters >= 1 && config.filters <= 1 << 24, "filters", config.filters,
         "a positive number");
  expect(*this, config.depth_multiplier >= 1 && config.depth_multiplier <= 1 << 16,
         "depth_multiplier", config.depth_multiplier, "a positive number");
  expect_positive(*this, "kernel_size", config.kernel_size),
      expect_positive(*this, "strides", config.strides),
      expect_positive(*this, "dilation_rate", config.dilation_rate);
  expect_padding(*this, config.padding), expect_channels_last(*this, config.data_format),
      expect_activation(*this, config.activation);
}
Dims SeparableConv2DImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  Dims r = window_dims(*this, in[0], config.kernel_size, config.strides, config.dilation_rate,
                       config.padding, config.filters);
  if (in[0][3] < 1 || (built && in[0][3] != input_dims[0][3]))
    refuse("input", in[0], "the channels for which it was built");
  return r;
}
void SeparableConv2DImpl::build(const std::vector<Dims>& in) {
  depthwise = add_weight(
      "depthwise_kernel",
      {config.kernel_size.height, config.kernel_size.width, in[0][3], config.depth_multiplier},
      config.depthwise_initializer, true, config.depthwise_regularizer);
  pointwise = add_weight("pointwise_kernel",
                         {1, 1, checked_mul(in[0][3], config.depth_multiplier), config.filters},
                         config.pointwise_initializer, true, config.pointwise_regularizer);
  if (config.use_bias)
    bias = add_weight("bias", {config.filters}, config.bias_initializer, true,
                      config.bias_regularizer);
}
Tensor SeparableConv2DImpl::call(const Tensors& x, const CallContext&) {
  const Conv2DAttrs a{.strides = pair(config.strides),
                      .padding = config.padding,
                      .dilations = pair(config.dilation_rate)};
  Tensor y = depthwise_conv2d(x[0], cast(depthwise.read(), x[0].dtype()), a);
  return with_bias(conv2d(y, cast(pointwise.read(), y.dtype())), bias, config.activation);
}

void ZeroPadding2DImpl::check() const {
  const Padding2& p = config.padding;
  constexpr int64_t most = 1 << 20;
  for (int64_t n : {p.top, p.bottom, p.left, p.right})
    expect(*this, n >= 0 && n <= most, "padding", n, "at least 0");
  expect_channels_last(*this, config.data_format);
}
Dims ZeroPadding2DImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  if (in[0].size() != 4) refuse("input", in[0], "(batch, height, width, channels)");
  Dims r = in[0];
  if (r[1] >= 0) r[1] += config.padding.top + config.padding.bottom;
  if (r[2] >= 0) r[2] += config.padding.left + config.padding.right;
  return r;
}
Tensor ZeroPadding2DImpl::call(const Tensors& x, const CallContext&) {
  const Padding2& p = config.padding;
  return pad(x[0], {0, 0, p.top, p.bottom, p.left, p.right, 0, 0});
}

// ---- pooling
// -----------------------------------------------------------------------------------------------------------------
void Pooling2DImpl::check() const {
  expect_positive(*this, "pool_size", config.pool_size);
  if (config.strides) expect_positive(*this, "strides", *config.strides);
  expect_padding(*this, config.padding), expect_channels_last(*this, config.data_format);
}
Dims Pooling2DImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  return window_dims(*this, in[0], config.pool_size, config.strides.value_or(config.pool_size), 1,
                     config.padding, in[0].size() == 4 ? in[0][3] : 0);
}
static Pool2DAttrs pool_attrs(const Pooling2DConfig& c) {
  return {.pool_size = pair(c.pool_size),
          .strides = pair(c.strides.value_or(c.pool_size)),
          .padding = c.padding};
}
Tensor MaxPooling2DImpl::call(const Tensors& x, const CallContext&) {
  return max_pool2d(x[0], pool_attrs(config));
}
Tensor AveragePooling2DImpl::call(const Tensors& x, const CallContext&) {
  return average_pool2d(x[0], pool_attrs(config));
}

void GlobalPooling2DImpl::check() const { expect_channels_last(*this, config.data_format); }
Dims GlobalPooling2DImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  if (in[0].size() != 4) refuse("input", in[0], "(batch, height, width, channels)");
  if (config.keepdims) return {in[0][0], 1, 1, in[0][3]};
  return {in[0][0], in[0][3]};
}
Tensor GlobalMaxPooling2DImpl::call(const Tensors& x, const CallContext&) {
  return global_max_pool2d(x[0], config.keepdims);
}
Tensor GlobalAveragePooling2DImpl::call(const Tensors& x, const CallContext&) {
  return global_average_pool2d(x[0], config.keepdims);
}

// ---- merging
// -----------------------------------------------------------------------------------------------------------------
Dims AddImpl::output_dims(const std::vector<Dims>& in) const {
  if (in.size() < 2)
    fail({"Add \"", name, "\": ", in.size(), " inputs were given, expected at least 2"});
  Dims r = in[0];
  for (auto& d : in) {
    if (d.size() != r.size()) refuse("an input", d, "the rank of " + str_dims(in[0]));
    for (size_t i = 0; i < d.size(); ++i) {
      if (r[i] == d[i] || d[i] == 1) continue;
      if (r[i] == 1)
        r[i] = d[i];
      else if (r[i] < 0 || d[i] < 0)
        r[i] = std::max(r[i], d[i]);
      else
        refuse("an input", d, "extents of " + str_dims(in[0]) + " or 1");
    }
  }
  return r;
}
Tensor AddImpl::call(const Tensors& x, const CallContext&) {
  Tensor sum = x[0];
  for (size_t i = 1; i < x.size(); ++i) sum = sum + x[i];
  return sum;
}
Dims ConcatenateImpl::output_dims(const std::vector<Dims>& in) const {
  if (in.empty()) fail({"Concatenate \"", name, "\": no input was given, expected at least 1"});
  const int64_t rank = int64_t(in[0].size()),
                axis = config.axis < 0 ? config.axis + rank : config.axis;
  if (axis < 1 || axis >= rank)
    refuse("input", in[0], concat({"an axis ", config.axis, " besides the batch"}));
  Dims r = in[0];
  for (size_t k = 1; k < in.size(); ++k) {
    if (in[k].size() != r.size()) refuse("an input", in[k], "the rank of " + str_dims(in[0]));
    for (size_t i = 0; i < r.size(); ++i) {
      if (int64_t(i) == axis)
        r[i] = r[i] < 0 || in[k][i] < 0 ? -1 : checked_add(r[i], in[k][i]);
      else if (r[i] < 0)
        r[i] = in[k][i];
      else if (in[k][i] >= 0 && in[k][i] != r[i])
        refuse("an input", in[k],
               "extents of " + str_dims(in[0]) + concat({" but for axis ", config.axis}));
    }
  }
  return r;
}
Tensor ConcatenateImpl::call(const Tensors& x, const CallContext&) {
  return evenflow::concat(x, config.axis);
}

// ---- preprocessing
// -----------------------------------------------------------------------------------------------------------
Tensor RescalingImpl::call(const Tensors& x, const CallContext&) {
  Tensor t = is_floating(x[0].dtype()) ? x[0] : cast(x[0], compute_dtype());
  return t * config.scale + config.offset;
}

void NormalizationConfig::fields(ConfigVisitor& v) {
  v.field("axis", axis), v.field("mean", mean), v.field("variance", variance),
      v.field("invert", invert);
}
void NormalizationImpl::check() const {
  expect(*this, bool(config.mean) == bool(config.variance), "mean or variance", "given alone",
         "both or none");
  if (config.mean)
    expect(*this, config.mean->size() == config.variance->size(), "variance",
           concat({config.variance->size(), " numbers"}),
           concat({config.mean->size(), " (as mean)"}));
}
std::vector<bool> NormalizationImpl::kept(size_t rank) const {
  std::vector<bool> r(rank);
  for (int64_t a : config.axis) {
    const int64_t d = a < 0 ? a + int64_t(rank) : a;
    if (d < 1 || d >= int64_t(rank))
      fail({"Normalization \"", name, "\": axis is ", a,
            ", expected an axis besides the batch, rank ", rank});
    r[size_t(d)] = true;
  }
  return r;
}
Shape NormalizationImpl::broadcast_shape() const {
  const auto k = kept(input_dims[0].size());
  std::vector<int64_t> d;
  for (size_t i = 0; i < k.size(); ++i) d.push_back(k[i] ? input_dims[0][i] : 1);
  return Shape(d);
}
void NormalizationImpl::build(const std::vector<Dims>& in) {
  input_dims = in;
  const auto k = kept(in[0].size());
  std::vector<int64_t> d;
  for (size_t i = 0; i < k.size(); ++i) {
    if (!k[i]) continue;
    if (in[0][i] < 0) refuse("input", in[0], "known extents on the axes");
    d.push_back(in[0][i]);
  }
  const Shape s(d);
  if (config.mean) {  // given: constants, no weights
    if (int64_t(config.mean->size()) != s.count() && config.mean->size() != 1)
      fail({"Normalization \"", name, "\": mean has ", config.mean->size(), " numbers, expected ",
            s.count()});
    auto spread = [&](std::vector<double> v) {
      if (v.size() == 1) v.assign(size_t(s.count()), v[0]);
      return constant(v, s, variable_dtype());
    };
    mean = Variable(spread(*config.mean), {.name = name + "/mean"});
    variance = Variable(spread(*config.variance), {.name = name + "/variance"});
    return;
  }
  mean = add_weight("mean", s, "zeros", false);
  variance = add_weight("variance", s, "ones", false);
  count = Variable(full({}, 0, DType::i64), {.name = name + "/count"});
  weights.push_back({"count", count, false});
}
Tensor NormalizationImpl::call(const Tensors& given, const CallContext&) {
  Tensor x = is_floating(given[0].dtype()) ? given[0] : cast(given[0], compute_dtype());
  const Shape s = broadcast_shape();
  const std::vector<int64_t> d(s.begin(), s.end());
  Tensor m = reshape(cast(mean.read(), x.dtype()), d),
         deviation = maximum(sqrt(reshape(cast(variance.read(), x.dtype()), d)), 1e-7);
  return config.invert ? m + x * deviation : (x - m) / deviation;
}
void Normalization::adapt(const Tensor& data) const {
  auto& impl = static_cast<NormalizationImpl&>(*impl_);
  if (impl.config.mean)
    fail(Code::FailedPrecondition,
         {"Normalization \"", impl.name,
          "\": mean and variance were given, expected adapt() without them"});
  if (!data) fail({"adapt: data is an empty tensor"});
  Dims d(data.sig().shape.begin(), data.sig().shape.end());
  if (d.empty()) fail({"adapt: data is ", str(data.sig()), ", expected a batch"});
  d[0] = -1;
  impl.ensure_built({d});
  const auto k = impl.kept(d.size());
  std::vector<int64_t> axes;
  for (size_t i = 0; i < k.size(); ++i)
    if (!k[i]) axes.push_back(int64_t(i));
  Moments m = moments(cast(data, DType::f64), axes);
  if (!data.sig().shape.count())
    fail({"adapt: data is ", str(data.sig()), ", expected at least one element"});
  impl.mean.assign(cast(m.mean, impl.variable_dtype()));
  impl.variance.assign(cast(m.variance, impl.variable_dtype()));
  const int64_t channels = impl.mean.sig().shape.count();
  impl.count.assign(
      full({}, double(data.sig().shape.count() / std::max<int64_t>(1, channels)), DType::i64));
}

}  // namespace evenflow
