// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/examination.h"

namespace evenflow::doctor {

DOCTOR_CHECK(T5) {
  return {.name = "skipped_steps",
          .looks_for =
              "steps that were skipped because a gradient was not finite, more than one "
              "in a hundred (warning) or fewer (note); the same of batches whose statistics a "
              "layer rejected; averages that are not finite (error)",
          .threshold = 0.01,
          .why =
              "a loss scale that is too high, or an overflow in one layer; in averages a NaN "
              "stays for ever and shows in inference only",
          .advice =
              "lower the loss scale or the learning rate; EVENFLOW_CHECK=nan names the call "
              "that made the first NaN",
          .run = [](Examination& e) {
            for (const Norm& n : e.net().norms) {
              const auto mean = n.mean(), variance = n.variance();
              const auto which = channels_where(n.channels(), [&](size_t c) {
                return !std::isfinite(mean[c]) || !std::isfinite(variance[c]) || variance[c] < 0;
              });
              if (!which.empty())
                e.find({.level = Level::error,
                        .layer = n.path,
                        .channels = which,
                        .value = double(which.size()),
                        .saw = concat({"the averages of ", counted(which, n.channels()),
                                       " are not finite, or a variance is negative"})});
            }
            auto tell = [&](std::string layer, double bad, double good, std::string_view what) {
              if (!(bad > 0)) return;
              const double share = bad / (bad + good);
              e.find({.level = share > e.threshold() ? Level::warning : Level::note,
                      .layer = std::move(layer),
                      .value = share,
                      .saw = concat({number(bad), " of ", number(bad + good), " ", what})});
            };
            for (const Norm& n : e.net().norms)
              tell(n.path, n.layer->rejected_count.read().item(),
                   n.layer->update_count.read().item(),
                   "batches had statistics that are not finite");
            const auto& trace = e.options().trace;
            if (trace) tell("", double(trace->skipped), double(trace->steps), "steps were skipped");
          }};
}

}  // namespace evenflow::doctor
