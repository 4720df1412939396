// SPDX-License-Identifier: Apache-2.0
// Layers that take statistics of a Dataset before training.
#include <functional>

#include "evenflow/data/dataset.h"
#include "evenflow/data/progress.h"
#include "evenflow/model/normalization.h"
#include "evenflow/model/preprocessing_layers.h"

namespace evenflow {
namespace {
// The first column of each batch, to `adapt` as a function that gives one after the other.
template <class Adapt>
void adapt_to(const Dataset& given, std::FILE* out, Adapt adapt) {
  constexpr int64_t kBatch = 1024;  // of a dataset without batches
  if (given.size() == data::kInfinite)
    fail(Code::FailedPrecondition, {"adapt: the dataset has no end, expected take()"});
  Iterator pass(given.batch_size() ? given : given.batch(kBatch));
  data::PassProgress shown(out, "adapting", given.size());
  adapt([&] {
    const Tensors batch = pass.next();
    if (batch.empty()) return Tensor();
    shown.add(batch[0].sig().shape[0]);
    return batch[0];
  });
  shown.end();
}
}  // namespace

void Normalization::adapt(const Dataset& data, std::FILE* progress) const {
  adapt_to(data, progress, [&](const std::function<Tensor()>& next) { adapt(next); });
}
void Discretization::adapt(const Dataset& data, std::FILE* progress) const {
  adapt_to(data, progress, [&](const std::function<Tensor()>& next) { adapt(next); });
}

}  // namespace evenflow
