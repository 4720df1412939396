// SPDX-License-Identifier: Apache-2.0
#include "evenflow/model/layers.h"

#include <algorithm>
#include <cmath>

#include "evenflow/model/layer_parts.h"
#include "evenflow/ops/activations.h"
#include "evenflow/ops/compare.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/index.h"
#include "evenflow/ops/matmul.h"
#include "evenflow/ops/random.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"
#include "evenflow/ops/softmax.h"

namespace evenflow {

LAYER(InputLayer);
LAYER(Dense);
LAYER(Flatten);
LAYER(Reshape);
LAYER(Dropout);
LAYER(Activation);
LAYER(ReLU);
LAYER(LeakyReLU);
LAYER(Softmax);
LAYER(Add);
LAYER(Concatenate);
LAYER(Rescaling);

SymbolicTensor Input(const Dims& shape, const std::string& name, DType dtype) {
  for (int64_t d : shape)
    if (d < -1)
      fail({"Input: shape is ", str_dims(shape), ", expected extents of at least 0, or -1"});
  if (shape.size() >= size_t(kMaxRank))
    fail({"Input: shape is ", str_dims(shape), ", expected at most ", kMaxRank - 1, " extents"});
  Dims d{-1};
  d.insert(d.end(), shape.begin(), shape.end());
  auto impl = std::make_shared<InputLayerImpl>();
  impl->config.batch_shape = d, impl->config.input_dtype = numpy_name(dtype);
  impl->name = name.empty() ? automatic_name("InputLayer") : name;
  impl->built = true;
  return {std::make_shared<SymbolicTensor::Source>(SymbolicTensor::Source{impl, {}}), d};
}

namespace {
// max(x - tau, 0) over the last axis, tau = (sum of c_i - 1) / k over the k sorted x_i with x_i >
// (c_i - 1) / i, c_i the sum of the first i: keras.ops.sparsemax of Keras 3.15 as it is.
Tensor keras_sparsemax(const Tensor& x) {
  const int64_t n = x.sig().shape.dim(-1);
  if (!n) return x;
  const Tensor sorted = top_k(x, n).values;
  Tensor sums = sorted;  // cumulative, by doubling (Hillis & Steele 1986)
  for (int64_t d = 1; d < n; d *= 2) {
    std::vector<int64_t> begin(static_cast<size_t>(x.rank())), size(begin.size(), -1),
        right(begin.size() * 2);
    size.back() = n - d, right[right.size() - 2] = d;
    sums = sums + pad(slice(sums, begin, size), right);
  }
  const Tensor edge = (sums - 1) / cast(arange(n) + 1, x.dtype());
  const Tensor support = cast(greater(sorted, edge), x.dtype());
  const Tensor tau = (reduce_sum(sums * support, {-1}, true) - 1) / reduce_sum(support, {-1}, true);
  return maximum(x - tau, 0);
}
}  // namespace
Tensor activated(const std::string& activation_name, const Tensor& x) {
  if (activation_name == "linear") return x;
  if (activation_name == "sparsemax" && x.rank()) return keras_sparsemax(x);
  return activation(activation_name, x);
}

// ---- core ----
void DenseImpl::check() const {
  expect(*this, config.units >= 1 && config.units <= int64_t(1) << 32, "units", config.units,
         "a positive number");
  expect_activation(*this, config.activation);
}
Dims DenseImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  if (in[0].size() < 2) refuse("input", in[0], "(batch, ..., features)");
  if (in[0].back() < 0) refuse("input", in[0], "a known last extent");
  if (built && in[0].back() != input_dims[0].back())
    refuse("input", in[0], concat({input_dims[0].back(), " features, for which it was built"}));
  Dims r = in[0];
  r.back() = config.units;
  return activated(*this, config.activation, r);
}
void DenseImpl::build(const std::vector<Dims>& in) {
  kernel = add_weight("kernel", {in[0].back(), config.units}, config.kernel_initializer, true,
                      config.kernel_regularizer, config.kernel_constraint);
  if (config.use_bias)
    bias = add_weight("bias", {config.units}, config.bias_initializer, true,
                      config.bias_regularizer, config.bias_constraint);
}
Tensor DenseImpl::call(const Tensors& x, const CallContext&) {
  return activated(config.activation,
                   with_bias(matmul(x[0], cast(kernel.read(), x[0].dtype())), bias));
}

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

void DropoutImpl::check() const {
  expect(*this, config.rate >= 0 && config.rate <= 1, "rate", config.rate, "between 0 and 1");
  expect(*this, !config.noise_shape, "noise_shape", "given", "none");
}
void DropoutImpl::build(const std::vector<Dims>&) {
  const uint64_t key = config.seed ? uint64_t(*config.seed) : seed;
  draw = Generator(key & 0xffffffffffffu).state();  // 48 bits: exact as a number in JSON
}
Tensor DropoutImpl::call(const Tensors& x, const CallContext& c) {
  if (!c.training || config.rate == 0) return x[0];
  if (config.rate == 1) return fill_like(x[0], 0);
  return x[0] * dropout_mask(Generator(draw).next(), x[0], config.rate);
}
std::vector<Weight> DropoutImpl::extra_state() const {
  return built ? std::vector<Weight>{{"draw", draw, false}} : std::vector<Weight>{};
}

// ---- activations ----
void ActivationImpl::check() const { expect_activation(*this, config.activation); }
Dims ActivationImpl::output_dims(const std::vector<Dims>& in) const {
  return activated(*this, config.activation, in[0]);
}
Tensor ActivationImpl::call(const Tensors& x, const CallContext&) {
  return activated(config.activation, x[0]);
}
void ReLUImpl::check() const {
  expect(*this, !config.max_value || *config.max_value >= 0, "max_value",
         config.max_value.value_or(0), "at least 0");
  expect(*this, config.negative_slope >= 0 && std::isfinite(config.negative_slope),
         "negative_slope", config.negative_slope, "at least 0");
  expect(*this, config.threshold >= 0 && std::isfinite(config.threshold), "threshold",
         config.threshold, "at least 0");
}
Tensor ReLUImpl::call(const Tensors& x, const CallContext&) {
  ReluAttrs a{.negative_slope = config.negative_slope, .threshold = config.threshold};
  if (config.max_value) a.max_value = *config.max_value;
  return relu(x[0], a);
}
void LeakyReLUImpl::check() const {
  expect(*this, std::isfinite(config.negative_slope), "negative_slope", config.negative_slope,
         "a finite number");
}
Tensor LeakyReLUImpl::call(const Tensors& x, const CallContext&) {
  return leaky_relu(x[0], config.negative_slope);
}
Tensor SoftmaxImpl::call(const Tensors& x, const CallContext&) {
  return softmax(x[0], config.axis);
}

// ---- merging ----
Dims AddImpl::output_dims(const std::vector<Dims>& in) const {
  if (in.size() < 2)
    fail({"Add \"", name, "\": ", in.size(), " inputs were given, expected at least 2"});
  Dims r = in[0];
  for (auto& d : in) {
    if (d.size() != r.size()) refuse("an input", d, "the rank of " + str_dims(in[0]));
    for (size_t i = 0; i < d.size(); ++i) {
      if (r[i] == d[i] || d[i] == 1) continue;
      if (r[i] == 1)
        r[i] = d[i];
      else if (r[i] < 0 || d[i] < 0)
        r[i] = std::max(r[i], d[i]);
      else
        refuse("an input", d, "extents of " + str_dims(in[0]) + " or 1");
    }
  }
  return r;
}
Tensor AddImpl::call(const Tensors& x, const CallContext&) {
  Tensor sum = x[0];
  for (size_t i = 1; i < x.size(); ++i) sum = sum + x[i];
  return sum;
}
Dims ConcatenateImpl::output_dims(const std::vector<Dims>& in) const {
  if (in.empty()) fail({"Concatenate \"", name, "\": no input was given, expected at least 1"});
  const int64_t rank = int64_t(in[0].size()),
                axis = config.axis < 0 ? config.axis + rank : config.axis;
  if (axis < 1 || axis >= rank)
    refuse("input", in[0], concat({"an axis ", config.axis, " besides the batch"}));
  Dims r = in[0];
  for (size_t k = 1; k < in.size(); ++k) {
    if (in[k].size() != r.size()) refuse("an input", in[k], "the rank of " + str_dims(in[0]));
    for (size_t i = 0; i < r.size(); ++i) {
      if (int64_t(i) == axis)
        r[i] = r[i] < 0 || in[k][i] < 0 ? -1 : checked_add(r[i], in[k][i]);
      else if (r[i] < 0)
        r[i] = in[k][i];
      else if (in[k][i] >= 0 && in[k][i] != r[i])
        refuse("an input", in[k],
               "extents of " + str_dims(in[0]) + concat({" but for axis ", config.axis}));
    }
  }
  return r;
}
Tensor ConcatenateImpl::call(const Tensors& x, const CallContext&) {
  return evenflow::concat(x, config.axis);
}

// ---- preprocessing ----
Tensor RescalingImpl::call(const Tensors& x, const CallContext&) {
  Tensor t = is_floating(x[0].dtype()) ? x[0] : cast(x[0], compute_dtype());
  return t * config.scale + config.offset;
}

}  // namespace evenflow
