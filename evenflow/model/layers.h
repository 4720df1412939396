// SPDX-License-Identifier: Apache-2.0
// Keras's layers, with Keras's names, defaults and meaning. BatchNormalization, the other
// normalisations and Normalization have headers of their own.
//   Conv2D({.filters = 32, .kernel_size = {3, 3}, .padding = "same", .use_bias = false})
// Every configuration ends with .name (else "conv2d", "conv2d_1", ...) and .dtype (else the policy
// of set_dtype_policy()).
#pragma once
#include "evenflow/model/layer.h"

namespace evenflow {

/// The symbolic input of a functional model: extents without the batch; -1 is any.
SymbolicTensor Input(const Dims& shape, const std::string& name = {}, DType dtype = DType::f32);

struct InputLayerConfig {
  std::vector<int64_t> batch_shape = {};  ///< with the batch; -1 is any
  std::string input_dtype = "float32";
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) {
    v.field("batch_shape", batch_shape), v.field("input_dtype", input_dtype);
  }
};
struct InputLayerImpl : ConfiguredLayer<InputLayerConfig> {
  std::string_view class_name() const override { return "InputLayer"; }
  bool takes_many_inputs() const override { return true; }  // none
  Dims output_dims(const std::vector<Dims>&) const override { return config.batch_shape; }
  Tensor call(const Tensors& x, const CallContext&) override { return x[0]; }
};
using InputLayer = detail::LayerOf<InputLayerImpl>;

// ---- core ----
/// y = activation(x kernel + bias) over the last axis: [..., in] -> [..., units].
struct DenseConfig {
  int64_t units = 0;
  std::string activation = "linear";
  bool use_bias = true;
  Initializer kernel_initializer = "glorot_uniform", bias_initializer = "zeros";
  Regularizer kernel_regularizer = {}, bias_regularizer = {};
  Constraint kernel_constraint = {}, bias_constraint = {};
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) {
    v.field("units", units), v.activation("activation", activation), v.field("use_bias", use_bias);
    v.field("kernel_initializer", kernel_initializer),
        v.field("bias_initializer", bias_initializer);
    v.field("kernel_regularizer", kernel_regularizer),
        v.field("bias_regularizer", bias_regularizer);
    v.field("kernel_constraint", kernel_constraint), v.field("bias_constraint", bias_constraint);
  }
};
struct DenseImpl : ConfiguredLayer<DenseConfig> {
  std::string_view class_name() const override { return "Dense"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  void build(const std::vector<Dims>& in) override;
  Tensor call(const Tensors& x, const CallContext&) override;
  Variable kernel, bias;
};
using Dense = detail::LayerOf<DenseImpl>;

/// [n, a, b, ...] -> [n, a b ...].
struct FlattenConfig {
  std::string data_format = "channels_last";
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) { v.field("data_format", data_format); }
};
struct FlattenImpl : ConfiguredLayer<FlattenConfig> {
  std::string_view class_name() const override { return "Flatten"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  Tensor call(const Tensors& x, const CallContext&) override;
};
using Flatten = detail::LayerOf<FlattenImpl>;

/// [n, ...] -> [n, target_shape...]; one extent may be -1.
struct ReshapeConfig {
  std::vector<int64_t> target_shape = {};
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) { v.field("target_shape", target_shape); }
};
struct ReshapeImpl : ConfiguredLayer<ReshapeConfig> {
  std::string_view class_name() const override { return "Reshape"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  Tensor call(const Tensors& x, const CallContext&) override;
};
using Reshape = detail::LayerOf<ReshapeImpl>;

/// In training each element is zero with probability `rate`, and the others are divided by 1 - rate
/// (Srivastava et al. 2014).
struct DropoutConfig {
  double rate = 0.5;
  std::optional<int64_t> seed = {};
  std::optional<std::vector<double>> noise_shape = {};
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) {
    v.field("rate", rate), v.field("seed", seed), v.field("noise_shape", noise_shape);
  }
};
struct DropoutImpl : ConfiguredLayer<DropoutConfig> {
  std::string_view class_name() const override { return "Dropout"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override { return in[0]; }
  void build(const std::vector<Dims>& in) override;
  Tensor call(const Tensors& x, const CallContext&) override;
  std::vector<Weight> extra_state() const override;
  Variable draw;  ///< i64 [2]: key and counter
};
using Dropout = detail::LayerOf<DropoutImpl>;

// ---- activations ----
/// Any of Keras's activations by name.
struct ActivationConfig {
  std::string activation = "linear";
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) { v.activation("activation", activation); }
};
struct ActivationImpl : ConfiguredLayer<ActivationConfig> {
  std::string_view class_name() const override { return "Activation"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  Tensor call(const Tensors& x, const CallContext&) override;
};
struct Activation : detail::LayerOf<ActivationImpl> {
  using LayerOf::LayerOf;
  Activation(const char* activation)
      : LayerOf(ActivationConfig{.activation = activation}) {}  // NOLINT
};

/// x where x >= max_value is max_value, where x >= threshold is x, else negative_slope (x -
/// threshold).
struct ReLUConfig {
  std::optional<double> max_value = {};
  double negative_slope = 0, threshold = 0;
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) {
    v.field("max_value", max_value), v.field("negative_slope", negative_slope),
        v.field("threshold", threshold);
  }
};
struct ReLUImpl : ConfiguredLayer<ReLUConfig> {
  std::string_view class_name() const override { return "ReLU"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override { return in[0]; }
  Tensor call(const Tensors& x, const CallContext&) override;
};
using ReLU = detail::LayerOf<ReLUImpl>;

struct LeakyReLUConfig {
  double negative_slope = 0.3;
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) { v.field("negative_slope", negative_slope); }
};
struct LeakyReLUImpl : ConfiguredLayer<LeakyReLUConfig> {
  std::string_view class_name() const override { return "LeakyReLU"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override { return in[0]; }
  Tensor call(const Tensors& x, const CallContext&) override;
};
using LeakyReLU = detail::LayerOf<LeakyReLUImpl>;

struct SoftmaxConfig {
  int64_t axis = -1;
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) { v.field("axis", axis); }
};
struct SoftmaxImpl : ConfiguredLayer<SoftmaxConfig> {
  std::string_view class_name() const override { return "Softmax"; }
  Dims output_dims(const std::vector<Dims>& in) const override { return in[0]; }
  Tensor call(const Tensors& x, const CallContext&) override;
};
using Softmax = detail::LayerOf<SoftmaxImpl>;

// ---- convolution ----
/// x [n, h, w, c], kernel [kh, kw, c / groups, filters] -> [n, oh, ow, filters]; or channels first.
struct Conv2DConfig {
  int64_t filters = 0;
  Size2 kernel_size = 0, strides = 1;
  std::string padding = "valid", data_format = "channels_last";
  Size2 dilation_rate = 1;
  int64_t groups = 1;
  std::string activation = "linear";
  bool use_bias = true;
  Initializer kernel_initializer = "glorot_uniform", bias_initializer = "zeros";
  Regularizer kernel_regularizer = {}, bias_regularizer = {};
  Constraint kernel_constraint = {}, bias_constraint = {};
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) {
    v.field("filters", filters), v.field("kernel_size", kernel_size), v.field("strides", strides),
        v.field("padding", padding), v.field("data_format", data_format);
    v.field("dilation_rate", dilation_rate), v.field("groups", groups),
        v.activation("activation", activation), v.field("use_bias", use_bias);
    v.field("kernel_initializer", kernel_initializer),
        v.field("bias_initializer", bias_initializer);
    v.field("kernel_regularizer", kernel_regularizer),
        v.field("bias_regularizer", bias_regularizer);
    v.field("kernel_constraint", kernel_constraint), v.field("bias_constraint", bias_constraint);
  }
};
struct Conv2DImpl : ConfiguredLayer<Conv2DConfig> {
  std::string_view class_name() const override { return "Conv2D"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  void build(const std::vector<Dims>& in) override;
  Tensor call(const Tensors& x, const CallContext&) override;
  Variable kernel, bias;
};
using Conv2D = detail::LayerOf<Conv2DImpl>;

/// The transpose of a convolution, for decoders and generators: kernel [kh, kw, filters, c] -> [n,
/// oh, ow, filters], where "same" gives strides times the extents. Strides and dilation exclude
/// each other, as in Keras.
struct Conv2DTransposeConfig {
  int64_t filters = 0;
  Size2 kernel_size = 0, strides = 1;
  std::string padding = "valid";
  std::optional<Size2> output_padding = {};  ///< rows and columns beyond the least, below strides
  std::string data_format = "channels_last";
  Size2 dilation_rate = 1;
  std::string activation = "linear";
  bool use_bias = true;
  Initializer kernel_initializer = "glorot_uniform", bias_initializer = "zeros";
  Regularizer kernel_regularizer = {}, bias_regularizer = {};
  Constraint kernel_constraint = {}, bias_constraint = {};
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) {
    v.field("filters", filters), v.field("kernel_size", kernel_size), v.field("strides", strides),
        v.field("padding", padding), v.field("output_padding", output_padding),
        v.field("data_format", data_format);
    v.field("dilation_rate", dilation_rate), v.activation("activation", activation),
        v.field("use_bias", use_bias);
    v.field("kernel_initializer", kernel_initializer),
        v.field("bias_initializer", bias_initializer);
    v.field("kernel_regularizer", kernel_regularizer),
        v.field("bias_regularizer", bias_regularizer);
    v.field("kernel_constraint", kernel_constraint), v.field("bias_constraint", bias_constraint);
  }
};
struct Conv2DTransposeImpl : ConfiguredLayer<Conv2DTransposeConfig> {
  std::string_view class_name() const override { return "Conv2DTranspose"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  void build(const std::vector<Dims>& in) override;
  Tensor call(const Tensors& x, const CallContext&) override;
  Variable kernel, bias;
};
using Conv2DTranspose = detail::LayerOf<Conv2DTransposeImpl>;

/// Each channel by itself: kernel [kh, kw, c, depth_multiplier] -> [n, oh, ow, c depth_multiplier].
struct DepthwiseConv2DConfig {
  Size2 kernel_size = 0, strides = 1;
  std::string padding = "valid";
  int64_t depth_multiplier = 1;
  std::string data_format = "channels_last";
  Size2 dilation_rate = 1;
  std::string activation = "linear";
  bool use_bias = true;
  Initializer depthwise_initializer = "glorot_uniform", bias_initializer = "zeros";
  Regularizer depthwise_regularizer = {}, bias_regularizer = {};
  Constraint depthwise_constraint = {}, bias_constraint = {};
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) {
    v.field("kernel_size", kernel_size), v.field("strides", strides), v.field("padding", padding),
        v.field("depth_multiplier", depth_multiplier);
    v.field("data_format", data_format), v.field("dilation_rate", dilation_rate),
        v.activation("activation", activation), v.field("use_bias", use_bias);
    v.field("depthwise_initializer", depthwise_initializer),
        v.field("bias_initializer", bias_initializer);
    v.field("depthwise_regularizer", depthwise_regularizer),
        v.field("bias_regularizer", bias_regularizer);
    v.field("depthwise_constraint", depthwise_constraint),
        v.field("bias_constraint", bias_constraint);
  }
};
struct DepthwiseConv2DImpl : ConfiguredLayer<DepthwiseConv2DConfig> {
  std::string_view class_name() const override { return "DepthwiseConv2D"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  void build(const std::vector<Dims>& in) override;
  Tensor call(const Tensors& x, const CallContext&) override;
  Variable kernel, bias;
};
using DepthwiseConv2D = detail::LayerOf<DepthwiseConv2DImpl>;

/// A depthwise convolution, then a 1x1 convolution: kernels [kh, kw, c, depth_multiplier] and [1,
/// 1, c depth_multiplier, filters].
struct SeparableConv2DConfig {
  int64_t filters = 0;
  Size2 kernel_size = 0, strides = 1;
  std::string padding = "valid", data_format = "channels_last";
  Size2 dilation_rate = 1;
  int64_t depth_multiplier = 1;
  std::string activation = "linear";
  bool use_bias = true;
  Initializer depthwise_initializer = "glorot_uniform", pointwise_initializer = "glorot_uniform",
              bias_initializer = "zeros";
  Regularizer depthwise_regularizer = {}, pointwise_regularizer = {}, bias_regularizer = {};
  Constraint depthwise_constraint = {}, pointwise_constraint = {}, bias_constraint = {};
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) {
    v.field("filters", filters), v.field("kernel_size", kernel_size), v.field("strides", strides),
        v.field("padding", padding), v.field("data_format", data_format);
    v.field("dilation_rate", dilation_rate), v.field("depth_multiplier", depth_multiplier),
        v.activation("activation", activation), v.field("use_bias", use_bias);
    v.field("depthwise_initializer", depthwise_initializer),
        v.field("pointwise_initializer", pointwise_initializer),
        v.field("bias_initializer", bias_initializer);
    v.field("depthwise_regularizer", depthwise_regularizer),
        v.field("pointwise_regularizer", pointwise_regularizer),
        v.field("bias_regularizer", bias_regularizer);
    v.field("depthwise_constraint", depthwise_constraint),
        v.field("pointwise_constraint", pointwise_constraint),
        v.field("bias_constraint", bias_constraint);
  }
};
struct SeparableConv2DImpl : ConfiguredLayer<SeparableConv2DConfig> {
  std::string_view class_name() const override { return "SeparableConv2D"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  void build(const std::vector<Dims>& in) override;
  Tensor call(const Tensors& x, const CallContext&) override;
  Variable depthwise, pointwise, bias;
};
using SeparableConv2D = detail::LayerOf<SeparableConv2DImpl>;

struct ZeroPadding2DConfig {
  Padding2 padding = 1;
  std::string data_format = "channels_last";
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) {
    v.field("padding", padding), v.field("data_format", data_format);
  }
};
struct ZeroPadding2DImpl : ConfiguredLayer<ZeroPadding2DConfig> {
  std::string_view class_name() const override { return "ZeroPadding2D"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  Tensor call(const Tensors& x, const CallContext&) override;
};
using ZeroPadding2D = detail::LayerOf<ZeroPadding2DImpl>;

// ---- pooling ----
struct Pooling2DConfig {
  Size2 pool_size = 2;
  std::optional<Size2> strides = {};  ///< like pool_size
  std::string padding = "valid", data_format = "channels_last";
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) {
    v.field("pool_size", pool_size), v.field("strides", strides), v.field("padding", padding),
        v.field("data_format", data_format);
  }
};
struct Pooling2DImpl : ConfiguredLayer<Pooling2DConfig> {
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
};
struct MaxPooling2DImpl : Pooling2DImpl {
  std::string_view class_name() const override { return "MaxPooling2D"; }
  Tensor call(const Tensors& x, const CallContext&) override;
};
/// What lies in the padding does not count.
struct AveragePooling2DImpl : Pooling2DImpl {
  std::string_view class_name() const override { return "AveragePooling2D"; }
  Tensor call(const Tensors& x, const CallContext&) override;
};
using MaxPooling2D = detail::LayerOf<MaxPooling2DImpl>;
using AveragePooling2D = detail::LayerOf<AveragePooling2DImpl>;

struct GlobalPooling2DConfig {
  std::string data_format = "channels_last";
  bool keepdims = false;
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) {
    v.field("data_format", data_format), v.field("keepdims", keepdims);
  }
};
struct GlobalPooling2DImpl : ConfiguredLayer<GlobalPooling2DConfig> {
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
};
struct GlobalMaxPooling2DImpl : GlobalPooling2DImpl {
  std::string_view class_name() const override { return "GlobalMaxPooling2D"; }
  Tensor call(const Tensors& x, const CallContext&) override;
};
struct GlobalAveragePooling2DImpl : GlobalPooling2DImpl {
  std::string_view class_name() const override { return "GlobalAveragePooling2D"; }
  Tensor call(const Tensors& x, const CallContext&) override;
};
using GlobalMaxPooling2D = detail::LayerOf<GlobalMaxPooling2DImpl>;
using GlobalAveragePooling2D = detail::LayerOf<GlobalAveragePooling2DImpl>;

// ---- merging ----
struct AddConfig {
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor&) {}
};
/// The sum of two or more inputs of one shape (batch apart, they may broadcast).
struct AddImpl : ConfiguredLayer<AddConfig> {
  std::string_view class_name() const override { return "Add"; }
  Dims output_dims(const std::vector<Dims>& in) const override;
  Tensor call(const Tensors& x, const CallContext&) override;
  bool takes_many_inputs() const override { return true; }
};
using Add = detail::LayerOf<AddImpl>;

struct ConcatenateConfig {
  int64_t axis = -1;
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) { v.field("axis", axis); }
};
struct ConcatenateImpl : ConfiguredLayer<ConcatenateConfig> {
  std::string_view class_name() const override { return "Concatenate"; }
  Dims output_dims(const std::vector<Dims>& in) const override;
  Tensor call(const Tensors& x, const CallContext&) override;
  bool takes_many_inputs() const override { return true; }
};
using Concatenate = detail::LayerOf<ConcatenateImpl>;

// ---- preprocessing ----
/// scale x + offset.
struct RescalingConfig {
  double scale = 1, offset = 0;
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) { v.field("scale", scale), v.field("offset", offset); }
};
struct RescalingImpl : ConfiguredLayer<RescalingConfig> {
  std::string_view class_name() const override { return "Rescaling"; }
  Dims output_dims(const std::vector<Dims>& in) const override { return in[0]; }
  Tensor call(const Tensors& x, const CallContext&) override;
};
using Rescaling = detail::LayerOf<RescalingImpl>;

}  // namespace evenflow
