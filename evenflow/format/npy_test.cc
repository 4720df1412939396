// SPDX-License-Identifier: Apache-2.0
#include "evenflow/format/npy.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

namespace evenflow::format {
namespace {

std::string file_of(std::string dict, std::string body, int version = 1) {
  dict += '\n';
  std::string out("\x93NUMPY", 6);
  out += {char(version), 0};
  for (int i = 0; i < (version == 1 ? 2 : 4); ++i) out += char(dict.size() >> 8 * i & 255);
  return out + dict + body;
}

template <class T>
std::string raw(std::initializer_list<T> values) {
  return {reinterpret_cast<const char*>(values.begin()), values.size() * sizeof(T)};
}

template <class T>
std::vector<T> values(const Array& a) {
  EXPECT_EQ(a.sig.dtype, dtype_of<T>);
  const auto* p = static_cast<const T*>(a.data->data());
  return std::vector<T>(p, p + a.sig.shape.count());
}

Code code_of(std::string_view bytes, std::string* message = nullptr) {
  try {
    parse_npy(bytes, "x.npy");
  } catch (const Error& e) {
    if (message) *message = e.what();
    return e.code();
  }
  ADD_FAILURE() << "accepted";
  return Code::Internal;
}

TEST(Npy, RoundTripOfEveryType) {
  for (int d = 0; d < kDTypes; ++d) {
    for (const Shape& shape : {Shape{}, Shape{3}, Shape{2, 0, 3}, Shape{2, 3, 4}}) {
      Array a = make_array({DType(d), shape});
      auto* p = static_cast<char*>(a.data->data());
      for (int64_t i = 0; i < a.sig.bytes(); ++i)
        p[i] = char(DType(d) == DType::boolean ? i & 1 : i);
      const Array b = parse_npy(npy_bytes(a));
      EXPECT_EQ(b.sig.shape, shape);
      if (DType(d) == DType::bf16) {
        ASSERT_EQ(b.sig.dtype, DType::f32);
        for (int64_t i = 0; i < shape.count(); ++i) {
          EXPECT_EQ(static_cast<const float*>(b.data->data())[i],
                    float(static_cast<const bf16*>(a.data->data())[i]));
        }
      } else {
        EXPECT_EQ(b.sig, a.sig);
        EXPECT_EQ(std::memcmp(b.data->data(), p, size_t(a.sig.bytes())), 0);
      }
    }
  }
}

TEST(Npy, SameBytesAsNumPy) {
  Array a = make_array({DType::i64, {5}});
  std::memset(a.data->data(), 0, 40);
  std::string header = "{'descr': '<i8', 'fortran_order': False, 'shape': (5,), }";
  header.append(117 - header.size(), ' ');
  EXPECT_EQ(npy_bytes(a), file_of(header, std::string(40, '\0')));
}

TEST(Npy, Versions) {
  for (int version : {1, 2, 3}) {
    const Array a = parse_npy(file_of("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}",
                                      raw({1.f, 2.f}), version));
    EXPECT_EQ(values<float>(a), (std::vector<float>{1, 2}));
  }
}

TEST(Npy, ByteOrderAndFortranOrder) {
  const std::string big("\x3f\x80\0\0\x40\0\0\0\x40\x40\0\0\x40\x80\0\0\x40\xa0\0\0\x40\xc0\0\0",
                        24);
  EXPECT_EQ(values<float>(parse_npy(
                file_of("{'descr': '>f4', 'fortran_order': False, 'shape': (2, 3)}", big))),
            (std::vector<float>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(values<float>(parse_npy(
                file_of("{'descr': '>f4', 'fortran_order': True, 'shape': (2, 3)}", big))),
            (std::vector<float>{1, 3, 5, 2, 4, 6}));
}

TEST(Npy, NarrowIntegersAreWidened) {
  const auto of = [](const std::string& descr, const std::string& body) {
    return parse_npy(
        file_of("{\"descr\": \"" + descr + "\", 'fortran_order': False, 'shape': (2, )}", body));
  };
  EXPECT_EQ(values<int32_t>(of("|i1", raw<int8_t>({-1, 2}))), (std::vector<int32_t>{-1, 2}));
  EXPECT_EQ(values<int32_t>(of("<i2", raw<int16_t>({-1, 2}))), (std::vector<int32_t>{-1, 2}));
  EXPECT_EQ(values<int32_t>(of("<u2", raw<uint16_t>({65535, 2}))),
            (std::vector<int32_t>{65535, 2}));
  EXPECT_EQ(values<int64_t>(of("<u4", raw<uint32_t>({4294967295u, 2}))),
            (std::vector<int64_t>{4294967295, 2}));
  EXPECT_EQ(values<bool>(of("|b1", raw<uint8_t>({7, 0}))), (std::vector<bool>{true, false}));
}

TEST(Npy, RefusesWhatItCannotHold) {
  for (const char* descr : {"<c8", "|O", "<U5", "|S3", "<u8", "|V2", "<f16", "<M8[s]", "f", ""}) {
    std::string message;
    EXPECT_EQ(
        code_of(file_of(concat({"{'descr': '", descr, "', 'fortran_order': False, 'shape': (0,)}"}),
                        ""),
                &message),
        Code::Unimplemented);
    EXPECT_NE(message.find("x.npy"), message.npos) << message;
  }
  EXPECT_EQ(code_of(file_of("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}",
                            raw({1.f}))),
            Code::Unimplemented);
  EXPECT_EQ(code_of(file_of("{'descr': '<f4', 'fortran_order': False, 'shape': "
                            "(1, 1, 1, 1, 1, 1, 1, 1, 1)}",
                            raw({1.f}))),
            Code::Unimplemented);
}

TEST(Npy, RefusesDamage) {
  const std::string body = raw({1.f, 2.f});
  const auto f4 = [&](const std::string& shape, const std::string& bytes) {
    return file_of("{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + "}", bytes);
  };
  for (const std::string& bytes :
       {std::string(),
        std::string("PK"),
        f4("(2,)", body + "x"),
        f4("(3,)", body),
        f4("(1152921504606846976,)", body),
        f4("(4294967296, 4294967296)", body),
        f4("(99999999999999999999999,)", body),
        f4("(0, 9223372036854775807, 2)", ""),
        f4("(-2,)", body),
        f4("(2.0,)", body),
        f4("2", body),
        f4("(2)", body),
        f4("(2,", body),
        f4("(2,), 'x': 1", body),
        f4("(2,), 'shape': (2,)", body),
        file_of("{'descr': '<f4', 'shape': (2,)}", body),
        file_of("", body),
        file_of("{'descr': '<f4", body),
        file_of("{'descr': '<f4', 'fortran_order': 1}", body),
        file_of("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} x", body),
        f4("(2,)", body).replace(6, 1, "\x09")}) {
    EXPECT_EQ(code_of(bytes), Code::DataLoss) << bytes;
  }
  std::string long_header = f4("(2,)", body);
  long_header[9] = '\x7f';
  EXPECT_EQ(code_of(long_header), Code::DataLoss);
}

TEST(Npy, EveryTruncationAndEveryByteFlip) {
  const std::string good =
      file_of("{'descr': '<i2', 'fortran_order': True, 'shape': (2, 3)}", std::string(12, 'a'));
  for (size_t n = 0; n < good.size(); ++n) EXPECT_EQ(code_of(good.substr(0, n)), Code::DataLoss);
  for (size_t i = 0; i < good.size(); ++i) {
    for (int flip = 1; flip < 256; ++flip) {
      std::string bytes = good;
      bytes[i] = char(bytes[i] ^ flip);
      try {
        parse_npy(bytes);
      } catch (const Error&) {
      }
    }
  }
}

TEST(Npy, Files) {
  const auto path = (std::filesystem::temp_directory_path() / "evenflow_npy_test.npy").string();
  Array a = make_array({DType::f64, {2}});
  static_cast<double*>(a.data->data())[0] = 1.5;
  static_cast<double*>(a.data->data())[1] = -2.5;
  write_npy(path, a);
  EXPECT_EQ(values<double>(read_npy(path)), (std::vector<double>{1.5, -2.5}));
  std::filesystem::remove(path);
  EXPECT_THROW(read_npy(path), Error);
}

}  // namespace
}  // namespace evenflow::format
