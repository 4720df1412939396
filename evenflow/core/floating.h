// SPDX-License-Identifier: Apache-2.0
// Functions for each floating element type, chosen at run time.
#pragma once
#include "evenflow/core/dtype.h"

namespace evenflow {

/// f(value of d's C++ type), for the floating types; others are taken for f32.
template <class F>
decltype(auto) visit_floating(DType d, F&& f) {
  switch (d) {
    case DType::f64:
      return f(double{});
    case DType::bf16:
      return f(bf16{});
    case DType::f16:
      return f(f16{});
    default:
      return f(float{});
  }
}
/// f(value of the type in which sums and statistics of d are kept): f64 for f64, else f32.
template <class F>
decltype(auto) visit_sums(DType d, F&& f) {
  return d == DType::f64 ? f(double{}) : f(float{});
}
constexpr DType sum_dtype(DType d) { return d == DType::f64 ? DType::f64 : DType::f32; }

}  // namespace evenflow
