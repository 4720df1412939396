// SPDX-License-Identifier: Apache-2.0
#include "evenflow/train/probe.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "evenflow/model/batch_normalization.h"
#include "evenflow/ops/elementwise.h"

namespace evenflow {

Tensors layer_inputs(const Model& model, const std::vector<std::string>& layers, const Tensor& x,
                     CallContext context) {
  for (auto& name : layers) model.get_layer(name);
  const ModelImpl& m = model.impl();
  Step step;  // never committed
  std::vector<Tensor> value(m.calls.size());
  Tensors found(layers.size());
  for (size_t c = 0; c < m.calls.size(); ++c) {
    const ModelImpl::Call& call = m.calls[c];
    if (call.inputs.empty()) {
      value[c] = x;
      continue;
    }
    Tensors in;
    for (int i : call.inputs) in.push_back(value[size_t(i)]);
    for (size_t i = 0; i < layers.size(); ++i)
      if (layers[i] == call.layer->name && !found[i]) found[i] = in[0];
    value[c] = (*call.layer)(in, context);
  }
  for (auto& t : found) t.data();  // runs while the step's own state is there to be read
  return found;
}

std::vector<BatchNormReading> read_batch_norms(const Model& model, const Tensor& x) {
  std::vector<const BatchNormalizationImpl*> norms;
  std::vector<std::string> names;
  for (auto& l : model.layers())
    if (auto* b = dynamic_cast<const BatchNormalizationImpl*>(l.impl().get()))
      norms.push_back(b), names.push_back(l.name());
  const Tensors inputs = layer_inputs(model, names, x, {.training = true});
  std::vector<BatchNormReading> all;
  for (size_t i = 0; i < norms.size(); ++i) {
    const Statistics s =
        batch_norm_statistics(cast(inputs[i], DType::f64), norms[i]->config.axis.axes);
    BatchNormReading r{names[i],
                       int64_t(norms[i]->update_count.read().item()),
                       norms[i]->moving_mean.read().to_vector<double>(),
                       norms[i]->moving_variance.read().to_vector<double>(),
                       s.mean.to_vector<double>(),
                       s.variance().to_vector<double>()};
    all.push_back(std::move(r));
  }
  return all;
}

std::vector<double> quantiles(std::vector<double> v, const std::vector<double>& q) {
  if (v.empty()) fail({"quantiles: there are no values"});
  std::sort(v.begin(), v.end());
  std::vector<double> r;
  for (double p : q) {
    const double at = p * double(v.size() - 1);
    const size_t i = std::min(size_t(at), v.size() - 1), next = std::min(i + 1, v.size() - 1);
    r.push_back(v[i] + (v[next] - v[i]) * (at - double(i)));
  }
  return r;
}

PercentileRecorder::PercentileRecorder(std::string layer, Tensor x, int64_t every)
    : layer_(std::move(layer)), x_(std::move(x)), every_(every) {
  if (every < 1) fail({"PercentileRecorder: every is ", every, ", expected at least 1"});
}
void PercentileRecorder::on_train_begin(TrainingState& s) {
  steps.clear(), units.clear();
  look(s.model, 0);
}
void PercentileRecorder::on_train_batch_end(TrainingState& s, int64_t batch, const Logs&) {
  const int64_t step = s.epoch * s.steps + batch + 1;
  if (step % every_ == 0) look(s.model, step);
}
void PercentileRecorder::look(const Model& model, int64_t step) {
  const Tensor t = layer_inputs(model, {layer_}, x_, {.training = true})[0];
  const size_t n = size_t(t.sig().shape.dim(-1));
  const std::vector<double> v = t.to_vector<double>();
  steps.push_back(double(step));
  units.resize(n);
  for (size_t u = 0; u < n; ++u) {
    std::vector<double> mine;
    for (size_t i = u; i < v.size(); i += n) mine.push_back(v[i]);
    const std::vector<double> q = quantiles(std::move(mine), {0.15, 0.5, 0.85});
    units[u].low.push_back(q[0]), units[u].middle.push_back(q[1]), units[u].high.push_back(q[2]);
  }
}
size_t PercentileRecorder::typical() const {
  if (units.empty()) fail(Code::FailedPrecondition, {"PercentileRecorder: nothing was recorded"});
  std::vector<double> way(units.size());
  for (size_t u = 0; u < units.size(); ++u)
    for (size_t i = 1; i < units[u].middle.size(); ++i)
      way[u] += std::abs(units[u].middle[i] - units[u].middle[i - 1]);
  std::vector<size_t> order(units.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return way[a] < way[b]; });
  return order[order.size() / 2];
}

}  // namespace evenflow
