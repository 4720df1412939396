// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/examination.h"

namespace evenflow::doctor {

DOCTOR_CHECK(D3) {
  return {.name = "domain_shift",
          .looks_for =
              "the first layers whose statistics of x are more than 0.5 from the stored "
              "ones: KL(x || stored), the mean over channels (warning)",
          .threshold = 0.5,
          .why =
              "the layer divides by a deviation, and subtracts a mean, that x does not have; "
              "either x is of another domain or the averages drifted",
          .advice = "recalibrate on such data, or keep a bank of statistics for this domain",
          .needs = Check::data,
          .run = [](Examination& e) {
            const Net& net = e.net();
            int first = -1;  // those behind inherit the shift
            for (const Norm& n : net.norms) {
              const ChannelStats& seen = e.observed().stored.at(n.layer);
              const auto mean = n.mean(), variance = n.variance();
              const double epsilon = n.layer->config.epsilon,
                           d = divergence(seen, mean, variance, epsilon);
              if (!(d > e.threshold()) || (first >= 0 && n.level > first)) continue;
              first = n.level;
              const auto which = channels_where(n.channels(), [&](size_t c) {
                return divergence({seen[c]}, {mean[c]}, {variance[c]}, epsilon) > e.threshold();
              });
              e.find({.layer = n.path,
                      .channels = which,
                      .value = d,
                      .saw = concat({"the divergence is ", number(d), ", most in ",
                                     counted(which, n.channels())}),
                      .fix = "recalibrate"});
            }
          }};
}

}  // namespace evenflow::doctor
