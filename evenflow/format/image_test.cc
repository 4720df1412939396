// SPDX-License-Identifier: Apache-2.0
#include "evenflow/format/image.h"

#include <cmath>
#include <cstring>

#include "evenflow/format/format_testing.h"
#include "evenflow/format/npy.h"
#include "evenflow/format/resize.h"

namespace evenflow::format {
namespace {

Array npy(const std::string& name) { return read_npy(made_by_others(name + ".npy")); }

TEST(Image, DecodesAsTensorFlow) {
  int compared = 0;
  for (const auto& [file, by_channels] : values_of_others()["images"].items()) {
    const std::string bytes = read_file(made_by_others(file));
    for (const auto& [channels, name] : by_channels.items()) {
      SCOPED_TRACE(file + " " + channels);
      const ImageOptions options{.channels = std::stoi(channels)};
      const Array want = npy(name), got = decode_image(bytes, file, options);
      ASSERT_EQ(got.sig, want.sig);
      const auto *a = static_cast<const uint8_t*>(got.data->data()),
                 *b = static_cast<const uint8_t*>(want.data->data());
      for (int64_t i = 0; i < got.sig.shape.count(); ++i) ASSERT_EQ(int(a[i]), int(b[i])) << i;
      const ImageInfo info = image_info(bytes, file);
      EXPECT_EQ(info.height, want.sig.shape[0]);
      EXPECT_EQ(info.width, want.sig.shape[1]);
      ++compared;
    }
  }
  EXPECT_GE(compared, 45);
}

TEST(Image, AccurateAsPillow) {
  const Array want = npy("420_accurate");
  const Array got =
      decode_image(read_file(made_by_others("420.jpg")), "420.jpg", {.accurate = true});
  ASSERT_EQ(got.sig, want.sig);
  EXPECT_EQ(std::memcmp(got.data->data(), want.data->data(), size_t(got.sig.bytes())), 0);
}

TEST(Image, ResizesAsTensorFlow) {
  const Array image = npy("resized_from");
  const Shape& shape = image.sig.shape;
  int compared = 0;
  for (const auto& c : values_of_others()["resized"]) {
    const int64_t h = c["height"], w = c["width"], channels = c["channels"];
    SCOPED_TRACE(concat({h, " x ", w, " x ", channels}));
    const Array want = npy(c["file"]);
    std::vector<float> got(size_t(h * w * channels));
    BilinearRows rows(shape[0], shape[1], channels, h, w, got.data());
    std::vector<uint8_t> row(size_t(shape[1] * channels));
    const auto* from = static_cast<const uint8_t*>(image.data->data());
    for (int64_t y = 0; y < shape[0]; ++y) {
      for (int64_t x = 0; x < shape[1]; ++x)
        std::memcpy(row.data() + x * channels, from + (y * shape[1] + x) * 4, size_t(channels));
      rows.push(row.data());
    }
    EXPECT_THROW(rows.push(row.data()), Error);
    const auto* b = static_cast<const float*>(want.data->data());
    for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], b[i], 6e-5) << i;
    ++compared;
  }
  EXPECT_GE(compared, 16);
}

TEST(Image, DecodesAndResizes) {
  const Array want = npy("420_resized");
  std::vector<float> got(22 * 30 * 3);
  decode_image_resized(read_file(made_by_others("420.jpg")), "420.jpg", {.channels = 3}, 22, 30,
                       got.data());
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(got[i], static_cast<const float*>(want.data->data())[i], 6e-5) << i;
}

TEST(Image, ContentCountsNotTheName) {
  const std::string png = read_file(made_by_others("rgb.png"));
  EXPECT_EQ(image_info(png, "really.jpg").kind, ImageKind::png);
  EXPECT_EQ(image_info(read_file(made_by_others("420.jpg")), "x.png").kind, ImageKind::jpeg);
  for (const std::string& other :
       {std::string(), std::string("GIF89a"), std::string("\xff\xd8"), std::string(100, '\0')})
    expect_refused(Code::DataLoss, {"x.jpg", "neither JPEG nor PNG"},
                   [&] { decode_image(other, "x.jpg"); });
}

TEST(Image, LargeHeadersAreRefusedBeforeDecoding) {
  std::string png = read_file(made_by_others("rgb.png"));
  std::string jpeg = read_file(made_by_others("420.jpg"));
  const std::string size("\0\0\xc3\x50\0\0\xc3\x50", 8);  // 50,000 x 50,000
  png.replace(16, 8, size);
  // The header's own checksum, of CRC-32: of "IHDR" and 13 bytes.
  uint32_t crc = ~0u;
  for (size_t i = 12; i < 29; ++i) {
    crc ^= uint8_t(png[i]);
    for (int k = 0; k < 8; ++k) crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
  }
  for (int k = 0; k < 4; ++k) png[size_t(29 + k)] = char(~crc >> (24 - 8 * k));
  const size_t frame = jpeg.find(std::string("\xff\xc0\0\x11\x08", 5));
  ASSERT_NE(frame, jpeg.npos);
  jpeg.replace(frame + 5, 4, "\xc3\x50\xc3\x50");
  for (const std::string& bytes : {png, jpeg}) {
    for (const auto& f : {std::function<void()>([&] { image_info(bytes, "x"); }),
                          std::function<void()>([&] { decode_image(bytes, "x"); })})
      expect_refused(Code::ResourceExhausted, {"50000 x 50000 pixels, expected at most 67108864"},
                     f);
  }
  expect_refused(Code::ResourceExhausted, {"37 x 45 pixels, expected at most 1000"}, [] {
    decode_image(read_file(made_by_others("420.jpg")), "x", {.max_pixels = 1000});
  });
}

TEST(Image, DamagedAndTruncatedPictures) {
  for (const char* file : {"420.jpg", "progressive.jpg", "rgb.png", "interlaced.png"}) {
    const std::string bytes = read_file(made_by_others(file));
    for (size_t n = 8; n + 20 < bytes.size(); n += 1 + bytes.size() / 100)
      expect_refused(Code::DataLoss, {file}, [&] { decode_image(bytes.substr(0, n), file); });
  }
  std::string png = read_file(made_by_others("rgb.png"));
  png[png.size() / 2] = char(png[png.size() / 2] ^ 0x10);
  expect_refused(Code::DataLoss, {"x.png"}, [&] { decode_image(png, "x.png"); });
}

TEST(Image, ChannelsThatAPictureCannotHave) {
  const std::string jpeg = read_file(made_by_others("420.jpg"));
  for (const int channels : {2, 4, 5, -1})
    expect_refused(Code::InvalidArgument, {"channels"},
                   [&] { decode_image(jpeg, "x", {.channels = channels}); });
  expect_refused(Code::InvalidArgument, {"CMYK"}, [&] {
    decode_image(read_file(made_by_others("cmyk.jpg")), "x", {.channels = 1});
  });
  expect_refused(Code::InvalidArgument, {"channels is 5"},
                 [&] { decode_image(read_file(made_by_others("rgb.png")), "x", {.channels = 5}); });
  std::vector<float> to(12);
  expect_refused(Code::InvalidArgument, {"channels is 0"},
                 [&] { decode_image_resized(jpeg, "x", {}, 2, 2, to.data()); });
  expect_refused(Code::InvalidArgument, {"to [0,2]"},
                 [&] { decode_image_resized(jpeg, "x", {.channels = 3}, 0, 2, to.data()); });
}

TEST(Png, WhatIsWrittenIsReadAgain) {
  for (int64_t channels = 1; channels <= 4; ++channels) {
    const Array a = make_array({DType::u8, {5, 7, channels}});
    auto* v = static_cast<uint8_t*>(a.data->data());
    for (int64_t i = 0; i < a.sig.bytes(); ++i) v[i] = uint8_t(i * 37 + channels);
    const Array b = decode_image(png_bytes(a));
    EXPECT_EQ(b.sig, a.sig);
    EXPECT_EQ(std::memcmp(a.data->data(), b.data->data(), size_t(a.sig.bytes())), 0) << channels;
  }
  expect_refused(Code::InvalidArgument, {"f32[2,2,3]", "1 to 4 channels"}, [] {
    png_bytes(make_array({DType::f32, {2, 2, 3}}));
  });
  expect_refused(Code::InvalidArgument, {"u8[2,2,5]"}, [] {
    png_bytes(make_array({DType::u8, {2, 2, 5}}));
  });
}

}  // namespace
}  // namespace evenflow::format
