// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/examination.h"

namespace evenflow::doctor {
namespace {
// Whether the averages began at their initial values. A file of Keras does not say how many updates
// it had, so that a count alone is no proof: the layer's own policy is, a training that was watched
// is, and so is data that lies much nearer to the averages without their beginning.
bool began_at_initial(Examination& e, const Norm& n) {
  if (n.layer->config.averages == BatchNormAverages::plain) return true;
  if (const auto& trace = e.options().trace)
    if (auto it = trace->layers.find(n.path); it != trace->layers.end())
      return it->second.from_initial;
  const auto d = debiased(n);
  if (!e.x() || !d) return false;
  const ChannelStats& seen = e.observed().batch.at(n.layer);
  const double epsilon = n.layer->config.epsilon;
  return 4 * divergence(seen, d->mean, d->variance, epsilon) <
         divergence(seen, n.mean(), n.variance(), epsilon);
}
}  // namespace

DOCTOR_CHECK(T1) {
  return {.name = "warm_up",
          .looks_for =
              "plain averages in which the initial values still weigh more than 1 %: "
              "momentum^updates (warning; a note where they may have begun elsewhere)",
          .threshold = 0.01,
          .why =
              "inference normalises by what the layer was initialised with: the loss of "
              "evaluate() is far above that of fit() on the same data",
          .advice =
              "more steps, a lower momentum, or averages that are not plain; --fix takes the "
              "initial values out",
          .run = [](Examination& e) {
            for (const Norm& n : e.net().norms) {
              const auto& bn = *n.layer;
              const double k = bn.update_count.read().item(), m = bn.config.momentum;
              if (bn.averages() != BatchNormAverages::plain || k < 1) continue;
              const double left = std::pow(m, k);
              if (!(left > e.threshold())) continue;
              const double more =
                  m < 1 ? std::ceil(std::log(e.threshold()) / std::log(m)) - k : INFINITY;
              const bool known = began_at_initial(e, n);
              e.find({.level = known ? Level::warning : Level::note,
                      .layer = n.path,
                      .value = left,
                      .saw = concat({"after ", number(k), " updates at momentum ", number(m),
                                     " what was there before weighs ", number(100 * left), " %; ",
                                     std::isfinite(more) ? number(more) + " more updates are needed"
                                                         : "no number of updates changes that"}),
                      .fix = known ? "debias" : ""});
            }
          }};
}

}  // namespace evenflow::doctor
