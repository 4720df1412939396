// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/examination.h"
#include "evenflow/doctor/fold.h"

namespace evenflow::doctor {

DOCTOR_CHECK(D5) {
  return {
      .name = "fold_error",
      .looks_for =
          "outputs for x that change by more than a thousandth of the largest when "
          "batch normalisation is folded into the layers beside it (warning)",
      .threshold = 1e-3,
      .why = "what an exporter that folds would serve is not what was measured",
      .advice = "`evenflow fold` says which layer it is; leave that one unfolded, or fold in f32",
      .needs = Check::data,
      .run = [](Examination& e) {
        const Folded f = fold(e.model(), {.x = {e.x()}});
        if (f.folds.empty() || f.relative <= e.threshold()) return;
        const auto worst = std::max_element(f.folds.begin(), f.folds.end(), [](auto& a, auto& b) {
          return a.relative < b.relative;
        });
        e.find({.layer = worst->norm,
                .value = f.relative,
                .saw = concat({"folding changes the outputs by ", number(f.relative),
                               " of the largest, and \"", worst->into, "\" by ",
                               number(worst->relative)})});
      }};
}

}  // namespace evenflow::doctor
