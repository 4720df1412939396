// SPDX-License-Identifier: Apache-2.0
// Keras's layers that move, add, repeat and leave out elements.
#pragma once
#include "evenflow/model/layer.h"

namespace evenflow {

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

/// The axes behind the batch in another order: `dims` numbers them from 1.
struct PermuteConfig {
  std::vector<int64_t> dims = {};
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) { v.field("dims", dims); }
};
struct PermuteImpl : ConfiguredLayer<PermuteConfig> {
  std::string_view class_name() const override { return "Permute"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  Tensor call(const Tensors& x, const CallContext&) override;
};
using Permute = detail::LayerOf<PermuteImpl>;

/// [batch, features] -> [batch, n, features].
struct RepeatVectorConfig {
  int64_t n = 0;
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) { v.field("n", n); }
};
struct RepeatVectorImpl : ConfiguredLayer<RepeatVectorConfig> {
  std::string_view class_name() const override { return "RepeatVector"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  Tensor call(const Tensors& x, const CallContext&) override;
};
using RepeatVector = detail::LayerOf<RepeatVectorImpl>;

// ---- borders ----
struct ZeroPadding1DConfig {
  Padding1 padding = 1;
  std::string data_format = "channels_last";
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) {
    v.field("padding", padding), v.field("data_format", data_format);
  }
};
struct ZeroPadding1DImpl : ConfiguredLayer<ZeroPadding1DConfig> {
  std::string_view class_name() const override { return "ZeroPadding1D"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  Tensor call(const Tensors& x, const CallContext&) override;
};
using ZeroPadding1D = detail::LayerOf<ZeroPadding1DImpl>;

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

/// Leaves out the first and the last steps of [n, steps, c].
struct Cropping1DConfig {
  Padding1 cropping = 1;
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) { v.field("cropping", cropping); }
};
struct Cropping1DImpl : ConfiguredLayer<Cropping1DConfig> {
  std::string_view class_name() const override { return "Cropping1D"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  Tensor call(const Tensors& x, const CallContext&) override;
};
using Cropping1D = detail::LayerOf<Cropping1DImpl>;

struct Cropping2DConfig {
  Padding2 cropping = 0;
  std::string data_format = "channels_last";
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) {
    v.field("cropping", cropping), v.field("data_format", data_format);
  }
};
struct Cropping2DImpl : ConfiguredLayer<Cropping2DConfig> {
  std::string_view class_name() const override { return "Cropping2D"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  Tensor call(const Tensors& x, const CallContext&) override;
};
using Cropping2D = detail::LayerOf<Cropping2DImpl>;

// ---- larger ----
/// Each step `size` times: [n, steps, c] -> [n, size steps, c].
struct UpSampling1DConfig {
  int64_t size = 2;
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) { v.field("size", size); }
};
struct UpSampling1DImpl : ConfiguredLayer<UpSampling1DConfig> {
  std::string_view class_name() const override { return "UpSampling1D"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  Tensor call(const Tensors& x, const CallContext&) override;
};
using UpSampling1D = detail::LayerOf<UpSampling1DImpl>;

/// Images that are `size` times as large: each pixel repeated, or ("bilinear") between the centres
/// of pixels in proportion, as TensorFlow's resize has it.
struct UpSampling2DConfig {
  Size2 size = 2;
  std::string data_format = "channels_last", interpolation = "nearest";
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) {
    v.field("size", size), v.field("data_format", data_format),
        v.field("interpolation", interpolation);
  }
};
struct UpSampling2DImpl : ConfiguredLayer<UpSampling2DConfig> {
  std::string_view class_name() const override { return "UpSampling2D"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  Tensor call(const Tensors& x, const CallContext&) override;
};
using UpSampling2D = detail::LayerOf<UpSampling2DImpl>;

}  // namespace evenflow
