// SPDX-License-Identifier: Apache-2.0
#include "evenflow/format/gzip.h"

#include <gmock/gmock.h>

namespace evenflow::format {
namespace {

std::string bytes(std::initializer_list<int> values) {
  std::string s;
  for (int v : values) s += char(v);
  return s;
}
// Python: gzip.compress(b"even flow", mtime=0)
const std::string kEvenFlow =
    bytes({0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0x4b, 0x2d, 0x4b, 0xcd, 0x53,
           0x48, 0xcb, 0xc9, 0x2f, 0x07, 0x00, 0x52, 0x63, 0xf7, 0xc3, 0x09, 0x00, 0x00, 0x00});
Code refused(const std::string& b, int64_t max = 1000) {
  try {
    gunzip(b, "x.gz", max);
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), testing::HasSubstr("x.gz"));
    return e.code();
  }
  return Code::Internal;
}

TEST(Gzip, Inflates) {
  EXPECT_TRUE(is_gzip(kEvenFlow));
  EXPECT_FALSE(is_gzip("even"));
  EXPECT_EQ(gunzip(kEvenFlow), "even flow");
  EXPECT_EQ(gunzip(kEvenFlow + kEvenFlow), "even floweven flow");  // RFC 1952, 2.2
}
TEST(Gzip, RefusesWhatIsDamaged) {
  for (size_t n = 0; n < kEvenFlow.size(); ++n)
    EXPECT_EQ(refused(kEvenFlow.substr(0, n)), Code::DataLoss) << n;
  for (size_t i = 10; i < kEvenFlow.size(); ++i) {
    std::string damaged = kEvenFlow;
    damaged[i] = char(damaged[i] ^ 0x11);
    EXPECT_EQ(refused(damaged), Code::DataLoss) << i;
  }
  EXPECT_EQ(refused(kEvenFlow + "more"), Code::DataLoss);
  EXPECT_EQ(refused(kEvenFlow, 8), Code::ResourceExhausted);
  EXPECT_EQ(gunzip(kEvenFlow, "x.gz", 9), "even flow");
}

}  // namespace
}  // namespace evenflow::format
