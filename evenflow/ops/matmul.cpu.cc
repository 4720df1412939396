// SPDX-License-Identifier: Apache-2.0
#include "evenflow/ops/matmul_gemm.h"

namespace evenflow {

KERNEL(matmul, MatmulAttrs, gemm) {
  return {.priority = 10,
          .declines = [](const CallSig& c, const MatmulAttrs&) -> std::string {
            return is_floating(c.out[0].dtype) ? "" : "integers";
          },
          .run = [](const Call& c, const MatmulAttrs& t) { matmul_by_gemm(c, t, true); }};
}

}  // namespace evenflow
