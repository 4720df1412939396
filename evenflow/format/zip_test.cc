// SPDX-License-Identifier: Apache-2.0
#include "evenflow/format/zip.h"

#include <gtest/gtest.h>
#include <zip.h>

#include <cstring>
#include <thread>

#include "evenflow/format/npz.h"

namespace evenflow::format {
namespace {

template <class F>
Error error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e;
  }
  ADD_FAILURE() << "no error";
  return Error(Code::Internal, "");
}
template <class F>
Code code_of(F&& f) {
  return error_of(std::forward<F>(f)).code();
}

std::string two_members() {
  ZipWriter w;
  w.add("config.json", "{\"a\": 1}");
  w.add("assets/data.bin", std::string(500, 'x') + "end", true);
  return w.finish();
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = 0; (at = text.find(from, at)) != text.npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
  return text;
}

TEST(Zip, RoundTrip) {
  const ZipReader zip(two_members());
  ASSERT_EQ(zip.members().size(), 2u);
  EXPECT_EQ(zip.members()[0].name, "config.json");
  EXPECT_EQ(zip.members()[0].compressed_size, 8);
  EXPECT_EQ(zip.members()[1].size, 503);
  EXPECT_LT(zip.members()[1].compressed_size, 100);
  EXPECT_EQ(zip.read("config.json"), "{\"a\": 1}");
  EXPECT_EQ(zip.read("assets/data.bin"), std::string(500, 'x') + "end");
  EXPECT_TRUE(zip.has("config.json"));
  EXPECT_FALSE(zip.has("config"));
  EXPECT_EQ(code_of([&] { zip.read("config"); }), Code::NotFound);
}

TEST(Zip, TheSameCallsGiveTheSameBytes) { EXPECT_EQ(two_members(), two_members()); }

TEST(Zip, EmptyOnes) {
  EXPECT_TRUE(ZipReader(ZipWriter().finish()).members().empty());
  ZipWriter w;
  w.add("empty", "");
  EXPECT_EQ(ZipReader(w.finish()).read("empty"), "");
}

TEST(Zip, KerasModel) {
  const ZipReader zip(read_file(EVENFLOW_SOURCE_DIR "/tests/format/model.keras"), "model.keras");
  EXPECT_EQ(zip.read("model.weights.h5"),
            read_file(EVENFLOW_SOURCE_DIR "/tests/format/model.weights.h5"));
  EXPECT_EQ(zip.read("config.json").front(), '{');
}

TEST(Zip, ReadsFromManyThreads) {
  const ZipReader zip(two_members());
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 50; ++k) EXPECT_EQ(zip.read("assets/data.bin").size(), 503u);
    });
  }
  for (auto& t : threads) t.join();
}

TEST(Zip, NamesThatAreRefused) {
  ZipWriter w;
  w.add("aa/bb/cc", "x");
  const std::string good = w.finish();
  for (const char* name : {"/aa/b/cc", "../bb/cc", "aa/../cc", "aa//b/cc", "aa/b/../", "c:/bb/cc",
                           "aa\\bb\\cc", "aa/bb/.\n", "./bb//cc"}) {
    const Error e = error_of([&] { ZipReader zip(replaced(good, "aa/bb/cc", name), "m.keras"); });
    EXPECT_EQ(e.code(), Code::DataLoss) << name;
    EXPECT_NE(std::string(e.what()).find("zip \"m.keras\": "), std::string::npos) << e.what();
    ZipWriter writer;
    EXPECT_EQ(code_of([&] { writer.add(name, "x"); }), Code::InvalidArgument) << name;
  }
}

TEST(Zip, DuplicateNames) {
  ZipWriter w;
  w.add("aaa", "x");
  w.add("bbb", "y");
  EXPECT_EQ(code_of([&] { w.add("aaa", "z"); }), Code::InvalidArgument);
  const Error e = error_of([&] { ZipReader zip(replaced(w.finish(), "bbb", "aaa")); });
  EXPECT_EQ(e.code(), Code::DataLoss);
}

TEST(Zip, SymbolicLinks) {
  ZipWriter w;
  w.add("link", "../secret");
  std::string bytes = w.finish();
  const size_t entry = bytes.find("PK\x01\x02");
  bytes[entry + 5] = 3;  // made on UNIX
  bytes[entry + 40] = 0, bytes[entry + 41] = char(0xa1);
  const Error e = error_of([&] { ZipReader zip(bytes); });
  EXPECT_NE(std::string(e.what()).find("symbolic link"), std::string::npos) << e.what();
}

TEST(Zip, Limits) {
  ZipWriter w;
  w.add("zeros", std::string(8 << 20, '\0'), true);
  const std::string bomb = w.finish();
  ASSERT_LT(bomb.size(), 20000u);
  EXPECT_EQ(code_of([&] { ZipReader zip(bomb); }), Code::ResourceExhausted);
  EXPECT_EQ(ZipReader(bomb, "zip", {.max_ratio = 2000}).read("zeros").size(), 8u << 20);
  EXPECT_EQ(code_of([&] { ZipReader zip(bomb, "zip", {.max_bytes = 1000, .max_ratio = 2000}); }),
            Code::ResourceExhausted);
  EXPECT_EQ(code_of([&] { ZipReader zip(two_members(), "zip", {.max_members = 1}); }),
            Code::ResourceExhausted);
}

// A member that says it is smaller than it is.
TEST(Zip, RealSizeIsChecked) {
  ZipWriter w;
  w.add("zeros", std::string(5000, '\0'), true);
  const std::string good = w.finish();
  for (const int size : {4999, 5001, 100, 1 << 20}) {
    std::string bytes = good;
    const size_t entry = bytes.find("PK\x01\x02");
    std::memcpy(bytes.data() + entry + 24, &size, 4);
    std::memcpy(bytes.data() + 22, &size, 4);
    EXPECT_EQ(code_of([&] { ZipReader(bytes).read("zeros"); }), Code::DataLoss) << size;
  }
}

TEST(Zip, ChecksumIsChecked) {
  std::string bytes = two_members();
  bytes[bytes.find("\"a\"") + 1] = 'b';
  const ZipReader zip(bytes);
  EXPECT_EQ(code_of([&] { zip.read("config.json"); }), Code::DataLoss);
  EXPECT_EQ(zip.read("assets/data.bin").size(), 503u);
}

TEST(Zip, EveryTruncationAndEveryByteFlipped) {
  const std::string good = two_members();
  for (size_t n = 0; n < good.size(); ++n) {
    EXPECT_EQ(code_of([&] { ZipReader zip(good.substr(0, n)); }), Code::DataLoss) << n;
  }
  for (size_t i = 0; i < good.size(); ++i) {
    for (const int flip : {1, 2, 4, 8, 16, 32, 64, 128, 255}) {
      std::string bytes = good;
      bytes[i] = char(bytes[i] ^ flip);
      try {
        const ZipReader zip(std::move(bytes));
        for (const auto& m : zip.members()) {
          try {
            zip.read(m.name);
          } catch (const Error&) {
          }
        }
      } catch (const Error&) {
      }
    }
  }
}

TEST(Npz, RoundTrip) {
  Array a = make_array({DType::f32, {2}});
  const float values[] = {1, 2};
  std::memcpy(a.data->data(), values, 8);
  const auto arrays = parse_npz(npz_bytes({{"x", a}, {"layer/0", a}}), "data.npz");
  ASSERT_EQ(arrays.size(), 2u);
  EXPECT_EQ(arrays.at("layer/0").sig, a.sig);
  EXPECT_EQ(std::memcmp(arrays.at("x").data->data(), values, 8), 0);
  EXPECT_EQ(code_of([] { parse_npz(two_members()); }), Code::DataLoss);
  ZipWriter w;
  w.add("x.npy", "not one");
  const Error e = error_of([&] { parse_npz(w.finish(), "data.npz"); });
  EXPECT_NE(std::string(e.what()).find("data.npz/x.npy"), std::string::npos) << e.what();
}

}  // namespace
}  // namespace evenflow::format
