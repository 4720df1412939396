// SPDX-License-Identifier: Apache-2.0
// EVENFLOW_CHECK=nan, in a program of its own: the switch is read once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <limits>

#include "evenflow/graph/gradient.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/reduce.h"
#include "tests/engine.h"

namespace evenflow {
namespace {
using engine::bits, engine::error_of;
using testing::AllOf, testing::HasSubstr;

const bool asked = setenv("EVENFLOW_CHECK", "nan", 1) == 0;
const float kMax = std::numeric_limits<float>::max();

auto names(int line) {
  return AllOf(HasSubstr("out of range: log \"head\""), HasSubstr("element 1 of output 0 f32[3]"),
               HasSubstr("is -inf"), HasSubstr(concat({"nan_check_test.cc:", line})));
}

TEST(NanCheck, names_the_first_bad_node_in_every_mode) {
  ASSERT_TRUE(asked);
  int line = 0;
  auto f = [&](const Tensor& x) {
    NameScope scope("head");
    line = __LINE__ + 1;
    Tensor y = log(x * 2);
    return exp(y) * 0 + sqrt(y);  // would be NaN, but it is not the first
  };
  const Tensor good = full({3}, 2), bad = tensor(std::vector<float>{1, 0, 1}, {3});
  auto compiled = compile(f);
  compiled(good);
  EXPECT_THAT(error_of([&] { compiled(bad); }), names(line));
  EXPECT_THAT(error_of([&] { f(bad); }), names(line)) << "at once, when it is called";
  EXPECT_THAT(error_of([&] {
                Step s;
                Tensor y = f(bad);
                s.commit();
              }),
              names(line));
}

TEST(NanCheck, what_it_refuses_leaves_state_alone) {
  Variable w(full({2}, 1)), v(full({2}, kMax));
  auto f = compile([=](const Tensor& x) {
    w.assign_sub(x);
    v.assign_add(v * x);  // overflows in what would be written over v
  });
  f(zeros({}));
  const auto before = bits(std::vector<Variable>{w, v});
  EXPECT_THAT(error_of([&] { f(ones({})); }), AllOf(HasSubstr("add"), HasSubstr("is inf")));
  EXPECT_EQ(bits(std::vector<Variable>{w, v}), before);
  EXPECT_EQ(v.version(), 1u);
}

}  // namespace
}  // namespace evenflow
