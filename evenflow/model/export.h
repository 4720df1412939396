// SPDX-License-Identifier: Apache-2.0
// A model as a saved graph: what evenflow/graph/saved_graph.h runs without the rooms above it.
#pragma once
#include "evenflow/graph/saved_graph.h"
#include "evenflow/model/model.h"

namespace evenflow {

/// The model's inference as a pure function "predict" with its weights: batch normalisation by its
/// moving averages, no dropout. Inputs and outputs have the names of the layers that they belong
/// to; the batch may have any size. Throws FailedPrecondition for a model that was not built.
SavedFunction inference_function(const Model& model);

/// Writes it to a .efg file; an old file stays when this fails.
void export_model(const Model& model, const std::string& path);

}  // namespace evenflow
