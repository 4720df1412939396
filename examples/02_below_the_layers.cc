// SPDX-License-Identifier: Apache-2.0
// Lesson 2: tensors, state, a compiled step and its gradient, without layers: a line through noisy
// points.
#include <evenflow/evenflow.h>

#include <cmath>
#include <cstdio>

using namespace evenflow;

int main() {
  // Operations run when they are called; numbers mix with tensors.
  Tensor x = tensor(std::vector<float>{0, 1, 2, 3, 4, 5, 6, 7}, {8, 1});
  Tensor noise = tensor(std::vector<float>{.1f, -.1f, .05f, 0, -.05f, .1f, -.1f, 0}, {8, 1});
  Tensor y = 3 * x + 1 + noise;

  Variable w(zeros({1, 1})), b(zeros({1}));
  // compile() traces the function once per signature. Variables are captured by value: they are
  // handles, and a later trace must find them alive.
  auto step = compile([w, b](const Tensor& x, const Tensor& y) {
    Tensor loss = reduce_mean(square(matmul(x, w) + b - y));
    Tensors g = gradient(loss, {w, b});
    w.assign_sub(0.03f * g[0]);  // proposed here, committed together when the step has run
    b.assign_sub(0.03f * g[1]);
    return loss;
  });
  for (int i = 0; i <= 600; ++i) {
    const double loss = step(x, y).item();
    if (i % 200 == 0) std::printf("step %3d: loss %.5f\n", i, loss);
  }
  std::printf("y = %.2f x + %.2f, traced %d time\n", w.read().item(), b.read().item(),
              step.function().traces());

  // A gradient is made of operations, so it has a gradient: d2(x^3)/dx2 = 6x.
  Tensor at = watch(full({}, 2));
  Tensor first = gradient(at * at * at, at), second = gradient(first, at);
  std::printf("of x^3 at 2: %g, then %g\n", first.item(), second.item());
  return std::abs(w.read().item() - 3) < 0.05 && second.item() == 12 ? 0 : 1;
}
