// SPDX-License-Identifier: Apache-2.0
// cond, while_loop and scan: compiled, recorded and at once they mean the same, gradients and
// writes included.
#include "evenflow/ops/control_flow.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "evenflow/graph/compile.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/graph/graph.h"
#include "evenflow/graph/node.h"
#include "evenflow/ops/compare.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/pool.h"
#include "evenflow/ops/random.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"
#include "tests/engine.h"

namespace evenflow {
namespace {
using engine::bits, engine::drawn, engine::error_of, engine::fault, engine::truth;
using testing::AllOf, testing::HasSubstr;

using Body = std::function<Tensors(const Tensors&)>;
// A body as it runs in a Step and as it runs compiled, from the same state.
struct Both {
  Tensors step, compiled;
};
Both both(const Body& body, const Tensors& args, const std::vector<Variable>& state = {}) {
  Tensors before(state.begin(), state.end());
  Both r;
  {
    Tensors watched;
    for (auto& a : args) watched.push_back(is_floating(a.dtype()) ? watch(a) : a);
    Step s;
    r.step = body(watched);
    s.commit();
  }
  const auto after = bits(state);
  for (size_t i = 0; i < state.size(); ++i) state[i].assign(before[i]);
  Function f;
  r.compiled = f(args, body);
  EXPECT_EQ(bits(state), after) << "the same writes";
  EXPECT_EQ(r.step.size(), r.compiled.size());
  for (size_t i = 0; i < r.step.size(); ++i) {
    const auto a = r.step[i].to_vector(), b = r.compiled[i].to_vector();
    EXPECT_EQ(a.size(), b.size());
    for (size_t k = 0; k < a.size(); ++k)
      EXPECT_FLOAT_EQ(a[k], b[k]) << "result " << i << ", " << k;
  }
  return r;
}
std::vector<float> items(const Tensors& ts) {
  std::vector<float> r;
  for (auto& t : ts) r.push_back(float(t.item()));
  return r;
}

// ---- cond
// ------------------------------------------------------------------------------------------
TEST(Cond, only_the_taken_branch_runs_and_writes) {
  Variable w(full({}, 3)), hits(zeros({}));
  auto f = [=](const Tensors& in) -> Tensors {
    Tensor y = cond(
        in[1],
        [&] {
          hits.assign_add(1);
          Tensor t = in[0] * w;
          return Tensors{t * t};
        },
        [&] { return Tensors{fault(in[0] + w, truth(true))}; })[0];
    Tensors g = gradient(y, {in[0], w});
    return {y, g[0], g[1], gradient(g[0], in[0]), gradient(g[1], in[0])};
  };
  // (x w)^2 at x = 2, w = 3
  const Both r = both(f, {full({}, 2), truth(true)}, {hits});
  EXPECT_EQ(items(r.compiled), (std::vector<float>{36, 36, 24, 18, 24}));
  EXPECT_EQ(hits.read().item(), 1);
  Function g;
  EXPECT_THAT(error_of([&] {
                g({full({}, 2), truth(false)}, f);
              }),
              AllOf(HasSubstr("fault"), HasSubstr("control_flow_test.cc:")));
  EXPECT_EQ(hits.read().item(), 1);
}

TEST(Cond, nests_captures_and_serves_any_batch_with_one_trace) {
  auto body = [](const Tensor& x, const Tensor& p, const Tensor& q) {
    Tensor k = reduce_mean(x);
    Tensor y = cond(
        p,
        [&] {
          Tensor z = x * k;
          return cond(
              q, [&] { return Tensors{z * x}; }, [&] { return Tensors{z}; });
        },
        [&] { return Tensors{x - k}; })[0];
    return Tensors{y, gradient(reduce_sum(y), x)};
  };
  auto f = compile(body);
  for (int64_t n : {4, 7, 1, 0})
    for (bool p : {false, true})
      for (bool q : {false, true}) {
        const Tensor x = drawn({n, 2}, 5);
        const Tensors a = f(x, truth(p), truth(q)), b = body(watch(x), truth(p), truth(q));
        EXPECT_EQ(bits(a[0]), bits(b[0]));
        const auto u = a[1].to_vector(), v = b[1].to_vector();
        for (size_t i = 0; i < u.size(); ++i) EXPECT_NEAR(u[i], v[i], 1e-5);
      }
  EXPECT_EQ(f.function().traces(), 1);
}

TEST(Cond, writes_of_either_branch_and_reads_behind_them) {
  for (bool p : {false, true}) {
    Variable a(full({}, 2)), b(full({}, 5));
    const Both r = both(
        [=](const Tensors& in) -> Tensors {
          a.assign(a * in[0]);
          Tensor y = cond(
              in[1],
              [&] {
                b.assign(b + a);
                return Tensors{b.read() * 10};
              },
              [&] {
                a.assign(a + 1);
                a.assign(a * 2);
                return Tensors{a.read()};
              })[0];
          return {y, a.read(), b.read()};
        },
        {full({}, 3), truth(p)}, {a, b});
    EXPECT_EQ(items(r.compiled),
              p ? (std::vector<float>{110, 6, 11}) : (std::vector<float>{14, 14, 5}));
  }
}

TEST(Cond, an_assignment_in_a_branch_cuts_as_anywhere) {
  Variable w(full({}, 3));
  auto f = [=](const Tensors& in) -> Tensors {
    Tensor y = cond(
        in[1],
        [&] {
          Tensor before = w;
          w.assign(before * in[0]);
          Tensor after = w;
          return Tensors{after * after + before};
        },
        [&] { return Tensors{in[0]}; })[0];
    Tensors g = gradient(y, {w, in[0]});
    return {y, g[0], g[1]};
  };
  // after = 6: d/dw is 2 * 6 + 1 over both reads, and nothing flows to x through the assignment.
  const Both r = both(f, {full({}, 2), truth(true)}, {w});
  EXPECT_EQ(items(r.compiled), (std::vector<float>{39, 13, 0}));
}

TEST(Cond, of_nothing_but_writes_and_of_a_captured_tensor) {
  Variable w(zeros({}));
  for (bool p : {false, true}) {
    w.assign(0);
    both(
        [=](const Tensors& in) -> Tensors {
          cond(
              in[0],
              [&] {
                w.assign_add(5);
                return Tensors{};
              },
              [] { return Tensors{}; });
          return {w.read()};
        },
        {truth(p)}, {w});
    EXPECT_EQ(w.read().item(), p ? 5 : 0);
    const Both r = both(
        [](const Tensors& in) -> Tensors {
          return cond(
              in[0],
              [&] {
                return Tensors{in[1], in[1]};
              },
              [&] {
                return Tensors{in[2], in[1]};
              });
        },
        {truth(p), full({2}, 1), full({2}, 2)});
    EXPECT_EQ(r.compiled[0].to_vector()[0], p ? 1 : 2);
  }
}

TEST(Cond, is_refused_when_it_makes_no_sense) {
  auto refused = [](auto f) { return error_of([&] { compile(f)(truth(true)); }); };
  const auto one = [] { return Tensors{ones({2})}; };
  EXPECT_THAT(
      refused([&](const Tensor& p) { return cond(p, one, [] { return Tensors{ones({3})}; }); }),
      HasSubstr("cond: the branches return different shapes"));
  EXPECT_THAT(refused([&](const Tensor& p) {
                return cond(p, one, [] { return Tensors{ones({2}), ones({2})}; });
              }),
              HasSubstr("cond: the branches return different"));
  EXPECT_THAT(
      refused([&](const Tensor& p) { return cond(p, one, [] { return Tensors{Tensor()}; }); }),
      HasSubstr("returned an empty tensor"));
  EXPECT_THAT(error_of([&] { cond(ones({2}), one, one); }),
              AllOf(HasSubstr("pred is f32[2]"), HasSubstr("control_flow_test.cc:")));
  EXPECT_THAT(
      refused([&](const Tensor& p) {
        return cond(
            p,
            [&] {
              require(p);
              return one();
            },
            one);
      }),
      AllOf(HasSubstr("require: a predicate of a branch"), HasSubstr("control_flow_test.cc:")));
  auto pools = compile(
      [&](const Tensor& p) {
        return cond(
            p,
            [&] {
              return Tensors{pool(Pooled::mean, {ones({}), ones({2})})[1]};
            },
            one);
      },
      {.micro_batches = 2});
  EXPECT_THAT(error_of([&] { pools(truth(true)); }), HasSubstr("pool: it is called in a branch"));
  // What was made in a branch stays there, if it needs what belongs to the branch alone.
  Tensor leaked;
  EXPECT_THAT(refused([&](const Tensor& p) {
                scan(
                    [&](const Tensors& s, const Tensors& e) {
                      leaked = s[0] + e[0];
                      return Tensors{leaked};
                    },
                    {ones({})}, {ones({3})});
                return Tensors{leaked + cast(p, DType::f32)};
              }),
              AllOf(HasSubstr("of another trace"), HasSubstr("control_flow_test.cc:")));
}

// ---- while_loop --------------------------------------------------------------------------------
TEST(While, runs_a_number_of_times_that_the_data_says) {
  Variable w(full({}, 3)), acc(zeros({}));
  auto f = [=](const Tensors& in) -> Tensors {
    Tensor y = while_loop([&](const Tensors& s) { return s[0] < 50; },
                          [&](const Tensors& s) {
                            acc.assign_add(s[0]);
                            return Tensors{s[0] * w};
                          },
                          {in[0]}, 20)[0];
    Tensors d = gradient(y, {in[0], w});
    return {y, d[0], d[1]};
  };
  // x w^3 at x = 2, w = 3: dx = 27, dw = 3 x w^2 = 54; acc is 2 + 6 + 18
  const Both r = both(f, {full({}, 2)}, {acc});
  EXPECT_EQ(items(r.compiled), (std::vector<float>{54, 27, 54}));
  EXPECT_EQ(acc.read().item(), 26);
  EXPECT_EQ(items(both(f, {full({}, 60)}, {acc}).compiled), (std::vector<float>{60, 1, 0}))
      << "not once";
}

TEST(While, reads_in_its_condition_what_its_body_wrote) {
  Variable left(full({}, 4));
  const Both r = both(
      [=](const Tensors& in) -> Tensors {
        return while_loop([&](const Tensors&) { return left > 0; },
                          [&](const Tensors& s) {
                            left.assign_sub(1);
                            return Tensors{s[0] * 2, s[1] + left};
                          },
                          {in[0], zeros({})});
      },
      {full({}, 1)}, {left});
  EXPECT_EQ(items(r.compiled), (std::vector<float>{16, 3 + 2 + 1 + 0}));
  EXPECT_EQ(left.read().item(), 0);
}

TEST(While, draws_other_numbers_in_each_iteration) {
  Generator gen(3);
  const Both r = both(
      [gen](const Tensors& in) -> Tensors {
        return while_loop([](const Tensors& s) { return s[2] < 3; },
                          [&](const Tensors& s) {
                            Tensor u = random_uniform_like(gen.next(), s[0]);
                            return Tensors{s[0] + u, u, s[2] + 1};
                          },
                          {in[0], zeros({4}), zeros({})});
      },
      {zeros({4})}, {gen.state()});
  EXPECT_NE(bits(r.compiled[0]), bits(r.compiled[1] * 3.f));
  EXPECT_EQ(gen.state().read().to_vector<int64_t>()[1], 3);
}

TEST(While, bounds) {
  auto forever = [](const Tensor& x) {
    return while_loop([](const Tensors& s) { return s[0] < 10; },
                      [](const Tensors& s) { return Tensors{s[0] * 1}; }, {x}, 7)[0];
  };
  const auto stopped = AllOf(HasSubstr("resource exhausted"), HasSubstr("maximum_iterations 7"));
  EXPECT_THAT(error_of([&] { forever(zeros({})); }), stopped);
  auto f = compile(forever);
  EXPECT_THAT(error_of([&] { f(zeros({})); }), stopped);
  EXPECT_EQ(f(full({}, 11)).item(), 11);
  auto no_bound = [](const Tensor& x) {
    return while_loop([](const Tensors& s) { return s[0] < 10; },
                      [](const Tensors& s) { return Tensors{s[0] + 1}; }, {x})[0];
  };
  EXPECT_EQ(compile(no_bound)(zeros({})).item(), 10);
  auto first = compile([&](const Tensor& x) { return gradient(no_bound(x), x); });
  EXPECT_THAT(error_of([&] { first(zeros({})); }), HasSubstr("needs maximum_iterations"));
  auto second = compile([&](const Tensor& x) { return gradient(gradient(forever(x), x), x); });
  EXPECT_THAT(error_of([&] { second(full({}, 11)); }),
              AllOf(HasSubstr("second order"), HasSubstr("scan")));
  EXPECT_THAT(error_of([] {
                compile([](const Tensor& x) {
                  return while_loop([](const Tensors& s) { return s[0] < 10; },
                                    [](const Tensors& s) {
                                      return Tensors{stack({s[0], s[0]})};
                                    },
                                    {x})[0];
                })(zeros({}));
              }),
              HasSubstr("expected f32[]"));
  EXPECT_THAT(error_of([] { while_loop({}, {}, {}); }), HasSubstr("init is empty"));
}

TEST(While, refuses_at_once_what_it_refuses_when_traced) {
  auto less = [](const Tensors& s) { return s[0] < 10; };
  auto both_say = [](auto go_on, auto body, const std::string& text) {
    auto f = [=](const Tensor& x) { return while_loop(go_on, body, {x})[0]; };
    EXPECT_THAT(error_of([&] { f(zeros({})); }), HasSubstr(text));
    EXPECT_THAT(error_of([&] { compile(f)(zeros({})); }), HasSubstr(text));
  };
  both_say(
      less,
      [](const Tensors& s) {
        return Tensors{stack({s[0], s[0]})};
      },
      "f32[2] for carried value 0, expected f32[]");
  both_say(
      less, [](const Tensors&) { return Tensors{}; }, "body returns");
  both_say(
      less, [](const Tensors&) { return Tensors{Tensor()}; }, "empty tensor");
  both_say([](const Tensors& s) { return s[0]; }, [](const Tensors& s) { return s; },
           "go_on does not return bool[]");
}

// ---- scan
// ----------------------------------------------------------------------------------------- h' =
// tanh(w h + x): a recurrent cell, by scan and unrolled.
Tensor cell(const Tensor& h, const Tensor& x, const Variable& w) { return tanh(h * w + x); }
TEST(Scan, is_the_unrolled_loop_to_second_order) {
  Variable w(full({}, 0.7)), steps(zeros({}));
  const int64_t n = 5;
  auto scanned = [=](const Tensors& in) {
    const ScanResult r = scan(
        [&](const Tensors& s, const Tensors& e) {
          Tensor h = cell(s[0], e[0], w);
          steps.assign_add(1);
          return Tensors{h, h * e[0]};
        },
        {in[1]}, {in[0]});
    return Tensors{r.state[0], r.outputs[0]};
  };
  auto unrolled = [=](const Tensors& in) {
    Tensor h = in[1];
    Tensors outs;
    for (int64_t i = 0; i < n; ++i) {
      Tensor x = reshape(slice(in[0], {i, 0}, {1, 3}), {3});
      h = cell(h, x, w);
      outs.push_back(h * x);
    }
    return Tensors{h, stack(outs)};
  };
  auto derivatives = [=](auto f) {
    return [=](const Tensors& in) -> Tensors {
      const Tensors y = f(in);
      Tensor loss = reduce_sum(square(y[0])) + reduce_sum(y[1] * y[1] * 0.5f);
      Tensors d = gradient(loss, {in[0], in[1], w});
      Tensor again = reduce_sum(square(d[0])) + reduce_sum(d[1] * 2) + d[2] * d[2];
      Tensors dd = gradient(again, {in[0], in[1], w});
      Tensors r = y;
      for (auto* t : {&d, &dd}) r.insert(r.end(), t->begin(), t->end());
      return r;
    };
  };
  const Tensors args{drawn({n, 3}, 1), drawn({3}, 2)};
  const Both a = both(derivatives(scanned), args, {steps}), b = both(derivatives(unrolled), args);
  EXPECT_EQ(steps.read().item(), n);
  for (size_t i = 0; i < a.compiled.size(); ++i) {
    const auto x = a.compiled[i].to_vector(), y = b.compiled[i].to_vector();
    ASSERT_EQ(x.size(), y.size());
    for (size_t k = 0; k < x.size(); ++k) EXPECT_NEAR(x[k], y[k], 1e-5) << i << " " << k;
  }
}

TEST(Scan, any_number_of_elements_one_trace) {
  auto f = compile([](const Tensor& x) {
    const ScanResult r = scan(
        [](const Tensors& s, const Tensors& e) {
          return Tensors{s[0] + e[0], s[0]};
        },
        {zeros({2})}, {x});
    return Tensors{r.state[0], r.outputs[0], gradient(reduce_sum(r.outputs[0]), x)};
  });
  for (int64_t n : {3, 1, 0, 6}) {
    const Tensors r = f(ones({n, 2}));
    EXPECT_EQ(r[0].to_vector()[1], float(n));
    EXPECT_EQ(r[1].shape(), (Shape{n, 2}));
    for (int64_t i = 0; i < n; ++i) {
      EXPECT_EQ(r[1].to_vector()[size_t(2 * i)], float(i)) << "the sum before element i";
      EXPECT_EQ(r[2].to_vector()[size_t(2 * i)], float(n - 1 - i)) << "it is in the later ones";
    }
  }
  EXPECT_EQ(f.function().traces(), 1);
}

TEST(Scan, carries_a_variable_that_its_body_writes) {
  Variable m(full({}, 1));
  const Both r = both(
      [=](const Tensors& in) -> Tensors {
        const ScanResult s = scan(
            [&](const Tensors& state, const Tensors& e) {
              m.assign(m * 2);
              return Tensors{state[0] + m * e[0], m.read()};
            },
            {zeros({})}, {in[0]});
        return {s.state[0], s.outputs[0], m.read()};
      },
      {tensor(std::vector<float>{1, 10, 100}, {3})}, {m});
  EXPECT_EQ(r.compiled[0].item(), 2 + 40 + 800);
  EXPECT_EQ(r.compiled[1].to_vector(), (std::vector<float>{2, 4, 8}));
  EXPECT_EQ(m.read().item(), 8);
  EXPECT_THAT(error_of([&] {
                scan(
                    [&](const Tensors& s, const Tensors&) {
                      m.assign_add(1);
                      return s;
                    },
                    {zeros({})}, {ones({3})});
              }),
              HasSubstr("open a Step or compile it"));
  EXPECT_EQ(m.read().item(), 8);
}

TEST(Scan, an_assignment_in_its_body_cuts_and_reads_add_up) {
  // y = sum over t of m_t x_t, with m_t = m_(t-1) * x_t written: each m_t is a read of m.
  Variable m(full({}, 1));
  auto f = [=](const Tensors& in) -> Tensors {
    const ScanResult s = scan(
        [&](const Tensors& state, const Tensors& e) {
          m.assign(m * e[0]);
          return Tensors{state[0] + m * e[0]};
        },
        {zeros({})}, {in[0]});
    Tensors g = gradient(s.state[0], {in[0], m});
    return {s.state[0], g[0], g[1]};
  };
  Function function;
  const Tensors r = function({tensor(std::vector<float>{2, 3}, {2})}, f);
  EXPECT_EQ(r[0].item(), 2 * 2 + 6 * 3);
  EXPECT_EQ(r[1].to_vector(), (std::vector<float>{2, 6})) << "dx_t = m_t: nothing through writes";
  EXPECT_EQ(r[2].item(), 2 + 3) << "dm = sum of x_t";
}

TEST(Scan, loops_in_loops_and_branches_in_loops) {
  Variable w(full({}, 2));
  const Both r = both(
      [=](const Tensors& in) -> Tensors {
        const ScanResult s = scan(
            [&](const Tensors& state, const Tensors& row) {
              const ScanResult inner = scan(
                  [&](const Tensors& t, const Tensors& e) {
                    Tensor v = cond(
                        e[0] > 0, [&] { return Tensors{e[0] * w}; },
                        [&] { return Tensors{e[0] * e[0]}; })[0];
                    return Tensors{t[0] + v};
                  },
                  {zeros({})}, {row[0]});
              return Tensors{state[0] + inner.state[0]};
            },
            {zeros({})}, {in[0]});
        Tensors d = gradient(s.state[0], {in[0], w});
        return {s.state[0], d[0], d[1], gradient(reduce_sum(d[0]), in[0])};
      },
      {tensor(std::vector<float>{1, -2, 3, 4}, {2, 2})});
  EXPECT_EQ(r.compiled[0].item(), 2 * (1 + 3 + 4) + 4);
  EXPECT_EQ(r.compiled[1].to_vector(), (std::vector<float>{2, -4, 2, 2}));
  EXPECT_EQ(r.compiled[2].item(), 8);
  EXPECT_EQ(r.compiled[3].to_vector(), (std::vector<float>{0, 2, 0, 0}));
}

TEST(Scan, is_refused_when_it_makes_no_sense) {
  auto same = [](const Tensors& s, const Tensors&) { return s; };
  EXPECT_THAT(error_of([&] { scan(same, {ones({})}, {}); }), HasSubstr("xs is empty"));
  EXPECT_THAT(error_of([&] { scan(same, {ones({})}, {ones({})}); }), HasSubstr("leading extent"));
  EXPECT_THAT(error_of([&] {
                scan(same, {ones({})}, {ones({2}), ones({3})});
              }),
              HasSubstr("leading extent 2"));
  auto grows = [](const Tensors& s, const Tensors&) { return Tensors{stack({s[0], s[0]})}; };
  EXPECT_THAT(error_of([&] { scan(grows, {ones({})}, {ones({2})}); }), HasSubstr("expected f32[]"));
  auto nothing = [](const Tensors&, const Tensors&) { return Tensors{}; };
  EXPECT_THAT(error_of([&] { scan(nothing, {ones({})}, {ones({2})}); }),
              HasSubstr("expected at least 1"));
}

}  // namespace
}  // namespace evenflow
