// SPDX-License-Identifier: Apache-2.0
#include "evenflow/format/csv.h"

#include <cmath>
#include <cstring>
#include <random>

#include "evenflow/format/format_testing.h"
#include "evenflow/format/npy.h"

namespace evenflow::format {
namespace {

using testing::ElementsAre;

std::vector<std::vector<std::string>> rows_of(std::string_view text, char delimiter = ',') {
  std::vector<std::vector<std::string>> rows;
  while (auto row = csv_row(text, delimiter, true)) {
    rows.push_back(std::move(row->fields));
    text.remove_prefix(size_t(row->bytes));
  }
  return rows;
}

/// Columns of one type, parsed from a text that arrives in pieces.
template <class T>
std::vector<std::vector<T>> parsed(std::string_view text, std::vector<CsvColumn> columns,
                                   const CsvFormat& format = {}, int64_t piece = 1 << 20,
                                   int64_t at_most = 1000000) {
  const CsvParser parser(columns, format);
  std::vector<std::vector<T>> out(columns.size());
  int64_t end = std::min<int64_t>(piece, int64_t(text.size()));
  int64_t begin = 0, rows = 0;
  for (;;) {
    std::vector<CsvSink> sinks(columns.size());
    for (size_t i = 0; i < columns.size(); ++i) {
      out[i].resize(size_t(rows) + text.size() + 1);
      sinks[i] = {reinterpret_cast<char*>(out[i].data() + rows), sizeof(T), nullptr, nullptr};
    }
    CsvParser::Parsed p;
    const bool last = end == int64_t(text.size());
    parser.parse(text.substr(size_t(begin), size_t(end - begin)), last, at_most, sinks, p);
    rows += p.rows, begin += p.bytes;
    if (last && p.rows == 0) break;
    end = std::min<int64_t>(end + piece, int64_t(text.size()));
  }
  EXPECT_EQ(begin, int64_t(text.size()));
  for (auto& c : out) c.resize(size_t(rows));
  return out;
}

TEST(Csv, QuotesAsPythonReadsThem) {
  const std::string text = read_file(made_by_others("quotes.csv"));
  EXPECT_EQ(rows_of(text),
            values_of_others()["quotes"].get<std::vector<std::vector<std::string>>>());
}

TEST(Csv, StringsInPiecesOfAnySize) {
  const std::string text = read_file(made_by_others("quotes.csv"));
  const auto rows = values_of_others()["quotes"].get<std::vector<std::vector<std::string>>>();
  const CsvParser parser({{"a", CsvType::string}, {"b", CsvType::skipped}, {"c", CsvType::string}},
                         {});
  for (size_t piece = 1; piece < text.size(); ++piece) {
    std::string bytes[2];
    std::vector<int64_t> ends[2];
    std::vector<CsvSink> sinks{
        {nullptr, 0, &bytes[0], &ends[0]}, {}, {nullptr, 0, &bytes[1], &ends[1]}};
    size_t begin = 0;
    for (size_t end = piece;; end = std::min(end + piece, text.size())) {
      CsvParser::Parsed p;
      parser.parse(std::string_view(text).substr(begin, end - begin), end == text.size(), 1000,
                   sinks, p);
      begin += size_t(p.bytes);
      if (end == text.size()) break;
    }
    EXPECT_EQ(begin, text.size());
    for (int c : {0, 1}) {
      ASSERT_EQ(ends[c].size(), rows.size()) << piece;
      for (size_t i = 0, from = 0; i < rows.size(); from = size_t(ends[c][i++]))
        ASSERT_EQ(bytes[c].substr(from, size_t(ends[c][i]) - from), rows[i][size_t(2 * c)])
            << piece;
    }
  }
}

TEST(Csv, NumbersAreRoundedAsOthersRoundThem) {
  const std::string text = read_file(made_by_others("numbers.csv")).substr(2);
  const Array f32 = read_npy(made_by_others("numbers_f32.npy"));
  const Array f64 = read_npy(made_by_others("numbers_f64.npy"));
  const auto floats = parsed<float>(text, {{"x", CsvType::f32}})[0];
  const auto doubles = parsed<double>(text, {{"x", CsvType::f64}})[0];
  const auto rows = rows_of(text);
  ASSERT_EQ(int64_t(floats.size()), f32.sig.shape[0]);
  for (size_t i = 0; i < floats.size(); ++i) {
    EXPECT_EQ(floats[i], static_cast<const float*>(f32.data->data())[i]) << rows[i][0];
    EXPECT_EQ(doubles[i], static_cast<const double*>(f64.data->data())[i]) << rows[i][0];
  }
}

TEST(Csv, FastAndSlowNumbersAgree) {  // a quoted number takes the slow way
  std::mt19937_64 random(1);
  std::string plain, quoted;
  for (int i = 0; i < 20000; ++i) {
    std::string digits = std::to_string(random() >> (random() % 64));
    if (random() % 3) digits.insert(random() % (digits.size() + 1), ".");
    if (random() % 2) digits.insert(0, "-");
    plain += digits + "\n", quoted += "\"" + digits + "\"\n";
  }
  const auto a = parsed<float>(plain, {{"x"}})[0], b = parsed<float>(quoted, {{"x"}})[0];
  ASSERT_EQ(a.size(), 20000u);
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * 4), 0);
}

TEST(Csv, LineEndsAndEmptyLines) {
  for (const char* text : {"1,2\n3,4\n", "1,2\r\n3,4\r\n", "1,2\n3,4", "1,2\r\n3,4\r\n\r\n",
                           "\n\n1,2\n\n3,4\n\n", "1,\"2\"\r\n\"3\",\"4\"\r"}) {
    for (const int64_t piece : {1, 2, 3, 100}) {
      const auto c = parsed<float>(text, {{"a"}, {"b"}}, {}, piece);
      EXPECT_THAT(c[0], ElementsAre(1, 3)) << text;
      EXPECT_THAT(c[1], ElementsAre(2, 4)) << text;
    }
  }
  EXPECT_THAT(parsed<float>("1;2\n", {{"a"}, {"b"}}, {.delimiter = ';'})[1], ElementsAre(2));
  EXPECT_THAT(parsed<float>("1\t2\n", {{"a"}, {"b"}}, {.delimiter = '\t'})[1], ElementsAre(2));
  EXPECT_THAT(parsed<float>("1,2\n3,4\n5,6\n", {{"a"}, {"b"}}, {}, 100, 1)[1],
              ElementsAre(2, 4, 6));
}

TEST(Csv, MissingNumbers) {
  const auto c = parsed<float>(",1\nNA,2\n\"\",nan\n 7 , \n", {{"a"}, {"b", CsvType::f32, -5}});
  EXPECT_TRUE(std::isnan(c[0][0]) && std::isnan(c[0][1]) && std::isnan(c[0][2]));
  EXPECT_EQ(c[0][3], 7);
  EXPECT_THAT(c[1], ElementsAre(1, 2, -5, -5));
  EXPECT_THAT(parsed<int64_t>(",1\n", {{"a", CsvType::i64, -1}, {"b", CsvType::i64}})[0],
              ElementsAre(-1));
  expect_refused(Code::DataLoss, {"column \"a\" is missing, expected i64"}, [] {
    parsed<int64_t>(",1\n", {{"a", CsvType::i64}, {"b", CsvType::i64}});
  });
  EXPECT_THAT(parsed<float>("?,1\n", {{"a", CsvType::f32, 0}, {"b"}}, {.missing = {"?"}})[0],
              ElementsAre(0));
  expect_refused(Code::InvalidArgument, {"column \"a\""}, [] {
    CsvParser p({{"a", CsvType::i32, 1e10}}, {});
  });
}

TEST(Csv, Types) {
  const auto rows = rows_of("1,1,a,,1,2\n2,1.5,b,,,x\n-3,2,1,,7,2\n");
  EXPECT_THAT(csv_types(rows, 6, {}), ElementsAre(CsvType::i64, CsvType::f32, CsvType::string,
                                                  CsvType::f32, CsvType::f32, CsvType::string));
}

TEST(Csv, WhatIsWrongIsNamed) {
  const std::vector<CsvColumn> two{{"a"}, {"b", CsvType::i32}};
  expect_refused(Code::DataLoss, {"column \"a\" is \"x1\", expected f32"},
                 [&] { parsed<float>("1,2\nx1,2\n", two); });
  expect_refused(Code::DataLoss, {"column \"b\" is \"2.5\", expected i32"},
                 [&] { parsed<float>("1,2.5\n", two); });
  expect_refused(Code::DataLoss, {"column \"b\" is \"3000000000\", expected i32"},
                 [&] { parsed<float>("1,3000000000\n", two); });
  expect_refused(Code::DataLoss, {"1 fields, expected 2", "\"b\" is missing"},
                 [&] { parsed<float>("1,2\n3\n", two); });
  expect_refused(Code::DataLoss, {"more than 2 fields"}, [&] { parsed<float>("1,2,3\n", two); });
  expect_refused(Code::DataLoss, {"not closed"}, [&] { parsed<float>("1,\"2\n3,4\n", two); });
  expect_refused(Code::DataLoss, {"behind the closing quote of \"2\""},
                 [&] { parsed<float>("1,\"2\"3\n", two); });
  expect_refused(Code::DataLoss, {"does not begin with one"},
                 [&] { parsed<float>("1,2\"\n", two); });
  for (const char d : {'"', '\n', '0', '-', '.'})
    expect_refused(Code::InvalidArgument, {"delimiter"},
                   [&] { CsvParser p(two, {.delimiter = d}); });
}

TEST(Csv, RowsBeforeABadOneAreTold) {
  const CsvParser parser({{"a"}, {"b", CsvType::string}}, {});
  float a[4];
  std::string bytes;
  std::vector<int64_t> ends{0};
  std::vector<CsvSink> sinks{{reinterpret_cast<char*>(a), 4, nullptr, nullptr},
                             {nullptr, 0, &bytes, &ends}};
  CsvParser::Parsed p;
  EXPECT_THROW(parser.parse("1,x\n2,y\n3,z,?\n", true, 10, sinks, p), Error);
  EXPECT_EQ(p.rows, 2);
  EXPECT_EQ(p.bytes, 8);
  EXPECT_EQ(bytes, "xy");
  EXPECT_EQ(ends.size(), 3u);
  EXPECT_EQ(sinks[0].at, reinterpret_cast<char*>(a + 2));
}

TEST(Csv, BytesOfARow) {
  EXPECT_EQ(csv_row_bytes("a,b\nc", false), 4);
  EXPECT_EQ(csv_row_bytes("a,\"b\n\"\nc", false), 7);
  EXPECT_EQ(csv_row_bytes("a,\"b\"\"\n\"\nc", false), 9);
  EXPECT_EQ(csv_row_bytes("a,\"b\n", false), 0);
  EXPECT_EQ(csv_row_bytes("a,b", false), 0);
  EXPECT_EQ(csv_row_bytes("a,b", true), 3);
  const std::string text = read_file(made_by_others("quotes.csv"));
  for (std::string_view rest = text; !rest.empty();) {
    const int64_t n = csv_row_bytes(rest, true);
    EXPECT_EQ(n, csv_row(rest, ',', true)->bytes);
    rest.remove_prefix(size_t(n));
  }
}

}  // namespace
}  // namespace evenflow::format
