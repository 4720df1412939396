// SPDX-License-Identifier: Apache-2.0
#include "evenflow/format/idx.h"

#include "evenflow/format/cifar.h"
#include "evenflow/format/format_testing.h"

namespace evenflow::format {
namespace {

std::string bytes(std::initializer_list<int> values) {
  std::string s;
  for (int v : values) s += char(v);
  return s;
}
template <class T>
std::vector<T> values(const Array& a) {
  EXPECT_EQ(a.sig.dtype, dtype_of<T>);
  const auto* p = static_cast<const T*>(a.data->data());
  return std::vector<T>(p, p + a.sig.shape.count());
}

// The bytes are those of the format's description.
TEST(Idx, EveryType) {
  const Array u8 = parse_idx(bytes({0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 255}));
  EXPECT_EQ(u8.sig.shape, (Shape{2, 3}));
  EXPECT_EQ(values<uint8_t>(u8), (std::vector<uint8_t>{1, 2, 3, 4, 5, 255}));
  EXPECT_EQ(values<int32_t>(parse_idx(bytes({0, 0, 9, 1, 0, 0, 0, 2, 1, 255}))),
            (std::vector<int32_t>{1, -1}));
  EXPECT_EQ(values<int32_t>(parse_idx(bytes({0, 0, 11, 1, 0, 0, 0, 2, 1, 0, 255, 254}))),
            (std::vector<int32_t>{256, -2}));
  EXPECT_EQ(values<int32_t>(parse_idx(bytes({0, 0, 12, 1, 0, 0, 0, 1, 0, 1, 0, 2}))),
            (std::vector<int32_t>{65538}));
  EXPECT_EQ(values<float>(parse_idx(bytes({0, 0, 13, 1, 0, 0, 0, 1, 0x3f, 0xc0, 0, 0}))),
            (std::vector<float>{1.5f}));
  EXPECT_EQ(
      values<double>(parse_idx(bytes({0, 0, 14, 1, 0, 0, 0, 1, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0}))),
      (std::vector<double>{1.5}));
  EXPECT_EQ(parse_idx(bytes({0, 0, 8, 1, 0, 0, 0, 0})).sig.shape, Shape{0});
}

TEST(Idx, WhatIsWrongIsNamed) {
  const auto refused = [](Code code, std::initializer_list<std::string> words,
                          std::initializer_list<int> values) {
    expect_refused(code, words, [&] { parse_idx(bytes(values), "t.idx"); });
  };
  refused(Code::DataLoss, {"t.idx"}, {});
  refused(Code::DataLoss, {"does not begin"}, {0, 1, 8, 1});
  refused(Code::DataLoss, {"element type is 10", "byte 2"}, {0, 0, 10, 1, 0, 0, 0, 0});
  refused(Code::Unimplemented, {"rank is 9"}, {0, 0, 8, 9});
  refused(Code::DataLoss, {"within its header"}, {0, 0, 8, 2, 0, 0, 0, 1});
  refused(Code::DataLoss, {"9 bytes, expected 10"}, {0, 0, 8, 1, 0, 0, 0, 2, 1});
  refused(Code::DataLoss, {"10 bytes, expected 9"}, {0, 0, 8, 1, 0, 0, 0, 1, 1, 2});
  refused(Code::DataLoss, {"too large a product"},
          {0, 0, 14, 2, 255, 255, 255, 255, 255, 255, 255, 255});
  refused(Code::DataLoss, {"8 bytes, expected 4294967303"}, {0, 0, 8, 1, 255, 255, 255, 255});
}

// "The first 1024 bytes are the red channel values ... in row-major order" (the data's own page).
TEST(Cifar, PlanesBecomeChannels) {
  for (const CifarFormat& format : {kCifar10, kCifar100}) {
    std::string record(size_t(format.record_bytes()), '\0');
    record[0] = 7;
    if (format.labels == 2) record[1] = 42;
    const size_t at = size_t(format.labels);
    record[at + 33] = 10, record[at + 1024 + 33] = 20, record[at + 2048 + 33] = 30;
    std::vector<uint8_t> image(3072, 9);
    int64_t label = 0;
    read_cifar(format, record.data(), image.data(), &label);
    EXPECT_EQ(label, format.labels == 2 ? 42 : 7);
    EXPECT_THAT(std::vector<uint8_t>(image.begin() + 96, image.begin() + 102),
                testing::ElementsAre(0, 0, 0, 10, 20, 30));  // row 1, columns 0 and 1
    record[at - 1] = char(format.classes);
    expect_refused(Code::DataLoss, {concat({"label is ", format.classes})},
                   [&] { read_cifar(format, record.data(), image.data(), &label); });
  }
}

}  // namespace
}  // namespace evenflow::format
