// SPDX-License-Identifier: Apache-2.0
// Any text at all gives rows or an Error, in one piece and in two. cmake/Fuzz.cmake says how it is
// run.
#include "evenflow/format/csv.h"

#include "evenflow/core/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace evenflow::format;
  using evenflow::Error;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  std::vector<std::vector<std::string>> rows;
  try {
    for (std::string_view rest = text;;) {
      const auto row = csv_row(rest, ',', true);
      if (!row) break;
      rows.push_back(row->fields);
      rest.remove_prefix(size_t(row->bytes));
    }
  } catch (const Error&) {
  }
  csv_types(rows, 3, {});
  csv_row_bytes(text, false);
  static const CsvParser parser({{"a"}, {"b", CsvType::string}, {"c", CsvType::i64, -1}}, {});
  std::vector<float> a(size + 2);
  std::vector<int64_t> c(size + 2), ends{0};
  std::string b;
  std::vector<CsvSink> sinks{{reinterpret_cast<char*>(a.data()), 4, nullptr, nullptr},
                             {nullptr, 0, &b, &ends},
                             {reinterpret_cast<char*>(c.data()), 8, nullptr, nullptr}};
  try {
    CsvParser::Parsed p;
    parser.parse(text.substr(0, size / 2), false, 1 << 20, sinks, p);
    parser.parse(text.substr(size_t(p.bytes)), true, 1 << 20, sinks, p);
  } catch (const Error&) {
  }
  return 0;
}
