// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "evenflow/format/json.h"

namespace evenflow::cli {

void add_evaluate(CLI::App& app) {
  struct Options {
    std::string model, x, y, loss;
    int64_t batch_size = 32;
    bool json = false;
  };
  auto o = std::make_shared<Options>();
  auto* c = app.add_subcommand("evaluate", "Loss and metrics of a model on data");
  c->add_option("model", o->model, "MODEL.keras")->required();
  c->add_option("--x", o->x, "inputs, .npy")->required();
  c->add_option("--y", o->y, "targets, .npy")->required();
  c->add_option("--loss", o->loss, "name of the loss")->required();
  c->add_option("--batch-size", o->batch_size, "samples at a time")->check(CLI::PositiveNumber);
  c->add_flag("--json", o->json, "one JSON object on standard output");
  c->callback([o] {
    Model model = load_model(o->model);
    Loss loss(o->loss);
    CompileModelOptions options{.loss = loss};
    if (loss.name().find("crossentropy") != std::string::npos) options.metrics = {"accuracy"};
    model.compile(options);
    Logs logs = model.evaluate(read_input(o->x), read_targets(o->y), {.batch_size = o->batch_size});
    if (o->json) {
      format::Json j;
      for (auto& [n, v] : logs.values) j[n] = v;
      std::printf("%s\n", format::json_text(j).c_str());
    } else {
      for (auto& [n, v] : logs.values) std::printf("%s: %.6g\n", n.c_str(), v);
    }
  });
}

}  // namespace evenflow::cli
