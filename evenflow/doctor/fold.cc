// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/fold.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "evenflow/data/dataset.h"
#include "evenflow/doctor/examination.h"
#include "evenflow/doctor/rewrite.h"
#include "evenflow/format/json.h"
#include "evenflow/model/layers.h"

namespace evenflow::doctor {
namespace {
using Values = std::vector<double>;

// A norm in inference: y = s x + t.
struct Affine {
  Values s, t;
  bool shifts() const {
    return std::any_of(t.begin(), t.end(), [](double v) { return v != 0; });
  }
};

// Weights as they will be, in f64 until the end.
class Edits {
 public:
  std::map<const LayerImpl*, Edit> all;
  Values& weight(const LayerImpl& l, const std::string& name) {
    auto& w = all[&l].weights;
    if (!w.count(name)) {
      auto it = std::find_if(l.weights.begin(), l.weights.end(),
                             [&](auto& other) { return other.name == name; });
      if (it == l.weights.end())
        fail(Code::Internal, {"fold: layer \"", l.name, "\" has no weight \"", name, "\""});
      w[name] = it->variable.read().to_vector<double>();
    }
    return w[name];
  }
  /// The bias, which the layer gets where it has none.
  Values& bias(LayerImpl& l, size_t channels) {
    Edit& e = all[&l];
    if (bool_field(l, "use_bias") == true || e.config.count("use_bias")) return weight(l, "bias");
    e.config["use_bias"] = true;
    return e.weights["bias"] = Values(channels);
  }
};

// How the weights of a linear layer are laid out: kernel element i belongs to these channels.
struct Kernel {
  Values* values;
  size_t inputs, outputs;  // channels
  std::function<size_t(size_t)> input, output;
};
size_t extent(const LayerImpl& l, const std::string& name, int axis) {
  for (const Weight& w : l.weights)
    if (w.name == name) return size_t(w.variable.sig().shape.dim(axis));
  return 0;
}
// The kernel that makes the layer's outputs, or that reads its inputs: two in a separable one.
Kernel kernel_of(LayerImpl& l, Edits& edits, bool reads) {
  const std::string_view c = l.class_name();
  if (c == "SeparableConv2D" && !reads) {
    const size_t out = extent(l, "pointwise_kernel", -1), in = extent(l, "pointwise_kernel", -2);
    return {&edits.weight(l, "pointwise_kernel"), in, out, [=](size_t i) { return i / out % in; },
            [=](size_t i) { return i % out; }};
  }
  if (c == "SeparableConv2D" || c == "DepthwiseConv2D") {
    const std::string name = c == "DepthwiseConv2D" ? "kernel" : "depthwise_kernel";
    const size_t many = extent(l, name, -1), in = extent(l, name, -2);
    return {&edits.weight(l, name), in, in * many, [=](size_t i) { return i / many % in; },
            [=](size_t i) { return i % (in * many); }};
  }
  const size_t last = extent(l, "kernel", -1), before = extent(l, "kernel", -2);
  if (c == "Conv2DTranspose")  // [kh, kw, filters, channels]
    return {&edits.weight(l, "kernel"), last, before, [=](size_t i) { return i % last; },
            [=](size_t i) { return i / last % before; }};
  const size_t groups = size_t(integer_field(l, "groups").value_or(1)), share = last / groups;
  return {&edits.weight(l, "kernel"), before * groups, last,
          [=](size_t i) { return i % last / share * before + i / last % before; },
          [=](size_t i) { return i % last; }};
}

// The layer before: W' = s W, b' = s b + t, by output channel.
void fold_into_before(LayerImpl& l, const Affine& a, Edits& edits) {
  const Kernel k = kernel_of(l, edits, false);
  for (size_t i = 0; i < k.values->size(); ++i) (*k.values)[i] *= a.s[k.output(i)];
  Values& bias = edits.bias(l, k.outputs);
  for (size_t f = 0; f < bias.size(); ++f) bias[f] = bias[f] * a.s[f] + a.t[f];
}
// The layer behind: W' = s W, by input channel; b' = b + sum over the window of W t.
void fold_into_behind(LayerImpl& l, const Affine& a, Edits& edits) {
  const Kernel k = kernel_of(l, edits, true);
  Values shift(k.outputs);
  for (size_t i = 0; i < k.values->size(); ++i) {
    const size_t c = k.input(i);
    shift[k.output(i)] += (*k.values)[i] * a.t[c];
    (*k.values)[i] *= a.s[c];
  }
  if (!a.shifts()) return;
  if (l.class_name() == "SeparableConv2D") {  // through the second kernel
    const Kernel p = kernel_of(l, edits, false);
    Values through(p.outputs);
    for (size_t i = 0; i < p.values->size(); ++i)
      through[p.output(i)] += (*p.values)[i] * shift[p.input(i)];
    shift = std::move(through);
  }
  Values& bias = edits.bias(l, shift.size());
  for (size_t f = 0; f < bias.size(); ++f) bias[f] += shift[f];
}

class Folder {
 public:
  Folder(const Model& model, const FoldOptions& options, Folded& out)
      : options_(options), out_(out) {
    count(model.impl());
    visit(model.impl(), "");
  }
  Edits edits;
  /// For each taker, a layer of the old model, and the layer (by its old self) whose output should
  /// be the same in the new one.
  struct Pair {
    const LayerImpl *old, *now;
  };
  std::map<const LayerImpl*, Pair> pairs;
  std::vector<const LayerImpl*> takers;  ///< of out.folds

 private:
  // Uses of each layer, in all models inside.
  void count(const ModelImpl& m) {
    if (!counted_.insert(&m).second) return;
    for (auto& c : m.calls) {
      ++uses_[c.layer.get()];
      if (c.layer->model()) count(*c.layer->model());
    }
  }
  void visit(const ModelImpl& m, const std::string& path) {
    if (!visited_.insert(&m).second) return;
    m_ = &m, gone_.assign(m.calls.size(), false);
    for (size_t c = 0; c < m.calls.size(); ++c)
      if (auto* bn = dynamic_cast<BatchNormalizationImpl*>(m.calls[c].layer.get()))
        if (m.calls[c].number == 0) take(int(c), *bn, path);
    for (auto& c : m.calls)
      if (c.layer->model()) visit(*c.layer->model(), path + c.layer->name + "/");
  }
  void take(int c, BatchNormalizationImpl& bn, const std::string& path) {
    auto keep = [&](std::string reason, std::vector<int64_t> channels = {}) {
      out_.kept.push_back({path + bn.name, std::move(reason), std::move(channels)});
    };
    if (uses_[&bn] != 1) return keep(concat({"it is used ", uses_[&bn], " times"}));
    if (bn.mode() == BatchNormMode::batch_only) return keep("it takes the batch's own statistics");
    if (bn.config.axis.axes.size() != 1) return keep("it has several axes");
    const Norm norm{&bn, path + bn.name, {c}};
    const double epsilon = bn.config.epsilon;
    Edit now = edits.all[&bn];  // a norm before it may have been merged into it
    auto values = [&](const char* name, Values stored) {
      auto it = now.weights.find(name);
      return it == now.weights.end() ? stored : it->second;
    };
    const Values gamma = values("gamma", norm.gamma()), beta = values("beta", norm.beta()),
                 mean = values("moving_mean", norm.mean()),
                 variance = values("moving_variance", norm.variance());
    Values size;
    for (double g : gamma) size.push_back(std::abs(g));
    const double least = size.empty() ? 0 : 1e-6 * median(size);
    const auto refused = channels_where(int64_t(size.size()), [&](size_t i) {
      return size[i] <= least || variance[i] < 1e-3 * epsilon || !std::isfinite(mean[i]) ||
             !std::isfinite(variance[i]);
    });
    if (!refused.empty() && !options_.degenerate)
      return keep(counted(refused, int64_t(size.size())) +
                      " have no gamma, or a variance far below epsilon",
                  refused);
    Affine a;
    for (size_t i = 0; i < gamma.size(); ++i) {
      a.s.push_back(gamma[i] / std::sqrt(variance[i] + epsilon));
      a.t.push_back(beta[i] - mean[i] * a.s[i]);
    }
    double largest = 0;
    Values s;
    for (double v : a.s) s.push_back(std::abs(v)), largest = std::max(largest, s.back());
    const double risk = s.empty() ? 0 : largest / std::max(median(s), 1e-300);

    std::string why_not = before(c, norm.axes()[0], a, bn);
    if (!taker_) {
      const std::string why = behind(c, norm.axes()[0], a, bn);
      if (!taker_) return keep(why_not + "; " + why);
    }
    edits.all[&bn].dropped = true, gone_[size_t(c)] = true;
    if (side_before_)
      pairs[taker_] = {&bn, &layer(input(c))};
    else
      pairs.try_emplace(taker_, Pair{taker_, taker_});
    takers.push_back(taker_);
    for (auto& t : takers)  // what was merged into this norm has gone where it goes
      if (t == &bn) t = taker_;
    out_.folds.push_back(
        {path + bn.name, path + taker_->name, side_before_ ? "before" : "behind", 0, 0, risk});
    taker_ = nullptr;
  }

  // ---- walking, past what is gone ----
  int input(int c) const {
    const auto& in = m_->calls[size_t(c)].inputs;
    if (in.size() != 1) return -1;
    return gone_[size_t(in[0])] ? input(in[0]) : in[0];
  }
  std::vector<int> readers(int c) const {
    std::vector<int> r;
    for (int k = 0; k < int(m_->calls.size()); ++k)
      for (int i : m_->calls[size_t(k)].inputs) {
        if (i != c) continue;
        const auto more = gone_[size_t(k)] ? readers(k) : std::vector<int>{k};
        r.insert(r.end(), more.begin(), more.end());
      }
    return r;
  }
  bool is_output(int c) const {
    for (int o : m_->outputs) {
      while (gone_[size_t(o)]) o = m_->calls[size_t(o)].inputs[0];
      if (o == c) return true;
    }
    return false;
  }
  int only_reader(int c) const {
    const auto r = readers(c);
    return r.size() == 1 && !is_output(c) ? r[0] : -1;
  }
  LayerImpl& layer(int c) const { return *m_->calls[size_t(c)].layer; }
  int64_t rank(int c) const { return int64_t(m_->calls[size_t(c)].dims.size()); }
  bool passes(LayerImpl& l) const {
    const std::string_view n = l.class_name();
    if (uses_.at(&l) != 1) return false;
    return n == "Dropout" || n == "AveragePooling2D" || n == "GlobalAveragePooling2D" ||
           (n == "Activation" && text_field(l, "activation") == "linear");
  }
  static bool pools(LayerImpl& l) { return l.class_name().find("Pooling") != std::string::npos; }

  // Tries the linear layer before; else says why not.
  std::string before(int c, int64_t axis, const Affine& a, const BatchNormalizationImpl& bn) {
    int at = c;
    for (;;) {
      const int from = input(at);
      if (from < 0) return "no one layer lies before it";
      LayerImpl& l = layer(from);
      if (only_reader(from) != at) return concat({"\"", l.name, "\" before it has other readers"});
      if (is_linear(l)) {
        if (uses_[&l] != 1) return concat({"\"", l.name, "\" before it is used several times"});
        if (channel_axis(l, rank(from)) != axis)
          return concat({"\"", l.name, "\" before it has its channels on another axis"});
        if (bn.config.activation != "linear") {
          if (at != c) return "its activation would come before what lies between";
          edits.all[&l].config["activation"] = bn.config.activation;
        }
        fold_into_before(l, a, edits);
        taker_ = &l, side_before_ = true;
        return "";
      }
      if (!passes(l)) return concat({"\"", l.name, "\" before it is not linear"});
      if (pools(l)) {
        const int64_t pooled = channel_axis(l, rank(input(from)));
        if (axis != (rank(from) == 2 ? 1 : pooled))
          return concat({"\"", l.name, "\" before it pools its channels"});
        axis = pooled;
      }
      at = from;
    }
  }
  // Tries what lies behind.
  std::string behind(int c, int64_t axis, Affine a, const BatchNormalizationImpl& bn) {
    if (bn.config.activation != "linear") return "it has an activation";
    int at = c;
    for (;;) {
      const int to = only_reader(at);
      if (to < 0) return "what it makes has other readers, or none";
      LayerImpl& l = layer(to);
      const std::string name = concat({"\"", l.name, "\" behind it "});
      if (l.class_name() == "BatchNormalization" || is_linear_in(l)) {
        if (uses_[&l] != 1) return name + "is used several times";
        if (auto* next = dynamic_cast<BatchNormalizationImpl*>(&l)) {
          if (next->mode() == BatchNormMode::batch_only)
            return name + "takes the batch's own statistics";
          if (Norm{next, "", {}}.axes() != std::vector{axis}) return name + "has another axis";
          merge_into_norm(*next, a);
        } else {
          if (channel_axis(l, rank(at)) != axis) return name + "has its channels on another axis";
          const bool dense = l.class_name() == "Dense";
          if (a.shifts() && l.class_name() == "Conv2DTranspose")
            return name + "spreads a shift unevenly";
          if (a.shifts() && !dense && text_field(l, "padding") != "valid")
            return name + "pads with zeros, which a shift does not reach";
          fold_into_behind(l, a, edits);
        }
        taker_ = &l, side_before_ = false;
        return "";
      }
      if (l.class_name() == "Flatten") {
        if (!spread(at, axis, text_field(l, "data_format") == "channels_first", a))
          return name + "has unknown extents";
        axis = 1;
      } else if (!passes(l)) {
        return name + "is not linear";
      } else if (pools(l)) {
        if (axis != channel_axis(l, rank(at))) return name + "pools its channels";
        if (rank(to) == 2) axis = 1;
      }
      at = to;
    }
  }
  // Linear in what it reads, whatever activation follows.
  static bool is_linear_in(const LayerImpl& l) {
    const std::string_view c = l.class_name();
    return c == "Dense" || c == "Conv1D" || c == "Conv2D" || c == "Conv3D" ||
           c == "DepthwiseConv2D" || c == "SeparableConv2D" || c == "Conv2DTranspose";
  }
  // s and t of the features that Flatten makes of what use `at` gives.
  bool spread(int at, int64_t axis, bool channels_first, Affine& a) const {
    const Dims& d = m_->calls[size_t(at)].dims;
    std::vector<size_t> order;  // of the axes, as Flatten reads them
    for (size_t i = 1; i < d.size(); ++i) {
      if (d[i] < 0) return false;
      order.push_back(i);
    }
    if (channels_first && d.size() > 2) std::rotate(order.begin(), order.begin() + 1, order.end());
    size_t inner = 1, all = 1;
    bool behind = false;
    for (size_t i : order) {
      all *= size_t(d[i]);
      if (behind) inner *= size_t(d[i]);
      behind = behind || int64_t(i) == axis;
    }
    Affine wide;
    for (size_t f = 0; f < all; ++f)
      wide.s.push_back(a.s[f / inner % a.s.size()]), wide.t.push_back(a.t[f / inner % a.t.size()]);
    a = std::move(wide);
    return true;
  }
  // s2 (s x + t - mean) + beta2 with statistics 0 and 1 - epsilon left: gamma takes s s2.
  void merge_into_norm(BatchNormalizationImpl& next, const Affine& a) {
    const Norm n{&next, "", {}};
    const Values gamma = n.gamma(), beta = n.beta(), mean = n.mean(), variance = n.variance();
    Edit& e = edits.all[&next];
    Values new_gamma, new_beta;
    for (size_t i = 0; i < gamma.size(); ++i) {
      const double s = gamma[i] / std::sqrt(variance[i] + next.config.epsilon);
      new_gamma.push_back(s * a.s[i] * std::sqrt(1 + next.config.epsilon));
      new_beta.push_back(s * (a.t[i] - mean[i]) + beta[i]);
    }
    e.config["scale"] = e.config["center"] = true;
    e.weights["gamma"] = std::move(new_gamma), e.weights["beta"] = std::move(new_beta);
    e.weights["moving_mean"] = Values(gamma.size(), 0.);
    e.weights["moving_variance"] = Values(gamma.size(), 1.);
  }

  const FoldOptions& options_;
  Folded& out_;
  std::set<const ModelImpl*> counted_, visited_;
  std::map<const LayerImpl*, int64_t> uses_;
  const ModelImpl* m_ = nullptr;
  std::vector<bool> gone_;  // calls of *m_ whose layer is folded
  LayerImpl* taker_ = nullptr;
  bool side_before_ = false;
};

struct Difference {
  double absolute = 0, largest = 0;
  void add(const Tensor& a, const Tensor& b) {
    const Values x = a.to_vector<double>(), y = b.to_vector<double>();
    for (size_t i = 0; i < x.size(); ++i) {
      const double d = std::abs(x[i] - y[i]);
      absolute = std::max(absolute, std::isnan(d) ? INFINITY : d);
      largest = std::max(largest, std::abs(x[i]));
    }
  }
  double relative() const { return largest > 0 ? absolute / largest : absolute; }
};
}  // namespace

Folded fold(const Model& model, const FoldOptions& o) {
  const Net old(model);
  if (o.samples < 1) fail({"fold: samples is ", o.samples, ", expected at least 1"});
  if (!o.x.empty() && o.x.size() != old.inputs.size())
    fail({"fold: x has ", o.x.size(), " tensors, expected ", old.inputs.size(), ", one an input"});
  for (size_t i = 0; i < o.x.size(); ++i) check_data(old, o.x[i], "fold", i);
  Folded r;
  Folder folder(model, o, r);
  Rewritten made = rewritten(model, folder.edits.all);
  r.model = made.model;
  r.random_probe = o.x.empty();

  const Dataset probe = o.x.empty() ? Dataset(random_inputs(old, o.samples))
                                    : Dataset(o.x).take(std::min(o.samples, o.x[0].sig().shape[0]));
  r.samples = probe.size();
  const Net now(r.model);
  std::map<const LayerImpl*, std::vector<Tensor>> before;  // by what stands for it now
  std::map<const LayerImpl*, const LayerImpl*> wanted;
  for (const LayerImpl* taker : folder.takers)
    wanted[folder.pairs.at(taker).old] = made.layers.at(folder.pairs.at(taker).now);
  std::map<const LayerImpl*, Difference> difference;
  Difference outputs;
  const Dataset parts = probe.batch(8);  // what is compared is held for so many samples
  for (int64_t i = 0; i < parts.batches(); ++i) {
    const Tensors x = parts.batch_at(i);
    before.clear();
    const Tensors want = run(old, x, {.see = [&](int use, const Tensors&, const Tensor& out) {
                               auto it = wanted.find(old.uses[size_t(use)].layer.get());
                               if (it != wanted.end()) before[it->second].push_back(out);
                             }});
    std::map<const LayerImpl*, size_t> next;
    const Tensors got = run(now, x, {.see = [&](int use, const Tensors&, const Tensor& out) {
                              const LayerImpl* l = now.uses[size_t(use)].layer.get();
                              auto it = before.find(l);
                              if (it != before.end())
                                difference[l].add(it->second.at(next[l]++), out);
                            }});
    for (size_t k = 0; k < want.size(); ++k) outputs.add(want[k], got[k]);
  }
  for (size_t k = 0; k < r.folds.size(); ++k) {
    const Difference& d = difference[made.layers.at(folder.pairs.at(folder.takers[k]).now)];
    r.folds[k].absolute = d.absolute, r.folds[k].relative = d.relative();
  }
  r.absolute = outputs.absolute, r.relative = outputs.relative();
  return r;
}

std::string certificate_text(const Folded& f) {
  std::string s;
  for (const Fold& k : f.folds)
    s += concat({"folded ", k.norm, " into ", k.into, " ", k.side, " it: difference ",
                 number(k.absolute), " (relative ", number(k.relative), "), int8 risk ",
                 number(k.int8_risk), "\n"});
  for (const Kept& k : f.kept) {
    s += concat({"kept ", k.norm, ": ", k.reason});
    for (size_t i = 0; i < k.channels.size() && i < 12; ++i)
      s += concat({i ? ", " : ": ", k.channels[i]});
    s += k.channels.size() > 12 ? concat({" and ", k.channels.size() - 12, " more\n"}) : "\n";
  }
  return s + concat({"outputs: difference ", number(f.absolute), " (relative ", number(f.relative),
                     ") on ", f.samples,
                     f.random_probe ? " samples of normal numbers\n" : " samples\n"});
}
std::string certificate_json(const Folded& f) {
  using format::Json;
  auto finite = [](double v) { return std::isfinite(v) ? Json(v) : Json(); };
  Json folds = Json::array(), kept = Json::array();
  for (const Fold& k : f.folds)
    folds.push_back({{"norm", k.norm},
                     {"into", k.into},
                     {"side", k.side},
                     {"absolute", finite(k.absolute)},
                     {"relative", finite(k.relative)},
                     {"int8_risk", finite(k.int8_risk)}});
  for (const Kept& k : f.kept)
    kept.push_back({{"norm", k.norm}, {"reason", k.reason}, {"channels", k.channels}});
  return format::json_text({{"folds", folds},
                            {"kept", kept},
                            {"absolute", finite(f.absolute)},
                            {"relative", finite(f.relative)},
                            {"samples", f.samples},
                            {"random_probe", f.random_probe}});
}

}  // namespace evenflow::doctor
