// SPDX-License-Identifier: Apache-2.0
// Arrays of any element type to and from the types in which the CPU computes.
#pragma once
#include "evenflow/core/dtype.h"

namespace evenflow::cpu {

/// dst[i] = src[i] for n elements of type `dtype`; i64 loses bits beyond 24.
void to_f32(DType dtype, const void* src, int64_t n, float* dst);
void to_f64(DType dtype, const void* src, int64_t n, double* dst);

/// The other way: rounded to nearest even for floats; cut towards zero and held to the range for
/// integers (NaN is 0); bool is src[i] != 0.
void from_f32(DType dtype, const float* src, int64_t n, void* dst);
void from_f64(DType dtype, const double* src, int64_t n, void* dst);

}  // namespace evenflow::cpu
