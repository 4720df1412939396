// SPDX-License-Identifier: Apache-2.0
// Reductions, and their counterparts that undo or follow a broadcast. Sums are made in f64 blocks
// in a fixed order: exact enough for ten million elements, and the same bits for any number of
// threads. Empty axes mean all.
#pragma once
#include <vector>

#include "evenflow/graph/tensor.h"

namespace evenflow {

using Axes = std::vector<int64_t>;
Tensor reduce_sum(In x, Axes axes = {}, bool keepdims = false);
Tensor reduce_mean(In x, Axes axes = {}, bool keepdims = false);  ///< of nothing: NaN
Tensor reduce_prod(In x, Axes axes = {}, bool keepdims = false);
Tensor reduce_max(
    In x, Axes axes = {},
    bool keepdims = false);  ///< of nothing: the lowest value; gradient shared among ties
Tensor reduce_min(In x, Axes axes = {}, bool keepdims = false);
Tensor reduce_any(In x, Axes axes = {}, bool keepdims = false);
Tensor reduce_all(In x, Axes axes = {}, bool keepdims = false);
/// log(sum(exp(x))), stable.
Tensor logsumexp(In x, Axes axes = {}, bool keepdims = false);
/// Index of the largest (smallest) along an axis, i64; the first of ties, and NaN is largest.
Tensor argmax(In x, int64_t axis = -1);
Tensor argmin(In x, int64_t axis = -1);

/// Sums x over the axes on which `like` was broadcast to the shape of x; with `mean`, averages.
Tensor sum_like(In x, In like, bool mean = false);
/// Broadcasts x to the shape of `like`; with `mean`, divides by how often an element is repeated.
Tensor expand_like(In x, In like, bool mean = false);
/// A constant of the type and shape of `like`.
Tensor fill_like(In like, double value);
/// How many elements x has for one of `like`, f32 [].
Tensor count_like(In x, In like);
/// Whether every element of every tensor is finite, bool [].
Tensor all_finite(const Tensors& xs);

struct Moments {
  Tensor mean, variance;  ///< population variance
};
/// Two passes: never E[x^2] - E[x]^2. 16-bit types are computed with in f32. Of nothing: NaN.
Moments moments(In x, Axes axes = {}, bool keepdims = false);

}  // namespace evenflow
