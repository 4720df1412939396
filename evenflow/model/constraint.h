// SPDX-License-Identifier: Apache-2.0
// What a weight is held to: applied after each update of the optimizer. Keras's constraints.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace evenflow {
class Tensor;

/// Keras's MaxNorm, NonNeg, UnitNorm and MinMaxNorm, by name or by the functions below; an empty
/// name holds to nothing. A norm is the root of the sum of squares over `axis`.
struct Constraint {
  std::string name;  ///< "MaxNorm", or Keras's short form "max_norm"
  double min_value = 0, max_value = 1, rate = 1;
  std::vector<int64_t> axis = {0};
  Constraint() = default;
  /// Throws InvalidArgument for another name.
  Constraint(const char* name);         // NOLINT: implicit on purpose
  Constraint(const std::string& name);  // NOLINT
  explicit operator bool() const { return !name.empty(); }
  /// Throws InvalidArgument for limits out of order, and for axes that a weight of this rank has
  /// not.
  void check(int rank) const;
  /// The weight as it is to be, of its type and shape.
  Tensor operator()(const Tensor& weight) const;
};
/// w clip(norm, 0, max_value) / (norm + 1e-7)
Constraint max_norm(double max_value = 2, std::vector<int64_t> axis = {0});
/// max(w, 0)
Constraint non_neg();
/// w / (norm + 1e-7)
Constraint unit_norm(std::vector<int64_t> axis = {0});
/// w (rate clip(norm, min_value, max_value) + (1 - rate) norm) / (norm + 1e-7)
Constraint min_max_norm(double min_value = 0, double max_value = 1, double rate = 1,
                        std::vector<int64_t> axis = {0});

}  // namespace evenflow
