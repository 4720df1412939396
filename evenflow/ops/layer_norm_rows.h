// SPDX-License-Identifier: Apache-2.0
// Rows to normalise, as the loops of each instruction set see them.
#pragma once
#include "evenflow/core/dtype.h"

namespace evenflow::cpu {

struct LayerNormRows {
  DType dtype;
  int64_t columns;
  int64_t stride;  ///< from the sums of dgamma to those of dbeta
  bool rms = false;
  double epsilon = 0;
  const void *x = nullptr, *grad = nullptr;      // of dtype
  const void *gamma = nullptr, *beta = nullptr;  // f32 or f64, never absent
  void *mean = nullptr, *inverse = nullptr;      // f32 or f64, one a row
  void *out = nullptr;                           // y, or dx
};

}  // namespace evenflow::cpu
