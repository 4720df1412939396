// SPDX-License-Identifier: Apache-2.0
#include "evenflow/lab/lab.h"

#include <algorithm>
#include <chrono>

#include "evenflow/lab/bench.h"

namespace evenflow::lab {

const std::vector<Experiment>& experiments() {
  static const std::vector<Experiment> all{{"R1", "fewer steps", run_r1},
                                           {"R2", "higher learning rates", run_r2},
                                           {"R3", "a wider range of initial weights", run_r3},
                                           {"R4", "deep nets of sigmoids", run_r4},
                                           {"R5", "the landscape, and covariate shift", run_r5},
                                           {"R6", "small batches", run_r6},
                                           {"R7", "which averages", run_r7},
                                           {"R8", "accidents", run_r8}};
  return all;
}
std::vector<Experiment> choose(const std::vector<std::string>& ids) {
  std::vector<Experiment> chosen;
  for (auto& e : experiments())
    if (std::find(ids.begin(), ids.end(), e.id) != ids.end() ||
        std::find(ids.begin(), ids.end(), "all") != ids.end())
      chosen.push_back(e);
  for (auto& id : ids)
    if (id != "all" &&
        std::none_of(chosen.begin(), chosen.end(), [&](auto& e) { return e.id == id; }))
      fail(Code::NotFound, {"lab: experiment is \"", id, "\", expected R1 to R8, or all"});
  return chosen;
}

std::vector<Outcome> run(const std::vector<Experiment>& chosen, const Options& options,
                         const std::function<void(const Outcome&)>& ended) {
  if (options.seeds < 1) fail({"lab: seeds is ", options.seeds, ", expected at least 1"});
  Bench bench(options);
  std::vector<Outcome> all;
  for (auto& e : chosen) {
    const auto start = std::chrono::steady_clock::now();
    all.push_back(e.run(bench));
    all.back().seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (ended) ended(all.back());
  }
  return all;
}

std::string report_html(const std::vector<Outcome>& outcomes, const Options& o,
                        const std::string& command) {
  Report page("What batch normalisation does",
              concat({"Measured on ", o.data_name, ", ", o.train.size(), " to train on and ",
                      o.test.size(), " to test; ", o.seeds, " seeds",
                      o.quick ? "; the quick form, with fewer steps and settings." : "."}));
  int64_t held = 0, claims = 0;
  double seconds = 0;
  std::vector<std::vector<std::string>> rows{{"what the papers say", "", "what was seen"}};
  for (auto& r : outcomes) {
    seconds += r.seconds;
    for (auto& c : r.claims) {
      ++claims, held += c.holds;
      rows.push_back({r.id + ": " + c.says, c.holds ? "yes" : "no", c.seen});
    }
  }
  page.facts({{concat({held, " of ", claims}), "statements hold here", kNormedColor},
              {number(seconds, "%.0f s"), "for all experiments"}});
  page.section("In short",
               "Each line is a statement of a paper and whether it holds for these "
               "nets and data. What does not hold is said as plainly as what does.");
  page.verdicts(rows);
  for (auto& r : outcomes) r.show(page);
  page.section("How to repeat it", "The same command gives the same numbers on the same machine.");
  page.code(command);
  page.paragraph(
      "S. Ioffe and C. Szegedy, Batch Normalization (2015). S. Santurkar, D. Tsipras, A. Ilyas and "
      "A. Mądry, How Does Batch Normalization Help Optimization? (2018). S. Ioffe, Batch "
      "Renormalization (2017). Digits: E. Alpaydin and C. Kaynak, UCI Machine Learning Repository "
      "(1998), doi:10.24432/C50P49, CC BY 4.0.");
  return page.html();
}

format::Json report_json(const std::vector<Outcome>& outcomes, const Options& o) {
  format::Json j = {{"version", EVENFLOW_VERSION},
                    {"data", o.data_name},
                    {"train", o.train.size()},
                    {"test", o.test.size()},
                    {"seeds", o.seeds},
                    {"seed", o.seed},
                    {"quick", o.quick}};
  for (auto& r : outcomes) {
    format::Json claims = format::Json::array();
    for (auto& c : r.claims)
      claims.push_back({{"says", c.says}, {"seen", c.seen}, {"holds", c.holds}});
    j["experiments"].push_back({{"id", r.id},
                                {"title", r.title},
                                {"seconds", r.seconds},
                                {"claims", std::move(claims)},
                                {"data", r.data}});
  }
  return j;
}

}  // namespace evenflow::lab
