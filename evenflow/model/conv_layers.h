// SPDX-License-Identifier: Apache-2.0
// Keras's layers over images [n, h, w, c] and sequences [n, steps, c], or channels first:
// convolutions and pooling. A sequence is an image of one row, so each layer is declared once for
// both; sizes of windows have as many numbers.
#pragma once
#include "evenflow/model/layer.h"

namespace evenflow {

/// x [n, h, w, c], kernel [kh, kw, c / groups, filters] -> [n, oh, ow, filters]; Conv1D: x [n,
/// steps, c], kernel [k, c / groups, filters], and padding may be "causal": zeros before the first
/// step, so that no output sees a later input.
template <class Size>
struct ConvConfig {
  int64_t filters = 0;
  Size kernel_size = 0, strides = 1;
  std::string padding = "valid", data_format = "channels_last";
  Size dilation_rate = 1;
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
template <class Size>
struct ConvImpl : ConfiguredLayer<ConvConfig<Size>> {
  std::string_view class_name() const override { return Size::rank == 1 ? "Conv1D" : "Conv2D"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  void build(const std::vector<Dims>& in) override;
  Tensor call(const Tensors& x, const CallContext&) override;
  Variable kernel, bias;
};
using Conv1D = detail::LayerOf<ConvImpl<Size1>>;
using Conv2D = detail::LayerOf<ConvImpl<Size2>>;

/// The transpose of a convolution, for decoders and generators: kernel [kh, kw, filters, c] -> [n,
/// oh, ow, filters], where "same" gives strides times the extents. Strides and dilation exclude
/// each other, as in Keras.
template <class Size>
struct ConvTransposeConfig {
  int64_t filters = 0;
  Size kernel_size = 0, strides = 1;
  std::string padding = "valid";
  std::optional<Size> output_padding = {};  ///< rows and columns beyond the least, below strides
  std::string data_format = "channels_last";
  Size dilation_rate = 1;
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
template <class Size>
struct ConvTransposeImpl : ConfiguredLayer<ConvTransposeConfig<Size>> {
  std::string_view class_name() const override {
    return Size::rank == 1 ? "Conv1DTranspose" : "Conv2DTranspose";
  }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  void build(const std::vector<Dims>& in) override;
  Tensor call(const Tensors& x, const CallContext&) override;
  Variable kernel, bias;
};
using Conv1DTranspose = detail::LayerOf<ConvTransposeImpl<Size1>>;
using Conv2DTranspose = detail::LayerOf<ConvTransposeImpl<Size2>>;

/// Each channel by itself: kernel [kh, kw, c, depth_multiplier] -> [n, oh, ow, c depth_multiplier].
template <class Size>
struct DepthwiseConvConfig {
  Size kernel_size = 0, strides = 1;
  std::string padding = "valid";
  int64_t depth_multiplier = 1;
  std::string data_format = "channels_last";
  Size dilation_rate = 1;
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
template <class Size>
struct DepthwiseConvImpl : ConfiguredLayer<DepthwiseConvConfig<Size>> {
  std::string_view class_name() const override {
    return Size::rank == 1 ? "DepthwiseConv1D" : "DepthwiseConv2D";
  }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  void build(const std::vector<Dims>& in) override;
  Tensor call(const Tensors& x, const CallContext&) override;
  Variable kernel, bias;
};
using DepthwiseConv1D = detail::LayerOf<DepthwiseConvImpl<Size1>>;
using DepthwiseConv2D = detail::LayerOf<DepthwiseConvImpl<Size2>>;

/// A depthwise convolution, then a 1x1 convolution: kernels [kh, kw, c, depth_multiplier] and [1,
/// 1, c depth_multiplier, filters].
template <class Size>
struct SeparableConvConfig {
  int64_t filters = 0;
  Size kernel_size = 0, strides = 1;
  std::string padding = "valid", data_format = "channels_last";
  Size dilation_rate = 1;
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
template <class Size>
struct SeparableConvImpl : ConfiguredLayer<SeparableConvConfig<Size>> {
  std::string_view class_name() const override {
    return Size::rank == 1 ? "SeparableConv1D" : "SeparableConv2D";
  }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  void build(const std::vector<Dims>& in) override;
  Tensor call(const Tensors& x, const CallContext&) override;
  Variable depthwise, pointwise, bias;
};
using SeparableConv1D = detail::LayerOf<SeparableConvImpl<Size1>>;
using SeparableConv2D = detail::LayerOf<SeparableConvImpl<Size2>>;

// ---- pooling ----
template <class Size>
struct PoolingConfig {
  Size pool_size = 2;
  std::optional<Size> strides = {};  ///< like pool_size
  std::string padding = "valid", data_format = "channels_last";
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) {
    v.field("pool_size", pool_size), v.field("strides", strides), v.field("padding", padding),
        v.field("data_format", data_format);
  }
};
/// The mean (where what lies in the padding does not count) or the maximum of each window.
template <class Size, bool kMax>
struct PoolingImpl : ConfiguredLayer<PoolingConfig<Size>> {
  std::string_view class_name() const override {
    if (kMax) return Size::rank == 1 ? "MaxPooling1D" : "MaxPooling2D";
    return Size::rank == 1 ? "AveragePooling1D" : "AveragePooling2D";
  }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  Tensor call(const Tensors& x, const CallContext&) override;
};
using MaxPooling1D = detail::LayerOf<PoolingImpl<Size1, true>>;
using MaxPooling2D = detail::LayerOf<PoolingImpl<Size2, true>>;
using AveragePooling1D = detail::LayerOf<PoolingImpl<Size1, false>>;
using AveragePooling2D = detail::LayerOf<PoolingImpl<Size2, false>>;

struct GlobalPoolingConfig {
  std::string data_format = "channels_last";
  bool keepdims = false;
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) {
    v.field("data_format", data_format), v.field("keepdims", keepdims);
  }
};
template <class Size, bool kMax>
struct GlobalPoolingImpl : ConfiguredLayer<GlobalPoolingConfig> {
  std::string_view class_name() const override {
    if (kMax) return Size::rank == 1 ? "GlobalMaxPooling1D" : "GlobalMaxPooling2D";
    return Size::rank == 1 ? "GlobalAveragePooling1D" : "GlobalAveragePooling2D";
  }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  Tensor call(const Tensors& x, const CallContext&) override;
};
using GlobalMaxPooling1D = detail::LayerOf<GlobalPoolingImpl<Size1, true>>;
using GlobalMaxPooling2D = detail::LayerOf<GlobalPoolingImpl<Size2, true>>;
using GlobalAveragePooling1D = detail::LayerOf<GlobalPoolingImpl<Size1, false>>;
using GlobalAveragePooling2D = detail::LayerOf<GlobalPoolingImpl<Size2, false>>;

}  // namespace evenflow
