// SPDX-License-Identifier: Apache-2.0
#include "evenflow/model/noise_layers.h"

#include <cmath>

#include "evenflow/model/layer_parts.h"
#include "evenflow/ops/compare.h"
#include "evenflow/ops/random.h"
#include "evenflow/ops/reduce.h"

namespace evenflow {

LAYER(Dropout);
LAYER(AlphaDropout);
LAYER(SpatialDropout1D);
LAYER(SpatialDropout2D);
LAYER(GaussianNoise);
LAYER(GaussianDropout);

namespace {
template <class L>
void expect_rate(const L& layer) {
  const double rate = layer.config.rate;
  expect(layer, rate >= 0 && rate <= 1, "rate", rate, "between 0 and 1");
}
// x with elements dropped, or as many of it at once as one of `like`, which broadcasts.
Tensor dropped(const Variable& draw, const Tensor& x, const Tensor& like, double rate) {
  if (rate == 1) return fill_like(x, 0);
  return x * dropout_mask(Generator(draw).next(), like, rate);
}
// The first place along the axes from `begin` to before `end`.
Tensor first_places(const Tensor& x, int64_t begin, int64_t end) {
  std::vector<int64_t> from(size_t(x.rank())), size(from.size(), -1);
  for (int64_t a = begin; a < end; ++a) size[size_t(a)] = 1;
  return slice(x, from, size);
}
}  // namespace

Variable draw_state(std::optional<int64_t> seed, uint64_t otherwise) {
  const uint64_t key = seed ? uint64_t(*seed) : otherwise;
  return Generator(key & 0xffffffffffffu).state();  // 48 bits: exact as a number in JSON
}

void DropoutImpl::check() const {
  expect_rate(*this);
  expect(*this, !config.noise_shape, "noise_shape", "given", "none");
}
Tensor DropoutImpl::call(const Tensors& x, const CallContext& c) {
  if (!c.training || config.rate == 0) return x[0];
  return dropped(draw, x[0], x[0], config.rate);
}

void AlphaDropoutImpl::check() const {
  expect(*this, config.rate >= 0 && config.rate < 1, "rate", config.rate, "from 0 to below 1");
  expect(*this, !config.noise_shape, "noise_shape", "given", "none");
}
Tensor AlphaDropoutImpl::call(const Tensors& x, const CallContext& c) {
  if (!c.training || config.rate == 0) return x[0];
  constexpr double lowest = -1.6732632423543772848 * 1.0507009873554804934;  // of selu
  const double rate = config.rate, a = 1 / std::sqrt((1 - rate) * (1 + rate * lowest * lowest));
  const Tensor keeps = greater(dropout_mask(Generator(draw).next(), x[0], rate), 0);
  return select(keeps, x[0], lowest) * a - a * lowest * rate;
}

void SpatialDropout1DImpl::check() const { expect_rate(*this); }
Dims SpatialDropout1DImpl::output_dims(const std::vector<Dims>& in) const {
  if (in[0].size() != 3) refuse("input", in[0], "(batch, steps, channels)");
  return in[0];
}
Tensor SpatialDropout1DImpl::call(const Tensors& x, const CallContext& c) {
  if (!c.training || config.rate == 0) return x[0];
  return dropped(draw, x[0], first_places(x[0], 1, 2), config.rate);
}
void SpatialDropout2DImpl::check() const {
  expect_rate(*this);
  expect_format(*this, config.data_format);
}
Dims SpatialDropout2DImpl::output_dims(const std::vector<Dims>& in) const {
  if (in[0].size() != 4) refuse("input", in[0], "an image and its channels");
  return in[0];
}
Tensor SpatialDropout2DImpl::call(const Tensors& x, const CallContext& c) {
  if (!c.training || config.rate == 0) return x[0];
  const int64_t rows = config.data_format == "channels_first" ? 2 : 1;
  return dropped(draw, x[0], first_places(x[0], rows, rows + 2), config.rate);
}

void GaussianNoiseImpl::check() const {
  expect(*this, config.stddev >= 0 && std::isfinite(config.stddev), "stddev", config.stddev,
         "a finite number, at least 0");
}
Tensor GaussianNoiseImpl::call(const Tensors& x, const CallContext& c) {
  if (!c.training || config.stddev == 0) return x[0];
  return x[0] + random_normal_like(Generator(draw).next(), x[0], 0, config.stddev);
}
void GaussianDropoutImpl::check() const {
  expect(*this, config.rate >= 0 && config.rate < 1, "rate", config.rate, "from 0 to below 1");
}
Tensor GaussianDropoutImpl::call(const Tensors& x, const CallContext& c) {
  if (!c.training || config.rate == 0) return x[0];
  const double deviation = std::sqrt(config.rate / (1 - config.rate));
  return x[0] * random_normal_like(Generator(draw).next(), x[0], 1, deviation);
}

}  // namespace evenflow
