// SPDX-License-Identifier: Apache-2.0
// A diagnosis as a page.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "evenflow/doctor/examination.h"
#include "evenflow/train/report.h"

namespace evenflow::doctor {
namespace {

constexpr size_t kMostPoints = 256;  // in a chart; wider layers show every k-th channel

std::string plural(size_t n, std::string_view what) {
  return concat({n, " ", what, n == 1 ? "" : "s"});
}
// "2, 3, 5 and 9 more"
std::string list(const std::vector<int64_t>& v, size_t most) {
  std::string s;
  for (size_t i = 0; i < v.size() && i < most; ++i) s += (i ? ", " : "") + std::to_string(v[i]);
  if (v.size() > most) s += concat({" and ", v.size() - most, " more"});
  return s.empty() ? "–" : s;
}

void add_findings(Report& page, const Diagnosis& d) {
  page.section("Findings",
               d.findings.empty() ? "Nothing was found." : "What is worst comes first.");
  for (size_t i = 0; i < d.findings.size();) {
    const Finding& f = d.findings[i];
    std::vector<std::vector<std::string>> rows{{"layer", "what was seen", "channels"}};
    size_t last = i;
    for (; last < d.findings.size() && d.findings[last].id == f.id &&
           d.findings[last].level == f.level;
         ++last) {
      const Finding& g = d.findings[last];
      rows.push_back({g.layer.empty() ? "the model" : g.layer, g.saw, list(g.channels, 8)});
    }
    page.section(concat({f.id, " ", f.name, ": ", str(f.level)}),
                 concat({"Why it matters: ", f.why, ". What to do: ", f.advice, "."}));
    page.table(rows);
    i = last;
  }
}

void add_gap(Report& page, const Gap& g) {
  const std::string verdict =
      g.guilty.empty()
          ? "The losses of the same data agree: neither averages, nor batch noise, nor a mode "
            "stands "
            "between training and inference."
          : concat({"Guilty of the gap between training and inference: ", g.guilty, "."});
  page.section("Who is guilty of the gap", verdict);
  std::vector<std::vector<std::string>> rows{
      {"normalised by", "loss", "more than by batches", "who"}};
  auto row = [&](std::string by, double loss, std::string who, bool guilty) {
    rows.push_back(
        {std::move(by), number(loss), number(loss - g.batch), who + (guilty ? ": guilty" : "")});
  };
  row("each batch's own statistics", g.batch, "", false);
  row("the statistics of all of x", g.precise, "batch noise", g.guilty == "batch noise");
  row("the stored averages", g.stored, "averages", g.guilty == "averages");
  row("what each layer does in inference", g.inference, "mode", g.guilty == "mode");
  row("what each layer does in training", g.training, "", false);
  row("a constant prediction, for scale", g.constant, "", false);
  page.table(rows);
}

void add_layer(Report& page, const Reading& r) {
  const size_t channels = r.mean.size(), step = channels / kMostPoints + 1;
  Series means{"", {}, {}, 1}, deviations{"", {}, {}, 2};
  for (size_t c = 0; c < channels; c += step) {
    const double s = std::sqrt(std::max(0., r.variance[c]) + r.epsilon);
    means.x.push_back(r.mean[c] / s), means.y.push_back(r.data_mean[c] / s);
    deviations.x.push_back(std::log10(s));
    deviations.y.push_back(std::log10(std::sqrt(std::max(0., r.data_variance[c]) + r.epsilon)));
  }
  std::string what = concat({plural(channels, "channel"), ", divergence ", number(r.divergence)});
  if (step > 1) what += concat({"; one in ", step, " is drawn"});
  if (r.activation == "relu")
    what +=
        concat({". The ReLU behind it lets nothing of x pass in ", plural(r.dead.size(), "channel"),
                r.dead.empty() ? "" : ": " + list(r.dead, 16)});
  else if (!r.activation.empty())
    what += concat({". The ", r.activation, " behind it is flat for x in ",
                    plural(r.saturated.size(), "channel"),
                    r.saturated.empty() ? "" : ": " + list(r.saturated, 16)});
  page.section(r.layer, what + ".");
  means.name = deviations.name = "a channel";
  const ScatterChart of_means{"Means, in stored deviations", "stored", "of x", {means}},
      of_deviations{"Deviations, powers of ten", "stored", "of x", {deviations}};
  if (r.inactive.empty()) return page.row(of_means, of_deviations);
  const bool relu = r.activation == "relu";
  Series share{relu ? "off" : "flat", {}, r.inactive, relu ? 0 : 3};
  std::sort(share.y.begin(), share.y.end());
  share.x.resize(share.y.size());
  std::iota(share.x.begin(), share.x.end(), 1.);
  page.row(
      of_means, of_deviations,
      LineChart{.title = concat({"Share of x for which the ", r.activation, " is ", share.name}),
                .x_label = "channels, in order",
                .y_label = "",
                .series = {share},
                .y_min = 0.,
                .y_max = 1.,
                .percent = true});
}
}  // namespace

std::string diagnosis_html(const Diagnosis& d) {
  size_t many[3] = {};
  for (const Finding& f : d.findings) ++many[size_t(f.level)];
  Report page(concat({"Model ", d.model, ": ", d.healthy() ? "healthy" : "not healthy"}),
              concat({plural(d.ran.size(), "check"),
                      " of its batch normalisation: ", plural(many[2], "error"), ", ",
                      plural(many[1], "warning"), ", ", plural(many[0], "note"), "."}));
  double worst = 0;
  size_t dead = 0, saturated = 0, channels = 0;
  bool data = false;
  for (const Reading& r : d.readings) {
    data = data || !r.data_mean.empty();
    worst = std::max(worst, r.divergence);
    dead += r.dead.size(), saturated += r.saturated.size(), channels += r.mean.size();
  }
  std::vector<Report::Fact> facts{{std::to_string(d.readings.size()), "batch normalisation layers"},
                                  {std::to_string(channels), "channels"}};
  if (data) {
    facts.push_back({number(worst), "largest divergence of x from the stored statistics"});
    facts.push_back({std::to_string(dead), "channels that a ReLU lets nothing of x through"});
    facts.push_back(
        {std::to_string(saturated), "channels with a sigmoid or tanh that is flat for x"});
  }
  if (d.gap)
    facts.push_back(
        {number(d.gap->stored - d.gap->batch), "loss by averages, less that by batches"});
  page.facts(facts);
  add_findings(page, d);
  if (d.gap) add_gap(page, *d.gap);
  if (!d.readings.empty()) {
    page.section("Layers",
                 data ? "Divergence is KL(x || stored), the mean over channels; 0 is agreement."
                      : "Without data only what is stored can be shown.");
    std::vector<std::vector<std::string>> rows{
        {"layer", "channels", "updates", "epsilon", "least variance", "feeds"}};
    if (data) rows[0].insert(rows[0].end(), {"divergence", "dead", "saturated"});
    for (const Reading& r : d.readings) {
      rows.push_back(
          {r.layer, std::to_string(r.mean.size()), std::to_string(r.updates), number(r.epsilon),
           r.variance.empty() ? "–"
                              : number(*std::min_element(r.variance.begin(), r.variance.end())),
           r.activation.empty() ? "–" : r.activation});
      if (data)
        rows.back().insert(rows.back().end(), {number(r.divergence), std::to_string(r.dead.size()),
                                               std::to_string(r.saturated.size())});
    }
    page.table(rows);
  }
  for (const Reading& r : d.readings)
    if (!r.data_mean.empty()) add_layer(page, r);
  if (!d.skipped.empty()) {
    std::map<std::string, std::string> by;
    for (auto& k : d.skipped) by[k.needs] += (by[k.needs].empty() ? "" : ", ") + k.id;
    std::string text;
    for (auto& [needs, ids] : by) text += concat({ids, " need ", needs, ". "});
    page.section("Not checked", text);
  }
  return page.html();
}

}  // namespace evenflow::doctor
