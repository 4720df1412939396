// SPDX-License-Identifier: Apache-2.0
// Nets trained on a GPU (emulated, or EVENFLOW_TEST_DEVICE) and on the CPU, each step from the same
// state.
#include <gtest/gtest.h>

#include <cmath>

#include "evenflow/core/accelerator.h"
#include "evenflow/evenflow.h"
#include "tests/emulated_gpu.h"

namespace evenflow {
namespace {

class OnDevice {
 public:
  explicit OnDevice(const Device& d) { set_default_device(d); }
  ~OnDevice() { set_default_device(Device()); }
};

Model small_resnet() {
  auto in = Input({8, 8, 3});
  auto conv = [](const SymbolicTensor& x, int64_t filters, int64_t stride) {
    return BatchNormalization()(Conv2D({.filters = filters,
                                        .kernel_size = 3,
                                        .strides = stride,
                                        .padding = "same",
                                        .use_bias = false})(x));
  };
  auto x = ReLU()(conv(in, 8, 1));
  auto y = conv(ReLU()(conv(x, 8, 1)), 8, 1);
  x = ReLU()(Add()({x, y}));
  y = conv(ReLU()(conv(x, 16, 2)), 16, 1);
  x = ReLU()(Add()({conv(x, 16, 2), y}));
  return Model(in, Dense({.units = 5, .activation = "softmax"})(GlobalAveragePooling2D()(x)),
               "net");
}
Model small_mlp() {
  auto in = Input({12});
  auto x = Activation("sigmoid")(BatchNormalization()(Dense({.units = 9, .use_bias = false})(in)));
  return Model(in, Dense({.units = 5, .activation = "softmax"})(x), "mlp");
}
Tensor numbers(const Shape& s, uint64_t seed) {
  return tensor(Initializer("RandomNormal", 0, 1)(s, seed), s);
}

void expect_same_steps(Model (*make)(), const Tensor& x, const std::string& optimizer) {
  if (const std::string why = emulated::emulated_gpu_missing(); !why.empty()) GTEST_SKIP() << why;
  auto fresh = [&] {
    set_random_seed(3);
    Model m = make();
    m.compile({.optimizer = optimizer == "adam"
                                ? Optimizer(Adam({.learning_rate = 0.01}))
                                : Optimizer(SGD({.learning_rate = 0.1, .momentum = 0.9})),
               .loss = "sparse_categorical_crossentropy"});
    return m;
  };
  Model host = fresh(), device = fresh();
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < x.shape()[0]; ++i) labels.push_back(i % 5);
  const Tensor y = tensor(labels, {x.shape()[0]});
  for (int step = 0; step < 5; ++step) {
    const double a = host.train_on_batch(x, y).at("loss");
    double b;
    {
      OnDevice on(emulated::device_for_tests());
      b = device.train_on_batch(x, y).at("loss");
    }
    EXPECT_NEAR(a, b, 1e-4 * std::fabs(a)) << "step " << step;
    const auto hw = host.weights(), dw = device.weights();
    ASSERT_EQ(hw.size(), dw.size());
    for (size_t i = 0; i < hw.size(); ++i) {
      const auto p = hw[i].variable.read().to_vector(), q = dw[i].variable.read().to_vector();
      double norm = 1e-6, off = 0;
      for (size_t k = 0; k < p.size(); ++k)
        norm = std::max<double>(norm, std::fabs(p[k])),
        off = std::max<double>(off, std::fabs(p[k] - q[k]));
      EXPECT_LE(off / norm, 2e-4) << "step " << step << " " << hw[i].variable.name();
      device.weights()[i].variable.assign(hw[i].variable.read());
    }
  }
}

TEST(TrainingGpu, ResNetStepsAsOnTheCpu) {
  expect_same_steps(small_resnet, numbers({10, 8, 8, 3}, 5), "sgd");
}
TEST(TrainingGpu, MlpStepsAsOnTheCpu) {
  expect_same_steps(small_mlp, numbers({20, 12}, 5), "adam");
}
// From the third step on the work is a recording.
TEST(TrainingGpu, TrainsOnAsOnTheCpu) {
  if (const std::string why = emulated::emulated_gpu_missing(); !why.empty()) GTEST_SKIP() << why;
  const Tensor x = numbers({10, 8, 8, 3}, 5);
  const Tensor y = tensor(std::vector<int64_t>{0, 1, 2, 3, 4, 0, 1, 2, 3, 4}, {10});
  auto losses = [&](const Device& d) {
    OnDevice on(d);
    set_random_seed(3);
    Model m = small_resnet();
    m.compile({.optimizer = SGD({.learning_rate = 0.05, .momentum = 0.9}),
               .loss = "sparse_categorical_crossentropy"});
    std::vector<double> r;
    for (int i = 0; i < 8; ++i) r.push_back(m.train_on_batch(x, y).at("loss"));
    const auto p = m.predict(x).to_vector();
    r.insert(r.end(), p.begin(), p.end());
    return r;
  };
  const auto host = losses(Device()), device = losses(emulated::device_for_tests());
  for (size_t i = 0; i < host.size(); ++i)
    EXPECT_NEAR(host[i], device[i], 2e-3 * std::max(1.0, std::fabs(host[i]))) << i;
}
TEST(TrainingGpu, PredictionsAsOnTheCpu) {
  if (const std::string why = emulated::emulated_gpu_missing(); !why.empty()) GTEST_SKIP() << why;
  set_random_seed(3);
  Model m = small_resnet();
  const Tensor x = numbers({7, 8, 8, 3}, 6);
  const auto host = m.predict(x, {.batch_size = 3}).to_vector();
  OnDevice on(emulated::device_for_tests());
  const auto device = m.predict(x, {.batch_size = 3}).to_vector();
  ASSERT_EQ(host.size(), device.size());
  for (size_t i = 0; i < host.size(); ++i) EXPECT_NEAR(host[i], device[i], 1e-5);
}

}  // namespace
}  // namespace evenflow
