// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/examination.h"

namespace evenflow::doctor {

DOCTOR_CHECK(T7) {
  return {.name = "stalled_averages",
          .looks_for =
              "averages that the update no longer moves though x lies elsewhere: "
              "(1 - momentum) |x's - stored| below half a unit in the last place of the "
              "stored f32, where the two are a tenth of a deviation apart (warning)",
          .why = "the difference is rounded away at every step, and the average stands still",
          .advice = "a momentum farther from 1, or statistics in f64",
          .needs = Check::data,
          .run = [](Examination& e) {
            for (const Norm& n : e.net().norms) {
              if (n.layer->moving_mean.sig().dtype != DType::f32) continue;
              const auto mean = n.mean(), variance = n.variance();
              const ChannelStats& seen = e.observed().batch.at(n.layer);
              const double rate = 1 - n.layer->config.momentum;
              auto stalls = [&](double stored, double value, double scale) {
                const double gap = std::abs(value - stored);
                const float f = float(stored);
                const double ulp = double(std::nextafter(std::abs(f), INFINITY)) - std::abs(f);
                return gap > 0.1 * scale && rate * gap < 0.5 * ulp;
              };
              const auto which = channels_where(n.channels(), [&](size_t c) {
                const double v = population_variance(seen[c]);
                return stalls(mean[c], seen[c].mean, std::sqrt(v)) || stalls(variance[c], v, v);
              });
              if (!which.empty())
                e.find({.layer = n.path,
                        .channels = which,
                        .value = rate,
                        .saw = concat({counted(which, n.channels()), " stand still at momentum ",
                                       n.layer->config.momentum})});
            }
          }};
}

}  // namespace evenflow::doctor
