// SPDX-License-Identifier: Apache-2.0
// Numbers and indices as categories.
#pragma once
#include <vector>

#include "evenflow/graph/tensor.h"

namespace evenflow {

/// How many of the ascending boundaries are at most x, [...] -> i32 [...] (numpy.digitize); NaN is
/// behind all.
Tensor bucketize(In x, std::vector<double> boundaries);
/// How often each index below depth is in a row, [..., k] -> [..., depth]; with `binary`, whether.
/// Other indices do not count.
Tensor count_indices(In indices, int64_t depth, bool binary = false, DType dtype = DType::f32);
/// The same with a weight for each index, of which each is to count so much: the type of weights.
Tensor count_indices(In indices, In weights, int64_t depth);

}  // namespace evenflow
