// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/examination.h"

namespace evenflow::doctor {

DOCTOR_CHECK(S7) {
  return {.name = "momentum_convention",
          .looks_for = "a momentum below 0.5 (warning)",
          .threshold = 0.5,
          .why =
              "momentum is the weight of the old average here; PyTorch's 0.1 is the weight of "
              "the new value. Below a half the averages are those of the last batch or two",
          .advice = "if the number comes from PyTorch or MLX, take 1 - momentum",
          .run = [](Examination& e) {
            for (const Norm& n : e.net().norms)
              if (n.layer->config.momentum < e.threshold())
                e.find({.layer = n.path,
                        .value = n.layer->config.momentum,
                        .saw = concat({"momentum is ", number(n.layer->config.momentum)})});
          }};
}

}  // namespace evenflow::doctor
