// SPDX-License-Identifier: Apache-2.0
// Taking by index. An index outside its range is OutOfRange; negative ones do not wrap.
#pragma once
#include "evenflow/graph/tensor.h"

namespace evenflow {

/// x at indices along an axis: [a..., n, b...], [i...] -> [a..., i..., b...].
Tensor gather(In x, In indices, int64_t axis = 0);
/// [...] -> [..., depth]: on where the index is, off elsewhere (also for indices out of range, as
/// in TensorFlow).
Tensor one_hot(In indices, int64_t depth, double on = 1, double off = 0, DType dtype = DType::f32);
/// Ones at the labels, in the shape and type of like: [...], [..., classes] -> like.
Tensor one_hot_like(In labels, In like);
struct TopK {
  Tensor values, indices;  ///< [..., k], indices i64
};
/// The k largest of each row, descending; the lower index first among equals.
TopK top_k(In x, int64_t k);

}  // namespace evenflow
