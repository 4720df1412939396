// SPDX-License-Identifier: Apache-2.0
#include "evenflow/data/survey.h"

#include <gmock/gmock.h>

#include <cmath>
#include <random>

#include "evenflow/data/digits.h"
#include "evenflow/data/files.h"

namespace evenflow::data {
namespace {
using testing::HasSubstr;

std::string warnings(const Survey& s) {
  std::string all;
  for (auto& w : s.warnings) all += w.what + "\n";
  return all;
}

TEST(Survey, CountsAndMeasures) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<float> x;
  std::vector<int64_t> y;
  for (int i = 0; i < 5000; ++i) {
    x.push_back(normal(random)), x.push_back(7 + 2 * normal(random));
    y.push_back(int64_t(random() % 3));
  }
  const Survey s = survey(Dataset(tensor(x, {5000, 2}), tensor(y, {5000})));
  EXPECT_EQ(s.rows, 5000);
  EXPECT_TRUE(s.is_whole);
  EXPECT_EQ(warnings(s), "");
  ASSERT_EQ(s.columns[0].channels.size(), 2u);
  // By f64 sums over the same values.
  for (size_t k = 0; k < 2; ++k) {
    double sum = 0, squares = 0;
    for (size_t i = k; i < x.size(); i += 2) sum += double(x[i]);
    for (size_t i = k; i < x.size(); i += 2) squares += std::pow(double(x[i]) - sum / 5000, 2);
    EXPECT_NEAR(s.columns[0].channels[k].mean, sum / 5000, 1e-12);
    EXPECT_NEAR(population_variance(s.columns[0].channels[k]), squares / 5000, 1e-12);
  }
  EXPECT_EQ(s.columns[0].low[0], double(*std::min_element(x.begin(), x.end())));
  EXPECT_LE(s.columns[0].sample.size(), 8192u);
  ASSERT_EQ(s.columns[1].classes.size(), 3u);
  EXPECT_EQ(s.columns[1].classes[2].first, "2");
  EXPECT_EQ(s.columns[1].classes[2].second, std::count(y.begin(), y.end(), 2));
  EXPECT_FALSE(survey(Dataset(tensor(x, {5000, 2}), tensor(y, {5000})), {.rows = 100}).is_whole);
  EXPECT_EQ(survey(digits()).columns[1].classes.size(), 10u);
}
TEST(Survey, WarnsOfWhatBatchNormSuffersFrom) {
  std::vector<float> x;
  std::vector<int64_t> y;
  for (int i = 0; i < 97; ++i) {
    x.insert(x.end(), {float(i % 7), 5, 1e6f * float(i % 3), 1000 + .001f * float(i % 2)});
    y.push_back(i < 90 ? 0 : 1);
  }
  x[4 * 50] = NAN;
  const Survey s = survey(Dataset(tensor(x, {97, 4}), tensor(y, {97})), {.batch_size = 32});
  const std::string w = warnings(s);
  EXPECT_THAT(w, HasSubstr("1 values of column 0 are not finite"));
  EXPECT_THAT(w, HasSubstr("1 of 4 channels of column 0 is constant"));
  EXPECT_THAT(w, HasSubstr("the deviations of column 0 differ by a factor of"));
  EXPECT_THAT(w, HasSubstr("1 of 4 channels of column 0 is more than 100 deviations from zero"));
  EXPECT_THAT(w, HasSubstr("the rows are sorted by column 1: the class changes 1 times"));
  EXPECT_THAT(w, HasSubstr("the classes of column 1 have 7 to 90 rows"));
  EXPECT_THAT(w, HasSubstr("97 rows in batches of 32 leave a last batch of one"));
  EXPECT_EQ(s.warnings.size(), 7u);
}
TEST(Survey, RefusesBatches) {
  try {
    survey(range(10).batch(2));
    ADD_FAILURE() << "nothing was refused";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("expected rows"));
  }
}

}  // namespace
}  // namespace evenflow::data
