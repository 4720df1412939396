// SPDX-License-Identifier: Apache-2.0
#include "cli/commands.h"

namespace evenflow::cli {

void add_devices(CLI::App& app) {
  app.add_subcommand("devices", "Lists devices, and why one is not there")->callback([] {
    for (auto& d : devices())
      if (d.available) std::printf("%-8s %s\n", d.name.c_str(), d.description.c_str());
      else std::printf("%-8s not available: %s\n", d.name.c_str(), d.reason.c_str());
  });
}

}  // namespace evenflow::cli
