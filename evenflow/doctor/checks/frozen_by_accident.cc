// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/examination.h"

namespace evenflow::doctor {

DOCTOR_CHECK(S9) {
  return {
      .name = "frozen_by_accident",
      .looks_for =
          "a frozen layer behind weights that are trained, while other batch "
          "normalisations learn (warning) or none does (note); mode eval in training",
      .why = "the weights before it move, and the averages that it normalises by stay",
      .advice =
          "freeze a block as a whole, or let this layer learn; trainable=False makes it "
          "use its averages in training, too",
      .run = [](Examination& e) {
        const Net& net = e.net();
        const bool some =
            std::any_of(net.norms.begin(), net.norms.end(), [](auto& n) { return n.trainable; });
        for (const Norm& n : net.norms) {
          // The other modes that hold a layer are meant to stay.
          const bool for_now = n.layer->mode() == BatchNormMode::eval;
          if (n.trainable || (n.layer->holds_weights() && !for_now)) continue;
          const int from = source_of(net, n.uses[0]);
          if (from < 0) continue;
          const Use& u = net.uses[size_t(from)];
          const bool learns =
              u.trainable && std::any_of(u.layer->weights.begin(), u.layer->weights.end(),
                                         [](auto& w) { return w.trainable; });
          if (!learns) continue;
          e.find({.level = some ? Level::warning : Level::note,
                  .layer = n.path,
                  .saw = concat({for_now ? "its mode is eval, for the time being" : "it is frozen",
                                 ", and \"", u.path, "\" before it learns"})});
        }
      }};
}

}  // namespace evenflow::doctor
