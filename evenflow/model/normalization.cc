// SPDX-License-Identifier: Apache-2.0
#include "evenflow/model/normalization.h"

#include "evenflow/core/statistics.h"
#include "evenflow/model/layer_parts.h"
#include "evenflow/ops/batch_norm.h"

namespace evenflow {

LAYER(Normalization);

namespace {
// The kept axes, all others 1.
std::vector<int64_t> broadcast_dims(const std::vector<bool>& kept, const Dims& x) {
  std::vector<int64_t> d;
  for (size_t i = 0; i < kept.size(); ++i) d.push_back(kept[i] ? x[i] : 1);
  return d;
}
Shape kept_shape(const std::vector<bool>& kept, const Dims& x) {
  std::vector<int64_t> d;
  for (size_t i = 0; i < kept.size(); ++i)
    if (kept[i]) d.push_back(x[i]);
  return Shape(d);
}
}  // namespace

void NormalizationConfig::fields(ConfigVisitor& v) {
  v.field("axis", axis), v.field("mean", mean), v.field("variance", variance),
      v.field("invert", invert);
}
void NormalizationImpl::check() const {
  expect(*this, bool(config.mean) == bool(config.variance), "mean or variance", "given alone",
         "both or none");
  if (!config.mean) return;
  expect(*this, config.mean->size() == config.variance->size(), "variance",
         concat({config.variance->size(), " numbers"}),
         concat({config.mean->size(), " (as mean)"}));
  expect(*this, !config.axis.empty() || config.mean->size() == 1, "mean",
         concat({config.mean->size(), " numbers"}), "one, for no axis");
}
std::vector<bool> NormalizationImpl::kept(const Dims& x) const {
  const int64_t rank = int64_t(x.size());
  std::vector<bool> r(x.size());
  for (int64_t a : config.axis) {
    const int64_t d = a < 0 ? a + rank : a;
    if (d < 1 || d >= rank) refuse("input", x, concat({"an axis ", a, " besides the batch"}));
    if (x[size_t(d)] < 0) refuse("input", x, concat({"a known extent on axis ", a}));
    r[size_t(d)] = true;
  }
  return r;
}
Dims NormalizationImpl::output_dims(const std::vector<Dims>& in) const {
  const auto k = kept(in[0]);
  if (built && kept_shape(k, in[0]) != kept_shape(k, input_dims[0]))
    refuse("input", in[0],
           "on its axes the extents of " + str_dims(input_dims[0]) + ", for which it was built");
  return in[0];
}
void NormalizationImpl::build(const std::vector<Dims>& in) {
  const Shape s = kept_shape(kept(in[0]), in[0]);
  if (!config.mean) {
    mean = add_weight("mean", s, "zeros", false);
    variance = add_weight("variance", s, "ones", false);
    count = add_weight("count", {}, "zeros", false, {}, {}, DType::i64);
    return;
  }
  // Given: constants, no weights. The numbers are those of the last axes.
  std::vector<int64_t> last;
  int64_t numbers = 1;
  for (int i = s.rank(); i-- && numbers < int64_t(config.mean->size());)
    last.insert(last.begin(), s[i]), numbers = checked_mul(numbers, s[i]);
  if (numbers != int64_t(config.mean->size()))
    fail({"Normalization \"", name, "\": mean has ", config.mean->size(), " numbers, expected ",
          s.count(), " (", str(s), "), those of its last axes, or one"});
  auto given = [&](const std::vector<double>& v) {
    return broadcast_to(constant(v, Shape(last), variable_dtype()),
                        std::vector<int64_t>(s.begin(), s.end()));
  };
  mean = Variable(given(*config.mean), {.name = name + "/mean"});
  variance = Variable(given(*config.variance), {.name = name + "/variance"});
}
Tensor NormalizationImpl::call(const Tensors& given, const CallContext&) {
  const Tensor x = is_floating(given[0].dtype()) ? given[0] : cast(given[0], compute_dtype());
  const std::vector<int64_t> d = broadcast_dims(kept(input_dims[0]), input_dims[0]);
  const Tensor m = reshape(cast(mean.read(), x.dtype()), d),
               deviation = maximum(sqrt(reshape(cast(variance.read(), x.dtype()), d)), 1e-7);
  return config.invert ? m + x * deviation : (x - m) / deviation;
}

void Normalization::adapt(const Tensor& data) const { adapt(Tensors{data}); }
void Normalization::adapt(const Tensors& batches) const {
  size_t i = 0;
  adapt([&] {
    if (i == batches.size()) return Tensor();
    if (!batches[i]) fail({"adapt: data is an empty tensor"});
    return batches[i++];
  });
}
void Normalization::adapt(const std::function<Tensor()>& next) const {
  auto& impl = static_cast<NormalizationImpl&>(*impl_);
  if (impl.config.mean)
    fail(Code::FailedPrecondition,
         {"Normalization \"", impl.name,
          "\": mean and variance were given, expected adapt() without them"});
  std::vector<Stats> all;
  Tensor batch = next();
  if (!batch) fail({"adapt: there is no batch, expected at least one"});
  for (; batch; batch = next()) {
    Dims d(batch.sig().shape.begin(), batch.sig().shape.end());
    if (d.empty()) fail({"adapt: data is ", str(batch.sig()), ", expected a batch"});
    d[0] = -1;
    impl.ensure_built({d});
    const auto kept = impl.kept(d);
    std::vector<int64_t> axes;
    for (size_t i = 0; i < kept.size(); ++i)
      if (kept[i]) axes.push_back(int64_t(i));
    Tensor x = cast(batch, DType::f64);
    if (axes.empty()) x = reshape(x, {-1, 1}), axes = {1};  // one mean for all
    const Statistics s = batch_norm_statistics(x, axes);
    const auto mean = s.mean.to_vector<double>(), m2 = s.m2.to_vector<double>();
    const double n = mean.empty() ? 0 : double(x.sig().shape.count() / int64_t(mean.size()));
    all.resize(mean.size());
    for (size_t c = 0; c < mean.size(); ++c) all[c] = merge(all[c], {n, mean[c], m2[c]});
  }
  if (all.empty() || all[0].n == 0)
    fail({"adapt: the data is empty, expected at least one element"});
  std::vector<double> mean, variance;
  for (const Stats& s : all) mean.push_back(s.mean), variance.push_back(population_variance(s));
  const Shape shape = impl.mean.sig().shape;
  impl.mean.assign(constant(mean, shape, impl.variable_dtype()));
  impl.variance.assign(constant(variance, shape, impl.variable_dtype()));
  impl.count.assign(full({}, all[0].n, DType::i64));
}

}  // namespace evenflow
