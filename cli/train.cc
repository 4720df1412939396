// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "evenflow/format/file.h"
#include "evenflow/format/json.h"

namespace evenflow::cli {

void add_train(CLI::App& app) {
  struct Options {
    std::string model, x, y, val_x, val_y, loss, optimizer, json, save;
    double validation_split = 0, learning_rate = -1;
    int64_t batch_size = 32, epochs = 1;
    bool no_shuffle = false;
    uint64_t seed = 0;
  };
  auto o = std::make_shared<Options>();
  auto* c = app.add_subcommand("train", "Trains a model on arrays");
  c->add_option("model", o->model, "MODEL.keras to start from")->required();
  c->add_option("--x", o->x, "inputs, .npy")->required();
  c->add_option("--y", o->y, "targets, .npy")->required();
  auto* vx = c->add_option("--val-x", o->val_x, "inputs to validate on, .npy");
  auto* vy = c->add_option("--val-y", o->val_y, "targets to validate on, .npy");
  vx->needs(vy), vy->needs(vx);
  c->add_option("--validation-split", o->validation_split, "the last part of the data, to validate on")->excludes(vx);
  c->add_option("--loss", o->loss, "name of the loss")->required();
  c->add_option("--optimizer", o->optimizer, "sgd, rmsprop, adam or adamw")->default_str("adam");
  c->add_option("--learning-rate", o->learning_rate, "instead of the optimizer's default");
  c->add_option("--batch-size", o->batch_size, "samples a step")->check(CLI::PositiveNumber);
  c->add_option("--epochs", o->epochs, "times over the data")->check(CLI::PositiveNumber);
  c->add_flag("--no-shuffle", o->no_shuffle, "in the order of the arrays");
  auto* seed = c->add_option("--seed", o->seed, "of the shuffle and of dropout");
  c->add_option("--json", o->json, "writes the options and the history here");
  c->add_option("--save", o->save, "where the trained model goes, .keras")->required();
  c->callback([o, seed] {
    if (seed->count()) set_random_seed(o->seed);
    Model model = load_model(o->model);
    Loss loss(o->loss);
    CompileModelOptions options{.optimizer = Optimizer(o->optimizer.empty() ? "adam" : o->optimizer), .loss = loss};
    if (o->learning_rate != -1) options.optimizer.set_learning_rate(o->learning_rate);
    if (loss.name().find("crossentropy") != std::string::npos) options.metrics = {"accuracy"};
    model.compile(options);
    FitOptions fit{.batch_size = o->batch_size, .epochs = o->epochs, .validation_split = o->validation_split, .shuffle = !o->no_shuffle};
    if (seed->count()) fit.seed = o->seed;
    if (!o->val_x.empty()) fit.validation_data = Dataset(read_input(o->val_x), read_targets(o->val_y));
    Tensor x = read_input(o->x), y = read_targets(o->y);
    History history = model.fit(x, y, fit);
    model.save(o->save);
    if (o->json.empty()) return;
    format::Json j{{"model", o->model}, {"saved", o->save}, {"loss", loss.name()}, {"optimizer", options.optimizer.impl()->class_name()}, {"learning_rate", options.optimizer.learning_rate()},
                   {"batch_size", o->batch_size}, {"epochs", o->epochs}, {"shuffle", !o->no_shuffle}, {"samples", x.size() ? x.shape()[0] : 0}, {"device", str(default_device())}};
    if (seed->count()) j["seed"] = o->seed;
    for (auto& [n, v] : history.history) {
      j["history"][n] = format::Json::array();
      for (double d : v) j["history"][n].push_back(std::isfinite(d) ? format::Json(d) : format::Json());  // JSON has no NaN
    }
    format::write_file_atomically(o->json, format::json_text(j, 1) + "\n");
  });
}

}  // namespace evenflow::cli
