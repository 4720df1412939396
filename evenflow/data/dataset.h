// SPDX-License-Identifier: Apache-2.0
// Dataset: what a training loop iterates over. Every element is a pure function of (seed, epoch,
// index), so an order does not depend on threads and a position is a number.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "evenflow/graph/tensor.h"

namespace evenflow {

/// An order of 0..n-1 in which position i is computed from (seed, i) alone: a Feistel network over
/// Philox with cycle walking (Black & Rogaway, "Ciphers with arbitrary finite domains", 2002).
class Permutation {
 public:
  Permutation(int64_t n, uint64_t seed, uint64_t stream);
  int64_t operator()(int64_t i) const;

 private:
  int64_t n_;
  uint64_t seed_, stream_;
  int half_bits_;
};

/// Columns with a common leading extent (x, y, and a weight if there is one), seen through take,
/// skip, shuffle and batch. A handle: cheap to copy; every transform returns a new one.
class Dataset {
 public:
  Dataset() = default;
  /// Throws InvalidArgument for no column, a scalar, or leading extents that differ.
  explicit Dataset(Tensors columns);
  Dataset(Tensor x, Tensor y) : Dataset(Tensors{std::move(x), std::move(y)}) {}

  int64_t size() const;        ///< elements
  int64_t batch_size() const;  ///< 0: not batched
  int64_t batches() const;     ///< per epoch; throws FailedPrecondition when not batched
  size_t columns() const;
  /// The signature of a column's elements in a full batch.
  Sig element_sig(size_t column) const;

  Dataset take(int64_t n) const;
  Dataset skip(int64_t n) const;
  /// A random part and the rest: `fraction` (0 < fraction < 1) of the elements, rounded down, are
  /// in the first.
  std::pair<Dataset, Dataset> split(double fraction, uint64_t seed = 0) const;
  /// Another order in each epoch.
  Dataset shuffle(uint64_t seed = 0) const;
  Dataset batch(int64_t size, bool drop_remainder = false) const;

  /// Batch i of an epoch: a tensor a column. A batch is copied, the columns are not.
  Tensors batch_at(int64_t i, int64_t epoch = 0) const;
  /// All elements in order, as tensors (of an epoch when shuffled).
  Tensors all(int64_t epoch = 0) const;
  bool shuffled() const;

 private:
  struct State;
  Tensors gather(int64_t begin, int64_t end, int64_t epoch) const;
  const State& state() const;
  std::shared_ptr<const State> state_;
};

}  // namespace evenflow
