// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/examination.h"

namespace evenflow::doctor {
namespace {
bool all(const std::vector<double>& v, double what) {
  return std::all_of(v.begin(), v.end(), [&](double x) { return x == what; });
}
}  // namespace

DOCTOR_CHECK(S6) {
  return {.name = "statistics_never_updated",
          .looks_for =
              "averages at their initial values, in a layer whose gamma or beta moved or "
              "in a model where other layers' averages moved (error); in a model where "
              "nothing moved (note: it is new)",
          .why = "inference normalises by a mean of 0 and a variance of 1 that nobody measured",
          .advice =
              "call the model with training=True in a loop of your own and let its updates be "
              "committed; for this file, recalibrate",
          .run = [](Examination& e) {
            const auto& norms = e.net().norms;
            const bool others =
                std::any_of(norms.begin(), norms.end(), [](auto& n) { return !untouched(n); });
            for (const Norm& n : norms) {
              if (!untouched(n)) continue;
              const bool moved = (n.layer->gamma && !all(n.gamma(), n.gamma()[0])) ||
                                 (n.layer->beta && !all(n.beta(), n.beta()[0]));
              e.find({.level = moved || others ? Level::error : Level::note,
                      .layer = n.path,
                      .saw = moved    ? "gamma or beta was trained, and the averages are at their "
                                        "initial values"
                             : others ? "its averages are at their initial values, those of other "
                                        "layers are not"
                                      : "it was never trained",
                      .fix = "recalibrate"});
            }
          }};
}

}  // namespace evenflow::doctor
