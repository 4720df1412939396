// SPDX-License-Identifier: Apache-2.0
// .keras files (Keras 3): a zip of metadata.json, config.json, model.weights.h5, and evenflow.json
// for what Keras has no word for.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "evenflow/core/checksum.h"
#include "evenflow/format/hdf5_reader.h"
#include "evenflow/format/hdf5_writer.h"
#include "evenflow/format/zip.h"
#include "evenflow/model/keras_config.h"
#include "evenflow/model/layers.h"
#include "evenflow/model/model.h"

namespace evenflow {
namespace {
using format::Json;
using format::JsonValue;
constexpr int64_t kMaxLayers = 10000, kMaxInputs = 1000;

// "layers/conv2d", "layers/conv2d_1", ...: Keras numbers layers of a class in their order, whatever
// their names are.
std::vector<std::string> weight_groups(const ModelImpl& m) {
  std::map<std::string, int64_t> used;
  std::vector<std::string> r;
  for (auto& l : m.layers) {
    const std::string base = snake_case(l->class_name());
    const int64_t n = used[base]++;
    r.push_back("layers/" + (n ? base + "_" + std::to_string(n) : base));
  }
  return r;
}

Json keras_tensor(const ModelImpl::Call& c) {
  return {{"class_name", "__keras_tensor__"},
          {"config",
           {{"shape", dims_json(c.dims)},
            {"dtype", "float32"},
            {"keras_history", {c.layer->name, c.number, 0}}}}};
}
Json model_json(const ModelImpl& m) {
  Json layers = Json::array();
  for (auto& l : m.layers) layers.push_back(layer_json(*l));
  Json policy = {{"module", "keras"},
                 {"class_name", "DTypePolicy"},
                 {"config", {{"name", "float32"}}},
                 {"registered_name", nullptr}};
  if (m.class_name == "Sequential") {
    const Json shape = dims_json(m.calls[0].dims);
    return {{"module", "keras"},
            {"class_name", "Sequential"},
            {"config",
             {{"name", m.name},
              {"trainable", true},
              {"dtype", policy},
              {"layers", layers},
              {"build_input_shape", shape}}},
            {"registered_name", nullptr},
            {"build_config", {{"input_shape", shape}}}};
  }
  for (size_t i = 0; i < m.layers.size(); ++i) {
    layers[i]["name"] = m.layers[i]->name;
    Json nodes = Json::array();
    for (auto& c : m.calls) {
      if (c.layer != m.layers[i] || c.inputs.empty()) continue;
      Json in = Json::array();
      for (int k : c.inputs) in.push_back(keras_tensor(m.calls[size_t(k)]));
      nodes.push_back({{"args", Json::array({c.layer->takes_many_inputs() ? in : in[0]})},
                       {"kwargs", Json::object()}});
    }
    layers[i]["inbound_nodes"] = std::move(nodes);
  }
  auto ends = [&](const std::vector<int>& ids) {
    Json all = Json::array();
    for (int i : ids) all.push_back({m.calls[size_t(i)].layer->name, m.calls[size_t(i)].number, 0});
    return all.size() == 1 ? all[0] : all;
  };
  return {{"module", "keras"},
          {"class_name", "Functional"},
          {"config",
           {{"name", m.name},
            {"trainable", true},
            {"layers", layers},
            {"input_layers", ends(m.inputs)},
            {"output_layers", ends(m.outputs)}}},
          {"registered_name", "Functional"},
          {"build_config", {{"input_shape", nullptr}}}};
}

Json state_json(const ModelImpl& m, const std::string& weights) {
  Json layers = Json::object();
  for (auto& l : m.layers) {
    Json one = Json::object();
    if (!l->mode().empty()) one["mode"] = l->mode();
    for (auto& w : l->extra_state()) one["state"][w.name] = w.variable.read().to_vector<double>();
    if (!one.empty()) layers[l->name] = std::move(one);
  }
  return {{"version", 1},
          {"weights_crc32c", crc32c(weights.data(), weights.size())},
          {"layers", std::move(layers)}};
}

// ---- reading
// ------------------------------------------------------------------------------------------------------------
struct Reference {
  std::string layer;
  int64_t node;
};
Reference reference(const JsonValue& j) {
  if (j.size() != 3) j.refuse("[layer, node, tensor]");
  if (j[2].integer() != 0) j[2].refuse("0 (layers have one output)", Code::Unimplemented);
  return {j[0].string(), j[1].integer(0)};
}
std::vector<Reference> references(const JsonValue& j) {
  if (j.is_array() && j.size() && j[0].is_string()) return {reference(j)};
  std::vector<Reference> r;
  if (j.size() > kMaxInputs)
    j.refuse(concat({"at most ", kMaxInputs, " ends"}), Code::ResourceExhausted);
  for (int64_t i = 0; i < j.size(); ++i) r.push_back(reference(j[i]));
  return r;
}
void arguments(const JsonValue& j, std::vector<Reference>& r) {
  if (j.is_object()) {
    if (j["class_name"].string() != "__keras_tensor__")
      j["class_name"].refuse("__keras_tensor__", Code::Unimplemented);
    return r.push_back(reference(j["config"]["keras_history"]));
  }
  if (j.size() > kMaxInputs)
    j.refuse(concat({"at most ", kMaxInputs, " inputs"}), Code::ResourceExhausted);
  for (int64_t i = 0; i < j.size(); ++i) {
    if (!j[i].is_object()) j[i].refuse("a tensor of the model", Code::Unimplemented);
    arguments(j[i], r);
  }
}

std::shared_ptr<LayerImpl> checked_layer(const JsonValue& j) {
  auto l = layer_from_json(j);
  if (auto* c = dynamic_cast<InputLayerImpl*>(l.get())) {
    const JsonValue config = j["config"];
    if (auto d = config.find("dtype")) {
      try {
        c->config.input_dtype = numpy_name(parse_dtype(d->string()));
      } catch (const Error&) {
        d->refuse("an element type", Code::Unimplemented);
      }
    }
    const auto shape = config.find("batch_shape");
    if (!shape) config.refuse("a batch_shape");
    if (c->config.batch_shape.empty()) shape->refuse("the batch extent first");
    c->config.batch_shape[0] = -1;
  }
  return l;
}

Model sequential_from(const JsonValue& config) {
  const JsonValue layers = config["layers"];
  if (layers.size() > kMaxLayers)
    layers.refuse(concat({"at most ", kMaxLayers, " layers"}), Code::ResourceExhausted);
  std::vector<Layer> all;
  for (int64_t i = 0; i < layers.size(); ++i) all.emplace_back(checked_layer(layers[i]));
  auto impl = std::make_shared<ModelImpl>();
  impl->class_name = "Sequential", impl->name = config["name"].string();
  for (auto& l : all) impl->layers.push_back(l.impl());
  Model model(impl);
  auto shape = config.find("build_input_shape");
  if (!all.empty() && all[0].impl()->class_name() == "InputLayer")
    model.build(all[0].impl()->output_dims({}));
  else if (shape && shape->size()) {
    Dims d = dims_from_json(*shape);
    d[0] = -1;
    model.build(d);
  } else
    config.refuse("a model that was built (an InputLayer or build_input_shape)",
                  Code::Unimplemented);
  return model;
}

Model functional_from(const JsonValue& config) {
  const JsonValue layers = config["layers"];
  if (layers.size() > kMaxLayers)
    layers.refuse(concat({"at most ", kMaxLayers, " layers"}), Code::ResourceExhausted);
  auto impl = std::make_shared<ModelImpl>();
  ModelImpl& m = *impl;
  m.class_name = "Functional", m.name = config["name"].string();
  struct Use {
    std::shared_ptr<LayerImpl> layer;
    std::vector<Reference> in;
    int64_t number;
  };
  std::vector<Use> uses;
  std::map<std::pair<std::string, int64_t>, size_t> by_name;
  std::set<std::string> names;
  for (int64_t i = 0; i < layers.size(); ++i) {
    auto l = checked_layer(layers[i]);
    if (!names.insert(l->name).second) layers[i]["config"]["name"].refuse("a name of its own");
    if (auto n = layers[i].find("name"); n && n->string() != l->name)
      n->refuse("\"" + l->name + "\"");
    m.layers.push_back(l);
    if (l->class_name() == "InputLayer") {
      by_name[{l->name, 0}] = uses.size();
      uses.push_back({l, {}, 0});
      continue;
    }
    const JsonValue nodes = layers[i]["inbound_nodes"];
    if (nodes.size() > kMaxInputs)
      nodes.refuse(concat({"at most ", kMaxInputs, " uses"}), Code::ResourceExhausted);
    for (int64_t k = 0; k < nodes.size(); ++k) {
      Use u{l, {}, k};
      const JsonValue kwargs = nodes[k]["kwargs"];
      for (auto& key : kwargs.keys())
        if (!kwargs[key].is_null()) kwargs[key].refuse("no keyword argument", Code::Unimplemented);
      arguments(nodes[k]["args"], u.in);
      if (u.in.empty()) nodes[k].refuse("at least one input");
      by_name[{l->name, k}] = uses.size();
      uses.push_back(std::move(u));
    }
  }
  // Order of execution: Kahn's algorithm, in the order of the file where that is free.
  std::vector<std::vector<size_t>> users(uses.size());
  std::vector<size_t> missing(uses.size()), at(uses.size(), SIZE_MAX);
  auto find = [&](const Reference& r) {
    auto it = by_name.find({r.layer, r.node});
    if (it == by_name.end())
      config.refuse(
          concat({"a layer \"", r.layer, "\" with use ", r.node, ", to which it refers"}));
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
    c.layer->ensure_built(dims);
    c.dims = c.layer->output_dims(dims);
    at[u] = m.calls.size();
    m.calls.push_back(std::move(c));
    for (size_t v : users[u])
      if (!--missing[v]) ready.insert(v);
  }
  if (m.calls.size() != uses.size()) config.refuse("a graph without cycles");
  for (auto& r : references(config["input_layers"])) {
    m.inputs.push_back(int(at[find(r)]));
    if (m.calls[size_t(m.inputs.back())].layer->class_name() != "InputLayer")
      config["input_layers"].refuse("input layers");
  }
  for (auto& r : references(config["output_layers"])) m.outputs.push_back(int(at[find(r)]));
  if (m.inputs.empty() || m.outputs.empty()) config.refuse("inputs and outputs");
  return Model(impl);
}

void read_weights(ModelImpl& m, const format::Hdf5File& file) {
  const auto groups = weight_groups(m);
  for (size_t i = 0; i < m.layers.size(); ++i) {
    auto& weights = m.layers[i]->weights;
    const std::string vars = groups[i] + "/vars";
    const size_t stored = file.has_group(vars) ? file.datasets(vars).size() : 0;
    if (stored != weights.size())
      fail(Code::DataLoss, {"model.weights.h5: ", vars, " has ", stored, " weights, expected ",
                            weights.size(), " (layer \"", m.layers[i]->name, "\")"});
    for (size_t k = 0; k < weights.size(); ++k) {
      const std::string path = vars + "/" + std::to_string(k);
      const Sig want = weights[k].variable.sig(), found = file.sig(path);
      if (found.shape != want.shape)
        fail(Code::DataLoss, {"model.weights.h5: ", path, " is ", str(found), ", expected ",
                              str(want), " (", weights[k].variable.name(), ")"});
      const Array a = file.read(path);
      Tensor t = tensor(a.sig, a.data);
      if (a.sig.dtype != want.dtype) t = constant(t.to_vector<double>(), want.shape, want.dtype);
      weights[k].variable.assign(t);
    }
  }
}

void read_state(ModelImpl& m, const JsonValue& j) {
  const JsonValue layers = j["layers"];
  for (auto& l : m.layers) {
    auto one = layers.find(l->name);
    if (!one) continue;
    if (auto mode = one->find("mode")) l->set_mode(mode->string());
    auto state = one->find("state");
    if (!state) continue;
    for (auto& w : l->extra_state()) {
      auto v = state->find(w.name);
      if (!v) continue;
      if (v->size() != w.variable.sig().shape.count())
        v->refuse(concat({w.variable.sig().shape.count(), " numbers"}));
      std::vector<double> values;
      for (int64_t i = 0; i < v->size(); ++i) values.push_back((*v)[i].number());
      w.variable.assign(constant(values, w.variable.sig().shape, w.variable.sig().dtype));
    }
  }
}
}  // namespace

void Model::save(const std::string& path) const {
  ModelImpl& m = impl();
  if (!built())
    fail(Code::FailedPrecondition,
         {"save: model \"", m.name, "\" is not built, expected a call or build() first"});
  if (path.size() < 7 || path.substr(path.size() - 6) != ".keras")
    fail({"save: path is \"", path, "\", expected a name that ends in .keras"});
  format::Hdf5Writer h5;
  const auto groups = weight_groups(m);
  for (size_t i = 0; i < m.layers.size(); ++i) {
    const std::string vars = groups[i] + "/vars";
    h5.group(vars);
    h5.attribute(vars, "name", m.layers[i]->name);
    auto& weights = m.layers[i]->weights;
    for (size_t k = 0; k < weights.size(); ++k) {
      Tensor t = weights[k].variable.read();
      h5.dataset(vars + "/" + std::to_string(k), {t.sig(), t.buffer()});
    }
  }
  h5.group("vars");
  const std::string weights = h5.finish();
  format::ZipWriter zip;
  // A fixed date: the same model gives the same file.
  zip.add("metadata.json",
          format::json_text({{"keras_version", "3.15.0"}, {"date_saved", "1980-01-01@00:00:00"}}));
  zip.add("config.json", format::json_text(model_json(m)));
  zip.add("evenflow.json", format::json_text(state_json(m, weights)));
  zip.add("model.weights.h5", weights);
  format::write_file_atomically(path, zip.finish());
}

Model load_model(const std::string& path) {
  format::ZipReader zip(format::read_file(path), path);
  for (const char* member : {"config.json", "model.weights.h5"})
    if (!zip.has(member))
      fail(Code::DataLoss,
           {"load_model: ", path, " has no ", member, ", expected a .keras file of Keras 3"});
  const JsonValue config = format::parse_json(zip.read("config.json"), path + ": config.json");
  const std::string kind = config["class_name"].string();
  if (kind != "Sequential" && kind != "Functional")
    config["class_name"].refuse("Sequential or Functional", Code::Unimplemented);
  Model model =
      kind == "Sequential" ? sequential_from(config["config"]) : functional_from(config["config"]);
  const std::string weights = zip.read("model.weights.h5");
  const uint32_t crc = crc32c(weights.data(), weights.size());
  read_weights(model.impl(), format::Hdf5File(weights, path + ": model.weights.h5"));
  bool ours = false;
  if (zip.has("evenflow.json")) {
    const JsonValue state = format::parse_json(zip.read("evenflow.json"), path + ": evenflow.json");
    if (state["version"].integer() != 1) state["version"].refuse("1", Code::Unimplemented);
    ours = state["weights_crc32c"].integer() ==
           int64_t(crc);  // else somebody changed the weights: they stand for themselves
    if (ours) read_state(model.impl(), state);
  }
  if (!ours)
    for (auto& l : model.impl().layers) l->adopt_keras_weights();
  return model;
}

}  // namespace evenflow
