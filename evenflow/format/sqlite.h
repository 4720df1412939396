// SPDX-License-Identifier: Apache-2.0
// Rows of SQLite databases, read only, over libsqlite3.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace evenflow::format {

enum class SqlType : uint8_t { null, integer, real, text, blob };
std::string_view str(SqlType type);

/// A name in SQL: in quotes, those within doubled.
std::string sql_name(std::string_view name);

/// One query of one database and where it stands. Not for two threads at once; several of them may
/// read one database.
class SqliteQuery {
 public:
  /// `sql` is one SELECT; `?1`, `?2` in it are bound later. Throws NotFound (no such file),
  /// InvalidArgument (what SQLite does not understand, what is not one SELECT, no such table),
  /// DataLoss (no database, a damaged one), FailedPrecondition (locked, no permission).
  SqliteQuery(const std::string& path, const std::string& sql);
  ~SqliteQuery();
  SqliteQuery(SqliteQuery&&) noexcept;

  int columns() const;
  std::string_view column_name(int column) const;
  /// What the table declares, in capitals: "REAL"; empty for an expression.
  std::string declared_type(int column) const;

  /// Begins again with these values for ?1, ?2, ...
  void start(std::initializer_list<int64_t> values = {});
  /// The next row; false at the end. Throws as the constructor does.
  bool next();
  SqlType type(int column) const;            ///< of this row's value
  int64_t integer(int column) const;         ///< of type integer
  double real(int column) const;             ///< of type integer or real
  std::string_view bytes(int column) const;  ///< any but null, as text or as it is; until next()

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace evenflow::format
