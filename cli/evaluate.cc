// SPDX-License-Identifier: Apache-2.0
#include "cli/commands.h"

namespace evenflow::cli {

void add_evaluate(CLI::App& app) {
  struct Options {
    std::string model, x, y, loss;
    int64_t batch_size = 32;
    BankSet set;
    bool json = false;
  };
  auto o = std::make_shared<Options>();
  auto* c = app.add_subcommand("evaluate", "Loss and metrics of a model on data");
  c->add_option("model", o->model, "the model")->required()->type_name("MODEL.keras");
  c->add_option("--x", o->x, "inputs")->required()->type_name("X.npy");
  c->add_option("--y", o->y, "targets")->required()->type_name("Y.npy");
  c->add_option("--loss", o->loss, "Keras's name of the loss; with a cross entropy goes accuracy")
      ->required()
      ->check(makes<Loss>())
      ->type_name("NAME");
  c->add_option("--batch-size", o->batch_size, "samples at a time")
      ->check(whole<int64_t>(1))
      ->capture_default_str()
      ->type_name("N");
  o->set.add_to(*c);
  c->add_flag("--json", o->json, "one JSON object on standard output");
  c->callback([o] {
    Model model = load_model(o->model);
    model.compile({.loss = o->loss, .metrics = metrics_for(o->loss)});
    const Tensor x = read_input(o->x), y = read_targets(o->y);
    const auto set = o->set.use(model);
    const Logs logs = model.evaluate(x, y, {.batch_size = o->batch_size});
    if (o->json) {
      nlohmann::json j{{"samples", x.sig().shape[0]}};
      for (auto& [n, v] : logs.values) j[n] = json_number(v);
      print_json(j);
    } else {
      for (auto& [n, v] : logs.values) std::printf("%s: %.6g\n", n.c_str(), v);
    }
  });
}

}  // namespace evenflow::cli
