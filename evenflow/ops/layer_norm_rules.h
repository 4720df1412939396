// SPDX-License-Identifier: Apache-2.0
// What normalisations share that are not batch norm's own.
#pragma once
#include "evenflow/graph/tensor.h"

namespace evenflow {

/// 1 / sqrt(variance + epsilon), and 0 instead of 1 / 0: a constant is normalised to 0.
Tensor inverse_deviation_of(const Tensor& variance, double epsilon);

}  // namespace evenflow
