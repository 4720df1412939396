// SPDX-License-Identifier: Apache-2.0
#include "evenflow/format/sqlite.h"

#include "evenflow/format/format_testing.h"

namespace evenflow::format {
namespace {

const std::string kTable = made_by_others("table.sqlite");

TEST(Sqlite, ReadsWhatPythonWrote) {
  SqliteQuery q(kTable, "select * from flowers");
  ASSERT_EQ(q.columns(), 6);
  EXPECT_EQ(q.column_name(0), "length");
  EXPECT_EQ(q.declared_type(0), "REAL");
  EXPECT_EQ(q.declared_type(5), "");
  for (int again = 0; again < 2; ++again) {
    int i = 0;
    for (q.start(); q.next(); ++i) {
      if (i == 3) ++i;  // deleted
      EXPECT_EQ(q.real(0), i / 4.);
      EXPECT_EQ(q.type(1), i == 5 ? SqlType::null : SqlType::real);
      EXPECT_EQ(q.bytes(2), concat({"kind ", i % 3}));
      EXPECT_EQ(q.integer(3), i * 1000000000000);
      EXPECT_EQ(q.bytes(4), std::string({char(i), 0, char(255)}));
      EXPECT_EQ(q.type(4), SqlType::blob);
    }
    EXPECT_EQ(i, 9);
  }
}

TEST(Sqlite, BindsAndQuotes) {
  SqliteQuery q(kTable, "select n from flowers where rowid between ?1 and ?2 order by rowid");
  q.start({2, 4});
  std::vector<int64_t> n;
  while (q.next()) n.push_back(q.integer(0));
  EXPECT_THAT(n, testing::ElementsAre(1000000000000, 2000000000000));
  SqliteQuery odd(kTable, "select x from " + sql_name("odd \"name\""));
  ASSERT_TRUE(odd.next());
  EXPECT_EQ(odd.real(0), 1.5);
}

TEST(Sqlite, OnlyOneSelect) {
  for (const char* sql :
       {"delete from flowers", "select 1; select 2", "", "attach 'x' as y", "pragma user_version",
        "create table t (a)", "select * from missing", "select missing from flowers", "selec",
        "select * from pragma_table_info('flowers')"})
    expect_refused(Code::InvalidArgument, {kTable}, [&] {
      SqliteQuery q(kTable, sql);
      q.next();
    });
  SqliteQuery fine(kTable, "select 1; \n");
  EXPECT_TRUE(fine.next());
}

TEST(Sqlite, RefusesOtherFiles) {
  const Folder folder;
  expect_refused(Code::NotFound, {folder("none")},
                 [&] { SqliteQuery q(folder("none"), "select 1"); });
  expect_refused(Code::InvalidArgument, {"/tmp"}, [&] { SqliteQuery q("/tmp", "select 1"); });
  expect_refused(Code::DataLoss, {"not a database"}, [&] {
    SqliteQuery q(folder.put("x", std::string(5000, 'x')), "select * from t");
  });
  std::string bytes = read_file(kTable);
  bytes.replace(4096, 4096, std::string(4096, '\x77'));
  expect_refused(Code::DataLoss, {"y.sqlite"}, [&] {
    SqliteQuery q(folder.put("y.sqlite", bytes), "select * from flowers");
    while (q.next()) continue;
  });
}

}  // namespace
}  // namespace evenflow::format
