// SPDX-License-Identifier: Apache-2.0
#include "evenflow/core/shape.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace evenflow {
namespace {
using testing::ElementsAre, testing::HasSubstr;
constexpr int64_t kMost = std::numeric_limits<int64_t>::max();

template <class F>
std::string error_of(F f) {
  try {
    f();
  } catch (const Error& e) {
    return std::string(str(e.code())) + ": " + e.what();
  }
  return "no error";
}

TEST(Shape, counts_names_and_strides) {
  const Shape s{2, 3, 4};
  EXPECT_EQ(s.rank(), 3);
  EXPECT_EQ(s.count(), 24);
  EXPECT_EQ(str(s), "[2,3,4]");
  EXPECT_EQ(str(Sig{DType::bf16, s}), "bf16[2,3,4]");
  EXPECT_EQ((Sig{DType::bf16, s}.bytes()), 48);
  const auto strides = s.strides();
  EXPECT_THAT(std::span(strides).first(3), ElementsAre(12, 4, 1));
  EXPECT_EQ(Shape().count(), 1);
  EXPECT_EQ(str(Shape()), "[]");
  EXPECT_EQ((Shape{3, 0, 2}.count()), 0);
  EXPECT_EQ(s.dim(-1), 4);
  EXPECT_EQ(s.with(-2, 7), (Shape{2, 7, 4}));
  EXPECT_NE(s, (Shape{2, 3}));
  EXPECT_NE((Shape{1}), Shape());
}

TEST(Shape, refuses_axes_and_extents_out_of_range) {
  const Shape s{2, 3};
  EXPECT_EQ(error_of([&] { s.resolve(2); }),
            "invalid argument: axis is 2, expected -2..1 for shape [2,3]");
  EXPECT_THAT(error_of([&] { s.resolve(-3, "axes[1]"); }), HasSubstr("axes[1] is -3"));
  EXPECT_THAT(error_of([&] { s.with(0, -1); }), HasSubstr("extent 0 is -1"));
  EXPECT_THAT(error_of([] { Shape{1, 1, 1, 1, 1, 1, 1, 1, 1}; }), HasSubstr("rank 9"));
  EXPECT_THAT(error_of([] { Shape{kMost, 2}; }), HasSubstr("out of range: size"));
  EXPECT_THAT(error_of([] { Shape{kMost}; }), HasSubstr("too many elements"));
  EXPECT_THAT(error_of([] {
                Shape{int64_t(1) << 31, int64_t(1) << 31};
              }),
              HasSubstr("too many elements"));
  EXPECT_THAT(error_of([] {
                Shape{0, kMost, kMost};
              }),
              HasSubstr("out of range"))
      << "nothing hides behind an empty extent";
  EXPECT_GT((Sig{DType::f64, Shape{int64_t(1) << 59}}.bytes()), 0) << "the largest has a size";
}

TEST(Shape, broadcasts_as_numpy_does) {
  EXPECT_EQ(broadcast({8, 1, 6, 1}, {7, 1, 5}), (Shape{8, 7, 6, 5}));
  EXPECT_EQ(broadcast({}, {2, 3}), (Shape{2, 3}));
  EXPECT_EQ(broadcast({0}, {1}), (Shape{0}));
  EXPECT_EQ(broadcast({3, 0}, {1}), (Shape{3, 0}));
  EXPECT_EQ(
      error_of([] {
        broadcast({2, 3}, {2, 4});
      }),
      "invalid argument: shapes [2,3] and [2,4] do not broadcast: extents 3 and 4 on axis -1");
  EXPECT_THAT(error_of([] { broadcast({0}, {2}); }), HasSubstr("do not broadcast"));
  EXPECT_THAT(error_of([] {
                broadcast({int64_t(1) << 40, 1}, {int64_t(1) << 40});
              }),
              HasSubstr("out of range"));
}

TEST(Checked, sizes_never_wrap) {
  EXPECT_EQ(checked_mul(int64_t(1) << 31, int64_t(1) << 31), int64_t(1) << 62);
  EXPECT_EQ(checked_add(kMost - 1, 1), kMost);
  EXPECT_EQ(error_of([] { checked_mul(int64_t(1) << 32, int64_t(1) << 31); }),
            "out of range: size 4294967296 x 2147483648 overflows");
  EXPECT_THAT(error_of([] { checked_add(kMost, 1); }), HasSubstr("out of range"));
}

}  // namespace
}  // namespace evenflow
