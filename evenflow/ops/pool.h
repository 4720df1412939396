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

/// Whether this thread is one of several ranks. A compiled function that asks is traced again when
/// that changes.
bool has_ranks();
/// The sum over all ranks, in f64 in rank order, rounded once; gradients pass. Alone: x. Throws
/// InvalidArgument for other than f32 and f64.
Tensor all_sum(In x);
/// Samples in a batch: the extent of axis 0, f32 [].
Tensor sample_count(In x);
/// The statistics (n, mean, M2) of all ranks together, with gradients of the mean loss over all
/// samples, of which `rows` (f32 []) are here, for pool() to average by samples: a step over ranks
/// equals one over the whole batch. (Peng et al. 2018, MegDet, arXiv:1711.07240, for equal ranks.)
/// Alone: as they are. Gradients of second order
/// are those of ranks with equally many samples.
Tensors synchronize_statistics(const Tensors& statistics, In rows);

}  // namespace evenflow
