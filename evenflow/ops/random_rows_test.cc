// SPDX-License-Identifier: Apache-2.0
// Random numbers by the element of a batch: by their distributions, and by what they depend on.
#include <gtest/gtest.h>

#include "evenflow/ops/random.h"
#include "evenflow/ops/reduce.h"

namespace evenflow {
namespace {

Tensor draw() { return tensor(std::vector<int64_t>{7, 3}, {2}); }
double mean(const Tensor& x) { return moments(x).mean.to_vector<double>()[0]; }
double variance(const Tensor& x) { return moments(x).variance.to_vector<double>()[0]; }

TEST(RandomRows, HaveTheirMeanAndVariance) {
  const Tensor like = zeros({20000, 3}), u = random_uniform_rows(draw(), like, {}, 0, -1, 2),
               g = random_normal_rows(draw(), like, {}, 1, 1, 2);
  EXPECT_NEAR(mean(u), .5, .02);
  EXPECT_NEAR(variance(u), 9. / 12, .02);
  EXPECT_NEAR(mean(g), 1, .03);
  EXPECT_NEAR(variance(g), 4, .08);
  for (float alpha : {.2f, 1.f, 5.f}) {  // of Beta(a, a): 1/2, and 1 / (4 (2 a + 1))
    const Tensor b = random_beta_rows(draw(), like, tensor(std::vector<float>{alpha}, {1}), {}, 2);
    EXPECT_NEAR(mean(b), .5, .01) << alpha;
    EXPECT_NEAR(variance(b), 1 / (4 * (2 * double(alpha) + 1)), .005) << alpha;
  }
}
TEST(RandomRows, DependOnTheElementAndTheStreamAlone) {
  auto of = [](std::vector<int64_t> index, int64_t stream) {
    const int64_t n = int64_t(index.size());
    return random_uniform_rows(draw(), zeros({n, 2}), tensor(index, {n}), stream)
        .to_vector<float>();
  };
  const auto a = of({0, 9, 4}, 0), b = of({4, 0}, 0);
  EXPECT_EQ(std::vector<float>(a.begin() + 4, a.end()),
            std::vector<float>(b.begin(), b.begin() + 2));
  EXPECT_EQ(std::vector<float>(a.begin(), a.begin() + 2),
            std::vector<float>(b.begin() + 2, b.end()));
  EXPECT_NE(of({0, 9, 4}, 1), a);
}

}  // namespace
}  // namespace evenflow
