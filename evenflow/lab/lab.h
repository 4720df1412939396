// SPDX-License-Identifier: Apache-2.0
// The laboratory: what the papers say of batch normalisation, measured here on real data. Each
// experiment asks one question, trains with several seeds, and says what holds and what does not.
#pragma once
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "evenflow/data/dataset.h"
#include "evenflow/format/json.h"
#include "evenflow/train/report.h"

namespace evenflow::lab {

struct Options {
  Dataset train, test;    ///< x f32 [n, ...] in 0..1, y i64 [n]; not batched
  std::string data_name;  ///< "1797 hand-written digits of 8 x 8"
  bool quick = false;     ///< fewer steps and settings
  int seeds = 5;
  int64_t steps = 0;  ///< of a training; 0: as the experiments have it
  uint64_t seed = 1;
  /// Told of the trainings of an experiment that have ended.
  std::function<void(std::string_view experiment, size_t done, size_t all)> progress = {};
  std::function<void()> between_steps = {};  ///< what it throws ends everything
};

/// Something that a paper says, and what was seen.
struct Claim {
  std::string says, seen;
  bool holds = false;
};
struct Outcome {
  std::string id, title;
  std::vector<Claim> claims = {};
  format::Json data = {};                  ///< every number that was measured
  std::function<void(Report&)> show = {};  ///< its part of the report
  double seconds = 0;
};

/// What the experiments of one run share: trainings that several look at are made once.
class Bench;
struct Experiment {
  const char *id, *title;
  Outcome (*run)(Bench&);
};
/// R1 to R8.
const std::vector<Experiment>& experiments();
/// By id; "all" is all. Throws NotFound.
std::vector<Experiment> choose(const std::vector<std::string>& ids);

/// Runs them in their order; `ended` is told of each.
std::vector<Outcome> run(const std::vector<Experiment>& chosen, const Options& options,
                         const std::function<void(const Outcome&)>& ended = {});
std::string report_html(const std::vector<Outcome>& outcomes, const Options& options,
                        const std::string& command);
format::Json report_json(const std::vector<Outcome>& outcomes, const Options& options);

/// MNIST as CSV, gzipped or not: 784 pixels 0..255 and the label, or the label first, a line a
/// digit; or an .npy of [n, 785]. Split at random: `test_share` is kept for testing. Throws
/// DataLoss for what is neither.
Options mnist(const std::string& path, double test_share = 0.2);
Options digits();

}  // namespace evenflow::lab
