// SPDX-License-Identifier: Apache-2.0
// CSV files as typed columns, or as a matrix of features and a label.
#include <algorithm>
#include <set>
#include <utility>

#include "evenflow/data/file_stream.h"
#include "evenflow/format/input.h"

namespace evenflow::data {
namespace {
using format::CsvColumn;
using format::CsvType;

constexpr int64_t kWindow = int64_t(256) << 10;
constexpr size_t kTypedBy = 100;         // rows
constexpr size_t kMostClasses = 10'000;  // of a label of text

// Text from the front of a file on, at least one whole row where there is one.
class Rows {
 public:
  Rows(const std::string& path, const format::CsvFormat& f) : stream_(path), format_(f) {}
  const format::InputStream& stream() const { return stream_; }
  /// is_last: nothing comes behind it.
  std::string_view window(bool* is_last) {
    for (int64_t n = kWindow;; n *= 2) {
      const std::string_view text = stream_.peek(n);
      *is_last = int64_t(text.size()) < n;
      if (*is_last || format::csv_row_bytes(text, false)) return text;
      if (n > format_.max_row_bytes)
        fail(Code::ResourceExhausted,
             {"csv: ", format::place(stream_.name(), row_, stream_.offset()), " has more than ",
              format_.max_row_bytes, " bytes; is a quote left open?"});
    }
  }
  void took(int64_t bytes, int64_t rows) { stream_.skip(bytes), row_ += rows; }
  int64_t row() const { return row_; }
  void seek(int64_t row, int64_t offset) { stream_.seek(offset), row_ = row; }
  /// The next row's fields; none at the end. Empty lines are no rows.
  std::vector<std::string> fields() {
    for (;;) {
      bool is_last = false;
      const std::string_view text = window(&is_last);
      const auto row = format::csv_row(text, format_.delimiter, is_last);
      if (!row || !row->bytes) return {};
      took(row->bytes, 1);
      if (row->fields.size() != 1 || !row->fields[0].empty()) return row->fields;
    }
  }

 private:
  format::InputStream stream_;
  const format::CsvFormat& format_;
  int64_t row_ = 0;
};

// What all cursors of a dataset share.
struct Table {
  CsvOptions options;
  std::vector<CsvColumn> columns;  // of the file, those that are not wanted skipped
  std::vector<size_t> kept;        // the wanted ones, in their order; the label is the last
  bool has_label = false;
  Schema schema;
};

class CsvFeed final : public Feed {
 public:
  CsvFeed(const std::string& path, std::shared_ptr<const Table> table)
      : table_(std::move(table)),
        rows_(path, table_->options.format),
        parser_(table_->columns, table_->options.format) {
    if (table_->options.header) check_header();
  }
  Chunk next(int64_t at_most) override {
    for (;;) {
      Chunk c = typed(at_most);
      if (c.rows && table_->has_label && c.columns.back().kind() == ColumnKind::strings) {
        c = classified(std::move(c));
        if (!c.rows) continue;
      }
      return c;
    }
  }
  void save(StateWriter& to) const override {
    to.number(rows_.row());
    to.number(rows_.stream().offset());
  }
  void load(StateReader& from) override {
    const int64_t row = from.number(kInfinite);
    rows_.seek(row, from.number(kInfinite));
  }

 private:
  // Where the values of a chunk go.
  struct Buffers {
    Buffers(const Table& t, int64_t rows) : table(t), sinks(t.columns.size()) {
      const int64_t features = int64_t(t.kept.size()) - 1;
      if (t.has_label) matrix = make_array({DType::f32, {rows, features}});
      for (size_t k = 0; k < t.kept.size(); ++k) {
        const CsvType type = t.columns[t.kept[k]].type;
        const bool is_feature = t.has_label && k + 1 < t.kept.size();
        arrays.push_back(is_feature || type == CsvType::string ? Array()
                                                               : make_array({dtype(type), {rows}}));
        strings.emplace_back();
      }
    }
    static DType dtype(CsvType t) {
      switch (t) {
        case CsvType::f64:
          return DType::f64;
        case CsvType::i32:
          return DType::i32;
        case CsvType::i64:
          return DType::i64;
        default:
          return DType::f32;
      }
    }
    // The next value of each column goes to this row.
    void place(int64_t row) {
      for (size_t k = 0; k < table.kept.size(); ++k) {
        format::CsvSink& s = sinks[table.kept[k]];
        if (table.columns[table.kept[k]].type == CsvType::string) {
          s.bytes = &strings[k].bytes, s.ends = &strings[k].offsets;
        } else if (table.has_label && k + 1 < table.kept.size()) {
          s.stride = int64_t(table.kept.size() - 1) * 4;
          s.at = static_cast<char*>(matrix.data->data()) + row * s.stride + int64_t(k) * 4;
        } else {
          s.stride = size_of(arrays[k].sig.dtype);
          s.at = static_cast<char*>(arrays[k].data->data()) + row * s.stride;
        }
      }
    }
    // Forgets what a damaged row left behind `rows` whole ones.
    void cut(int64_t rows) {
      for (auto& s : strings)
        if (int64_t(s.offsets.size()) > rows + 1) {
          s.offsets.resize(size_t(rows) + 1);
          s.bytes.resize(size_t(s.offsets.back()));
        }
    }
    Column column(size_t k, int64_t rows) {
      return arrays[k].data ? Column(arrays[k]).slice(0, rows) : Column(std::move(strings[k]));
    }
    const Table& table;
    std::vector<format::CsvSink> sinks;
    Array matrix;
    std::vector<Array> arrays;
    std::vector<Strings> strings;
  };

  Chunk typed(int64_t at_most) {
    const size_t n = table_->kept.size(), features = n - table_->has_label;
    Buffers b(*table_, at_most);
    int64_t done = 0;
    while (done < at_most) {
      bool is_last = false;
      const std::string_view text = rows_.window(&is_last);
      if (text.empty()) break;
      b.place(done);
      format::CsvParser::Parsed parsed;
      try {
        parser_.parse(text, is_last, at_most - done, b.sinks, parsed);
      } catch (const Error& e) {
        b.cut(done += parsed.rows);
        rows_.took(parsed.bytes, parsed.rows);
        const std::string_view bad = text.substr(size_t(parsed.bytes));
        skip_or_throw(
            table_->options.skipped,
            {e.code(),
             concat({"csv: ",
                     format::place(rows_.stream().name(), rows_.row(), rows_.stream().offset()),
                     ": ", e.what()})});
        rows_.took(std::max<int64_t>(format::csv_row_bytes(bad, is_last), 1), 1);
        continue;
      }
      done += parsed.rows;
      rows_.took(parsed.bytes, parsed.rows);
      if (!parsed.bytes) break;
    }
    if (!done) return {};
    Chunk c{{}, done};
    if (table_->has_label) c.columns.push_back(Column(b.matrix).slice(0, done));
    for (size_t k = table_->has_label ? features : 0; k < n; ++k)
      c.columns.push_back(b.column(k, done));
    return c;
  }
  void check_header() {
    const std::vector<std::string> names = rows_.fields();
    for (size_t k = 0; k < table_->columns.size() || k < names.size(); ++k)
      if (k >= names.size() || k >= table_->columns.size() || names[k] != table_->columns[k].name)
        fail({"csv: column ", k, " of ", rows_.stream().name(), " is ",
              k < names.size() ? "\"" + names[k] + "\"" : "missing", ", expected ",
              k < table_->columns.size() ? "\"" + table_->columns[k].name + "\"" : "no more"});
  }
  // With the number of its class for the text of a label.
  Chunk classified(Chunk c) {
    const Strings& names = c.columns.back().strings();
    const auto& all = table_->options.class_names;
    std::vector<int64_t> known, of;
    for (int64_t i = 0; i < c.rows; ++i) {
      const auto at = std::find(all.begin(), all.end(), names[i]);
      if (at != all.end()) {
        known.push_back(i);
        of.push_back(at - all.begin());
        continue;
      }
      skip_or_throw(table_->options.skipped,
                    {Code::OutOfRange,
                     concat({"csv: ", rows_.stream().name(), ": the label \"", names[i],
                             "\" is none of the ", all.size(), " class_names; it is within ",
                             c.rows, " rows before row ", rows_.row()})});
    }
    c.columns.pop_back();
    if (int64_t(known.size()) < c.rows) c = c.gather(known);
    c.columns.emplace_back(tensor(of, {c.rows}));
    return c;
  }

  std::shared_ptr<const Table> table_;
  Rows rows_;
  format::CsvParser parser_;
};

std::vector<CsvColumn> columns_of(const std::string& path, const CsvOptions& o) {
  Rows rows(path, o.format);
  std::vector<std::string> names;
  if (o.header) names = rows.fields();
  std::vector<std::vector<std::string>> first;
  for (std::vector<std::string> f; first.size() < kTypedBy && !(f = rows.fields()).empty();)
    first.push_back(std::move(f));
  if (!o.header && !first.empty())
    for (size_t k = 0; k < first[0].size(); ++k) names.push_back(std::to_string(k));
  if (names.empty()) fail(Code::DataLoss, {"csv: ", path, " is empty, expected at least one row"});
  for (size_t r = 0; r < first.size(); ++r)
    if (first[r].size() != names.size())
      fail(Code::DataLoss, {"csv: ", path, " has ", first[r].size(), " fields in row ",
                            r + size_t(o.header), ", expected ", names.size()});
  const std::vector<CsvType> types = format::csv_types(first, names.size(), o.format);
  std::vector<CsvColumn> r;
  for (size_t k = 0; k < names.size(); ++k) r.push_back({names[k], types[k]});
  return r;
}

std::string listed(const std::vector<CsvColumn>& columns) {
  std::string s;
  for (auto& c : columns) s += (s.empty() ? "\"" : ", \"") + c.name + "\"";
  return s;
}
size_t find(const std::vector<CsvColumn>& columns, const std::string& name) {
  for (size_t k = 0; k < columns.size(); ++k)
    if (columns[k].name == name) return k;
  fail(Code::NotFound, {"csv: there is no column \"", name, "\"; there are ", listed(columns)});
}

}  // namespace

std::vector<std::string> csv_classes(const std::vector<std::string>& paths,
                                     const std::string& column, const CsvOptions& options) {
  CsvOptions o = options;
  o.label.clear(), o.select = {column};
  std::set<std::string, std::less<>> all;
  Iterator pass(csv(paths, o));
  for (Chunk c; (c = pass.next_chunk(1024)).rows;) {
    if (c.columns[0].kind() != ColumnKind::strings)
      fail({"csv: column \"", column, "\" is ", str(Schema{c.columns[0].field()}),
            ", expected text"});
    for (int64_t i = 0; i < c.rows; ++i)
      if (const std::string_view s = c.columns[0].strings()[i]; !all.contains(s)) all.emplace(s);
    if (all.size() > kMostClasses)
      fail(Code::ResourceExhausted, {"csv: column \"", column, "\" has more than ", kMostClasses,
                                     " different texts; is it a class?"});
  }
  return {all.begin(), all.end()};
}

Dataset csv(const std::vector<std::string>& patterns, CsvOptions o) {
  const std::vector<std::string> paths = matching_files(patterns);
  auto t = std::make_shared<Table>();
  t->columns = o.columns.empty() ? columns_of(paths[0], o) : o.columns;
  t->has_label = !o.label.empty();
  for (auto& name : o.select) t->kept.push_back(find(t->columns, name));
  if (o.select.empty())
    for (size_t k = 0; k < t->columns.size(); ++k)
      if (t->columns[k].type != CsvType::skipped) t->kept.push_back(k);
  if (t->has_label) {
    const size_t label = find(t->columns, o.label);
    std::erase(t->kept, label);
    if (t->kept.empty()) fail({"csv: there is no column beside the label \"", o.label, "\""});
    for (size_t k : t->kept) {
      if (t->columns[k].type == CsvType::string)
        fail({"csv: column \"", t->columns[k].name,
              "\" holds text, expected numbers beside a label; select others"});
      t->columns[k].type = CsvType::f32;
    }
    t->kept.push_back(label);
    if (t->columns[label].type == CsvType::string && o.class_names.empty())
      o.class_names = csv_classes(patterns, o.label, o);
    t->schema.push_back({.name = "x", .dims = {int64_t(t->kept.size()) - 1}});
  }
  for (size_t k = 0; k < t->columns.size(); ++k)
    if (std::find(t->kept.begin(), t->kept.end(), k) == t->kept.end())
      t->columns[k].type = CsvType::skipped;
  for (size_t k : t->kept) {
    const CsvColumn& c = t->columns[k];
    if (t->has_label && c.name != o.label) continue;
    Field f{.name = c.name};
    if (c.type == CsvType::string)
      f = t->has_label ? Field{.name = c.name, .dtype = DType::i64}
                       : Field{.name = c.name, .kind = ColumnKind::strings};
    else
      f.dtype = c.type == CsvType::f64   ? DType::f64
                : c.type == CsvType::i32 ? DType::i32
                : c.type == CsvType::i64 ? DType::i64
                                         : DType::f32;
    t->schema.push_back(f);
  }
  const Schema schema = t->schema;
  t->options = std::move(o);
  std::shared_ptr<const Table> table = std::move(t);
  return Dataset::from(file_stream("csv", schema, paths, [table](const std::string& path) {
    return std::make_unique<CsvFeed>(path, table);
  }));
}

}  // namespace evenflow::data
