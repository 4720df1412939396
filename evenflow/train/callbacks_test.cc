// SPDX-License-Identifier: Apache-2.0
// EarlyStopping and ModelCheckpoint against Keras's: what they say, when they stop, what they keep
// (tests/reference/texts.json).
#include "evenflow/train/callbacks.h"

#include <gmock/gmock.h>

#include <cstdio>
#include <filesystem>

#include "evenflow/model/batch_normalization.h"
#include "evenflow/model/layers.h"
#include "evenflow/train/train.h"
#include "tests/reference_values.h"

namespace evenflow {
namespace {
using nlohmann::json;
using testing::HasSubstr;

std::string content(std::FILE* f) {
  std::fflush(f);
  std::string text(size_t(std::ftell(f)), ' ');
  std::rewind(f);
  EXPECT_EQ(std::fread(text.data(), 1, text.size(), f), text.size());
  std::fclose(f);
  return text;
}
std::string folder() {
  std::string f = testing::TempDir() + "evenflow_callbacks_XXXXXX";
  return mkdtemp(f.data());
}
CallbackPtr callback_of(const json& c, const std::string& where) {
  const json& o = c["config"];
  auto maybe = [&](const char* key) {
    return o.contains(key) ? std::optional<double>(o[key].get<double>()) : std::nullopt;
  };
  if (c["callback"] == "EarlyStopping")
    return EarlyStopping({.monitor = o.value("monitor", "val_loss"),
                          .min_delta = o.value("min_delta", 0.),
                          .patience = o.value("patience", 0),
                          .verbose = o.value("verbose", 0) != 0,
                          .mode = o.value("mode", "auto"),
                          .baseline = maybe("baseline"),
                          .restore_best_weights = o.value("restore_best_weights", false),
                          .start_from_epoch = o.value("start_from_epoch", 0)});
  return ModelCheckpoint({.filepath = where + "/" + o["filepath"].get<std::string>(),
                          .monitor = o.value("monitor", "val_loss"),
                          .verbose = o.value("verbose", 0) != 0,
                          .save_best_only = o.value("save_best_only", false),
                          .initial_value_threshold = maybe("initial_value_threshold")});
}

TEST(Callbacks, SayStopAndKeepAsKerassDo) {
  int n = 0;
  for (const json& c : reference::document("texts.json")["callbacks"]) {
    SCOPED_TRACE(c["callback"].get<std::string>() + " " + c["config"].dump());
    const std::string where = folder();
    const CallbackPtr callback = callback_of(c, where);
    Dense dense({.units = 1, .use_bias = false});
    TrainingState s;
    s.model = Sequential({to_layer(Input({1})), dense});
    s.out = std::tmpfile(), s.validates = true;
    const std::string name = c["monitor"];
    callback->on_train_begin(s);
    json stopped;
    for (size_t e = 0; e < c["values"].size(); ++e) {
      dense.weights()[0].variable.assign(full({1, 1}, double(e + 1)));
      Logs logs;
      logs.set("loss", 1), logs.set(name.substr(4), 1);
      if (!c["values"][e].is_null()) logs.set(name, c["values"][e]);
      callback->on_epoch_begin(s, int64_t(e)), callback->on_epoch_end(s, int64_t(e), logs);
      if (s.stop_training) {
        stopped = e;
        break;
      }
    }
    callback->on_train_end(s);
    std::string text = content(s.out);
    for (size_t at; (at = text.find(where + "/")) != std::string::npos;)
      text.replace(at, where.size() + 1, "FOLDER/");
    EXPECT_EQ(text, c["text"].get<std::string>());
    EXPECT_EQ(stopped, c["stopped"]);
    EXPECT_EQ(dense.weights()[0].variable.read().item(), c["weight"].get<double>());
    std::vector<std::string> files;
    for (auto& f : std::filesystem::directory_iterator(where)) files.push_back(f.path().filename());
    std::sort(files.begin(), files.end());
    EXPECT_EQ(files, c["files"].get<std::vector<std::string>>());
    std::filesystem::remove_all(where);
    ++n;
  }
  EXPECT_EQ(n, 16);
}

struct Trial {
  Sequential model{{to_layer(Input({2})), BatchNormalization(), Dense({.units = 1})}};
  Tensor x = tensor(std::vector<float>{1, 2, 3, 4, 5, 6, 7, 9}, {4, 2}),
         y = tensor(std::vector<float>{1, 0, 1, 0}, {4, 1});
  Trial() { model.compile({.optimizer = SGD({.learning_rate = .2}), .loss = "mse"}); }
  FitOptions options(std::vector<CallbackPtr> callbacks) {
    return {.batch_size = 2,
            .epochs = 30,
            .verbose = 0,
            .callbacks = std::move(callbacks),
            .shuffle = false};
  }
};

TEST(Callbacks, BestWeightsBringTheirStatisticsAlong) {
  Trial t;
  auto& bn = static_cast<BatchNormalizationImpl&>(*t.model.layers()[0].impl());
  const History h = t.model.fit(
      t.x, t.y,
      t.options({EarlyStopping(
          {.monitor = "loss", .patience = 1, .mode = "max", .restore_best_weights = true})}));
  EXPECT_LT(h.epoch.size(), 30u);
  const auto best =
      size_t(std::max_element(h.at("loss").begin(), h.at("loss").end()) - h.at("loss").begin());
  EXPECT_EQ(bn.update_count.read().item(), 2 * double(best + 1));
}

TEST(Callbacks, ACheckpointIsTheModelOfItsEpoch) {
  Trial t;
  const std::string where = folder();
  FitOptions o = t.options({ModelCheckpoint({.filepath = where + "/{epoch:03d}.keras"})});
  o.epochs = 2;
  t.model.fit(t.x, t.y, o);
  const Model saved = load_model(where + "/002.keras");
  EXPECT_EQ(saved.predict(t.x).to_vector(), t.model.predict(t.x).to_vector());
  EXPECT_NE(load_model(where + "/001.keras").predict(t.x).to_vector(),
            t.model.predict(t.x).to_vector());
  std::filesystem::remove_all(where);
}

TEST(Callbacks, WhatIsNotThereIsNamed) {
  auto why = [](auto f) {
    try {
      f();
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  Trial t;
  EXPECT_THAT(why([&] { t.model.fit(t.x, t.y, t.options({EarlyStopping()})); }),
              HasSubstr("EarlyStopping: monitor is \"val_loss\", expected one of loss (there is no "
                        "validation data)"));
  FitOptions o = t.options({EarlyStopping({.monitor = "val_auc"})});
  o.validation_split = .5;
  EXPECT_THAT(why([&] { t.model.fit(t.x, t.y, o); }),
              HasSubstr("monitor is \"val_auc\", expected one of loss, val_loss"));
  EXPECT_THAT(why([&] {
                t.model.fit(t.x, t.y,
                            t.options({ModelCheckpoint({.filepath = "/tmp/{accuracy}.keras"})}));
              }),
              HasSubstr("there is no \"accuracy\""));
  EXPECT_THAT(why([] { EarlyStopping({.patience = -1}); }), HasSubstr("patience is -1"));
  EXPECT_THAT(why([] { EarlyStopping({.mode = "best"}); }), HasSubstr("mode is \"best\""));
  EXPECT_THAT(why([] { ModelCheckpoint({.filepath = "m.h5"}); }),
              HasSubstr("expected a name that ends in .keras"));
  EXPECT_THAT(why([] { Logs().at("loss"); }), HasSubstr("there is no \"loss\""));
  EXPECT_THAT(why([] { History().at("loss"); }), HasSubstr("there is no \"loss\""));
}

}  // namespace
}  // namespace evenflow
