// SPDX-License-Identifier: Apache-2.0
// What a BatchNormalization layer proposes in one step. For its sources.
#pragma once
#include <utility>
#include <vector>

#include "evenflow/graph/node.h"
#include "evenflow/model/batch_normalization.h"

namespace evenflow {

/// Calls of a layer within one step make one update: each starts from the state before the first of
/// them, with the statistics of all of them merged.
struct BatchNormalizationImpl::Update {
  Statistics statistics;  ///< of the calls so far; empty before the first
  Edge proposed;          ///< the moving mean that they propose
  /// The value before the step.
  Tensor before(const Variable& v) {
    for (auto& [known, value] : values_)
      if (known == v) return value;
    return values_.emplace_back(v, v.read()).second;
  }

 private:
  std::vector<std::pair<Variable, Tensor>> values_;
};

}  // namespace evenflow
