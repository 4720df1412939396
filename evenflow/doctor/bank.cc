// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/bank.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "evenflow/doctor/examination.h"
#include "evenflow/format/file.h"
#include "evenflow/format/json.h"
#include "evenflow/format/npz.h"

namespace evenflow::doctor {
namespace {
using Values = std::vector<double>;
using format::Json;

// The parts of a layer's statistics by name; gamma and beta where they are there.
template <class L>
auto parts(L& l) {
  return std::array{std::pair{"mean", &l.mean}, std::pair{"variance", &l.variance},
                    std::pair{"gamma", &l.gamma}, std::pair{"beta", &l.beta}};
}
void check_set(const std::string& name, const StatisticsBank::Set& set) {
  for (auto& [path, layer] : set)
    for (auto [what, values] : parts(layer)) {
      auto refuse = [&](Part found, std::string_view expected) {
        fail({"bank \"", name, "\": ", what, " of layer \"", path, "\" is ", found, ", expected ",
              expected});
      };
      const bool optional = what[0] == 'g' || what[0] == 'b';
      if (values->size() != layer.mean.size() && !(optional && values->empty()))
        refuse(concat({values->size(), " numbers"}), concat({layer.mean.size(), ", as the mean"}));
      for (double v : *values)
        if (!std::isfinite(v) || (v < 0 && what[0] == 'v'))
          refuse(v, what[0] == 'v' ? "a finite number, at least 0" : "a finite number");
    }
}
void assign(const Variable& v, const Values& values) {
  v.assign(constant(values, v.sig().shape, v.sig().dtype));
}
// Proposes the set's numbers to the open step.
void propose(const StatisticsBank::Set& set, const std::string& name, const Net& net) {
  for (auto& [path, layer] : set)
    if (std::none_of(net.norms.begin(), net.norms.end(), [&](auto& n) { return n.path == path; }))
      fail({"bank \"", name, "\": it has a layer \"", path, "\", expected one of the model's"});
  for (const Norm& n : net.norms) {
    auto it = set.find(n.path);
    if (it == set.end())
      fail({"bank \"", name, "\": it has no layer \"", n.path, "\", expected all of the model's"});
    const StatisticsBank::Layer& l = it->second;
    for (auto [what, values] : parts(l)) {
      if (values->empty() && what[0] != 'm' && what[0] != 'v') continue;
      const Variable& v = what[0] == 'm'   ? n.layer->moving_mean
                          : what[0] == 'v' ? n.layer->moving_variance
                          : what[0] == 'g' ? n.layer->gamma
                                           : n.layer->beta;
      if (!v)
        fail({"bank \"", name, "\": it has ", what, " for layer \"", n.path,
              "\", which has none, expected none"});
      if (int64_t(values->size()) != n.channels())
        fail({"bank \"", name, "\": ", what, " of layer \"", n.path, "\" has ", values->size(),
              " numbers, expected ", n.channels(), ", one a channel"});
      assign(v, *values);
    }
  }
}
}  // namespace

const StatisticsBank::Set& StatisticsBank::at(const std::string& name) const {
  auto it = sets_.find(name);
  if (it != sets_.end()) return it->second;
  std::string all;
  for (auto& [n, set] : sets_) all += (all.empty() ? "" : ", ") + n;
  fail(Code::NotFound, {"bank: there is no set \"", name.substr(0, 80), "\", expected ",
                        all.empty() ? "one that was captured or adapted" : "one of " + all});
}
std::vector<std::string> StatisticsBank::names() const {
  std::vector<std::string> r;
  for (auto& [name, set] : sets_) r.push_back(name);
  return r;
}
void StatisticsBank::erase(const std::string& name) {
  at(name);
  sets_.erase(name);
}
void StatisticsBank::put(const std::string& name, Set set) {
  check_name("bank", name);
  check_set(name, set);
  sets_[name] = std::move(set);
}
void StatisticsBank::capture(const std::string& name, const Model& model, CaptureOptions o) {
  Set set;
  for (const Norm& n : Net(model).norms) {
    Layer l{n.mean(), n.variance()};
    if (o.affine && n.layer->gamma) l.gamma = n.gamma();
    if (o.affine && n.layer->beta) l.beta = n.beta();
    set[n.path] = std::move(l);
  }
  put(name, std::move(set));
}
std::vector<Recalibrated> StatisticsBank::adapt(const std::string& name, const Model& model,
                                                const Tensor& x, const AdaptOptions& o) {
  constexpr std::string_view op = "adapt";
  if (!(o.prior >= 0) || !std::isfinite(o.prior))
    fail({op, ": prior is ", o.prior, ", expected a finite number, at least 0"});
  if (o.batch_size < 1) fail({op, ": batch_size is ", o.batch_size, ", expected at least 1"});
  const Net net(model);
  check_data(net, x, op);
  net.require_order(op);
  Set set;
  std::vector<Recalibrated> moved;
  std::optional<UseStatistics> source;
  if (!o.source.empty()) {
    set = at(o.source);
    source.emplace(*this, o.source, model);
  }
  const double samples = double(x.sig().shape[0]);
  precise_statistics(net, x, o.batch_size, [&](const Norm& n, ChannelStats& seen) {
    const Values mean = n.mean(), variance = n.variance();
    Layer& l = set[n.path];
    l.mean.clear(), l.variance.clear();
    // A sample weighs as one, however many elements it has: so do the source's N. Merging is the
    // mean of means and of second moments, without their cancellation.
    for (size_t c = 0; c < seen.size(); ++c) {
      const Stats s{o.prior, mean[c], variance[c] * o.prior},
          t{samples, seen[c].mean, population_variance(seen[c]) * samples};
      seen[c] = merge(s, t);
      l.mean.push_back(seen[c].mean), l.variance.push_back(population_variance(seen[c]));
    }
    moved.push_back({n.path, samples, divergence(seen, mean, variance, n.layer->config.epsilon)});
  });
  put(name, std::move(set));
  return moved;
}
void StatisticsBank::apply(const std::string& name, const Model& model) const {
  Step step;
  propose(at(name), name, Net(model));
  step.commit();
}

UseStatistics::UseStatistics(const StatisticsBank& bank, const std::string& name,
                             const Model& model) {
  propose(bank.at(name), name, Net(model));
}
Tensor predict(const Model& model, const Tensor& x, const StatisticsBank& bank,
               const std::string& name, PredictOptions options) {
  const UseStatistics use(bank, name, model);
  const Tensor y = model.predict(x, options);
  return tensor(y.sig(), y.buffer());
}

// ---- files ----
void StatisticsBank::save(const std::string& path) const {
  std::map<std::string, Array> arrays;
  Json sets = Json::object();
  for (auto& [name, set] : sets_) {
    Json layers = Json::object();
    for (auto& [layer, statistics] : set)
      for (auto [what, values] : parts(statistics)) {
        if (values->empty() && what[0] != 'm' && what[0] != 'v') continue;
        const std::string key = std::to_string(arrays.size());
        Array a = make_array({DType::f64, Shape{int64_t(values->size())}});
        std::copy(values->begin(), values->end(), static_cast<double*>(a.data->data()));
        arrays[key] = std::move(a);
        layers[layer][what] = key;
      }
    sets[name] = std::move(layers);
  }
  const std::string index = format::json_text({{"version", 1}, {"sets", sets}});
  Array a = make_array({DType::u8, Shape{int64_t(index.size())}});
  std::copy(index.begin(), index.end(), static_cast<uint8_t*>(a.data->data()));
  arrays["index"] = std::move(a);
  format::write_file_atomically(path, format::npz_bytes(arrays));
}
StatisticsBank StatisticsBank::load(const std::string& path) {
  const std::map<std::string, Array> arrays = format::read_npz(path);
  auto it = arrays.find("index");
  if (it == arrays.end() || it->second.sig.dtype != DType::u8)
    fail(Code::DataLoss, {path, ": it has no \"index\", expected a bank of statistics"});
  const Array& text = it->second;
  const format::JsonValue index = format::parse_json(
      {static_cast<const char*>(text.data->data()), size_t(text.sig.bytes())}, path + ": index");
  if (index["version"].integer() != 1) index["version"].refuse("1", Code::Unimplemented);
  StatisticsBank bank;
  const format::JsonValue sets = index["sets"];
  for (auto& name : sets.keys()) {
    Set set;
    const format::JsonValue layers = sets[name];
    for (auto& layer : layers.keys())
      for (auto [what, values] : parts(set[layer])) {
        auto key = layers[layer].find(what);
        if (!key && what[0] != 'm' && what[0] != 'v') continue;
        const format::JsonValue k = key ? *key : layers[layer][what];
        auto a = arrays.find(k.string());
        if (a == arrays.end() || a->second.sig.shape.rank() != 1 ||
            a->second.sig.dtype != DType::f64)
          k.refuse("the name of an f64 array [channels] in this file");
        *values = tensor(a->second.sig, a->second.data).to_vector<double>();
      }
    try {
      bank.put(name, std::move(set));
    } catch (const Error& e) {
      fail(Code::DataLoss, {path, ": ", e.what()});
    }
  }
  return bank;
}

}  // namespace evenflow::doctor
