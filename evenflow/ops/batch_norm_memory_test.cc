// SPDX-License-Identifier: Apache-2.0
// What the backward pass keeps (CompileOptions::activations, tile): the same steps, less memory.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "evenflow/graph/compile.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/ops/activations.h"
#include "evenflow/ops/batch_norm.h"
#include "evenflow/ops/conv.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/matmul.h"
#include "evenflow/ops/reduce.h"

namespace evenflow {
namespace {
constexpr Activations kAll[] = {Activations::automatic, Activations::keep, Activations::recompute,
                                Activations::bitmask, Activations::in_place};

Tensor draw(const Shape& shape, unsigned seed, double deviation = 1, DType t = DType::f32) {
  std::mt19937 bits(seed);
  std::normal_distribution<double> normal(0, deviation);
  std::vector<double> v(size_t(shape.count()));
  for (double& x : v) x = normal(bits);
  return constant(v, shape, t);
}
enum class Act { relu, leaky, sigmoid };

// Convolutions with batch norm and an activation, `depth` of them; the loss, and gradients of all
// weights.
struct Net {
  DType type;
  Act act;
  std::vector<Variable> kernels, gammas, betas;
  Net(DType t, Act a, unsigned depth = 3) : type(t), act(a) {
    for (unsigned i = 0; i < depth; ++i) {
      kernels.emplace_back(draw({3, 3, i ? 16 : 4, 16}, 10 + i, 0.2, t));
      gammas.emplace_back(draw({16}, 20 + i, 0.1, t) + 1);
      betas.emplace_back(draw({16}, 30 + i, 1, t));
    }
  }
  auto step(CompileOptions options) const {
    return compile(
        [net = *this](const Tensor& x) {
          Tensor y = x;
          std::vector<Wrt> wrt;
          for (size_t i = 0; i < net.kernels.size(); ++i) {
            y = conv2d(y, net.kernels[i], {.padding = "same"});
            y = batch_norm(y, net.gammas[i], net.betas[i]).y;
            y = net.act == Act::relu    ? relu(y)
                : net.act == Act::leaky ? leaky_relu(y, 0.1)
                                        : sigmoid(y);
            wrt.push_back(net.kernels[i]), wrt.push_back(net.gammas[i]);
            wrt.push_back(net.betas[i]);
          }
          Tensor loss = reduce_mean(square(y));
          Tensors out = gradient(loss, wrt);
          out.push_back(loss);
          return out;
        },
        options);
  }
};
double worst(const Tensors& a, const Tensors& b) {
  double most = 0;
  for (size_t k = 0; k < a.size(); ++k) {
    const auto x = a[k].to_vector<double>(), y = b[k].to_vector<double>();
    double scale = 1e-12;
    for (double v : y) scale = std::max(scale, std::abs(v));
    for (size_t i = 0; i < x.size(); ++i) most = std::max(most, std::abs(x[i] - y[i]) / scale);
  }
  return most;
}

TEST(BatchNormMemory, EachChoiceTakesTheSameStep) {
  for (Act act : {Act::relu, Act::leaky, Act::sigmoid}) {
    const Net net(DType::f64, act);
    const Tensor x = draw({6, 12, 12, 4}, 1, 1, DType::f64);
    const Tensors want = net.step({.passes = Passes::none})(x);
    for (Activations a : kAll)
      EXPECT_LE(worst(net.step({.activations = a})(x), want), 1e-9) << int(act) << " " << int(a);
  }
}
TEST(BatchNormMemory, EachChoiceTakesTheSameStepInF32AndIn16Bits) {
  for (Act act : {Act::relu, Act::leaky}) {
    const Net net(DType::f32, act);
    const Tensor x = draw({32, 24, 24, 4}, 1);
    const Tensors want = net.step({.passes = Passes::none})(x);
    for (Activations a : kAll)
      EXPECT_LE(worst(net.step({.activations = a})(x), want), 2e-3) << int(act) << " " << int(a);
  }
}
size_t arena(const Net& net, const Tensor& x, Activations a) {
  auto step = net.step({.passes = Passes::all, .activations = a});
  step(x);
  return step.function().stats().arena_bytes;
}
TEST(BatchNormMemory, RecomputingAndInPlaceTakeLess) {
  const Tensor x = draw({8, 24, 24, 4}, 1);  // too small for regions along the batch
  const Net relu(DType::f32, Act::relu, 9), leaky(DType::f32, Act::leaky, 9),
      sigmoid(DType::f32, Act::sigmoid, 9);
  EXPECT_LT(double(arena(relu, x, Activations::recompute)),
            0.8 * double(arena(relu, x, Activations::keep)));
  EXPECT_LT(double(arena(sigmoid, x, Activations::recompute)),
            0.8 * double(arena(sigmoid, x, Activations::keep)));
  EXPECT_LT(double(arena(leaky, x, Activations::in_place)),
            0.8 * double(arena(leaky, x, Activations::keep)));
}
// A residual's ReLU before a pooling: nothing but its gradient reads the output.
TEST(BatchNormMemory, ABitmaskTakesLessWhereOnlyTheReluReadsItsOutput) {
  Variable gamma(ones({64})), beta(zeros({64}));
  auto step = [&](CompileOptions options) {
    return compile(
        [=](const Tensor& x, const Tensor& r) {
          Tensor y = relu(batch_norm(x, gamma, beta).y + r * 2);
          Tensor z = relu(batch_norm(y * 3, gamma, beta).y + r * 3);
          Tensors d = gradient(reduce_mean(z) + reduce_mean(y * y), {gamma, beta});
          return d;
        },
        options);
  };
  const Tensor x = draw({64, 256, 64}, 1), r = draw({64, 256, 64}, 2);
  auto keep = step({.activations = Activations::keep}),
       bits = step({.activations = Activations::bitmask});
  EXPECT_LE(worst(bits(x, r), keep(x, r)), 1e-6);
  EXPECT_LE(bits.function().stats().arena_bytes, keep.function().stats().arena_bytes);
}
TEST(BatchNormMemory, TilesOfAFewSamplesAreTheBigBatch) {
  const Net net(DType::f64, Act::relu);
  const Tensor x = draw({22, 12, 12, 4}, 1, 1, DType::f64);
  const Tensors want = net.step({.passes = Passes::none})(x);
  for (int64_t tile : {1, 4, 7, 22, 50}) {
    auto step = net.step({.tile = tile});
    EXPECT_LE(worst(step(x), want), 1e-9) << tile;
  }
}
TEST(BatchNormMemory, AZeroGammaIsInvertedToTheMean) {
  Variable gamma(constant({1.5, 0, -2}, {3}, DType::f32)),
      beta(constant({1, 2, 3}, {3}, DType::f32));
  const Tensor x = draw({40, 3}, 5);
  auto step = [&](Activations a) {
    return compile(
        [=](const Tensor& x) {
          Tensor y = leaky_relu(batch_norm(x * 2, gamma, beta).y, 0.25);
          return gradient(reduce_mean(y * y), {gamma, beta});
        },
        {.activations = a});
  };
  const Tensors a = step(Activations::in_place)(x), b = step(Activations::keep)(x);
  const auto da = a[0].to_vector<double>(), db = b[0].to_vector<double>();
  for (size_t i : {0, 2}) EXPECT_NEAR(da[i], db[i], 1e-5 * std::abs(db[i]));
  EXPECT_TRUE(std::isfinite(da[1]));
}

}  // namespace
}  // namespace evenflow
