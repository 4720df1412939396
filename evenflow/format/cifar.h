// SPDX-License-Identifier: Apache-2.0
// The binary version of CIFAR-10 and CIFAR-100 (A. Krizhevsky, "Learning Multiple Layers of
// Features from Tiny Images", 2009): records of labels and a picture of 32 x 32 in three planes.
#pragma once
#include <cstdint>
#include <string_view>

namespace evenflow::format {

struct CifarFormat {
  int labels = 1;    ///< bytes before the picture: 1 (CIFAR-10), 2 (coarse and fine, CIFAR-100)
  int classes = 10;  ///< of the last label
  int64_t record_bytes() const { return labels + kPixels; }
  static constexpr int64_t kSide = 32, kPixels = 3 * kSide * kSide;
};
inline constexpr CifarFormat kCifar10{1, 10}, kCifar100{2, 100};

/// One record into a picture [32,32,3] and its (fine) label. Throws DataLoss for a label that is no
/// class.
void read_cifar(const CifarFormat& format, const char* record, uint8_t* image, int64_t* label);

}  // namespace evenflow::format
