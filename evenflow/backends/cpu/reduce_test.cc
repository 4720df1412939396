// SPDX-License-Identifier: Apache-2.0
#include "evenflow/backends/cpu/reduce.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "evenflow/backends/cpu/convert.h"
#include "evenflow/core/parallel.h"

namespace evenflow::cpu {
namespace {

std::vector<float> numbers(int64_t n, int seed, float mean = 0, float deviation = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(mean, deviation);
  std::vector<float> v(n);
  for (float& x : v) x = normal(random);
  return v;
}

constexpr std::pair<int64_t, int64_t> kShapes[] = {
    {1, 1},     {1, 7},     {7, 1},     {5, 3},    {60, 100},  {100, 60},  {1000, 3},
    {3, 1000},  {777, 64},  {1000, 65}, {129, 16}, {4000, 10}, {2, 70000}, {70000, 2},
    {33, 5000}, {300, 513}, {2100, 96}, {0, 5},    {5, 0},     {65, 4099}};

TEST(Reduce, AgainstLoops) {
  for (const auto& [rows, columns] : kShapes) {
    const auto source = numbers(rows * columns, int(rows + columns), 0.3f);
    for (DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16}) {
      std::vector<char> x(source.size() * size_t(size_of(dtype)) + 1);
      from_f32(dtype, source.data(), rows * columns, x.data());
      std::vector<double> v(source.size());
      to_f64(dtype, x.data(), rows * columns, v.data());
      for (Reduction reduction : {Reduction::sum, Reduction::max, Reduction::min})
        for (bool by_rows : {true, false}) {
          const int64_t n = by_rows ? rows : columns;
          const double init = reduction == Reduction::sum   ? 0
                              : reduction == Reduction::max ? -INFINITY
                                                            : INFINITY;
          std::vector<double> expected(n, init), size(n, 0), y(n, 99);
          for (int64_t r = 0; r < rows; ++r)
            for (int64_t c = 0; c < columns; ++c) {
              const double e = v[r * columns + c];
              double& s = expected[by_rows ? r : c];
              s = reduction == Reduction::sum   ? s + e
                  : reduction == Reduction::max ? std::max(s, e)
                                                : std::min(s, e);
              size[by_rows ? r : c] += std::abs(e);
            }
          (by_rows ? reduce_rows : reduce_columns)(reduction, dtype, x.data(), rows, columns,
                                                   y.data());
          for (int64_t i = 0; i < n; ++i) {
            if (reduction == Reduction::sum) {
              ASSERT_NEAR(y[i], expected[i], 5e-7 * size[i])
                  << rows << "x" << columns << str(dtype) << by_rows << i;
            } else {
              ASSERT_EQ(y[i], expected[i]) << rows << "x" << columns << str(dtype) << by_rows << i;
            }
          }
        }
      for (bool by_rows : {true, false}) {
        const int64_t n = by_rows ? rows : columns, m = by_rows ? columns : rows;
        std::vector<Stats> y(n, Stats{7, 7, 7});
        (by_rows ? moments_rows : moments_columns)(dtype, x.data(), rows, columns, y.data());
        for (int64_t i = 0; i < n; ++i) {
          double mean = 0, m2 = 0;
          auto at = [&](int64_t k) { return by_rows ? v[i * columns + k] : v[k * columns + i]; };
          for (int64_t k = 0; k < m; ++k) mean += at(k) / double(m);
          for (int64_t k = 0; k < m; ++k) m2 += (at(k) - mean) * (at(k) - mean);
          ASSERT_EQ(y[i].n, double(m));
          ASSERT_NEAR(y[i].mean, mean, 1e-6)
              << rows << "x" << columns << str(dtype) << by_rows << i;
          ASSERT_NEAR(y[i].m2, m2, 1e-6 * m2 + 1e-12)
              << rows << "x" << columns << str(dtype) << by_rows << i;
        }
      }
    }
  }
}

TEST(Reduce, TenMillionFloats) {
  std::vector<float> x(10'000'000);
  for (size_t i = 0; i < x.size(); ++i) x[i] = 0.1f + float(i % 7);
  double exact = 0, y;
  for (float v : x) exact += double(v);
  reduce_rows(Reduction::sum, DType::f32, x.data(), 1, int64_t(x.size()), &y);
  EXPECT_NEAR(y / exact, 1, 1e-6);
  std::vector<double> c(100);
  reduce_columns(Reduction::sum, DType::f32, x.data(), 100'000, 100, c.data());
  double all = 0;
  for (double v : c) all += v;
  EXPECT_NEAR(all / exact, 1, 1e-6);
}

TEST(Reduce, LargeMeanKeepsTheVariance) {
  const int64_t rows = 16384, columns = 64;
  const auto x = numbers(rows * columns, 5, 1e4f, 1);
  std::vector<Stats> y(columns);
  moments_columns(DType::f32, x.data(), rows, columns, y.data());
  for (int64_t c = 0; c < columns; ++c) {
    double mean = 0, m2 = 0;
    for (int64_t r = 0; r < rows; ++r) mean += double(x[r * columns + c]) / double(rows);
    for (int64_t r = 0; r < rows; ++r) m2 += std::pow(double(x[r * columns + c]) - mean, 2);
    EXPECT_NEAR(y[c].mean / mean, 1, 1e-9);
    EXPECT_NEAR(y[c].m2 / m2, 1, 1e-6);
  }
  Stats all;
  moments_rows(DType::f32, x.data(), 1, rows * columns, &all);
  Stats merged;
  for (const Stats& s : y) merged = merge(merged, s);
  EXPECT_EQ(all.n, merged.n);
  EXPECT_NEAR(all.mean / merged.mean, 1, 1e-9);
  EXPECT_NEAR(all.m2 / merged.m2, 1, 1e-6);
}

TEST(Reduce, ConstantsHaveNoVariance) {
  const std::vector<float> x(5000, 1003.3f);
  std::vector<Stats> y(50);
  moments_columns(DType::f32, x.data(), 100, 50, y.data());
  for (const Stats& s : y) {
    EXPECT_EQ(s.mean, double(1003.3f));
    EXPECT_EQ(s.m2, 0);
  }
}

TEST(Reduce, NotANumberIsSeen) {
  for (int64_t rows : {1, 3, 100})
    for (int64_t at : {0, 1, 50, 99}) {
      auto x = numbers(rows * 100, 9);
      x[(rows - 1) * 100 + at] = NAN;
      for (Reduction reduction : {Reduction::sum, Reduction::max, Reduction::min}) {
        std::vector<double> r(rows), c(100);
        reduce_rows(reduction, DType::f32, x.data(), rows, 100, r.data());
        reduce_columns(reduction, DType::f32, x.data(), rows, 100, c.data());
        EXPECT_TRUE(std::isnan(r[rows - 1]));
        for (int64_t i = 0; i < 100; ++i) EXPECT_EQ(std::isnan(c[i]), i == at);
      }
      std::vector<Stats> s(100);
      moments_columns(DType::f32, x.data(), rows, 100, s.data());
      EXPECT_TRUE(std::isnan(s[at].mean));
    }
}

TEST(Reduce, SameBitsForAnyNumberOfThreads) {
  const int before = thread_count();
  for (const auto& [rows, columns] : {std::pair{5000, 48}, {4, 100000}, {100, 9000}}) {
    const auto x = numbers(int64_t(rows) * columns, 3);
    std::vector<double> first, second;
    for (int threads : {1, 2, 3, 7}) {
      set_thread_count(threads);
      std::vector<double> y(rows + columns);
      std::vector<Stats> s(rows + columns);
      reduce_rows(Reduction::sum, DType::f32, x.data(), rows, columns, y.data());
      reduce_columns(Reduction::sum, DType::f32, x.data(), rows, columns, y.data() + rows);
      moments_rows(DType::f32, x.data(), rows, columns, s.data());
      moments_columns(DType::f32, x.data(), rows, columns, s.data() + rows);
      for (const Stats& i : s) y.push_back(i.mean), y.push_back(i.m2);
      if (threads == 1) first = y;
      EXPECT_EQ(y, first) << threads;
    }
  }
  set_thread_count(before);
}

TEST(Reduce, RefusesIntegers) {
  int32_t x[4] = {};
  double y[4];
  EXPECT_THROW(reduce_rows(Reduction::sum, DType::i32, x, 2, 2, y), Error);
}

}  // namespace
}  // namespace evenflow::cpu
