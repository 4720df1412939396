// SPDX-License-Identifier: Apache-2.0
#include "cli/commands.h"

namespace evenflow::cli {

void add_devices(CLI::App& app) {
  auto json = std::make_shared<bool>(false);
  auto* c = app.add_subcommand("devices", "Lists devices, and why one is not there");
  c->add_flag("--json", *json, "one JSON array on standard output");
  c->callback([json] {
    nlohmann::json all = nlohmann::json::array();
    for (auto& d : devices()) {
      all.push_back({{"name", d.name}, {"available", d.available}});
      all.back()[d.available ? "description" : "reason"] = d.available ? d.description : d.reason;
    }
    if (*json) return print_json(all);
    for (auto& d : devices())
      if (d.available)
        std::printf("%-8s %s\n", d.name.c_str(), d.description.c_str());
      else
        std::printf("%-8s not available: %s\n", d.name.c_str(), d.reason.c_str());
  });
}

}  // namespace evenflow::cli
