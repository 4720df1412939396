// SPDX-License-Identifier: Apache-2.0
#include "evenflow/backends/cpu/limits.h"

#include <gtest/gtest.h>

#include "evenflow/core/parallel.h"

namespace evenflow::cpu {
namespace {

TEST(Limits, has_a_figure_for_any_size) {
  const Limits limits;
  EXPECT_EQ(limits.threads, thread_count());
  EXPECT_GT(limits.flops_per_s, 0);
  for (double bytes : {0., 1., 4096., 1e6, 1e15}) EXPECT_GT(limits.copy_bytes_per_s(bytes), 0);
}

}  // namespace
}  // namespace evenflow::cpu
