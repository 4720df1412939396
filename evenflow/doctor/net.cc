// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/net.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "evenflow/data/dataset.h"
#include "evenflow/model/layers.h"
#include "evenflow/ops/batch_norm.h"
#include "evenflow/ops/elementwise.h"

namespace evenflow::doctor {

void merge_into(ChannelStats& all, const ChannelStats& batch) {
  if (all.empty()) all.resize(batch.size());
  for (size_t c = 0; c < all.size(); ++c) all[c] = merge(all[c], batch[c]);
}
ChannelStats stats_of(const Tensor& x, const std::vector<int64_t>& axes) {
  const Statistics s = batch_norm_statistics(x, axes, {}, 0, true);
  const double n = s.n.item();
  const std::vector<double> mean = s.mean.to_vector<double>(), m2 = s.m2.to_vector<double>();
  ChannelStats r(mean.size());
  for (size_t c = 0; c < r.size(); ++c) r[c] = {n, mean[c], m2[c]};
  return r;
}

std::vector<int64_t> Norm::axes() const {
  std::vector<int64_t> r = layer->config.axis.axes;
  for (int64_t& a : r)
    if (a < 0) a += int64_t(layer->input_dims[0].size());
  std::sort(r.begin(), r.end());
  return r;
}
int64_t Norm::channels() const { return layer->moving_mean.sig().shape.count(); }
double Norm::stored_variance(const Stats& s) const {
  return layer->config.variance == BatchNormVariance::sample ? s.m2 / std::max(s.n - 1, 1.)
                                                             : population_variance(s);
}
std::vector<double> Norm::mean() const { return layer->moving_mean.read().to_vector<double>(); }
std::vector<double> Norm::variance() const {
  return layer->moving_variance.read().to_vector<double>();
}
std::vector<double> Norm::gamma() const {
  if (layer->gamma) return layer->gamma.read().to_vector<double>();
  return std::vector<double>(size_t(channels()), 1.);
}
std::vector<double> Norm::beta() const {
  if (layer->beta) return layer->beta.read().to_vector<double>();
  return std::vector<double>(size_t(channels()), 0.);
}

namespace {
// Appends the uses of a model whose inputs are those uses; returns the numbers of its outputs.
std::vector<int> unfold(Net& net, const ModelImpl& m, const std::vector<int>& inputs,
                        const std::string& path, bool trainable) {
  trainable = trainable && m.trainable.get();
  std::vector<int> at(m.calls.size(), -1);
  auto add = [&](const ModelImpl::Call& c, std::vector<int> in) {
    const int n = int(net.uses.size());
    for (int i : in) net.uses[size_t(i)].consumers.push_back(n);
    net.uses.push_back({c.layer,
                        path + c.layer->name,
                        std::move(in),
                        {},
                        c.dims,
                        trainable && c.layer->trainable.get() && !c.layer->holds_weights()});
    return n;
  };
  for (size_t i = 0; i < m.inputs.size(); ++i)
    at[size_t(m.inputs[i])] =
        add(m.calls[size_t(m.inputs[i])],
            inputs.empty() ? std::vector<int>{} : std::vector<int>{inputs[i]});
  for (size_t c = 0; c < m.calls.size(); ++c) {
    if (at[c] >= 0) continue;
    std::vector<int> in;
    for (int i : m.calls[c].inputs) in.push_back(at[size_t(i)]);
    const ModelImpl* inner = m.calls[c].layer->model();
    at[c] = inner ? unfold(net, *inner, in, path + m.calls[c].layer->name + "/", trainable)[0]
                  : add(m.calls[c], std::move(in));
  }
  std::vector<int> outputs;
  for (int o : m.outputs) outputs.push_back(at[size_t(o)]);
  if (inputs.empty()) {
    for (int i : m.inputs) net.inputs.push_back(at[size_t(i)]);
    net.outputs = outputs;
  }
  return outputs;
}

// The level of a layer that is used several times is that of its deepest use. Levels are settled
// when nothing changes; false where that takes longer than there are layers: one depends on itself.
bool find_levels(Net& net) {
  std::map<const LayerImpl*, Norm*> of;
  for (Norm& n : net.norms) of[n.layer] = &n;
  for (size_t round = 0; round <= net.norms.size(); ++round) {
    bool changed = false;
    std::vector<int> before(net.uses.size(), 0);  // the lowest level that a norm here can have
    for (size_t u = 0; u < net.uses.size(); ++u) {
      for (int i : net.uses[u].inputs) before[u] = std::max(before[u], before[size_t(i)]);
      auto it = of.find(net.uses[u].layer.get());
      if (it == of.end()) continue;
      Norm& n = *it->second;
      if (n.level < before[u]) n.level = before[u], changed = true;
      before[u] = n.level + 1;
    }
    if (!changed) return true;
  }
  return false;
}
}  // namespace

Net::Net(const Model& model) {
  if (!model.built())
    fail(Code::FailedPrecondition,
         {"model \"", model.name(), "\": it is not built, expected a call or build() first"});
  unfold(*this, model.impl(), {}, "", true);
  for (int o : outputs) uses[size_t(o)].is_output = true;
  for (size_t u = 0; u < uses.size(); ++u) {
    auto* bn = dynamic_cast<BatchNormalizationImpl*>(uses[u].layer.get());
    if (!bn) continue;
    auto it = std::find_if(norms.begin(), norms.end(), [&](auto& n) { return n.layer == bn; });
    if (it == norms.end())
      it = norms.insert(norms.end(), {bn, uses[u].path, {}, uses[u].trainable});
    it->uses.push_back(int(u));
  }
  ordered = find_levels(*this);
}
void Net::require_order(std::string_view op) const {
  if (ordered) return;
  for (const Norm& n : norms)
    if (n.uses.size() > 1)
      fail({op, ": BatchNormalization \"", n.path, "\" is used ", n.uses.size(),
            " times, one after another, expected uses that do not depend on each other"});
}
const Norm* Net::norm_of(int use) const {
  for (const Norm& n : norms)
    if (n.layer == uses[size_t(use)].layer.get()) return &n;
  return nullptr;
}
bool Net::is(int use, std::string_view class_name) const {
  return use >= 0 && uses[size_t(use)].layer->class_name() == class_name;
}
int Net::only_consumer(int use) const {
  const Use& u = uses[size_t(use)];
  return u.consumers.size() == 1 && !u.is_output ? u.consumers[0] : -1;
}

void check_data(const Net& net, const Tensor& x, std::string_view op) {
  if (net.inputs.size() != 1)
    fail(Code::Unimplemented, {op, ": the model has ", net.inputs.size(), " inputs, expected one"});
  check_data(net, x, op, 0);
}
void check_data(const Net& net, const Tensor& x, std::string_view op, size_t input) {
  if (!x) fail({op, ": x is an empty tensor"});
  const Dims& want = net.uses[size_t(net.inputs[input])].dims;
  const Shape& s = x.sig().shape;
  bool fits = s.rank() == int(want.size());
  for (int d = 1; fits && d < s.rank(); ++d) fits = want[size_t(d)] < 0 || s[d] == want[size_t(d)];
  if (!fits) fail({op, ": x is ", str(x.sig()), ", expected ", str_dims(want)});
  if (!s[0]) fail({op, ": x is ", str(x.sig()), ", expected at least one sample"});
}

namespace {
Tensor normalized(const Norm& norm, const Tensor& x, const Run& how) {
  BatchNormalizationImpl& bn = *norm.layer;
  const Tensor gamma = bn.gamma ? bn.gamma.read() : Tensor(),
               beta = bn.beta ? bn.beta.read() : Tensor();
  BatchNormAttrs attrs{.epsilon = bn.config.epsilon, .axis = bn.config.axis.axes};
  attrs.activation = bn.config.activation;
  if (how.by == Run::batch) return batch_norm(x, gamma, beta, attrs).y;
  const DType type = x.dtype() == DType::f64 ? DType::f64 : DType::f32;
  if (how.by == Run::given && how.given_stats)
    if (auto it = how.given_stats->find(&bn); it != how.given_stats->end()) {
      std::vector<double> mean, variance;
      for (const Stats& s : it->second)
        mean.push_back(s.mean), variance.push_back(norm.stored_variance(s));
      const Shape& shape = bn.moving_mean.sig().shape;
      return batch_normalize(x, constant(mean, shape, type), constant(variance, shape, type), gamma,
                             beta, attrs);
    }
  return batch_normalize(x, cast(bn.moving_mean.read(), type),
                         cast(bn.moving_variance.read(), type), gamma, beta, attrs);
}
}  // namespace

Tensors run(const Net& net, const Tensors& inputs, const Run& how) {
  std::optional<Step> step;
  if (how.by == Run::layer && how.training) step.emplace();  // drops what layers write
  std::vector<Tensor> value(net.uses.size());
  std::vector<size_t> left(net.uses.size());
  for (size_t u = 0; u < net.uses.size(); ++u) {
    const Use& use = net.uses[u];
    left[u] = use.consumers.size() + use.is_output;
    Tensors in;
    bool there = true;
    for (int i : use.inputs) in.push_back(value[size_t(i)]), there = there && value[size_t(i)];
    for (int i : use.inputs)
      if (!--left[size_t(i)]) value[size_t(i)] = Tensor();
    if (!there) continue;
    if (use.inputs.empty())
      in = {inputs.at(
          size_t(std::find(net.inputs.begin(), net.inputs.end(), int(u)) - net.inputs.begin()))};
    const bool input = use.layer->class_name() == "InputLayer";
    const DType type =
        input ? parse_dtype(static_cast<InputLayerImpl&>(*use.layer).config.input_dtype)
              : use.layer->compute_dtype();
    for (Tensor& t : in)
      if (input || is_floating(t.dtype())) t = cast(t, type);
    const Norm* norm = net.norm_of(int(u));
    if (input)
      value[u] = in[0];
    else if (!norm)
      value[u] = (*use.layer)(in, {});
    else if (norm->level < how.levels)
      value[u] = how.by == Run::layer ? (*use.layer)(in, {.training = how.training})
                                      : normalized(*norm, in[0], how);
    if (how.see) how.see(int(u), in, value[u]);
    if (!left[u]) value[u] = Tensor();
  }
  Tensors r;
  for (int o : net.outputs) {
    r.push_back(value[size_t(o)]);
    if (r.back()) r.back().data();
  }
  return r;
}

Tensor run_batches(const Net& net, const Tensor& x, int64_t batch_size, const Run& how) {
  const Dataset data = Dataset(Tensors{x}).batch(batch_size);
  Sig sig;
  BufferPtr all;
  int64_t at = 0;
  for (int64_t i = 0; i < data.batches(); ++i) {
    const Tensor y = run(net, {data.batch_at(i)[0]}, how)[0];
    if (!y) continue;
    if (!all) {
      sig = {y.dtype(), y.sig().shape.with(0, x.sig().shape[0])};
      all = make_buffer(sig.bytes());
    }
    std::memcpy(static_cast<char*>(all->data()) + at, y.data(), size_t(y.sig().bytes()));
    at += y.sig().bytes();
  }
  return all ? tensor(sig, all) : Tensor();
}

Tensors random_inputs(const Net& net, int64_t samples) {
  Tensors r;
  for (int i : net.inputs) {
    Dims d = net.uses[size_t(i)].dims;
    for (int64_t& e : d)
      if (e < 0) e = 32;
    d[0] = samples;
    int64_t rows = 0;
    for (int k : net.uses[size_t(i)].consumers)
      if (auto* e = dynamic_cast<EmbeddingImpl*>(net.uses[size_t(k)].layer.get()))
        rows = rows ? std::min(rows, e->config.input_dim) : e->config.input_dim;
    const Shape s(d);
    const uint64_t seed = 1 + uint64_t(i);
    const Tensor x = tensor(rows ? Initializer("RandomUniform", 0, double(rows))(s, seed)
                                 : Initializer("RandomNormal", 0, 1)(s, seed),
                            s);
    r.push_back(rows ? cast(minimum(x, double(rows - 1)), DType::i64) : x);
  }
  return r;
}

}  // namespace evenflow::doctor
