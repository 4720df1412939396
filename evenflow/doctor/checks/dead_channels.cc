// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/examination.h"

namespace evenflow::doctor {

DOCTOR_CHECK(S5) {
  return {.name = "dead_channels",
          .looks_for =
              "channels with |gamma| below 0.001 of the layer's median, or with a variance "
              "below epsilon; a warning from a quarter of the channels on, else a note; "
              "an untrained layer's zeros are not counted",
          .threshold = 0.25,
          .why =
              "a channel without gamma is a constant; one whose variance is below epsilon is "
              "divided by epsilon instead, and comes out as nearly constant",
          .advice =
              "prune channels without gamma; where epsilon rules, scale the input up or lower "
              "epsilon",
          .run = [](Examination& e) {
            for (const Norm& n : e.net().norms) {
              const auto gamma = n.gamma(), variance = n.variance();
              if (gamma.empty()) continue;
              std::vector<double> size;
              for (double g : gamma) size.push_back(std::abs(g));
              // All zero is how the last layer of a residual block begins.
              const double least = 1e-3 * median(size);
              const bool begins = *std::max_element(size.begin(), size.end()) == 0;
              auto tell = [&](const std::vector<int64_t>& which, const std::string& what) {
                if (which.empty()) return;
                const double share = double(which.size()) / double(gamma.size());
                e.find({.level = share >= e.threshold() ? Level::warning : Level::note,
                        .layer = n.path,
                        .channels = which,
                        .value = share,
                        .saw = concat({counted(which, n.channels()), " ", what})});
              };
              if (!begins)
                tell(channels_where(n.channels(),
                                    [&](size_t c) { return size[c] <= least || size[c] == 0; }),
                     "have next to no gamma");
              const double epsilon = n.layer->config.epsilon;
              tell(channels_where(n.channels(), [&](size_t c) { return variance[c] < epsilon; }),
                   concat({"have a variance below epsilon, ", number(epsilon)}));
            }
          }};
}

}  // namespace evenflow::doctor
