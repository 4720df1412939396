// SPDX-License-Identifier: Apache-2.0
#include "evenflow/model/normalization_layers.h"

#include <algorithm>
#include <cmath>

#include "evenflow/model/layer_parts.h"
#include "evenflow/ops/batch_norm_rules.h"
#include "evenflow/ops/compare.h"
#include "evenflow/ops/layer_norm.h"
#include "evenflow/ops/layer_norm_rules.h"
#include "evenflow/ops/matmul.h"
#include "evenflow/ops/nn_batch_norm.h"
#include "evenflow/ops/reduce.h"

namespace evenflow {

LAYER(LayerNormalization);
LAYER(GroupNormalization);
LAYER(RMSNormalization);
LAYER(UnitNormalization);
LAYER(SpectralNormalization);

namespace {
template <class L>
void expect_epsilon(const L& layer) {
  const double e = layer.config.epsilon;
  expect(layer, e >= 0 && std::isfinite(e), "epsilon", e, "a finite number, at least 0");
}
template <class L>
void expect_axes(const L& layer) {
  expect(layer, !layer.config.axis.empty(), "axis", "empty", "at least one axis");
}
// The axes from 0 on, sorted; empty if one is out of range or given twice.
std::vector<int64_t> sorted_axes(std::vector<int64_t> axes, const Dims& x) {
  const int64_t rank = int64_t(x.size());
  for (int64_t& a : axes) {
    if (a < -rank || a >= rank) return {};
    a = a < 0 ? a + rank : a;
  }
  std::sort(axes.begin(), axes.end());
  return std::adjacent_find(axes.begin(), axes.end()) == axes.end() ? axes : std::vector<int64_t>();
}
// Keras gives weights the extents in the order of the axes as they are written, -1 before 0: where
// that is not their order in x, numbers would change places between its files and ours.
bool in_one_form(std::vector<int64_t> axes, const std::vector<int64_t>& sorted, int64_t rank) {
  std::sort(axes.begin(), axes.end());
  for (size_t i = 0; i < axes.size(); ++i)
    if ((axes[i] + rank) % rank != sorted[i]) return false;
  return true;
}
std::string axes_text(const std::vector<int64_t>& axes) {
  std::string s;
  for (int64_t a : axes) s += (s.empty() ? "[" : ",") + std::to_string(a);
  return s + "]";
}
// Why inputs of these extents are not taken; empty if they are.
template <class L>
std::string misfit(const L& layer, const Dims& x, bool weights) {
  const auto axes = sorted_axes(layer.config.axis, x);
  if (axes.empty()) return "the axes " + axes_text(layer.config.axis) + ", each once";
  if (!weights) return {};
  if (!in_one_form(layer.config.axis, axes, int64_t(x.size())))
    return "axes that are all counted from the front, or all from the back";
  for (int64_t a : axes) {
    if (x[size_t(a)] < 0) return concat({"a known extent on axis ", a});
    if (layer.built && x[size_t(a)] != layer.input_dims[0][size_t(a)])
      return concat({layer.input_dims[0][size_t(a)], " on axis ", a, ", for which it was built"});
  }
  return {};
}
Shape extents_of(const std::vector<int64_t>& axis, const Dims& x) {
  std::vector<int64_t> d;
  for (int64_t a : sorted_axes(axis, x)) d.push_back(x[size_t(a)]);
  return Shape(d);
}
Tensor value_of(const Variable& v) { return v ? v.read() : Tensor(); }
// x over max(|x|, smallest); the root is never taken of 0, so that the gradient of 0 is 0.
Tensor unit(const Tensor& x, const Axes& axes, double smallest) {
  const Tensor wide = cast(x, statistics_dtype(x.dtype()));
  return cast(wide * rsqrt(maximum(reduce_sum(square(wide), axes, true), smallest * smallest)),
              x.dtype());
}
}  // namespace

// ---- LayerNormalization
void LayerNormalizationImpl::check() const { expect_epsilon(*this), expect_axes(*this); }
Dims LayerNormalizationImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  if (const std::string why = misfit(*this, in[0], true); !why.empty()) refuse("input", in[0], why);
  return in[0];
}
void LayerNormalizationImpl::build(const std::vector<Dims>& in) {
  const Shape s = extents_of(config.axis, in[0]);
  if (config.scale || config.rms_scaling)
    gamma = add_weight("gamma", s, config.gamma_initializer, true, config.gamma_regularizer,
                       config.gamma_constraint);
  if (config.center && !config.rms_scaling)
    beta = add_weight("beta", s, config.beta_initializer, true, config.beta_regularizer,
                      config.beta_constraint);
}
Tensor LayerNormalizationImpl::call(const Tensors& in, const CallContext&) {
  const Tensor& x = in[0];
  if (!config.rms_scaling)
    return layer_norm(x, value_of(gamma), value_of(beta),
                      {.epsilon = config.epsilon, .axis = config.axis});
  const Tensor wide = cast(x, statistics_dtype(x.dtype()));
  const Tensor variance = moments(wide, config.axis, true).variance;
  return cast(wide * inverse_deviation_of(variance, config.epsilon) *
                  Channels{config.axis}.along(gamma, wide),
              x.dtype());
}

// ---- GroupNormalization
void GroupNormalizationImpl::check() const {
  expect_epsilon(*this);
  expect(*this, config.groups > 0 || config.groups == -1, "groups", config.groups,
         "a positive number, or -1");
}
Dims GroupNormalizationImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  const Dims& x = in[0];
  const int64_t rank = int64_t(x.size()), axis = config.axis < 0 ? config.axis + rank : config.axis;
  if (axis < 1 || axis >= rank)
    refuse("input", x, concat({"an axis ", config.axis, " besides the batch"}));
  const int64_t channels = x[size_t(axis)];
  if (channels < 0) refuse("input", x, concat({"a known extent on axis ", config.axis}));
  if (built && channels != input_dims[0][size_t(axis)])
    refuse("input", x, concat({input_dims[0][size_t(axis)], " channels, for which it was built"}));
  if (config.groups > 0 && channels % config.groups)
    refuse("input", x, concat({"on axis ", config.axis, " a multiple of groups, ", config.groups}));
  return x;
}
void GroupNormalizationImpl::build(const std::vector<Dims>& in) {
  const Shape channels{
      in[0][size_t(config.axis < 0 ? config.axis + int64_t(in[0].size()) : config.axis)]};
  if (config.scale)
    gamma = add_weight("gamma", channels, config.gamma_initializer, true, config.gamma_regularizer,
                       config.gamma_constraint);
  if (config.center)
    beta = add_weight("beta", channels, config.beta_initializer, true, config.beta_regularizer,
                      config.beta_constraint);
}
// Statistics of channels first, then of groups of them: x keeps its shape, so that extents of
// images stay open under a trace.
Tensor GroupNormalizationImpl::call(const Tensors& in, const CallContext&) {
  const Tensor x = cast(in[0], statistics_dtype(in[0].dtype()));
  const int axis = int(config.axis < 0 ? config.axis + x.rank() : config.axis);
  const int64_t channels = x.sig().shape[axis],
                groups = config.groups < 0 ? channels : config.groups;
  Axes space;
  for (int i = 1; i < x.rank(); ++i)
    if (i != axis) space.push_back(i);
  std::vector<int64_t> grouped(size_t(x.rank()) + 1, 1);
  grouped[0] = -1, grouped[size_t(axis)] = groups;
  grouped[size_t(axis) + 1] = groups ? channels / groups : 0;
  auto mean_of = [&](const Tensor& t) {  // [batch, 1, ..., channels, ..., 1]
    const Tensor each = space.empty() ? t : reduce_mean(t, space, true);
    if (groups == channels) return each;
    const Tensor g = reshape(each, grouped);
    return reshape_like(expand_like(reduce_mean(g, {axis + 1}, true), g), each);
  };
  const std::vector<int64_t> axes{axis};
  const Channels channels_of{axes};
  const Tensor d = x - mean_of(x);
  Tensor scale = inverse_deviation_of(mean_of(square(d)), config.epsilon);
  if (gamma) scale = scale * channels_of.along(gamma.read(), x);
  Tensor y = d * scale;
  if (beta) y = y + channels_of.along(beta.read(), x);
  return cast(y, in[0].dtype());
}

// ---- RMSNormalization
// Keras multiplies by scale along the last axes, whichever were normalised.
void RMSNormalizationImpl::check() const { expect_epsilon(*this), expect_axes(*this); }
Dims RMSNormalizationImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  if (const std::string why = misfit(*this, in[0], true); !why.empty()) refuse("input", in[0], why);
  const auto axes = sorted_axes(config.axis, in[0]);
  if (axes[0] + int64_t(axes.size()) != int64_t(in[0].size()))
    refuse("input", in[0], "the axes " + axes_text(config.axis) + " to be the last ones");
  return in[0];
}
void RMSNormalizationImpl::build(const std::vector<Dims>& in) {
  scale = add_weight("scale", extents_of(config.axis, in[0]), "ones");
}
Tensor RMSNormalizationImpl::call(const Tensors& x, const CallContext&) {
  return layer_norm(x[0], scale.read(), Tensor(),
                    {.epsilon = config.epsilon, .axis = config.axis, .rms = true});
}

// ---- UnitNormalization
void UnitNormalizationImpl::check() const { expect_axes(*this); }
Dims UnitNormalizationImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  if (const std::string why = misfit(*this, in[0], false); !why.empty())
    refuse("input", in[0], why);
  return in[0];
}
Tensor UnitNormalizationImpl::call(const Tensors& x, const CallContext&) {
  return unit(x[0], config.axis, 1e-12);
}

// ---- SpectralNormalization
SpectralNormalization::SpectralNormalization(const Layer& layer, SpectralNormalizationConfig config)
    : LayerOf(std::move(config)) {
  if (!layer.impl()) fail({"SpectralNormalization \"", name(), "\": layer is empty"});
  impl_->wrap(layer.impl());
}
void SpectralNormalizationImpl::check() const {
  expect(*this, config.power_iterations > 0 && config.power_iterations <= 1000, "power_iterations",
         config.power_iterations, "1 to 1000");
}
Dims SpectralNormalizationImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  expect(*this, bool(layer), "layer", "missing", "a layer with a kernel");
  layer->check();
  return layer->output_dims(in);
}
void SpectralNormalizationImpl::build(const std::vector<Dims>& in) {
  layer->ensure_built(in);
  const std::vector<Weight> own = layer->stored_weights();
  const auto w =
      std::find_if(own.begin(), own.end(), [](const Weight& x) { return x.name == "kernel"; });
  expect(*this, w != own.end(), "layer", layer->class_name(), "one with a kernel");
  kernel = w->variable;
  vector_u = add_weight("vector_u", {1, kernel.sig().shape.dim(-1)},
                        Initializer("truncated_normal", 0, 0.02), false);
}
Tensor SpectralNormalizationImpl::call(const Tensors& x, const CallContext& context) {
  if (context.training) {
    const Tensor k = kernel.read(), w = reshape(k, {-1, kernel.sig().shape.dim(-1)}),
                 turned = transpose(w);
    Tensor u = vector_u.read(), v;
    for (int64_t i = 0; i < config.power_iterations; ++i) {
      v = unit(matmul(u, turned), {}, 1e-7);
      u = unit(matmul(v, w), {}, 1e-7);
    }
    const Tensor sigma = reshape(matmul(matmul(v, w), transpose(u)), {});
    const Tensor nothing = reduce_all(equal(k, 0));  // then there is nothing to divide by
    vector_u.assign(stop_gradient(select(nothing, vector_u.read(), u)));
    kernel.assign(stop_gradient(select(nothing, k, k / sigma)));
  }
  return cast((*layer)(x, context), x[0].dtype());
}
std::vector<Weight> SpectralNormalizationImpl::stored_weights() const {
  if (!built) return {};
  return {{"kernel", kernel}, {"vector_u", vector_u, false}};
}

}  // namespace evenflow
