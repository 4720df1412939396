// SPDX-License-Identifier: Apache-2.0
// Reductions of a matrix [rows, columns] of f32, f64, bf16 or f16 over its columns or its rows. The
// work is cut by the shape alone and merged in order, so the bits are the same for any number of
// threads. Blocks of at most a few thousand elements are summed in f32 and merged in f64: the sum
// of 1e7 floats is right to 1e-6, mostly to 1e-8.
#pragma once
#include <span>

#include "evenflow/core/dtype.h"
#include "evenflow/core/statistics.h"

namespace evenflow::cpu {

/// max and min of nothing are -inf and +inf, the sum is 0. NaN anywhere gives NaN.
enum class Reduction { sum, max, min };

/// y[r] = x[r, 0] + x[r, 1] + ...; y[rows]. One row reduces everything.
void reduce_rows(Reduction reduction, DType dtype, const void* x, int64_t rows, int64_t columns,
                 double* y);
/// y[c] = x[0, c] + x[1, c] + ...; y[columns]. The case of channels-last batch normalisation.
void reduce_columns(Reduction reduction, DType dtype, const void* x, int64_t rows, int64_t columns,
                    double* y);

/// The same for (n, mean, M2), of the values as stored. For [n, channels, pixels] take the rows of
/// [n channels, pixels] and merge those of a channel in order.
void moments_rows(DType dtype, const void* x, int64_t rows, int64_t columns, Stats* y);
void moments_columns(DType dtype, const void* x, int64_t rows, int64_t columns, Stats* y);

}  // namespace evenflow::cpu
