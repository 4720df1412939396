// SPDX-License-Identifier: Apache-2.0
// Reverse-mode differentiation, graph to graph: a gradient is made of operations and can be
// differentiated again.
#pragma once
#include "evenflow/graph/variable.h"

namespace evenflow {

/// What to differentiate by.
struct Wrt {
  Tensor t;
  Variable var;
  Wrt(const Tensor& x) : t(x) {}      // NOLINT: implicit on purpose
  Wrt(const Variable& v) : var(v) {}  // NOLINT
};

/// d(sum of y)/dx for each x, zeros where y does not depend on x. d/dw sums over all reads of w in
/// the transaction. Throws FailedPrecondition when the history of y has ended (its step was
/// committed), never a silent zero.
Tensors gradient(In y, const std::vector<Wrt>& xs);
Tensor gradient(In y, Wrt x);
/// Vector-Jacobian product; an empty seed is zero.
Tensors gradient(const Tensors& ys, const Tensors& seeds, const std::vector<Wrt>& xs);

}  // namespace evenflow
