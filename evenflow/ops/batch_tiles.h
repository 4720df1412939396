// SPDX-License-Identifier: Apache-2.0
// A part of a graph that runs tile by tile along the batch: what one call leaves in the cache the
// next one finds there, and only what is needed elsewhere goes to memory. Made by the pass
// tile_batches.
#pragma once
#include <vector>

#include "evenflow/graph/sub_graph.h"

namespace evenflow {

struct BatchTilesAttrs {
  SubGraphPtr body;
  std::vector<int64_t> whole;  ///< of each input: 1 if every tile is given all of it
  std::vector<int64_t> joins;  ///< of each result: a BatchRule::Join; statistics come in threes
  int64_t tile = 1;
  static void fields(auto& self, auto&& field) {
    field("body", self.body, "the calls, for any batch");
    field("whole", self.whole, "a number for each input: 1 if it is not cut");
    field("joins", self.joins, "of each result: 0 rows, 1 sum, 2 merged statistics (n, mean, M2)");
    field("tile", self.tile, "rows of a tile");
  }
};

}  // namespace evenflow
