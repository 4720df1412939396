// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/fold.h"

#include "cli/commands.h"

namespace evenflow::cli {

void add_fold(CLI::App& app) {
  struct Files {
    std::string model, x, out;
    doctor::FoldOptions options;
    bool json = false;
  };
  auto o = std::make_shared<Files>();
  auto* c = app.add_subcommand(
      "fold", "Folds batch normalisation into the layers beside it, with a certificate");
  c->add_option("model", o->model, "the model")->required()->type_name("MODEL.keras");
  c->add_option("-o,--output", o->out, "where the model goes")->required()->type_name("OUT.keras");
  c->add_option("--x", o->x, "what to measure differences on; else normal numbers")
      ->type_name("X.npy");
  c->add_option("--samples", o->options.samples, "at most so many of them")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->type_name("N");
  c->add_flag("--degenerate", o->options.degenerate,
              "also where channels have no gamma, or a variance far below epsilon");
  c->add_flag("--json", o->json, "the certificate as one JSON object");
  c->callback([o] {
    check_writable(o->out);
    const Model model = load_model(o->model);
    if (!o->x.empty()) o->options.x = {read_input(o->x)};
    const doctor::Folded f = doctor::fold(model, o->options);
    f.model.save(o->out);
    if (o->json)
      std::printf("%s\n", doctor::certificate_json(f).c_str());
    else
      std::fputs(doctor::certificate_text(f).c_str(), stdout);
  });
}

}  // namespace evenflow::cli
