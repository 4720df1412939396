// SPDX-License-Identifier: Apache-2.0
#include "evenflow/model/reshaping_layers.h"

#include <algorithm>

#include "evenflow/model/layer_parts.h"
#include "evenflow/ops/matmul.h"

namespace evenflow {

LAYER(Flatten);
LAYER(Reshape);
LAYER(Permute);
LAYER(RepeatVector);
LAYER(ZeroPadding1D);
LAYER(ZeroPadding2D);
LAYER(Cropping1D);
LAYER(Cropping2D);
LAYER(UpSampling1D);
LAYER(UpSampling2D);

void FlattenImpl::check() const { expect_format(*this, config.data_format); }
Dims FlattenImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  if (in[0].empty()) refuse("input", in[0], "(batch, ...)");
  int64_t n = 1;
  for (size_t i = 1; i < in[0].size(); ++i)
    n = n < 0 || in[0][i] < 0 ? -1 : checked_mul(n, in[0][i]);
  return {in[0][0], n};
}
Tensor FlattenImpl::call(const Tensors& x, const CallContext&) {
  if (config.data_format == "channels_last" || x[0].rank() < 3) return flatten(x[0], 1);
  std::vector<int64_t> order{0};  // Keras flattens in the order of channels last
  for (int64_t i = 2; i < x[0].rank(); ++i) order.push_back(i);
  order.push_back(1);
  return flatten(transpose(x[0], order), 1);
}

void ReshapeImpl::check() const {
  expect(*this, config.target_shape.size() < size_t(kMaxRank), "target_shape",
         str_dims(config.target_shape), "at most 7 extents");
  int open = 0;
  for (int64_t d : config.target_shape)
    expect(*this, d >= -1 && (open += d < 0) <= 1, "target_shape", str_dims(config.target_shape),
           "extents of at least 0, and one -1 at most");
}
Dims ReshapeImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  if (in[0].empty()) refuse("input", in[0], "(batch, ...)");
  int64_t have = 1, known = 1;
  for (size_t i = 1; i < in[0].size(); ++i)
    have = have < 0 || in[0][i] < 0 ? -1 : checked_mul(have, in[0][i]);
  Dims r{in[0][0]};
  bool open = false;
  for (int64_t d : config.target_shape) {
    r.push_back(d);
    if (d < 0)
      open = true;
    else
      known = checked_mul(known, d);
  }
  if (have < 0) {
    if (open) refuse("input", in[0], "known extents for a target_shape with -1");
    return r;
  }
  if (open ? !known || have % known : have != known)
    refuse("input", in[0], "the elements of target_shape " + str_dims(config.target_shape));
  for (int64_t& d : r)
    if (&d != &r[0] && d < 0) d = have / known;
  return r;
}
Tensor ReshapeImpl::call(const Tensors& x, const CallContext&) {
  Dims d(x[0].sig().shape.begin(), x[0].sig().shape.end());
  d[0] = -1;
  d = output_dims({d});
  d[0] = -1;
  return reshape(x[0], d);
}

void PermuteImpl::check() const {
  Dims sorted = config.dims;
  std::sort(sorted.begin(), sorted.end());
  bool right = sorted.size() < size_t(kMaxRank);
  for (size_t i = 0; i < sorted.size(); ++i) right = right && sorted[i] == int64_t(i) + 1;
  expect(*this, right, "dims", str_dims(config.dims), "each of 1, 2, ... once");
}
Dims PermuteImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  if (in[0].size() != config.dims.size() + 1)
    refuse("input", in[0], concat({config.dims.size(), " extents behind the batch"}));
  Dims r{in[0][0]};
  for (int64_t d : config.dims) r.push_back(in[0][size_t(d)]);
  return r;
}
Tensor PermuteImpl::call(const Tensors& x, const CallContext&) {
  std::vector<int64_t> order{0};
  order.insert(order.end(), config.dims.begin(), config.dims.end());
  return transpose(x[0], order);
}

void RepeatVectorImpl::check() const {
  expect(*this, config.n >= 1 && config.n <= 1 << 24, "n", config.n, "from 1 to 2^24");
}
Dims RepeatVectorImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  if (in[0].size() != 2) refuse("input", in[0], "(batch, features)");
  return {in[0][0], config.n, in[0][1]};
}
Tensor RepeatVectorImpl::call(const Tensors& x, const CallContext&) {
  return tile(expand_dims(x[0], 1), {1, config.n, 1});
}

// ---- borders ----
namespace {
constexpr int64_t kMostBorder = 1 << 20;
template <class L>
void expect_border(const L& layer, std::string_view what, std::initializer_list<int64_t> sizes) {
  for (int64_t n : sizes)
    expect(layer, n >= 0 && n <= kMostBorder, what, n, concat({"from 0 to ", kMostBorder}));
}
template <class L>
Dims expect_rank(const L& layer, const Dims& in, size_t rank, const std::string& format) {
  if (in.size() != rank)
    fail({layer.class_name(), " \"", layer.name, "\": input is ", str_dims(in), ", expected rank ",
          rank});
  return to_last(format, in);
}
const std::string last = "channels_last";
// The extent without its ends; -1 stays unknown.
template <class L>
int64_t cropped(const L& layer, const Dims& in, int64_t n, int64_t before, int64_t after) {
  if (n < 0) return n;
  expect(layer, before + after < n, "input", str_dims(in),
         concat({"more than the ", before + after, " that are left out"}));
  return n - before - after;
}
// x without so many at the ends of an axis.
Tensor cropped(const Tensor& x, int64_t axis, int64_t before, int64_t after) {
  const Shape s = x.sig().shape;
  std::vector<int64_t> begin(size_t(s.rank())), size(size_t(s.rank()), -1);
  begin[size_t(axis)] = before, size[size_t(axis)] = s[axis] - before - after;
  return slice(x, begin, size);
}
}  // namespace
void ZeroPadding1DImpl::check() const {
  expect_border(*this, "padding", {config.padding.before, config.padding.after});
  expect_format(*this, config.data_format);
}
Dims ZeroPadding1DImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  Dims r = expect_rank(*this, in[0], 3, config.data_format);
  if (r[1] >= 0) r[1] = checked_add(r[1], config.padding.before + config.padding.after);
  return from_last(config.data_format, r);
}
Tensor ZeroPadding1DImpl::call(const Tensors& x, const CallContext&) {
  const Padding1& p = config.padding;
  if (config.data_format == "channels_first") return pad(x[0], {0, 0, 0, 0, p.before, p.after});
  return pad(x[0], {0, 0, p.before, p.after, 0, 0});
}
void ZeroPadding2DImpl::check() const {
  const Padding2& p = config.padding;
  expect_border(*this, "padding", {p.top, p.bottom, p.left, p.right});
  expect_format(*this, config.data_format);
}
Dims ZeroPadding2DImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  Dims r = expect_rank(*this, in[0], 4, config.data_format);
  if (r[1] >= 0) r[1] = checked_add(r[1], config.padding.top + config.padding.bottom);
  if (r[2] >= 0) r[2] = checked_add(r[2], config.padding.left + config.padding.right);
  return from_last(config.data_format, r);
}
Tensor ZeroPadding2DImpl::call(const Tensors& x, const CallContext&) {
  const Padding2& p = config.padding;
  if (config.data_format == "channels_first")
    return pad(x[0], {0, 0, 0, 0, p.top, p.bottom, p.left, p.right});
  return pad(x[0], {0, 0, p.top, p.bottom, p.left, p.right, 0, 0});
}
void Cropping1DImpl::check() const {
  expect_border(*this, "cropping", {config.cropping.before, config.cropping.after});
}
Dims Cropping1DImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  Dims r = expect_rank(*this, in[0], 3, last);
  r[1] = cropped(*this, in[0], r[1], config.cropping.before, config.cropping.after);
  return r;
}
Tensor Cropping1DImpl::call(const Tensors& x, const CallContext&) {
  return cropped(x[0], 1, config.cropping.before, config.cropping.after);
}
void Cropping2DImpl::check() const {
  const Padding2& p = config.cropping;
  expect_border(*this, "cropping", {p.top, p.bottom, p.left, p.right});
  expect_format(*this, config.data_format);
}
Dims Cropping2DImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  const Padding2& p = config.cropping;
  Dims r = expect_rank(*this, in[0], 4, config.data_format);
  r[1] = cropped(*this, in[0], r[1], p.top, p.bottom);
  r[2] = cropped(*this, in[0], r[2], p.left, p.right);
  return from_last(config.data_format, r);
}
Tensor Cropping2DImpl::call(const Tensors& x, const CallContext&) {
  const Padding2& p = config.cropping;
  const int64_t rows = config.data_format == "channels_first" ? 2 : 1;
  return cropped(cropped(x[0], rows, p.top, p.bottom), rows + 1, p.left, p.right);
}

// ---- larger ----
namespace {
// Each element along an axis so many times, side by side.
Tensor repeated(const Tensor& x, int64_t axis, int64_t times) {
  if (times == 1) return x;
  std::vector<int64_t> many(size_t(x.rank()) + 1, 1), extents;
  many[size_t(axis) + 1] = times;
  const Shape s = x.sig().shape;
  for (int64_t i = 0; i < s.rank(); ++i)
    extents.push_back(i ? i == axis ? checked_mul(s[i], times) : s[i] : -1);
  return reshape(tile(expand_dims(x, axis + 1), many), extents);
}
// [n times, n]: pixel o of the result lies at (o + 1/2) / times - 1/2.
Tensor bilinear_weights(int64_t n, int64_t times, DType dtype) {
  const int64_t m = checked_mul(n, times);
  std::vector<double> w(size_t(checked_mul(m, n)));
  for (int64_t o = 0; o < m; ++o) {
    const double at = std::clamp((double(o) + .5) / double(times) - .5, 0., double(n - 1));
    const int64_t low = int64_t(at), high = std::min(low + 1, n - 1);
    w[size_t(o * n + low)] += 1 - (at - double(low));
    w[size_t(o * n + high)] += at - double(low);
  }
  return constant(w, {m, n}, dtype);
}
}  // namespace
void UpSampling1DImpl::check() const {
  expect(*this, config.size >= 1 && config.size <= 1 << 16, "size", config.size, "from 1 to 2^16");
}
Dims UpSampling1DImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  Dims r = expect_rank(*this, in[0], 3, last);
  if (r[1] >= 0) r[1] = checked_mul(r[1], config.size);
  return r;
}
Tensor UpSampling1DImpl::call(const Tensors& x, const CallContext&) {
  return repeated(x[0], 1, config.size);
}
void UpSampling2DImpl::check() const {
  for (int64_t n : {config.size.height, config.size.width})
    expect(*this, n >= 1 && n <= 1 << 16, "size", n, "from 1 to 2^16");
  expect_format(*this, config.data_format);
  expect(*this, config.interpolation == "nearest" || config.interpolation == "bilinear",
         "interpolation", "\"" + config.interpolation.substr(0, 80) + "\"",
         "\"nearest\" or \"bilinear\"");
}
Dims UpSampling2DImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  Dims r = expect_rank(*this, in[0], 4, config.data_format);
  if (r[1] >= 0) r[1] = checked_mul(r[1], config.size.height);
  if (r[2] >= 0) r[2] = checked_mul(r[2], config.size.width);
  return from_last(config.data_format, r);
}
Tensor UpSampling2DImpl::call(const Tensors& x, const CallContext&) {
  const std::string& format = config.data_format;
  const Size2 by = config.size;
  Tensor y = to_last(format, x[0]);
  if (config.interpolation == "nearest")
    return from_last(format, repeated(repeated(y, 1, by.height), 2, by.width));
  // Rows, then columns, as products with a matrix.
  const Shape s = y.sig().shape;
  const int64_t h = s[1], w = s[2], c = s[3];
  y = matmul(bilinear_weights(h, by.height, y.dtype()), reshape(y, {-1, h, w * c}));
  y = matmul(bilinear_weights(w, by.width, y.dtype()), reshape(y, {-1, h * by.height, w, c}));
  return from_last(format, y);
}

}  // namespace evenflow
