// SPDX-License-Identifier: Apache-2.0
#include "evenflow/backends/cpu/features.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>

#include <cstdint>
#endif

namespace evenflow::cpu {

#if defined(__x86_64__) && defined(__GNUC__)
namespace {
bool detect() {
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
  static const bool has = detect();
  return has;
}
#else
bool has_amx_bf16() { return false; }
#endif

}  // namespace evenflow::cpu
