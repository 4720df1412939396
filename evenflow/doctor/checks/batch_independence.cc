// SPDX-License-Identifier: Apache-2.0
#include "evenflow/data/dataset.h"
#include "evenflow/doctor/examination.h"

namespace evenflow::doctor {

DOCTOR_CHECK(D2) {
  return {.name = "batch_independence",
          .looks_for =
              "an output for a sample alone that differs from that in a batch by more than "
              "a thousandth of the largest output, in inference (error)",
          .threshold = 1e-3,
          .why = "what the model answers depends on who else asks",
          .advice =
              "find the layer whose mode takes the statistics of the batch; it is named where "
              "it is a batch normalisation",
          .needs = Check::data,
          .run = [](Examination& e) {
            const Net& net = e.net();
            const Tensor some =
                Dataset(Tensors{e.x()}).take(std::min<int64_t>(16, e.x().sig().shape[0])).all()[0];
            const int64_t n = some.sig().shape[0];
            std::vector<std::vector<double>> together;  // of each use
            double worst = 0, largest = 0;
            int first = -1;  // the first use that differs
            run(net, {some}, {.by = Run::layer, .see = [&](int, const Tensors&, const Tensor& out) {
                                together.push_back(out.to_vector<double>());
                              }});
            for (int64_t i = 0; i < n; ++i) {
              size_t at = 0;
              run(net, Dataset(Tensors{some}).skip(i).take(1).all(),
                  {.by = Run::layer, .see = [&](int use, const Tensors&, const Tensor& out) {
                     const std::vector<double> alone = out.to_vector<double>(),
                                               &all = together[at++];
                     const double* mine = all.data() + size_t(i) * alone.size();
                     double d = 0, size = 0;
                     for (size_t k = 0; k < alone.size(); ++k)
                       d = std::max(d, std::abs(alone[k] - mine[k]));
                     for (double v : all) size = std::max(size, std::abs(v));
                     if (!(d <= e.threshold() * size) && (first < 0 || use < first)) first = use;
                     if (net.uses[size_t(use)].is_output)
                       worst = std::max(worst, d), largest = std::max(largest, size);
                   }});
            }
            if (worst <= e.threshold() * largest) return;
            e.find({.level = Level::error,
                    .layer = first >= 0 ? net.uses[size_t(first)].path : "",
                    .value = largest > 0 ? worst / largest : worst,
                    .saw = concat({"the outputs differ by ", number(worst), ", the largest is ",
                                   number(largest)})});
          }};
}

}  // namespace evenflow::doctor
