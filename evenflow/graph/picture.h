// SPDX-License-Identifier: Apache-2.0
// Pictures of graphs: one self-contained HTML page, no network.
#pragma once
#include <string>
#include <vector>

#include "evenflow/graph/plan.h"

namespace evenflow {

/// A graph drawn in layers from its inputs down: a box a call, coloured by its traits; hovering
/// shows attributes, shapes and kernels. Graphs of more than 2,000 calls are drawn up to there.
std::string picture_html(const Graph& graph, const std::string& title);

/// A section of a page with several graphs.
struct Picture {
  std::string title, text;  ///< text: shown below, as it is (a plan's listing)
  const Graph* graph;
};
std::string pictures_html(const std::vector<Picture>& pictures, const std::string& title);

/// With EVENFLOW_VIZ=file.html in the environment: adds the graph as traced, the graph as lowered
/// and the listing of a new plan to that file (the last 16 plans). A file that cannot be written is
/// told to the log, once.
void picture_plan(const std::string& title, const Graph& traced, const Plan& plan);

}  // namespace evenflow
