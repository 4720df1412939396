// SPDX-License-Identifier: Apache-2.0
#include "evenflow/core/checksum.h"

#include <array>
#include <cstring>

namespace evenflow {
namespace {
// Slicing by eight: a portable version reads about 2 GB/s, enough beside a disk.
constexpr auto kTables = [] {
  std::array<std::array<uint32_t, 256>, 8> t{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t c = i;
    for (int k = 0; k < 8; ++k) c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;
    t[0][i] = c;
  }
  for (uint32_t i = 0; i < 256; ++i)
    for (size_t k = 1; k < 8; ++k) t[k][i] = t[k - 1][i] >> 8 ^ t[0][t[k - 1][i] & 255];
  return t;
}();

#if defined(__x86_64__) && defined(__GNUC__)
// SSE4.2 has an instruction for eight bytes.
__attribute__((target("sse4.2"))) uint32_t by_instruction(const uint8_t* p, size_t bytes,
                                                          uint32_t crc) {
  uint64_t c = crc;
  for (; bytes >= 8; bytes -= 8, p += 8) {
    uint64_t v;
    std::memcpy(&v, p, 8);
    c = __builtin_ia32_crc32di(c, v);
  }
  crc = uint32_t(c);
  for (; bytes; --bytes, ++p) crc = __builtin_ia32_crc32qi(crc, *p);
  return crc;
}
const bool kHasInstruction = __builtin_cpu_supports("sse4.2");
#else
constexpr bool kHasInstruction = false;
uint32_t by_instruction(const uint8_t*, size_t, uint32_t crc) { return crc; }
#endif

}  // namespace

uint32_t detail::crc32c_by_tables(const void* data, size_t bytes, uint32_t crc) {
  auto* p = static_cast<const uint8_t*>(data);
  crc = ~crc;
  for (; bytes >= 8; bytes -= 8, p += 8) {
    const uint32_t a =
        crc ^ (uint32_t(p[0]) | uint32_t(p[1]) << 8 | uint32_t(p[2]) << 16 | uint32_t(p[3]) << 24);
    crc = kTables[7][a & 255] ^ kTables[6][a >> 8 & 255] ^ kTables[5][a >> 16 & 255] ^
          kTables[4][a >> 24] ^ kTables[3][p[4]] ^ kTables[2][p[5]] ^ kTables[1][p[6]] ^
          kTables[0][p[7]];
  }
  for (; bytes; --bytes, ++p) crc = crc >> 8 ^ kTables[0][(crc ^ *p) & 255];
  return ~crc;
}

uint32_t crc32c(const void* data, size_t bytes, uint32_t crc) {
  if (!kHasInstruction) return detail::crc32c_by_tables(data, bytes, crc);
  return ~by_instruction(static_cast<const uint8_t*>(data), bytes, ~crc);
}

}  // namespace evenflow
