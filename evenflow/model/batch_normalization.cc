// SPDX-License-Identifier: Apache-2.0
#include "evenflow/model/batch_normalization.h"

#include <cmath>

#include "evenflow/ops/batch_norm.h"
#include "evenflow/ops/compare.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/pool.h"

namespace evenflow {
static const LayerEntry entry{"BatchNormalization", []() -> std::shared_ptr<LayerImpl> {
                                return std::make_shared<BatchNormalizationImpl>();
                              }};

void BatchNormalizationImpl::check() const {
  if (!(config.momentum >= 0 && config.momentum <= 1))
    fail({"BatchNormalization \"", name, "\": momentum is ", config.momentum,
          ", expected between 0 and 1"});
  if (!(config.epsilon >= 0) || !std::isfinite(config.epsilon))
    fail({"BatchNormalization \"", name, "\": epsilon is ", config.epsilon,
          ", expected a finite number, at least 0"});
}
Dims BatchNormalizationImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  const int64_t rank = int64_t(in[0].size()),
                axis = config.axis < 0 ? config.axis + rank : config.axis;
  if (axis < 1 || axis >= rank)
    refuse("input", in[0], concat({"an axis ", config.axis, " besides the batch"}));
  if (in[0][size_t(axis)] < 0)
    refuse("input", in[0], concat({"a known extent on axis ", config.axis}));
  return in[0];
}
void BatchNormalizationImpl::build(const std::vector<Dims>& in) {
  const int64_t rank = int64_t(in[0].size()),
                axis = config.axis < 0 ? config.axis + rank : config.axis;
  const Shape channels{in[0][size_t(axis)]};
  if (config.scale)
    gamma = add_weight("gamma", channels, config.gamma_initializer, true, config.gamma_regularizer);
  if (config.center)
    beta = add_weight("beta", channels, config.beta_initializer, true, config.beta_regularizer);
  moving_mean = add_weight("moving_mean", channels, config.moving_mean_initializer, false);
  moving_variance =
      add_weight("moving_variance", channels, config.moving_variance_initializer, false);
  update_count = Variable(full({}, 0, DType::i64), {.name = name + "/update_count"});
}
Tensor BatchNormalizationImpl::call(const Tensors& x, const CallContext& context) {
  const Tensor g = gamma ? gamma.read() : Tensor(), b = beta ? beta.read() : Tensor();
  if (!context.training || !trainable.get())
    return batch_normalize(x[0], moving_mean, moving_variance, g, b, config.epsilon, {config.axis});
  BatchNormResult r = batch_norm(x[0], g, b, {.epsilon = config.epsilon, .axis = {config.axis}});
  Statistics s = r.statistics;
  if (variable_dtype() == DType::f32) {  // micro-batches and ranks merge here
    Tensors pooled = pool(Pooled::statistics, {s.n, s.mean, s.m2});
    s = {pooled[0], pooled[1], pooled[2]};
  }
  Tensor count = update_count.read() + cast(s.n > 0, DType::i64);
  const bool debiased = averages.get() == kDebiased;
  moving_mean.assign(moving_average(moving_mean, s.mean, s.n, count, config.momentum, debiased));
  moving_variance.assign(
      moving_average(moving_variance, s.variance(), s.n, count, config.momentum, debiased));
  update_count.assign(count);
  return r.y;
}
std::vector<Weight> BatchNormalizationImpl::extra_state() const {
  return built ? std::vector<Weight>{{"update_count", update_count, false}} : std::vector<Weight>{};
}
std::string BatchNormalizationImpl::mode() const {
  return averages.get() == kDebiased ? "debiased" : "plain";
}
void BatchNormalizationImpl::set_mode(std::string_view mode) {
  if (mode != "debiased" && mode != "plain")
    fail({"BatchNormalization \"", name, "\": mode is \"", mode, "\", expected debiased or plain"});
  averages.set(mode == "debiased" ? kDebiased : kPlain);
}

}  // namespace evenflow
