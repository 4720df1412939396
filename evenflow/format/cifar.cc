// SPDX-License-Identifier: Apache-2.0
#include "evenflow/format/cifar.h"

#include "evenflow/core/error.h"

namespace evenflow::format {

void read_cifar(const CifarFormat& format, const char* record, uint8_t* image, int64_t* label) {
  constexpr int64_t plane = CifarFormat::kSide * CifarFormat::kSide;
  const int found = uint8_t(record[format.labels - 1]);
  if (found >= format.classes)
    fail(Code::DataLoss, {"cifar: label is ", found, ", expected 0 to ", format.classes - 1});
  *label = found;
  auto* pixels = reinterpret_cast<const uint8_t*>(record + format.labels);
  for (int64_t i = 0; i < plane; ++i)
    for (int64_t c = 0; c < 3; ++c) image[i * 3 + c] = pixels[c * plane + i];
}

}  // namespace evenflow::format
