// SPDX-License-Identifier: Apache-2.0
#include "evenflow/model/keras_graph.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "evenflow/model/keras_config.h"
#include "evenflow/model/layers.h"

namespace evenflow {
namespace {
using format::Json;
using format::JsonValue;
constexpr int64_t kMaxLayers = 10000, kMaxInputs = 1000;

// Where a model's outputs are named, Keras counts the uses of a functional model within it from 1.
int64_t first_end(const LayerImpl& l) { return l.class_name() == "Functional" ? 1 : 0; }

// ---- writing ----
Json reference_json(const ModelImpl::Call& c, int64_t first = 0) {
  return Json::array({c.layer->name, c.number + first, 0});
}
Json keras_tensor(const ModelImpl::Call& c) {
  return {
      {"class_name", "__keras_tensor__"},
      {"config",
       {{"shape", dims_json(c.dims)}, {"dtype", "float32"}, {"keras_history", reference_json(c)}}}};
}
Json any_layer_json(LayerImpl& l) {
  if (!l.model()) return layer_json(l);
  Json j = model_json(*l.model());
  j["config"]["name"] = l.name;
  return j;
}
Json sequential_json(const ModelImpl& m) {
  Json layers = Json::array();
  for (auto& l : m.layers) layers.push_back(any_layer_json(*l));
  const Json shape = dims_json(m.calls[0].dims);
  return {{"module", "keras"},
          {"class_name", "Sequential"},
          {"config",
           {{"name", m.name},
            {"trainable", bool(m.trainable.get())},
            {"dtype", policy_json("float32")},
            {"layers", layers},
            {"build_input_shape", shape}}},
          {"registered_name", nullptr},
          {"build_config", {{"input_shape", shape}}}};
}
Json functional_json(const ModelImpl& m) {
  Json layers = Json::array();
  for (auto& l : m.layers) {
    std::map<int64_t, Json> nodes;  // in the order of their numbers
    for (auto& c : m.calls) {
      if (c.layer != l || c.inputs.empty()) continue;
      Json in = Json::array();
      for (int k : c.inputs) in.push_back(keras_tensor(m.calls[size_t(k)]));
      if (!l->takes_many_inputs()) in = Json(in[0]);
      nodes[c.number] = {{"args", Json::array({in})}, {"kwargs", Json::object()}};
    }
    Json one = any_layer_json(*l);
    one["name"] = l->name;
    one["inbound_nodes"] = Json::array();
    for (auto& [number, node] : nodes) one["inbound_nodes"].push_back(std::move(node));
    layers.push_back(std::move(one));
  }
  auto ends = [&](const std::vector<int>& ids) {
    Json all = Json::array();
    for (int i : ids)
      all.push_back(reference_json(m.calls[size_t(i)], first_end(*m.calls[size_t(i)].layer)));
    return all.size() == 1 ? Json(all[0]) : all;
  };
  return {{"module", "keras.src.models.functional"},  // where Keras 3 looks for it
          {"class_name", "Functional"},
          {"config",
           {{"name", m.name},
            {"trainable", bool(m.trainable.get())},
            {"layers", layers},
            {"input_layers", ends(m.inputs)},
            {"output_layers", ends(m.outputs)}}},
          {"registered_name", "Functional"},
          {"build_config", {{"input_shape", nullptr}}}};
}

// ---- reading ----
struct Reference {
  std::string layer;
  int64_t node;
  JsonValue place;
};
Reference reference(const JsonValue& j) {
  if (!j.is_array() || j.size() != 3) j.refuse("[layer, node, tensor]");
  if (j[2].integer() != 0) j[2].refuse("0 (layers have one output)", Code::Unimplemented);
  return {j[0].string(), j[1].integer(0), j};
}
std::vector<Reference> references(const JsonValue& j) {
  if (j.is_array() && j.size() && j[0].is_string()) return {reference(j)};
  std::vector<Reference> r;
  if (j.size() > kMaxInputs)
    j.refuse(concat({"at most ", kMaxInputs, " ends"}), Code::ResourceExhausted);
  for (int64_t i = 0; i < j.size(); ++i) r.push_back(reference(j[i]));
  return r;
}
// Arguments of a call: tensors of the model, or a list of them.
void arguments(const JsonValue& j, std::vector<Reference>& r, bool within = false) {
  if (j.is_object()) {
    if (j["class_name"].string() != "__keras_tensor__")
      j["class_name"].refuse("__keras_tensor__", Code::Unimplemented);
    return r.push_back(reference(j["config"]["keras_history"]));
  }
  if (!j.is_array() || within) j.refuse("a tensor of the model", Code::Unimplemented);
  if (j.size() > kMaxInputs)
    j.refuse(concat({"at most ", kMaxInputs, " inputs"}), Code::ResourceExhausted);
  for (int64_t i = 0; i < j.size(); ++i) arguments(j[i], r, true);
}
std::vector<Reference> arguments_of(const JsonValue& node) {
  const JsonValue args = node["args"], kwargs = node["kwargs"];
  // The mode of a run overrides what the call said of training.
  for (auto& key : kwargs.keys()) {
    const JsonValue v = kwargs[key];
    bool nothing = v.is_null() || (key == "training" && v.is_boolean());
    if (key == "mask" && v.is_array()) {  // one for each input
      nothing = true;
      for (int64_t i = 0; i < v.size(); ++i) nothing = nothing && v[i].is_null();
    }
    if (!nothing) v.refuse("no such argument", Code::Unimplemented);
  }
  std::vector<Reference> r;
  if (args.size() != 1) args.refuse("one argument: a tensor, or a list of them");
  arguments(args[0], r);
  if (r.empty()) args.refuse("at least one input");
  return r;
}

void check_input(InputLayerImpl& l, const JsonValue& config) {
  if (auto d = config.find("dtype")) {
    try {
      l.config.input_dtype = numpy_name(parse_dtype(d->string()));
    } catch (const Error&) {
      d->refuse("an element type", Code::Unimplemented);
    }
  }
  const auto shape = config.find("batch_shape");
  if (!shape) config.refuse("a batch_shape");
  if (l.config.batch_shape.empty()) shape->refuse("the batch extent first");
  l.config.batch_shape[0] = -1;
  l.built = true;
}
std::shared_ptr<LayerImpl> any_layer(const JsonValue& j) {
  const std::string& kind = j["class_name"].string();
  if (kind == "Sequential" || kind == "Functional") return to_layer(model_from_json(j)).impl();
  auto l = layer_from_json(j);
  if (auto* input = dynamic_cast<InputLayerImpl*>(l.get())) check_input(*input, j["config"]);
  return l;
}
// What the layers refuse, with the place in the file.
template <class F>
auto at_place(const JsonValue& place, F f) {
  try {
    return f();
  } catch (const Error& e) {
    const bool ours = e.code() == Code::InvalidArgument || e.code() == Code::OutOfRange;
    if (!ours && e.code() != Code::ResourceExhausted) throw;
    fail(ours ? Code::DataLoss : e.code(), {place.place(), ": ", e.what()});
  }
}

std::vector<JsonValue> layers_of(const JsonValue& config) {
  const JsonValue layers = config["layers"];
  if (!layers.is_array()) layers.refuse("an array of layers");
  if (layers.size() > kMaxLayers)
    layers.refuse(concat({"at most ", kMaxLayers, " layers"}), Code::ResourceExhausted);
  std::vector<JsonValue> r;
  for (int64_t i = 0; i < layers.size(); ++i) r.push_back(layers[i]);
  return r;
}

Model sequential_from(const JsonValue& config) {
  auto impl = std::make_shared<ModelImpl>();
  impl->class_name = "Sequential", impl->name = config["name"].string();
  for (auto& j : layers_of(config)) {
    impl->layers.push_back(any_layer(j));
    if (impl->layers.size() > 1 && impl->layers.back()->class_name() == "InputLayer")
      j.refuse("no input layer but the first");
  }
  Model model(impl);
  auto shape = config.find("build_input_shape");
  if (impl->layers.empty()) config["layers"].refuse("at least one layer");
  const bool input = impl->layers[0]->class_name() == "InputLayer";
  if (!input && !(shape && shape->is_array() && shape->size()))
    config.refuse("a model that was built (an InputLayer or build_input_shape)",
                  Code::Unimplemented);
  Dims d = input ? impl->layers[0]->output_dims({}) : dims_from_json(*shape);
  d[0] = -1;
  at_place(config, [&] { model.build(d); });
  return model;
}

Model functional_from(const JsonValue& config) {
  auto impl = std::make_shared<ModelImpl>();
  ModelImpl& m = *impl;
  m.class_name = "Functional", m.name = config["name"].string();
  struct Use {
    std::shared_ptr<LayerImpl> layer;
    std::vector<Reference> in;
    int64_t number;
    JsonValue place;
  };
  std::vector<Use> uses;
  std::map<std::pair<std::string, int64_t>, size_t> by_name;
  std::set<std::string> names;
  for (auto& j : layers_of(config)) {
    auto l = any_layer(j);
    if (!names.insert(l->name).second) j["config"]["name"].refuse("a name of its own");
    if (auto n = j.find("name"); n && n->string() != l->name) n->refuse("\"" + l->name + "\"");
    m.layers.push_back(l);
    if (l->class_name() == "InputLayer") {
      by_name[{l->name, 0}] = uses.size();
      uses.push_back({l, {}, 0, j});
      continue;
    }
    const JsonValue nodes = j["inbound_nodes"];
    if (!nodes.is_array() || !nodes.size()) nodes.refuse("at least one use of the layer");
    if (nodes.size() > kMaxInputs)
      nodes.refuse(concat({"at most ", kMaxInputs, " uses"}), Code::ResourceExhausted);
    for (int64_t k = 0; k < nodes.size(); ++k) {
      by_name[{l->name, k}] = uses.size();
      uses.push_back({l, arguments_of(nodes[k]), k, nodes[k]});
    }
  }
  // Order of execution: Kahn's algorithm, in the order of the file where that is free.
  std::vector<std::vector<size_t>> users(uses.size());
  std::vector<size_t> missing(uses.size()), at(uses.size(), SIZE_MAX);
  auto find = [&](const Reference& r) {
    auto it = by_name.find({r.layer, r.node});
    if (it == by_name.end())
      r.place.refuse("the name of a layer, and the number of one of its uses");
    return it->second;
  };
  for (size_t u = 0; u < uses.size(); ++u)
    for (auto& r : uses[u].in) users[find(r)].push_back(u), ++missing[u];
  std::set<size_t> ready;
  for (size_t u = 0; u < uses.size(); ++u)
    if (!missing[u]) ready.insert(u);
  while (!ready.empty()) {
    const size_t u = *ready.begin();
    ready.erase(ready.begin());
    ModelImpl::Call c{uses[u].layer, {}, {}, uses[u].number};
    std::vector<Dims> dims;
    for (auto& r : uses[u].in)
      c.inputs.push_back(int(at[find(r)])), dims.push_back(m.calls[at[find(r)]].dims);
    c.dims = at_place(uses[u].place, [&] {
      c.layer->ensure_built(dims);
      return c.layer->output_dims(dims);
    });
    at[u] = m.calls.size();
    m.calls.push_back(std::move(c));
    for (size_t v : users[u])
      if (!--missing[v]) ready.insert(v);
  }
  for (size_t u = 0; u < uses.size(); ++u)
    if (missing[u]) uses[u].place.refuse("a graph without cycles");
  for (auto& r : references(config["input_layers"])) {
    m.inputs.push_back(int(at[find(r)]));
    if (m.calls[size_t(m.inputs.back())].layer->class_name() != "InputLayer")
      r.place.refuse("an input layer");
  }
  for (Reference& r : references(config["output_layers"])) {
    for (auto& l : m.layers)
      if (l->name == r.layer) r.node -= first_end(*l);
    m.outputs.push_back(int(at[find(r)]));
  }
  if (m.inputs.empty()) config["input_layers"].refuse("at least one input");
  if (m.outputs.empty()) config["output_layers"].refuse("at least one output");
  std::set<int> given(m.inputs.begin(), m.inputs.end());
  if (given.size() != m.inputs.size()) config["input_layers"].refuse("each input once");
  for (size_t c = 0; c < m.calls.size(); ++c)
    if (m.calls[c].inputs.empty() && !given.count(int(c)))
      config["input_layers"].refuse("\"" + m.calls[c].layer->name + "\" among them");
  at_place(config, [&] { m.order_layers(); });
  return Model(impl);
}
}  // namespace

Json model_json(const ModelImpl& m) {
  return m.class_name == "Sequential" ? sequential_json(m) : functional_json(m);
}

Model model_from_json(const JsonValue& j) {
  const std::string kind = j["class_name"].string();
  if (kind != "Sequential" && kind != "Functional")
    j["class_name"].refuse("Sequential or Functional", Code::Unimplemented);
  const JsonValue config = j["config"];
  at_place(config["name"], [&] { check_name("model", config["name"].string()); });
  Model model = kind == "Sequential" ? sequential_from(config) : functional_from(config);
  if (auto t = config.find("trainable")) model.impl().trainable.set(t->boolean());
  return model;
}

}  // namespace evenflow
