// SPDX-License-Identifier: Apache-2.0
// Lesson 3: a training step of your own. A step is committed as a whole or skipped as a whole: here
// a batch that has gone bad leaves weights and batch-norm statistics exactly as they were.
#include <evenflow/evenflow.h>

#include <cstdio>
#include <limits>

using namespace evenflow;

int main() {
  set_random_seed(1);
  auto [train, test] = data::digits().split(0.8);
  Sequential model({to_layer(Input({8, 8, 1})), Flatten(), Dense({.units = 32, .use_bias = false}),
                    BatchNormalization(), ReLU(), Dense({.units = 10})});
  const Loss loss = SparseCategoricalCrossentropy({.from_logits = true});
  const Adam adam({.learning_rate = 1e-2});
  const std::vector<Weight> weights = model.trainable_weights();
  adam.impl()->build(weights);

  // Counted with every run, skipped ones too.
  Variable seen(full({}, 0, DType::i64), {.name = "seen", .commit = Commit::Always});
  Function::Body body = [=](const Tensors& batch) -> Tensors {
    Tensor l = loss(batch[1], model(batch[0], {.training = true}));
    std::vector<Wrt> wrt;
    for (auto& w : weights) wrt.push_back(w.variable);
    Tensors g = gradient(l, wrt);
    require(all_finite(g));  // or nothing of this step happens
    adam.impl()->apply(g);
    seen.assign_add(int64_t(1));
    return {l};
  };
  Function step;
  const Dataset batches = train.shuffle(1).batch(32);
  for (int64_t i = 0; i < batches.batches(); ++i) {
    const double l = step(batches.batch_at(i), body)[0].item();
    if (i % 15 == 0) std::printf("batch %2d: loss %.4f\n", int(i), l);
  }

  const std::vector<float> before = model.weights()[0].variable.read().to_vector();
  Tensors bad = batches.batch_at(0);
  bad[0] = bad[0] * std::numeric_limits<double>::quiet_NaN();
  step(bad, body);
  const bool same = model.weights()[0].variable.read().to_vector() == before;
  std::printf("a batch of NaN: %s, weights %s, %g batches seen\n",
              Function::committed() ? "committed" : "skipped", same ? "unchanged" : "changed",
              seen.read().item());
  return same && !Function::committed() ? 0 : 1;
}
