// SPDX-License-Identifier: Apache-2.0
#include "evenflow/model/model.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "evenflow/graph/compile.h"
#include "evenflow/model/layers.h"
#include "evenflow/ops/elementwise.h"

namespace evenflow {
namespace {
void check_names(const ModelImpl& m) {
  check_name("model", m.name);
  std::set<std::string> seen;
  for (auto& l : m.layers)
    if (!seen.insert(l->name).second)
      fail({"model \"", m.name, "\": two layers have the name \"", l->name,
            "\", expected different names"});
}
void add_call(ModelImpl& m, const std::shared_ptr<LayerImpl>& layer, std::vector<int> inputs) {
  std::vector<Dims> dims;
  for (int i : inputs) dims.push_back(m.calls[size_t(i)].dims);
  ModelImpl::Call c{layer, std::move(inputs), {}, 0};
  for (auto& old : m.calls) c.number += old.layer == layer;
  layer->ensure_built(dims);
  c.dims = layer->output_dims(dims);
  m.calls.push_back(std::move(c));
}
bool is_input(const LayerImpl& l) { return l.class_name() == "InputLayer"; }
// The extents of the outputs for these of the inputs.
std::vector<Dims> dims_through(const ModelImpl& m, const std::vector<Dims>& inputs) {
  auto refuse = [&](size_t i, std::string_view expected) {
    fail({m.class_name, " \"", m.name, "\": input ", i, " is ", str_dims(inputs[i]), ", expected ",
          expected});
  };
  if (m.calls.empty()) {  // a Sequential that is not built
    if (inputs.size() != 1)
      fail({"Sequential \"", m.name, "\": ", inputs.size(), " inputs were given, expected 1"});
    Dims d = inputs[0];
    for (auto& l : m.layers) d = l->output_dims({d});
    return {d};
  }
  if (inputs.size() != m.inputs.size())
    fail({m.class_name, " \"", m.name, "\": ", inputs.size(), " inputs were given, expected ",
          m.inputs.size()});
  std::vector<Dims> at(m.calls.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Dims& want = m.calls[size_t(m.inputs[i])].dims;
    bool fits = want.size() == inputs[i].size();
    for (size_t d = 1; fits && d < want.size(); ++d)
      fits = want[d] < 0 || inputs[i][d] < 0 || want[d] == inputs[i][d];
    if (!fits) refuse(i, str_dims(want));
    at[size_t(m.inputs[i])] = inputs[i];
  }
  for (size_t c = 0; c < m.calls.size(); ++c) {
    if (is_input(*m.calls[c].layer)) continue;
    std::vector<Dims> in;
    for (int i : m.calls[c].inputs) in.push_back(at[size_t(i)]);
    at[c] = m.calls[c].layer->output_dims(in);
  }
  std::vector<Dims> r;
  for (int i : m.outputs) r.push_back(at[size_t(i)]);
  return r;
}

// A model as a layer of another. Weights and state are those of its layers.
class ModelLayer : public LayerImpl {
 public:
  explicit ModelLayer(Model m) : model_(std::move(m)) {
    name = impl().name, trainable = impl().trainable;
    if (model_.built() && impl().outputs.size() != 1)
      fail(Code::Unimplemented, {"model \"", name, "\": it has ", impl().outputs.size(),
                                 " outputs, expected one in a layer"});
  }
  std::string_view class_name() const override { return impl().class_name; }
  Dims output_dims(const std::vector<Dims>& in) const override {
    return dims_through(impl(), in)[0];
  }
  void build(const std::vector<Dims>& in) override {
    if (!model_.built()) model_.build(in[0]);
  }
  Tensor call(const Tensors& x, const CallContext& context) override {
    return model_.call(x, context)[0];
  }
  bool takes_many_inputs() const override { return impl().inputs.size() > 1; }
  void set_trainable(bool t) override { model_.set_trainable(t); }
  ModelImpl* model() const override { return &impl(); }

 private:
  ModelImpl& impl() const { return model_.impl(); }
  Model model_;
};

void build_sequential(ModelImpl& m, const Dims& input) {
  ModelImpl made;  // takes its place when all went well
  made.name = m.name, made.layers = m.layers;
  if (made.layers.empty() || !is_input(*made.layers[0])) {
    auto layer = std::make_shared<InputLayerImpl>();
    layer->config.batch_shape = input;
    layer->name = automatic_name("InputLayer");
    layer->built = true;
    made.layers.insert(made.layers.begin(), layer);
  }
  check_names(made);
  add_call(made, made.layers[0], {});
  for (size_t i = 1; i < made.layers.size(); ++i) add_call(made, made.layers[i], {int(i) - 1});
  m.inputs = {0}, m.outputs = {int(made.calls.size()) - 1};
  m.layers = std::move(made.layers), m.calls = std::move(made.calls);
  m.predict_step = made.predict_step;  // what was compiled before is of the past
}
}  // namespace

ModelImpl::ModelImpl()
    : predict_step(std::make_shared<Function>(CompileOptions(), Where::current())) {}
void ModelImpl::order_layers() {
  std::map<const LayerImpl*, size_t> met;
  std::vector<size_t> order;  // calls, inputs first
  std::vector<bool> seen(calls.size());
  for (int out : outputs) {
    std::vector<std::pair<size_t, size_t>> stack;
    auto enter = [&](int i) {
      if (seen[size_t(i)]) return;
      seen[size_t(i)] = true;
      met.emplace(calls[size_t(i)].layer.get(), met.size());
      stack.emplace_back(size_t(i), 0);
    };
    enter(out);
    while (!stack.empty()) {
      auto& [c, next] = stack.back();
      if (next < calls[c].inputs.size()) {
        enter(calls[c].inputs[next++]);
        continue;
      }
      order.push_back(c);
      stack.pop_back();
    }
  }
  std::vector<int64_t> depth(calls.size());
  std::map<const LayerImpl*, int64_t> deepest;
  for (size_t k = order.size(); k-- > 0;) {
    const Call& c = calls[order[k]];
    int64_t& d = deepest[c.layer.get()];
    d = std::max(d, depth[order[k]]);
    for (int i : c.inputs) depth[size_t(i)] = std::max(depth[size_t(i)], d + 1);
  }
  std::vector<std::tuple<int64_t, int64_t, std::shared_ptr<LayerImpl>>> keys;
  for (auto& l : layers) {
    auto it = met.find(l.get());
    if (it == met.end() && !is_input(*l))
      fail({"model \"", name, "\": no output depends on layer \"", l->name, "\""});
    keys.emplace_back(-deepest[l.get()], it == met.end() ? -1 : int64_t(it->second), l);
  }
  std::stable_sort(keys.begin(), keys.end(), [](auto& a, auto& b) {
    return std::tie(std::get<0>(a), std::get<1>(a)) < std::tie(std::get<0>(b), std::get<1>(b));
  });
  for (size_t i = 0; i < keys.size(); ++i) layers[i] = std::get<2>(keys[i]);
}

std::vector<ModelImpl::Leaf> ModelImpl::leaves() const {
  std::vector<Leaf> r;
  std::set<const LayerImpl*> seen;
  auto visit = [&](auto& self, const ModelImpl& m, const std::string& path, bool on) -> void {
    on = on && m.trainable.get();
    for (auto& l : m.layers) {
      if (!seen.insert(l.get()).second) continue;
      if (const ModelImpl* inner = l->model()) {
        self(self, *inner, path + l->name + "/", on);
        continue;
      }
      std::string name = path + l->name;
      bool trained = on && l->trainable.get() && !l->holds_weights();
      r.push_back({name, l, trained});
      for (auto w = l->wrapped(); w && seen.insert(w.get()).second; w = w->wrapped()) {
        name += "/" + w->name, trained = trained && w->trainable.get() && !w->holds_weights();
        r.push_back({name, w, trained});
      }
    }
  };
  visit(visit, *this, "", true);
  return r;
}

Model::Model(const std::vector<SymbolicTensor>& inputs, const std::vector<SymbolicTensor>& outputs,
             std::string name)
    : impl_(std::make_shared<ModelImpl>()) {
  ModelImpl& m = *impl_;
  m.class_name = "Functional",
  m.name = name.empty() ? automatic_name("Functional") : std::move(name);
  if (inputs.empty() || outputs.empty())
    fail({"model: expected at least one input and one output"});
  std::map<const SymbolicTensor::Source*, int> number;
  std::set<LayerImpl*> known;
  auto add = [&](const SymbolicTensor& t, std::vector<int> in) {
    number[t.source.get()] = int(m.calls.size());
    if (known.insert(t.source->layer.get()).second) m.layers.push_back(t.source->layer);
    add_call(m, t.source->layer, std::move(in));
    return number[t.source.get()];
  };
  for (auto& t : inputs) {
    if (!t.source || t.source->layer->class_name() != "InputLayer")
      fail({"model: an input is not the result of Input()"});
    m.inputs.push_back(add(t, {}));
  }
  for (auto& out : outputs) {
    if (!out.source) fail({"model: an output is empty"});
    std::vector<std::pair<const SymbolicTensor*, size_t>> stack{
        {&out, 0}};  // depth first, without recursion
    while (!stack.empty()) {
      auto& [t, next] = stack.back();
      if (number.count(t->source.get())) {
        stack.pop_back();
        continue;
      }
      if (t->source->layer->class_name() == "InputLayer")
        fail({"model: output depends on input \"", t->source->layer->name,
              "\", which is not among the inputs"});
      if (next < t->source->inputs.size()) {
        const SymbolicTensor* child = &t->source->inputs[next++];
        stack.push_back({child, 0});
        continue;
      }
      std::vector<int> in;
      for (auto& x : t->source->inputs) in.push_back(number.at(x.source.get()));
      const SymbolicTensor* done = t;
      stack.pop_back();
      add(*done, std::move(in));
    }
    m.outputs.push_back(number.at(out.source.get()));
  }
  check_names(m);
  m.order_layers();
}

ModelImpl& Model::impl() const {
  if (!impl_) fail(Code::FailedPrecondition, {"model: it is empty"});
  return *impl_;
}
bool Model::built() const { return !impl().calls.empty(); }
void Model::build(const Dims& input) const {
  ModelImpl& m = impl();
  if (m.class_name != "Sequential")
    fail(Code::FailedPrecondition, {"build: a functional model is built already"});
  if (input.empty())
    fail({"build: input is ", str_dims(input), ", expected the batch extent (-1) first"});
  if (!built()) build_sequential(m, input);
}

Tensors Model::call(const Tensors& inputs, CallContext context) const {
  ModelImpl& m = impl();
  if (!built() && inputs.size() == 1 && inputs[0]) {
    Dims d(inputs[0].sig().shape.begin(), inputs[0].sig().shape.end());
    if (!d.empty()) d[0] = -1;
    build(d);
  }
  if (inputs.size() != m.inputs.size())
    fail({"model \"", m.name, "\": ", inputs.size(), " inputs were given, expected ",
          m.inputs.size()});
  std::vector<Tensor> value(m.calls.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i]) fail({"model \"", m.name, "\": input ", i, " is an empty tensor"});
    const Dims& want = m.calls[size_t(m.inputs[i])].dims;
    const Shape& s = inputs[i].sig().shape;
    bool fits = s.rank() == int(want.size());
    for (int d = 1; fits && d < s.rank(); ++d)
      fits = want[size_t(d)] < 0 || s[d] == want[size_t(d)];
    if (!fits)
      fail({"model \"", m.name, "\": input ", i, " is ", str(inputs[i].sig()), ", expected ",
            str_dims(want)});
    auto& layer = static_cast<InputLayerImpl&>(*m.calls[size_t(m.inputs[i])].layer);
    value[size_t(m.inputs[i])] = cast(inputs[i], parse_dtype(layer.config.input_dtype));
  }
  for (size_t c = 0; c < m.calls.size(); ++c) {
    auto& call = m.calls[c];
    if (is_input(*call.layer)) continue;
    Tensors in;
    for (int i : call.inputs) in.push_back(value[size_t(i)]);
    value[c] = (*call.layer)(in, context);
  }
  Tensors r;
  for (int i : m.outputs) r.push_back(value[size_t(i)]);
  return r;
}
Tensor Model::operator()(const Tensor& x, CallContext context) const {
  Tensors r = call({x}, context);
  if (r.size() != 1)
    fail({"model \"", name(), "\": it has ", r.size(), " outputs, expected one; use call()"});
  return r[0];
}

const std::string& Model::name() const { return impl().name; }
std::vector<Layer> Model::layers() const {
  std::vector<Layer> r;
  for (auto& l : impl().layers)
    if (!is_input(*l)) r.emplace_back(l);
  return r;
}
Layer Model::get_layer(std::string_view name) const {
  for (auto& l : impl().layers)
    if (l->name == name) return Layer(l);
  fail(Code::NotFound, {"model \"", this->name(), "\": no layer has the name \"", name, "\""});
}
std::vector<Weight> Model::trainable_weights() const {
  std::vector<Weight> r;
  for (auto& l : impl().leaves())
    for (auto& w : l.layer->weights)
      if (w.trainable && l.trainable) r.push_back(w);
  return r;
}
std::vector<Weight> Model::non_trainable_weights() const {
  std::vector<Weight> r;
  for (auto& l : impl().leaves())
    for (auto& w : l.layer->weights)
      if (!w.trainable || !l.trainable) r.push_back(w);
  return r;
}
std::vector<Weight> Model::weights() const {
  std::vector<Weight> r;
  for (auto& l : impl().leaves())
    r.insert(r.end(), l.layer->weights.begin(), l.layer->weights.end());
  return r;
}
int64_t Model::count_params() const {
  int64_t n = 0;
  for (auto& w : weights()) n += w.variable.sig().shape.count();
  return n;
}
void Model::set_trainable(bool t) const {
  impl().trainable.set(t);
  for (auto& l : impl().layers) l->set_trainable(t);
}
std::vector<Dims> Model::input_dims() const {
  std::vector<Dims> r;
  for (int i : impl().inputs) r.push_back(impl().calls[size_t(i)].dims);
  return r;
}
std::vector<Dims> Model::output_dims() const {
  std::vector<Dims> r;
  for (int i : impl().outputs) r.push_back(impl().calls[size_t(i)].dims);
  return r;
}

// ---- Sequential ----
Sequential::Sequential(const std::vector<Layer>& layers, std::string name) {
  impl_ = std::make_shared<ModelImpl>();
  impl_->class_name = "Sequential";
  impl_->name = name.empty() ? automatic_name("Sequential") : std::move(name);
  for (auto& l : layers) add(l);
}
void Sequential::add(const Layer& layer) {
  ModelImpl& m = impl();
  if (!layer.impl()) fail({"Sequential \"", m.name, "\": the layer is empty"});
  const bool open =
      !m.layers.empty() && is_input(*m.layers[0]);  // it has an Input: built as it grows
  if (built() && (!open || m.training))
    fail(Code::FailedPrecondition,
         {"Sequential \"", m.name, "\": it was ", m.training ? "compiled" : "built", " already"});
  if (is_input(*layer.impl()) && !m.layers.empty())
    fail({"Sequential \"", m.name, "\": Input is not the first layer"});
  m.layers.push_back(layer.impl());
  try {
    check_names(m);
    if (is_input(*m.layers[0])) build_sequential(m, {});
  } catch (...) {
    m.layers.pop_back();
    throw;
  }
}
Layer to_layer(const SymbolicTensor& input) {
  if (!input.source) fail({"to_layer: the tensor is empty"});
  if (!is_input(*input.source->layer)) fail({"to_layer: the tensor is not the result of Input()"});
  return Layer(input.source->layer);
}
Layer to_layer(const Model& model) { return Layer(std::make_shared<ModelLayer>(model)); }

}  // namespace evenflow
