// SPDX-License-Identifier: Apache-2.0
#include "evenflow/backends/cpu/engine_onednn.h"

#include <gtest/gtest.h>

#include "evenflow/backends/cpu/features.h"

namespace evenflow::cpu {
namespace {

// Runs once for each set: cmake/Tests.cmake.
TEST(OneDnnEngine, is_held_to_the_limit) {
  ASSERT_TRUE(onednn_engine());
  const auto limit = isa_limit();
  const auto most = dnnl::get_effective_cpu_isa();
  if (limit == Isa::sse4)
    EXPECT_EQ(most, dnnl::cpu_isa::sse41);
  else if (limit == Isa::avx2)
    EXPECT_EQ(most, dnnl::cpu_isa::avx2);
  else if (limit == Isa::avx512)
    EXPECT_EQ(most, dnnl::cpu_isa::avx512_core);
  else
    EXPECT_GE(int(most), int(dnnl::cpu_isa::sse41));
}

}  // namespace
}  // namespace evenflow::cpu
