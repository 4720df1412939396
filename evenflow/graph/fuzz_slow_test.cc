// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "tests/random_graphs.h"

TEST(RandomGraphs, six_thousand_are_the_same_in_all_modes) {
  for (uint32_t seed = 300; seed < 6300; ++seed)
    EXPECT_EQ(evenflow::engine::differences(seed), "") << "seed " << seed;
}
