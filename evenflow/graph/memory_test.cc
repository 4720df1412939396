// SPDX-License-Identifier: Apache-2.0
// Who owns memory: results, proposals, handles, other people's buffers, long chains.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "evenflow/graph/compile.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/graph/node.h"
#include "evenflow/graph/plan.h"
#include "evenflow/graph/transaction.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/matmul.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"
#include "tests/engine.h"

namespace evenflow {
namespace {
using engine::bits, engine::drawn, engine::error_of;

int64_t live() { return Buffer::counters().live; }
int64_t made() { return Buffer::counters().made; }
const void* address(const Variable& v) { return v.state()->value->data(); }
struct Lazy {
  Eager outer = std::exchange(eager(), Eager::lazy);
  size_t limit = pending_limit();
  ~Lazy() { eager() = outer, pending_limit() = limit; }
};

TEST(Memory, results_outlive_every_later_run_and_their_function) {
  Tensors held;
  std::vector<std::string> was;
  {
    Variable w(drawn({4, 4}, 1));
    auto f = compile([w](const Tensor& x) {
      Tensor y = x * 2 + 1, old = w;
      w.assign_add(y);
      return Tensors{y, x, y * y, reshape(y, {16}), y, old, w.read()};
    });
    for (uint64_t i = 0; i < 30; ++i) {
      Tensors r = f(drawn({4, 4}, i));
      if (i % 3 == 0) continue;
      for (auto& t : r) held.push_back(t), was.push_back(bits(t));
    }
    Tensor fed = drawn({4, 4}, 77);
    for (int i = 0; i < 5; ++i) fed = f(fed * 0.1f)[0];  // its own result as an argument
    held.push_back(fed), was.push_back(bits(fed));
  }
  for (size_t i = 0; i < held.size(); ++i) EXPECT_EQ(bits(held[i]), was[i]) << i;
}

TEST(Memory, running_a_plan_allocates_nothing_once_results_are_released) {
  Variable w(drawn({32, 32}, 1)), m(zeros({32, 32})), count(full({}, 0, DType::i64));
  auto f = compile([=](const Tensor& x) {
    Tensor h = matmul(x, w), loss = reduce_mean(square(h));
    Tensor g = gradient(loss, w);
    require(all_finite({g}));
    m.assign(0.9f * m + g);
    w.assign_sub(0.1f * m);
    count.assign_add(1);
    return Tensors{loss, h, count.read()};  // the last is a value that was proposed
  });
  const Tensor x = drawn({8, 32}, 2);
  Tensor other = drawn({5, 32}, 3);
  for (int i = 0; i < 3; ++i) f(x), f(other);
  const int64_t before = made(), bytes = live();
  const void *at = address(w), *slot = address(m);
  for (int i = 0; i < 20; ++i) f(x), f(other);
  EXPECT_EQ(made(), before);
  EXPECT_EQ(live(), bytes);
  EXPECT_EQ(address(w), at) << "written over in place";
  EXPECT_EQ(address(m), slot);
  // Results that are held take buffers of their own; recycled when they are let go.
  {
    Tensors kept;
    for (int i = 0; i < 5; ++i) kept.push_back(f(x)[1]);
    EXPECT_GT(live(), bytes + 3 * 8 * 32 * 4);
  }
  EXPECT_LE(live(), bytes + 8 * 32 * 4);
  const int64_t again = made();
  for (int i = 0; i < 5; ++i) f(x);
  EXPECT_EQ(made(), again);
}

TEST(Memory, results_never_lie_in_the_arena) {
  auto f = compile([](const Tensor& x) {
    Tensor y = x;
    for (int i = 0; i < 10; ++i) y = matmul(y, x) * 0.1f;
    return Tensors{y, y + 1};
  });
  const Tensor x = drawn({16, 16}, 1);
  const Tensors a = f(x);
  const auto stats = f.function().stats();
  EXPECT_LE(stats.arena_bytes, 3u * 16 * 16 * 4);
  const std::string was = bits(a[0]) + bits(a[1]);
  f(x * 3);
  EXPECT_EQ(bits(a[0]) + bits(a[1]), was);
}

TEST(Memory, a_version_that_somebody_holds_is_not_written_over) {
  Variable w(zeros({32, 32}));
  auto f = compile([w](const Tensor& x) { w.assign_add(x); });
  const Tensor one = ones({});
  f(one), f(one);
  const BufferPtr exported = w.read().buffer();
  f(one), f(one);
  EXPECT_EQ(static_cast<const float*>(exported->data())[0], 2) << "an export is a snapshot";
  EXPECT_EQ(w.read().to_vector()[0], 4);
  // A tensor that became a variable's value, and the variable of another's.
  Tensor mine = full({32, 32}, 5);
  w.assign(mine);
  Variable second(w.read());
  f(one);
  EXPECT_EQ(mine.to_vector()[0], 5);
  EXPECT_EQ(second.read().to_vector()[0], 5);
  EXPECT_EQ(w.read().to_vector()[0], 6);
  // An argument that is adopted, and the constant of a trace.
  auto adopt = compile([w](const Tensor& x) { w.assign(x); });
  adopt(mine), f(one);
  EXPECT_EQ(mine.to_vector()[0], 5);
  auto reset = compile([w](const Tensor&) { w.assign(zeros({32, 32})); });
  for (int i = 0; i < 3; ++i) {
    reset(one), f(one), f(one);
    EXPECT_EQ(w.read().to_vector()[0], 2) << i;
  }
}

TEST(Memory, a_fixed_address_follows_every_commit_and_handles_keep_their_value) {
  Variable v(zeros({3}), {.fixed_address = true});
  const void* at = address(v);
  const Tensor one = ones({});
  auto f = compile([v](const Tensor& x) {
    Tensor old = v;
    v.assign_add(x);
    return old;
  });
  auto look = compile([v](const Tensor& x) { return Tensors{v.read(), v * x}; });
  Tensor early = v.read(), old = f(one), seen = look(one)[0];
  f(one);
  {
    Step s;
    v.assign_add(1);
    s.commit();
  }
  v.assign_add(1);
  EXPECT_EQ(address(v), at);
  EXPECT_EQ(static_cast<const float*>(at)[0], 4);
  EXPECT_EQ(early.to_vector()[0], 0);
  EXPECT_EQ(old.to_vector()[0], 0);
  EXPECT_EQ(seen.to_vector()[0], 1);
  // A skipped step leaves its memory alone.
  auto guarded = compile([v](const Tensor& ok) {
    require(ok);
    v.assign_add(1);
  });
  guarded(engine::truth(false));
  EXPECT_EQ(static_cast<const float*>(at)[0], 4);
  guarded(engine::truth(true));
  EXPECT_EQ(static_cast<const float*>(at)[0], 5);
}

// Memory of somebody else, who overwrites it when he takes it back.
struct Theirs {
  std::vector<float> values;
  std::shared_ptr<const void> owner = std::make_shared<int>();
  std::weak_ptr<const void> alive = owner;
  explicit Theirs(float v) : values(256, v) {}
  Tensor lend() { return from_external(values.data(), {DType::f32, {256}}, owner); }
  float sum() const { return std::accumulate(values.begin(), values.end(), 0.f); }
  void overwrite() { std::fill(values.begin(), values.end(), -1.f); }
};

TEST(Memory, imported_memory_is_read_in_place_and_never_written) {
  Theirs t(1);
  Variable w(t.lend()), v(zeros({256})), u(zeros({256}));
  auto add = compile([=](const Tensor& x) { w.assign_add(x), v.assign(x), u.assign_sub(x); });
  add(t.lend()), add(t.lend());
  v.assign(t.lend()), v.assign_add(1);
  {
    Step s;
    v.assign(t.lend());
    u.assign(u + t.lend());
    s.commit();
  }
  for (int i = 0; i < 3; ++i) add(full({}, 0) + zeros({256}));
  auto in_place = compile([](const Tensor& x) { return x * 2; });
  EXPECT_EQ(in_place(t.lend()).to_vector()[0], 2);
  EXPECT_EQ(t.sum(), 256);
  Tensor x = t.lend();
  EXPECT_EQ(x.data(), t.values.data()) << "read in place";
  t.overwrite();
  EXPECT_EQ(w.read().to_vector()[0], 3) << "state does not depend on it";
  EXPECT_EQ(v.read().to_vector()[0], 0);
}

TEST(Memory, imported_memory_is_copied_when_a_recorded_step_would_outlive_it) {
  for (bool watched : {false, true}) {
    Theirs t(3);
    Variable w(zeros({256}));
    Tensor late;
    {
      Step s;
      Tensor x = watched ? watch(t.lend()) : t.lend();
      Tensor y = x * 2;
      if (watched) late = gradient(reduce_sum(square(y)), x);
      w.assign(y);
      x = Tensor();
      t.owner.reset();
      EXPECT_TRUE(t.alive.expired()) << "their owner does not wait for us";
      t.overwrite();
      s.commit();
    }
    EXPECT_EQ(w.read().to_vector()[0], 6) << watched;
    if (watched) {
      EXPECT_EQ(late.to_vector()[0], 24);
    }
  }
}

TEST(Memory, an_argument_that_is_lent_lives_as_long_as_a_result_that_shares_it) {
  Theirs t(1);
  auto f = compile([](const Tensor& x) { return reshape(x, {16, 16}); });
  Tensor y = f(t.lend());
  t.owner.reset();
  EXPECT_FALSE(t.alive.expired());
  y = Tensor();
  f(ones({256}));
  EXPECT_TRUE(t.alive.expired()) << "the plan keeps no argument";
}

TEST(Memory, chains_of_a_million_nodes_are_freed_without_recursion) {
  Lazy lazy;
  pending_limit() = size_t(1) << 30;
  const int64_t before = live();
  {
    Tensor s = zeros({}), one = ones({});
    for (int i = 0; i < 1000000; ++i) s = s + one;
  }
  flush();
  EXPECT_EQ(live(), before);
}

TEST(Memory, a_million_unasked_sums_neither_overflow_nor_grow) {
  for (Eager how : {Eager::lazy, Eager::by_scope}) {
    const Eager outer = std::exchange(eager(), how);
    clear_plan_cache();
    const int64_t before = live();
    int64_t most = 0;
    const int n = how == Eager::lazy ? 1000000 : 100000;  // the latter run at once
    {
      Tensor s = zeros({8}), x = ones({8});
      for (int i = 0; i < n; ++i) {
        s = s + x;
        if (i % 1000 == 0) most = std::max(most, live() - before);
      }
      EXPECT_EQ(s.to_vector()[0], n) << "exact in f32";
    }
    eager() = outer;
    clear_plan_cache();
    EXPECT_LT(most, 1 << 20);
    EXPECT_EQ(live(), before);
  }
}

TEST(Memory, history_of_a_step_is_gone_when_it_has_ended) {
  clear_plan_cache();
  Variable w(drawn({8, 64}, 1));
  auto body = [&] {
    Tensor x = drawn({4, 8}, 2), loss = reduce_mean(square(matmul(x, w)));
    w.assign_sub(0.01f * gradient(loss, w));
    return loss;
  };
  auto step = [&] {
    Step s;
    Tensor l = body();
    s.commit();
    return l;
  };
  for (int i = 0; i < 3; ++i) step(), body();
  const int64_t before = live();
  Tensors kept;
  for (int i = 0; i < 50; ++i) kept.push_back(step());
  EXPECT_LE(live() - before, 50 * 64 + 4 * 8 * 64 * 4) << "a scalar each; no batch, no old weight";
  kept.clear();
  for (int i = 0; i < 50; ++i) body();
  EXPECT_LE(live(), before + 6 * 8 * 64 * 4);
  {  // a step that is dropped leaves nothing either
    Step s;
    Tensor l = body();
    l.item();
  }
  EXPECT_LE(live(), before + 6 * 8 * 64 * 4);
}

TEST(Memory, nothing_owns_itself) {
  clear_plan_cache();
  const int64_t before = live();
  std::weak_ptr<VarState> gone;
  {
    Variable w(drawn({64, 64}, 1));
    gone = w.state();
    {
      Step s;
      w.assign(w * 2), w.assign(w * 2);
      s.commit();
    }
    Tensor r = w;
    w.assign(w + r);
    Step s;
    w.assign(w * 3);
  }
  EXPECT_TRUE(gone.expired());
  {
    Variable w(drawn({64, 64}, 1));
    gone = w.state();
    auto f = compile([w](const Tensor& x) {
      w.assign_add(x);
      return w * gradient(reduce_sum(w * x), w);
    });
    f(ones({}));
    Step s;
    Tensor y = f(ones({}));
  }
  EXPECT_TRUE(gone.expired());
  clear_plan_cache();
  EXPECT_EQ(live(), before);
}

}  // namespace
}  // namespace evenflow
