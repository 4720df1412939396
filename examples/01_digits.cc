// SPDX-License-Identifier: Apache-2.0
// Lesson 1: train a batch-normalised net on the digits that Evenflow carries, and save it for
// Keras.
#include <evenflow/evenflow.h>

#include <cstdio>

using namespace evenflow;

int main() {
  auto [train, test] = data::digits().split(0.8);
  Sequential model({Conv2D({.filters = 32,
                            .kernel_size = {3, 3},
                            .padding = "same",
                            .use_bias = false}),  // batch normalisation brings its own: beta
                    BatchNormalization(), ReLU(), MaxPooling2D(), Flatten(),
                    Dense({.units = 10, .activation = "softmax"})});
  model.compile({.optimizer = Adam({.learning_rate = 1e-3}),
                 .loss = "sparse_categorical_crossentropy",
                 .metrics = {"accuracy"}});
  model.fit(train.shuffle().batch(32), {.epochs = 8, .validation_data = test.batch(256)});
  model.save("digits.keras");  // opens in Keras

  const Model again = load_model("digits.keras");
  const Tensors digits = test.take(5).all();
  const Tensor answers = argmax(again.predict(digits[0]), 1);
  for (int i = 0; i < 5; ++i)
    std::printf("a %g, and the net says %g\n", digits[1].to_vector()[size_t(i)],
                answers.to_vector()[size_t(i)]);
}
