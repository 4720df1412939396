// SPDX-License-Identifier: Apache-2.0
#include "evenflow/graph/pass.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "evenflow/graph/program.h"
#include "evenflow/ops/activations.h"
#include "evenflow/ops/batch_norm.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/reduce.h"
#include "tests/engine.h"
#include "tests/random_graphs.h"

namespace evenflow {
namespace {

Graph graph_of(const Sigs& in, const Function::Body& f) { return trace(in, f).graph; }
std::string after(Graph g, std::string_view pass) {
  for (const NamedPass& p : all_passes())
    if (p.name == pass) {
      p.def.run(g, {});
      return str(g);
    }
  return "no such pass";
}

TEST(Pass, DropAliases) {
  const Graph g =
      graph_of({{DType::f32, {4, 3}}, {DType::f32, {3}}}, [](const Tensors& in) -> Tensors {
        return {sum_like(cast(in[0], DType::f32) * in[1], in[0])};
      });
  EXPECT_EQ(str(g), "%2 = multiply(%0, %1) : f32[4,3]\n%3 = sum_like(%2, %0) : f32[4,3]\n");
  EXPECT_EQ(after(g, "drop_aliases"), "%2 = multiply(%0, %1) : f32[4,3]\n");
}
TEST(Pass, AliasesThatDoWorkStay) {
  const Graph g =
      graph_of({{DType::f32, {4, 3}}, {DType::f32, {3}}}, [](const Tensors& in) -> Tensors {
        return {sum_like(cast(in[0], DType::f64), cast(in[1], DType::f64))};
      });
  EXPECT_EQ(after(g, "drop_aliases"), str(g));
}
TEST(Pass, MergeTwins) {
  // Tracing merges twins too, so one is made by hand: a pass before may leave some.
  Graph g = graph_of({{DType::f32, {4}}}, [](const Tensors& in) -> Tensors {
    return {exp(in[0]), square(exp(in[0]))};
  });
  Rewriter r(g);
  const int twin = r.emit(*r.call(0).op, r.call(0).attrs, r.call(0).in, 0)[0];
  r.graph().results[0] = twin;
  r.finish();
  const auto count = [](const std::string& s) { return std::count(s.begin(), s.end(), '\n'); };
  EXPECT_EQ(count(str(g)), 3) << str(g);
  EXPECT_EQ(count(after(g, "merge_twins")), 2) << str(g);
}
TEST(Pass, AResidualMadeOfTheStatisticsIsNotFused) {
  auto f = [](const Tensor& x) {
    const BatchNormResult r = batch_norm(x, {}, {});
    return relu(r.y + x * r.statistics.mean);
  };
  const Tensor x = engine::drawn({6, 3}, 1);
  const auto want = compile(f, {.passes = Passes::none})(x).to_vector();
  EXPECT_EQ(compile(f, {.passes = Passes::all})(x).to_vector(), want);
  EXPECT_EQ(engine::differences(3949), "") << "the random graph that met it";
}
// The last reader of a large value does not wait for the end.
TEST(Pass, FreeEarly) {
  const Graph g = graph_of({{DType::f32, {64, 64}}}, [](const Tensors& in) -> Tensors {
    const Tensor a = exp(in[0]), b = sin(a), c = cos(b);
    return {reduce_sum(c), reduce_sum(b), reduce_sum(a)};
  });
  const std::string s = after(g, "free_early");
  // b's sum stands before c is made away, a's as soon as b is there.
  EXPECT_LT(s.find("reduce_sum(%1)"), s.find("cos")) << s;
  EXPECT_LT(s.find("reduce_sum(%2)"), s.find("reduce_sum(%3)")) << s;
}
TEST(Pass, NamesAreDifferentAndOrdersKept) {
  const std::vector<NamedPass> all = all_passes();
  ASSERT_GE(all.size(), 2u);
  for (size_t i = 1; i < all.size(); ++i) {
    EXPECT_LE(all[i - 1].def.order, all[i].def.order);
    EXPECT_NE(all[i - 1].name, all[i].name);
    EXPECT_FALSE(all[i].def.summary.empty()) << all[i].name;
  }
}
TEST(Pass, ACompiledFunctionPlansAnewForOtherPasses) {
  auto f = compile([](const Tensor& x) { return cast(x, DType::f32) + 1; });
  const Tensor x = ones({4});
  const Passes before = default_passes();
  set_default_passes(Passes::none);
  f(x);
  const size_t plain = f.function().stats().calls;
  set_default_passes(Passes::all);
  EXPECT_EQ(f(x).to_vector(), std::vector<float>(4, 2));
  EXPECT_LE(f.function().stats().calls, plain);
  set_default_passes(before);
  EXPECT_EQ(f.function().traces(), 1) << "passes need no other trace";
}
TEST(Rewriter, ExpandPutsTheReferenceInPlace) {
  Graph g = graph_of({{DType::f32, {4, 3}}},
                     [](const Tensors& in) -> Tensors { return {logsumexp(in[0], {1})}; });
  Rewriter r(g);
  ASSERT_EQ(r.calls(), 1);
  r.expand(0);
  r.finish();
  EXPECT_THAT(str(g), testing::AllOf(testing::HasSubstr("reduce_max"),
                                     testing::Not(testing::HasSubstr("logsumexp"))));
  EXPECT_EQ(g.values[size_t(g.results[0])], (Sig{DType::f32, {4}}));
}
TEST(Hoist, WhatVariablesAloneDecideIsMadeOnce) {
  Variable w(tensor(std::vector<float>{1, 2}, {2}));
  auto f = compile([w](const Tensor& x) { return x + exp(Tensor(w)) * 2; });
  const Tensor x = zeros({2});
  f(x);
  const int64_t before = run_counters().kernels;
  f(x);
  const int64_t again = run_counters().kernels - before;
  w.assign(tensor(std::vector<float>{0, 0}, {2}));
  const int64_t changed = run_counters().kernels;
  EXPECT_EQ(f(x).to_vector(), (std::vector<float>{2, 2}));
  EXPECT_GT(run_counters().kernels - changed, again) << "a new value needs the early part again";
  EXPECT_EQ(again, 1) << "the addition";
}
TEST(Hoist, AStepThatHasProposedAValueReadsItsOwn) {
  Variable w(tensor(std::vector<float>{1}, {1}));
  auto f = compile([w](const Tensor& x) { return x + square(Tensor(w)); });
  EXPECT_EQ(f(zeros({1})).item(), 1);
  {
    Step step;
    w.assign(tensor(std::vector<float>{3}, {1}));
    EXPECT_EQ(f(zeros({1})).item(), 9);
  }  // dropped
  EXPECT_EQ(f(zeros({1})).item(), 1);
}

}  // namespace
}  // namespace evenflow
