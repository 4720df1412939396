// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/examination.h"

namespace evenflow::doctor {

DOCTOR_CHECK(S1) {
  return {.name = "bias_before_batch_norm",
          .looks_for =
              "a layer with a bias whose only reader is a batch normalisation of the same "
              "channels (note)",
          .why =
              "the mean that is subtracted takes the bias with it: its gradient is 0, and it "
              "costs memory and an addition",
          .advice = "use_bias=False there; --fix drops the bias and moves it into moving_mean",
          .run = [](Examination& e) {
            const Net& net = e.net();
            for (const Norm& n : net.norms) {
              if (n.uses.size() != 1) continue;
              const int from = biased_source(net, n);
              if (from < 0) continue;
              e.find({.level = Level::note,
                      .layer = net.uses[size_t(from)].path,
                      .saw = concat({"its bias feeds nothing but \"", n.path, "\""}),
                      .fix = "drop_bias"});
            }
          }};
}

}  // namespace evenflow::doctor
