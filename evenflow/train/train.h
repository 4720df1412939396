// SPDX-License-Identifier: Apache-2.0
// compile, fit, evaluate, predict: their options. The functions are members of Model.
#pragma once
#include <optional>

#include "evenflow/data/dataset.h"
#include "evenflow/graph/compile.h"
#include "evenflow/model/model.h"
#include "evenflow/train/callbacks.h"
#include "evenflow/train/losses.h"
#include "evenflow/train/optimizers.h"

namespace evenflow {

struct CompileModelOptions {
  Optimizer optimizer = "rmsprop";  ///< Keras's default
  Loss loss = {};
  std::vector<Metric> metrics = {};
  Activations activations = Activations::automatic;  ///< what the backward pass keeps
  /// Samples that go through the net at a time; 0: the whole batch. There is one update a batch,
  /// by the mean of the gradients and the pooled statistics (n, mean, M2) of the parts; each part
  /// is normalised by its own.
  int64_t micro_batch_size = 0;
  /// All parts go through each batch norm before any goes on, so that the normalisation is the big
  /// batch's too.
  bool exact_micro_batches = false;
};

/// Keras's fit(); a Dataset brings its own order and batches, and sample weights as its third
/// column. Its length need not be known before the first epoch ends. A step whose gradients are not
/// finite changes nothing and does not count in the epoch's means; the logs then have
/// "skipped_steps", the epoch's number of them.
struct FitOptions {
  int64_t batch_size = 32;
  int64_t epochs = 1;
  int verbose = 1;  ///< 0 silent, 1 bar, 2 a line an epoch
  std::vector<CallbackPtr> callbacks = {};
  Tensor sample_weight = {};    ///< [batch] or [batch, 1]: weighs the loss, not the metrics
  double validation_split = 0;  ///< the last part of x and y, before shuffling
  std::optional<Dataset> validation_data = {};
  bool shuffle = true;                ///< of x and y, anew each epoch
  std::optional<uint64_t> seed = {};  ///< of the shuffle
  int64_t initial_epoch = 0;
  int64_t validation_batch_size = 0;  ///< 0: batch_size
  int64_t validation_freq = 1;
  /// Steps of an epoch; 0: all batches. With it one pass over the dataset goes on through the
  /// epochs, and training ends when the data does.
  int64_t steps_per_epoch = 0;
  int64_t validation_steps = 0;  ///< 0: all batches of validation_data
  std::FILE* out = stdout;       ///< where the progress goes
};
struct EvaluateOptions {
  int64_t batch_size = 32;
  int verbose = 0;
  std::FILE* out = stdout;
  int64_t steps = 0;  ///< 0: all batches
};
struct PredictOptions {
  int64_t batch_size = 32;
  int64_t steps = 0;  ///< 0: all batches
};

}  // namespace evenflow
