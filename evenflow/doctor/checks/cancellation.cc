// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/examination.h"

namespace evenflow::doctor {

DOCTOR_CHECK(T8) {
  return {.name = "cancellation",
          .looks_for = "mean^2 above 2^20 times variance + epsilon in f32 (warning)",
          .threshold = 1048576,
          .why =
              "the input's own rounding is a thousandth of its deviation: systems that compute "
              "E[x^2] - E[x]^2 lose all digits here, and ours keeps no more than x has",
          .advice = "centre the input: a bias, or a batch normalisation, before it",
          .run = [](Examination& e) {
            for (const Norm& n : e.net().norms) {
              if (n.layer->moving_mean.sig().dtype != DType::f32) continue;
              const auto mean = n.mean(), variance = n.variance();
              double worst = 0;
              const auto which = channels_where(n.channels(), [&](size_t c) {
                const double epsilon = n.layer->config.epsilon,
                             ratio = mean[c] * mean[c] / (variance[c] + epsilon);
                // A constant channel has nothing to lose.
                if (!(ratio > e.threshold()) || variance[c] < epsilon) return false;
                worst = std::max(worst, ratio);
                return true;
              });
              if (!which.empty())
                e.find({.layer = n.path,
                        .channels = which,
                        .value = worst,
                        .saw = concat(
                            {counted(which, n.channels()), ", the worst at ", number(worst)})});
            }
          }};
}

}  // namespace evenflow::doctor
