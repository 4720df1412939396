// SPDX-License-Identifier: Apache-2.0
#include <numeric>

#include "evenflow/doctor/examination.h"
#include "evenflow/ops/index.h"
#include "evenflow/ops/reduce.h"

namespace evenflow::doctor {
namespace {
// The class of each sample, or nothing where targets are no classes.
std::vector<int64_t> classes(const Tensor& y) {
  const Shape& s = y.sig().shape;
  if (is_integer(y.dtype()) && (s.rank() == 1 || (s.rank() == 2 && s[1] == 1)))
    return y.to_vector<int64_t>();
  if (is_floating(y.dtype()) && s.rank() == 2 && s[1] > 1) return argmax(y, 1).to_vector<int64_t>();
  return {};
}
}  // namespace

DOCTOR_CHECK(D4) {
  return {.name = "leakage",
          .looks_for =
              "a loss in inference that changes by more than a hundredth when the batches "
              "are sorted by class (error); x in that order already (note)",
          .threshold = 0.01,
          .why =
              "a batch of one class tells the class: what was learnt from that is not there for "
              "a single sample",
          .advice =
              "use the averages in inference; shuffle what is trained on; synchronise "
              "statistics between devices that see different classes",
          .needs = Check::targets,
          .run = [](Examination& e) {
            const std::vector<int64_t> label = classes(e.y());
            if (label.empty()) return;
            std::vector<int64_t> order(label.size());
            std::iota(order.begin(), order.end(), 0);
            std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
              return label[size_t(a)] < label[size_t(b)];
            });
            const Tensor index = tensor(order, {int64_t(order.size())});
            auto loss = [&](const Tensor& x, const Tensor& y) {
              const Tensor p = run_batches(e.net(), x, e.options().batch_size, {.by = Run::layer});
              return reduce_mean(e.options().loss(y, p)).item();
            };
            const double as_given = loss(e.x(), e.y()),
                         sorted = loss(gather(e.x(), index, 0), gather(e.y(), index, 0)),
                         change = std::abs(sorted - as_given);
            if (!(change <= e.threshold() * std::max(std::abs(as_given), 1e-3)))
              e.find({.level = Level::error,
                      .value = change / std::max(std::abs(as_given), 1e-3),
                      .saw = concat({"the loss is ", number(as_given), " as given and ",
                                     number(sorted), " sorted by class"})});
            if (label.front() != label.back() && std::is_sorted(label.begin(), label.end()) &&
                int64_t(label.size()) > 2 * e.options().batch_size)
              e.find({.level = Level::note, .saw = "x is sorted by class"});
          }};
}

}  // namespace evenflow::doctor
