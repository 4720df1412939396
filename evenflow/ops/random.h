// SPDX-License-Identifier: Apache-2.0
// Random numbers as pure functions of a draw, i64 [2] = (key, counter): the same bits for any
// number of threads. State is a Variable.
#pragma once
#include "evenflow/graph/variable.h"

namespace evenflow {

/// Uniform in [low, high), in the type and shape of like.
Tensor random_uniform_like(In draw, In like, double low = 0, double high = 1);
Tensor random_normal_like(In draw, In like, double mean = 0, double stddev = 1);
/// Normal, cut at two deviations.
Tensor random_truncated_normal_like(In draw, In like, double mean = 0, double stddev = 1);
/// 0 with probability `rate`, else 1 / (1 - rate), in the type and shape of like.
Tensor dropout_mask(In draw, In like, double rate);

/// Numbers for the elements of a batch: row i of the result, in the type and shape of like [n,
/// ...], depends on the draw, the stream and index[i], i64 [n], alone, wherever that element lies
/// in its batch. An empty index stands for 0, 1, ..., n - 1. Streams (0 to 255) are independent of
/// each other.
Tensor random_uniform_rows(In draw, In like, const Tensor& index, int64_t stream, double low = 0,
                           double high = 1);
Tensor random_normal_rows(In draw, In like, const Tensor& index, int64_t stream, double mean = 0,
                          double stddev = 1);
/// Beta(alpha, alpha), [n]: alpha is f32 [n] or [1], above 0.
Tensor random_beta_rows(In draw, In like, In alpha, const Tensor& index, int64_t stream);

/// A stream of draws. Reading the next proposes the one after, with every run: a repeated bad batch
/// meets other numbers.
class Generator {
 public:
  explicit Generator(uint64_t seed, Commit commit = Commit::Run);
  explicit Generator(Variable draw) : draw_(std::move(draw)) {}
  Tensor next() const;
  const Variable& state() const { return draw_; }

 private:
  Variable draw_;
};

}  // namespace evenflow
