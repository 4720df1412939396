// SPDX-License-Identifier: Apache-2.0
#include "evenflow/ops/matmul_gemm.h"

namespace evenflow {

KERNEL(matmul, MatmulAttrs, onednn) {
  return {.priority = 20,
          .declines = [](const CallSig& c, const MatmulAttrs& t) -> std::string {
            const DType d = c.out[0].dtype;
            if (!is_floating(d) || d == DType::f64)
              return std::string(str(d)) + " is not among oneDNN's types";
            // The own kernels need no look-up, and are at least as fast.
            const double least = d == DType::f32 ? 8e6 : 2e5;
            return matmul_work(c, t) <= least ? "small" : "";
          },
          .run = [](const Call& c, const MatmulAttrs& t) { matmul_by_gemm(c, t, false); }};
}

}  // namespace evenflow
