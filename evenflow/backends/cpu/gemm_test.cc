// SPDX-License-Identifier: Apache-2.0
#include "evenflow/backends/cpu/gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "evenflow/backends/cpu/convert.h"
#include "evenflow/core/parallel.h"

namespace evenflow::cpu {
namespace {

std::vector<double> numbers(int64_t n, int seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  std::vector<double> v(n);
  for (double& x : v) x = normal(random);
  return v;
}

struct Data {
  std::vector<char> bytes;
  std::vector<double> values;  // as stored
  Data(DType dtype, int64_t n, int seed) : bytes(size_t(n * size_of(dtype)) + 1), values(n) {
    const auto v = numbers(n, seed);
    from_f64(dtype, v.data(), n, bytes.data());
    to_f64(dtype, bytes.data(), n, values.data());
  }
};

// `gap` elements between rows, filled with what must not change.
void check(Gemm g, DType in, DType out, int64_t gap = 0) {
  const int64_t ra = g.trans_a ? g.k : g.m, ca = g.trans_a ? g.m : g.k;
  const int64_t rb = g.trans_b ? g.n : g.k, cb = g.trans_b ? g.k : g.n;
  g.lda = ca + gap, g.ldb = cb + gap, g.ldc = g.n + gap;
  if (g.batch > 1) {
    if (g.stride_a >= 0)
      g.stride_a = ra * g.lda;
    else
      g.stride_a = 0;
    if (g.stride_b >= 0)
      g.stride_b = rb * g.ldb;
    else
      g.stride_b = 0;
    g.stride_c = g.m * g.ldc;
  }
  const Data a(in, g.batch * ra * g.lda + 1, 1), b(in, g.batch * rb * g.ldb + 1, 2);
  Data c(out, g.batch * g.m * g.ldc + 1, 3);
  gemm(g, in, a.bytes.data(), b.bytes.data(), out, c.bytes.data());
  std::vector<double> y(c.values.size());
  to_f64(out, c.bytes.data(), int64_t(y.size()), y.data());
  const double unit = out == DType::f64    ? 1e-15
                      : out == DType::f32  ? 4e-7
                      : out == DType::bf16 ? 4e-3
                                           : 5e-4;
  for (int64_t i = 0; i < g.batch; ++i)
    for (int64_t r = 0; r < g.m; ++r)
      for (int64_t x = 0; x < g.ldc; ++x) {
        const int64_t at = i * g.stride_c + r * g.ldc + x;
        if (x >= g.n) {
          ASSERT_EQ(y[at], c.values[at]) << "a gap was written";
          continue;
        }
        double sum = g.accumulate ? c.values[at] : 0, size = std::abs(sum);
        for (int64_t p = 0; p < g.k; ++p) {
          const double l = a.values[i * g.stride_a + (g.trans_a ? p * g.lda + r : r * g.lda + p)];
          const double q = b.values[i * g.stride_b + (g.trans_b ? x * g.ldb + p : p * g.ldb + x)];
          sum += l * q, size += std::abs(l * q);
        }
        ASSERT_NEAR(y[at], sum, unit * (size + 1e-30) + (out == in ? unit * std::abs(sum) : 0))
            << g.m << "x" << g.n << "x" << g.k << " at " << i << "," << r << "," << x << " "
            << str(in) << str(out) << g.trans_a << g.trans_b;
      }
}

TEST(Gemm, AgainstLoops) {
  for (auto [m, n, k] : {std::array<int64_t, 3>{1, 1, 1},
                         {1, 10, 100},
                         {10, 1, 7},
                         {6, 64, 128},
                         {7, 65, 129},
                         {60, 100, 100},
                         {5, 300, 3},
                         {60, 10, 100},
                         {100, 10, 60},
                         {97, 33, 150},
                         {1, 1000, 300},
                         {13, 17, 400}})
    for (bool trans_a : {false, true})
      for (bool trans_b : {false, true}) {
        for (DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16})
          check({.trans_a = trans_a, .trans_b = trans_b, .m = m, .n = n, .k = k}, dtype, dtype);
        check({.trans_a = trans_a, .trans_b = trans_b, .m = m, .n = n, .k = k, .accumulate = true},
              DType::f32, DType::f32, 5);
        check({.trans_a = trans_a, .trans_b = trans_b, .m = m, .n = n, .k = k, .accumulate = true},
              DType::bf16, DType::f32, 3);
        check({.trans_a = trans_a, .trans_b = trans_b, .m = m, .n = n, .k = k, .accumulate = true},
              DType::bf16, DType::bf16, 1);
      }
}

TEST(Gemm, Large) {
  for (bool trans_a : {false, true})
    for (bool trans_b : {false, true})
      for (DType dtype : {DType::f32, DType::bf16})
        check({.trans_a = trans_a, .trans_b = trans_b, .m = 210, .n = 220, .k = 230}, dtype,
              DType::f32, 2);
}

TEST(Gemm, Batched) {
  for (DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    for (bool trans_b : {false, true}) {
      check({.trans_b = trans_b, .m = 9, .n = 20, .k = 30, .batch = 40}, dtype, dtype, 1);
      check({.trans_b = trans_b, .m = 9, .n = 20, .k = 30, .batch = 5, .stride_b = -1}, dtype,
            dtype);
      check({.trans_b = trans_b, .m = 9, .n = 20, .k = 30, .batch = 5, .stride_a = -1}, dtype,
            dtype);
    }
    check({.m = 170, .n = 180, .k = 190, .batch = 3, .stride_a = -1}, dtype, dtype);
  }
}

TEST(Gemm, NothingToSum) {
  std::vector<float> c(6, 5);
  const float x = 0;
  gemm({.m = 2, .n = 3, .k = 0}, DType::f32, &x, &x, DType::f32, c.data());
  EXPECT_EQ(c, std::vector<float>(6, 0));
  c.assign(6, 5);
  gemm({.m = 2, .n = 3, .k = 0, .accumulate = true}, DType::f32, &x, &x, DType::f32, c.data());
  gemm({.m = 0, .n = 3, .k = 4}, DType::f32, &x, &x, DType::f32, c.data());
  gemm({.m = 2, .n = 0, .k = 4}, DType::f32, &x, &x, DType::f32, c.data());
  EXPECT_EQ(c, std::vector<float>(6, 5));
}

TEST(Gemm, Refusals) {
  float x[16] = {};
  EXPECT_THROW(gemm({.m = -1, .n = 2, .k = 2}, DType::f32, x, x, DType::f32, x), Error);
  EXPECT_THROW(gemm({.m = 2, .n = 2, .k = 2, .lda = 1}, DType::f32, x, x, DType::f32, x), Error);
  EXPECT_THROW(gemm({.m = 2, .n = 2, .k = 2}, DType::i32, x, x, DType::i32, x), Error);
  EXPECT_THROW(gemm({.m = 2, .n = 2, .k = 2}, DType::f32, x, x, DType::bf16, x), Error);
  EXPECT_THROW(gemm({.m = 2, .n = 2, .k = 2, .batch = 2}, DType::f32, x, x, DType::f32, x), Error);
}

TEST(Gemm, SameBitsForAnyNumberOfThreads) {
  const int before = thread_count();
  for (auto [m, n, k] : {std::array<int64_t, 3>{60, 100, 784}, {784, 100, 60}, {300, 301, 302}}) {
    std::vector<float> a(m * k), b(k * n), c(m * n), first;
    const auto va = numbers(m * k, 1), vb = numbers(k * n, 2);
    from_f64(DType::f32, va.data(), m * k, a.data());
    from_f64(DType::f32, vb.data(), k * n, b.data());
    for (int threads : {1, 2, 3, 8}) {
      set_thread_count(threads);
      gemm({.m = m, .n = n, .k = k, .same_bits = true}, DType::f32, a.data(), b.data(), DType::f32,
           c.data());
      if (threads == 1) first = c;
      EXPECT_EQ(c, first);
    }
  }
  set_thread_count(before);
}

// Parts of the sum of few rows share the panels of a transposed B: each packs its own part of them.
TEST(Gemm, PartsOfTheSumDoNotPackEachOthersPanels) {
  const int before = thread_count();
  const int64_t m = 60, n = 102, k = 840;
  std::vector<float> a(m * k), b(n * k), c(m * n), first;
  const auto va = numbers(m * k, 1), vb = numbers(n * k, 2);
  from_f64(DType::f32, va.data(), m * k, a.data());
  from_f64(DType::f32, vb.data(), n * k, b.data());
  for (int run = 0; run < 300; ++run) {
    set_thread_count(run ? 2 + run % 2 : 1);
    gemm({.trans_b = true, .m = m, .n = n, .k = k, .same_bits = true}, DType::f32, a.data(),
         b.data(), DType::f32, c.data());
    if (!run) first = c;
    ASSERT_EQ(c, first) << "run " << run;
  }
  set_thread_count(before);
}

}  // namespace
}  // namespace evenflow::cpu
