// SPDX-License-Identifier: Apache-2.0
#include "evenflow/model/keras_config.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

namespace evenflow {
namespace {
using format::Json;
using format::JsonValue;

Json object(const char* module, const std::string& class_name, Json config) {
  return {{"module", module},
          {"class_name", class_name},
          {"config", std::move(config)},
          {"registered_name", nullptr}};
}

class Writer : public ConfigVisitor {
 public:
  Json json = Json::object();
  bool writing() const override { return true; }
  void field(const char* n, bool& v) override { json[n] = v; }
  void field(const char* n, int64_t& v) override { json[n] = v; }
  void field(const char* n, double& v) override { json[n] = v; }
  void field(const char* n, std::string& v) override { json[n] = v; }
  // Of axes none is Keras's None.
  void field(const char* n, std::vector<int64_t>& v) override {
    const bool none =
        v.empty() && (std::string_view(n) == "axis" || std::string_view(n) == "shared_axes");
    json[n] = none ? Json() : Json(v);
  }
  void field(const char* n, std::optional<double>& v) override { json[n] = v ? Json(*v) : Json(); }
  void field(const char* n, std::optional<int64_t>& v) override { json[n] = v ? Json(*v) : Json(); }
  void field(const char* n, std::optional<std::vector<double>>& v) override {
    json[n] = !v ? Json() : v->size() == 1 ? Json((*v)[0]) : Json(*v);
  }
  void field(const char* n, std::vector<double>& v) override {
    json[n] = v.empty() ? Json() : Json(v);
  }
  void field(const char* n, Factor& v) override {
    json[n] = v.one_number ? Json(v.high) : Json{v.low, v.high};
  }
  void field(const char* n, std::optional<Factor>& v) override {
    json[n] = nullptr;
    if (v) field(n, *v);
  }
  void field(const char* n, Size1& v) override { json[n] = Json::array({v.size}); }
  void field(const char* n, std::optional<Size1>& v) override {
    json[n] = v ? Json::array({v->size}) : Json();
  }
  void field(const char* n, Size2& v) override { json[n] = {v.height, v.width}; }
  void field(const char* n, std::optional<Size2>& v) override {
    json[n] = v ? Json{v->height, v->width} : Json();
  }
  void field(const char* n, Padding1& v) override { json[n] = {v.before, v.after}; }
  void field(const char* n, Padding2& v) override {
    json[n] = {{v.top, v.bottom}, {v.left, v.right}};
  }
  void activation(const char* n, std::string& v) override { json[n] = v; }
  void field(const char* n, Initializer& v) override {
    Json c = Json::object();
    if (v.name == "Constant")
      c = {{"value", v.a}};
    else if (v.name == "RandomNormal" || v.name == "TruncatedNormal")
      c = {{"mean", v.a}, {"stddev", v.b}};
    else if (v.name == "RandomUniform")
      c = {{"minval", v.a}, {"maxval", v.b}};
    else if (v.name == "VarianceScaling")
      c = {{"scale", v.a}, {"mode", v.mode}, {"distribution", v.distribution}};
    else if (v.name == "Orthogonal" || v.name == "Identity")
      c = {{"gain", v.a}};
    if (v.name != "Zeros" && v.name != "Ones" && v.name != "Constant" && v.name != "Identity")
      c["seed"] = v.seed ? Json(*v.seed) : Json();
    json[n] = object("keras.initializers", v.name, std::move(c));
  }
  void field(const char* n, Regularizer& v) override {
    if (!v)
      json[n] = nullptr;
    else if (!v.l1)
      json[n] = object("keras.regularizers", "L2", {{"l2", v.l2}});
    else if (!v.l2)
      json[n] = object("keras.regularizers", "L1", {{"l1", v.l1}});
    else
      json[n] = object("keras.regularizers", "L1L2", {{"l1", v.l1}, {"l2", v.l2}});
  }
  void field(const char* n, Constraint& v) override {
    if (!v) {
      json[n] = nullptr;
      return;
    }
    Json c = Json::object();
    if (v.name == "MinMaxNorm") c["min_value"] = v.min_value, c["rate"] = v.rate;
    if (v.name == "MaxNorm" || v.name == "MinMaxNorm") c["max_value"] = v.max_value;
    if (v.name != "NonNeg") c["axis"] = one_or_more(v.axis);
    json[n] = object("keras.constraints", v.name, std::move(c));
  }
  void field(const char* n, ChannelAxes& v) override { json[n] = one_or_more(v.axes); }
  void axes(const char* n, std::vector<int64_t>& v) override { json[n] = one_or_more(v); }
  void field(const char* n, Numbers& v) override { json[n] = one_or_more(v.values); }
  void field(const char* n, std::map<std::string, double>& v) override { json[n] = v; }

 private:
  template <class T>
  static Json one_or_more(const std::vector<T>& v) {
    return v.size() == 1 ? Json(v[0]) : Json(v);
  }
};

class Reader : public ConfigVisitor {
 public:
  explicit Reader(JsonValue config) : config_(std::move(config)) {}
  std::set<std::string> seen;

  void field(const char* n, bool& v) override {
    if (auto j = get(n)) v = j->boolean();
  }
  void field(const char* n, int64_t& v) override {
    if (auto j = get(n)) v = j->integer();
  }
  void field(const char* n, double& v) override {
    if (auto j = get(n)) v = j->number();
  }
  void field(const char* n, std::string& v) override {
    if (auto j = get(n)) v = j->string();
  }
  void field(const char* n, std::vector<int64_t>& v) override {
    seen.insert(n);
    auto j = config_.find(n);
    if (!j) {
      if (has(n)) v.clear();  // null: Keras's None
    } else if (j->is_integer()) {
      v = {j->integer()};
    } else if (std::string_view(n) == "axis") {
      v.clear();
      if (j->size() > kMaxRank) j->refuse(concat({"at most ", kMaxRank, " axes"}));
      for (int64_t i = 0; i < j->size(); ++i) v.push_back((*j)[i].integer());
    } else {
      v = dims_from_json(*j);
    }
  }
  void field(const char* n, std::optional<double>& v) override {
    v.reset();
    if (auto j = get(n)) v = j->number();
  }
  void field(const char* n, std::optional<int64_t>& v) override {
    v.reset();
    if (auto j = get(n)) v = j->integer();
  }
  void field(const char* n, std::optional<std::vector<double>>& v) override {
    v.reset();
    auto j = get(n);
    if (!j) return;
    v.emplace();
    collect(*j, *v, 0);
  }
  void field(const char* n, Numbers& v) override { field(n, v.values); }
  void field(const char* n, std::vector<double>& v) override {
    v.clear();
    if (auto j = get(n)) collect(*j, v, 0);
  }
  void field(const char* n, Factor& v) override {
    if (auto j = get(n)) v = factor(*j);
  }
  void field(const char* n, std::optional<Factor>& v) override {
    v.reset();
    if (auto j = get(n)) v = factor(*j);
  }
  void field(const char* n, Size1& v) override {
    if (auto j = get(n)) v = size1(*j);
  }
  void field(const char* n, std::optional<Size1>& v) override {
    v.reset();
    if (auto j = get(n)) v = size1(*j);
  }
  void field(const char* n, Size2& v) override {
    if (auto j = get(n)) v = size2(*j);
  }
  void field(const char* n, std::optional<Size2>& v) override {
    v.reset();
    if (auto j = get(n)) v = size2(*j);
  }
  void field(const char* n, Padding1& v) override {
    if (auto j = get(n)) {
      const Size2 both = size2(*j);
      v = Padding1(both.height, both.width);
    }
  }
  void field(const char* n, Padding2& v) override {
    auto j = get(n);
    if (!j) return;
    if (j->is_integer())
      v = Padding2(j->integer());
    else if (j->size() != 2)
      j->refuse("two pairs of integers");
    else if ((*j)[0].is_integer())
      v = Padding2(size2(*j));
    else {
      const Size2 rows = size2((*j)[0]), columns = size2((*j)[1]);
      v = Padding2(rows.height, rows.width, columns.height, columns.width);
    }
  }
  void activation(const char* n, std::string& v) override {
    seen.insert(n);
    auto j = config_.find(n);
    if (!j)
      v = "linear";
    else if (j->is_string())
      v = j->string();
    else
      j->refuse("the name of an activation", Code::Unimplemented);
  }
  void field(const char* n, Initializer& v) override {
    auto j = get(n);
    if (!j) return;
    const JsonValue kind = j->is_string() ? *j : (*j)["class_name"];
    const std::string name = kind.string();
    try {
      v = Initializer(name);
    } catch (const Error&) {
      kind.refuse("one of Keras's initializers", Code::Unimplemented);
    }
    if (!j->is_object()) return;
    auto c = j->find("config");
    if (!c) return;
    auto number = [&](const char* key, double& to) {
      if (auto x = c->find(key)) to = x->number();
    };
    if (name == "Constant") number("value", v.a);
    if (name == "RandomNormal" || name == "TruncatedNormal")
      number("mean", v.a), number("stddev", v.b);
    if (name == "RandomUniform") number("minval", v.a), number("maxval", v.b);
    if (name == "Orthogonal" || name == "Identity") number("gain", v.a);
    if (name == "VarianceScaling") {
      number("scale", v.a);
      if (auto x = c->find("mode")) v.mode = x->string();
      if (auto x = c->find("distribution")) v.distribution = x->string();
    }
    if (auto x = c->find("seed"); x && x->is_integer()) v.seed = x->integer();
  }
  void field(const char* n, Regularizer& v) override {
    v = {};
    auto j = get(n);
    if (!j) return;
    const JsonValue kind = j->is_string() ? *j : (*j)["class_name"];
    const std::string name = snake_case(kind.string());
    if (name != "l1" && name != "l2" && name != "l1_l2" && name != "l1l2")
      kind.refuse("L1, L2 or L1L2", Code::Unimplemented);
    const bool both = name.size() > 2;
    if (both || name == "l1") v.l1 = 0.01;
    if (both || name == "l2") v.l2 = 0.01;
    if (!j->is_object()) return;
    if (auto c = j->find("config")) {
      if (auto x = c->find("l1")) v.l1 = x->number();
      if (auto x = c->find("l2")) v.l2 = x->number();
    }
  }
  void field(const char* n, Constraint& v) override {
    v = {};
    auto j = get(n);
    if (!j) return;
    const JsonValue kind = j->is_string() ? *j : (*j)["class_name"];
    try {
      v = Constraint(kind.string());
    } catch (const Error&) {
      kind.refuse("MaxNorm, NonNeg, UnitNorm or MinMaxNorm", Code::Unimplemented);
    }
    if (!j->is_object()) return;
    auto c = j->find("config");
    if (!c) return;
    if (auto x = c->find("min_value")) v.min_value = x->number();
    if (auto x = c->find("max_value")) v.max_value = x->number();
    if (auto x = c->find("rate")) v.rate = x->number();
    if (auto x = c->find("axis")) v.axis = axes_of(*x);
  }
  void field(const char* n, ChannelAxes& v) override {
    if (auto j = get(n)) v.axes = {j->integer()};  // Keras takes one
  }
  void axes(const char* n, std::vector<int64_t>& v) override {
    if (auto j = get(n)) v = axes_of(*j);
  }
  void field(const char* n, std::map<std::string, double>& v) override {
    v.clear();
    if (auto j = get(n))
      for (auto& key : j->keys())
        if (auto x = j->find(key)) v[key] = x->number();
  }
  // What Keras states and we do not have must be off.
  void check_rest(const std::set<std::string>& harmless) const {
    for (auto& key : config_.keys()) {
      if (seen.count(key) || harmless.count(key)) continue;
      const JsonValue v = config_[key];
      if (v.is_null() || (v.is_boolean() && !v.boolean())) continue;
      v.refuse("null (there is no such setting here)", Code::Unimplemented);
    }
  }

 private:
  bool has(const char* n) const {
    auto k = config_.keys();
    return std::binary_search(k.begin(), k.end(), n);
  }
  std::optional<JsonValue> get(const char* n) {
    seen.insert(n);
    return config_.find(n);
  }
  static Size1 size1(const JsonValue& j) {
    if (j.is_integer()) return Size1(j.integer());
    if (j.size() != 1) j.refuse("one integer");
    return Size1(j[0].integer());
  }
  static Size2 size2(const JsonValue& j) {
    if (j.is_integer()) return Size2(j.integer());
    if (j.size() != 2) j.refuse("one or two integers");
    return Size2(j[0].integer(), j[1].integer());
  }
  static std::vector<int64_t> axes_of(const JsonValue& j) {
    if (j.is_integer()) return {j.integer()};
    if (j.size() > kMaxRank) j.refuse(concat({"at most ", kMaxRank, " axes"}));
    std::vector<int64_t> r;
    for (int64_t i = 0; i < j.size(); ++i) r.push_back(j[i].integer());
    return r;
  }
  static Factor factor(const JsonValue& j) {
    if (j.is_number()) return Factor(j.number());
    if (j.size() != 2) j.refuse("one or two numbers");
    return Factor(j[0].number(), j[1].number());
  }
  static void collect(const JsonValue& j, std::vector<double>& v, int depth) {
    if (j.is_number()) return v.push_back(j.number());
    if (depth > kMaxRank) j.refuse("numbers");
    for (int64_t i = 0; i < j.size(); ++i) collect(j[i], v, depth + 1);
  }
  JsonValue config_;
};

// Keys of a configuration that every layer has, or that mean nothing here.
const std::set<std::string>& harmless_keys() {
  static const std::set<std::string> keys{"name",     "trainable",         "dtype",
                                          "autocast", "batch_input_shape", "build_config"};
  return keys;
}
std::string policy_from_json(const JsonValue& j) {
  const JsonValue name = j.is_string() ? j : j["config"]["name"];
  const std::string s = name.string();
  try {
    check_policy("dtype", s);
  } catch (const Error&) {
    name.refuse("float32, float64, mixed_bfloat16 or mixed_float16", Code::Unimplemented);
  }
  return s;
}
}  // namespace

Json policy_json(const std::string& name) {
  return object("keras", "DTypePolicy", {{"name", name}});
}
Json dims_json(const Dims& dims) {
  Json j = Json::array();
  for (int64_t d : dims) j.push_back(d < 0 ? Json() : Json(d));
  return j;
}
Dims dims_from_json(const JsonValue& j) {
  Dims d;
  for (int64_t i = 0; i < j.size(); ++i) d.push_back(j[i].is_null() ? -1 : j[i].integer(-1));
  if (d.size() > size_t(kMaxRank)) j.refuse(concat({"at most ", kMaxRank, " extents"}));
  return d;
}

Json layer_json(LayerImpl& layer) {
  Writer w;
  layer.visit(w);
  if (layer.class_name() == "InputLayer") {
    w.json["batch_shape"] = dims_json(layer.output_dims({}));
    w.json["dtype"] = w.json["input_dtype"];
    w.json.erase("input_dtype");
    w.json["sparse"] = false;
  } else {
    if (layer.says_trainable())
      w.json["trainable"] = layer.trainable.get() && !layer.holds_weights();
    w.json["dtype"] = policy_json(layer.dtype);
    if (auto inner = layer.wrapped()) w.json["layer"] = layer_json(*inner);
  }
  w.json["name"] = layer.name;
  Json j = object("keras.layers", std::string(layer.class_name()), std::move(w.json));
  if (layer.built && layer.input_dims.size() == 1)
    j["build_config"] = {{"input_shape", dims_json(layer.input_dims[0])}};
  return j;
}

std::shared_ptr<LayerImpl> layer_from_json(const JsonValue& j, int wrappers) {
  constexpr int kMaxWrappers = 8;
  const std::string class_name = j["class_name"].string();
  if (auto r = j.find("registered_name"); r && r->string() != class_name)
    r->refuse("null: classes of others are never made from a file", Code::Unimplemented);
  std::shared_ptr<LayerImpl> layer;
  try {
    layer = make_layer(class_name);
  } catch (const Error&) {
    j["class_name"].refuse("a layer that is known here", Code::Unimplemented);
  }
  const JsonValue config = j["config"];
  Reader r(config);
  try {
    layer->visit(r);
  } catch (const Error& e) {
    if (e.code() != Code::InvalidArgument) throw;
    fail(Code::DataLoss,
         {config.place(), ": \"", config["name"].string().substr(0, 80), "\": ", e.what()});
  }
  if (layer->wraps()) {
    if (wrappers >= kMaxWrappers) j.refuse(concat({"at most ", kMaxWrappers, " wrappers"}));
    r.seen.insert("layer");
    layer->wrap(layer_from_json(config["layer"], wrappers + 1));
  }
  const bool input = class_name == "InputLayer";
  std::set<std::string> harmless = harmless_keys();
  if (input) harmless.insert({"sparse", "ragged", "optional", "batch_shape"});
  r.check_rest(harmless);
  layer->name = config["name"].string();
  try {
    check_name(class_name, layer->name);
  } catch (const Error&) {
    config["name"].refuse("1 to 500 bytes of UTF-8 without a slash or a zero");
  }
  if (!input) {
    if (auto t = config.find("trainable")) layer->trainable.set(t->boolean());
    if (auto d = config.find("dtype")) layer->dtype = policy_from_json(*d);
  }
  layer->seed = next_seed();
  return layer;
}

Json settings_json(LayerImpl& layer) {
  Writer w;
  layer.settings(w);
  return w.json;
}
void settings_from_json(LayerImpl& layer, const JsonValue& j) {
  Reader r(j);
  try {
    layer.settings(r);
    layer.check();
  } catch (const Error& e) {
    if (e.code() != Code::InvalidArgument) throw;
    fail(Code::DataLoss, {j.place(), ": ", e.what()});
  }
  r.check_rest({});
}

}  // namespace evenflow
