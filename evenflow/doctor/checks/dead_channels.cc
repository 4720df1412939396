// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/examination.h"

namespace evenflow::doctor {
namespace {
// No layer with weights lies between the model's input and this one.
bool reads_input(const Net& net, const Norm& n) {
  for (int at = n.uses[0];;) {
    const Use& u = net.uses[size_t(at)];
    if (u.inputs.empty()) return true;
    if (u.inputs.size() > 1) return false;
    at = u.inputs[0];
    if (!net.uses[size_t(at)].layer->weights.empty()) return false;
  }
}
}  // namespace

DOCTOR_CHECK(S5) {
  return {.name = "dead_channels",
          .looks_for =
              "channels with |gamma| below 0.001 of the layer's median, or with a variance below "
              "epsilon (note); a quarter of the layer's channels, of those with a variance below a "
              "tenth of epsilon (warning). Gammas that are all 0 are how a residual block begins, "
              "and constant columns of the model's input are no more than a note",
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
              auto tell = [&](auto which, size_t bad, const std::string& what) {
                if (which.empty()) return;
                const double share = double(bad) / double(gamma.size());
                e.find({.level = share >= e.threshold() ? Level::warning : Level::note,
                        .layer = n.path,
                        .channels = which,
                        .value = share,
                        .saw = concat({counted(which, n.channels()), " ", what})});
              };
              const auto without = channels_where(n.channels(), [&](size_t c) {
                return !begins && (size[c] <= least || size[c] == 0);
              });
              tell(without, without.size(), "have next to no gamma");
              const double epsilon = n.layer->config.epsilon;
              auto below = [&](double limit) {
                return channels_where(n.channels(), [&](size_t c) { return variance[c] < limit; });
              };
              tell(below(epsilon), reads_input(e.net(), n) ? 0 : below(0.1 * epsilon).size(),
                   concat({"have a variance below epsilon, ", number(epsilon)}));
            }
          }};
}

}  // namespace evenflow::doctor
