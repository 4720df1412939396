// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace evenflow {

struct MatmulAttrs {
  bool transpose_a = false, transpose_b = false;
  static void fields(auto& self, auto&& field) {
    field("transpose_a", self.transpose_a, "swap the last two axes of a"),
        field("transpose_b", self.transpose_b, "swap the last two axes of b");
  }
};

}  // namespace evenflow
