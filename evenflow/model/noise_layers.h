// SPDX-License-Identifier: Apache-2.0
// Keras's layers that are random in training, and nothing at inference. What is drawn is a pure
// function of the seed and of how often was drawn before; both are kept with the model.
#pragma once
#include "evenflow/model/layer.h"

namespace evenflow {

/// The state of a generator of this seed, or of the other where none is given.
Variable draw_state(std::optional<int64_t> seed, uint64_t otherwise);

template <class C>
struct NoiseLayer : ConfiguredLayer<C> {
  Dims output_dims(const std::vector<Dims>& in) const override { return in[0]; }
  void build(const std::vector<Dims>&) override {
    draw = draw_state(this->config.seed, this->seed);
  }
  std::vector<Weight> extra_state() const override {
    return this->built ? std::vector<Weight>{{"draw", draw, false}} : std::vector<Weight>{};
  }
  Variable draw;  ///< i64 [2]: key and counter
};

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
struct DropoutImpl : NoiseLayer<DropoutConfig> {
  std::string_view class_name() const override { return "Dropout"; }
  void check() const override;
  Tensor call(const Tensors& x, const CallContext&) override;
};
using Dropout = detail::LayerOf<DropoutImpl>;

/// Dropout that keeps mean and deviation of what scaled exponential units give (Klambauer et al.
/// 2017): what is dropped becomes their lowest value.
struct AlphaDropoutImpl : NoiseLayer<DropoutConfig> {
  std::string_view class_name() const override { return "AlphaDropout"; }
  void check() const override;
  Tensor call(const Tensors& x, const CallContext&) override;
};
using AlphaDropout = detail::LayerOf<AlphaDropoutImpl>;

/// Dropout of whole channels (Tompson et al. 2015), of [n, steps, c] and of images.
struct SpatialDropout1DConfig {
  double rate = 0.5;
  std::optional<int64_t> seed = {};
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) { v.field("rate", rate), v.field("seed", seed); }
};
struct SpatialDropout1DImpl : NoiseLayer<SpatialDropout1DConfig> {
  std::string_view class_name() const override { return "SpatialDropout1D"; }
  bool says_trainable() const override { return false; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  Tensor call(const Tensors& x, const CallContext&) override;
};
using SpatialDropout1D = detail::LayerOf<SpatialDropout1DImpl>;
struct SpatialDropout2DConfig {
  double rate = 0.5;
  std::optional<int64_t> seed = {};
  std::string data_format = "channels_last";
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) {
    v.field("rate", rate), v.field("seed", seed), v.field("data_format", data_format);
  }
};
struct SpatialDropout2DImpl : NoiseLayer<SpatialDropout2DConfig> {
  std::string_view class_name() const override { return "SpatialDropout2D"; }
  bool says_trainable() const override { return false; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  Tensor call(const Tensors& x, const CallContext&) override;
};
using SpatialDropout2D = detail::LayerOf<SpatialDropout2DImpl>;

/// Adds normal numbers of deviation `stddev` in training.
struct GaussianNoiseConfig {
  double stddev = 0;
  std::optional<int64_t> seed = {};
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) { v.field("stddev", stddev), v.field("seed", seed); }
};
struct GaussianNoiseImpl : NoiseLayer<GaussianNoiseConfig> {
  std::string_view class_name() const override { return "GaussianNoise"; }
  void check() const override;
  Tensor call(const Tensors& x, const CallContext&) override;
};
using GaussianNoise = detail::LayerOf<GaussianNoiseImpl>;

/// Multiplies by normal numbers of mean 1 and variance rate / (1 - rate) in training (Srivastava et
/// al. 2014).
struct GaussianDropoutConfig {
  double rate = 0.5;
  std::optional<int64_t> seed = {};
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) { v.field("rate", rate), v.field("seed", seed); }
};
struct GaussianDropoutImpl : NoiseLayer<GaussianDropoutConfig> {
  std::string_view class_name() const override { return "GaussianDropout"; }
  void check() const override;
  Tensor call(const Tensors& x, const CallContext&) override;
};
using GaussianDropout = detail::LayerOf<GaussianDropoutImpl>;

}  // namespace evenflow
