// SPDX-License-Identifier: Apache-2.0
#include "evenflow/model/augmentation_layers.h"

#include <numbers>

#include "evenflow/model/layer_parts.h"
#include "evenflow/ops/compare.h"
#include "evenflow/ops/image.h"
#include "evenflow/ops/random.h"
#include "evenflow/ops/reduce.h"

namespace evenflow {

LAYER(RandomFlip);
LAYER(RandomRotation);
LAYER(RandomZoom);
LAYER(RandomTranslation);
LAYER(RandomContrast);
LAYER(RandomBrightness);

namespace {
// Keras writes both bounds of these, where it was given one number too.
Factor both(const Factor& f, double least) {
  return f.one_number ? Factor(std::max(f.low, least), f.high) : f;
}
template <class L>
void expect_factor(const L& layer, std::string_view what, const Factor& f, double least) {
  const Factor g = both(f, least);
  expect(layer, g.low >= least && g.high <= 1, what, concat({f.low, " to ", f.high}),
         concat({"numbers from ", least, " to 1"}));
}
template <class L>
void expect_projection(const L& layer) {
  const auto& c = layer.config;
  const std::string &fill = c.fill_mode, &how = c.interpolation;
  expect(layer, fill == "reflect" || fill == "wrap" || fill == "constant" || fill == "nearest",
         "fill_mode", "\"" + fill.substr(0, 80) + "\"",
         "\"reflect\", \"wrap\", \"constant\" or \"nearest\"");
  expect(layer, how == "nearest" || how == "bilinear", "interpolation",
         "\"" + how.substr(0, 80) + "\"", "\"nearest\" or \"bilinear\"");
  expect_format(layer, c.data_format);
}
template <class C>
void projection_fields(C& c, ConfigVisitor& v) {
  v.field("fill_mode", c.fill_mode), v.field("interpolation", c.interpolation);
  v.field("seed", c.seed), v.field("fill_value", c.fill_value);
  v.field("data_format", c.data_format);
}
// One number for each image: [n, 1, 1, 1] of the type of x.
Tensor drawn(const Tensor& x, const Tensor& draw, const Tensor& index, int64_t stream,
             const Factor& range, double plus = 0) {
  const Tensor like = slice(x, {0, 0, 0, 0}, {-1, 1, 1, 1});
  if (range.low == range.high) return fill_like(like, range.low + plus);
  return random_uniform_rows(draw, like, index, stream, range.low + plus, range.high + plus);
}
// The same as f32 [n, 1], for transforms.
Tensor drawn_row(const Tensor& x, const Tensor& draw, const Tensor& index, int64_t stream,
                 const Factor& range, double plus = 0) {
  return reshape(drawn(cast(x, DType::f32), draw, index, stream, range, plus), {-1, 1});
}
template <class C>
Tensor projected(const C& c, const Tensor& x, const Tensors& rows) {
  Tensors all = rows;
  all.push_back(fill_like(rows[0], 0)), all.push_back(fill_like(rows[0], 0));
  return project_images(x, concat(all, 1), {c.interpolation, c.fill_mode, c.fill_value});
}
double centre(const Tensor& x, int64_t axis) { return double(x.sig().shape[int(axis)] - 1) / 2; }
}  // namespace

template <class C>
Tensor AugmentationLayer<C>::call(const Tensors& in, const CallContext& c) {
  const Tensor x = cast(in[0], this->compute_dtype());
  if (!c.training) return x;
  const std::string& format = this->config.data_format;
  // Who says which elements these are wants the same for them each time.
  const Tensor draw = c.index ? this->draw.read() : Generator(this->draw).next();
  return from_last(format, augmented(to_last(format, x), draw, c.index));
}

void RandomFlipImpl::check() const {
  const std::string& m = config.mode;
  expect(*this, m == "horizontal" || m == "vertical" || m == "horizontal_and_vertical", "mode",
         "\"" + m.substr(0, 80) + "\"",
         "\"horizontal\", \"vertical\" or \"horizontal_and_vertical\"");
  expect_format(*this, config.data_format);
}
Tensor RandomFlipImpl::augmented(const Tensor& x, const Tensor& draw, const Tensor& index) {
  std::vector<int64_t> axes;
  if (config.mode != "horizontal") axes.push_back(1);
  if (config.mode != "vertical") axes.push_back(2);
  return select(less(drawn(x, draw, index, 0, {0, 1}), .5), reverse(x, axes), x);
}

void RandomRotationConfig::fields(ConfigVisitor& v) {
  if (v.writing()) factor = both(factor, -1);
  v.field("factor", factor), projection_fields(*this, v);
}
void RandomRotationImpl::check() const {
  expect_factor(*this, "factor", config.factor, -1);
  expect_projection(*this);
}
Tensor RandomRotationImpl::augmented(const Tensor& x, const Tensor& draw, const Tensor& index) {
  const Tensor angle = drawn_row(x, draw, index, 0, config.factor) * (2 * std::numbers::pi),
               c = cos(angle), s = sin(angle);
  const double row = centre(x, 1), column = centre(x, 2);
  return projected(config, x,
                   {c, -s, column - c * column + s * row, s, c, row - s * column - c * row});
}

void RandomZoomConfig::fields(ConfigVisitor& v) {
  v.field("height_factor", height_factor), v.field("width_factor", width_factor);
  projection_fields(*this, v);
}
void RandomZoomImpl::check() const {
  for (const Factor& f : {config.height_factor, config.width_factor.value_or(0.)}) {
    expect_factor(*this, "height_factor or width_factor", f, -1);
    expect(*this, f.low > -1, "height_factor or width_factor", f.low, "more than -1");
  }
  expect_projection(*this);
}
Tensor RandomZoomImpl::augmented(const Tensor& x, const Tensor& draw, const Tensor& index) {
  const Tensor rows = drawn_row(x, draw, index, 0, config.height_factor, 1),
               columns = config.width_factor ? drawn_row(x, draw, index, 1, *config.width_factor, 1)
                                             : rows,
               none = fill_like(rows, 0);
  return projected(
      config, x,
      {columns, none, (1 - columns) * centre(x, 2), none, rows, (1 - rows) * centre(x, 1)});
}

void RandomTranslationConfig::fields(ConfigVisitor& v) {
  v.field("height_factor", height_factor), v.field("width_factor", width_factor);
  projection_fields(*this, v);
}
void RandomTranslationImpl::check() const {
  expect_factor(*this, "height_factor", config.height_factor, -1);
  expect_factor(*this, "width_factor", config.width_factor, -1);
  expect_projection(*this);
}
Tensor RandomTranslationImpl::augmented(const Tensor& x, const Tensor& draw, const Tensor& index) {
  const Shape& s = x.sig().shape;
  const Tensor down = drawn_row(x, draw, index, 0, config.height_factor) * double(s[1]),
               right = drawn_row(x, draw, index, 1, config.width_factor) * double(s[2]),
               none = fill_like(down, 0), one = fill_like(down, 1);
  return projected(config, x, {one, none, -right, none, one, -down});
}

void RandomContrastConfig::fields(ConfigVisitor& v) {
  if (v.writing()) factor = both(factor, 0);
  v.field("factor", factor), v.field("value_range", value_range);
  v.field("seed", seed), v.field("data_format", data_format);
}
void RandomContrastImpl::check() const {
  expect_factor(*this, "factor", config.factor, 0);
  expect_format(*this, config.data_format);
}
Tensor RandomContrastImpl::augmented(const Tensor& x, const Tensor& draw, const Tensor& index) {
  const Factor f = both(config.factor, 0);
  const Tensor mean = reduce_mean(x, {1, 2}, true),
               factor = drawn(x, draw, index, 0, {-f.low, f.high}, 1);
  return clip((x - mean) * factor + mean, config.value_range.low, config.value_range.high);
}

void RandomBrightnessConfig::fields(ConfigVisitor& v) {
  if (v.writing()) factor = both(factor, -1);
  v.field("factor", factor), v.field("value_range", value_range);
  v.field("seed", seed), v.field("data_format", data_format);
}
void RandomBrightnessImpl::check() const {
  expect_factor(*this, "factor", config.factor, -1);
  expect_format(*this, config.data_format);
}
Tensor RandomBrightnessImpl::augmented(const Tensor& x, const Tensor& draw, const Tensor& index) {
  const Factor& range = config.value_range;
  const Tensor more = drawn(x, draw, index, 0, config.factor) * (range.high - range.low);
  return clip(x + more, range.low, range.high);
}

}  // namespace evenflow
