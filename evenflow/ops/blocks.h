// SPDX-License-Identifier: Apache-2.0
// Blocks of consecutive rows: ghost batches.
#pragma once
#include "evenflow/graph/tensor.h"

namespace evenflow {

/// The sums of blocks of `size` rows, the last of which may be smaller: [n, ...] -> [ceil(n /
/// size),
/// ...].
Tensor sum_blocks(In x, int64_t size);
/// Each block's row for all rows of the block: [blocks, ...] -> [n, ...], n being that of like.
/// The gradient of sum_blocks.
Tensor expand_blocks(In x, In like, int64_t size);

}  // namespace evenflow
