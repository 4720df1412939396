// SPDX-License-Identifier: Apache-2.0
#include "evenflow/model/model.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "evenflow/model/layers.h"

namespace evenflow {
namespace {
void check_names(const ModelImpl& m) {
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
void build_sequential(ModelImpl& m, const Dims& input) {
  m.calls.clear(), m.inputs.clear(), m.outputs.clear();
  size_t first = 0;
  if (m.layers.empty() || m.layers[0]->class_name() != "InputLayer") {
    auto layer = std::make_shared<InputLayerImpl>();
    layer->config.batch_shape = input;
    layer->name = automatic_name("InputLayer");
    m.layers.insert(m.layers.begin(), layer);
  }
  add_call(m, m.layers[first], {});
  for (size_t i = 1; i < m.layers.size(); ++i) add_call(m, m.layers[i], {int(i) - 1});
  m.inputs = {0}, m.outputs = {int(m.calls.size()) - 1};
  check_names(m);
}
}  // namespace

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
    m.calls.back().number = t.source->call;
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
    value[size_t(m.inputs[i])] = inputs[i];
  }
  for (size_t c = 0; c < m.calls.size(); ++c) {
    auto& call = m.calls[c];
    if (call.layer->class_name() == "InputLayer") continue;
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
    if (l->class_name() != "InputLayer") r.emplace_back(l);
  return r;
}
Layer Model::get_layer(std::string_view name) const {
  for (auto& l : impl().layers)
    if (l->name == name) return Layer(l);
  fail(Code::NotFound, {"model \"", this->name(), "\": no layer has the name \"", name, "\""});
}
std::vector<Weight> Model::trainable_weights() const {
  std::vector<Weight> r;
  for (auto& l : impl().layers)
    for (auto& w : l->weights)
      if (w.trainable && l->trainable.get()) r.push_back(w);
  return r;
}
std::vector<Weight> Model::non_trainable_weights() const {
  std::vector<Weight> r;
  for (auto& l : impl().layers)
    for (auto& w : l->weights)
      if (!w.trainable || !l->trainable.get()) r.push_back(w);
  return r;
}
std::vector<Weight> Model::weights() const {
  std::vector<Weight> r;
  for (auto& l : impl().layers) r.insert(r.end(), l->weights.begin(), l->weights.end());
  return r;
}
int64_t Model::count_params() const {
  int64_t n = 0;
  for (auto& w : weights()) n += w.variable.sig().shape.count();
  return n;
}
void Model::set_trainable(bool t) const {
  for (auto& l : impl().layers) l->trainable.set(t);
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

// ---- Sequential
// ---------------------------------------------------------------------------------------------------------
Sequential::Sequential(const std::vector<Layer>& layers, std::string name) {
  impl_ = std::make_shared<ModelImpl>();
  impl_->class_name = "Sequential";
  impl_->name = name.empty() ? automatic_name("Sequential") : std::move(name);
  for (auto& l : layers) add(l);
}
void Sequential::add(const Layer& layer) {
  ModelImpl& m = impl();
  if (!layer.impl()) fail({"Sequential \"", m.name, "\": the layer is empty"});
  if (!m.layers.empty() && m.layers[0]->class_name() == "InputLayer") {
    for (auto& l : m.layers)
      if (l == layer.impl())
        fail({"Sequential \"", m.name, "\": layer \"", layer.name(), "\" is in it already"});
    if (m.training)
      fail(Code::FailedPrecondition, {"Sequential \"", m.name, "\": it was compiled already"});
    m.layers.push_back(layer.impl());
    build_sequential(m, {});
    return;
  }
  if (built())
    fail(Code::FailedPrecondition, {"Sequential \"", m.name, "\": it was built already"});
  m.layers.push_back(layer.impl());
  if (layer.impl()->class_name() == "InputLayer") {
    if (m.layers.size() > 1) fail({"Sequential \"", m.name, "\": Input is not the first layer"});
    build_sequential(m, {});
  }
}
Layer to_layer(const SymbolicTensor& input) {
  if (!input.source) fail({"to_layer: the tensor is empty"});
  return Layer(input.source->layer);
}

// ---- summary
// --------------------------------------------------------------------------------------------------------------
namespace {
std::string grouped(int64_t n) {
  std::string s = std::to_string(n);
  for (int i = int(s.size()) - 3; i > 0; i -= 3) s.insert(size_t(i), ",");
  return s;
}
std::string memory(int64_t bytes) {
  char b[40];
  const double n = double(bytes);
  if (bytes < 1024)
    std::snprintf(b, sizeof b, "%.2f B", n);
  else if (bytes < 1 << 20)
    std::snprintf(b, sizeof b, "%.2f KB", n / 1024);
  else if (bytes < 1 << 30)
    std::snprintf(b, sizeof b, "%.2f MB", n / (1 << 20));
  else
    std::snprintf(b, sizeof b, "%.2f GB", n / (1 << 30));
  return b;
}
size_t width(const std::string& s) {  // columns of UTF-8 text
  size_t n = 0;
  for (char c : s) n += (c & 0xc0) != 0x80;
  return n;
}
}  // namespace

std::string Model::summary() const {
  const ModelImpl& m = impl();
  const bool functional = m.class_name == "Functional";
  std::vector<std::vector<std::string>> rows{{"Layer (type)", "Output Shape", "Param #"}};
  if (functional) rows[0].push_back("Connected to");
  std::set<const LayerImpl*> counted;
  for (auto& l : m.layers) {
    if (!functional && l->class_name() == "InputLayer") continue;
    int64_t n = 0;
    for (auto& w : l->weights) n += w.variable.sig().shape.count();
    std::string kind = l->name + " (" + std::string(l->class_name()) + ")", mode = l->mode(),
                dims = "?", from;
    if (!mode.empty()) kind += " [" + mode + "]";
    for (auto& c : m.calls)
      if (c.layer == l) {
        if (dims == "?") dims = str_dims(c.dims);
        for (int i : c.inputs) from += (from.empty() ? "" : ", ") + m.calls[size_t(i)].layer->name;
      }
    rows.push_back({kind, dims, built() || l->built ? grouped(n) : "0 (unbuilt)"});
    if (functional) rows.back().push_back(from.empty() ? "-" : from);
  }
  std::vector<size_t> w(rows[0].size());
  for (auto& r : rows)
    for (size_t i = 0; i < r.size(); ++i) w[i] = std::max(w[i], width(r[i]));
  auto line = [&](const char* left, const char* fill, const char* mid, const char* right) {
    std::string s = left;
    for (size_t i = 0; i < w.size(); ++i) {
      for (size_t k = 0; k < w[i] + 2; ++k) s += fill;
      s += i + 1 < w.size() ? mid : right;
    }
    return s + "\n";
  };
  std::string s = "Model: \"" + m.name + "\"\n" + line("┏", "━", "┳", "┓");
  for (size_t r = 0; r < rows.size(); ++r) {
    const char* bar = r ? "│" : "┃";
    for (size_t i = 0; i < w.size(); ++i) {
      const std::string pad(w[i] - width(rows[r][i]), ' ');
      s += std::string(bar) + " " + (i == 2 ? pad + rows[r][i] : rows[r][i] + pad) + " ";
    }
    s += std::string(bar) + "\n";
    if (r + 1 == rows.size())
      s += line("└", "─", "┴", "┘");
    else
      s += r ? line("├", "─", "┼", "┤") : line("┡", "━", "╇", "┩");
  }
  auto total = [](const std::vector<Weight>& ws) {
    int64_t n = 0, bytes = 0;
    for (auto& x : ws) n += x.variable.sig().shape.count(), bytes += x.variable.sig().bytes();
    return grouped(n) + " (" + memory(bytes) + ")\n";
  };
  s += " Total params: " + total(weights());
  s += " Trainable params: " + total(trainable_weights());
  s += " Non-trainable params: " + total(non_trainable_weights());
  return s;
}

}  // namespace evenflow
