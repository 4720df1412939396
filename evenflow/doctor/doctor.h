// SPDX-License-Identifier: Apache-2.0
// The doctor: looks a batch-normalised model over, with or without data, and says what it found,
// where, why it matters and what to do.
//   for (auto& f : doctor::examine(model, {.x = x}).findings) ...
// Each check is a declaration in doctor/checks/; docs/doctor.md has the table of them.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "evenflow/model/model.h"
#include "evenflow/train/callbacks.h"
#include "evenflow/train/losses.h"
#include "evenflow/train/optimizers.h"

namespace evenflow::doctor {

/// How bad it is. A healthy model may have notes: they are chances and reminders.
enum class Level { note, warning, error };
std::string_view str(Level level);

struct Finding {
  std::string id;    ///< of the check: "S1"
  std::string name;  ///< "bias_before_batch_norm"
  Level level = Level::warning;
  std::string layer;              ///< with the models that lead to it: "inner/norm"; "": the model
  std::vector<int64_t> channels;  ///< those concerned; empty: the layer as a whole
  double value = 0;               ///< what was measured, to be compared with the threshold
  double threshold = 0;
  std::string saw, why, advice;
  std::string fix;  ///< what repairs it safely: "drop_bias", "debias", "recalibrate", or ""
};

/// What was seen of a training, by the Checkup callback.
struct Trace {
  struct Layer {
    int64_t updates = 0;      ///< of its averages, in all steps
    int64_t odd_steps = 0;    ///< committed steps that made another number of updates than its uses
    int64_t odd_updates = 0;  ///< in the last such step
    bool from_initial = false;  ///< its averages were at their initial values when it began
  };
  int64_t steps = 0;    ///< that were committed
  int64_t skipped = 0;  ///< whose gradients were not finite
  std::map<std::string, Layer> layers;
};

struct Options {
  Tensor x = {};            ///< [samples, ...], as the model takes it; may be missing
  Tensor y = {};            ///< its targets
  Loss loss = {};           ///< what the model was trained with; the checks that need y need it
  int64_t batch_size = 32;  ///< where batches are normalised by their own statistics
  int64_t samples = 4096;   ///< at most so many of x are used
  Optimizer optimizer = Optimizer();   ///< what it is trained with, if known
  std::vector<Model> replicas = {};    ///< the same model on other devices
  std::optional<Trace> trace = {};     ///< of a training
  std::vector<std::string> only = {};  ///< ids of checks; empty: all. Throws NotFound for another
};

/// Statistics of one batch normalisation layer, stored and seen.
struct Reading {
  std::string layer, activation;  ///< what it feeds: "relu", "sigmoid", "tanh" or ""
  int64_t updates = 0;
  double epsilon = 0;
  std::vector<double> mean, variance, gamma, beta;  ///< stored
  std::vector<double> data_mean = {},
                      data_variance = {};  ///< of x under the stored statistics before it
  double divergence = 0;                   ///< KL(data || stored), the mean over channels
  std::vector<double> inactive = {};  ///< share of x in which the activation is at its flat end
  std::vector<int64_t> dead = {},
                       saturated = {};  ///< channels whose share is at least 0.99: of relu, else
};
/// Losses of the same data under different statistics.
struct Gap {
  double stored = 0;     ///< by the moving averages: what evaluate() says
  double batch = 0;      ///< by each batch's own: what fit() sees
  double precise = 0;    ///< by the statistics of all of x, layer by layer
  double inference = 0;  ///< by what each layer does in inference: stored, unless one has a mode
  double training = 0;   ///< by what each layer does in training: batch, unless one is frozen
  double constant = 0;   ///< of the mean prediction: the scale of the others
  std::string guilty;    ///< "averages", "batch noise", "mode", or "" where the gap is small
};

struct Diagnosis {
  std::string model;
  std::vector<Finding> findings;  ///< errors first, then by id
  struct Skipped {
    std::string id, needs;
  };
  std::vector<std::string> ran;
  std::vector<Skipped> skipped;
  std::vector<Reading> readings;  ///< one for each layer; the data's part is empty without x
  std::optional<Gap> gap;         ///< with x, y and loss
  /// No warning and no error.
  bool healthy() const;
};

/// Runs every check that has what it needs. The model is not changed. Throws FailedPrecondition
/// for a model that is not built, InvalidArgument for data that it does not take.
Diagnosis examine(const Model& model, const Options& options = {});

/// A check, as it declares itself.
struct Check {
  const char* name;
  const char* looks_for;  ///< the rule, one sentence
  double threshold = 0;   ///< of the value that it measures; said in looks_for
  const char *why, *advice;
  enum Needs { model, trace, data, targets, replicas } needs = model;
  void (*run)(class Examination&);
};
struct Declared {
  std::string id;
  Check check;
};
/// All of them: S1, S2, ... T1, ... D1, ...
std::vector<Declared> checks();
/// The table of docs/doctor.md, made from the declarations.
std::string checks_table();

/// Text for people, and one JSON object for programs.
std::string diagnosis_text(const Diagnosis& d);
std::string diagnosis_json(const Diagnosis& d);
/// One self-contained HTML page: findings, each layer's stored statistics against the data's,
/// channels that are dead or saturated, and who is guilty of the gap.
std::string diagnosis_html(const Diagnosis& d);

/// A callback of fit(): watches the training, and examines the model at its end with the checks of
/// a training. `options.x` are samples like the training's; options.batch_size is fit's.
class Checkup : public Callback {
 public:
  explicit Checkup(Options options = {}) : options_(std::move(options)) {}
  void on_train_begin(TrainingState& s) override;
  void on_epoch_begin(TrainingState& s, int64_t epoch) override;
  void on_train_batch_end(TrainingState& s, int64_t batch, const Logs& logs) override;
  void on_train_end(TrainingState& s) override;

  Trace trace;
  Diagnosis diagnosis;  ///< there at the end of the training; printed where fit() is not silent

 private:
  Options options_;
  std::map<std::string, std::pair<int64_t, int64_t>> counts_;  // updates, rejected
  int64_t skipped_ = 0;
};

}  // namespace evenflow::doctor
