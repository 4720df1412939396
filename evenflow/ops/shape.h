// SPDX-License-Identifier: Apache-2.0
// Shapes and places: no arithmetic. A trace serves any batch: where an extent must stay open, use
// -1 or a _like form.
#pragma once
#include <vector>

#include "evenflow/graph/tensor.h"

namespace evenflow {

/// The elements in another shape; one extent may be -1.
Tensor reshape(In x, std::vector<int64_t> shape);
Tensor reshape_like(In x, In like);
/// Extents from `axis` on become one: [n, a, b] -> [n, a b].
Tensor flatten(In x, int64_t axis = 1);
/// Axis i of the result is axis perm[i] of x; empty: reversed.
Tensor transpose(In x, std::vector<int64_t> perm = {});
Tensor expand_dims(In x, int64_t axis);
/// Drops axes of extent 1.
Tensor squeeze(In x, std::vector<int64_t> axes);
Tensor concat(const Tensors& xs, int64_t axis = -1);
/// Pieces of the given sizes along an axis; one size may be -1.
Tensors split(In x, std::vector<int64_t> sizes, int64_t axis = -1);
Tensor stack(const Tensors& xs, int64_t axis = 0);
/// x[begin : begin + size] on every axis; size -1: to the end.
Tensor slice(In x, std::vector<int64_t> begin, std::vector<int64_t> size);
/// A constant around x: paddings are before and after for each axis, [2 rank].
Tensor pad(In x, std::vector<int64_t> paddings, double value = 0);
Tensor tile(In x, std::vector<int64_t> multiples);
Tensor broadcast_to(In x, std::vector<int64_t> shape);
Tensor reverse(In x, std::vector<int64_t> axes);
/// The extents, i64 [rank].
Tensor shape_of(In x);
/// 0, 1, ..., n - 1 as a constant.
Tensor arange(int64_t n, DType dtype = DType::i64);
/// The identity matrix [n, n] as a constant.
Tensor eye(int64_t n, DType dtype = DType::f32);

}  // namespace evenflow
