// SPDX-License-Identifier: Apache-2.0
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "evenflow/format/file.h"
#include "evenflow/format/json.h"
#include "evenflow/train/memory.h"

namespace evenflow::cli {
namespace {

struct Options {
  std::string model, x, y, val_x, val_y, loss, optimizer = "adam", json, save;
  double validation_split = 0;
  std::optional<double> learning_rate;
  int64_t batch_size = 32, epochs = 1;
  bool no_shuffle = false, exact = false;
  int64_t micro_batch_size = 0;
  std::string activations = "automatic";
  std::optional<uint64_t> seed;
};

void run(const Options& o) {
  check_model_writable(o.save);
  if (!o.json.empty()) check_writable(o.json);
  if (o.seed) set_random_seed(*o.seed);
  Model model = load_model(o.model);
  Optimizer optimizer(o.optimizer);
  if (o.learning_rate) optimizer.set_learning_rate(*o.learning_rate);
  model.compile({.optimizer = optimizer,
                 .loss = o.loss,
                 .metrics = metrics_for(o.loss),
                 .activations = parse_activations(o.activations),
                 .micro_batch_size = o.micro_batch_size,
                 .exact_micro_batches = o.exact});
  FitOptions fit{.batch_size = o.batch_size,
                 .epochs = o.epochs,
                 .callbacks = {interrupt_between_batches()},
                 .validation_split = o.validation_split,
                 .shuffle = !o.no_shuffle,
                 .seed = o.seed};
  if (!o.val_x.empty()) fit.validation_data = Dataset(read_input(o.val_x), read_targets(o.val_y));
  const Tensor x = read_input(o.x), y = read_targets(o.y);
  Interruptible between_batches;
  const History history = model.fit(x, y, fit);
  model.save(o.save);
  if (o.json.empty()) return;
  nlohmann::json j{{"model", o.model},
                   {"saved", o.save},
                   {"loss", Loss(o.loss).name()},
                   {"optimizer", optimizer.impl()->class_name()},
                   {"learning_rate", json_number(optimizer.learning_rate())},
                   {"batch_size", o.batch_size},
                   {"epochs", o.epochs},
                   {"shuffle", !o.no_shuffle},
                   {"samples", x.sig().shape[0]},
                   {"device", str(default_device())},
                   {"skipped_steps", history.skipped_steps},
                   {"version", EVENFLOW_VERSION}};
  if (o.seed) j["seed"] = *o.seed;
  for (auto& [name, values] : history.history) {
    j["history"][name] = nlohmann::json::array();
    for (double v : values) j["history"][name].push_back(json_number(v));
  }
  format::write_file_atomically(o.json, format::json_text(j, 1) + "\n");
}

}  // namespace

void add_train(CLI::App& app) {
  auto o = std::make_shared<Options>();
  auto* c = app.add_subcommand("train", "Trains a model on arrays");
  c->add_option("model", o->model, "the model to start from")->required()->type_name("MODEL.keras");
  c->add_option("--x", o->x, "inputs")->required()->type_name("X.npy");
  c->add_option("--y", o->y, "targets")->required()->type_name("Y.npy");
  auto* vx = c->add_option("--val-x", o->val_x, "inputs to validate on")->type_name("X.npy");
  auto* vy = c->add_option("--val-y", o->val_y, "targets to validate on")->type_name("Y.npy");
  vx->needs(vy), vy->needs(vx);
  c->add_option("--validation-split", o->validation_split,
                "this share of the data, its last part, to validate on")
      ->excludes(vx)
      ->check(CLI::Range(0., 1.))
      ->type_name("F");
  c->add_option("--loss", o->loss, "Keras's name of the loss; with a cross entropy goes accuracy")
      ->required()
      ->check(makes<Loss>())
      ->type_name("NAME");
  c->add_option("--optimizer", o->optimizer, "sgd, rmsprop, adam or adamw")
      ->check(makes<Optimizer>())
      ->capture_default_str()
      ->type_name("NAME");
  c->add_option("--learning-rate", o->learning_rate, "instead of the optimizer's default")
      ->check(rate)
      ->type_name("F");
  c->add_option("--batch-size", o->batch_size, "samples a step")
      ->check(whole<int64_t>(1))
      ->capture_default_str()
      ->type_name("N");
  auto* micro = c->add_option("--micro-batch-size", o->micro_batch_size,
                              "samples that go through the net at a time")
                    ->check(CLI::PositiveNumber)
                    ->type_name("N");
  c->add_flag("--exact-micro-batches", o->exact,
              "normalise by the statistics of the whole batch all the same")
      ->needs(micro);
  c->add_option("--activations", o->activations, "what the backward pass keeps")
      ->check(CLI::IsMember({"automatic", "keep", "recompute", "bitmask", "in_place"}))
      ->capture_default_str();
  c->add_option("--epochs", o->epochs, "times over the data")
      ->check(whole<int64_t>(1))
      ->capture_default_str()
      ->type_name("N");
  c->add_flag("--no-shuffle", o->no_shuffle, "in the order of the arrays");
  c->add_option("--seed", o->seed, "of the shuffle and of dropout")
      ->check(whole<uint64_t>(0))
      ->type_name("N");
  c->add_option("--json", o->json, "writes the options and the history here")
      ->type_name("LOG.json");
  c->add_option("--save", o->save, "where the trained model goes")
      ->required()
      ->type_name("OUT.keras");
  c->callback([o] { run(*o); });
}

}  // namespace evenflow::cli
