// SPDX-License-Identifier: Apache-2.0
#include "evenflow/train/memory.h"

#include <algorithm>
#include <chrono>

#include "evenflow/graph/gradient.h"
#include "evenflow/model/config.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/reduce.h"

namespace evenflow {
namespace {
constexpr std::pair<std::string_view, Activations> kNames[] = {
    {"automatic", Activations::automatic},
    {"keep", Activations::keep},
    {"recompute", Activations::recompute},
    {"bitmask", Activations::bitmask},
    {"in_place", Activations::in_place}};
}  // namespace

Activations parse_activations(std::string_view name) {
  for (auto& [n, choice] : kNames)
    if (n == name) return choice;
  fail({"activations is \"", name, "\", expected automatic, keep, recompute, bitmask or in_place"});
}
std::string_view str(Activations choice) {
  for (auto& [n, c] : kNames)
    if (c == choice) return n;
  return "?";
}

std::vector<MemoryUse> training_memory(const Model& model, int64_t batch) {
  const std::vector<Dims> inputs = model.input_dims();
  if (inputs.size() != 1)
    fail({"training_memory: model \"", model.name(), "\" has ", inputs.size(),
          " inputs, expected one"});
  if (batch < 1) fail({"training_memory: batch is ", batch, ", expected at least 1"});
  Dims dims = inputs[0];
  dims[0] = batch;
  for (int64_t d : dims)
    if (d < 0)
      fail({"training_memory: model \"", model.name(),
            "\" has an open extent,"
            " expected known ones besides the batch"});
  const Shape shape(std::vector<int64_t>(dims.begin(), dims.end()));
  const Tensor x = tensor(Initializer("RandomNormal", 0, 1)(shape, 1), shape);
  std::vector<Wrt> wrt;
  for (auto& w : model.trainable_weights()) wrt.push_back(w.variable);
  std::vector<MemoryUse> all;
  for (auto& [name, choice] : kNames) {
    auto step = compile(
        [&](const Tensor& x) {
          Tensor y = model(x, {.training = true}), loss = reduce_mean(square(y));
          Tensors out{loss};
          if (!wrt.empty())
            for (auto& g : gradient(loss, wrt)) out.push_back(g);
          return out;
        },
        {.activations = choice});
    MemoryUse use{choice, 0, 1e300};
    for (int run = 0; run < 3; ++run) {
      const Step dropped;
      const auto start = std::chrono::steady_clock::now();
      step(x);
      const double ms =
          std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
              .count();
      if (run) use.milliseconds = std::min(use.milliseconds, ms);  // the first one plans
    }
    use.arena_bytes = int64_t(step.function().stats().arena_bytes);
    all.push_back(use);
  }
  return all;
}

}  // namespace evenflow
