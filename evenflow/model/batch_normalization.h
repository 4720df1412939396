// SPDX-License-Identifier: Apache-2.0
// Keras's BatchNormalization layer: state, mode and policy; the arithmetic is ops/batch_norm.
// docs/design/batch-norm.md is the contract.
#pragma once
#include "evenflow/model/model.h"
#include "evenflow/ops/batch_norm.h"

namespace evenflow {

/// What a layer does, whatever `trainable` says of its gamma and beta.
enum class BatchNormMode : int64_t {
  train,              ///< the batch's statistics in training, the moving ones at inference
  eval,               ///< the moving ones always; gamma and beta are held, for the time being
  frozen_statistics,  ///< the moving ones always, and they stay; gamma and beta train
  frozen,             ///< the moving ones always, gamma and beta are held: meant to stay so
  batch_only,         ///< the batch's always; the moving ones are neither used nor updated
};
/// How moving_mean and moving_variance come from the statistics of the updates.
enum class BatchNormAverages : int64_t {
  exponential,  ///< weights momentum^age, zero-debiased: right from the first update on
  plain,        ///< Keras's: they start at their initial values and forget them slowly
  cumulative,   ///< the mean of all updates' means and variances (PyTorch's momentum=None)
  window,       ///< exactly of the last `window` updates together
  precise,      ///< exactly of all updates together, since reset_statistics()
};
enum class BatchNormVariance : int64_t {
  population,  ///< M2 / n, Keras's
  sample,      ///< M2 / max(n - 1, 1), PyTorch's; for the moving variance alone
};
/// Limits of renorm's corrections (Ioffe 2017): rmin <= r <= rmax, -dmax <= d <= dmax.
struct RenormClipping {
  std::optional<double> rmax = {}, rmin = {}, dmax = {};
};
/// Noise in training, a scale and a bias for each channel, uniform within these: after
/// normalising, before gamma and beta (TensorFlow 1's `adjustment`).
struct BatchNormAdjustment {
  double scale_low = 1, scale_high = 1, bias_low = 0, bias_high = 0;
};

/// Training uses the statistics of the batch and proposes new moving averages inside the step;
/// inference uses the moving averages. A layer that is not trainable runs in inference mode.
/// Statistics and state are f32 (f64 under that policy) whatever the data. From `averages` on the
/// settings are ours; a .keras file keeps them in evenflow.json.
struct BatchNormalizationConfig {
  ChannelAxes axis = -1;   ///< several axes have statistics for each pair (triple...) of places
  double momentum = 0.99;  ///< weight of the old value
  double epsilon = 1e-3;
  bool center = true, scale = true;
  Initializer beta_initializer = "zeros", gamma_initializer = "ones",
              moving_mean_initializer = "zeros", moving_variance_initializer = "ones";
  Regularizer beta_regularizer = {}, gamma_regularizer = {};
  Constraint beta_constraint = {}, gamma_constraint = {};
  /// Training normalises by the statistics of all ranks together; alone it changes nothing.
  bool synchronized = false;
  bool renorm = false;
  RenormClipping renorm_clipping = {};
  double renorm_momentum = 0.99;

  BatchNormAverages averages = BatchNormAverages::exponential;
  int64_t window = 100;  ///< updates, for BatchNormAverages::window
  BatchNormVariance variance = BatchNormVariance::population;
  BatchNormMode mode = BatchNormMode::train;
  /// Training normalises each block of so many samples by itself (Hoffer et al. 2017); the last one
  /// may be smaller. 0: all together.
  int64_t virtual_batch_size = 0;
  std::optional<BatchNormAdjustment> adjustment = {};
  std::string statistics_dtype = "float32";  ///< of the moving averages; or "float64"
  std::string activation = "linear";         ///< or "relu", in the same pass
  std::string name = {}, dtype = {};
  void fields(ConfigVisitor& v);
};
class BatchNormalizationImpl : public ConfiguredLayer<BatchNormalizationConfig> {
 public:
  std::string_view class_name() const override { return "BatchNormalization"; }
  void check() const override;
  Dims output_dims(const std::vector<Dims>& in) const override;
  void build(const std::vector<Dims>& in) override;
  Tensor call(const Tensors& x, const CallContext& context) override;
  std::vector<Weight> extra_state() const override;
  std::string summary_note() const override;
  void settings(ConfigVisitor& v) override;
  bool holds_weights() const override;
  std::string only_here() const override;
  void check_weights() const override;
  /// A file of Keras: its plain averages go on as Keras would take them.
  void adopt_keras_weights() override { set_averages(BatchNormAverages::plain); }

  BatchNormMode mode() const;
  void set_mode(BatchNormMode m) { mode_.set(m == config.mode ? -1 : int64_t(m)); }
  BatchNormAverages averages() const;
  void set_averages(BatchNormAverages averages);
  /// Moving averages and counts as they were built.
  void reset_statistics();

  Variable gamma, beta, moving_mean, moving_variance;
  Variable moving_stddev, renorm_mean, renorm_stddev;  ///< with renorm
  Variable update_count;    ///< i64 []: updates of the moving averages so far
  Variable rejected_count;  ///< i64 []: batches whose statistics were not finite; no update

 private:
  struct Update;
  void make_state();
  DType state_dtype() const;
  Tensor element_weights(const Tensor& x, const CallContext& context) const;
  void correct(Tensor& mean, Tensor& variance, bool renorm, bool training);
  std::shared_ptr<Update> open_update() const;
  void update(Statistics s);

  Setting mode_{-1}, averages_{-1};  ///< -1: as configured
  Variable window_n_, window_mean_, window_m2_, total_n_, total_mean_, total_m2_, draw_;
};
struct BatchNormalization : detail::LayerOf<BatchNormalizationImpl> {
  using LayerOf::LayerOf;
  BatchNormalizationImpl& impl() const { return static_cast<BatchNormalizationImpl&>(*impl_); }
  BatchNormMode mode() const { return impl().mode(); }
  /// At any time, also between steps.
  void set_mode(BatchNormMode mode) const { impl().set_mode(mode); }
};

/// Sets all batch norms of a model, those in models within it too, whose path of names begins so.
/// Returns how many.
int64_t set_batch_norm_mode(const Model& model, BatchNormMode mode, std::string_view prefix = {});
std::string_view name_of(BatchNormMode mode);
std::string_view name_of(BatchNormAverages averages);

}  // namespace evenflow
