// SPDX-License-Identifier: Apache-2.0
// Layers in the data pipeline.
#pragma once
#include "evenflow/data/dataset.h"
#include "evenflow/model/layer.h"

namespace evenflow {

/// A layer as a map over the first column of a dataset, whose elements are dense.
/// What is random in it depends on
/// seed, epoch and index of the element: not on threads, batches, or where a pass was resumed.
Dataset preprocess(const Dataset& data, const Layer& layer, bool training = true);

}  // namespace evenflow
