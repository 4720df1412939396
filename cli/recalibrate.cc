// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/recalibrate.h"

#include "cli/commands.h"

namespace evenflow::cli {

void add_recalibrate(CLI::App& app) {
  struct Files {
    std::string model, x, out;
    doctor::RecalibrateOptions options;
    bool json = false;
  };
  auto o = std::make_shared<Files>();
  auto* c = app.add_subcommand(
      "recalibrate", "Takes the averages of batch normalisation anew, from data, layer by layer");
  c->add_option("model", o->model, "the model")->required()->type_name("MODEL.keras");
  c->add_option("--x", o->x, "inputs like those of the training")->required()->type_name("X.npy");
  c->add_option("-o,--output", o->out, "where the model goes")->required()->type_name("OUT.keras");
  c->add_option("--samples", o->options.samples, "the first so many of x; 0: all")
      ->check(whole<int64_t>(0))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--batch-size", o->options.batch_size, "samples at a time; changes no result")
      ->check(whole<int64_t>(1))
      ->capture_default_str()
      ->type_name("N");
  c->add_flag("--json", o->json, "one JSON object on standard output");
  c->callback([o] {
    check_model_writable(o->out);
    const Model model = load_model(o->model);
    const auto done = doctor::recalibrate(model, read_input(o->x), o->options);
    model.save(o->out);
    nlohmann::json layers = nlohmann::json::array();
    for (auto& l : done) {
      layers.push_back({{"layer", l.layer}, {"n", l.n}, {"divergence", json_number(l.divergence)}});
      if (!o->json)
        std::printf("%s: %.0f values a channel, divergence from the old averages %.4g\n",
                    l.layer.c_str(), l.n, l.divergence);
    }
    if (o->json) print_json({{"layers", layers}});
  });
}

}  // namespace evenflow::cli
