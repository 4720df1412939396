// SPDX-License-Identifier: Apache-2.0
#include "cli/commands.h"

namespace evenflow::cli {

void add_inspect(CLI::App& app) {
  auto path = std::make_shared<std::string>();
  auto* c = app.add_subcommand("inspect", "Shows what a model is made of");
  c->add_option("model", *path, "MODEL.keras")->required();
  c->callback([path] { std::printf("%s", load_model(*path).summary().c_str()); });
}

}  // namespace evenflow::cli
