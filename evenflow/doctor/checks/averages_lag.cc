// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/examination.h"

namespace evenflow::doctor {

DOCTOR_CHECK(T2) {
  return {.name = "averages_lag",
          .looks_for =
              "KL(what training sees of x || averages) above 0.1, the mean over channels, "
              "with every layer before normalised by its batch (note); above 0.5 (warning)",
          .threshold = 0.1,
          .why = "the averages are behind the weights: inference sees another net than training",
          .advice = "recalibrate; or a lower momentum or learning rate towards the end",
          .needs = Check::data,
          .run = [](Examination& e) {
            for (const Norm& n : e.net().norms) {
              const double d = divergence(e.observed().batch.at(n.layer), n.mean(), n.variance(),
                                          n.layer->config.epsilon);
              if (d > e.threshold())
                e.find({.level = d > 0.5 ? Level::warning : Level::note,
                        .layer = n.path,
                        .value = d,
                        .saw = concat({"the divergence is ", number(d)}),
                        .fix = d > 0.5 ? "recalibrate" : ""});
            }
          }};
}

}  // namespace evenflow::doctor
