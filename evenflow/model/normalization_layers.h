// SPDX-License-Identifier: Apache-2.0
// Keras's normalisations besides BatchNormalization: of samples by statistics of their own, and of
// weights. The same in training and inference but for SpectralNormalization.
#pragma once
#include "evenflow/model/layer.h"

namespace evenflow {

/// Over `axis` of each sample (Ba, Kiros & Hinton 2016): gamma (x - mean) / sqrt(variance +
/// epsilon) + beta, gamma and beta having the extents of `axis`. Computed in f32 at least.
struct LayerNormalizationConfig {
  std::vector<int64_t> axis = {-1};
  double epsilon = 1e-3;
  bool center = true, scale = true;
  Initializer beta_initializer = "zeros", gamma_initializer = "ones";
  Regularizer beta_regularizer = {}, gamma_regularizer = {};
  Constraint beta_constraint = {}, gamma_constraint = {};
  bool rms_scaling = false;  ///< Keras's, deprecated: gamma x / sqrt(variance + epsilon)
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) {
    v.field("axis", axis), v.field("epsilon", epsilon), v.field("center", center),
        v.field("scale", scale), v.field("rms_scaling", rms_scaling);
    v.field("beta_initializer", beta_initializer), v.field("gamma_initializer", gamma_initializer);
    v.field("beta_regularizer", beta_regularizer), v.field("gamma_regularizer", gamma_regularizer);
    v.field("beta_constraint", beta_constraint), v.field("gamma_constraint", gamma_constraint);
  }
};
struct LayerNormalizationImpl : ConfiguredLayer<LayerNormalizationConfig> {
  std::string_view class_name() const override { return "LayerNormalization"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  void build(const std::vector<Dims>& in) override;
  Tensor call(const Tensors& x, const CallContext&) override;
  Variable gamma, beta;
};
using LayerNormalization = detail::LayerOf<LayerNormalizationImpl>;

/// The channels on `axis` in `groups` equal groups, each normalised over its channels and all other
/// axes of a sample (Wu & He 2018). -1 group a channel: instance normalisation.
struct GroupNormalizationConfig {
  int64_t groups = 32, axis = -1;
  double epsilon = 1e-3;
  bool center = true, scale = true;
  Initializer beta_initializer = "zeros", gamma_initializer = "ones";
  Regularizer beta_regularizer = {}, gamma_regularizer = {};
  Constraint beta_constraint = {}, gamma_constraint = {};
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) {
    v.field("groups", groups), v.field("axis", axis), v.field("epsilon", epsilon),
        v.field("center", center), v.field("scale", scale);
    v.field("beta_initializer", beta_initializer), v.field("gamma_initializer", gamma_initializer);
    v.field("beta_regularizer", beta_regularizer), v.field("gamma_regularizer", gamma_regularizer);
    v.field("beta_constraint", beta_constraint), v.field("gamma_constraint", gamma_constraint);
  }
};
struct GroupNormalizationImpl : ConfiguredLayer<GroupNormalizationConfig> {
  std::string_view class_name() const override { return "GroupNormalization"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  void build(const std::vector<Dims>& in) override;
  Tensor call(const Tensors& x, const CallContext&) override;
  Variable gamma, beta;
};
using GroupNormalization = detail::LayerOf<GroupNormalizationImpl>;

/// scale x / sqrt(mean of x^2 over `axis` + epsilon) (Zhang & Sennrich 2019).
struct RMSNormalizationConfig {
  std::vector<int64_t> axis = {-1};
  double epsilon = 1e-6;
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) { v.field("axis", axis), v.field("epsilon", epsilon); }
};
struct RMSNormalizationImpl : ConfiguredLayer<RMSNormalizationConfig> {
  std::string_view class_name() const override { return "RMSNormalization"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  void build(const std::vector<Dims>& in) override;
  Tensor call(const Tensors& x, const CallContext&) override;
  Variable scale;
};
using RMSNormalization = detail::LayerOf<RMSNormalizationImpl>;

/// x / max(|x|, 1e-12), the Euclidean norm being that over `axis`.
struct UnitNormalizationConfig {
  std::vector<int64_t> axis = {-1};
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) { v.field("axis", axis); }
};
struct UnitNormalizationImpl : ConfiguredLayer<UnitNormalizationConfig> {
  std::string_view class_name() const override { return "UnitNormalization"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  Tensor call(const Tensors& x, const CallContext&) override;
};
using UnitNormalization = detail::LayerOf<UnitNormalizationImpl>;

/// A layer whose kernel, at each call in training, is divided by its largest singular value, which
/// is followed by power iteration (Miyato et al. 2018). The division is a proposal like any other:
/// a step that is skipped leaves kernel and vector_u as they were.
struct SpectralNormalizationConfig {
  int64_t power_iterations = 1;
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) { v.field("power_iterations", power_iterations); }
};
struct SpectralNormalizationImpl : ConfiguredLayer<SpectralNormalizationConfig> {
  std::string_view class_name() const override { return "SpectralNormalization"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  void build(const std::vector<Dims>& in) override;
  Tensor call(const Tensors& x, const CallContext& context) override;
  std::shared_ptr<LayerImpl> wrapped() const override { return layer; }
  bool wraps() const override { return true; }
  void wrap(std::shared_ptr<LayerImpl> l) override { layer = std::move(l); }
  std::vector<Weight> stored_weights() const override;
  std::shared_ptr<LayerImpl> layer;
  Variable kernel;    ///< the layer's
  Variable vector_u;  ///< [1, last extent of the kernel]
};
class SpectralNormalization : public detail::LayerOf<SpectralNormalizationImpl> {
 public:
  explicit SpectralNormalization(const Layer& layer, SpectralNormalizationConfig config = {});
};

}  // namespace evenflow
