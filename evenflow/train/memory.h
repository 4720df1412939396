// SPDX-License-Identifier: Apache-2.0
// What a training step of a model needs of memory, by what its backward pass keeps.
#pragma once
#include <string_view>
#include <vector>

#include "evenflow/graph/compile.h"
#include "evenflow/model/model.h"

namespace evenflow {

/// "automatic", "keep", "recompute", "bitmask", "in_place"; throws InvalidArgument for another.
Activations parse_activations(std::string_view name);
std::string_view str(Activations choice);

struct MemoryUse {
  Activations choice = Activations::automatic;
  int64_t arena_bytes = 0;  ///< activations, gradients and scratch of a step together
  double milliseconds = 0;  ///< the faster of two steps
};
/// Each choice, planned and run on a batch of noise with the mean square of the output for a loss;
/// the model stays as it is. Throws InvalidArgument for a model with open extents besides the batch
/// or several inputs.
std::vector<MemoryUse> training_memory(const Model& model, int64_t batch);

}  // namespace evenflow
