// SPDX-License-Identifier: Apache-2.0
// What a user of the installed library writes; built against it by the install tests.
#include <cstdio>

#include "evenflow/core/shape.h"

int main() {
  const evenflow::Shape shape = {32, 8, 8, 1};
  std::printf("%s\n", evenflow::str(shape).c_str());
}
