// SPDX-License-Identifier: Apache-2.0
#include "evenflow/core/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace evenflow {
namespace {

bool same(const Stats& a, const Stats& b) { return a.n == b.n && a.mean == b.mean && a.m2 == b.m2; }

TEST(Statistics, NothingIsTheIdentity) {
  const Stats s{3, -0.1, 0.7}, nothing;
  EXPECT_TRUE(same(merge(s, nothing), s));
  EXPECT_TRUE(same(merge(nothing, s), s));
  EXPECT_TRUE(same(merge(nothing, nothing), nothing));
  const Stats odd{0, NAN, NAN};  // whatever n = 0 carries
  EXPECT_TRUE(same(merge(s, odd), s));
  EXPECT_EQ(population_variance(nothing), 0);
  EXPECT_EQ(sample_variance({1, 5, 0}), 0);
  EXPECT_EQ(population_variance({2, 0, 8}), 4);
  EXPECT_EQ(sample_variance({2, 0, 8}), 8);
}

TEST(Statistics, MergeEqualsTheWhole) {
  std::mt19937 random(1);
  std::normal_distribution<double> normal(1e4, 1);
  std::vector<double> x(20000);
  for (double& v : x) v = normal(random);
  double mean = 0, m2 = 0;
  for (double v : x) mean += (v - 1e4) / double(x.size());
  mean += 1e4;
  for (double v : x) m2 += (v - mean) * (v - mean);
  for (size_t part : {1, 3, 100, 7001}) {
    Stats all;
    for (size_t b = 0; b < x.size(); b += part) {
      Stats s;
      for (size_t i = b; i < std::min(x.size(), b + part); ++i) s = add(s, x[i]);
      all = merge(all, s);
    }
    EXPECT_EQ(all.n, 20000);
    EXPECT_NEAR(all.mean, mean, 1e-9);
    EXPECT_NEAR(all.m2 / m2, 1, 1e-10);
  }
}

TEST(Statistics, WeightsCountAsCopies) {
  Stats weighted, copied;
  for (int i = 1; i < 6; ++i) {
    weighted = add(weighted, i * i, i);
    for (int k = 0; k < i; ++k) copied = add(copied, i * i);
  }
  EXPECT_EQ(weighted.n, copied.n);
  EXPECT_NEAR(weighted.mean, copied.mean, 1e-12);
  EXPECT_NEAR(weighted.m2, copied.m2, 1e-9);
}

TEST(Statistics, InfinityIsNotHidden) {
  const Stats s = merge({2, 1, 0}, {1, INFINITY, 0});
  EXPECT_FALSE(std::isfinite(s.mean));
  EXPECT_FALSE(std::isfinite(s.m2));
}

}  // namespace
}  // namespace evenflow
