// SPDX-License-Identifier: Apache-2.0
#include "evenflow/core/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "evenflow/core/checksum.h"
#include "evenflow/core/log.h"

namespace evenflow {
namespace {
using testing::ElementsAre;

TEST(Error, is_put_together_from_text_and_numbers) {
  try {
    mismatch("conv2d", "kernel", 3, "4 axes");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::InvalidArgument);
    EXPECT_STREQ(e.what(), "conv2d: kernel is 3, expected 4 axes");
  }
  EXPECT_EQ(concat({1, " ", 2u, " ", int64_t(-3), " ", 0.1, " ", 1e300, " ", true, " ",
                    std::string("s")}),
            "1 2 -3 0.1 1e+300 true s");
  EXPECT_EQ(str(Code::DataLoss), "data loss");
  for (int i = 0; i <= int(Code::Internal); ++i) EXPECT_NE(str(Code(i)), "unknown");
}

TEST(Error, a_place_is_a_file_without_its_folders_and_a_line) {
  EXPECT_EQ(str(Where::current()), concat({"error_test.cc:", __LINE__}));
  EXPECT_EQ(str(Where()), "an unknown line");
}

TEST(Log, gives_the_topics_that_were_asked_for) {
  std::vector<std::string> lines;
  set_log("trace,memory", [&](std::string_view l) { lines.emplace_back(l); });
  EXPECT_TRUE(logs(Topic::trace));
  EXPECT_FALSE(logs(Topic::exec));
  log(Topic::trace, "a");
  log(Topic::exec, "b");
  log(Topic::memory, "c");
  set_log("all", [&](std::string_view l) { lines.emplace_back(l); });
  log(Topic::data, "d");
  set_log("tracing", [&](std::string_view l) { lines.emplace_back(l); });
  log(Topic::trace, "e");
  set_log("");
  EXPECT_THAT(lines, ElementsAre("evenflow trace: a", "evenflow memory: c", "evenflow data: d",
                                 "evenflow log: \"tracing\" is no topic, expected dispatch, pass, "
                                 "exec, memory, trace, data, all"));
}

// RFC 3720, appendix B.4, and the check value of CRC-32C.
TEST(Checksum, is_crc32c) {
  EXPECT_EQ(crc32c("123456789", 9), 0xe3069283u);
  std::string zeros(32, '\0'), ones(32, '\xff'), rising, falling;
  for (int i = 0; i < 32; ++i) rising += char(i), falling += char(31 - i);
  EXPECT_EQ(crc32c(zeros.data(), 32), 0x8a9136aau);
  EXPECT_EQ(crc32c(ones.data(), 32), 0x62a8ab43u);
  EXPECT_EQ(crc32c(rising.data(), 32), 0x46dd794eu);
  EXPECT_EQ(crc32c(falling.data(), 32), 0x113fdb5cu);
  EXPECT_EQ(crc32c(nullptr, 0), 0u);
  for (size_t cut = 0; cut <= 32; ++cut) {  // in two parts
    EXPECT_EQ(crc32c(rising.data() + cut, 32 - cut, crc32c(rising.data(), cut)), 0x46dd794eu);
    EXPECT_EQ(detail::crc32c_by_tables(rising.data() + cut, 32 - cut,
                                       detail::crc32c_by_tables(rising.data(), cut)),
              0x46dd794eu);
  }
}

}  // namespace
}  // namespace evenflow
