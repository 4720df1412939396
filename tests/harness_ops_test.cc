// SPDX-License-Identifier: Apache-2.0
// Every operation, every case, every element type: what the declaration promises. Names no
// operation; a new one is found by itself. A failure prints a filter: harness_ops_test
// --gtest_filter='*/conv2d'
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "evenflow/core/parallel.h"
#include "evenflow/graph/op.h"
#include "tests/op_checks.h"

namespace evenflow {
namespace {
using checks::Complaints;
using checks::Point;

constexpr int64_t kCase = 200000;  // elements above which a case is only for benchmarks

int64_t elements(const OpDef::Case& c) {
  int64_t n = 0;
  for (auto& in : c.in) n += in.shape.count();
  return n;
}

class Ops : public testing::TestWithParam<const OpDef*> {
 protected:
  static void SetUpTestSuite() { checks::install_crash_handler(); }
  const OpDef& op() const { return *GetParam(); }
  // Up to five complaints of a check, so that one mistake does not fill the screen.
  void expect_none(const Complaints& complaints) {
    for (auto& c : complaints)
      if (++failures_ <= 5) ADD_FAILURE() << c;
  }
  template <class F>
  void each_case(F f) {
    for (auto& c : op().cases)
      if (c.flags.fails.empty() && elements(c) <= kCase) f(c);
  }
  template <class F>
  void each_point(F f) {
    each_case([&](const OpDef::Case& c) {
      for (const Point& p : checks::points(op(), c)) {
        SCOPED_TRACE(p.name);
        expect_none(f(p));
      }
    });
  }
  template <class F>
  void each_first(F f) {
    each_case([&](const OpDef::Case& c) {
      const Point p = checks::first(op(), c);
      SCOPED_TRACE(p.name);
      expect_none(f(p));
    });
  }
  int failures_ = 0;
};

TEST_P(Ops, kernels) {
  each_point([](const Point& p) { return checks::kernels(p); });
}
TEST_P(Ops, sizes) { each_first(checks::sizes); }
TEST_P(Ops, modes) { each_point(checks::modes); }
TEST_P(Ops, threads) { each_point(checks::threads); }
TEST_P(Ops, threads_enlarged) { each_first(checks::threads_enlarged); }
TEST_P(Ops, threads_at_bench_size) {
  for (auto& c : op().cases) {
    if (!c.flags.bench || !c.flags.fails.empty() || elements(c) > 2000000 || elements(c) <= kCase)
      continue;
    const Point p = checks::first(op(), c);
    SCOPED_TRACE(p.name);
    expect_none(checks::threads(p));
  }
}
TEST_P(Ops, gradient) {
  each_case([&](const OpDef::Case& c) {
    for (const Point& p : checks::widest(op(), c)) {
      SCOPED_TRACE(p.name);
      if (!checks::differentiable(p)) continue;
      const Complaints once = checks::gradient_once(p);
      expect_none(once);
      if (once.empty()) expect_none(checks::gradient_twice(p));
      expect_none(checks::gradient_of_shared(p));
    }
  });
}
TEST_P(Ops, batches) {
  each_first([](const Point& p) { return checks::batches(p); });
}
TEST_P(Ops, wrong_shapes) { each_first(checks::wrong_shapes); }
TEST_P(Ops, wrong_types) { each_first(checks::wrong_types); }
TEST_P(Ops, attributes) { each_first(checks::attributes); }
TEST_P(Ops, types) { expect_none(checks::types(op())); }
TEST_P(Ops, refusals) {
  for (auto& c : op().cases)
    if (!c.flags.fails.empty()) {
      const Point p = checks::first(op(), c);
      SCOPED_TRACE(p.name);
      expect_none(checks::refusal(p));
    }
}

std::vector<const OpDef*> real_ops() {
  std::vector<const OpDef*> r;
  for (auto* op : all_ops())
    if (!op->cases.empty() && op->name.rfind("planted_", 0) != 0) r.push_back(op);
  return r;
}
INSTANTIATE_TEST_SUITE_P(, Ops, testing::ValuesIn(real_ops()),
                         [](const auto& info) { return info.param->name; });
}  // namespace

// ---- planted mistakes: the checks must see them
// ---------------------------------------------------------------------------------
namespace {
void square_loop(const Call& c, const NoAttrs&) {
  visit(c.out[0].dtype(), [&](auto zero) {
    using T = decltype(zero);
    for (int64_t i = 0; i < c.out[0].count(); ++i) {
      const auto x = compute_t<T>(c.in[0].as<T>()[i]);
      c.out[0].as<T>()[i] = static_cast<T>(x * x);
    }
  });
}
Op<NoAttrs> planted_square(Tensors (*gradient)(const Tensors&, const Tensors&, const Tensors&,
                                               const NoAttrs&)) {
  return {.summary = "x^2, for the tests of the tests",
          .inputs = {{"x", floating, "[...]"}},
          .outputs = {{"y", "like x"}},
          .shape = same_as_first,
          .loop = square_loop,
          .gradient = gradient,
          .cases = {{"vector", {{5}}}, {"refused", {{5}}, {}, {.fails = "never said"}}}};
}
Tensor times(const Tensor& a, const Tensor& b) { return call(find_op("multiply"), {a, b})[0]; }
Tensor plus(const Tensor& a, const Tensor& b) { return call(find_op("add"), {a, b})[0]; }
}  // namespace
OP(planted_right, NoAttrs) {
  return planted_square(
      [](const Tensors& in, const Tensors&, const Tensors& g, const NoAttrs&) -> Tensors {
        return {plus(times(g[0], in[0]), times(g[0], in[0]))};
      });
}
OP(planted_wrong_gradient, NoAttrs) {
  return planted_square([](const Tensors& in, const Tensors&, const Tensors& g,
                           const NoAttrs&) -> Tensors { return {times(g[0], in[0])}; });
}
OP(planted_wrong_second,
   NoAttrs) {  // right at first order; its gradient forgets that it depends on x
  return planted_square(
      [](const Tensors& in, const Tensors&, const Tensors& g, const NoAttrs&) -> Tensors {
        const Tensor x = tensor(in[0].sig(), in[0].buffer());
        return {plus(times(g[0], x), times(g[0], x))};
      });
}
KERNEL(planted_right, NoAttrs, off_by_a_little) {
  return {.run = [](const Call& c, const NoAttrs& a) {
    square_loop(c, a);
    if (c.out[0].dtype() == DType::f32) c.out[0].as<float>()[3] *= 1.001f;
  }};
}
KERNEL(planted_wrong_gradient, NoAttrs, forgets_one) {
  return {.declines = [](const CallSig& c, const NoAttrs&) -> std::string {
            return c.in[0].dtype == DType::f32 ? "" : "not f32";
          },
          .run =
              [](const Call& c, const NoAttrs&) {
                for (int64_t i = 0; i + 1 < c.out[0].count(); ++i)
                  c.out[0].as<float>()[i] = c.in[0].as<float>()[i] * c.in[0].as<float>()[i];
              }};
}
OP(planted_rude, NoAttrs) {  // throws what is no Error, and takes no care of its memory
  return {.summary = "",
          .inputs = {{"x", f32_only, "[n]"}},
          .outputs = {{"y", "like x"}},
          .shape = [](std::span<const Sig> in, const NoAttrs&) -> Sigs {
            if (in[0].shape.rank() != 1) throw std::logic_error("rank");
            return {in[0]};
          },
          .loop =
              [](const Call& c, const NoAttrs&) {
                for (int64_t i = 0; i < c.out[0].count(); ++i)
                  c.out[0].as<float>()[i] = ++c.in[0].as<float>()[i];
              },
          .cases = {{"vector", {{5}}}}};
}
namespace {
// y = x, by a loop and a kernel that are handed in.
Op<NoAttrs> planted_copy(void (*loop)(const Call&, const NoAttrs&)) {
  return {.summary = "x, for the tests of the tests",
          .inputs = {{"x", f32_only, "[...]"}},
          .outputs = {{"y", "like x"}},
          .shape = same_as_first,
          .loop = loop,
          .no_gradient = "a test of the tests",
          .cases = {{"vector", {{5}}}}};
}
void copy_loop(const Call& c, const NoAttrs&) {
  std::copy_n(c.in[0].as<float>(), c.out[0].count(), c.out[0].as<float>());
}
}  // namespace
OP(planted_outside, NoAttrs) { return planted_copy(copy_loop); }
KERNEL(planted_outside, NoAttrs, one_too_many) {
  return {.run = [](const Call& c, const NoAttrs& a) {
    copy_loop(c, a);
#if !defined(__SANITIZE_ADDRESS__)  // it would not wait for the check
    c.out[0].as<float>()[c.out[0].count()] = 0;
#endif
  }};
}
OP(planted_peek, NoAttrs) { return planted_copy(copy_loop); }
KERNEL(planted_peek, NoAttrs, adds_its_neighbour) {
  return {.run = [](const Call& c, const NoAttrs& a) {
    copy_loop(c, a);
#if !defined(__SANITIZE_ADDRESS__)
    c.out[0].as<float>()[0] += 0 * c.in[0].as<float>()[c.out[0].count()];
#endif
  }};
}
OP(planted_odd_size, NoAttrs) { return planted_copy(copy_loop); }
KERNEL(planted_odd_size, NoAttrs, but_for_37) {
  return {.run = [](const Call& c, const NoAttrs& a) {
    copy_loop(c, a);
    if (c.out[0].count() == 37) c.out[0].as<float>()[36] *= 1.001f;
  }};
}
OP(planted_threads, NoAttrs) {
  return planted_copy([](const Call& c, const NoAttrs&) {
    parallel_for(c.out[0].count(), 1024, [&](int64_t begin, int64_t end) {
      static thread_local int mine = 0;  // what a thread did before decides
      ++mine;
      for (int64_t i = begin; i < end; ++i)
        c.out[0].as<float>()[i] = c.in[0].as<float>()[i] + float(mine);
    });
  });
}
OP(planted_careless, NoAttrs) {  // takes any b and uses its first elements
  return {
      .summary = "a + b, for the tests of the tests",
      .inputs = {{"a", floating, "[n]"}, {"b", floating, "[n]"}},
      .outputs = {{"y", "[n]"}},
      .shape = same_as_first,
      .loop =
          [](const Call& c, const NoAttrs&) {
            visit(c.out[0].dtype(), [&](auto zero) {
              using T = decltype(zero);
              for (int64_t i = 0; i < c.out[0].count(); ++i)
                c.out[0].as<T>()[i] = static_cast<T>(compute_t<T>(c.in[0].as<T>()[i]) +
                                                     compute_t<T>(c.in[1].as<T>()[i]));
            });
          },
      .gradient = [](const Tensors&, const Tensors&, const Tensors& g, const NoAttrs&) -> Tensors {
        return {g[0], g[0]};
      },
      .cases = {{"vector", {{5}, {5}}}}};
}

namespace {
std::string all_of(const Complaints& c) {
  std::string s;
  for (auto& x : c) s += x + "\n";
  return s;
}
bool says(const Complaints& c, std::string_view text) {
  return all_of(c).find(text) != std::string::npos;
}

TEST(Planted, a_right_gradient_is_not_blamed) {
  const OpDef& op = planted_right_op();
  const Point p = checks::widest(op, op.cases[0]).at(0);
  EXPECT_EQ(all_of(checks::gradient_once(p)), "");
  EXPECT_EQ(all_of(checks::gradient_twice(p)), "");
}
TEST(Planted, a_wrong_gradient_is_found) {
  const OpDef& op = planted_wrong_gradient_op();
  const Point p = checks::widest(op, op.cases[0]).at(0);
  EXPECT_TRUE(says(checks::gradient_once(p), "the gradient of x f64[5]"))
      << all_of(checks::gradient_once(p));
}
TEST(Planted, a_wrong_second_gradient_is_found) {
  const OpDef& op = planted_wrong_second_op();
  const Point p = checks::widest(op, op.cases[0]).at(0);
  EXPECT_EQ(all_of(checks::gradient_once(p)), "");
  EXPECT_TRUE(says(checks::gradient_twice(p), "the second gradient of x"))
      << all_of(checks::gradient_twice(p));
}
TEST(Planted, a_wrong_kernel_is_found) {
  const Complaints a =
      checks::kernels(checks::first(planted_right_op(), planted_right_op().cases[0]));
  EXPECT_TRUE(says(a, "kernel off_by_a_little: output 0 f32[5] element 3")) << all_of(a);
  const Complaints b = checks::kernels(
      checks::first(planted_wrong_gradient_op(), planted_wrong_gradient_op().cases[0]));
  EXPECT_TRUE(says(b, "depends on what was in its memory")) << all_of(b);
}
#if !defined(__SANITIZE_ADDRESS__)
TEST(Planted, writing_and_reading_outside_is_found) {
  const Complaints a =
      checks::kernels(checks::first(planted_outside_op(), planted_outside_op().cases[0]));
  EXPECT_TRUE(says(a, "kernel one_too_many: memory around output 0 was written")) << all_of(a);
  const Complaints b =
      checks::kernels(checks::first(planted_peek_op(), planted_peek_op().cases[0]));
  EXPECT_TRUE(says(b, "in the scratch, or around")) << all_of(b);
}
TEST(Planted, a_shape_rule_that_takes_anything_is_found) {
  const OpDef& op = planted_careless_op();
  const Complaints c = checks::wrong_shapes(checks::first(op, op.cases[0]));
  EXPECT_TRUE(says(c, "with b f32[6]: accepted, but its gradient")) << all_of(c);
  EXPECT_TRUE(says(c, "with b f32[4]: accepted, but loop: output 0 depends on")) << all_of(c);
}
#endif
TEST(Planted, one_wrong_size_is_found) {
  const OpDef& op = planted_odd_size_op();
  const Point p = checks::first(op, op.cases[0]);
  EXPECT_EQ(all_of(checks::kernels(p)), "");
  const Complaints c = checks::sizes(p);
  EXPECT_TRUE(says(c, "37 for 5: kernel but_for_37: output 0 f32[37] element 36")) << all_of(c);
}
TEST(Planted, bits_that_depend_on_threads_are_found) {
  const OpDef& op = planted_threads_op();
  const Complaints c = checks::threads_enlarged(checks::first(op, op.cases[0]));
  EXPECT_TRUE(says(c, "loop: output 0 has other bits with")) << all_of(c);
}
TEST(Planted, rudeness_is_found) {
  const OpDef& op = planted_rude_op();
  const Point p = checks::first(op, op.cases[0]);
  EXPECT_TRUE(says(checks::kernels(p), "input 0 was written"));
  EXPECT_TRUE(says(checks::wrong_shapes(p), "threw rank, expected an Error"));
  const Complaints c = checks::sheet(op);
  EXPECT_TRUE(says(c, "no summary") && says(c, "1 cases that work") &&
              says(c, "neither gradient nor reference"))
      << all_of(c);
}
TEST(Planted, a_case_that_is_not_refused_is_found) {
  const OpDef& op = planted_right_op();
  EXPECT_TRUE(
      says(checks::refusal(checks::first(op, op.cases[1])), "accepted, expected \"never said\""));
}
}  // namespace
}  // namespace evenflow
