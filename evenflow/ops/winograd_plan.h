// SPDX-License-Identifier: Apache-2.0
// How the Winograd kernels cut their work and lay out their scratch memory. Depends on sizes and
// on the lanes of a vector alone.
#pragma once
#include <algorithm>

#include "evenflow/ops/winograd_rules.h"

namespace evenflow::cpu {

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

/// Tiles are transformed some at a time, a block. Transformed values lie [point][vector of
/// channels][tile][lane], points kWinogradPad floats further apart than need be: a power of two
/// between them would throw them out of the first cache. The last vector ends with the last
/// channel, and overlaps its neighbour.
inline constexpr int64_t kWinogradPad = 16;

/// Transformed values lie beside u in the second cache; where u alone is too much for it, more
/// tiles make it be read less often.
inline int64_t winograd_block(int64_t ci, int64_t co) {
  const int64_t pairs = ci * co;
  return pairs <= 32 * 32 ? 32 : pairs <= 64 * 64 ? 16 : pairs <= 128 * 128 ? 32 : 64;
}

struct WinogradPlan {
  WinogradGeometry g;
  int64_t lanes, vi, vo;     // vectors of input and output channels
  int64_t block, blocks;     // tiles of a block; blocks of all images
  int64_t grain, chunks;     // blocks to a chunk
  int64_t point_i, point_o;  // floats from point to point
  int64_t zeros, slot;       // floats: of a row of zeros; of what a chunk needs
  int64_t packed = 0;        // forward: of u with rows of a vector, where co is less
  int64_t ci_block = 0, co_block = 0,
          pairs = 1;    // kernel gradient: channels that are taken at once
  bool direct = false;  // kernel gradient: a chunk's sum is the result
  int64_t partial = 0;  // kernel gradient: floats of a chunk's sum
  int64_t slots = 0;    // chunks at work at once
  int64_t bytes() const { return 4 * (packed + slots * slot + chunks * partial); }
};

}  // namespace evenflow::cpu
