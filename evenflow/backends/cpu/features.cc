// SPDX-License-Identifier: Apache-2.0
#include "evenflow/backends/cpu/features.h"

#include <hwy/targets.h>

#include <cstdint>
#include <cstdlib>
#include <vector>

#include "evenflow/core/error.h"
#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#endif

namespace evenflow::cpu {
namespace {

struct Named {
  Isa isa;
  std::string_view name;
  int64_t target;  // of Highway, where a lower bit is a better one
};
// From the least to the best.
constexpr Named kNamed[] = {
#if HWY_ARCH_X86
    {Isa::sse4, "sse4", HWY_SSE4},
    {Isa::avx2, "avx2", HWY_AVX2},
    {Isa::avx512, "avx512", HWY_AVX3},
#elif HWY_ARCH_ARM
    {Isa::neon, "neon", HWY_NEON},
#endif
};

struct Setting {
  std::optional<Isa> limit;
  std::optional<Error> error;
};

Setting read_setting() {
  const char* text = std::getenv("EVENFLOW_ISA");
  if (!text || !*text) return {};
  try {
    const Isa limit = detail::isa_named(text, hwy::SupportedTargets() & HWY_TARGETS);
    for (const Named& n : kNamed)
      if (n.isa == limit) hwy::DisableTargets(n.target - 1);
    return {limit, {}};
  } catch (const Error& e) {
    return {{}, e};
  }
}

const Setting& setting() {
  static const Setting s = read_setting();
  return s;
}
// Kernels are chosen from their first call on: the limit is set before any, when the library is
// loaded. What is wrong with it is said when somebody asks.
[[maybe_unused]] const Setting& at_load = setting();

}  // namespace

std::string_view str(Isa isa) {
  for (const Named& n : kNamed)
    if (n.isa == isa) return n.name;
  return "";
}

Isa detail::isa_named(std::string_view name, int64_t targets) {
  const Named* asked = nullptr;
  std::vector<std::string> there;
  for (const Named& n : kNamed) {
    if (n.name == name) asked = &n;
    if (targets & n.target) there.emplace_back(n.name);
  }
  if (asked && targets & asked->target) return asked->isa;
  std::string expected = there.empty() ? "none on this machine" : there[0];
  for (size_t i = 1; i < there.size(); ++i)
    expected += (i + 1 == there.size() ? " or " : ", ") + there[i];
  fail(asked ? Code::Unimplemented : Code::InvalidArgument,
       {"EVENFLOW_ISA is ", name, asked ? ", which this machine has not" : "", ", expected ",
        expected});
}

std::optional<Isa> isa_limit() {
  const Setting& s = setting();
  if (s.error) throw Error(*s.error);
  return s.limit;
}

std::string isa_in_use() {
  if (const auto limit = isa_limit()) return std::string(str(*limit)) + " (EVENFLOW_ISA)";
  const int64_t has = hwy::SupportedTargets() & HWY_TARGETS, best = has & -has;
  std::string name = hwy::TargetName(best);
  for (const Named& n : kNamed)
    if (best <= n.target) name = n.name;
  return name;
}

#if defined(__x86_64__) && defined(__GNUC__)
namespace {
bool detect_amx_bf16() {
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) return false;  // OSXSAVE: xgetbv is there
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24;
  if ((d & (kBf16 | kTile)) != (kBf16 | kTile)) return false;
  uint32_t low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  constexpr uint32_t kTiles = 3u << 17;  // their configuration and data
  return (low & kTiles) == kTiles;
}
}  // namespace
bool has_amx_bf16() {
  static const bool has = !setting().limit && detect_amx_bf16();
  return has;
}
#else
bool has_amx_bf16() { return false; }
#endif

}  // namespace evenflow::cpu
