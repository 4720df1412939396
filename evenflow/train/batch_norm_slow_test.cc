// SPDX-License-Identifier: Apache-2.0
// Moving averages on real digits: what Keras's plain ones hold after one epoch, and what the
// debiased ones do.
#include <gtest/gtest.h>

#include "evenflow/data/digits.h"
#include "evenflow/model/batch_normalization.h"
#include "evenflow/model/layers.h"
#include "evenflow/train/train.h"

namespace evenflow {
namespace {

// val_accuracy after one epoch at momentum 0.99.
double accuracy(BatchNormAverages averages) {
  set_random_seed(1);
  auto [train, test] = data::digits().split(0.8);
  const Sequential model(
      {Conv2D({.filters = 32, .kernel_size = 3, .padding = "same", .use_bias = false}),
       BatchNormalization({.momentum = .99, .averages = averages}), ReLU(), MaxPooling2D(),
       Conv2D({.filters = 32, .kernel_size = 3, .padding = "same", .use_bias = false}),
       BatchNormalization({.momentum = .99, .averages = averages}), ReLU(), Flatten(),
       Dense({.units = 10, .activation = "softmax"})});
  model.compile({.optimizer = Adam({.learning_rate = 1e-3}),
                 .loss = "sparse_categorical_crossentropy",
                 .metrics = {"accuracy"}});
  const History h = model.fit(train.shuffle(1).batch(32),
                              {.epochs = 1, .verbose = 0, .validation_data = test.batch(256)});
  return h.at("val_accuracy")[0];
}

TEST(BatchNormalizationDigits, Thread1Keras7265TheFirstEpochsEvaluationIsOfTheNet) {
  EXPECT_LT(accuracy(BatchNormAverages::plain), .6);
  for (BatchNormAverages a : {BatchNormAverages::exponential, BatchNormAverages::cumulative,
                              BatchNormAverages::window, BatchNormAverages::precise})
    EXPECT_GT(accuracy(a), .9) << name_of(a);
}

}  // namespace
}  // namespace evenflow
