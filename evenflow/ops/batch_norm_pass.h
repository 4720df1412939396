// SPDX-License-Identifier: Apache-2.0
// What the loops of batch normalisation are given, whatever the instruction set.
#pragma once
#include <cstdint>

#include "evenflow/core/dtype.h"

namespace evenflow::cpu {
// The operands of a pass; absent ones are null. Parameters are f32, or f64 for x in f64, and one a
// column or one a run.
struct BatchNormPass {
  DType dtype;
  bool relu;
  const void *x, *grad, *residual;
  void *out, *residual_grad;
  const void *mean, *scale, *shift, *slope,
      *offset;  // y = (x - mean) scale + shift; dx = grad scale + (x - mean) slope + offset
};
// Rows of a matrix that lie `stride` elements apart. Parameters start at `column`, one for each
// column; or, with `runs`, one for each row, beginning anew after `runs` of them.
struct BatchNormPiece {
  int64_t at, rows, width, stride, column, runs;
};
inline constexpr int64_t kBatchNormStrip = 2048;  // columns of a piece
inline constexpr int64_t kBatchNormPad = 64;      // more lanes than any machine here has
}  // namespace evenflow::cpu
