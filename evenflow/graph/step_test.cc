// SPDX-License-Identifier: Apache-2.0
// State is transactional: a step proposes, then commits or skips everything together.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "evenflow/graph/compile.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/graph/node.h"
#include "evenflow/graph/transaction.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/matmul.h"
#include "evenflow/ops/reduce.h"
#include "tests/engine.h"

namespace evenflow {
namespace {
using engine::bits, engine::drawn, engine::error_of, engine::fault, engine::truth;
using testing::HasSubstr;
constexpr float kInf = std::numeric_limits<float>::infinity();

// Runs a body of no arguments as a step, recorded or kernel by kernel, or as a compiled function.
enum class Mode { recorded, immediate, compiled };
constexpr Mode kModes[] = {Mode::recorded, Mode::immediate, Mode::compiled};
struct Immediate {
  explicit Immediate(bool on) {
    if (on) eager() = Eager::immediate;
  }
  ~Immediate() { eager() = Eager::by_scope; }
};
template <class F>
Tensors run(Mode mode, F f, const Tensors& args, bool* committed = nullptr) {
  if (mode == Mode::compiled) {
    Function function;
    Tensors r = function(args, f);
    if (committed) *committed = Function::committed();
    return r;
  }
  Immediate how(mode == Mode::immediate);
  Step s;
  Tensors r = f(args);
  const bool ok = s.commit();
  if (committed) *committed = ok;
  return r;
}
std::vector<float> values(const Tensors& ts) {
  std::vector<float> r;
  for (auto& t : ts) r.push_back(float(t.item()));
  return r;
}

TEST(Step, reads_see_their_own_proposals_and_the_world_sees_the_commit) {
  for (Mode mode : kModes) {
    Variable w(full({}, 3));
    const Tensors r = run(mode,
                          [w](const Tensors& in) -> Tensors {
                            Tensor before = w;
                            w.assign(before * in[0]);
                            EXPECT_EQ(bits(w), bits(full({}, 3)))
                                << "nothing is visible before the commit";
                            Tensor after = w, y = after * after + before;
                            Tensor g = gradient(y, w);
                            w.assign_add(1);
                            return {before, after, g, w.read()};
                          },
                          {full({}, 2)});
    // d(after^2 + before)/dw sums over both reads, 2 * 6 + 1; the assignment in between cuts.
    EXPECT_EQ(values(r), (std::vector<float>{3, 6, 13, 7})) << int(mode);
    EXPECT_EQ(w.read().item(), 7);
    EXPECT_EQ(w.version(), 1u);
  }
}

TEST(Step, one_value_for_two_variables_and_a_swap) {
  for (Mode mode : kModes) {
    Variable a(full({}, 1)), b(full({}, 2));
    auto swap = [a, b](const Tensors&) -> Tensors {
      Tensor x = a, y = b;
      a.assign(y), b.assign(x);
      return {};
    };
    run(mode, swap, {});
    EXPECT_EQ(values({a, b}), (std::vector<float>{2, 1}));
    const Tensors r = run(mode,
                          [a, b](const Tensors& in) -> Tensors {
                            Tensor t = in[0] * 2;
                            a.assign(t), b.assign(t);
                            return {t};
                          },
                          {full({}, 4)});
    a.assign_add(1);
    EXPECT_EQ(values({a, b, r[0]}), (std::vector<float>{9, 8, 8})) << int(mode);
    run(mode, [a](const Tensors& in) -> Tensors { return a.assign_add(in[0]), Tensors{}; },
        {full({}, 1)});
    EXPECT_EQ(values({a, b, r[0]}), (std::vector<float>{10, 8, 8})) << int(mode);
  }
}

TEST(Step, a_failed_predicate_moves_only_what_is_always_and_run) {
  for (Mode mode : kModes) {
    Variable w(drawn({3}, 1), {.name = "w"}), slot(zeros({3}), {.name = "slot"});
    Variable scale(full({}, 1024), {.commit = Commit::Always});
    Variable cursor(full({}, 0, DType::i64), {.commit = Commit::Run});
    auto body = [=](const Tensors& in) -> Tensors {
      Tensor g = in[0] * scale, ok = all_finite({g});
      require(ok);
      scale.assign(scale * (0.5f + 0.5f * cast(ok, DType::f32)));
      cursor.assign_add(1);
      slot.assign(0.9f * slot + g);
      w.assign_sub(0.1f * slot);
      return {w.read()};
    };
    bool committed = false;
    run(mode, body, {drawn({3}, 2)}, &committed);
    EXPECT_TRUE(committed);
    const auto w0 = bits(w), slot0 = bits(slot);
    const auto version = w.version();
    run(mode, body, {tensor(std::vector<float>{1, kInf, 2}, {3})}, &committed);
    EXPECT_FALSE(committed) << int(mode);
    EXPECT_EQ(bits(w), w0);
    EXPECT_EQ(bits(slot), slot0);
    EXPECT_EQ(w.version(), version);
    EXPECT_EQ(scale.read().item(), 512);
    EXPECT_EQ(cursor.read().item(), 2);
    run(mode, body, {drawn({3}, 3)}, &committed);
    EXPECT_TRUE(committed);
    EXPECT_NE(bits(w), w0);
    EXPECT_EQ(scale.read().item(), 512);
  }
}

TEST(Step, all_predicates_must_hold) {
  for (Mode mode : kModes)
    for (int which : {0, 1, 2}) {
      Variable w(zeros({}));
      bool committed = true;
      run(
          mode,
          [w](const Tensors& in) -> Tensors {
            require(in[0]);
            w.assign_add(1);
            require(in[1]);
            return {};
          },
          {truth(which != 0), truth(which != 1)}, &committed);
      EXPECT_EQ(committed, which == 2);
      EXPECT_EQ(w.read().item(), which == 2);
    }
}

TEST(Step, twenty_skips_in_a_row_are_an_error) {
  Variable w(zeros({}));
  auto f = compile([w](const Tensor& ok) {
    require(ok);
    w.assign_add(1);
  });
  auto step = [&](bool ok) {
    Step s;
    require(truth(ok));
    w.assign_add(1);
    s.commit();
  };
  auto twenty = [&](auto once) {
    for (int i = 0; i < 19; ++i) once(false);
    once(true);  // the count begins again
    for (int i = 0; i < 19; ++i) once(false);
    EXPECT_EQ(error_of([&] { once(false); }),
              "failed precondition: step: 20 steps in a row were skipped by require(), "
              "as by gradients that are not finite");
    once(true);
    once(false);
  };
  twenty([&](bool ok) { f(truth(ok)); });
  EXPECT_EQ(w.read().item(), 2);
  twenty(step);
  EXPECT_EQ(w.read().item(), 4);
}

TEST(Step, what_is_not_committed_is_dropped) {
  Variable w(full({2}, 1));
  const auto before = bits(w);
  {
    Step s;
    w.assign(w * 2);
    EXPECT_EQ(w.read().to_vector(), (std::vector<float>{2, 2}));
  }
  EXPECT_EQ(bits(w), before);
  EXPECT_EQ(w.version(), 0u);
  EXPECT_EQ(error_of([&] {
              Step s;
              s.commit();
              s.commit();
            }),
            "failed precondition: step: it was committed already");
}

TEST(Step, there_is_one_at_a_time_on_a_thread) {
  EXPECT_THAT(error_of([] {
                Step a;
                Step b;
              }),
              HasSubstr("a step is already open"));
  auto f = compile([](const Tensor& x) {
    Step s;
    return x;
  });
  EXPECT_THAT(error_of([&] { f(zeros({})); }), HasSubstr("a trace is already open"));
  EXPECT_THAT(error_of([] { require(truth(true)); }),
              HasSubstr("no step is open, at step_test.cc"));
  Step s;  // none of them stayed open
  EXPECT_THAT(error_of([] { require(zeros({2})); }), HasSubstr("expected bool[]"));
}

TEST(Step, a_failure_before_the_commit_leaves_no_trace) {
  for (Mode mode : kModes) {
    Variable w(drawn({4, 4}, 1)), always(zeros({}), {.commit = Commit::Always}),
        cursor(zeros({}), {.commit = Commit::Run});
    auto body = [=](const Tensors& in) -> Tensors {
      always.assign_add(1), cursor.assign_add(1);
      Tensor loss = reduce_mean(square(fault(matmul(in[0], w), in[1])));
      require(all_finite({loss}));
      w.assign_sub(0.1f * gradient(loss, w));
      return {loss};
    };
    const Tensor x = drawn({8, 4}, 2);
    run(mode, body, {x, truth(false)});
    const auto before = bits({w, always, cursor});
    EXPECT_NE(error_of([&] { run(mode, body, {x, truth(true)}); }), "no error");
    const int64_t live = Buffer::counters().live;
    const std::string why = error_of([&] { run(mode, body, {x, truth(true)}); });
    EXPECT_THAT(why, HasSubstr("out of range: fault"));
    EXPECT_THAT(why, HasSubstr("bad holds"));
    EXPECT_THAT(why, HasSubstr("step_test.cc:")) << "the user's line";
    EXPECT_EQ(bits({w, always, cursor}), before) << int(mode);
    EXPECT_EQ(w.version(), 1u);
    EXPECT_EQ(Buffer::counters().live, live) << int(mode);
    run(mode, body, {x, truth(false)});
    EXPECT_NE(bits(w), before[0]);
  }
  clear_plan_cache();
}

TEST(Step, code_of_the_user_that_throws_leaves_no_transaction_open) {
  Variable w(zeros({}));
  auto f = compile([w](const Tensor& x) -> Tensor {
    w.assign_add(x);
    throw std::runtime_error("mine");
  });
  EXPECT_THROW(f(ones({})), std::runtime_error);
  EXPECT_THROW(
      [&] {
        Step s;
        w.assign_add(1);
        throw std::runtime_error("mine");
      }(),
      std::runtime_error);
  EXPECT_EQ(w.read().item(), 0);
  w.assign_add(1);  // a transaction of its own again
  EXPECT_EQ(w.read().item(), 1);
}

TEST(Step, assign_outside_a_step_is_a_transaction_of_its_own) {
  Variable w(full({}, 3)), b(full({}, 1));
  Tensor loss = square(w * b);
  w.assign_sub(0.1f * gradient(loss, w));
  b.assign_sub(0.1f * gradient(loss, b));  // of the old w: 1 - 0.1 * 2 * 9
  EXPECT_FLOAT_EQ(float(w.read().item()), 3 - 0.6f);
  EXPECT_FLOAT_EQ(float(b.read().item()), -0.8f);
}

TEST(Step, a_wrong_assignment_is_refused_by_name) {
  Variable w(zeros({2, 3}), {.name = "kernel"});
  EXPECT_THAT(error_of([&] {
                w.assign(zeros({3, 2}));
              }),
              testing::AllOf(HasSubstr("assign \"kernel\""), HasSubstr("f32[3,2]"),
                             HasSubstr("expected f32[2,3]"), HasSubstr("step_test.cc:")));
  EXPECT_THAT(error_of([&] { w.assign(zeros({2, 3}, DType::f64)); }), HasSubstr("f64[2,3]"));
  EXPECT_THAT(error_of([&] { w.assign(Tensor()); }), HasSubstr("empty tensor"));
  EXPECT_THAT(error_of([] { Variable().assign(1); }), HasSubstr("the variable is empty"));
  EXPECT_THAT(error_of([] { Variable().read(); }), HasSubstr("it is empty"));
  EXPECT_THAT(error_of([] { Variable().sig(); }), HasSubstr("it is empty"));
  // A function that would change a shape for other extents is refused, and the variable stays.
  Variable v(zeros({2}));
  auto f = compile([v](const Tensor& x) { v.assign(x); });
  f(ones({2}));
  EXPECT_THAT(error_of([&] { f(ones({3})); }), HasSubstr("expected f32[2]"));
  EXPECT_EQ(v.read().to_vector(), (std::vector<float>{1, 1}));
}

TEST(Step, compiled_calls_inside_a_step_join_it) {
  auto make = [] { return std::vector<Variable>{Variable(drawn({3}, 1)), Variable(zeros({}))}; };
  auto update = [](const std::vector<Variable>& v) {
    return compile([v](const Tensor& x) {
      Tensor l = reduce_sum(square(v[0] * x));
      v[0].assign_sub(0.1f * gradient(l, v[0]));
      v[1].assign_add(l);
      return l;
    });
  };
  const auto joined = make(), apart = make();
  const Tensor xa = drawn({3}, 2), xb = drawn({3}, 3);
  auto f = update(joined);
  const auto before = bits(joined);
  {
    Step s;
    f(xa);
    Tensor mid = joined[0];
    f(xb);
    EXPECT_NE(bits(mid), before[0]) << "reads see what the joined call proposed";
    EXPECT_EQ(bits(joined), before) << "and nobody else does";
    s.commit();
  }
  auto g = update(apart);
  g(xa), g(xb);
  EXPECT_EQ(bits(joined), bits(apart));
  EXPECT_EQ(joined[0].version(), 1u) << "one commit";
  {  // a step that is dropped drops them
    Step s;
    f(xa);
  }
  EXPECT_EQ(bits(joined), bits(apart));
  // a predicate of the joined call is one of the step
  auto guarded = compile([v = joined](const Tensor& ok) {
    require(ok);
    v[1].assign_add(1);
  });
  Step s;
  joined[0].assign_add(1);
  guarded(truth(false));
  EXPECT_FALSE(s.commit());
  EXPECT_EQ(bits(joined), bits(apart));
}

TEST(Step, a_conflicting_commit_is_refused) {
  Variable w(zeros({})), other(zeros({}), {.name = "other"});
  auto f = compile([other](const Tensor& x) { other.assign(x); });
  Step s;
  w.assign(other + 1);
  Transaction* mine = std::exchange(Transaction::current(), nullptr);  // as another thread would
  f(full({}, 5));
  Transaction::current() = mine;
  EXPECT_THAT(error_of([&] { s.commit(); }), HasSubstr("conflict, variable \"other\""));
  EXPECT_EQ(bits(w), bits(zeros({})));
}

TEST(Step, recorded_work_runs_at_the_commit_or_when_read) {
  Variable w(ones({2}));
  const int64_t before = run_counters().kernels;
  Step s;
  Tensor a = w * 2, b = a + 1, unused = a * 3;
  unused = Tensor();
  EXPECT_FALSE(b.ready());
  EXPECT_EQ(run_counters().kernels, before);
  EXPECT_EQ(b.to_vector(), (std::vector<float>{3, 3}));
  EXPECT_EQ(run_counters().kernels, before + 2) << "what nobody holds does not run";
  Tensor c = a + b;
  s.commit();
  EXPECT_TRUE(c.ready());
}

}  // namespace
}  // namespace evenflow
