// SPDX-License-Identifier: Apache-2.0
// A graph as an attribute of an operation (cond, while_loop, scan): leaves are parameters, then
// captures.
#pragma once
#include <map>
#include <mutex>

#include "evenflow/graph/plan.h"

namespace evenflow {

struct SubGraph {
  Graph graph;
  mutable std::mutex mutex;
  mutable std::map<std::vector<int64_t>, std::shared_ptr<const Plan>>
      plans;  ///< by the extents of the leaves

  std::shared_ptr<const Plan> plan(std::span<const Sig> leaf_sigs) const;
  Sigs result_sigs(std::span<const Sig> leaf_sigs) const;
  std::vector<BufferPtr> run(std::span<const Sig> leaf_sigs, std::vector<BufferPtr> leaves) const;
  Tensors instantiate(const Tensors& leaves) const { return evenflow::instantiate(graph, leaves); }
};

}  // namespace evenflow
