// SPDX-License-Identifier: Apache-2.0
// x for sum_like(x, x), for a cast to x's own type, and for whatever else does no work here.
#include "evenflow/graph/pass.h"

namespace evenflow {

PASS(drop_aliases) {
  return {.summary = "calls that would give their input are taken out",
          .order = 10,
          .run = [](Graph& g, const PassOptions&) {
            Rewriter r(g);
            for (int i = 0; i < r.calls(); ++i) {
              const Graph::Call& c = r.call(i);
              if (!c.op->traits.alias || r.sig(c.in[0]) != r.sig(c.out[0])) continue;
              const int from = c.out[0], to = c.in[0];
              r.replace(from, to);
              r.erase(i);
            }
            r.finish();
          }};
}

}  // namespace evenflow
