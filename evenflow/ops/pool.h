// SPDX-License-Identifier: Apache-2.0
// pool(): the only boundary where micro-batches and ranks merge. What stands behind it is a second
// program, so that two ranks equal two micro-batches bit for bit.
#pragma once
#include "evenflow/graph/tensor.h"

namespace evenflow {

enum class Pooled {
  mean,        ///< (n, mean...): n a scalar f32 weight, each mean weighted by n
  statistics,  ///< (n, mean, M2): merged by Chan's formula
};
/// The merged parts: of the ranks of this thread's Communicator, and, in a function compiled with
/// micro_batches > 1, of the micro-batches of a step. n = 0 is the identity. Gradients do not pass.
/// Throws InvalidArgument for a wrong number of parts, an n that is no f32 scalar, or parts that
/// are neither f32 nor f64.
Tensors pool(Pooled kind, const Tensors& parts);

}  // namespace evenflow
