// SPDX-License-Identifier: Apache-2.0
// Keras's layers, with Keras's names, defaults and meaning. BatchNormalization, the other
// normalisations and Normalization have headers of their own.
//   Conv2D({.filters = 32, .kernel_size = {3, 3}, .padding = "same", .use_bias = false})
// Every configuration ends with .name (else "conv2d", "conv2d_1", ...) and .dtype (else the policy
// of set_dtype_policy()).
#pragma once
#include "evenflow/model/augmentation_layers.h"
#include "evenflow/model/conv_layers.h"
#include "evenflow/model/layer.h"
#include "evenflow/model/merging_layers.h"
#include "evenflow/model/noise_layers.h"
#include "evenflow/model/preprocessing_layers.h"
#include "evenflow/model/reshaping_layers.h"

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

/// y = x.
struct IdentityConfig {
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor&) {}
};
struct IdentityImpl : ConfiguredLayer<IdentityConfig> {
  std::string_view class_name() const override { return "Identity"; }
  Dims output_dims(const std::vector<Dims>& in) const override { return in[0]; }
  Tensor call(const Tensors& x, const CallContext&) override { return x[0]; }
};
using Identity = detail::LayerOf<IdentityImpl>;

/// Row x of a table for each integer x below input_dim: [...] -> [..., output_dim].
struct EmbeddingConfig {
  int64_t input_dim = 0, output_dim = 0;
  Initializer embeddings_initializer = "uniform";
  Regularizer embeddings_regularizer = {};
  Constraint embeddings_constraint = {};
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) {
    v.field("input_dim", input_dim), v.field("output_dim", output_dim);
    v.field("embeddings_initializer", embeddings_initializer),
        v.field("embeddings_regularizer", embeddings_regularizer),
        v.field("embeddings_constraint", embeddings_constraint);
  }
};
struct EmbeddingImpl : ConfiguredLayer<EmbeddingConfig> {
  std::string_view class_name() const override { return "Embedding"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  void build(const std::vector<Dims>& in) override;
  Tensor call(const Tensors& x, const CallContext&) override;
  Variable embeddings;
};
using Embedding = detail::LayerOf<EmbeddingImpl>;

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

/// x for x > 0, else alpha (e^x - 1) (Clevert et al. 2016).
struct ELUConfig {
  double alpha = 1;
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) { v.field("alpha", alpha); }
};
struct ELUImpl : ConfiguredLayer<ELUConfig> {
  std::string_view class_name() const override { return "ELU"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override { return in[0]; }
  Tensor call(const Tensors& x, const CallContext&) override;
};
using ELU = detail::LayerOf<ELUImpl>;

/// x for x > 0, else alpha x with a weight alpha for each place, or one along shared axes (He et
/// al. 2015).
struct PReLUConfig {
  Initializer alpha_initializer = "zeros";
  Regularizer alpha_regularizer = {};
  Constraint alpha_constraint = {};
  std::vector<int64_t> shared_axes = {};  ///< from 1
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) {
    v.field("alpha_initializer", alpha_initializer),
        v.field("alpha_regularizer", alpha_regularizer),
        v.field("alpha_constraint", alpha_constraint), v.field("shared_axes", shared_axes);
  }
};
struct PReLUImpl : ConfiguredLayer<PReLUConfig> {
  std::string_view class_name() const override { return "PReLU"; }
  Dims output_dims(const std::vector<Dims>& in) const override;
  void build(const std::vector<Dims>& in) override;
  Tensor call(const Tensors& x, const CallContext&) override;
  Variable alpha;

 private:
  bool is_shared(int64_t axis) const;
};
using PReLU = detail::LayerOf<PReLUImpl>;

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

}  // namespace evenflow
