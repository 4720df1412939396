// SPDX-License-Identifier: Apache-2.0
// `evenflow bench data`: pipelines over files, measured as a training loop would use them.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace evenflow::cli {

/// One pass over a pipeline of bench/data_peers.py: rows a second of a whole pass, seconds to the
/// first batch, and the sum of all values, by which the peer's answers are compared. No passes: the
/// first batch, and nothing else.
nlohmann::json measured_pipeline(const std::string& work, const std::string& folder,
                                 int64_t passes);

}  // namespace evenflow::cli
