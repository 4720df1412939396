// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/examination.h"

namespace evenflow::doctor {

DOCTOR_CHECK(D1) {
  return {.name = "train_eval_gap",
          .looks_for =
              "a loss on the same data that is higher by more than a tenth of a constant "
              "prediction's under the averages than under each batch's own statistics "
              "(warning); says which of averages, batch noise and mode is guilty",
          .threshold = 0.1,
          .why = "evaluate() and fit() disagree on the same data",
          .advice =
              "averages: recalibrate, debias. Batch noise: larger batches, shuffle them. Mode: "
              "a layer does in inference what it should only do in training",
          .needs = Check::targets,
          .run = [](Examination& e) {
            const Gap& g = e.gap();
            if (g.guilty.empty()) return;
            const double high = g.guilty == "mode" ? g.inference : g.stored;
            e.find({.layer = "",
                    .value = std::abs(high - g.batch) / g.constant,
                    .saw = concat({"the loss is ", number(g.inference), " in inference, ",
                                   number(g.stored), " by averages, ", number(g.precise),
                                   " by the statistics of all of x, ", number(g.batch),
                                   " by each batch's own: guilty is ", g.guilty}),
                    .fix = g.guilty == "averages" ? "recalibrate" : ""});
          }};
}

}  // namespace evenflow::doctor
