// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/examination.h"

namespace evenflow::doctor {

DOCTOR_CHECK(T4) {
  return {.name = "odd_updates",
          .looks_for =
              "a committed step that updated a layer's averages not once, or, where they "
              "are plain, not once for each use (warning)",
          .threshold = 1,
          .why =
              "averages forget faster, or stand still: a second forward pass, recomputed "
              "activations, accumulation outside pool(), or an update that nobody commits",
          .advice = "one call in training for each step; pool statistics over micro-batches",
          .needs = Check::trace,
          .run = [](Examination& e) {
            for (const Norm& n : e.net().norms) {
              auto it = e.options().trace->layers.find(n.path);
              if (it == e.options().trace->layers.end() || !it->second.odd_steps) continue;
              e.find({.layer = n.path,
                      .value = double(it->second.odd_updates),
                      .saw = concat({it->second.odd_steps, " of ", e.options().trace->steps,
                                     " steps were odd, the last with ", it->second.odd_updates,
                                     " updates"})});
            }
          }};
}

}  // namespace evenflow::doctor
