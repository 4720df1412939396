// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/examination.h"

namespace evenflow::doctor {

DOCTOR_CHECK(T9) {
  return {
      .name = "dead_relu",
      .looks_for =
          "channels before a ReLU that are negative for more than 99 % of a normal "
          "input: Phi(-beta / |gamma|); a warning from one in twenty channels on, else "
          "a note",
      .threshold = 0.99,
      .why = "hardly anything passes, and hardly any gradient: such a channel does not come back",
      .advice = "a lower learning rate, beta at 0 to begin with; prune what stays dead",
      .run = [](Examination& e) {
        for (const Norm& n : e.net().norms) {
          if (activation_after(e.net(), n) != "relu") continue;
          const auto gamma = n.gamma(), beta = n.beta();
          double worst = 0;
          const auto which = channels_where(n.channels(), [&](size_t c) {
            const double g = std::abs(gamma[c]);
            // Phi(-beta / |gamma|); without gamma the channel is beta.
            const double p = g > 0         ? 0.5 * std::erfc(beta[c] / g / std::sqrt(2.))
                             : beta[c] < 0 ? 1.
                                           : 0.;
            worst = std::max(worst, p);
            return p > e.threshold();
          });
          if (which.empty()) continue;
          const bool many = 20 * int64_t(which.size()) >= n.channels();
          e.find({.level = many ? Level::warning : Level::note,
                  .layer = n.path,
                  .channels = which,
                  .value = worst,
                  .saw = concat({counted(which, n.channels()), " are off nearly always"})});
        }
      }};
}

}  // namespace evenflow::doctor
