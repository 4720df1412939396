// SPDX-License-Identifier: Apache-2.0
// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011). A draw is a pure function of (key, counter), so its bits do not depend on
// threads or order.
#pragma once
#include <array>
#include <cmath>
#include <cstdint>

namespace evenflow {

struct Philox {
  uint64_t key;
  /// Four words for one counter.
  std::array<uint32_t, 4> operator()(uint64_t stream, uint64_t counter) const {
    uint32_t c0 = uint32_t(counter), c1 = uint32_t(counter >> 32), c2 = uint32_t(stream),
             c3 = uint32_t(stream >> 32);
    uint32_t k0 = uint32_t(key), k1 = uint32_t(key >> 32);
    for (int round = 0; round < 10; ++round) {
      const uint64_t a = uint64_t(0xD2511F53u) * c0, b = uint64_t(0xCD9E8D57u) * c2;
      const uint32_t n0 = uint32_t(b >> 32) ^ c1 ^ k0, n2 = uint32_t(a >> 32) ^ c3 ^ k1;
      c1 = uint32_t(b), c3 = uint32_t(a), c0 = n0, c2 = n2;
      k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    return {c0, c1, c2, c3};
  }
};
/// Uniform in [0, 1), 24 bits.
inline float uniform_f32(uint32_t word) { return float(word >> 8) * 0x1p-24f; }
/// Uniform in [0, 1), 53 bits.
inline double uniform_f64(uint32_t high, uint32_t low) {
  return double((uint64_t(high) << 32 | low) >> 11) * 0x1p-53;
}

}  // namespace evenflow
