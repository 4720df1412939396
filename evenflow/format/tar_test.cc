// SPDX-License-Identifier: Apache-2.0
#include "evenflow/format/tar.h"

#include "evenflow/format/format_testing.h"

namespace evenflow::format {
namespace {

/// A header of the given fields with its checksum, as POSIX.1-2001 has it.
std::string header(const std::string& name, const std::string& size, char type = '0') {
  std::string h(512, '\0');
  h.replace(0, name.size(), name);
  h.replace(100, 8, std::string("0000644\0", 8));
  h.replace(124, size.size(), size);
  h[156] = type;
  h.replace(257, 8, std::string("ustar\00000", 8));
  h.replace(148, 8, "        ");
  int sum = 0;
  for (const char c : h) sum += uint8_t(c);
  char text[16];
  std::snprintf(text, sizeof text, "%06o", unsigned(sum));
  h.replace(148, 6, text, 6);
  h[154] = '\0';
  return h;
}
/// An extended header of pax and its lines.
std::string pax(const std::string& lines) {
  char size[16];
  std::snprintf(size, sizeof size, "%o", unsigned(lines.size()));
  std::string body = lines;
  return header("h", size, 'x') + body.append((512 - body.size() % 512) % 512, '\0');
}
std::string padded(std::string s) { return s.append((512 - s.size() % 512) % 512, '\0'); }

std::map<std::string, std::string> files(InputStream stream, const TarLimits& limits = {}) {
  TarReader tar(std::move(stream), limits);
  std::map<std::string, std::string> all;
  for (TarEntry e; tar.next(&e);) {
    EXPECT_EQ(int64_t(tar.read().size()), e.size);
    all[e.name] = tar.read();
  }
  return all;
}
std::map<std::string, std::string> files_in(const std::string& bytes) {
  return files(InputStream(bytes, "x.tar"));
}
void refused(Code code, std::initializer_list<std::string> words, const std::string& bytes) {
  expect_refused(code, words, [&] { files_in(bytes); });
}

TEST(Tar, WhatPythonWrote) {
  for (const std::string name : {"ustar.tar", "pax.tar", "gnu.tar", "pax.tar.gz"}) {
    const auto all = files(InputStream(made_by_others(name)));
    EXPECT_EQ(all.size(), 5u) << name;
    for (const auto& [file, bytes] : values_of_others()["tar"].items()) {
      std::string expected;
      for (const int b : bytes) expected += char(b);
      std::string key = file;
      std::string four;
      for (int i = 0; i < 40; ++i) four += "long";
      if (name == "ustar.tar" && key.find(four) != key.npos) {
        std::string split;
        for (int i = 0; i < 20; ++i) split += "long";
        split += "/";
        for (int i = 0; i < 20; ++i) split += "name";
        key = "b/" + split + ".bin";
      }
      ASSERT_TRUE(all.count(key)) << name << ": " << key;
      EXPECT_EQ(all.at(key), expected) << name << ": " << key;
    }
  }
}

TEST(Tar, FilesNeedNotBeRead) {
  for (const std::string name : {"pax.tar", "pax.tar.gz"}) {
    TarReader tar{InputStream(made_by_others(name))};
    int n = 0;
    for (TarEntry e; tar.next(&e);) ++n;
    EXPECT_EQ(n, 5);
  }
}

TEST(Tar, GoesBackToWhereItStood) {
  for (const std::string name : {"pax.tar", "pax.tar.gz", "gnu.tar"}) {
    TarReader tar{InputStream(made_by_others(name))}, other{InputStream(made_by_others(name))};
    TarEntry e, again;
    tar.next(&e);
    tar.next(&e);
    const int64_t entry = tar.entry(), offset = tar.offset();
    tar.next(&e);
    other.seek(entry, offset);
    ASSERT_TRUE(other.next(&again));
    EXPECT_EQ(again.name, e.name);
    EXPECT_EQ(other.read(), tar.read());
  }
}

TEST(Tar, RefusesNamesAndKinds) {
  for (const auto& [file, word] :
       std::map<std::string, std::string>{{"link.tar", "is a link"},
                                          {"hard_link.tar", "is a link"},
                                          {"device.tar", "is a device"},
                                          {"above.tar", "holds \"..\""},
                                          {"absolute.tar", "is absolute"}})
    expect_refused(Code::DataLoss, {file, "record 0 (byte 0)", word},
                   [&] { files(InputStream(made_by_others(file))); });
  refused(Code::DataLoss, {"is empty"}, header("", "0"));
  refused(Code::DataLoss, {"empty part"}, header("a//b", "0"));
  refused(Code::DataLoss, {"control character"}, header("a\nb", "0"));
  refused(Code::DataLoss, {"holds \"..\""}, header("..", "0", '5'));
  refused(Code::Unimplemented, {"sparse"}, header("a", "0", 'S'));
  refused(Code::Unimplemented, {"has the type 90"}, header("a", "0", 'Z'));
}

TEST(Tar, HostileHeaders) {
  const std::string zero(1024, '\0');
  EXPECT_EQ(files_in(header("a", "5") + padded("12345") + zero).at("a"), "12345");
  EXPECT_EQ(files_in(header("./a", "5") + padded("12345")).at("a"), "12345");  // no end blocks
  EXPECT_TRUE(files_in("").empty());
  EXPECT_TRUE(files_in(zero).empty());
  refused(Code::DataLoss, {"ends within an entry"}, header("a", "5"));
  refused(Code::DataLoss, {"ends within an entry"}, header("a", "5").substr(0, 300));
  refused(Code::DataLoss, {"checksum"}, "x" + header("a", "5").substr(1));
  refused(Code::DataLoss, {"checksum"}, std::string(512, 'x'));
  refused(Code::DataLoss, {"the size is no number"}, header("a", "9"));
  refused(Code::DataLoss, {"the size is no number"},
          header("a", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"));
  refused(Code::ResourceExhausted, {"expected at most"}, header("a", "77777777777"));
  refused(Code::ResourceExhausted, {"expected at most"},
          header("a", std::string("\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", 12)));
  refused(Code::DataLoss, {"the size is no number"},
          header("a", std::string("\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12)));
  refused(Code::ResourceExhausted, {"an extended header has"}, header("a", "77777777", 'x'));
  for (const std::string lines : {"8 path=x\n", "99 path=x\n", "x", "0 a\n", "10 size=x1\n",
                                  "11 size=-1\n", "99999999999 a=b\n"})
    refused(Code::DataLoss, {"pax header"}, pax(lines) + header("a", "0"));
  refused(Code::DataLoss, {"holds \"..\""}, pax("12 path=../\n") + header("a", "0"));
  refused(Code::Unimplemented, {"sparse"}, pax("22 GNU.sparse.major=1\n") + header("a", "0"));
  EXPECT_EQ(files_in(pax("10 path=b\n10 size=3\n") + header("a", "0") + padded("xyz")).at("b"),
            "xyz");
  std::string bytes = header("a", "5") + padded("12345");
  expect_refused(Code::ResourceExhausted, {"5 bytes, expected at most 4"},
                 [&] { files(InputStream(bytes, "x"), {.max_file_bytes = 4}); });
}

}  // namespace
}  // namespace evenflow::format
