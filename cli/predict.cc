// SPDX-License-Identifier: Apache-2.0
#include "cli/commands.h"
#include "evenflow/format/npy.h"

namespace evenflow::cli {

void add_predict(CLI::App& app) {
  struct Options {
    std::string model, input, output;
    int64_t batch_size = 256;
    BankSet set;
    bool exact = false;
  };
  auto o = std::make_shared<Options>();
  auto* c = app.add_subcommand("predict", "Runs a model on an array");
  c->add_option("model", o->model, "the model")->required()->type_name("MODEL.keras");
  c->add_option("--input", o->input, "inputs")->required()->type_name("X.npy");
  c->add_option("--output", o->output, "where the predictions go, f32")
      ->required()
      ->type_name("Y.npy");
  c->add_option("--batch-size", o->batch_size, "samples at a time")
      ->check(whole<int64_t>(1))
      ->capture_default_str()
      ->type_name("N");
  o->set.add_to(*c);
  c->add_flag("--exact", o->exact,
              "by rewrites that keep every bit: batch norm not folded, no Winograd");
  c->callback([o] {
    if (o->exact) set_default_passes(Passes::exact);
    check_writable(o->output);
    Model model = load_model(o->model);
    const auto set = o->set.use(model);
    Tensor y = cast(model.predict(read_input(o->input), {.batch_size = o->batch_size}), DType::f32);
    format::write_npy(o->output, {y.sig(), y.buffer()});
  });
}

}  // namespace evenflow::cli
