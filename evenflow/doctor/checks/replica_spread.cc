// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/examination.h"

namespace evenflow::doctor {

DOCTOR_CHECK(T6) {
  return {
      .name = "replica_spread",
      .looks_for =
          "replicas whose averages differ: the largest KL(replica || mean of all) "
          "above 0.1, the mean over channels (warning)",
      .threshold = 0.1,
      .why = "inference depends on the device that saw the sample",
      .advice = "synchronise statistics, or merge them by their counts at checkpoints",
      .needs = Check::replicas,
      .run = [](Examination& e) {
        std::vector<Net> nets{e.net()};
        for (const Model& m : e.options().replicas) nets.emplace_back(m);
        for (size_t i = 0; i < e.net().norms.size(); ++i) {
          const Norm& n = e.net().norms[i];
          const size_t channels = size_t(n.channels());
          std::vector<ChannelStats> all;
          for (const Net& net : nets) {
            if (net.norms.size() != e.net().norms.size() || net.norms[i].channels() != n.channels())
              fail({"examine: a replica has other batch normalisation layers than model \"",
                    e.model().name(), "\", expected the same model"});
            const auto mean = net.norms[i].mean(), variance = net.norms[i].variance();
            ChannelStats s;
            for (size_t c = 0; c < channels; ++c) s.push_back({1, mean[c], variance[c]});
            all.push_back(std::move(s));
          }
          ChannelStats merged;
          for (auto& s : all) merge_into(merged, s);
          std::vector<double> mean, variance;
          for (const Stats& s : merged)
            mean.push_back(s.mean), variance.push_back(population_variance(s));
          double worst = 0;
          size_t which = 0;
          for (size_t r = 0; r < all.size(); ++r) {
            const double d = divergence(all[r], mean, variance, n.layer->config.epsilon);
            if (d > worst) worst = d, which = r;
          }
          if (worst > e.threshold())
            e.find({.layer = n.path,
                    .value = worst,
                    .saw = concat({"replica ", which, " of ", all.size(), " is ", number(worst),
                                   " from their mean"})});
        }
      }};
}

}  // namespace evenflow::doctor
