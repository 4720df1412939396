// SPDX-License-Identifier: Apache-2.0
#include "evenflow/backends/cpu/features.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <cstdlib>

#include "evenflow/core/device.h"
#include "evenflow/core/error.h"

namespace evenflow::cpu {
namespace {
using testing::HasSubstr;

std::string refusal(std::string_view name, int64_t targets, Code code) {
  try {
    detail::isa_named(name, targets);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code);
    return e.what();
  }
  return "accepted";
}

#if HWY_ARCH_X86
constexpr int64_t kMachine = HWY_SSE4 | HWY_AVX2;

TEST(Features, a_set_is_known_by_its_name) {
  EXPECT_EQ(detail::isa_named("sse4", kMachine), Isa::sse4);
  EXPECT_EQ(detail::isa_named("avx2", kMachine), Isa::avx2);
  EXPECT_EQ(detail::isa_named("avx512", kMachine | HWY_AVX3), Isa::avx512);
}
TEST(Features, a_set_that_is_not_there_is_refused) {
  EXPECT_EQ(refusal("avx512", kMachine, Code::Unimplemented),
            "EVENFLOW_ISA is avx512, which this machine has not, expected sse4 or avx2");
  EXPECT_EQ(refusal("sse4", HWY_SSSE3, Code::Unimplemented),
            "EVENFLOW_ISA is sse4, which this machine has not, expected none on this machine");
}
TEST(Features, an_unknown_name_is_refused) {
  for (const char* name : {"mmx", "AVX2", "avx", "avx2 ", "neon"})
    EXPECT_EQ(refusal(name, kMachine | HWY_AVX3, Code::InvalidArgument),
              std::string("EVENFLOW_ISA is ") + name + ", expected sse4, avx2 or avx512");
}
#elif HWY_ARCH_ARM
TEST(Features, an_unknown_name_is_refused) {
  EXPECT_EQ(detail::isa_named("neon", HWY_NEON), Isa::neon);
  EXPECT_EQ(refusal("avx2", HWY_NEON, Code::InvalidArgument),
            "EVENFLOW_ISA is avx2, expected neon");
}
#endif

// Runs once for each set: cmake/Tests.cmake.
TEST(Features, kernels_are_held_to_the_limit) {
  const char* asked = std::getenv("EVENFLOW_ISA");
  EXPECT_THAT(devices()[0].description, HasSubstr(isa_in_use()));
  if (!asked || !*asked) {
    EXPECT_FALSE(isa_limit());
    return;
  }
  EXPECT_EQ(str(isa_limit().value()), asked);
  EXPECT_EQ(isa_in_use(), std::string(asked) + " (EVENFLOW_ISA)");
  const std::string best = hwy::TargetName(hwy::SupportedAndGeneratedTargets().at(0));
  EXPECT_EQ(best, *isa_limit() == Isa::avx512 ? "AVX3"
                  : *isa_limit() == Isa::avx2 ? "AVX2"
                  : *isa_limit() == Isa::sse4 ? "SSE4"
                                              : "NEON");
  EXPECT_FALSE(has_amx_bf16());
}

}  // namespace
}  // namespace evenflow::cpu
