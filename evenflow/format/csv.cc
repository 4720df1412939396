// SPDX-License-Identifier: Apache-2.0
#include "evenflow/format/csv.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>

#include "evenflow/core/error.h"

namespace evenflow::format {
namespace {

constexpr double kPowers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                              1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                              1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

bool is_digit(char c) { return uint8_t(c - '0') < 10; }

std::string_view trimmed(std::string_view s) {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
  return s;
}
std::string shown(std::string_view s) {
  std::string out;
  for (const char c : s.substr(0, 40)) out += c >= 32 && c < 127 ? c : '?';
  return s.size() > 40 ? out + "..." : out;
}

/// The whole of a text as a number.
template <class T>
bool parse_number(std::string_view s, T* v) {
  if (s.size() > 1 && s[0] == '+' && s[1] != '-') s.remove_prefix(1);
  const auto [stop, error] = std::from_chars(s.data(), s.data() + s.size(), *v);
  if (stop != s.data() + s.size()) return false;
  if constexpr (std::is_floating_point_v<T>) {
    if (error == std::errc::result_out_of_range) {  // then from_chars leaves *v as it was
      double wide;
      if (sizeof(T) < sizeof wide) return parse_number(s, &wide) && (*v = T(wide), true);
      const size_t e = s.find_first_of("eE");
      const bool small = e != s.npos ? s[e + 1] == '-' : s[s[0] == '-'] == '0' || s.find('.') < 2;
      *v = small ? T(0) : std::numeric_limits<T>::infinity();
      if (s[0] == '-') *v = -*v;
      return true;
    }
  }
  return error == std::errc();
}

/// A decimal at the front of [p, end) in the plain form -12.345; null for any other. The value is
/// that of std::from_chars: up to 19 digits, of which a double holds the number and the power of
/// ten exactly, so that there is one rounding (W. Clinger, "How to read floating point numbers
/// accurately", 1990).
const char* plain_decimal(const char* p, const char* end, double* v) {
  const bool minus = p != end && *p == '-';
  p += minus;
  uint64_t m = 0;
  const char* first = p;
  while (p != end && is_digit(*p)) m = m * 10 + uint64_t(*p++ - '0');
  int64_t digits = p - first, fraction = 0;
  if (p != end && *p == '.') {
    const char* point = ++p;
    while (p != end && is_digit(*p)) m = m * 10 + uint64_t(*p++ - '0');
    fraction = p - point;
    digits += fraction;
  }
  if (digits == 0 || digits > 19 || m > uint64_t(1) << 53) return nullptr;
  const double d = double(m) / kPowers[fraction];
  *v = minus ? -d : d;
  return p;
}
/// The same as f32: false where the f64 lies just between two f32, when rounding twice could
/// differ.
bool narrowed(double d, float* v) {
  if ((std::bit_cast<uint64_t>(d) & 0x1fffffff) == 0x10000000) return false;
  *v = float(d);
  return true;
}

/// A field that was cut off its text.
struct Cut {
  enum End { field, row, text } end = field;
  std::string_view value;
  const char* next;  ///< behind the delimiter or line end
};

/// The field at p; `scratch` takes a quoted one that holds quotes.
Cut cut(const char* p, const char* end, char delimiter, std::string& scratch) {
  Cut c;
  const char* stop;
  if (p != end && *p == '"') {
    const char* from = ++p;
    bool copied = false;
    scratch.clear();
    for (;;) {
      auto* quote = static_cast<const char*>(std::memchr(p, '"', size_t(end - p)));
      if (!quote) return c.end = Cut::text, c.next = end, c;
      if (quote + 1 != end && quote[1] == '"') {
        scratch.append(from, quote + 1);
        copied = true;
        from = p = quote + 2;
        continue;
      }
      if (copied) scratch.append(from, quote);
      c.value = copied ? std::string_view(scratch) : std::string_view(from, size_t(quote - from));
      stop = quote + 1;
      break;
    }
    if (stop != end && *stop == '\r' && (stop + 1 == end || stop[1] == '\n')) ++stop;
    if (stop != end && *stop != delimiter && *stop != '\n')
      fail(Code::DataLoss, {"there is text behind the closing quote of \"", shown(c.value), "\""});
  } else {
    stop = p;
    while (stop != end && *stop != delimiter && *stop != '\n' && *stop != '"') ++stop;
    if (stop != end && *stop == '"')
      fail(Code::DataLoss, {"there is a quote within a field that does not begin with one: \"",
                            shown({p, size_t(stop - p)}), "\""});
    c.value = {p, size_t(stop - p)};
    const bool at_line_end = stop == end || *stop == '\n';
    if (at_line_end && !c.value.empty() && c.value.back() == '\r') c.value.remove_suffix(1);
  }
  if (stop == end) return c.end = Cut::text, c.next = end, c;
  c.end = *stop == '\n' ? Cut::row : Cut::field;
  c.next = stop + 1;
  return c;
}

/// Whether quotes are open where the text ends is told by their number alone.
bool quotes_closed(const char* p, const char* end) { return std::count(p, end, '"') % 2 == 0; }

}  // namespace

std::string_view str(CsvType type) {
  constexpr std::string_view names[] = {"f32", "f64", "i32", "i64", "string", "skipped"};
  return names[size_t(type)];
}

std::optional<CsvRow> csv_row(std::string_view text, char delimiter, bool last) {
  if (text.empty()) return {};
  CsvRow row;
  std::string scratch;
  const char *p = text.data(), *end = p + text.size();
  for (;;) {
    const Cut c = cut(p, end, delimiter, scratch);
    if (c.end == Cut::text) {
      if (!last) return {};
      if (!quotes_closed(p, end)) fail(Code::DataLoss, {"a quote is not closed"});
    }
    row.fields.emplace_back(c.value);
    p = c.next;
    if (c.end != Cut::field) break;
  }
  row.bytes = p - text.data();
  return row;
}

int64_t csv_row_bytes(std::string_view text, bool last) {
  const char *begin = text.data(), *end = begin + text.size(), *p = begin;
  bool open = false;
  while (p != end) {
    auto* line_end = static_cast<const char*>(std::memchr(p, '\n', size_t(end - p)));
    const char* stop = line_end ? line_end : end;
    if (std::memchr(p, '"', size_t(stop - p))) open ^= !quotes_closed(p, stop);
    if (!line_end) break;
    p = line_end + 1;
    if (!open) return p - begin;
  }
  return last ? int64_t(text.size()) : 0;
}

std::vector<CsvType> csv_types(const std::vector<std::vector<std::string>>& rows, size_t columns,
                               const CsvFormat& format) {
  std::vector<CsvType> types(columns, CsvType::i64);
  std::vector<bool> seen(columns);
  for (const auto& row : rows) {
    for (size_t i = 0; i < std::min(columns, row.size()); ++i) {
      const std::string_view field = trimmed(row[i]);
      int64_t whole;
      double number;
      if (field.empty() ||
          std::find(format.missing.begin(), format.missing.end(), field) != format.missing.end()) {
        if (types[i] == CsvType::i64) types[i] = CsvType::f32;
        continue;
      }
      seen[i] = true;
      if (types[i] == CsvType::i64 && !parse_number(field, &whole)) types[i] = CsvType::f32;
      if (types[i] == CsvType::f32 && !parse_number(field, &number)) types[i] = CsvType::string;
    }
  }
  for (size_t i = 0; i < columns; ++i)
    if (!seen[i] && types[i] == CsvType::i64) types[i] = CsvType::f32;
  return types;
}

CsvParser::CsvParser(std::vector<CsvColumn> columns, CsvFormat format)
    : columns_(std::move(columns)), format_(std::move(format)) {
  if (columns_.empty()) fail({"csv: there is no column"});
  const char d = format_.delimiter;
  if (d == '"' || d == '\n' || d == '\r' || is_digit(d) || d == '-' || d == '.' || d == '+')
    fail({"csv: delimiter is \"", shown({&d, 1}), "\", expected one that is in no number"});
  for (const CsvColumn& c : columns_)
    if (c.missing && (c.type == CsvType::i32 || c.type == CsvType::i64) &&
        !(std::abs(*c.missing) <= (c.type == CsvType::i32 ? 2147483647. : 9007199254740992.)))
      fail({"csv: column \"", c.name, "\" has ", *c.missing, " for a missing number, expected ",
            str(c.type)});
}

bool CsvParser::is_missing(std::string_view field) const {
  return field.empty() ||
         std::find(format_.missing.begin(), format_.missing.end(), field) != format_.missing.end();
}

template <class T>
bool CsvParser::number(std::string_view field, const CsvColumn& column, char* to) const {
  field = trimmed(field);
  T v;
  if (is_missing(field)) {
    if (column.missing)
      v = T(*column.missing);
    else if constexpr (std::is_floating_point_v<T>)
      v = std::numeric_limits<T>::quiet_NaN();
    else
      fail(Code::DataLoss, {"column \"", column.name, "\" is missing, expected ", str(column.type),
                            " (or say what stands for a missing one)"});
  } else if (!parse_number(field, &v)) {
    return false;
  }
  std::memcpy(to, &v, sizeof v);
  return true;
}

void CsvParser::store(std::string_view field, const CsvColumn& column, CsvSink& sink) const {
  bool good = true;
  switch (column.type) {
    case CsvType::f32:
      good = number<float>(field, column, sink.at);
      break;
    case CsvType::f64:
      good = number<double>(field, column, sink.at);
      break;
    case CsvType::i32:
      good = number<int32_t>(field, column, sink.at);
      break;
    case CsvType::i64:
      good = number<int64_t>(field, column, sink.at);
      break;
    case CsvType::string:
      sink.bytes->append(field);
      sink.ends->push_back(int64_t(sink.bytes->size()));
      return;
    case CsvType::skipped:
      return;
  }
  if (!good)
    fail(Code::DataLoss,
         {"column \"", column.name, "\" is \"", shown(field), "\", expected ", str(column.type)});
}

void CsvParser::parse(std::string_view text, bool last, int64_t at_most,
                      std::vector<CsvSink>& sinks, Parsed& parsed) const {
  if (sinks.size() != columns_.size())
    fail({"csv: ", sinks.size(), " sinks, expected ", columns_.size()});
  const char *begin = text.data(), *end = begin + text.size(), *p = begin;
  const char delimiter = format_.delimiter;
  const size_t columns = columns_.size();
  std::string scratch;
  parsed = {};
  const auto undo = [&](size_t fields) {  // of a row that was begun
    for (size_t i = 0; i < fields; ++i) {
      if (columns_[i].type == CsvType::string) {
        sinks[i].ends->pop_back();
        sinks[i].bytes->resize(sinks[i].ends->empty() ? 0 : size_t(sinks[i].ends->back()));
      } else {
        sinks[i].at -= sinks[i].stride;
      }
    }
  };
  while (parsed.rows < at_most && p != end) {
    if (*p == '\n' || (*p == '\r' && p + 1 != end && p[1] == '\n')) {
      p += *p == '\r' ? 2 : 1;
      parsed.bytes = p - begin;
      continue;
    }
    if (*p == '\r' && p + 1 == end) {  // an empty line, cut in two or the last one
      if (last) parsed.bytes = ++p - begin;
      break;
    }
    size_t i = 0;
    try {
      for (bool more = true; more; ++i) {
        if (i == columns)
          fail(Code::DataLoss,
               {"there are more than ", columns, " fields, expected one for each column"});
        const CsvColumn& column = columns_[i];
        CsvSink& sink = sinks[i];
        if (column.type == CsvType::f32) {  // most fields of most files
          double d;
          float f;
          const char* q = plain_decimal(p, end, &d);
          if (q && q != end && (*q == delimiter || *q == '\n') && narrowed(d, &f)) {
            std::memcpy(sink.at, &f, sizeof f);
            sink.at += sink.stride;
            more = *q == delimiter;
            p = q + 1;
            continue;
          }
        }
        const Cut c = cut(p, end, delimiter, scratch);
        if (c.end == Cut::text) {
          if (!last) {
            undo(i);
            return;
          }
          if (!quotes_closed(p, end)) fail(Code::DataLoss, {"a quote is not closed"});
        }
        store(c.value, column, sink);
        if (column.type != CsvType::string) sink.at += sink.stride;
        more = c.end == Cut::field;
        p = c.next;
      }
      if (i < columns)
        fail(Code::DataLoss, {"there are ", i, " fields, expected ", columns, "; \"",
                              columns_[i].name, "\" is missing"});
    } catch (const Error&) {
      undo(std::min(i, columns));
      throw;
    }
    ++parsed.rows;
    parsed.bytes = p - begin;
  }
}

}  // namespace evenflow::format
