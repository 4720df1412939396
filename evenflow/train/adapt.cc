// SPDX-License-Identifier: Apache-2.0
// Layers that take statistics of a Dataset before training.
#include "evenflow/data/dataset.h"
#include "evenflow/model/normalization.h"

namespace evenflow {

void Normalization::adapt(const Dataset& given) const {
  constexpr int64_t kBatch = 1024;  // of a dataset without batches
  Iterator pass(given.batch_size() ? given : given.batch(kBatch));
  adapt([&] {
    const Tensors batch = pass.next();
    return batch.empty() ? Tensor() : batch[0];
  });
}

}  // namespace evenflow
