// SPDX-License-Identifier: Apache-2.0
// Callbacks with Keras's names, defaults and messages; the progress bar is one of them.
#pragma once
#include <cstdio>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "evenflow/model/model.h"

namespace evenflow {

/// Names and values in the order in which they are shown: loss, metrics, then val_ ones.
struct Logs {
  std::vector<std::pair<std::string, double>> values;
  double at(std::string_view name) const;  ///< throws NotFound, naming what there is
  std::optional<double> find(std::string_view name) const;
  void set(const std::string& name, double value);
};
struct History {
  std::vector<int64_t> epoch;
  std::vector<std::pair<std::string, std::vector<double>>> history;
  std::vector<int64_t> skipped_steps;  ///< in each epoch
  /// A value an epoch; throws NotFound.
  const std::vector<double>& at(std::string_view name) const;
  void add(int64_t epoch, const Logs& logs);
};

/// What a callback sees and may change.
struct TrainingState {
  Model model;
  int64_t epochs = 1;
  int64_t steps = 0;  ///< of an epoch; -1 as long as nobody knows
  int64_t epoch = 0;
  int verbose = 1;
  std::FILE* out = stdout;
  bool stop_training = false;
  bool validates = false;  ///< there is validation data, though maybe not in every epoch
};

class Callback {
 public:
  virtual ~Callback() = default;
  virtual void on_train_begin(TrainingState&) {}
  virtual void on_epoch_begin(TrainingState&, int64_t /*epoch*/) {}
  virtual void on_train_batch_end(TrainingState&, int64_t /*batch*/, const Logs&) {}
  virtual void on_epoch_end(TrainingState&, int64_t /*epoch*/, const Logs&) {}
  virtual void on_train_end(TrainingState&) {}
};
using CallbackPtr = std::shared_ptr<Callback>;

struct EarlyStoppingConfig {
  std::string monitor = "val_loss";
  double min_delta = 0;
  int64_t patience = 0;
  bool verbose = false;
  std::string mode = "auto";  ///< "min", "max", "auto" (max for names with "acc")
  std::optional<double> baseline = {};
  bool restore_best_weights = false;
  int64_t start_from_epoch = 0;
};
/// Stops when the monitored value no longer improves. Throws InvalidArgument at the end of an epoch
/// for a value that no epoch has; epochs without validation are passed over.
CallbackPtr EarlyStopping(EarlyStoppingConfig config = {});

struct ModelCheckpointConfig {
  std::string filepath = {};  ///< "{epoch}", "{epoch:02d}" and "{val_loss:.2f}" are filled in
  std::string monitor = "val_loss";
  bool verbose = false, save_best_only = false;
  std::string mode = "auto";
  std::optional<double> initial_value_threshold = {};
};
/// Saves the model at the end of epochs. A failed save leaves the old file.
CallbackPtr ModelCheckpoint(ModelCheckpointConfig config);

/// Keras's progress bar: redrawn on a terminal, a line an epoch elsewhere (verbose 1), or always a
/// line (verbose 2). `clock` gives seconds; left out, it is a steady clock.
CallbackPtr ProgbarLogger(std::function<double()> clock = {});

}  // namespace evenflow
