// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/examination.h"

namespace evenflow::doctor {

DOCTOR_CHECK(T1) {
  return {.name = "warm_up",
          .looks_for =
              "plain averages in which the initial values still weigh more than 1 %: "
              "momentum^updates (warning)",
          .threshold = 0.01,
          .why =
              "inference normalises by what the layer was initialised with: the loss of "
              "evaluate() is far above that of fit() on the same data",
          .advice = "more steps, a lower momentum, or debiased averages; --fix debiases them",
          .run = [](Examination& e) {
            for (const Norm& n : e.net().norms) {
              const auto& bn = *n.layer;
              const double k = bn.update_count.read().item(), m = bn.config.momentum;
              // Without a count nobody knows how many updates there were.
              if (bn.averages() != BatchNormAverages::plain || k < 1) continue;
              const double left = std::pow(m, k);
              if (!(left > e.threshold())) continue;
              const double more =
                  m < 1 ? std::ceil(std::log(e.threshold()) / std::log(m)) - k : INFINITY;
              e.find({.layer = n.path,
                      .value = left,
                      .saw = concat({"after ", number(k), " updates at momentum ", number(m),
                                     " the initial values weigh ", number(100 * left), " %; ",
                                     std::isfinite(more) ? number(more) + " more updates are needed"
                                                         : "no number of updates changes that"}),
                      .fix = "debias"});
            }
          }};
}

}  // namespace evenflow::doctor
