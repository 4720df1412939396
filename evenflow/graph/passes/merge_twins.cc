// SPDX-License-Identifier: Apache-2.0
// Calls of one operation with the same attributes and inputs are one call; never random ones.
#include <bit>
#include <unordered_map>

#include "evenflow/graph/pass.h"

namespace evenflow {

PASS(merge_twins) {
  return {
      .summary = "equal calls are made once", .order = 90, .run = [](Graph& g, const PassOptions&) {
        Rewriter r(g);
        std::unordered_map<Key, int, KeyHash> first;
        for (int i = 0; i < r.calls(); ++i) {
          const Graph::Call& c = r.call(i);
          if (c.op->traits.random || c.again) continue;
          Key key{std::bit_cast<uint64_t>(c.op)};
          for (auto& v : c.op->get_attrs(c.attrs.get())) append(key, v);
          for (int v : c.in) key.push_back(uint64_t(v));
          auto [it, fresh] = first.emplace(std::move(key), i);
          if (fresh) continue;
          const std::vector<int> out = c.out;
          for (size_t k = 0; k < out.size(); ++k) r.replace(out[k], r.call(it->second).out[k]);
          r.erase(i);
        }
        r.finish();
      }};
}

}  // namespace evenflow
