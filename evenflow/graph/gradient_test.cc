// SPDX-License-Identifier: Apache-2.0
// gradient(): graph to graph, over a history that begins at variables and watched tensors and ends
// at the commit.
#include "evenflow/graph/gradient.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "evenflow/graph/compile.h"
#include "evenflow/graph/node.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/index.h"
#include "evenflow/ops/matmul.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"
#include "tests/engine.h"

namespace evenflow {
namespace {
using engine::bits, engine::drawn, engine::error_of;
using testing::AllOf, testing::HasSubstr;
const auto kEnded = AllOf(HasSubstr("failed precondition: gradient: the history"));

TEST(Gradient, is_a_graph_that_is_differentiated_again) {
  const Tensor at = full({}, 3);
  auto orders = [](const Tensor& x) {
    Tensor y = x * x * x * x, d1 = gradient(y, x), d2 = gradient(d1, x), d3 = gradient(d2, x);
    return Tensors{d1, d2, d3, gradient(d3, x), gradient(gradient(d3, x), x)};
  };
  const double expected[] = {4 * 27, 12 * 9, 24 * 3, 24, 0};
  const Tensors now = orders(watch(at)), compiled = compile(orders)(at);
  Tensors step;
  {
    Step s;
    step = orders(watch(at));
    s.commit();
  }
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(now[i].item(), expected[i]) << i;
    EXPECT_EQ(step[i].item(), expected[i]) << i;
    EXPECT_EQ(compiled[i].item(), expected[i]) << i;
  }
}

TEST(Gradient, sums_over_all_reads_of_a_variable) {
  Variable w(full({}, 3));
  // outside a step, in a step, and compiled: each read counts
  auto f = [w](const Tensor& k) {
    Tensor a = w, b = w.read();
    return a * b * k + w * 5;  // w^2 k + 5 w
  };
  const Tensor k = full({}, 2);
  EXPECT_EQ(gradient(f(k), w).item(), 17);
  {
    Step s;
    Tensor d = gradient(f(k), w);
    s.commit();
    EXPECT_EQ(d.item(), 17);
  }
  EXPECT_EQ(compile([&](const Tensor& x) { return gradient(f(x), w); })(k).item(), 17);
}

TEST(Gradient, an_assignment_cuts) {
  Variable w(full({}, 3)), v(full({}, 2));
  auto f = [=](const Tensor& k) {
    v.assign(w * k);
    Tensor y = v * w;  // v is 6 now, whatever w
    return Tensors{gradient(y, w), gradient(y, v)};
  };
  for (bool compiled : {false, true}) {
    v.assign(2);
    Tensors r;
    if (compiled) {
      r = compile(f)(full({}, 2));
    } else {
      Step s;
      r = f(full({}, 2));
      s.commit();
    }
    EXPECT_EQ(r[0].item(), 6) << compiled;
    EXPECT_EQ(r[1].item(), 3) << compiled;
  }
}

TEST(Gradient, after_the_commit_is_an_error_never_a_silent_zero) {
  Variable w(full({2}, 3));
  Tensor loss, inner;
  {
    Step s;
    inner = w * 2;
    loss = reduce_sum(square(inner));
    s.commit();
    EXPECT_THAT(error_of([&] { gradient(loss, w); }), kEnded) << "before the step is gone";
  }
  EXPECT_THAT(error_of([&] { gradient(loss, w); }), kEnded);
  EXPECT_THAT(error_of([&] { gradient(loss, inner); }), kEnded);
  EXPECT_THAT(error_of([&] { gradient(reduce_sum(loss * 2), w); }), kEnded)
      << "nor through what is made from it later";
  Step s;
  EXPECT_THAT(error_of([&] { gradient(loss * 2, w); }), kEnded);
}

TEST(Gradient, a_tensor_of_an_ended_step_is_a_constant_of_the_next) {
  Variable w(full({}, 3));
  Tensor baseline;
  for (int i = 0; i < 2; ++i) {
    Step s;
    Tensor y = square(Tensor(w));
    if (baseline) y = y * baseline;
    EXPECT_EQ(gradient(y, w).item(), i ? 6 * 9 : 6);
    baseline = square(Tensor(w));
    s.commit();
  }
}

TEST(Gradient, needs_a_watched_tensor_outside_a_trace) {
  const Tensor x = full({}, 3);
  const auto unwatched = AllOf(HasSubstr("failed precondition: gradient: "), HasSubstr("watch"));
  EXPECT_THAT(error_of([&] { gradient(square(x), x); }), unwatched);
  {
    Step s;
    EXPECT_THAT(error_of([&] { gradient(square(x), x); }), unwatched) << "whatever was run already";
  }
  Tensor w = watch(x);
  EXPECT_EQ(gradient(square(w), w).item(), 6);
  EXPECT_EQ(gradient(square(w) * x, w).item(), 18);
  Step s;
  Tensor y = square(w);
  EXPECT_EQ(y.item(), 9);
  EXPECT_EQ(gradient(y, w).item(), 6) << "reading in the middle keeps history";
}

TEST(Gradient, through_a_compiled_result_is_an_error_never_a_silent_zero) {
  Variable w(full({}, 3)), other(full({}, 5));
  auto f = compile([w](const Tensor& x) { return w * x; });
  const auto inside = AllOf(HasSubstr("failed precondition"), HasSubstr("compiled"),
                            HasSubstr("gradient_test.cc:"));
  EXPECT_THAT(error_of([&] { gradient(f(full({}, 2)), w); }), kEnded);
  EXPECT_THAT(error_of([&] { gradient(f(full({}, 2)) * 2 + 1, w); }), kEnded);
  const Tensor x = watch(full({}, 2));
  EXPECT_THAT(error_of([&] { gradient(square(f(x)), x); }), inside);
  {
    Step s;
    Tensor y = f(other * 2);
    EXPECT_THAT(error_of([&] { gradient(y, w); }), inside);
    EXPECT_THAT(error_of([&] { gradient(y, other); }), inside);
    EXPECT_THAT(error_of([&] { gradient(y + w * 1, w); }), inside) << "a part would be lost";
    EXPECT_EQ(gradient(y * x, x).item(), 30) << "what it does not depend on is free";
  }
  auto pure = compile([](const Tensor& x) { return x * 2; });
  Step s;
  Tensor y = pure(full({}, 2));
  EXPECT_EQ(gradient(y * w, w).item(), 4) << "a result of constants is one";
  s.commit();
}

TEST(Gradient, is_zero_only_where_there_is_no_dependence) {
  Variable w(full({2}, 3)), unused(full({3}, 1));
  auto f = [=](const Tensor& x) {
    Tensor y = reduce_sum(w * x), z = reduce_sum(stop_gradient(square(w * 1)));
    return Tensors{gradient(y, unused), gradient(z, w), gradient(y, w)};
  };
  const Tensor x = full({2}, 2);
  const Tensors r = compile(f)(x);
  EXPECT_EQ(r[0].to_vector(), (std::vector<float>{0, 0, 0}));
  EXPECT_EQ(r[1].to_vector(), (std::vector<float>{0, 0}));
  EXPECT_EQ(r[2].to_vector(), (std::vector<float>{2, 2}));
  const Tensors now = f(x);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(bits(now[i]), bits(r[i])) << i;
}

TEST(Gradient, refuses_what_has_none) {
  Variable i(full({2}, 1, DType::i64)), w(ones({2}));
  EXPECT_THAT(error_of([&] { gradient(w * 1, i); }), HasSubstr("expected a floating type"));
  EXPECT_THAT(error_of([&] { gradient(i + 1, w); }), HasSubstr("expected a floating type"));
  EXPECT_THAT(error_of([&] { gradient(Tensor(), w); }), HasSubstr("y is an empty tensor"));
  EXPECT_THAT(error_of([&] { gradient(w * 1, Tensor()); }), HasSubstr("an empty tensor"));
  EXPECT_THAT(error_of([&] { gradient(w * 1, Variable()); }), HasSubstr("an empty tensor"));
  EXPECT_THAT(error_of([&] { gradient(Tensors{w}, {}, {w}); }), HasSubstr("0 seeds were given"));
  EXPECT_THAT(error_of([&] { gradient(Tensors{w}, {ones({3})}, {w}); }),
              AllOf(HasSubstr("seed"), HasSubstr("f32[3]"), HasSubstr("expected f32[2]")));
}

TEST(Gradient, with_seeds_is_a_vector_jacobian_product) {
  const Tensor x = watch(tensor(std::vector<float>{1, 2}, {2}));
  const Tensors y{x * x, x * 3};
  const Tensors both = gradient(y, {tensor(std::vector<float>{1, 10}, {2}), ones({2})}, {x});
  EXPECT_EQ(both[0].to_vector(), (std::vector<float>{2 + 3, 40 + 3}));
  const Tensors one = gradient(y, {Tensor(), ones({2})}, {x});
  EXPECT_EQ(one[0].to_vector(), (std::vector<float>{3, 3})) << "an empty seed is zero";
}

TEST(Gradient, of_a_chain_of_thirty_thousand_does_not_recurse) {
  Variable w(ones({}));
  Step s;
  Tensor y = w;
  for (int i = 0; i < 30000; ++i) y = y + w;
  EXPECT_EQ(gradient(y, w).item(), 30001);
}

TEST(Gradient, never_looks_at_an_extent) {
  // Broadcasts that do nothing at the first size and something at the next.
  Variable w(ones({1, 1}));
  auto f = compile([w](const Tensor& x, const Tensor& y) {
    Tensor loss = reduce_sum(square(x * w + y)) + reduce_mean(x) * reduce_max(y * w);
    return gradient(loss, {x, y, w});
  });
  auto now = [w](const Tensor& a, const Tensor& b) {
    Tensor x = watch(a), y = watch(b);
    Tensor loss = reduce_sum(square(x * w + y)) + reduce_mean(x) * reduce_max(y * w);
    return gradient(loss, {x, y, w});
  };
  for (auto [n, m] : {std::pair{1, 1}, {1, 3}, {3, 1}, {3, 3}, {0, 1}}) {
    const Tensor x = drawn({n, 2}, 1), y = drawn({m, 2}, 2);
    const Tensors a = f(x, y), b = now(x, y);
    for (size_t i = 0; i < 3; ++i) EXPECT_EQ(bits(a[i]), bits(b[i])) << n << " " << m << " " << i;
  }
  EXPECT_EQ(f.function().traces(), 1);
}

}  // namespace
}  // namespace evenflow
