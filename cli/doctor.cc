// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/doctor.h"

#include "cli/commands.h"
#include "evenflow/doctor/fix.h"
#include "evenflow/format/file.h"

namespace evenflow::cli {

void add_doctor(CLI::App& app) {
  struct Files {
    std::string model, x, y, loss, html, fix;
    std::vector<std::string> replicas, only;
    int64_t batch_size = 32, samples = 4096;
    bool json = false, checks = false;
  };
  auto o = std::make_shared<Files>();
  auto* c = app.add_subcommand(
      "doctor", "Looks a model's batch normalisation over; ends with 1 when something is wrong");
  c->add_option("model", o->model, "the model")->type_name("MODEL.keras");
  auto* x = c->add_option("--x", o->x, "inputs: checks its statistics")->type_name("X.npy");
  auto* y = c->add_option("--y", o->y, "targets: checks losses")->needs(x)->type_name("Y.npy");
  auto* loss = c->add_option("--loss", o->loss, "Keras's name of the loss")
                   ->check(makes<Loss>())
                   ->needs(y)
                   ->type_name("NAME");
  y->needs(loss);
  c->add_option("--replica", o->replicas, "the same model as another device has it")
      ->type_name("MODEL.keras");
  c->add_option("--only", o->only, "ids of checks, as S1")->delimiter(',')->type_name("ID");
  c->add_option("--batch-size", o->batch_size, "samples in a batch of the training")
      ->check(whole<int64_t>(1))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--samples", o->samples, "at most so many of x")
      ->check(whole<int64_t>(1))
      ->capture_default_str()
      ->type_name("N");
  c->add_flag("--json", o->json, "one JSON object on standard output");
  c->add_option("--html", o->html, "a page with each layer's statistics")->type_name("OUT.html");
  c->add_option("--fix", o->fix,
                "writes a copy in which what is safe to repair is repaired; the "
                "status is then that of the copy")
      ->type_name("OUT.keras");
  c->add_flag("--checks", o->checks, "prints the table of checks instead");
  c->callback([o] {
    if (o->checks) {
      std::fputs(doctor::checks_table().c_str(), stdout);
      return;
    }
    if (o->model.empty()) throw CLI::RequiredError("model");
    doctor::Diagnosis d;
    std::optional<doctor::Diagnosis> after;
    std::vector<std::string> done;
    try {  // what cannot be examined is not what was found
      for (auto& path : {o->html, o->fix})
        if (!path.empty()) check_writable(path);
      const Model model = load_model(o->model);
      doctor::Options options{.batch_size = o->batch_size, .samples = o->samples, .only = o->only};
      if (!o->x.empty()) options.x = read_input(o->x);
      if (!o->y.empty()) options.y = read_targets(o->y), options.loss = Loss(o->loss);
      for (auto& path : o->replicas) options.replicas.push_back(load_model(path));
      d = doctor::examine(model, options);
      if (!o->html.empty()) format::write_file_atomically(o->html, doctor::diagnosis_html(d));
      if (!o->fix.empty()) {
        doctor::Fixed fixed = doctor::fix(model, d, options);
        fixed.model.save(o->fix);
        after = doctor::examine(fixed.model, options), done = std::move(fixed.done);
      }
    } catch (const Error& e) {
      std::fprintf(stderr, "evenflow: %s\n", e.what());
      throw Ended{2};
    }
    if (o->json) {
      nlohmann::json j = nlohmann::json::parse(doctor::diagnosis_json(d));
      if (after)
        j["fixed"] = {{"done", done},
                      {"diagnosis", nlohmann::json::parse(doctor::diagnosis_json(*after))}};
      print_json(j);
    } else {
      std::fputs(doctor::diagnosis_text(d).c_str(), stdout);
      for (auto& what : done) std::printf("fixed: %s\n", what.c_str());
      if (after) std::printf("%s:\n%s", o->fix.c_str(), doctor::diagnosis_text(*after).c_str());
    }
    if (!(after ? *after : d).healthy()) throw Ended{1};
  });
}

}  // namespace evenflow::cli
