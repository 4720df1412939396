// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/fix.h"

#include <algorithm>
#include <cmath>

#include "evenflow/doctor/examination.h"
#include "evenflow/doctor/recalibrate.h"
#include "evenflow/doctor/rewrite.h"

namespace evenflow::doctor {
namespace {

const Norm* norm_at(const Net& net, const std::string& path) {
  for (const Norm& n : net.norms)
    if (n.path == path) return &n;
  return nullptr;
}
bool debias(const Norm& n) {
  const auto d = debiased(n);
  if (!d) return false;
  const Sig& sig = n.layer->moving_mean.sig();
  n.layer->moving_mean.assign(constant(d->mean, sig.shape, sig.dtype));
  n.layer->moving_variance.assign(constant(d->variance, sig.shape, sig.dtype));
  n.layer->set_averages(BatchNormAverages::exponential);
  return true;
}
}  // namespace

Fixed fix(const Model& model, const Diagnosis& diagnosis, const Options& options) {
  Fixed r{rewritten(model, {}).model, {}};
  auto each = [&](std::string_view what, auto&& f) {
    for (const Finding& found : diagnosis.findings)
      if (found.fix == what) f(found);
  };
  {
    const Net net(r.model);
    each("debias", [&](const Finding& f) {
      const Norm* n = norm_at(net, f.layer);
      if (n && debias(*n)) r.done.push_back(concat({"the averages of ", f.layer, " are debiased"}));
    });
    std::map<const LayerImpl*, Edit> edits;
    each("drop_bias", [&](const Finding& f) {
      for (const Norm& n : net.norms) {
        const int from = biased_source(net, n);
        if (from < 0 || net.uses[size_t(from)].path != f.layer) continue;
        const LayerImpl& l = *net.uses[size_t(from)].layer;
        const auto bias = std::find_if(l.weights.begin(), l.weights.end(),
                                       [](auto& w) { return w.name == "bias"; })
                              ->variable.read()
                              .to_vector<double>();
        std::vector<double> mean = n.mean();
        for (size_t c = 0; c < mean.size(); ++c) mean[c] -= bias[c];
        edits[n.layer].weights["moving_mean"] = mean;
        edits[&l].config["use_bias"] = false;
        r.done.push_back(concat({"the bias of ", f.layer, " is dropped"}));
      }
    });
    if (!edits.empty()) r.model = rewritten(r.model, edits).model;
  }
  bool stale = false;
  each("recalibrate", [&](const Finding&) { stale = true; });
  if (stale && options.x)
    for (auto& l : recalibrate(r.model, options.x, {.samples = options.samples}))
      r.done.push_back(concat({l.layer, " is recalibrated"}));
  return r;
}

}  // namespace evenflow::doctor
