// SPDX-License-Identifier: Apache-2.0
// Element-wise calls on values of one shape that run together, some thousand elements at a time:
// what lies between them stays in the first cache. Made by the pass fuse_elementwise.
#pragma once
#include <vector>

#include "evenflow/graph/sub_graph.h"

namespace evenflow {

struct ElementwiseTilesAttrs {
  SubGraphPtr body;
  std::vector<int64_t> whole;  ///< of each input: 1 if it is one element that serves all
  static void fields(auto& self, auto&& field) {
    field("body", self.body, "the calls, for any shape");
    field("whole", self.whole, "a number for each input: 1 if it is one element, which serves all");
  }
};

/// The signatures of inputs of which n elements are taken as a run.
Sigs elementwise_run(std::span<const Sig> in, const std::vector<int64_t>& whole, int64_t n);

}  // namespace evenflow
