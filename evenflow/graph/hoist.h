// SPDX-License-Identifier: Apache-2.0
// The part of a program that depends on variables alone: folded weights, transformed or cast
// kernels. A program that writes nothing runs it once, and again only when one of these variables
// has changed.
#pragma once
#include "evenflow/graph/graph.h"

namespace evenflow {

/// Which values are made of steady leaves and constants alone. `steady[i]`: leaf i is a variable;
/// absent ones are not. What random calls make never is.
std::vector<char> known_values(const Graph& graph, const std::vector<char>& steady);

struct Hoisted {
  Graph before;  ///< leaves: `leaves` of the whole graph; results: what `main` needs of it
  Graph main;    ///< the whole graph's leaves, then the results of `before`
  std::vector<int> leaves;  ///< numbers of the whole graph's leaves that `before` reads
  bool any() const { return !before.calls.empty(); }
};
/// Takes out the calls whose outputs are known_values().
Hoisted hoist(const Graph& graph, const std::vector<char>& steady);

}  // namespace evenflow
