// SPDX-License-Identifier: Apache-2.0
#include "evenflow/model/export.h"
#include "cli/commands.h"

namespace evenflow::cli {

void add_export(CLI::App& app) {
  struct Options {
    std::string model, out;
  };
  auto o = std::make_shared<Options>();
  auto* c = app.add_subcommand(
      "export", "Writes a model's inference as a saved graph, which the runtime alone can run");
  c->add_option("model", o->model, "the model to export")->required()->type_name("MODEL.keras");
  c->add_option("out", o->out, "where the saved graph goes")->required()->type_name("OUT.efg");
  c->callback([o] {
    check_writable(o->out);
    export_model(load_model(o->model), o->out);
  });
}

}  // namespace evenflow::cli
