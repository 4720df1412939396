// SPDX-License-Identifier: Apache-2.0
// CSV as RFC 4180 has it: fields between delimiters, quotes around those that hold delimiters, line
// ends or (doubled) quotes. Numbers go from the text straight to where they are wanted.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "evenflow/core/dtype.h"

namespace evenflow::format {

/// What a column holds. In a column of numbers a field may be missing: empty, or a word for it.
enum class CsvType : uint8_t { f32, f64, i32, i64, string, skipped };
std::string_view str(CsvType type);

struct CsvFormat {
  char delimiter = ',';
  /// Fields that are missing, besides the empty one. In a column of strings they are text.
  std::vector<std::string> missing = {"NA", "N/A", "NaN", "nan", "null", "NULL"};
  int64_t max_row_bytes = int64_t(16) << 20;  ///< a longer row is refused (quotes left open too)
};

struct CsvColumn {
  std::string name;
  CsvType type = CsvType::f32;
  /// What stands for a missing number; without one it is NaN in floats and refused in integers.
  std::optional<double> missing = {};
};

/// Where the values of a column go: numbers to `at`, `stride` bytes apart; strings behind each
/// other, an end each.
struct CsvSink {
  char* at = nullptr;
  int64_t stride = 0;
  std::string* bytes = nullptr;
  std::vector<int64_t>* ends = nullptr;
};

/// The fields of the row at the front of `text`, without quotes, and how many bytes it takes with
/// its line end. Nothing when the row is not complete (`last`: no text comes behind). Throws
/// DataLoss for quotes that RFC 4180 has not.
struct CsvRow {
  std::vector<std::string> fields;
  int64_t bytes = 0;
};
std::optional<CsvRow> csv_row(std::string_view text, char delimiter, bool last);

/// Bytes of the row at the front of `text` with its line end, by its quotes and line ends alone; 0
/// when it is not complete.
int64_t csv_row_bytes(std::string_view text, bool last);

/// The types of columns by some of their rows: i64 where every field is a whole number, f32 where
/// every field is a number or missing, else string.
std::vector<CsvType> csv_types(const std::vector<std::vector<std::string>>& rows, size_t columns,
                               const CsvFormat& format);

/// Reads typed rows. Empty lines are no rows.
class CsvParser {
 public:
  CsvParser(std::vector<CsvColumn> columns, CsvFormat format);
  const std::vector<CsvColumn>& columns() const { return columns_; }

  struct Parsed {
    int64_t rows = 0;
    int64_t bytes = 0;  ///< of whole rows and empty lines
  };
  /// Reads at most `at_most` whole rows from the front of `text`, a sink a column, and leaves a row
  /// that is not complete (`last`: no text comes behind). Throws DataLoss: a row with more or fewer
  /// fields than columns, a field that is no number of the column's type, a missing integer, bad
  /// quotes. The message says which row of these and where it begins, and `parsed` then has the
  /// rows before it.
  void parse(std::string_view text, bool last, int64_t at_most, std::vector<CsvSink>& sinks,
             Parsed& parsed) const;

 private:
  struct Field;
  bool is_missing(std::string_view field) const;
  template <class T>
  bool number(std::string_view field, const CsvColumn& column, char* to) const;
  void store(std::string_view field, const CsvColumn& column, CsvSink& sink) const;

  std::vector<CsvColumn> columns_;
  CsvFormat format_;
};

}  // namespace evenflow::format
