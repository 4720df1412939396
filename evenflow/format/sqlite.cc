// SPDX-License-Identifier: Apache-2.0
#include "evenflow/format/sqlite.h"

#include <sqlite3.h>

#include "evenflow/core/error.h"
#include "evenflow/format/input.h"

namespace evenflow::format {
namespace {

constexpr int kMaxValue = 256 << 20;  // bytes of a text or blob

Code code_of(int result) {
  switch (result & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_IOERR:
      return Code::DataLoss;
    case SQLITE_NOMEM:
    case SQLITE_TOOBIG:
    case SQLITE_FULL:
      return Code::ResourceExhausted;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PERM:
    case SQLITE_CANTOPEN:
      return Code::FailedPrecondition;
    default:
      return Code::InvalidArgument;
  }
}

// A query reads, and nothing else: no ATTACH, no PRAGMA.
int only_reads(void*, int action, const char*, const char*, const char*, const char*) {
  return action == SQLITE_SELECT || action == SQLITE_READ || action == SQLITE_FUNCTION ||
                 action == SQLITE_RECURSIVE
             ? SQLITE_OK
             : SQLITE_DENY;
}

}  // namespace

std::string_view str(SqlType type) {
  constexpr std::string_view names[] = {"NULL", "INTEGER", "REAL", "TEXT", "BLOB"};
  return names[size_t(type)];
}

std::string sql_name(std::string_view name) {
  std::string out = "\"";
  for (const char c : name) {
    if (c == '"') out += c;
    out += c;
  }
  return out + '"';
}

struct SqliteQuery::Impl {
  std::string path;
  sqlite3* db = nullptr;
  sqlite3_stmt* statement = nullptr;
  int64_t row = 0;

  ~Impl() {
    sqlite3_finalize(statement);
    sqlite3_close(db);
  }
  void check(int result) const {
    if (result == SQLITE_OK || result == SQLITE_ROW || result == SQLITE_DONE) return;
    fail(code_of(result), {"sqlite \"", path, "\" record ", row, ": ", sqlite3_errmsg(db)});
  }
};

SqliteQuery::SqliteQuery(const std::string& path, const std::string& sql)
    : impl_(std::make_unique<Impl>()) {
  impl_->path = path;
  const InputFile there(path);  // says what is wrong with it better than SQLite does
  // Some builds take a name that begins with "file:" for a URI with options.
  const std::string name = path.starts_with("file:") ? "./" + path : path;
  impl_->check(sqlite3_open_v2(name.c_str(), &impl_->db,
                               SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
                               nullptr));
  // The file may be anybody's: its schema gets no say, and its sizes a bound.
  sqlite3_db_config(impl_->db, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(impl_->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  sqlite3_limit(impl_->db, SQLITE_LIMIT_LENGTH, kMaxValue);
  sqlite3_busy_timeout(impl_->db, 1000);
  sqlite3_set_authorizer(impl_->db, only_reads, nullptr);
  const char* rest = nullptr;
  impl_->check(
      sqlite3_prepare_v2(impl_->db, sql.data(), int(sql.size()), &impl_->statement, &rest));
  const std::string_view behind(rest, size_t(sql.data() + sql.size() - rest));
  if (!impl_->statement || behind.find_first_not_of(" \t\r\n;") != behind.npos)
    fail({"sqlite \"", path, "\": the query is \"", sql, "\", expected one SELECT"});
}
SqliteQuery::~SqliteQuery() = default;
SqliteQuery::SqliteQuery(SqliteQuery&&) noexcept = default;

int SqliteQuery::columns() const { return sqlite3_column_count(impl_->statement); }
std::string_view SqliteQuery::column_name(int column) const {
  const char* name = sqlite3_column_name(impl_->statement, column);
  return name ? name : "";
}
std::string SqliteQuery::declared_type(int column) const {
  const char* type = sqlite3_column_decltype(impl_->statement, column);
  std::string upper = type ? type : "";
  for (char& c : upper)
    if (c >= 'a' && c <= 'z') c = char(c - 'a' + 'A');
  return upper;
}

void SqliteQuery::start(std::initializer_list<int64_t> values) {
  sqlite3_reset(impl_->statement);
  int i = 0;
  for (const int64_t v : values) impl_->check(sqlite3_bind_int64(impl_->statement, ++i, v));
  impl_->row = 0;
}
bool SqliteQuery::next() {
  const int result = sqlite3_step(impl_->statement);
  impl_->check(result);
  ++impl_->row;
  return result == SQLITE_ROW;
}

SqlType SqliteQuery::type(int column) const {
  switch (sqlite3_column_type(impl_->statement, column)) {
    case SQLITE_INTEGER:
      return SqlType::integer;
    case SQLITE_FLOAT:
      return SqlType::real;
    case SQLITE_TEXT:
      return SqlType::text;
    case SQLITE_BLOB:
      return SqlType::blob;
    default:
      return SqlType::null;
  }
}
int64_t SqliteQuery::integer(int column) const {
  return sqlite3_column_int64(impl_->statement, column);
}
double SqliteQuery::real(int column) const {
  return sqlite3_column_double(impl_->statement, column);
}
std::string_view SqliteQuery::bytes(int column) const {
  const void* p = sqlite3_column_blob(impl_->statement, column);
  return {static_cast<const char*>(p),
          p ? size_t(sqlite3_column_bytes(impl_->statement, column)) : 0};
}

}  // namespace evenflow::format
