// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/examination.h"

namespace evenflow::doctor {

DOCTOR_CHECK(S10) {
  return {
      .name = "input_scaling",
      .looks_for =
          "in the first batch normalisations, |mean of x - stored mean| / stored "
          "deviation above 1, or a deviation off by a factor of 4, in half of the "
          "channels (warning)",
      .threshold = 1,
      .why = "x is not scaled as the training data was: 0..255 for 0..1, or another mean",
      .advice = "compare the preprocessing with that of the training",
      .needs = Check::data,
      .run = [](Examination& e) {
        for (const Norm& n : e.net().norms) {
          if (n.level != 0 || !e.net().ordered) continue;
          const auto mean = n.mean(), variance = n.variance();
          const ChannelStats& seen = e.observed().stored.at(n.layer);
          const double epsilon = n.layer->config.epsilon;
          std::vector<double> off;
          const auto which = channels_where(n.channels(), [&](size_t c) {
            const double w = variance[c] + epsilon,
                         ratio = (population_variance(seen[c]) + epsilon) / w;
            off.push_back(std::abs(seen[c].mean - mean[c]) / std::sqrt(w));
            return off.back() > e.threshold() || ratio > 16 || ratio < 1. / 16;
          });
          if (which.empty() || 2 * which.size() < off.size()) continue;
          e.find({.layer = n.path,
                  .channels = which,
                  .value = median(off),
                  .saw = concat({counted(which, n.channels()),
                                 " get another mean or deviation than stored; the median of the "
                                 "means is off by ",
                                 number(median(off)), " deviations"})});
        }
      }};
}

}  // namespace evenflow::doctor
