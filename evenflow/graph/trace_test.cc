// SPDX-License-Identifier: Apache-2.0
// compile(): what a trace serves, why there is another, what is frozen in it, and what is refused
// by line.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "evenflow/core/log.h"
#include "evenflow/graph/compile.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/graph/node.h"
#include "evenflow/graph/transaction.h"
#include "evenflow/ops/batch_norm.h"
#include "evenflow/ops/compare.h"
#include "evenflow/ops/cross_entropy.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/matmul.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"
#include "tests/engine.h"

namespace evenflow {
namespace {
using engine::bits, engine::drawn, engine::error_of, engine::fault, engine::truth;
using testing::AllOf, testing::ElementsAre, testing::HasSubstr, testing::MatchesRegex;

TEST(Trace, a_partial_batch_takes_another_plan_and_never_another_trace) {
  Variable w(drawn({4, 3}, 1)), b(zeros({3})), gamma(ones({3})), mean(zeros({3}));
  const std::vector<Variable> vars{w, b, gamma, mean};
  auto body = [=](const Tensor& x, const Tensor& y) {
    auto bn = batch_norm(matmul(x, w), gamma, Tensor());
    Tensor loss = reduce_mean(sparse_softmax_cross_entropy(bn.y + b, y));
    Tensors g = gradient(loss, {w, b, gamma});
    mean.assign(moving_average(mean, bn.statistics.mean, bn.statistics.n, 1, 0.9, false));
    w.assign_sub(0.1f * g[0]), b.assign_sub(0.1f * g[1]), gamma.assign_sub(0.1f * g[2]);
    return loss;
  };
  auto f = compile(body, {.max_plans = 4});
  for (int64_t n : {1, 32, 7, 32, 0, 13, 2, 1, 5, 6, 8, 9}) {  // the first is of one row
    const Tensor x = drawn({n, 4}, uint64_t(n)), y = full({n}, 1, DType::i64);
    Tensors before(vars.begin(), vars.end());
    const std::string loss = bits(f(x, y));
    const auto got = bits(vars);
    for (size_t i = 0; i < vars.size(); ++i) vars[i].assign(before[i]);
    Step s;
    Tensor l = body(x, y);
    s.commit();
    EXPECT_EQ(bits(vars), got) << n;
    if (n) {
      EXPECT_EQ(bits(l), loss) << n;
    } else {  // a mean over nothing is NaN, and so are the gradients
      EXPECT_EQ(bits(mean), bits(before[3])) << "no rows: no statistics";
      for (size_t i = 0; i < vars.size(); ++i) vars[i].assign(before[i]);
    }
  }
  EXPECT_EQ(f.function().traces(), 1);
  EXPECT_THAT(f.function().log(),
              ElementsAre(MatchesRegex(
                  "traced at trace_test.cc:[0-9]+ for .f32.1,4., i64.1..: first call")));
}

TEST(Trace, looking_at_an_extent_makes_it_serve_that_extent_only) {
  auto f = compile([](const Tensor& x) { return x * (1.f / float(x.shape()[0])); });
  for (int64_t n : {4, 5, 4}) EXPECT_FLOAT_EQ(f(ones({n, 2})).to_vector()[0], 1.f / float(n));
  EXPECT_EQ(f.function().traces(), 2) << "4 is still there";
  EXPECT_THAT(f.function().log()[1],
              HasSubstr("shape (f32[4,2]) -> (f32[5,2]), and the traced function looked"));
  auto g = compile([](const Tensor& x) { return x * float(x.rank()); });
  for (int64_t n : {4, 5}) g(ones({n, 2}));
  EXPECT_EQ(g.function().traces(), 1) << "a rank is not an extent";
}

TEST(Trace, says_why_it_traced_again) {
  Setting training(1);
  auto f = compile([training](const Tensor& x) { return training.get() ? x * 2 : x; });
  EXPECT_EQ(f(ones({2})).to_vector()[0], 2);
  training.set(0);
  EXPECT_EQ(f(ones({2})).to_vector()[0], 1);
  training.set(1);
  EXPECT_EQ(f(ones({3})).to_vector()[0], 2) << "the first trace holds again";
  EXPECT_EQ(f(ones({3}, DType::i32)).dtype(), DType::i32);
  EXPECT_EQ(f(ones({3, 1})).rank(), 2);
  EXPECT_THAT(f.function().log(),
              ElementsAre(HasSubstr("first call"), HasSubstr("a setting that was read has changed"),
                          HasSubstr("-> (i32[3])"), HasSubstr("-> (f32[3,1])")));
  auto h = compile([](const Tensor& x) { return x + zeros({4, 2}); });
  h(ones({4, 2}));
  EXPECT_THAT(error_of([&] {
                h(ones({6, 2}));
              }),
              AllOf(HasSubstr("add: "), HasSubstr("trace_test.cc:")));
  EXPECT_THAT(h.function().log()[1], HasSubstr("does not fit the kept trace: add: "));
  EXPECT_EQ(h(ones({4, 2})).to_vector()[0], 1) << "a refused call does no harm";
}

TEST(Trace, goes_to_the_log_when_it_is_asked_for) {
  std::vector<std::string> lines;
  set_log("trace", [&](std::string_view line) { lines.emplace_back(line); });
  auto f = compile([](const Tensor& x) { return x + 1; });
  f(ones({2})), f(ones({3})), f(ones({2, 2}));
  set_log("");
  f(ones({2, 2, 2}));
  EXPECT_THAT(lines, ElementsAre(HasSubstr("first call"), HasSubstr("element type or rank")));
}

TEST(Trace, plans_are_bounded_least_recently_used_first_out) {
  int traced = 0;
  auto f = compile(
      [&](const Tensor& x) {
        ++traced;
        return x * float(x.shape()[0]);
      },
      {.max_plans = 2});
  f(ones({1})), f(ones({2})), f(ones({1}));
  EXPECT_EQ(traced, 2);
  f(ones({3}));  // 2 goes
  f(ones({1}));
  EXPECT_EQ(traced, 3);
  f(ones({2}));
  EXPECT_EQ(traced, 4);
  auto none = compile([](const Tensor& x) { return x + 1; }, {.max_plans = 0});
  for (int64_t n : {1, 2, 1}) EXPECT_EQ(none(ones({n})).to_vector()[0], 2);
  // Those of recorded steps too, however many shapes there are.
  clear_plan_cache();
  for (int64_t n = 1; n < 600; ++n) {
    Step s;
    Tensor y = ones({n}) + 1;
    s.commit();
  }
  EXPECT_LE(plan_cache_size(), 256u);
  EXPECT_GT(plan_cache_size(), 100u);
  clear_plan_cache();
}

TEST(Trace, what_is_not_symbolic_is_evaluated_once_and_frozen) {
  int calls = 0;
  float rate = 2;
  Variable learned(full({}, 2));
  auto f = compile([&](const Tensor& x) {
    ++calls;
    Tensor k = exp(full({2}, 0)) * rate;
    return x * k * learned;
  });
  EXPECT_EQ(f(ones({2})).to_vector()[0], 4);
  EXPECT_EQ(f.function().stats().calls, 2u) << "two products; the constant is known";
  rate = 3;
  EXPECT_EQ(f(ones({2})).to_vector()[0], 4) << "a C++ number is a constant of the trace";
  learned.assign(5);
  EXPECT_EQ(f(ones({2})).to_vector()[0], 10) << "a variable is not";
  EXPECT_EQ(calls, 1);
}

TEST(Trace, twins_are_merged_and_what_nobody_needs_is_dropped) {
  auto f = compile([](const Tensor& x) {
    Tensor unused = exp(x) * 3;
    return (x * x) + (x * x);
  });
  EXPECT_EQ(f(ones({2})).to_vector()[0], 2);
  EXPECT_EQ(f.function().stats().calls, 2u);
  auto g = compile([](const Tensor& x) { return fill_like(matmul(x, x), 7); });
  EXPECT_EQ(g(ones({2, 2})).to_vector()[0], 7);
  EXPECT_EQ(g.function().stats().calls, 1u) << "a shape alone keeps no value alive";
}

TEST(Trace, a_tensor_used_outside_its_trace_is_an_error_that_names_a_line) {
  Variable w(ones({}));
  Tensor leaked;
  auto f = compile([&](const Tensor& x) {
    leaked = x + w;
    return leaked;
  });
  f(ones({}));
  const auto names_it = AllOf(HasSubstr("failed precondition"), HasSubstr("trace"),
                              HasSubstr(concat({"(trace_test.cc:", __LINE__ - 5, ")"})));
  EXPECT_THAT(error_of([&] { leaked.item(); }), names_it);
  EXPECT_THAT(error_of([&] { (leaked + 1).item(); }), HasSubstr("trace_test.cc:"));
  EXPECT_THAT(error_of([&] { w.assign(leaked); }), HasSubstr("a trace that has ended"));
  EXPECT_THAT(error_of([&] {
                Step s;
                w.assign(leaked);
                s.commit();
              }),
              names_it);
  EXPECT_THAT(error_of([&] { compile([](const Tensor& x) { return x; })(leaked); }), names_it);
  auto other = compile([&](const Tensor& x) { return x + leaked; });
  EXPECT_THAT(error_of([&] { other(ones({})); }),
              AllOf(HasSubstr("a tensor of another trace is used: add"), names_it));
  EXPECT_EQ(w.read().item(), 1);
  // Nor is there a value to read in the middle of a trace.
  auto reads = compile([](const Tensor& x) {
    Tensor y = x * 2;
    return y * float(y.item());
  });
  EXPECT_THAT(error_of([&] { reads(ones({})); }), HasSubstr("multiply (trace_test.cc:"));
}

TEST(Trace, a_compiled_call_inside_a_trace_is_inlined) {
  Variable hits(zeros({}));
  auto inner = compile([hits](const Tensor& x) {
    hits.assign_add(1);
    return x * 2;
  });
  auto outer = compile([inner](const Tensor& x) { return inner(inner(x)); });
  EXPECT_EQ(outer(ones({})).item(), 4);
  EXPECT_EQ(hits.read().item(), 2);
  EXPECT_EQ(hits.version(), 1u) << "one transaction";
  EXPECT_EQ(inner.function().traces(), 0);
}

TEST(Trace, returns_what_the_function_returns) {
  auto nothing = compile([](const Tensor&) {});
  nothing(ones({}));
  auto several = compile([](const Tensor& a, const Tensor& b) { return Tensors{a, b, a + b, b}; });
  const Tensors r = several(ones({2}), full({2}, 3));
  ASSERT_EQ(r.size(), 4u);
  EXPECT_EQ(r[2].to_vector()[1], 4);
  EXPECT_EQ(bits(r[1]), bits(r[3]));
  EXPECT_EQ(compile([](const Tensor& x) { return x + 1; })(2.5f).item(), 3.5) << "a number";
  EXPECT_THAT(error_of([] { compile([](const Tensor&) { return Tensor(); })(1); }),
              AllOf(HasSubstr("empty tensor"), HasSubstr("trace_test.cc:")));
  EXPECT_THAT(error_of([] { compile([](const Tensor& x) { return x; })(Tensor()); }),
              HasSubstr("an argument is an empty tensor"));
}

TEST(Errors, carry_the_line_of_the_caller_operators_included) {
  auto line = [](int n) { return HasSubstr(concat({"trace_test.cc:", n})); };
  const Tensor a = ones({2, 3}), b = ones({2, 4});
  EXPECT_THAT(error_of([&] { Tensor t = a + b; }), line(__LINE__));
  EXPECT_THAT(error_of([&] { Tensor t = a < b; }), line(__LINE__));
  EXPECT_THAT(error_of([&] { matmul(a, b); }), line(__LINE__));
  Variable w(b);
  EXPECT_THAT(error_of([&] { Tensor t = 2 * (a - w); }), line(__LINE__));
  EXPECT_THAT(error_of([&] { w.assign_add(a); }), line(__LINE__));
  auto f = compile([&](const Tensor& x) { return x * b; });
  EXPECT_THAT(error_of([&] { f(a); }), line(__LINE__ - 1));
  const auto all =
      AllOf(HasSubstr("invalid argument: add"), HasSubstr("[2,3]"), HasSubstr("[2,4]"));
  EXPECT_THAT(error_of([&] { Tensor t = a + b; }), all);
}

TEST(Errors, of_a_run_and_of_a_gradient_name_the_line_of_the_forward_call) {
  int where = 0;
  auto f = compile([&](const Tensor& x, const Tensor& bad) {
    NameScope block("block1");
    NameScope layer("conv");
    where = __LINE__ + 1;
    Tensor y = fault(x * 2, bad);
    return y;
  });
  f(ones({2}), truth(false));
  EXPECT_EQ(error_of([&] { f(ones({2}), truth(true)); }),
            concat({"out of range: fault \"block1/conv\": bad holds, at trace_test.cc:", where}));
  // Every node of a gradient carries its forward call's line and name.
  std::string text;
  auto g = compile([&](const Tensor& x) {
    Tensor y;
    {
      NameScope scope("dense");
      y = square(x);
    }
    Tensor d = gradient(y, x);
    text = str(*d.edge().node);
    where = __LINE__ - 4;
    return d;
  });
  g(ones({2}));
  EXPECT_THAT(text, HasSubstr(concat({"\"dense\" (trace_test.cc:", where, ")"})));
}

TEST(Errors, of_a_number_too_many_or_an_empty_tensor_are_typed) {
  EXPECT_THAT(error_of([] { Tensor t = ones({2}) + Tensor(); }), HasSubstr("an empty tensor"));
  EXPECT_THAT(error_of([] { Tensor().item(); }), HasSubstr("empty"));
  EXPECT_THAT(error_of([] { Tensor().shape(); }), HasSubstr("empty"));
  EXPECT_THAT(error_of([] { Tensor().to_vector(); }), HasSubstr("empty"));
  EXPECT_THAT(error_of([] { Tensor().data_as<float>(); }), HasSubstr("empty"));
  EXPECT_THAT(error_of([] { ones({2}).data_as<double>(); }), HasSubstr("elements are f32"));
  EXPECT_THAT(error_of([] { ones({2}).item(); }), HasSubstr("expected one element"));
}

TEST(Types, numbers_are_weak_and_two_types_meet_in_promote) {
  const Tensor h = ones({2}, DType::bf16), i = ones({2}, DType::i32);
  EXPECT_EQ((h * 2.5).dtype(), DType::bf16);
  EXPECT_EQ((1 - h).dtype(), DType::bf16);
  EXPECT_EQ((i + 1).dtype(), DType::i32);
  EXPECT_EQ((i * 0.5).dtype(), DType::f32) << "an integer meets a fraction";
  EXPECT_EQ((h + i).dtype(), DType::bf16);
  EXPECT_EQ((h + ones({2}, DType::f16)).dtype(), DType::f32);
  EXPECT_EQ((i + ones({2}, DType::i64)).dtype(), DType::i64);
}

}  // namespace
}  // namespace evenflow
