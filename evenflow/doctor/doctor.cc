// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/doctor.h"

#include <algorithm>
#include <numeric>

#include "evenflow/data/dataset.h"
#include "evenflow/doctor/examination.h"

namespace evenflow::doctor {

std::string_view str(Level level) {
  return level == Level::note ? "note" : level == Level::warning ? "warning" : "error";
}
bool Diagnosis::healthy() const {
  return std::all_of(findings.begin(), findings.end(),
                     [](auto& f) { return f.level == Level::note; });
}

// ---- the checks ----
const CheckEntry*& CheckEntry::head() {
  static constinit const CheckEntry* h = nullptr;
  return h;
}
CheckEntry::CheckEntry(const char* i, Check (*d)()) : id(i), declare(d), next(head()) {
  head() = this;
}
namespace {
// Static ones, those of a training, those of data; each by number.
std::pair<size_t, int> rank(const std::string& id) {
  return {std::string_view("STD").find(id[0]), std::stoi(id.substr(1))};
}
std::string needs(Check::Needs n) {
  switch (n) {
    case Check::model:
      return "";
    case Check::trace:
      return "a training, watched by the callback";
    case Check::data:
      return "data (x)";
    case Check::targets:
      return "data, targets and a loss (x, y, loss)";
    case Check::replicas:
      return "replicas";
  }
  return "";
}
bool has(const Options& o, Check::Needs n) {
  switch (n) {
    case Check::model:
      return true;
    case Check::trace:
      return o.trace.has_value();
    case Check::data:
      return bool(o.x);
    case Check::targets:
      return o.x && o.y && o.loss;
    case Check::replicas:
      return !o.replicas.empty();
  }
  return false;
}
}  // namespace

std::vector<Declared> checks() {
  std::vector<Declared> r;
  for (auto* e = CheckEntry::head(); e; e = e->next) r.push_back({e->id, e->declare()});
  std::sort(r.begin(), r.end(), [](auto& a, auto& b) { return rank(a.id) < rank(b.id); });
  return r;
}
std::string checks_table() {
  std::string s =
      "| | check | what it looks for | needs | why it matters | what to do |\n"
      "|---|---|---|---|---|---|\n";
  auto cell = [](std::string_view text) {
    std::string r;
    for (char c : text) r += c == '|' ? std::string("\\|") : std::string(1, c);
    return r;
  };
  for (auto& [id, c] : checks())
    s += concat({"| ", id, " | `", c.name, "` | ", cell(c.looks_for), " | ", needs(c.needs), " | ",
                 cell(c.why), " | ", cell(c.advice), " |\n"});
  return s;
}

// ---- an examination ----
Examination::Examination(const Model& model, const Options& options)
    : model_(model), options_(options), net_(model) {
  const Options& o = options_;
  if (o.batch_size < 1) fail({"examine: batch_size is ", o.batch_size, ", expected at least 1"});
  if (o.samples < 1) fail({"examine: samples is ", o.samples, ", expected at least 1"});
  if (o.y && !o.x) fail({"examine: y was given without x"});
  if (!o.x) return;
  check_data(net_, o.x, "examine");
  const Dataset some =
      Dataset(o.y ? Tensors{o.x, o.y} : Tensors{o.x}).take(std::min(o.samples, o.x.sig().shape[0]));
  const Tensors all = some.all();
  x_ = all[0];
  if (o.y) y_ = all[1];
  if (o.y && o.loss && net_.outputs.size() != 1)
    fail(Code::Unimplemented, {"examine: the model has ", net_.outputs.size(),
                               " outputs, expected one where y is given"});
}
void Examination::find(Told t) {
  const Check& c = check_.check;
  diagnosis_.findings.push_back({check_.id, c.name, t.level, std::move(t.layer),
                                 std::move(t.channels), t.value, c.threshold, std::move(t.saw),
                                 c.why, c.advice, std::move(t.fix)});
}

Diagnosis examine(const Model& model, const Options& options) {
  Examination e(model, options);
  Diagnosis& d = e.diagnosis_;
  d.model = model.name();
  const std::vector<Declared> all = checks();
  for (auto& id : options.only)
    if (std::none_of(all.begin(), all.end(), [&](auto& c) { return c.id == id; })) {
      std::string ids;
      for (auto& c : all) ids += (ids.empty() ? "" : ", ") + c.id;
      fail(Code::NotFound,
           {"examine: there is no check \"", id.substr(0, 80), "\", expected one of ", ids});
    }
  for (auto& c : all) {
    if (!options.only.empty() &&
        std::find(options.only.begin(), options.only.end(), c.id) == options.only.end())
      continue;
    if (!has(options, c.check.needs)) {
      d.skipped.push_back({c.id, needs(c.check.needs)});
      continue;
    }
    e.check_ = c;
    c.check.run(e);
    d.ran.push_back(c.id);
  }
  std::stable_sort(d.findings.begin(), d.findings.end(),
                   [](auto& a, auto& b) { return a.level > b.level; });
  d.readings = e.readings();
  if (has(options, Check::targets)) d.gap = e.gap();
  return std::move(d);
}

// ---- what checks share ----
double divergence(const ChannelStats& seen, const std::vector<double>& mean,
                  const std::vector<double>& variance, double epsilon) {
  double sum = 0;
  for (size_t c = 0; c < seen.size(); ++c) {
    // KL of two normal distributions, written so that equal ones give exactly 0.
    const double v = population_variance(seen[c]) + epsilon, w = variance[c] + epsilon,
                 d = seen[c].mean - mean[c];
    sum += v == w && d == 0 ? 0 : 0.5 * (std::log(w / v) + (v - w + d * d) / w);
  }
  return seen.empty() ? 0 : sum / double(seen.size());
}
std::vector<int64_t> channels_where(int64_t channels, const std::function<bool(size_t)>& f) {
  std::vector<int64_t> r;
  for (int64_t c = 0; c < channels; ++c)
    if (f(size_t(c))) r.push_back(c);
  return r;
}
std::string counted(const std::vector<int64_t>& some, int64_t of) {
  return concat({some.size(), " of ", of, of == 1 ? " channel" : " channels"});
}
std::string number(double v) {
  char text[40];
  std::snprintf(text, sizeof text, "%.4g", v);
  return text;
}
double median(std::vector<double> v) {
  auto middle = v.begin() + std::ptrdiff_t(v.size() / 2);
  std::nth_element(v.begin(), middle, v.end());
  return *middle;
}
bool is_linear(const LayerImpl& layer) {
  const std::string_view c = layer.class_name();
  if (c != "Dense" && c != "Conv1D" && c != "Conv2D" && c != "Conv3D" && c != "DepthwiseConv2D" &&
      c != "SeparableConv2D" && c != "Conv2DTranspose")
    return false;
  return text_field(const_cast<LayerImpl&>(layer), "activation").value_or("linear") == "linear";
}
namespace {
bool is_identity(LayerImpl& l) {
  return l.class_name() == "Dropout" ||
         (l.class_name() == "Activation" && text_field(l, "activation") == "linear");
}
std::string activation_of(LayerImpl& l) {
  if (l.class_name() == "ReLU") return "relu";
  if (l.class_name() != "Activation") return "";
  const std::string a = text_field(l, "activation").value_or("");
  return a == "relu" || a == "sigmoid" || a == "tanh" ? a : "";
}
// Reads one field of a configuration.
class FieldReader : public ConfigVisitor {
 public:
  explicit FieldReader(std::string_view name) : name_(name) {}
  using ConfigVisitor::field;
  std::optional<bool> boolean;
  std::optional<std::string> text;
  std::optional<int64_t> integer;
  void field(const char* n, bool& v) override {
    if (n == name_) boolean = v;
  }
  void field(const char* n, std::string& v) override {
    if (n == name_) text = v;
  }
  void activation(const char* n, std::string& v) override {
    if (n == name_) text = v;
  }
  void field(const char* n, int64_t& v) override {
    if (n == name_) integer = v;
  }

 private:
  std::string_view name_;
};
}  // namespace
std::optional<bool> bool_field(LayerImpl& layer, std::string_view name) {
  FieldReader r(name);
  layer.visit(r);
  return r.boolean;
}
std::optional<std::string> text_field(LayerImpl& layer, std::string_view name) {
  FieldReader r(name);
  layer.visit(r);
  return r.text;
}
bool untouched(const Norm& n) {
  if (n.layer->update_count.read().item() > 0) return false;
  const auto& c = n.layer->config;
  auto initial = [&](const Initializer& i, const std::vector<double>& now) {
    const auto v = i(n.layer->moving_mean.sig().shape, n.layer->seed);
    return std::equal(now.begin(), now.end(), v.begin(),
                      [](double a, float b) { return float(a) == b; });
  };
  return initial(c.moving_mean_initializer, n.mean()) &&
         initial(c.moving_variance_initializer, n.variance());
}
std::optional<Debiased> debiased(const Norm& n) {
  const auto& c = n.layer->config;
  const double left = std::pow(c.momentum, n.layer->update_count.read().item());
  if (!(left < 1)) return {};
  auto undo = [&](std::vector<double> now, const Initializer& initial) {
    const auto was = initial(n.layer->moving_mean.sig().shape, n.layer->seed);
    for (size_t i = 0; i < now.size(); ++i) now[i] = (now[i] - left * was[i]) / (1 - left);
    return now;
  };
  Debiased d{undo(n.mean(), c.moving_mean_initializer),
             undo(n.variance(), c.moving_variance_initializer)};
  // Else they did not begin there.
  if (std::any_of(d.variance.begin(), d.variance.end(), [](double v) { return !(v >= 0); }))
    return {};
  return d;
}
int64_t channel_axis(LayerImpl& layer, int64_t rank) {
  return text_field(layer, "data_format") == "channels_first" ? 1 : rank - 1;
}
int biased_source(const Net& net, const Norm& norm) {
  if (norm.uses.size() != 1) return -1;
  const std::vector<int>& in = net.uses[size_t(norm.uses[0])].inputs;
  const Use& u = net.uses[size_t(in[0])];
  const bool once = std::count_if(net.uses.begin(), net.uses.end(),
                                  [&](auto& other) { return other.layer == u.layer; }) == 1;
  if (!once || net.only_consumer(in[0]) != norm.uses[0] || !is_linear(*u.layer)) return -1;
  if (bool_field(*u.layer, "use_bias") != true) return -1;
  return norm.axes() == std::vector{channel_axis(*u.layer, int64_t(u.dims.size()))} ? in[0] : -1;
}
std::optional<int64_t> integer_field(LayerImpl& layer, std::string_view name) {
  FieldReader r(name);
  layer.visit(r);
  return r.integer;
}
std::string activation_after(const Net& net, const Norm& norm) {
  if (norm.layer->config.activation != "linear") return norm.layer->config.activation;
  std::string found;
  for (int u : norm.uses) {
    int next = net.only_consumer(u);
    while (next >= 0 && is_identity(*net.uses[size_t(next)].layer)) next = net.only_consumer(next);
    const std::string a = next < 0 ? "" : activation_of(*net.uses[size_t(next)].layer);
    if (a.empty() || (!found.empty() && a != found)) return "";
    found = a;
  }
  return found;
}
int source_of(const Net& net, int use) {
  for (;;) {
    const std::vector<int>& in = net.uses[size_t(use)].inputs;
    if (in.size() != 1) return -1;
    use = in[0];
    const Use& u = net.uses[size_t(use)];
    if (u.layer->class_name() == "InputLayer" && !u.inputs.empty()) continue;  // of a model inside
    if (!is_identity(*u.layer)) return use;
  }
}

}  // namespace evenflow::doctor
