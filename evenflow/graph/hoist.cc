// SPDX-License-Identifier: Apache-2.0
#include "evenflow/graph/hoist.h"

#include <algorithm>

namespace evenflow {

std::vector<char> known_values(const Graph& g, const std::vector<char>& steady) {
  std::vector<char> known(g.values.size());
  for (size_t i = 0; i < steady.size(); ++i) known[size_t(g.leaves[i])] = steady[i];
  for (auto& [v, b] : g.constants) known[size_t(v)] = 1;
  for (const Graph::Call& c : g.calls) {
    const bool all = !c.op->traits.random && !c.in.empty() &&
                     std::all_of(c.in.begin(), c.in.end(), [&](int v) { return known[size_t(v)]; });
    for (int v : c.out) known[size_t(v)] = all;
  }
  return known;
}

Hoisted hoist(const Graph& g, const std::vector<char>& steady) {
  Hoisted h;
  const std::vector<char> known = known_values(g, steady);
  std::vector<char> early(g.calls.size());
  std::vector<char> worked(g.values.size());  // by a call that does something
  for (size_t i = 0; i < g.calls.size(); ++i) {
    early[i] = !g.calls[i].out.empty() && known[size_t(g.calls[i].out[0])];
    for (int v : g.calls[i].out) worked[size_t(v)] = early[i];
  }
  std::vector<char> needed(g.values.size());
  for (size_t i = 0; i < g.calls.size(); ++i)
    if (!early[i])
      for (int v : g.calls[i].in) needed[size_t(v)] = 1;
  for (int v : g.results) needed[size_t(v)] = 1;

  h.main = g, h.before = g;
  h.main.calls.clear(), h.before.calls.clear(), h.before.leaves.clear(), h.before.results.clear();
  for (size_t i = 0; i < g.calls.size(); ++i)
    (early[i] ? h.before : h.main).calls.push_back(g.calls[i]);
  for (size_t v = 0; v < g.values.size(); ++v)
    if (needed[v] && worked[v]) h.main.leaves.push_back(int(v)), h.before.results.push_back(int(v));
  for (size_t i = 0; i < steady.size(); ++i)
    if (steady[i]) h.before.leaves.push_back(g.leaves[i]), h.leaves.push_back(int(i));
  return h;
}

}  // namespace evenflow
