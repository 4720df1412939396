// SPDX-License-Identifier: Apache-2.0
// Keras's BatchNormalization layer: state and mode; the arithmetic is ops/batch_norm.
// docs/design/batch-norm.md is the contract.
#pragma once
#include "evenflow/model/layer.h"

namespace evenflow {

/// Training uses the statistics of the batch and proposes new moving averages inside the step;
/// inference uses the moving averages. A layer that is not trainable runs in inference mode.
/// Statistics and state are f32 (f64 under that policy) whatever the data.
struct BatchNormalizationConfig {
  int64_t axis = -1;
  double momentum = 0.99;  ///< weight of the old value
  double epsilon = 1e-3;
  bool center = true, scale = true;
  Initializer beta_initializer = "zeros", gamma_initializer = "ones",
              moving_mean_initializer = "zeros", moving_variance_initializer = "ones";
  Regularizer beta_regularizer = {}, gamma_regularizer = {};
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v) {
    v.field("axis", axis), v.field("momentum", momentum), v.field("epsilon", epsilon),
        v.field("center", center), v.field("scale", scale);
    v.field("beta_initializer", beta_initializer), v.field("gamma_initializer", gamma_initializer);
    v.field("moving_mean_initializer", moving_mean_initializer),
        v.field("moving_variance_initializer", moving_variance_initializer);
    v.field("beta_regularizer", beta_regularizer), v.field("gamma_regularizer", gamma_regularizer);
  }
};
struct BatchNormalizationImpl : ConfiguredLayer<BatchNormalizationConfig> {
  std::string_view class_name() const override { return "BatchNormalization"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  void build(const std::vector<Dims>& in) override;
  Tensor call(const Tensors& x, const CallContext& context) override;
  std::vector<Weight> extra_state() const override;
  std::string mode() const override;
  void set_mode(std::string_view mode) override;
  /// A file of Keras: its plain averages go on as Keras would take them.
  void adopt_keras_weights() override { averages.set(kPlain); }

  enum Averages : int64_t {
    kDebiased,  ///< counted: moving_mean and moving_variance hold zero-debiased averages, right
                ///< from the first update on
    kPlain,     ///< Keras's: they start at their initial values and forget them slowly
  };
  Setting averages{kDebiased};
  Variable gamma, beta, moving_mean, moving_variance;
  Variable update_count;  ///< i64 []: updates of the moving averages so far
};
using BatchNormalization = detail::LayerOf<BatchNormalizationImpl>;

}  // namespace evenflow
