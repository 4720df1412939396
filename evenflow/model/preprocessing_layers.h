// SPDX-License-Identifier: Apache-2.0
// Keras's preprocessing layers that are the same in training and at inference: sizes and ranges of
// images, numbers and indices as categories. Normalization has a header of its own.
#pragma once
#include <cstdio>
#include <functional>

#include "evenflow/model/layer.h"

namespace evenflow {
class Dataset;

/// x scale + offset; several numbers are those of the last axis.
struct RescalingConfig {
  Numbers scale = 1, offset = 0;
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) { v.field("scale", scale), v.field("offset", offset); }
};
struct RescalingImpl : ConfiguredLayer<RescalingConfig> {
  std::string_view class_name() const override { return "Rescaling"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  Tensor call(const Tensors& x, const CallContext&) override;
};
using Rescaling = detail::LayerOf<RescalingImpl>;

/// Images [n, h, w, c] -> [n, height, width, c]. Of integers it gives the same type, rounded and,
/// for u8, cut to its range.
struct ResizingConfig {
  int64_t height = 0, width = 0;
  std::string interpolation = "bilinear";  ///< or "nearest", "bicubic", "lanczos3", "lanczos5"
  /// Cuts what does not have the new proportions, or adds fill_value around it.
  bool crop_to_aspect_ratio = false, pad_to_aspect_ratio = false;
  std::string fill_mode = "constant";
  double fill_value = 0;
  bool antialias = false;
  std::string data_format = "channels_last";
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v);
};
struct ResizingImpl : ConfiguredLayer<ResizingConfig> {
  std::string_view class_name() const override { return "Resizing"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  Tensor call(const Tensors& x, const CallContext&) override;
};
using Resizing = detail::LayerOf<ResizingImpl>;

/// The middle of images [n, h, w, c] -> [n, height, width, c]. A smaller image is cut to the
/// proportions and resized.
struct CenterCropConfig {
  int64_t height = 0, width = 0;
  std::string data_format = "channels_last";
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) {
    v.field("height", height), v.field("width", width), v.field("data_format", data_format);
  }
};
struct CenterCropImpl : ConfiguredLayer<CenterCropConfig> {
  std::string_view class_name() const override { return "CenterCrop"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  Tensor call(const Tensors& x, const CallContext&) override;
};
using CenterCrop = detail::LayerOf<CenterCropImpl>;

/// Indices as "one_hot" [..., k] -> [..., k, num_tokens] (an extent k = 1 goes), or which a row has
/// ("multi_hot") and how often ("count"): [n, k] -> [n, num_tokens]. Indices that are no token do
/// not count.
struct CategoryEncodingConfig {
  int64_t num_tokens = 0;
  std::string output_mode = "multi_hot";
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) {
    v.field("num_tokens", num_tokens), v.field("output_mode", output_mode);
  }
};
struct CategoryEncodingImpl : ConfiguredLayer<CategoryEncodingConfig> {
  std::string_view class_name() const override { return "CategoryEncoding"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  Tensor call(const Tensors& x, const CallContext&) override;
};
using CategoryEncoding = detail::LayerOf<CategoryEncodingImpl>;

/// In which bin a number lies: how many boundaries are at most it. "int" gives i32 of the same
/// extents, the other modes what CategoryEncoding gives.
struct DiscretizationConfig {
  std::vector<double> bin_boundaries = {};  ///< ascending; none: from adapt()
  std::optional<int64_t> num_bins = {};     ///< of adapt()
  double epsilon = 0.01;                    ///< how far a quantile of adapt() may be off
  std::string output_mode = "int";
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v);
};
struct DiscretizationImpl : ConfiguredLayer<DiscretizationConfig> {
  std::string_view class_name() const override { return "Discretization"; }
  bool says_trainable() const override { return false; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  Tensor call(const Tensors& x, const CallContext&) override;

 private:
  int64_t bins() const;
};
class Discretization : public detail::LayerOf<DiscretizationImpl> {
 public:
  using LayerOf::LayerOf;
  /// Takes boundaries so that about as many of these numbers lie in each bin, by a sketch of the
  /// quantiles with about 1 / epsilon places; what was adapted before is forgotten. Throws
  /// InvalidArgument for no number, FailedPrecondition without num_bins.
  void adapt(const Tensor& data) const { adapt(Tensors{data}); }
  void adapt(const Tensors& batches) const;
  /// The first column, batch by batch, with a live line where `progress` is given. (train/)
  void adapt(const Dataset& data, std::FILE* progress = nullptr) const;
  /// What `next` gives until it gives an empty tensor.
  void adapt(const std::function<Tensor()>& next) const;
};

}  // namespace evenflow
