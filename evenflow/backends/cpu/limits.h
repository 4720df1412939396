// SPDX-License-Identifier: Apache-2.0
// What this machine gives at the most, measured: the yardstick of a profile.
#pragma once
#include <map>

namespace evenflow::cpu {

/// Measures when it is made, in some tenths of a second, on thread_count() threads. On a machine
/// with other work the limits are those of what is left.
class Limits {
 public:
  Limits();
  int threads = 1;
  double flops_per_s =
      0;  ///< multiply-adds of f32 vectors in registers, two FLOPs each, all threads
  /// Bytes read and written by all threads together when each copies `bytes` (half read, half
  /// written) again and again: a figure of the cache that holds them, or of memory.
  double copy_bytes_per_s(double bytes) const;

 private:
  std::map<int, double> copies_;  // by the power of two of bytes
};

}  // namespace evenflow::cpu
