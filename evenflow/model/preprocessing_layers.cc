// SPDX-License-Identifier: Apache-2.0
#include "evenflow/model/preprocessing_layers.h"

#include <cmath>
#include <numeric>

#include "evenflow/model/layer_parts.h"
#include "evenflow/ops/encode.h"
#include "evenflow/ops/index.h"
#include "evenflow/ops/resize.h"

namespace evenflow {

LAYER(Rescaling);
LAYER(Resizing);
LAYER(CenterCrop);
LAYER(CategoryEncoding);
LAYER(Discretization);

namespace {
template <class L>
void expect_size(const L& layer) {
  const auto& c = layer.config;
  expect(layer, c.height > 0 && c.width > 0, "size", concat({c.height, " x ", c.width}),
         "at least one pixel");
  expect_format(layer, c.data_format);
}
// Extents of images of the layer's size.
template <class C>
Dims sized(const C& config, const Dims& in) {
  Dims d = to_last(config.data_format, in);
  d[1] = config.height, d[2] = config.width;
  return from_last(config.data_format, d);
}
// The middle of an image [n, h, w, c].
Tensor middle(const Tensor& x, int64_t height, int64_t width) {
  const Shape& s = x.sig().shape;
  return slice(x, {0, (s[1] - height) / 2, (s[2] - width) / 2, 0}, {-1, height, width, -1});
}
// The largest middle with the proportions of height to width.
Tensor cut_to(const Tensor& x, int64_t height, int64_t width) {
  const int64_t h = x.sig().shape[1], w = x.sig().shape[2];
  return middle(x, std::clamp<int64_t>(w * height / width, 1, h),
                std::clamp<int64_t>(h * width / height, 1, w));
}
// With a border, that it has about the proportions of height to width.
Tensor padded_to(const Tensor& x, int64_t height, int64_t width, double value) {
  const int64_t h = x.sig().shape[1], w = x.sig().shape[2],
                rows = std::max<int64_t>(0, w * height / width - h) / 2,
                columns = std::max<int64_t>(0, h * width / height - w) / 2;
  return pad(x, {0, 0, rows, rows, columns, columns, 0, 0}, value);
}

template <class L>
void expect_mode(const L& layer, bool numbers) {
  const std::string& m = layer.config.output_mode;
  expect(layer, m == "one_hot" || m == "multi_hot" || m == "count" || (numbers && m == "int"),
         "output_mode", "\"" + m.substr(0, 80) + "\"",
         numbers ? "\"int\", \"one_hot\", \"multi_hot\" or \"count\""
                 : "\"one_hot\", \"multi_hot\" or \"count\"");
}
bool drops_last(const Dims& in) { return in.size() > 1 && in.back() == 1; }
Dims encoded(const std::string& mode, Dims in, int64_t depth) {
  if (mode != "one_hot" || drops_last(in)) in.pop_back();
  in.push_back(depth);
  return in;
}
Tensor encode(const std::string& mode, const Tensor& x, int64_t depth, DType type) {
  if (mode != "one_hot") return count_indices(x, depth, mode == "multi_hot", type);
  const Shape& s = x.sig().shape;
  const bool drops = drops_last(Dims(s.begin(), s.end()));
  return one_hot(drops ? squeeze(x, {-1}) : x, depth, 1, 0, type);
}
}  // namespace

void RescalingImpl::check() const {
  expect(*this, !config.scale.values.empty(), "scale", "empty", "a number or several");
  expect(*this, !config.offset.values.empty(), "offset", "empty", "a number or several");
}
Dims RescalingImpl::output_dims(const std::vector<Dims>& in) const {
  for (const auto* numbers : {&config.scale.values, &config.offset.values})
    if (numbers->size() > 1 && (in[0].empty() || in[0].back() != int64_t(numbers->size())))
      refuse("input", in[0], concat({numbers->size(), " on the last axis"}));
  return in[0];
}
Tensor RescalingImpl::call(const Tensors& x, const CallContext&) {
  const DType type = compute_dtype();
  auto number = [&](const std::vector<double>& v) {
    return constant(v, v.size() == 1 ? Shape{} : Shape{int64_t(v.size())}, type);
  };
  return cast(x[0], type) * number(config.scale.values) + number(config.offset.values);
}

void ResizingConfig::fields(ConfigVisitor& v) {
  v.field("height", height), v.field("width", width), v.field("interpolation", interpolation);
  v.field("crop_to_aspect_ratio", crop_to_aspect_ratio),
      v.field("pad_to_aspect_ratio", pad_to_aspect_ratio);
  v.field("fill_mode", fill_mode), v.field("fill_value", fill_value);
  v.field("antialias", antialias), v.field("data_format", data_format);
}
void ResizingImpl::check() const {
  expect_size(*this);
  const std::string& i = config.interpolation;
  expect(*this,
         i == "bilinear" || i == "nearest" || i == "bicubic" || i == "lanczos3" || i == "lanczos5",
         "interpolation", "\"" + i.substr(0, 80) + "\"",
         "\"bilinear\", \"nearest\", \"bicubic\", \"lanczos3\" or \"lanczos5\"");
  expect(*this, config.fill_mode == "constant", "fill_mode",
         "\"" + config.fill_mode.substr(0, 80) + "\"", "\"constant\"");
  expect(*this, !config.crop_to_aspect_ratio || !config.pad_to_aspect_ratio, "crop_to_aspect_ratio",
         "true with pad_to_aspect_ratio", "one of them");
}
Dims ResizingImpl::output_dims(const std::vector<Dims>& in) const {
  if (in[0].size() != 4) refuse("input", in[0], "an image and its channels");
  return sized(config, in[0]);
}
Tensor ResizingImpl::call(const Tensors& in, const CallContext&) {
  const auto& c = config;
  Tensor x = to_last(c.data_format, in[0]);
  if (c.crop_to_aspect_ratio) x = cut_to(x, c.height, c.width);
  if (c.pad_to_aspect_ratio) x = padded_to(x, c.height, c.width, c.fill_value);
  Tensor y = resize_images(x, {c.height, c.width, c.interpolation, c.antialias});
  const DType type = in[0].dtype();
  if (y.dtype() != type) {
    y = round(y);
    y = cast(type == DType::u8 ? clip(y, 0, 255) : y, type);
  }
  return from_last(c.data_format, y);
}

void CenterCropImpl::check() const { expect_size(*this); }
Dims CenterCropImpl::output_dims(const std::vector<Dims>& in) const {
  if (in[0].size() != 4) refuse("input", in[0], "an image and its channels");
  return sized(config, in[0]);
}
Tensor CenterCropImpl::call(const Tensors& in, const CallContext&) {
  const int64_t height = config.height, width = config.width;
  const Tensor x = cast(to_last(config.data_format, in[0]), compute_dtype());
  const Shape& s = x.sig().shape;
  const bool fits = s[1] >= height && s[2] >= width;
  return from_last(
      config.data_format,
      fits ? middle(x, height, width) : resize_images(cut_to(x, height, width), {height, width}));
}

void CategoryEncodingImpl::check() const {
  expect(*this, config.num_tokens > 0, "num_tokens", config.num_tokens, "at least 1");
  expect_mode(*this, false);
}
Dims CategoryEncodingImpl::output_dims(const std::vector<Dims>& in) const {
  const bool rows = config.output_mode != "one_hot";
  if (in[0].empty() || (rows && in[0].size() > 2))
    refuse("input", in[0], rows ? "one or two axes" : "at least one axis");
  return encoded(config.output_mode, in[0], config.num_tokens);
}
Tensor CategoryEncodingImpl::call(const Tensors& x, const CallContext&) {
  return encode(config.output_mode, cast(x[0], DType::i64), config.num_tokens, compute_dtype());
}

namespace {
// What is known of the quantiles of many numbers: some of them, ascending, and for how many each
// stands.
struct Sketch {
  std::vector<double> values, weights;
};
// Linear between the points, constant outside.
double interpolate(double at, const std::vector<double>& x, const std::vector<double>& y) {
  const size_t i = size_t(std::upper_bound(x.begin(), x.end(), at) - x.begin());
  if (i == 0) return y.front();
  if (i == x.size()) return y.back();
  return y[i - 1] + (y[i] - y[i - 1]) / (x[i] - x[i - 1]) * (at - x[i - 1]);
}
// To 1 / epsilon values, at equal distances in rank; as f32, as in Keras.
Sketch compressed(const Sketch& s, double epsilon) {
  if (double(s.values.size()) * epsilon < 1) return s;
  std::vector<double> sum(s.weights.size());
  std::partial_sum(s.weights.begin(), s.weights.end(), sum.begin());
  std::vector<double> share = sum;
  for (double& v : share) v /= sum.back();
  Sketch r;
  double before = 0;
  for (int64_t i = 0, n = int64_t(std::ceil(1 / epsilon)); i < n; ++i) {
    const double at = epsilon + double(i) * epsilon, here = interpolate(at, share, sum);
    r.values.push_back(double(float(interpolate(at, share, s.values))));
    r.weights.push_back(double(float(here - before)));
    before = here;
  }
  return r;
}
Sketch sketch(std::vector<float> values, double epsilon) {
  std::sort(values.begin(), values.end());
  const double step = std::max(double(values.size()) * epsilon, 1.);
  Sketch s;
  for (size_t i = size_t(step - 1); i < values.size(); i += size_t(step))
    s.values.push_back(double(values[i])), s.weights.push_back(step);
  return s;
}
Sketch merged(const Sketch& a, const Sketch& b, double epsilon) {
  Sketch r;
  for (size_t i = 0, k = 0; i < a.values.size() || k < b.values.size();) {
    const bool first = k == b.values.size() || (i < a.values.size() && a.values[i] <= b.values[k]);
    const Sketch& from = first ? a : b;
    size_t& at = first ? i : k;
    r.values.push_back(from.values[at]), r.weights.push_back(from.weights[at]);
    ++at;
  }
  return compressed(r, epsilon);
}
}  // namespace

void DiscretizationConfig::fields(ConfigVisitor& v) {
  v.field("bin_boundaries", bin_boundaries), v.field("num_bins", num_bins);
  v.field("epsilon", epsilon), v.field("output_mode", output_mode);
}
int64_t DiscretizationImpl::bins() const {
  return config.bin_boundaries.empty() ? *config.num_bins
                                       : int64_t(config.bin_boundaries.size()) + 1;
}
void DiscretizationImpl::check() const {
  expect(*this, !config.bin_boundaries.empty() || config.num_bins, "bin_boundaries", "empty",
         "some, or num_bins");
  expect(*this, std::is_sorted(config.bin_boundaries.begin(), config.bin_boundaries.end()),
         "bin_boundaries", "not in order", "ascending numbers");
  expect(*this, !config.num_bins || *config.num_bins > 0, "num_bins", config.num_bins.value_or(0),
         "at least 1");
  expect(*this, config.epsilon > 0 && config.epsilon < 1, "epsilon", config.epsilon,
         "between 0 and 1");
  expect_mode(*this, true);
}
Dims DiscretizationImpl::output_dims(const std::vector<Dims>& in) const {
  const std::string& mode = config.output_mode;
  if (mode == "int") return in[0];
  if (in[0].empty() || (mode != "one_hot" && in[0].size() > 2))
    refuse("input", in[0], "one or two axes");
  return encoded(mode, in[0], bins());
}
Tensor DiscretizationImpl::call(const Tensors& x, const CallContext&) {
  if (config.bin_boundaries.empty() && *config.num_bins > 1)
    fail(Code::FailedPrecondition,
         {"Discretization \"", name, "\": there are no boundaries, expected adapt() before"});
  const Tensor bin = bucketize(x[0], config.bin_boundaries);
  if (config.output_mode == "int") return bin;
  return encode(config.output_mode, bin, bins(), compute_dtype());
}
void Discretization::adapt(const Tensors& batches) const {
  for (auto& b : batches)
    if (!b) fail({"adapt: data is an empty tensor"});
  adapt([&, i = size_t(0)]() mutable { return i < batches.size() ? batches[i++] : Tensor(); });
}
void Discretization::adapt(const std::function<Tensor()>& next) const {
  auto& impl = static_cast<DiscretizationImpl&>(*impl_);
  if (!impl.config.num_bins)
    fail(Code::FailedPrecondition,
         {"Discretization \"", impl.name, "\": adapt() without num_bins, expected a number"});
  const double epsilon = impl.config.epsilon;
  Sketch all;
  for (Tensor batch; (batch = next());) {
    const Sketch s = sketch(batch.to_vector<float>(), epsilon);
    if (!s.values.empty()) all = merged(s, all, epsilon);
  }
  if (all.values.empty()) fail({"adapt: the data is empty, expected at least one element"});
  std::vector<double> b = compressed(all, 1. / double(*impl.config.num_bins)).values;
  b.pop_back();
  impl.config.bin_boundaries = std::move(b);
}

}  // namespace evenflow
