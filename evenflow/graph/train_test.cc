// SPDX-License-Identifier: Apache-2.0
// A batch-normalised network with dropout, momentum and a loss scale, trained in four modes from
// one body: the same bits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "evenflow/core/random.h"
#include "evenflow/graph/compile.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/graph/node.h"
#include "evenflow/ops/activations.h"
#include "evenflow/ops/batch_norm.h"
#include "evenflow/ops/cross_entropy.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/matmul.h"
#include "evenflow/ops/random.h"
#include "evenflow/ops/reduce.h"
#include "tests/engine.h"

namespace evenflow {
namespace {
using engine::bits, engine::drawn, engine::error_of;
using testing::HasSubstr;

struct Batch {
  Tensor x, y;
};
// Three rings in the plane, and two inputs of noise.
Batch rings(int n, uint64_t seed) {
  const Philox philox{seed};
  std::vector<float> x;
  std::vector<int64_t> y;
  for (int i = 0; i < n; ++i) {
    const auto w = philox(0, uint64_t(i));
    const int c = int(w[0] % 3);
    const float r = 0.5f + float(c) + 0.3f * uniform_f32(w[1]), a = 6.2832f * uniform_f32(w[2]);
    x.insert(x.end(), {r * std::cos(a), r * std::sin(a), uniform_f32(w[3]), 3.f});
    y.push_back(c);
  }
  return {tensor(x, {n, 4}), tensor(y, {n})};
}
Tensor with_inf(const Tensor& x) {
  auto v = x.to_vector();
  v[5] = std::numeric_limits<float>::infinity();
  return tensor(v, x.shape());
}

struct Norm {
  Variable gamma, beta, mean, variance, count;
  explicit Norm(int64_t c)
      : gamma(ones({c})),
        beta(zeros({c})),
        mean(zeros({c})),
        variance(ones({c})),
        count(full({}, 0, DType::i64)) {}
  Tensor operator()(const Tensor& x, bool training) const {
    if (!training) return batch_normalize(x, mean, variance, gamma, beta);
    BatchNormResult r = batch_norm(x, gamma, beta);
    count.assign_add(1);
    mean.assign(moving_average(mean, r.statistics.mean, r.statistics.n, count, 0.9, true));
    variance.assign(
        moving_average(variance, r.statistics.variance(), r.statistics.n, count, 0.9, true));
    return r.y;
  }
};
struct Net {
  Variable w1, w2, w3, b3, scale;
  Norm n1{32}, n2{32};
  Generator gen;
  std::vector<Variable> slots;
  explicit Net(Commit random = Commit::Run)
      : w1(drawn({4, 32}, 1) * 0.5f),
        w2(drawn({32, 32}, 2) * 0.2f),
        w3(drawn({32, 3}, 3) * 0.2f),
        b3(zeros({3})),
        scale(full({}, 1024), {.commit = Commit::Always}),
        gen(7, random) {
    for (auto& v : weights()) slots.emplace_back(zeros(v.sig().shape));
  }
  std::vector<Variable> weights() const {
    return {w1, w2, w3, b3, n1.gamma, n1.beta, n2.gamma, n2.beta};
  }
  std::vector<Variable> state() const {  // of Commit::Step
    auto r = weights();
    r.insert(r.end(), slots.begin(), slots.end());
    for (auto* n : {&n1, &n2}) r.insert(r.end(), {n->mean, n->variance, n->count});
    return r;
  }
  std::vector<Variable> all() const {
    auto r = state();
    r.insert(r.end(), {scale, gen.state()});
    return r;
  }
  Tensor logits(const Tensor& x, bool training) const {
    Tensor h = relu(n1(matmul(x, w1), training));
    if (training) h = h * dropout_mask(gen.next(), h, 0.1);
    return matmul(relu(n2(matmul(h, w2), training)), w3) + b3;
  }
  Tensor train(const Tensor& x, const Tensor& y) const {
    Tensor loss = reduce_mean(sparse_softmax_cross_entropy(logits(x, true), y)), s = scale;
    const auto vars = weights();
    const Tensors g = gradient(loss * s, std::vector<Wrt>(vars.begin(), vars.end()));
    Tensor ok = all_finite(g);
    require(ok);
    scale.assign(s * (0.5f + 0.5f * cast(ok, DType::f32)));
    for (size_t i = 0; i < vars.size(); ++i) {
      slots[i].assign(0.9f * slots[i] + g[i] / s);
      vars[i].assign_sub(0.02f * slots[i]);
    }
    return loss;
  }
};
auto compiled(const Net& net) {
  return compile([net](const Tensor& x, const Tensor& y) { return net.train(x, y); });
}
enum Mode { kRecorded, kImmediate, kCompiled, kCompiledPinned, kModes };
struct Immediate {
  explicit Immediate(bool on) {
    if (on) eager() = Eager::immediate;
  }
  ~Immediate() { eager() = Eager::by_scope; }
};

TEST(Training, four_modes_give_the_same_bits_and_a_falling_loss) {
  constexpr int kSteps = 60;
  std::vector<std::vector<std::string>> finals;
  std::vector<std::vector<float>> losses(kModes);
  for (int mode = 0; mode < kModes; ++mode) {
    Net net;
    auto f = compiled(net);
    Immediate how(mode == kImmediate);
    Tensors held;
    std::vector<std::string> was;
    for (int i = 0; i < kSteps; ++i) {
      const Batch b = rings(i % 7 == 6 ? 20 : 32, uint64_t(i));  // with partial batches
      Tensor loss;
      if (mode >= kCompiled)
        loss = f(b.x, b.y);
      else {
        Step s;
        loss = net.train(b.x, b.y);
        if (mode == kRecorded && i % 2) loss.item(), loss.item();
        EXPECT_TRUE(s.commit());
      }
      losses[size_t(mode)].push_back(float(loss.item()));
      if (mode == kCompiledPinned && i % 3 == 0)  // a version that is held is not written over
        held.push_back(net.w1.read()), was.push_back(bits(held.back()));
    }
    finals.push_back(bits(net.all()));
    for (size_t i = 0; i < held.size(); ++i) EXPECT_EQ(bits(held[i]), was[i]) << i;
    EXPECT_EQ(f.function().traces(), mode >= kCompiled);
    if (mode == kCompiled) {
      const auto stats = f.function().stats();
      EXPECT_LT(stats.early, stats.calls) << "updates run after the predicate";
      EXPECT_EQ(stats.state_in_place, net.state().size()) << "weights, slots and statistics";
      EXPECT_LT(stats.arena_bytes, stats.values_bytes * 2 / 3);
      EXPECT_GT(stats.in_place, 0u);
    }
  }
  for (int mode = 1; mode < kModes; ++mode) {
    EXPECT_EQ(finals[size_t(mode)], finals[0]) << mode;
    EXPECT_EQ(losses[size_t(mode)], losses[0]) << mode;
  }
  EXPECT_GT(losses[0].front(), 0.9f);
  EXPECT_LT(losses[0].back(), 0.5f * losses[0].front());
}

TEST(Training, by_references_it_is_the_same_to_rounding) {
  Net a, b;
  auto f = compiled(a);
  auto g = compile([b](const Tensor& x, const Tensor& y) { return b.train(x, y); },
                   {.use_reference = true});
  for (int i = 0; i < 3; ++i) {
    const Batch d = rings(32, uint64_t(i));
    EXPECT_NEAR(f(d.x, d.y).item(), g(d.x, d.y).item(), 1e-4) << i;
  }
  EXPECT_GT(g.function().stats().calls, f.function().stats().calls);
  const auto va = a.state(), vb = b.state();
  for (size_t i = 0; i < va.size(); ++i) {
    const auto x = va[i].read().to_vector(), y = vb[i].read().to_vector();
    for (size_t k = 0; k < x.size(); ++k) EXPECT_NEAR(x[k], y[k], 2e-4) << va[i].name();
  }
}

TEST(Training, a_step_with_an_injected_inf_leaves_no_trace) {
  for (int mode = 0; mode < kCompiledPinned; ++mode) {
    Net net;
    auto f = compiled(net);
    Immediate how(mode == kImmediate);
    auto go = [&](const Tensor& x, const Tensor& y) {
      if (mode == kCompiled) return f(x, y), Function::committed();
      Step s;
      Tensor l = net.train(x, y);
      return s.commit();
    };
    for (int i = 0; i < 3; ++i) {
      const Batch b = rings(32, uint64_t(i));
      ASSERT_TRUE(go(b.x, b.y));
    }
    const auto before = bits(net.state());
    const auto version = net.w1.version(), draw = net.gen.state().version();
    const Batch b = rings(32, 9);
    EXPECT_FALSE(go(with_inf(b.x), b.y)) << mode;
    EXPECT_EQ(bits(net.state()), before) << mode << ": weights, slots and statistics";
    EXPECT_EQ(net.w1.version(), version);
    EXPECT_EQ(net.scale.read().item(), 512);
    EXPECT_EQ(net.gen.state().version(), draw + 1) << "the same bad batch meets other numbers";
    EXPECT_TRUE(go(b.x, b.y));
    EXPECT_NE(bits(net.state()), before);
  }
  Net net(Commit::Step);  // random state rolls back too when asked to
  auto f = compiled(net);
  const Batch b = rings(32, 9);
  f(b.x, b.y);
  const auto draw = net.gen.state().version();
  f(with_inf(b.x), b.y);
  EXPECT_EQ(net.gen.state().version(), draw);
}

TEST(Training, reading_twice_and_recomputing_updates_statistics_once) {
  Net net, twin;
  const Batch b = rings(32, 1);
  const auto before = bits(net.all());
  Tensor loss;
  {
    Step s;
    loss = net.train(b.x, b.y);
    const double first = loss.item();
    Tensor again = gradient(loss, net.w1);  // what was not kept of the forward pass runs again
    again.data(), again.data();
    EXPECT_EQ(loss.item(), first);
    EXPECT_EQ(bits(net.all()), before);
    EXPECT_TRUE(s.commit());
    EXPECT_EQ(loss.item(), first);
  }
  EXPECT_EQ(net.n1.count.read().item(), 1);
  EXPECT_EQ(net.n1.mean.version(), 1u);
  EXPECT_THAT(error_of([&] { gradient(loss, net.w1); }),
              HasSubstr("failed precondition: gradient: the history"));
  {
    Step s;
    twin.train(b.x, b.y);
    s.commit();
  }
  EXPECT_EQ(bits(twin.all()), bits(net.all()));
}

TEST(Training, inference_uses_the_moving_averages_and_writes_nothing) {
  Net net;
  auto f = compiled(net);
  for (int i = 0; i < 40; ++i) {
    const Batch b = rings(32, uint64_t(i));
    f(b.x, b.y);
  }
  const auto before = bits(net.all());
  const Batch test = rings(300, 77);
  auto infer = compile([net](const Tensor& x) { return argmax(net.logits(x, false)); });
  const auto got = infer(test.x).to_vector<int64_t>(), y = test.y.to_vector<int64_t>();
  int hits = 0;
  for (size_t i = 0; i < y.size(); ++i) hits += got[i] == y[i];
  EXPECT_GT(hits, 200);
  EXPECT_EQ(infer(test.x).to_vector<int64_t>(),
            argmax(net.logits(test.x, false)).to_vector<int64_t>());
  EXPECT_EQ(bits(net.all()), before);
}

}  // namespace
}  // namespace evenflow
