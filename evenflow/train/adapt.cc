// SPDX-License-Identifier: Apache-2.0
// Layers that take statistics of a Dataset before training.
#include "evenflow/data/dataset.h"
#include "evenflow/model/normalization.h"

namespace evenflow {

void Normalization::adapt(const Dataset& given) const {
  constexpr int64_t kBatch = 1024;  // of a dataset without batches
  const Dataset data = given.batch_size() ? given : given.batch(kBatch);
  int64_t i = 0;
  adapt([&] { return i < data.batches() ? data.batch_at(i++)[0] : Tensor(); });
}

}  // namespace evenflow
