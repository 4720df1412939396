// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/examination.h"

namespace evenflow::doctor {

DOCTOR_CHECK(S4) {
  return {.name = "dropout_before_batch_norm",
          .looks_for =
              "dropout directly before a batch normalisation (warning), or before a layer "
              "that feeds one (note)",
          .why =
              "dropout raises the variance in training only: the averages hold a variance that "
              "inference does not see (Li et al. 2019, arXiv:1801.05134)",
          .advice = "dropout after the last batch normalisation; else recalibrate after training",
          .run = [](Examination& e) {
            const Net& net = e.net();
            // The nearest dropout above, not farther than one layer with weights.
            for (const Norm& n : net.norms) {
              int at = n.uses[0], layers = 0;
              for (;;) {
                const auto& in = net.uses[size_t(at)].inputs;
                if (in.size() != 1) break;
                at = in[0];
                LayerImpl& l = *net.uses[size_t(at)].layer;
                if (l.class_name() == "BatchNormalization") break;
                if (l.class_name() == "Dropout") {
                  e.find({.level = layers ? Level::note : Level::warning,
                          .layer = n.path,
                          .value = double(layers),
                          .saw = concat({"\"", net.uses[size_t(at)].path, "\" lies ",
                                         layers ? "one layer" : "directly", " before it"})});
                  break;
                }
                if (!l.weights.empty() && ++layers > 1) break;
              }
            }
          }};
}

}  // namespace evenflow::doctor
