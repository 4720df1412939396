// SPDX-License-Identifier: Apache-2.0
// pool(): micro-batches. Ranks that are threads: tests/rank_threads_test.cc.
#include "evenflow/ops/pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "evenflow/graph/compile.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/ops/batch_norm.h"
#include "evenflow/ops/compare.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/matmul.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"
#include "tests/engine.h"
#include "tests/pooled_net.h"

namespace evenflow {
namespace {
using engine::bits, engine::drawn, engine::error_of, engine::fault, engine::truth;
using engine::labels, engine::PooledNet;
using testing::AllOf, testing::HasSubstr;
constexpr float kInf = std::numeric_limits<float>::infinity();

TEST(Pool, alone_gives_the_parts) {
  const Tensors r = pool(Pooled::mean, {full({}, 3), ones({2}), zeros({3})});
  EXPECT_EQ(r[0].item(), 3);
  EXPECT_EQ(r[1].to_vector(), (std::vector<float>{1, 1}));
  EXPECT_EQ(r[2].size(), 3);
}

TEST(Pool, means_and_statistics_of_parts_are_those_of_the_whole) {
  const Tensor x = drawn({24, 3}, 1) + tensor(std::vector<float>{1000, -3, 0}, {3});
  const Tensors parts = split(x, {5, 0, 12, 7}, 0);
  Variable n(zeros({})), mean(zeros({3})), m2(zeros({3})), weighted(zeros({3}));
  auto f = compile(
      [=](const Tensor& part) {
        const Statistics s = batch_norm_statistics(part);
        const Tensors p = pool(Pooled::statistics, {s.n, s.mean, s.m2});
        n.assign(p[0]), mean.assign(p[1]), m2.assign(p[2]);
        weighted.assign(pool(Pooled::mean, {s.n, s.mean})[1]);
      },
      {.micro_batches = 4});
  for (auto& p : parts) {
    EXPECT_EQ(n.version(), 0u) << "nothing is written before the last";
    f(p);
  }
  EXPECT_EQ(n.version(), 1u);
  EXPECT_EQ(f.function().traces(), 1);
  // by f64 arithmetic over all rows
  const auto v = x.to_vector<double>();
  for (size_t c = 0; c < 3; ++c) {
    double sum = 0, squares = 0;
    for (size_t i = 0; i < 24; ++i) sum += v[3 * i + c];
    for (size_t i = 0; i < 24; ++i)
      squares += (v[3 * i + c] - sum / 24) * (v[3 * i + c] - sum / 24);
    const double tolerance = c ? 1e-6 : 2e-4;  // f32 at 1000
    EXPECT_NEAR(mean.read().to_vector()[c], sum / 24, tolerance);
    EXPECT_NEAR(weighted.read().to_vector()[c], sum / 24, tolerance);
    EXPECT_NEAR(m2.read().to_vector()[c], squares, (c ? 1e-5 : 1e-4) * squares);
  }
  EXPECT_EQ(n.read().item(), 24);
}

TEST(Pool, a_group_of_one_is_a_plain_step_bit_for_bit) {
  PooledNet alone, group;
  auto f = alone.compiled(), g = group.compiled({.micro_batches = 4});
  const Tensor x = drawn({6, 4}, 1);
  for (int i = 0; i < 3; ++i) {
    f(x, labels(6)), g(x, labels(6));
    EXPECT_NE(group.bits(), alone.bits());
    EXPECT_TRUE(g.function().apply());
    EXPECT_EQ(group.bits(), alone.bits());
  }
  EXPECT_THAT(error_of([&] { g.function().apply(); }), HasSubstr("no micro-batch has run"));
}

TEST(Pool, micro_batches_of_a_linear_model_are_the_big_batch) {
  // Without batch norm the mean of the gradients, weighted by rows, is the gradient of the whole.
  Variable a(drawn({4, 1}, 5)), b(a.read());
  auto step = [](const Variable& w) {
    return [w](const Tensor& x, const Tensor& y) {
      Tensor each = square(matmul(x, w) - y), loss = reduce_mean(each);
      const Tensors p = pool(Pooled::mean, {count_like(each, loss), gradient(loss, w)});
      w.assign_sub(0.5f * p[1]);
    };
  };
  auto f = compile(step(a)), g = compile(step(b), {.micro_batches = 3});
  for (uint64_t i = 0; i < 5; ++i) {
    const Tensor x = drawn({12, 4}, i), y = drawn({12, 1}, i + 100);
    f(x, y);
    const Tensors xs = split(x, {4, 7, 1}, 0), ys = split(y, {4, 7, 1}, 0);
    for (size_t k = 0; k < 3; ++k) g(xs[k], ys[k]);
  }
  const auto u = a.read().to_vector(), v = b.read().to_vector();
  for (size_t i = 0; i < u.size(); ++i) EXPECT_NEAR(u[i], v[i], 1e-5);
}

TEST(Pool, a_predicate_judges_the_group_and_a_skip_takes_all_of_it) {
  PooledNet net, twin;
  auto f = net.compiled({.micro_batches = 2}), g = twin.compiled({.micro_batches = 2});
  const Tensor good = drawn({6, 4}, 1), bad = drawn({3, 4}, 2) * kInf;
  f(good, labels(6)), f(drawn({3, 4}, 3), labels(3));
  EXPECT_TRUE(Function::committed());
  const auto before = net.bits();
  f(bad, labels(3)), f(good, labels(6));
  EXPECT_FALSE(Function::committed());
  EXPECT_EQ(net.bits(), before);
  f(good, labels(6)), f(drawn({3, 4}, 4), labels(3));  // nothing of the bad batch is left
  EXPECT_TRUE(Function::committed());
  g(good, labels(6)), g(drawn({3, 4}, 3), labels(3));
  g(good, labels(6)), g(drawn({3, 4}, 4), labels(3));
  EXPECT_EQ(net.bits(), twin.bits());
}

TEST(Pool, a_micro_batch_that_fails_is_not_counted) {
  PooledNet net, twin;
  auto f = compile([net](const Tensor& x, const Tensor& y,
                         const Tensor& bad) { return net.train(fault(x, bad), y); },
                   {.micro_batches = 2});
  auto g = twin.compiled({.micro_batches = 2});
  const Tensor a = drawn({6, 4}, 1), b = drawn({3, 4}, 2);
  f(a, labels(6), truth(false));
  EXPECT_THAT(error_of([&] { f(b, labels(3), truth(true)); }), HasSubstr("fault"));
  EXPECT_EQ(net.bits(), twin.bits());
  f(b, labels(3), truth(false));
  g(a, labels(6)), g(b, labels(3));
  EXPECT_EQ(net.bits(), twin.bits());
}

TEST(Pool, a_step_that_fails_drops_its_group) {
  Variable w(zeros({})), bad(full({}, false, DType::boolean));
  auto f = compile(
      [=](const Tensor& x) {
        const Tensors p = pool(Pooled::mean, {ones({}), x});
        w.assign(fault(p[1], bad));
      },
      {.micro_batches = 2});
  f(full({}, 1));
  bad.assign(truth(true));
  EXPECT_THAT(error_of([&] { f(full({}, 3)); }), HasSubstr("fault"));
  EXPECT_EQ(w.read().item(), 0);
  bad.assign(truth(false));
  f(full({}, 10)), f(full({}, 20));
  EXPECT_EQ(w.read().item(), 15) << "of this group alone";
}

TEST(Pool, a_group_goes_on_through_another_trace) {
  Variable w(zeros({}));
  auto f = compile(
      [w](const Tensor& x) {
        const float rows = float(x.shape()[0]);  // another extent, another trace
        w.assign(pool(Pooled::mean, {full({}, rows), reduce_mean(x)})[1]);
      },
      {.micro_batches = 2});
  f(full({3}, 1)), f(full({1}, 9));
  EXPECT_EQ(f.function().traces(), 2);
  EXPECT_EQ(w.read().item(), 3);
  Setting more(0);
  auto g = compile(
      [=](const Tensor& x) {
        Tensors parts{ones({}), x};
        if (more.get()) parts = {ones({}), stack({x, x})};
        w.assign(reduce_sum(pool(Pooled::mean, parts)[1]));
      },
      {.micro_batches = 2});
  g(ones({}));
  more.set(1);
  EXPECT_THAT(error_of([&] { g(ones({})); }),
              AllOf(HasSubstr("pool different values"), HasSubstr("pool_test.cc:")));
}

TEST(Pool, commit_run_moves_with_each_micro_batch_and_the_rest_with_the_group) {
  Variable cursor(zeros({}), {.commit = Commit::Run}),
      always(zeros({}), {.commit = Commit::Always}), w(zeros({}));
  auto f = compile(
      [=](const Tensor& ok) {
        const Tensors p = pool(Pooled::mean, {ones({}), cast(ok, DType::f32)});
        require(p[1] > 0.9f);
        cursor.assign_add(1), always.assign_add(1), w.assign_add(1);
      },
      {.micro_batches = 2});
  f(truth(true));
  EXPECT_EQ(cursor.read().item(), 1);
  EXPECT_EQ(always.read().item(), 0);
  f(truth(false));
  EXPECT_EQ(cursor.read().item(), 2);
  EXPECT_EQ(always.read().item(), 1);
  EXPECT_EQ(w.read().item(), 0);
}

TEST(Pool, what_does_not_pass_it_is_refused) {
  Variable v(zeros({}), {.name = "v"}), run(zeros({}), {.commit = Commit::Run});
  const CompileOptions two{.micro_batches = 2};
  auto around = compile([v](const Tensor& x) { v.assign(reduce_sum(x)); }, two);
  EXPECT_THAT(error_of([&] { around(ones({3})); }), HasSubstr("without pool() between them"));
  auto returned = compile(
      [](const Tensor& x) {
        return pool(Pooled::mean, {ones({}), x})[1] * 2;
      },
      two);
  EXPECT_THAT(error_of([&] { returned(ones({3})); }), HasSubstr("a pooled value is returned"));
  auto written = compile(
      [run](const Tensor& x) {
        run.assign(pool(Pooled::mean, {ones({}), x})[1]);
      },
      two);
  EXPECT_THAT(error_of([&] { written(ones({})); }), HasSubstr("written with Commit::Run"));
  auto good = compile(
      [v](const Tensor& x) {
        v.assign(pool(Pooled::mean, {ones({}), x})[1]);
      },
      two);
  {
    Step s;
    EXPECT_THAT(error_of([&] { good(ones({})); }),
                AllOf(HasSubstr("inside a Step"), HasSubstr("pool_test.cc:")));
  }
  good(ones({}));
  {
    Step s;
    EXPECT_THAT(error_of([&] { good.function().apply(); }), HasSubstr("a Step or a trace is open"));
  }
  EXPECT_TRUE(good.function().apply());
  EXPECT_THAT(error_of([] { pool(Pooled::mean, {ones({})}); }), HasSubstr("expected at least 2"));
  EXPECT_THAT(error_of([] {
                pool(Pooled::statistics, {ones({}), ones({2})});
              }),
              HasSubstr("expected 3"));
  EXPECT_THAT(error_of([] {
                pool(Pooled::mean, {ones({1}), ones({2})});
              }),
              HasSubstr("n is f32[1]"));
  EXPECT_THAT(error_of([] {
                pool(Pooled::mean, {ones({}), ones({2}, DType::bf16)});
              }),
              HasSubstr("expected f32 or f64"));
  EXPECT_THAT(error_of([] { pool(Pooled::mean, {ones({}), Tensor()}); }), HasSubstr("empty"));
}

}  // namespace
}  // namespace evenflow
