// SPDX-License-Identifier: Apache-2.0
// A plan as a list of kernel calls over one arena: what runs, when, and where it writes.
#include "evenflow/graph/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "evenflow/graph/gradient.h"
#include "evenflow/graph/program.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/matmul.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"
#include "tests/engine.h"

namespace evenflow {
namespace {
using engine::bits, engine::drawn, engine::error_of;
using testing::AllOf, testing::HasSubstr;

Plan planned(const Sigs& args, const Function::Body& body, bool use_reference = false) {
  Program p = trace(args, body);
  std::vector<Role> roles(p.graph.results.size());
  return Plan(p.graph, roles, use_reference);
}
const Sig kMatrix{DType::f32, {8, 8}};

TEST(Plan, pointwise_chains_run_in_one_block_of_memory) {
  const Plan p = planned({kMatrix}, [](const Tensors& in) -> Tensors {
    Tensor y = in[0];
    for (int i = 0; i < 10; ++i) y = exp(y * 0.5f);
    return {reduce_sum(y)};
  });
  EXPECT_EQ(p.calls(), 21u);
  EXPECT_LE(p.arena_bytes(), 8 * 8 * 4 + 64) << "and the scratch memory of the sum";
  EXPECT_EQ(p.in_place(), 19);
}

TEST(Plan, a_value_that_is_read_again_is_not_written_over) {
  auto body = [](const Tensors& in) -> Tensors {
    Tensor a = in[0] * 2, b = exp(a), c = b + a, d = c * b;
    return {d - a, matmul(transpose(c), a)};
  };
  const Plan p = planned({kMatrix}, body);
  auto r = p.acquire();
  const Tensor x = drawn({8, 8}, 1);
  p.bind(*r, {x.buffer()});
  p.execute(*r, false);
  const Tensors want = body({x});
  for (size_t i = 0; i < 2; ++i)
    EXPECT_EQ(bits(tensor(p.result_sig(i), r->results[i])), bits(want[i]));
  EXPECT_EQ(bits(x), bits(drawn({8, 8}, 1))) << "nor is an argument";
}

TEST(Plan, results_lie_outside_the_arena_and_one_value_is_shared) {
  const Plan p = planned({kMatrix}, [](const Tensors& in) -> Tensors {
    Tensor y = in[0] + 1;
    return {y, reshape(y, {64}), in[0], y * 2, ones({3})};
  });
  auto r = p.acquire();
  const BufferPtr x = drawn({8, 8}, 1).buffer();
  p.bind(*r, {x});
  p.execute(*r, false);
  auto* arena = static_cast<const char*>(r->arena->data());
  for (auto& b : r->results) {
    auto* at = static_cast<const char*>(b->data());
    EXPECT_TRUE(at + b->bytes() <= arena || at >= arena + r->arena->bytes());
  }
  EXPECT_EQ(r->results[0], r->results[1]) << "another shape of the same bytes";
  EXPECT_EQ(r->results[2], x) << "an argument that is returned is not copied";
  EXPECT_EQ(p.home(1), 0u);
}

TEST(Plan, two_callers_have_an_arena_each_and_it_is_used_again) {
  const Plan p =
      planned({kMatrix}, [](const Tensors& in) -> Tensors { return {reduce_sum(exp(in[0]))}; });
  auto a = p.acquire(), b = p.acquire();
  EXPECT_NE(a->arena, b->arena);
  const Plan::Run* mine = b.get();
  b.reset();
  EXPECT_EQ(p.acquire().get(), mine);
}

TEST(Plan, by_references_every_composition_is_taken_apart) {
  auto body = [](const Tensors& in) -> Tensors { return {logsumexp(in[0], {1})}; };
  const Plan whole = planned({kMatrix}, body), apart = planned({kMatrix}, body, true);
  EXPECT_GT(apart.calls(), 1u);
  auto value = [&](const Plan& p) {
    auto r = p.acquire();
    p.bind(*r, {drawn({8, 8}, 1).buffer()});
    p.execute(*r, false);
    return tensor(p.result_sig(0), r->results[0]).to_vector();
  };
  const auto a = value(whole), b = value(apart);
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-5);
}

TEST(Plan, prints_what_it_runs) {
  const Plan p = planned({kMatrix}, [](const Tensors& in) -> Tensors {
    NameScope scope("dense");
    return {matmul(in[0], in[0]) + 1};
  });
  EXPECT_THAT(p.listing(), AllOf(HasSubstr("matmul ["), HasSubstr("f32[8,8]@0"),
                                 HasSubstr("result 0"), HasSubstr("\"dense\"")));
}

TEST(Plan, a_traced_function_that_writes_is_not_pure) {
  Variable w(zeros({}), {.name = "w"});
  EXPECT_THAT(error_of([&] {
                trace({{DType::f32, {}}}, [w](const Tensors& in) -> Tensors {
                  w.assign(in[0]);
                  return {in[0]};
                });
              }),
              HasSubstr("writes variable \"w\""));
  EXPECT_THAT(error_of([&] {
                trace({{DType::f32, {}}}, [](const Tensors&) -> Tensors { return {Tensor()}; });
              }),
              HasSubstr("empty tensor"));
}

}  // namespace
}  // namespace evenflow
