// SPDX-License-Identifier: Apache-2.0
// The layer and its call. Settings are in batch_norm_settings.cc, the moving averages in
// batch_norm_averages.cc.
#include "evenflow/model/batch_normalization.h"

#include <cmath>

#include "evenflow/model/batch_norm_update.h"
#include "evenflow/ops/compare.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/pool.h"
#include "evenflow/ops/random.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"

namespace evenflow {
static const LayerEntry entry{"BatchNormalization", []() -> std::shared_ptr<LayerImpl> {
                                return std::make_shared<BatchNormalizationImpl>();
                              }};
namespace {
// Which axes are channels. Throws nothing: output_dims() has looked.
std::vector<bool> kept(const std::vector<int64_t>& axes, size_t rank) {
  std::vector<bool> r(rank);
  for (int64_t a : axes) r[size_t(a < 0 ? a + int64_t(rank) : a)] = true;
  return r;
}
}  // namespace

Dims BatchNormalizationImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  const int64_t rank = int64_t(in[0].size());
  std::vector<bool> seen(in[0].size());
  for (int64_t a : config.axis.axes) {
    const int64_t axis = a < 0 ? a + rank : a;
    if (axis < 1 || axis >= rank)
      refuse("input", in[0], concat({"an axis ", a, " besides the batch"}));
    if (seen[size_t(axis)]) refuse("input", in[0], concat({"an axis ", a, " once"}));
    seen[size_t(axis)] = true;
    if (in[0][size_t(axis)] < 0) refuse("input", in[0], concat({"a known extent on axis ", a}));
  }
  return in[0];
}
DType BatchNormalizationImpl::state_dtype() const {
  return config.statistics_dtype == "float64" ? DType::f64 : variable_dtype();
}
void BatchNormalizationImpl::build(const std::vector<Dims>& in) {
  std::vector<int64_t> extents;
  const std::vector<bool> channel = kept(config.axis.axes, in[0].size());
  for (size_t i = 0; i < channel.size(); ++i)
    if (channel[i]) extents.push_back(in[0][i]);
  const Shape channels(extents);
  if (config.scale)
    gamma = add_weight("gamma", channels, config.gamma_initializer, true, config.gamma_regularizer,
                       config.gamma_constraint);
  if (config.center)
    beta = add_weight("beta", channels, config.beta_initializer, true, config.beta_regularizer,
                      config.beta_constraint);
  auto add = [&](const char* weight, const Initializer& init) {
    return add_weight(weight, channels, init, false, {}, {}, state_dtype());
  };
  moving_mean = add("moving_mean", config.moving_mean_initializer);
  moving_variance = add("moving_variance", config.moving_variance_initializer);
  if (config.renorm) {
    moving_stddev = add("moving_stddev", config.moving_variance_initializer);
    renorm_mean = add("renorm_mean", config.moving_mean_initializer);
    renorm_stddev = add("renorm_stddev", config.moving_variance_initializer);
    for (const Variable& v : {moving_stddev, renorm_stddev}) v.assign(sqrt(v.read()));
  }
  make_state();
}

// How much each element counts: f32 of x's rank with 1 for the channels, or nothing.
Tensor BatchNormalizationImpl::element_weights(const Tensor& x, const CallContext& context) const {
  const Shape& s = x.sig().shape;
  const std::vector<bool> channel = kept(config.axis.axes, size_t(s.rank()));
  const int places = s.rank() - int(config.axis.axes.size());
  auto spread = [&](const Tensor& given, std::string_view what, std::string_view expected) {
    const Shape& found = given.sig().shape;
    bool fits = found.rank() == places || (what == "sample_weight" && found.rank() == 1);
    Tensor t = given;
    for (int i = 0; fits && i < s.rank(); ++i)
      if (channel[size_t(i)] || i >= t.rank()) t = expand_dims(t, i);
    for (int i = 0; fits && i < s.rank(); ++i)
      fits = channel[size_t(i)] || t.sig().shape[i] == 1 || t.sig().shape[i] == s[i];
    if (!fits)
      fail({"BatchNormalization \"", name, "\": ", what, " is ", str(given.sig()), ", expected ",
            expected, " of the input ", str(x.sig())});
    return t;
  };
  Tensor mask, weight;
  if (context.mask)
    mask = cast(cast(spread(context.mask, "mask",
                            "one dimension less than the input (the channels), and its extents or "
                            "1:"),
                     DType::boolean),
                DType::f32);
  if (context.sample_weight)
    weight = cast(spread(context.sample_weight, "sample_weight",
                         "the batch, or all extents but the channels,"),
                  DType::f32);
  return !mask ? weight : !weight ? mask : select(equal(mask, 0), 0, mask * weight);
}

Tensor BatchNormalizationImpl::call(const Tensors& in, const CallContext& context) {
  const Tensor &x = in[0], weights = element_weights(x, context);
  const BatchNormMode m = mode();
  const bool learns = context.training && m == BatchNormMode::train && trainable.get();
  const Tensor g = gamma ? gamma.read() : Tensor(), b = beta ? beta.read() : Tensor();
  BatchNormAttrs attrs{.epsilon = config.epsilon, .axis = config.axis.axes};
  attrs.activation = config.activation;
  const DType type = x.dtype() == DType::f64 ? DType::f64 : DType::f32;
  if (!learns && m != BatchNormMode::batch_only)
    return batch_normalize(x, cast(moving_mean.read(), type), cast(moving_variance.read(), type), g,
                           b, attrs);
  attrs.virtual_batch_size = context.training ? config.virtual_batch_size : 0;
  auto whole = [&](const Statistics& s) {
    return attrs.virtual_batch_size ? merge_stacked_statistics(s) : s;
  };
  const bool wide = state_dtype() == DType::f64 && type == DType::f32,
             corrects = (learns && config.renorm) || (context.training && config.adjustment),
             merges = config.synchronized && context.training && has_ranks();
  if (!wide && !corrects && !merges) {
    const BatchNormResult r = batch_norm(x, g, b, attrs, {}, weights);
    if (learns) update(whole(r.statistics));
    return r.y;
  }
  const Statistics s =
      batch_norm_statistics(x, attrs.axis, weights, attrs.virtual_batch_size, wide);
  Statistics all = s;  // what is normalised by; the averages' updates merge by themselves
  if (merges) {
    const Tensors merged = synchronize_statistics({s.n, s.mean, s.m2}, sample_count(x));
    all = {merged[0], merged[1], merged[2]};
  }
  Tensor mean = cast(all.mean, type), variance = cast(all.variance(), type);
  if (corrects) {
    correct(mean, variance, learns && config.renorm, context.training);
    attrs.epsilon = 0;
  }
  const Tensor y = batch_normalize(x, mean, variance, g, b, attrs, {}, weights);
  if (learns) update(whole(s));
  return y;
}

// xhat r + d is what normalising by mean - d s / r and (s / r)^2 gives, s being the deviation: so
// renorm (Ioffe 2017) and noise need no operation of their own, with ghost batches too.
void BatchNormalizationImpl::correct(Tensor& mean, Tensor& variance, bool renorm, bool training) {
  // Not 0: r and d of a constant channel are numbers, also where epsilon is 0.
  const Tensor deviation = sqrt(maximum(variance + config.epsilon, 1e-30));
  Tensor r, d;
  if (renorm) {
    const auto now = open_update();
    auto past = [&](const Variable& v) { return cast(now->before(v), mean.dtype()); };
    const Tensor scale = maximum(past(renorm_stddev), std::sqrt(config.epsilon));
    r = deviation / scale, d = (mean - past(renorm_mean)) / scale;
    const RenormClipping& c = config.renorm_clipping;
    if (c.rmax) r = minimum(r, *c.rmax);
    if (c.rmin) r = maximum(r, *c.rmin);
    if (c.dmax) d = clip(d, -*c.dmax, *c.dmax);
    if (averages() != BatchNormAverages::plain) {  // nothing is known before the first update
      const Tensor known = greater(now->before(update_count), 0);
      r = select(known, r, 1), d = select(known, d, 0);
    }
    r = stop_gradient(r), d = stop_gradient(d);
  }
  if (training && config.adjustment) {
    const BatchNormAdjustment& a = *config.adjustment;
    const Tensor like = cast(moving_mean.read(), mean.dtype());
    const Tensor scale =
                     random_uniform_like(Generator(draw_).next(), like, a.scale_low, a.scale_high),
                 bias = random_uniform_like(Generator(draw_).next(), like, a.bias_low, a.bias_high);
    r = r ? r * scale : scale, d = d ? d * scale + bias : bias;
  }
  const Tensor ratio = deviation / r;
  mean = mean - d * ratio, variance = square(ratio);
}

}  // namespace evenflow
