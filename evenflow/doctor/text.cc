// SPDX-License-Identifier: Apache-2.0
// A diagnosis as text and as JSON.
#include <cmath>
#include <nlohmann/json.hpp>

#include "evenflow/doctor/examination.h"
#include "evenflow/format/json.h"

namespace evenflow::doctor {
namespace {
using format::Json;

std::string channel_list(const std::vector<int64_t>& channels) {
  std::string s;
  for (size_t i = 0; i < channels.size() && i < 12; ++i)
    s += (i ? ", " : "") + std::to_string(channels[i]);
  if (channels.size() > 12) s += concat({" and ", channels.size() - 12, " more"});
  return s;
}
Json json_number(double v) { return std::isfinite(v) ? Json(v) : Json(); }
Json json_numbers(const std::vector<double>& v) {
  Json j = Json::array();
  for (double x : v) j.push_back(json_number(x));
  return j;
}
std::string plural(size_t n, std::string_view what) {
  return concat({n, " ", what, n == 1 ? "" : "s"});
}
}  // namespace

std::string diagnosis_text(const Diagnosis& d) {
  std::string s;
  size_t many[3] = {};
  for (const Finding& f : d.findings) {
    ++many[size_t(f.level)];
    s += concat({str(f.level), " ", f.id, " ", f.name, f.layer.empty() ? "" : ", layer ", f.layer,
                 ": ", f.saw, "\n"});
    if (!f.channels.empty()) s += concat({"    channels: ", channel_list(f.channels), "\n"});
    s += concat({"    why: ", f.why, "\n    what to do: ", f.advice, "\n"});
  }
  if (d.gap)
    s += concat({"loss: ", number(d.gap->stored), " by averages, ", number(d.gap->precise),
                 " by the statistics of all of x, ", number(d.gap->batch),
                 " by each batch's own\n"});
  s += concat({"model \"", d.model, "\": ", d.healthy() ? "healthy" : "not healthy", "; ",
               plural(many[2], "error"), ", ", plural(many[1], "warning"), ", ",
               plural(many[0], "note"), " from ", plural(d.ran.size(), "check"), "\n"});
  std::map<std::string, std::string> skipped;  // by what they need
  for (auto& k : d.skipped) skipped[k.needs] += (skipped[k.needs].empty() ? "" : ", ") + k.id;
  for (auto& [needs, ids] : skipped) s += concat({"not checked: ", ids, " need ", needs, "\n"});
  return s;
}

std::string diagnosis_json(const Diagnosis& d) {
  Json findings = Json::array();
  for (const Finding& f : d.findings)
    findings.push_back({{"id", f.id},
                        {"name", f.name},
                        {"level", str(f.level)},
                        {"layer", f.layer},
                        {"channels", f.channels},
                        {"value", json_number(f.value)},
                        {"threshold", f.threshold},
                        {"saw", f.saw},
                        {"why", f.why},
                        {"advice", f.advice},
                        {"fix", f.fix}});
  Json layers = Json::array();
  for (const Reading& r : d.readings) {
    Json l{{"layer", r.layer},
           {"activation", r.activation},
           {"updates", r.updates},
           {"epsilon", r.epsilon},
           {"moving_mean", json_numbers(r.mean)},
           {"moving_variance", json_numbers(r.variance)}};
    if (!r.data_mean.empty()) {
      l["data_mean"] = json_numbers(r.data_mean);
      l["data_variance"] = json_numbers(r.data_variance);
      l["divergence"] = json_number(r.divergence);
      l["dead"] = r.dead, l["saturated"] = r.saturated;
    }
    layers.push_back(std::move(l));
  }
  Json skipped = Json::array();
  for (auto& k : d.skipped) skipped.push_back({{"id", k.id}, {"needs", k.needs}});
  Json j{{"model", d.model}, {"healthy", d.healthy()}, {"findings", findings},
         {"ran", d.ran},     {"skipped", skipped},     {"layers", layers}};
  if (const auto& g = d.gap)
    j["loss"] = {{"stored", json_number(g->stored)},
                 {"batch", json_number(g->batch)},
                 {"precise", json_number(g->precise)},
                 {"inference", json_number(g->inference)},
                 {"training", json_number(g->training)},
                 {"constant", json_number(g->constant)},
                 {"guilty", g->guilty}};
  return format::json_text(j);
}

}  // namespace evenflow::doctor
