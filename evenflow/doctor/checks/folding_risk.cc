// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/examination.h"

namespace evenflow::doctor {

DOCTOR_CHECK(S8) {
  return {
      .name = "folding_risk",
      .looks_for =
          "a channel whose |gamma| / sqrt(variance + epsilon) is more than 64 times "
          "the layer's median (note)",
      .threshold = 64,
      .why =
          "folded into a convolution this is what its filter grows by; in int8 with one "
          "scale for all channels the others then keep two bits or less",
      .advice = "quantise by channel, or leave this layer unfolded",
      .run = [](Examination& e) {
        for (const Norm& n : e.net().norms) {
          const auto gamma = n.gamma(), variance = n.variance();
          std::vector<double> s;
          for (size_t c = 0; c < gamma.size(); ++c)
            s.push_back(std::abs(gamma[c]) / std::sqrt(variance[c] + n.layer->config.epsilon));
          if (s.empty()) continue;
          const double middle = median(s), limit = e.threshold() * middle;
          const auto which =
              channels_where(n.channels(), [&](size_t c) { return middle > 0 && s[c] > limit; });
          if (which.empty()) continue;
          const double worst = *std::max_element(s.begin(), s.end()) / middle;
          e.find({.level = Level::note,
                  .layer = n.path,
                  .channels = which,
                  .value = worst,
                  .saw = concat({"the largest factor is ", number(worst), " times the median"})});
        }
      }};
}

}  // namespace evenflow::doctor
