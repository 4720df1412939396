// SPDX-License-Identifier: Apache-2.0
#include "evenflow/data/digits.h"

namespace evenflow::data {

// Written by cmake/Embed.cmake from data/digits.bin: 1797 x 64 levels of 0..16, then 1797 labels.
extern const unsigned char kDigits[];
extern const long kDigitsSize;

Dataset digits() {
  constexpr int64_t kCount = 1797, kPixels = 64;
  if (kDigitsSize != kCount * (kPixels + 1))
    fail(Code::Internal,
         {"digits: ", kDigitsSize, " bytes are embedded, expected ", kCount * (kPixels + 1)});
  std::vector<float> x(size_t(kCount * kPixels));
  for (size_t i = 0; i < x.size(); ++i) x[i] = float(kDigits[i]) / 16;
  std::vector<int64_t> y(kDigits + kCount * kPixels, kDigits + kDigitsSize);
  return Dataset(tensor(x, {kCount, 8, 8, 1}), tensor(y, {kCount}));
}

}  // namespace evenflow::data
