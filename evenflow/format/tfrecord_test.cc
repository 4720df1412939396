// SPDX-License-Identifier: Apache-2.0
#include "evenflow/format/tfrecord.h"

#include <sys/resource.h>

#include "evenflow/format/example.h"
#include "evenflow/format/format_testing.h"

namespace evenflow::format {
namespace {

std::vector<std::string> records(TfRecordReader& reader) {
  std::vector<std::string> all;
  for (std::string_view r; reader.next(&r);) all.emplace_back(r);
  return all;
}
std::vector<std::string> some_records(int n) {
  std::vector<std::string> all;
  for (int i = 0; i < n; ++i) all.push_back(std::string(size_t(i * 37 % 301), char('a' + i % 26)));
  return all;
}
std::string file_of(const Folder& folder, const std::vector<std::string>& all, bool gzip = false) {
  const std::string path = folder(gzip ? "x.tfrecord.gz" : "x.tfrecord");
  write_tfrecord(
      path,
      [&](TfRecordWriter& w) {
        for (const auto& r : all) w.write(r);
      },
      gzip);
  return path;
}

TEST(TfRecord, WhatTensorFlowWrote) {
  const auto& rows = values_of_others()["examples"];
  for (const char* name : {"examples.tfrecord", "examples.tfrecord.gz"}) {
    TfRecordReader reader{InputStream(made_by_others(name))};
    const auto all = records(reader);
    ASSERT_EQ(all.size(), rows.size());
    for (size_t i = 0; i < all.size(); ++i) {
      const auto found = example_features(all[i]);
      const auto& row = rows[i];
      ASSERT_EQ(found.size(), row.size());
      std::vector<float> x(size_t(found.at("x").count()));
      found.at("x").read(x.data());
      EXPECT_EQ(x, row["x"].get<std::vector<float>>());
      for (const char* key : {"label", "ids"}) {
        std::vector<int64_t> v(size_t(found.at(key).count()));
        found.at(key).read(v.data());
        EXPECT_EQ(v, row[key].get<std::vector<int64_t>>());
      }
      std::vector<std::string> words;
      found.at("words").read([&](std::string_view w) { words.emplace_back(w); });
      EXPECT_EQ(words, row["words"].get<std::vector<std::string>>());
      found.at("name").read(
          [&](std::string_view w) { EXPECT_EQ(w, row["name"].get<std::string>()); });
    }
  }
}

TEST(TfRecord, WritesTheBytesOfTensorFlow) {
  const Folder folder;
  TfRecordReader reader{InputStream(made_by_others("examples.tfrecord"))};
  EXPECT_EQ(read_file(file_of(folder, records(reader))),
            read_file(made_by_others("examples.tfrecord")));
}

TEST(TfRecord, RoundTrip) {
  const Folder folder;
  const auto all = some_records(2000);
  for (const bool gzip : {false, true}) {
    TfRecordReader reader{InputStream(file_of(folder, all, gzip))};
    EXPECT_EQ(records(reader), all);
    EXPECT_EQ(reader.record(), 2000);
  }
  TfRecordReader empty{InputStream(file_of(folder, {}))};
  EXPECT_EQ(records(empty).size(), 0u);
}

TEST(TfRecord, GoesBackToWhereItStood) {
  const Folder folder;
  const auto all = some_records(500);
  for (const bool gzip : {false, true}) {
    const std::string path = file_of(folder, all, gzip);
    TfRecordReader reader{InputStream(path)}, other{InputStream(path)};
    std::string_view r;
    for (int i = 0; i < 123; ++i) reader.next(&r);
    const int64_t record = reader.record(), offset = reader.offset();
    EXPECT_EQ(records(reader).size(), 377u);
    for (TfRecordReader* again : {&reader, &other}) {
      again->seek(record, offset);
      ASSERT_TRUE(again->next(&r));
      EXPECT_EQ(r, all[123]);
    }
  }
}

TEST(TfRecord, AnyRecordByItsNumber) {
  const Folder folder;
  const auto all = some_records(3000);
  const TfRecordFile file(file_of(folder, all));
  ASSERT_EQ(file.size(), 3000);
  for (int64_t first = 0; first < 3000; first += 171) {
    for (const int64_t n : {int64_t(0), int64_t(1), int64_t(40), 3000 - first}) {
      if (first + n > 3000) continue;
      int64_t next = first;
      file.read(first, n, [&](int64_t record, int64_t, std::string_view bytes) {
        EXPECT_EQ(record, next);
        ASSERT_EQ(bytes, all[size_t(next++)]);
      });
      EXPECT_EQ(next, first + n);
    }
  }
  expect_refused(Code::OutOfRange, {"expected 0 to 2999"},
                 [&] { file.read(2999, 2, [](auto...) {}); });
}

TEST(TfRecord, DamagedDataIsNamedAndPassed) {
  const Folder folder;
  const auto all = some_records(10);
  std::string bytes = read_file(file_of(folder, all));
  size_t at = 0;
  for (int i = 0; i < 7; ++i) at += 16 + all[size_t(i)].size();
  bytes[at + 12 + 5] ^= 1;
  const std::string path = folder.put("damaged.tfrecord", bytes);
  TfRecordReader reader{InputStream(path)};
  std::string_view r;
  for (int i = 0; i < 7; ++i) ASSERT_TRUE(reader.next(&r));
  expect_refused(Code::DataLoss,
                 {path, concat({"record 7 (byte ", at, ")"}), "checksum of the data"},
                 [&] { reader.next(&r); });
  ASSERT_TRUE(reader.next(&r));
  EXPECT_EQ(r, all[8]);
  const TfRecordFile file(path);  // lengths are whole
  expect_refused(Code::DataLoss, {"record 7"}, [&] { file.read(5, 5, [](auto...) {}); });
  file.read(8, 2, [](auto...) {});
}

TEST(TfRecord, DamagedLengthAndTruncation) {
  const Folder folder;
  const auto all = some_records(4);
  const std::string bytes = read_file(file_of(folder, all));
  const auto read = [&](const std::string& b) {
    const std::string path = folder.put("y", b);
    const Refusal by_number = refusal([&] { TfRecordFile f(path); });
    TfRecordReader reader{InputStream(path)};
    const Refusal in_order = refusal([&] { records(reader); });
    EXPECT_EQ(str(by_number.code), str(in_order.code)) << in_order.message;
    return in_order;
  };
  for (size_t n = 1; n < bytes.size(); ++n) {
    bool whole = n == 16 || n == 16 + 16 + all[1].size() || n == 48 + all[1].size() + all[2].size();
    const Refusal r = read(bytes.substr(0, n));
    if (whole) continue;
    EXPECT_EQ(r.code, Code::DataLoss) << n;
    EXPECT_THAT(r.message, testing::HasSubstr("ends within the record")) << n;
  }
  for (size_t i = 0; i < 12; ++i) {
    std::string damaged = bytes;
    damaged[i] ^= 8;
    const Refusal r = read(damaged);
    EXPECT_EQ(r.code, Code::DataLoss);
    EXPECT_THAT(r.message, testing::HasSubstr("record 0 (byte 0): the checksum of the length"));
  }
}

TEST(TfRecord, LengthsHaveACap) {
  const Folder folder;
  const std::string path = file_of(folder, {std::string(1000, 'x')});
  TfRecordReader reader(InputStream(path), 999);
  std::string_view r;
  expect_refused(Code::ResourceExhausted, {"1000 bytes, expected at most 999"},
                 [&] { reader.next(&r); });
  expect_refused(Code::ResourceExhausted, {"1000 bytes"}, [&] { TfRecordFile f(path, 999); });
}

TEST(TfRecord, FileThatBecomesShorter) {
  const Folder folder;
  const std::string path = file_of(folder, some_records(3000));
  const TfRecordFile file(path);
  std::filesystem::resize_file(path, 2000);
  expect_refused(Code::DataLoss, {path, "it changed"}, [&] { file.read(2900, 1, [](auto...) {}); });
}

std::string example_of(std::initializer_list<int> bytes) {
  std::string s;
  for (int b : bytes) s += char(b);
  return s;
}

// protobuf.dev/programming-guides/encoding: lists need not be packed, and a message may come in
// parts.
TEST(Example, OtherEncodingsOfTheSame) {
  const std::string unpacked =
      example_of({0x0a, 0x13, 0x0a, 0x11, 0x0a, 1,    'v',  0x12, 0x0c,  //
                  0x12, 0x0a, 0x0d, 0,    0,    0x80, 0x3f, 0x0d, 0,    0, 0, 0x40});
  const auto f = example_features(unpacked);
  ASSERT_EQ(f.at("v").count(), 2);
  float v[2];
  f.at("v").read(v);
  EXPECT_EQ(v[0], 1);
  EXPECT_EQ(v[1], 2);
  // Two lists of one kind are one; an integer in single values; an unknown field between.
  const std::string parts =
      example_of({0x0a, 0x13, 0x0a, 0x11, 0x0a, 1,    'n',  0x12, 0x0c,  //
                  0x1a, 0x02, 0x08, 0x05, 0x20, 0x07, 0x1a, 0x04, 0x0a, 0x02, 0x96, 0x01});
  const auto g = example_features(parts);
  ASSERT_EQ(g.at("n").kind, FeatureKind::integers);
  ASSERT_EQ(g.at("n").count(), 2);
  int64_t n[2];
  g.at("n").read(n);
  EXPECT_EQ(n[0], 5);
  EXPECT_EQ(n[1], 150);
  EXPECT_TRUE(example_features("").empty());
}

TEST(Example, FindsByName) {
  const std::vector<float> x{1, 2, 3};
  const std::vector<int64_t> y{-1};
  const std::string e =
      ExampleWriter().floats("x", x).integers("y", y).bytes("z", "abc").floats("none", {}).finish();
  const ExampleReader reader({"y", "missing", "x", "none"});
  std::vector<Feature> found(4);
  reader.find(e, found);
  int64_t label = 0;
  found[0].read(&label);
  EXPECT_EQ(label, -1);
  EXPECT_EQ(found[1].kind, FeatureKind::none);
  EXPECT_EQ(found[1].count(), 0);
  EXPECT_EQ(found[2].count(), 3);
  EXPECT_EQ(found[3].kind, FeatureKind::floats);
  EXPECT_EQ(found[3].count(), 0);
  expect_refused(Code::InvalidArgument, {"has floats, expected integers"},
                 [&] { found[2].read(&label); });
  expect_refused(Code::InvalidArgument, {"\"a\" is named twice"}, [] {
    ExampleReader r({"a", "b", "a"});
  });
}

TEST(Example, DamagedBytesAreRefused) {
  TfRecordReader reader{InputStream(made_by_others("examples.tfrecord"))};
  const std::string whole = records(reader).back();
  int64_t refused = 0;
  for (size_t n = 1; n < whole.size(); ++n)
    refused += refusal([&] { example_features(whole.substr(0, n)); }).code == Code::DataLoss;
  EXPECT_EQ(refused, int64_t(whole.size()) - 1);  // its first length covers it all
  for (const std::string& bad :
       {example_of({0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02}),
        example_of({0x0b}), example_of({0x00, 0x00}), example_of({0x0a, 0x80})})
    expect_refused(Code::DataLoss, {"expected a tf.train.Example"}, [&] { example_features(bad); });
  const Feature part{FeatureKind::floats,
                     "\x12\x05\x0a\x03"
                     "abc"};
  expect_refused(Code::DataLoss, {"a part of one"}, [&] { part.count(); });
  const Feature open{FeatureKind::integers, "\x1a\x03\x0a\x01\x80"};
  expect_refused(Code::DataLoss, {"too early"}, [&] { open.count(); });
}

}  // namespace
}  // namespace evenflow::format
