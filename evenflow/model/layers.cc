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
LAYER(Activation);
LAYER(ReLU);
LAYER(LeakyReLU);
LAYER(Softmax);
LAYER(Identity);
LAYER(Embedding);
LAYER(ELU);
LAYER(PReLU);

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

void EmbeddingImpl::check() const {
  constexpr int64_t most = int64_t(1) << 32;
  expect(*this, config.input_dim >= 1 && config.input_dim <= most, "input_dim", config.input_dim,
         concat({"from 1 to ", most}));
  expect(*this, config.output_dim >= 1 && config.output_dim <= most, "output_dim",
         config.output_dim, concat({"from 1 to ", most}));
}
Dims EmbeddingImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  if (in[0].size() >= size_t(kMaxRank))
    refuse("input", in[0], concat({"at most ", kMaxRank - 1, " extents"}));
  Dims r = in[0];
  r.push_back(config.output_dim);
  return r;
}
void EmbeddingImpl::build(const std::vector<Dims>&) {
  embeddings =
      add_weight("embeddings", {config.input_dim, config.output_dim}, config.embeddings_initializer,
                 true, config.embeddings_regularizer, config.embeddings_constraint);
}
Tensor EmbeddingImpl::call(const Tensors& x, const CallContext&) {
  const Tensor i = is_integer(x[0].dtype()) ? x[0] : cast(x[0], DType::i32);
  return cast(gather(embeddings.read(), i), compute_dtype());
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
void ELUImpl::check() const {
  expect(*this, std::isfinite(config.alpha), "alpha", config.alpha, "a finite number");
}
Tensor ELUImpl::call(const Tensors& x, const CallContext&) { return elu(x[0], config.alpha); }
Dims PReLUImpl::output_dims(const std::vector<Dims>& in) const {
  const int64_t rank = int64_t(in[0].size());
  for (int64_t a : config.shared_axes)
    if (a < 1 || a >= rank) refuse("input", in[0], concat({"an axis ", a, " besides the batch"}));
  for (int64_t a = 1; a < rank; ++a)
    if (in[0][size_t(a)] < 0 && !is_shared(a))
      refuse("input", in[0], concat({"a known extent on axis ", a, ", which is not shared"}));
  return in[0];
}
bool PReLUImpl::is_shared(int64_t axis) const {
  return std::count(config.shared_axes.begin(), config.shared_axes.end(), axis) > 0;
}
void PReLUImpl::build(const std::vector<Dims>& in) {
  std::vector<int64_t> extents;
  for (int64_t a = 1; a < int64_t(in[0].size()); ++a)
    extents.push_back(is_shared(a) ? 1 : in[0][size_t(a)]);
  alpha = add_weight("alpha", Shape(extents), config.alpha_initializer, true,
                     config.alpha_regularizer, config.alpha_constraint);
}
Tensor PReLUImpl::call(const Tensors& x, const CallContext&) {
  return relu(x[0]) - cast(alpha.read(), x[0].dtype()) * relu(-x[0]);
}
Tensor SoftmaxImpl::call(const Tensors& x, const CallContext&) {
  return softmax(x[0], config.axis);
}

}  // namespace evenflow
