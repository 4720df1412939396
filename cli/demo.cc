// SPDX-License-Identifier: Apache-2.0
#include "cli/commands.h"

namespace evenflow::cli {

void add_demo(CLI::App& app) { (void)app; }

}  // namespace evenflow::cli
