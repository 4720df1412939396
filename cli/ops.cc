// SPDX-License-Identifier: Apache-2.0
#include "cli/commands.h"
#include "evenflow/graph/manual.h"

namespace evenflow::cli {

void add_ops(CLI::App& app) {
  auto name = std::make_shared<std::string>();
  auto* c = app.add_subcommand("ops", "Lists operations, or shows the manual page of one");
  c->add_option("name", *name, "an operation, such as batch_norm")->type_name("NAME");
  c->callback([name] {
    if (!name->empty()) {
      std::printf("%s", manual_page(find_op(*name)).c_str());
      return;
    }
    for (auto* op : all_ops())
      std::printf("%-32s %s\n", op->name.c_str(), std::string(op->summary).c_str());
  });
}

}  // namespace evenflow::cli
