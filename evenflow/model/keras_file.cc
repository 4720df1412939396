// SPDX-License-Identifier: Apache-2.0
// .keras files (Keras 3): a zip of metadata.json, config.json, model.weights.h5, and evenflow.json
// for what Keras has no word for.
#include <map>
#include <nlohmann/json.hpp>

#include "evenflow/core/checksum.h"
#include "evenflow/format/hdf5_reader.h"
#include "evenflow/format/hdf5_writer.h"
#include "evenflow/format/zip.h"
#include "evenflow/model/keras_config.h"
#include "evenflow/model/keras_graph.h"
#include "evenflow/ops/elementwise.h"

namespace evenflow {
namespace {
using format::Json;
using format::JsonValue;
constexpr int64_t kMaxCount = int64_t(1) << 60;

// "layers/conv2d", "layers/conv2d_1", ...: Keras numbers layers of a class in their order, whatever
// their names are.
struct Group {
  std::string path;
  std::shared_ptr<LayerImpl> layer;
};
std::vector<Group> weight_groups(const ModelImpl& m, const std::string& prefix = "layers/") {
  std::map<std::string, int64_t> used;
  std::vector<Group> r;
  for (auto& l : m.layers) {
    if (m.class_name == "Sequential" && l->class_name() == "InputLayer") continue;
    const std::string base = snake_case(l->class_name());
    const int64_t n = used[base]++;
    r.push_back({prefix + (n ? base + "_" + std::to_string(n) : base), l});
    std::string path = r.back().path;
    for (auto w = l->wrapped(); w; w = w->wrapped()) r.push_back({path += "/layer", w});
    if (!l->model()) continue;
    for (auto& inner : weight_groups(*l->model(), r.back().path + "/layers/")) r.push_back(inner);
  }
  return r;
}

Json state_json(const ModelImpl& m, const std::string& weights) {
  Json layers = Json::object();
  for (auto& l : m.leaves()) {
    Json one = Json::object();
    if (Json settings = settings_json(*l.layer); !settings.empty())
      one["settings"] = std::move(settings);
    for (auto& w : l.layer->extra_state()) {
      const bool whole = is_integer(w.variable.sig().dtype);
      Json values = Json::array();
      const Tensor t = w.variable.read();
      if (whole)
        values = t.to_vector<int64_t>();
      else
        values = t.to_vector<double>();
      one["state"][w.name] = std::move(values);
    }
    if (!one.empty()) layers[l.path] = std::move(one);
  }
  return {{"version", 2},
          {"weights_crc32c", crc32c(weights.data(), weights.size())},
          {"layers", std::move(layers)}};
}

// ---- reading ----
int64_t elements(const format::Hdf5File& file, const std::string& group = "") {
  int64_t n = 0;
  const std::string prefix = group.empty() ? "" : group + "/";
  for (auto& d : file.datasets(group)) n = checked_add(n, file.sig(prefix + d).shape.count());
  for (auto& g : file.groups(group)) n = checked_add(n, elements(file, prefix + g));
  return n;
}

// `where` names the file and its member in errors.
void read_weights(ModelImpl& m, const format::Hdf5File& file, const std::string& where) {
  for (auto& [path, layer] : weight_groups(m)) {
    if (layer->model()) continue;
    const std::string vars = path + "/vars";
    const size_t stored = file.has_group(vars) ? file.datasets(vars).size() : 0;
    const std::vector<Weight> weights = layer->stored_weights();
    if (stored != weights.size())
      fail(Code::DataLoss, {where, ": ", vars, " has ", stored, " weights, expected ",
                            weights.size(), " (layer \"", layer->name, "\")"});
    for (size_t k = 0; k < stored; ++k) {
      const Variable& v = weights[k].variable;
      const std::string set = vars + "/" + std::to_string(k);
      const Sig want = v.sig(), found = file.sig(set);
      if (found.shape != want.shape)
        fail(Code::DataLoss,
             {where, ": ", set, " is ", str(found), ", expected ", str(want), " (", v.name(), ")"});
      if (is_floating(found.dtype) != is_floating(want.dtype) || found.dtype == DType::boolean)
        fail(Code::DataLoss,
             {where, ": ", set, " is ", str(found), ", expected ", str(want), " (", v.name(), ")"});
      const Array a = file.read(set);
      v.assign(cast(tensor(a.sig, a.data), want.dtype));
    }
  }
}

// Before the weights: a setting can say what type they have.
void read_settings(ModelImpl& m, const JsonValue& j) {
  const JsonValue layers = j["layers"];
  for (auto& l : m.leaves()) {
    auto one = layers.find(l.path);
    if (!one) continue;
    if (auto mode = one->find("mode")) {  // version 1
      if (mode->string() == "plain")
        l.layer->adopt_keras_weights();
      else if (mode->string() != "debiased")
        mode->refuse("\"debiased\" or \"plain\"");
    }
    if (auto settings = one->find("settings")) settings_from_json(*l.layer, *settings);
  }
}
void read_state(ModelImpl& m, const JsonValue& j) {
  const JsonValue layers = j["layers"];
  for (auto& l : m.leaves()) {
    auto one = layers.find(l.path);
    if (!one) continue;
    auto state = one->find("state");
    if (!state) continue;
    for (auto& w : l.layer->extra_state()) {
      auto v = state->find(w.name);
      if (!v) continue;
      const Sig& sig = w.variable.sig();
      if (!v->is_array() || v->size() != sig.shape.count())
        v->refuse(concat({sig.shape.count(), " numbers"}));
      if (is_integer(sig.dtype)) {
        std::vector<int64_t> values;
        for (int64_t i = 0; i < v->size(); ++i) values.push_back((*v)[i].integer(0, kMaxCount));
        w.variable.assign(cast(tensor(values, sig.shape), sig.dtype));
      } else {
        std::vector<double> values;
        for (int64_t i = 0; i < v->size(); ++i) values.push_back((*v)[i].number());
        w.variable.assign(constant(values, sig.shape, sig.dtype));
      }
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
  for (auto& l : m.leaves())
    if (const std::string why = l.layer->only_here(); !why.empty())
      fail(Code::FailedPrecondition, {"save: ", l.layer->class_name(), " \"", l.path, "\": ", why});
  format::Hdf5Writer h5;
  for (auto& [group, layer] : weight_groups(m)) {
    const std::string vars = group + "/vars";
    h5.group(vars);
    h5.attribute(vars, "name", layer->name);
    const std::vector<Weight> own = layer->stored_weights();
    for (size_t k = 0; k < own.size(); ++k) {
      Tensor t = own[k].variable.read();
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
  const std::string weights = zip.read("model.weights.h5"), where = path + ": model.weights.h5";
  const format::Hdf5File file(weights, where);
  Model model;
  {
    // A small file does not make large weights; a few that are missing are named below.
    const BuildLimit limit(checked_add(checked_mul(2, elements(file)), 1 << 16));
    model = model_from_json(format::parse_json(zip.read("config.json"), path + ": config.json"));
  }
  std::optional<JsonValue> ours;
  if (zip.has("evenflow.json")) {
    const JsonValue state = format::parse_json(zip.read("evenflow.json"), path + ": evenflow.json");
    if (const int64_t v = state["version"].integer(); v < 1 || v > 2)
      state["version"].refuse("1 or 2", Code::Unimplemented);
    // Else somebody changed the weights: they stand for themselves.
    if (state["weights_crc32c"].integer() == int64_t(crc32c(weights.data(), weights.size())))
      ours = state;
  }
  const auto leaves = model.impl().leaves();
  if (ours)
    read_settings(model.impl(), *ours);
  else
    for (auto& l : leaves) l.layer->adopt_keras_weights();
  read_weights(model.impl(), file, where);
  for (auto& l : leaves) try {
      l.layer->check_weights();
    } catch (const Error& e) {
      fail(e.code(), {where, ": ", e.what()});
    }
  if (ours) read_state(model.impl(), *ours);
  return model;
}

}  // namespace evenflow
