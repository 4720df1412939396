// SPDX-License-Identifier: Apache-2.0
// Measuring for `evenflow bench`: runs until a time has passed, medians and bests, peak memory.
#pragma once
#include <functional>
#include <nlohmann/json.hpp>

namespace evenflow::cli {

struct Timing {
  double median_ms = 0, best_ms = 0;
  int64_t runs = 0;
};
/// Times each of `works` in turn, A B A B ..., after a warm-up, so that they share the machine's
/// moods.
std::vector<Timing> alternate(const std::vector<std::function<void()>>& works, double seconds,
                              int64_t min_runs = 5);
/// The most memory this process has held, in MB.
double peak_mb();
nlohmann::json to_json(const Timing& t);

}  // namespace evenflow::cli
