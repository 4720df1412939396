// SPDX-License-Identifier: Apache-2.0
// Matrix products. Own kernels for f64 and for what fits the second cache, a library (oneDNN, if
// built in) for the rest.
#pragma once
#include "evenflow/core/dtype.h"

namespace evenflow::cpu {

/// C = op(A) op(B), or C += op(A) op(B); row-major, op transposes or does not. Strides are in
/// elements.
struct Gemm {
  bool trans_a = false, trans_b = false;
  int64_t m = 0, n = 0, k = 0;        ///< op(A) [m, k], op(B) [k, n], C [m, n]
  int64_t lda = 0, ldb = 0, ldc = 0;  ///< from row to row as stored; 0: rows without gaps
  int64_t batch = 1;                  ///< products of the same kind, one after another
  int64_t stride_a = 0, stride_b = 0,
          stride_c = 0;     ///< from product to product; a stride of 0 in A or B repeats it
  bool accumulate = false;  ///< add to what C holds
  bool same_bits = false;   ///< for any number of threads: own kernels only
  bool operator==(const Gemm&) const = default;
};

/// A and B of one type: f32, f64, bf16 or f16. C of that type, or f32 for the 16-bit ones. Sums in
/// f32 (f64 for f64). With k = 0 C is zero, or stays if it accumulates. Operands must not overlap
/// C.
void gemm(const Gemm& g, DType in, const void* a, const void* b, DType out, void* c);

namespace detail {
/// The own kernels: f32 or f64.
void own_gemm(const Gemm& g, DType dtype, const void* a, const void* b, void* c);
/// The library's; false if it has no such product.
bool library_gemm(const Gemm& g, DType in, const void* a, const void* b, DType out, void* c);
}  // namespace detail

}  // namespace evenflow::cpu
