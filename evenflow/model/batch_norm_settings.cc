// SPDX-License-Identifier: Apache-2.0
// What a BatchNormalization layer is set to: Keras's settings and ours, what is refused, modes.
#include <algorithm>
#include <cmath>

#include "evenflow/model/batch_normalization.h"
#include "evenflow/model/layer_parts.h"
#include "evenflow/ops/reduce.h"

namespace evenflow {
namespace {
constexpr std::string_view kModes[] = {"train", "eval", "frozen_statistics", "frozen",
                                       "batch_only"},
                           kAverages[] = {"exponential", "plain", "cumulative", "window",
                                          "precise"},
                           kVariances[] = {"population", "sample"};

template <class E, size_t N>
E parse(const BatchNormalizationImpl& layer, std::string_view what, const std::string& text,
        const std::string_view (&names)[N]) {
  const auto it = std::find(std::begin(names), std::end(names), text);
  std::string all;
  for (auto& n : names) all += concat({all.empty() ? "" : ", ", n});
  expect(layer, it != std::end(names), what, "\"" + text.substr(0, 80) + "\"", "one of " + all);
  return E(it - std::begin(names));
}
bool share(double v) { return v >= 0 && v <= 1; }
}  // namespace

std::string_view name_of(BatchNormMode m) { return kModes[size_t(m)]; }
std::string_view name_of(BatchNormAverages a) { return kAverages[size_t(a)]; }

void BatchNormalizationConfig::fields(ConfigVisitor& v) {
  v.field("axis", axis), v.field("momentum", momentum), v.field("epsilon", epsilon),
      v.field("center", center), v.field("scale", scale);
  v.field("beta_initializer", beta_initializer), v.field("gamma_initializer", gamma_initializer);
  v.field("moving_mean_initializer", moving_mean_initializer);
  v.field("moving_variance_initializer", moving_variance_initializer);
  v.field("beta_regularizer", beta_regularizer), v.field("gamma_regularizer", gamma_regularizer);
  v.field("beta_constraint", beta_constraint), v.field("gamma_constraint", gamma_constraint);
  if (!v.writing() || synchronized) v.field("synchronized", synchronized);
  if (v.writing() && !renorm) return;  // Keras before 3.13 does not know the words
  v.field("renorm", renorm), v.field("renorm_momentum", renorm_momentum);
  std::map<std::string, double> limits;
  std::pair<const char*, std::optional<double>*> known[] = {{"rmax", &renorm_clipping.rmax},
                                                            {"rmin", &renorm_clipping.rmin},
                                                            {"dmax", &renorm_clipping.dmax}};
  for (auto& [key, value] : known)
    if (*value) limits[key] = **value;
  v.field("renorm_clipping", limits);
  for (auto& [key, value] : known) {
    value->reset();
    if (auto it = limits.find(key); it != limits.end()) *value = it->second, limits.erase(it);
  }
  if (!limits.empty())
    fail({"renorm_clipping has \"", limits.begin()->first.substr(0, 80),
          "\", expected rmax, rmin and dmax"});
}
void BatchNormalizationImpl::settings(ConfigVisitor& v) {
  std::string mode_name(name_of(mode())), averages_name(name_of(averages())),
      variance(kVariances[size_t(config.variance)]);
  bool apart = trainable.get();  // Keras's file has it false where a mode holds the weights
  v.field("mode", mode_name), v.field("averages", averages_name), v.field("variance", variance);
  v.field("trainable", apart);
  v.field("window", config.window), v.field("virtual_batch_size", config.virtual_batch_size);
  v.field("statistics_dtype", config.statistics_dtype);
  std::map<std::string, double> noise;
  if (config.adjustment)
    noise = {{"scale_low", config.adjustment->scale_low},
             {"scale_high", config.adjustment->scale_high},
             {"bias_low", config.adjustment->bias_low},
             {"bias_high", config.adjustment->bias_high}};
  v.field("adjustment", noise);
  if (v.writing()) return;
  config.variance = parse<BatchNormVariance>(*this, "variance", variance, kVariances);
  trainable.set(apart);
  set_mode(parse<BatchNormMode>(*this, "mode", mode_name, kModes));
  averages_.set(int64_t(parse<BatchNormAverages>(*this, "averages", averages_name, kAverages)));
  config.adjustment.reset();
  if (!noise.empty()) {
    auto take = [&](const char* key) {
      const auto it = noise.find(key);
      expect(*this, it != noise.end(), "adjustment", concat({"without ", key}), "all four limits");
      const double value = it->second;
      noise.erase(it);
      return value;
    };
    config.adjustment = {take("scale_low"), take("scale_high"), take("bias_low"),
                         take("bias_high")};
    expect(*this, noise.empty(), "adjustment", noise.empty() ? "" : noise.begin()->first,
           "scale_low, scale_high, bias_low and bias_high");
  }
  check();
  if (built) make_state();
}

void BatchNormalizationImpl::check() const {
  const BatchNormalizationConfig& c = config;
  expect(*this, !c.axis.axes.empty(), "axis", "empty", "at least one axis");
  expect(*this, share(c.momentum), "momentum", c.momentum, "between 0 and 1");
  expect(*this, c.epsilon >= 0 && std::isfinite(c.epsilon), "epsilon", c.epsilon,
         "a finite number, at least 0");
  expect(*this, share(c.renorm_momentum), "renorm_momentum", c.renorm_momentum, "between 0 and 1");
  const double rmax = c.renorm_clipping.rmax.value_or(INFINITY),
               rmin = c.renorm_clipping.rmin.value_or(0),
               dmax = c.renorm_clipping.dmax.value_or(INFINITY);
  expect(*this, rmin >= 0 && rmin < INFINITY, "renorm_clipping: rmin", rmin,
         "a finite number, at least 0");
  expect(*this, rmax > 0 && rmax >= rmin, "renorm_clipping: rmax", rmax,
         concat({"above 0, and at least rmin, ", rmin}));
  expect(*this, dmax >= 0, "renorm_clipping: dmax", dmax, "at least 0");
  expect(*this, c.window >= 1 && c.window <= 1 << 12, "window", c.window, "from 1 to 2^12");
  expect(*this, c.virtual_batch_size >= 0, "virtual_batch_size", c.virtual_batch_size,
         "at least 0");
  expect(*this, !c.synchronized || !c.virtual_batch_size, "virtual_batch_size",
         c.virtual_batch_size, "0 where the layer is synchronized: ghosts stay by themselves");
  expect(*this, c.statistics_dtype == "float32" || c.statistics_dtype == "float64",
         "statistics_dtype", "\"" + c.statistics_dtype.substr(0, 80) + "\"", "float32 or float64");
  expect(*this, c.activation == "linear" || c.activation == "relu", "activation",
         "\"" + c.activation.substr(0, 80) + "\"", "linear or relu");
  if (!c.adjustment) return;
  const BatchNormAdjustment& a = *c.adjustment;
  expect(*this, a.scale_low > 0 && a.scale_low <= a.scale_high && std::isfinite(a.scale_high),
         "adjustment: scale", concat({a.scale_low, "..", a.scale_high}),
         "finite limits above 0, in order");
  expect(*this, a.bias_low <= a.bias_high && std::isfinite(a.bias_high - a.bias_low),
         "adjustment: bias", concat({a.bias_low, "..", a.bias_high}), "finite limits, in order");
}
std::string BatchNormalizationImpl::only_here() const {
  if (config.axis.axes.size() > 1)
    return concat({"it keeps ", config.axis.axes.size(),
                   " axes, expected one, which is all that "
                   "Keras has"});
  if (config.activation != "linear")
    return "its activation is \"" + config.activation +
           "\", expected an Activation layer behind it: Keras's has none";
  if (mode() == BatchNormMode::batch_only)
    return "its mode is batch_only, expected another: Keras predicts by moving averages";
  return {};
}
void BatchNormalizationImpl::check_weights() const {
  for (const Variable& v :
       {moving_mean, moving_variance, moving_stddev, renorm_mean, renorm_stddev}) {
    if (!v) continue;
    const Tensor t = v.read();
    const bool spread = v == moving_variance || v == moving_stddev || v == renorm_stddev;
    const bool good = all_finite({spread ? sqrt(t) : t}).item() != 0;  // no root is negative
    if (!good)
      fail(Code::DataLoss, {"BatchNormalization \"", name, "\": ", v.name(),
                            " holds what is not finite or a negative spread, expected statistics"});
  }
}

// ---- modes ----
BatchNormMode BatchNormalizationImpl::mode() const {
  const int64_t m = mode_.get();
  return m < 0 ? config.mode : BatchNormMode(m);
}
BatchNormAverages BatchNormalizationImpl::averages() const {
  const int64_t a = averages_.get();
  return a < 0 ? config.averages : BatchNormAverages(a);
}
bool BatchNormalizationImpl::holds_weights() const {
  return mode() == BatchNormMode::eval || mode() == BatchNormMode::frozen;
}
std::string BatchNormalizationImpl::summary_note() const {
  return concat({name_of(mode()), "/", name_of(averages())});
}
int64_t set_batch_norm_mode(const Model& model, BatchNormMode mode, std::string_view prefix) {
  int64_t n = 0;
  for (auto& l : model.impl().leaves())
    if (auto* b = dynamic_cast<BatchNormalizationImpl*>(l.layer.get());
        b && std::string_view(l.path).starts_with(prefix))
      b->set_mode(mode), ++n;
  return n;
}

}  // namespace evenflow
