// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/examination.h"

namespace evenflow::doctor {

DOCTOR_CHECK(T3) {
  return {.name = "small_batch",
          .looks_for =
              "so few elements n to a channel that the variance of a batch is off by more "
              "than a quarter: sqrt(2 / (n - 1)) (note); by more than half (warning)",
          .threshold = 0.25,
          .why = "each sample is normalised by the noise of its batch mates",
          .advice =
              "larger batches, statistics synchronised between devices, or another "
              "normalisation (group, layer)",
          .needs = Check::trace,
          .run = [](Examination& e) {
            for (const Norm& n : e.net().norms) {
              if (!n.trainable) continue;
              double elements = double(e.options().batch_size);
              const Dims& dims = n.layer->input_dims[0];
              const std::vector<int64_t> axes = n.axes();
              bool known = true;
              for (size_t d = 1; d < dims.size(); ++d)
                if (std::find(axes.begin(), axes.end(), int64_t(d)) == axes.end())
                  known = known && dims[d] > 0, elements *= double(dims[d]);
              if (!known) continue;
              const double error = elements > 1 ? std::sqrt(2 / (elements - 1)) : INFINITY;
              if (!(error > e.threshold())) continue;
              e.find({.level = error > 0.5 ? Level::warning : Level::note,
                      .layer = n.path,
                      .value = error,
                      .saw = concat({"a batch of ", e.options().batch_size, " has ",
                                     number(elements), " elements to a channel"})});
            }
          }};
}

}  // namespace evenflow::doctor
