// SPDX-License-Identifier: Apache-2.0
// What the batch-normalised net of the demo reaches, over five seeds.
#include <algorithm>
#include <regex>

#include "cli/command_testing.h"

namespace evenflow::cli {
namespace {

TEST(Demo, reaches_96_percent_by_epoch_3_and_97_at_the_end) {
  std::vector<double> third, last;
  for (int seed = 1; seed <= 5; ++seed) {
    Folder folder;
    const Said s = evenflow(
        {"demo", "--sweep", "none", "--seed", std::to_string(seed), "--out", folder / "demo"});
    ASSERT_EQ(s.status, 0) << s.err;
    std::vector<double> v;
    const std::regex value(R"(val_accuracy: (\d\.\d{4}))");
    for (std::sregex_iterator i(s.out.begin(), s.out.end(), value), end; i != end; ++i)
      v.push_back(std::stod((*i)[1]));
    ASSERT_EQ(v.size(), 16u);  // eight epochs without, then eight with batch normalisation
    third.push_back(*std::max_element(v.begin() + 8, v.begin() + 11));
    last.push_back(v.back());
    std::printf("seed %d: %.4f by epoch 3, %.4f at the end\n", seed, third.back(), last.back());
  }
  std::sort(third.begin(), third.end()), std::sort(last.begin(), last.end());
  EXPECT_GE(third[2], 0.96);
  EXPECT_GE(last[2], 0.97);
}

}  // namespace
}  // namespace evenflow::cli
