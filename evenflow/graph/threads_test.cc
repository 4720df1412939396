// SPDX-License-Identifier: Apache-2.0
// Many callers: one plan, one function, one variable, one tensor.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "evenflow/graph/compile.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/graph/node.h"
#include "evenflow/ops/activations.h"
#include "evenflow/ops/batch_norm.h"
#include "evenflow/ops/control_flow.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/matmul.h"
#include "evenflow/ops/pool.h"
#include "evenflow/ops/reduce.h"
#include "tests/engine.h"

namespace evenflow {
namespace {
using engine::bits, engine::drawn, engine::error_of;

template <class F>
void side_by_side(int n, F f) {
  std::vector<std::thread> all;
  for (int i = 0; i < n; ++i) all.emplace_back([&f, i] { f(i); });
  for (auto& t : all) t.join();
}

TEST(GraphThreads, four_serve_one_plan) {
  Variable w(drawn({8, 8}, 1)), gamma(ones({8})), mean(zeros({8})), variance(ones({8}));
  auto serve = compile([=](const Tensor& x) {
    return relu(batch_normalize(matmul(x, w), mean, variance, gamma, Tensor()));
  });
  const Tensor probe = drawn({4, 8}, 2);
  const std::string want = bits(serve(probe));
  std::atomic<int> bad = 0;
  side_by_side(4, [&](int) {
    for (int i = 0; i < 200; ++i) bad += bits(serve(probe)) != want;
  });
  EXPECT_EQ(bad, 0);
  EXPECT_EQ(serve.function().traces(), 1);
}

TEST(GraphThreads, callers_of_a_new_function_trace_it_once_a_signature) {
  std::atomic<int> traced = 0, bad = 0;
  auto f = compile([&](const Tensor& x) {
    ++traced;
    return x * float(x.shape()[0]);
  });
  side_by_side(4, [&](int t) {
    for (int i = 0; i < 40; ++i) {
      const int64_t n = 1 + (i + t) % 5;
      bad += f(ones({n})).to_vector()[0] != float(n);
    }
  });
  EXPECT_EQ(bad, 0);
  EXPECT_EQ(traced, 5);
  // Re-planning for other extents while others run, with a list that is too short for all.
  auto g = compile([](const Tensor& x) { return reduce_sum(x * x); }, {.max_plans = 2});
  side_by_side(4, [&](int t) {
    for (int i = 0; i < 40; ++i) {
      const int64_t n = 1 + (i * 3 + t) % 7;
      bad += g(ones({n})).item() != double(n);
    }
  });
  EXPECT_EQ(bad, 0);
  EXPECT_EQ(g.function().traces(), 1);
}

TEST(GraphThreads, readers_get_a_consistent_snapshot_and_no_update_is_lost) {
  for (bool fixed : {false, true}) {
    Variable a(zeros({16, 16}), {.fixed_address = fixed}), b(zeros({16, 16}));
    auto train = compile([=](const Tensor& d) { a.assign_add(d), b.assign_add(d); });
    auto look = compile([=](const Tensor& x) { return reduce_sum(square(a - b)) + 0 * x; });
    const Tensor one = ones({});
    std::atomic<int> torn = 0, trainers = 2;
    side_by_side(5, [&](int t) {
      if (t < 2) {
        for (int i = 0; i < 100; ++i) train(one);
        --trainers;
        return;
      }
      do {
        torn += look(one).item() != 0;
        Tensor x = a;  // a handle keeps the version that it read
        const std::string first = bits(x);
        look(one);
        torn += bits(x) != first;
      } while (trainers);
    });
    EXPECT_EQ(torn, 0) << fixed;
    EXPECT_EQ(a.read().to_vector()[255], 200) << fixed;
    EXPECT_EQ(a.version(), 200u);
  }
}

TEST(GraphThreads, writers_in_opposite_order_do_not_deadlock) {
  Variable a(zeros({})), b(zeros({}));
  auto ab = compile([=](const Tensor& x) { a.assign_add(x), b.assign_add(x); });
  auto ba = compile([=](const Tensor& x) { b.assign_add(x), a.assign_add(x); });
  const Tensor one = ones({});
  side_by_side(4, [&](int t) {
    for (int i = 0; i < 150; ++i) {
      if (t == 3) {
        try {  // an eager step too; the later of two that conflict is refused
          Step s;
          b.assign_sub(0 * one), a.assign_sub(0 * one);
          s.commit();
        } catch (const Error& e) {
          EXPECT_EQ(e.code(), Code::FailedPrecondition);
        }
      } else if (t % 2) {
        ab(one);
      } else {
        ba(one);
      }
    }
  });
  EXPECT_EQ(a.read().item(), 450);
  EXPECT_EQ(b.read().item(), 450);
}

TEST(GraphThreads, eager_steps_that_conflict_are_refused_and_can_be_repeated) {
  Variable w(zeros({4}));
  std::atomic<int> conflicts = 0;
  side_by_side(3, [&](int) {
    for (int i = 0; i < 50;) {
      try {
        Step s;
        w.assign_add(1);
        s.commit();
        ++i;
      } catch (const Error& e) {
        EXPECT_EQ(e.code(), Code::FailedPrecondition);
        ++conflicts;
      }
    }
  });
  EXPECT_EQ(w.read().to_vector()[3], 150) << conflicts << " conflicts";
}

TEST(GraphThreads, a_function_that_fails_on_one_thread_does_no_harm_to_others) {
  Variable w(zeros({}));
  auto f = compile([w](const Tensor& x, const Tensor& bad) {
    w.assign_add(1);
    return engine::fault(x, bad);
  });
  std::atomic<int> failed = 0;
  side_by_side(4, [&](int t) {
    for (int i = 0; i < 50; ++i)
      failed += error_of([&] { f(ones({2}), engine::truth((i + t) % 2 == 0)); }) != "no error";
  });
  EXPECT_EQ(failed, 100);
  EXPECT_EQ(w.read().item(), 100);
}

TEST(GraphThreads, one_pending_tensor_is_read_by_many) {
  const Tensor shared = drawn({8, 8}, 1);
  for (int round = 0; round < 20; ++round) {
    const Eager outer = std::exchange(eager(), Eager::lazy);
    Tensor pend = matmul(shared, shared) + 1;
    eager() = outer;
    const std::string want = bits(matmul(shared, shared) + 1);
    EXPECT_FALSE(pend.ready());
    std::atomic<int> bad = 0;
    side_by_side(4, [&](int t) {
      if (t % 2) eager() = Eager::lazy;
      Tensor y = pend;
      for (int j = 0; j < 10; ++j) y = y * 0.5f + shared;
      bad += bits(pend * 1) != want;
      y.data();
    });
    EXPECT_EQ(bad, 0);
  }
}

TEST(GraphThreads, micro_batches_of_many_callers_are_all_counted) {
  Variable total(zeros({}));
  Function f({.micro_batches = 3});
  auto body = [total](const Tensors& in) -> Tensors {
    // the weights of the parts add up
    total.assign_add(pool(Pooled::mean, {in[0], in[0]})[0]);
    return {};
  };
  side_by_side(3, [&](int) {
    for (int i = 0; i < 40; ++i) f({ones({})}, body);
  });
  EXPECT_EQ(total.read().item(), 120);
  EXPECT_THAT(error_of([&] { f.apply(); }), testing::HasSubstr("no micro-batch has run"));
}

TEST(GraphThreads, loops_and_branches_run_in_several_threads) {
  Variable k(full({}, 0.5));
  auto f = compile([k](const Tensor& x) {
    const ScanResult s = scan(
        [k](const Tensors& state, const Tensors& e) -> Tensors {
          return {state[0] * k + e[0], state[0]};
        },
        {zeros({2})}, {x});
    return reduce_sum(s.outputs[0]) + reduce_sum(s.state[0]);
  });
  std::atomic<int> bad = 0;
  const Tensor x = drawn({5, 2}, 1), longer = drawn({9, 2}, 2);
  const double a = f(x).item(), b = f(longer).item();
  side_by_side(4, [&](int t) {
    for (int i = 0; i < 50; ++i) bad += f((i + t) % 2 ? x : longer).item() != ((i + t) % 2 ? a : b);
  });
  EXPECT_EQ(bad, 0);
}

}  // namespace
}  // namespace evenflow
