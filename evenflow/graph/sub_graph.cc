// SPDX-License-Identifier: Apache-2.0
#include "evenflow/graph/sub_graph.h"

namespace evenflow {

std::shared_ptr<const Plan> SubGraph::plan(std::span<const Sig> s) const {
  std::vector<int64_t> key;
  for (auto& x : s) key.insert(key.end(), x.shape.begin(), x.shape.end());
  std::lock_guard l(mutex);
  auto& p = plans[key];
  if (!p) {
    Graph g = graph;
    g.respecialise(s);
    p = std::make_shared<Plan>(g, std::vector<Role>(g.results.size()));
    if (plans.size() > 64) {  // data-dependent extents must not keep plans without end
      auto keep = p;
      plans.clear();
      plans[key] = keep;
      return keep;
    }
  }
  return p;
}
Sigs SubGraph::result_sigs(std::span<const Sig> s) const {
  Graph g = graph;
  g.respecialise(s);
  return g.sigs(g.results);
}
std::vector<BufferPtr> SubGraph::run(std::span<const Sig> s, std::vector<BufferPtr> leaves) const {
  auto p = plan(s);
  auto r = p->acquire();
  p->bind(*r, std::move(leaves));
  p->execute(*r, false);
  p->execute(*r, true);
  return r->results;
}

}  // namespace evenflow
