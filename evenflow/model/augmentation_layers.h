// SPDX-License-Identifier: Apache-2.0
// Keras's layers that change images [n, h, w, c] at random in training, and not at inference. What
// becomes of an image depends on the seed and on its place in the data (CallContext::index); where
// that is not given, on how often was drawn before and its place in the batch. They give the
// compute type.
#pragma once
#include "evenflow/model/noise_layers.h"

namespace evenflow {

template <class C>
struct AugmentationLayer : NoiseLayer<C> {
  Dims output_dims(const std::vector<Dims>& in) const override {
    if (in[0].size() != 4) this->refuse("input", in[0], "an image and its channels");
    return in[0];
  }
  Tensor call(const Tensors& x, const CallContext&) override;

 protected:
  /// Images [n, h, w, c] of the compute type, changed.
  virtual Tensor augmented(const Tensor& images, const Tensor& draw, const Tensor& index) = 0;
};

/// Flips with probability 1/2; with "horizontal_and_vertical" both ways at once, as Keras does.
struct RandomFlipConfig {
  std::string mode = "horizontal_and_vertical";
  std::optional<int64_t> seed = {};
  std::string data_format = "channels_last";
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) {
    v.field("mode", mode), v.field("seed", seed), v.field("data_format", data_format);
  }
};
struct RandomFlipImpl : AugmentationLayer<RandomFlipConfig> {
  std::string_view class_name() const override { return "RandomFlip"; }
  void check() const override;
  Tensor augmented(const Tensor& x, const Tensor& draw, const Tensor& index) override;
};
using RandomFlip = detail::LayerOf<RandomFlipImpl>;

/// Rotates about the middle by an angle of `factor`, in turns.
struct RandomRotationConfig {
  Factor factor = 0.;
  std::string fill_mode = "reflect", interpolation = "bilinear";  ///< of ProjectAttrs
  std::optional<int64_t> seed = {};
  double fill_value = 0;
  std::string data_format = "channels_last";
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v);
};
struct RandomRotationImpl : AugmentationLayer<RandomRotationConfig> {
  std::string_view class_name() const override { return "RandomRotation"; }
  void check() const override;
  Tensor augmented(const Tensor& x, const Tensor& draw, const Tensor& index) override;
};
using RandomRotation = detail::LayerOf<RandomRotationImpl>;

/// Shows 1 + height_factor times the rows, and so the columns, of which none stands for as many as
/// of rows: positive numbers zoom out.
struct RandomZoomConfig {
  Factor height_factor = 0.;
  std::optional<Factor> width_factor = {};
  std::string fill_mode = "reflect", interpolation = "bilinear";
  std::optional<int64_t> seed = {};
  double fill_value = 0;
  std::string data_format = "channels_last";
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v);
};
struct RandomZoomImpl : AugmentationLayer<RandomZoomConfig> {
  std::string_view class_name() const override { return "RandomZoom"; }
  void check() const override;
  Tensor augmented(const Tensor& x, const Tensor& draw, const Tensor& index) override;
};
using RandomZoom = detail::LayerOf<RandomZoomImpl>;

/// Moves down and right by these shares of the height and the width.
struct RandomTranslationConfig {
  Factor height_factor = 0., width_factor = 0.;
  std::string fill_mode = "reflect", interpolation = "bilinear";
  std::optional<int64_t> seed = {};
  double fill_value = 0;
  std::string data_format = "channels_last";
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v);
};
struct RandomTranslationImpl : AugmentationLayer<RandomTranslationConfig> {
  std::string_view class_name() const override { return "RandomTranslation"; }
  void check() const override;
  Tensor augmented(const Tensor& x, const Tensor& draw, const Tensor& index) override;
};
using RandomTranslation = detail::LayerOf<RandomTranslationImpl>;

/// mean + (x - mean) f, where f is from 1 - low to 1 + high and the mean is that of the image's
/// channel, cut to value_range. One number stands for low = 0, as in Keras's code.
struct RandomContrastConfig {
  Factor factor = 0.;
  Factor value_range = {0, 255};
  std::optional<int64_t> seed = {};
  std::string data_format = "channels_last";
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v);
};
struct RandomContrastImpl : AugmentationLayer<RandomContrastConfig> {
  std::string_view class_name() const override { return "RandomContrast"; }
  void check() const override;
  Tensor augmented(const Tensor& x, const Tensor& draw, const Tensor& index) override;
};
using RandomContrast = detail::LayerOf<RandomContrastImpl>;

/// Adds `factor` times the length of value_range, and cuts to it.
struct RandomBrightnessConfig {
  Factor factor = 0.;
  Factor value_range = {0, 255};
  std::optional<int64_t> seed = {};
  std::string data_format = "channels_last";
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v);
};
struct RandomBrightnessImpl : AugmentationLayer<RandomBrightnessConfig> {
  std::string_view class_name() const override { return "RandomBrightness"; }
  void check() const override;
  Tensor augmented(const Tensor& x, const Tensor& draw, const Tensor& index) override;
};
using RandomBrightness = detail::LayerOf<RandomBrightnessImpl>;

}  // namespace evenflow
