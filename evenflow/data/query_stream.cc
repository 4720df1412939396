// SPDX-License-Identifier: Apache-2.0
// The rows of an SQLite query.
#include <algorithm>
#include <cctype>
#include <utility>

#include "evenflow/data/file_stream.h"
#include "evenflow/format/sqlite.h"

namespace evenflow::data {
namespace {
using format::SqlType;

class QueryFeed final : public Feed {
 public:
  QueryFeed(const std::string& path, const std::string& query, const Schema& schema)
      : path_(path),
        query_(path, "SELECT * FROM (" + query + ") LIMIT -1 OFFSET ?1"),
        schema_(schema) {}
  Chunk next(int64_t at_most) override {
    if (!std::exchange(started_, true)) query_.start({row_}), ended_ = false;
    std::vector<std::vector<int64_t>> integers(schema_.size());
    std::vector<std::vector<float>> reals(schema_.size());
    std::vector<Strings> texts(schema_.size());
    int64_t rows = 0;
    for (; rows < at_most && !ended_ && !(ended_ = !query_.next()); ++rows, ++row_)
      for (size_t k = 0; k < schema_.size(); ++k) {
        const int column = int(k);
        if (schema_[k].kind == ColumnKind::strings)
          texts[k].push_back(is_null(column) ? refused(k) : query_.bytes(column));
        else if (schema_[k].dtype == DType::i64)
          integers[k].push_back(query_.type(column) == SqlType::integer
                                    ? query_.integer(column)
                                    : int64_t(refused(k).size()));
        else
          reals[k].push_back(is_number(column) ? float(query_.real(column))
                                               : float(refused(k).size()));
      }
    if (!rows) return {};
    Chunk c{{}, rows};
    for (size_t k = 0; k < schema_.size(); ++k)
      c.columns.push_back(schema_[k].kind == ColumnKind::strings ? Column(std::move(texts[k]))
                          : schema_[k].dtype == DType::i64 ? Column(tensor(integers[k], {rows}))
                                                           : Column(tensor(reals[k], {rows})));
    return c;
  }
  void save(StateWriter& to) const override { to.number(row_); }
  void load(StateReader& from) override { row_ = from.number(kInfinite), started_ = false; }

 private:
  bool is_null(int column) const { return query_.type(column) == SqlType::null; }
  bool is_number(int column) const {
    return query_.type(column) == SqlType::integer || query_.type(column) == SqlType::real;
  }
  [[noreturn]] std::string_view refused(size_t k) const {
    fail({"sqlite: ", path_, " row ", row_, ": column \"", schema_[k].name, "\" is ",
          str(query_.type(int(k))), ", expected ", str(Schema{schema_[k]}),
          " as in the first row"});
  }

  const std::string path_;
  format::SqliteQuery query_;
  const Schema schema_;
  bool started_ = false;
  bool ended_ = false;  // a step behind the end would begin again
  int64_t row_ = 0;
};

bool is_query(std::string_view s) {
  while (!s.empty() && std::isspace(static_cast<unsigned char>(s.front()))) s.remove_prefix(1);
  std::string word(s.substr(0, 6));
  std::transform(word.begin(), word.end(), word.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return (word == "select" || word.starts_with("with")) && s.find_first_of(" \t\n") != s.npos;
}

}  // namespace

Dataset sqlite(const std::string& path, const std::string& table_or_query) {
  const std::string query = is_query(table_or_query)
                                ? table_or_query
                                : "SELECT * FROM " + format::sql_name(table_or_query);
  format::SqliteQuery first(path, query);
  first.start();
  const bool has_row = first.next();
  Schema schema;
  for (int k = 0; k < first.columns(); ++k) {
    Field f{.name = std::string(first.column_name(k))};
    const SqlType type = has_row ? first.type(k) : SqlType::real;
    if (type == SqlType::null)
      fail({"sqlite: ", path, " row 0: column \"", f.name,
            "\" is null, expected a value that tells "
            "its type; leave such rows out by a query"});
    if (type == SqlType::integer) f.dtype = DType::i64;
    // A whole number in a column of reals is stored as an integer.
    if (type == SqlType::integer && first.declared_type(k).find("REAL") != std::string::npos)
      f.dtype = DType::f32;
    if (type == SqlType::text || type == SqlType::blob) f.kind = ColumnKind::strings;
    schema.push_back(f);
  }
  return Dataset::from(file_stream("sqlite", schema, {path}, [=](const std::string& p) {
    return std::make_unique<QueryFeed>(p, query, schema);
  }));
}

}  // namespace evenflow::data
