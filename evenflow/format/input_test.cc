// SPDX-License-Identifier: Apache-2.0
#include "evenflow/format/input.h"

#include "evenflow/format/format_testing.h"
#include "evenflow/format/gzip.h"

namespace evenflow::format {
namespace {

std::string counted(int64_t n) {
  std::string s;
  for (int64_t i = 0; int64_t(s.size()) < n; ++i) s += std::to_string(i * 7919 % 100003) + ",";
  return s.substr(0, size_t(n));
}
std::string zipped(const Folder& folder, std::string_view bytes) {
  const std::string path = folder("x.gz");
  write_file_atomically(path, [&](FileWriter& out) {
    GzipWriter gzip(out);
    gzip.append(bytes.substr(0, bytes.size() / 2));
    gzip.append(bytes.substr(bytes.size() / 2));
    gzip.finish();
  });
  return path;
}
std::string rest(InputStream& s, int64_t piece) {
  std::string all;
  for (;;) {
    const std::string_view v = s.peek(piece);
    if (v.empty()) return all;
    all += v.substr(0, size_t(piece));
    s.skip(std::min<int64_t>(piece, int64_t(v.size())));
  }
}

TEST(Input, FileIsReadAnywhere) {
  const Folder folder;
  const std::string bytes = counted(100000);
  const InputFile file(folder.put("x", bytes));
  EXPECT_EQ(file.size(), 100000);
  std::string got(50, ' ');
  file.read(99950, got.data(), 50);
  EXPECT_EQ(got, bytes.substr(99950));
  EXPECT_EQ(file.read_some(99990, got.data(), 50), 10);
  expect_refused(Code::DataLoss, {file.path(), "ends at byte 100000"},
                 [&] { file.read(99990, got.data(), 50); });
}

TEST(Input, WindowMoves) {
  const Folder folder;
  const std::string bytes = counted(3000);
  const InputFile file(folder.put("x", bytes));
  InputWindow window(file, 100);
  for (int64_t at : {0, 30, 95, 2990, 10, 2500})
    EXPECT_EQ(window.view(at, 10), bytes.substr(size_t(at), 10)) << at;
  EXPECT_EQ(window.view(0, 3000), bytes);
  EXPECT_EQ(window.view(3000, 0), "");
  expect_refused(Code::DataLoss, {"ends at byte 3000"}, [&] { window.view(2990, 11); });
  // Not even memory is asked for.
  expect_refused(Code::DataLoss, {"ends at byte 3000"},
                 [&] { window.view(10, std::numeric_limits<int64_t>::max()); });
  expect_refused(Code::DataLoss, {}, [&] { window.view(-1, 2); });
}

TEST(Input, FileThatBecomesShorter) {
  const Folder folder;
  const std::string path = folder.put("x", counted(1 << 20));
  const InputFile file(path);
  InputStream stream(path);
  stream.peek(10);
  std::filesystem::resize_file(path, 1000);
  std::string to(100, ' ');
  expect_refused(Code::DataLoss, {path, "it changed: it had 1048576 bytes"},
                 [&] { file.read(5000, to.data(), 100); });
  expect_refused(Code::DataLoss, {path, "it changed"}, [&] { rest(stream, 5000); });
}

TEST(Input, FileThatVanishesStays) {
  const Folder folder;
  const std::string path = folder.put("x", "what is open stays");
  const InputFile file(path);
  std::filesystem::remove(path);
  std::string to(4, ' ');
  file.read(0, to.data(), 4);
  EXPECT_EQ(to, "what");
  expect_refused(Code::NotFound, {path}, [&] { InputFile again(path); });
}

TEST(Input, RefusesWhatIsNoFile) {
  expect_refused(Code::InvalidArgument, {"/tmp"}, [] { InputFile f("/tmp"); });
  expect_refused(Code::InvalidArgument, {"/dev/zero", "device"}, [] { InputFile f("/dev/zero"); });
  expect_refused(Code::InvalidArgument, {"empty"}, [] { InputFile f(""); });
  expect_refused(Code::InvalidArgument, {"zero byte"},
                 [] { InputFile f(std::string("/tmp/a\0b", 8)); });
}

TEST(Input, StreamsOfBothKindsGiveTheSame) {
  const Folder folder;
  const std::string bytes = counted(3000000);
  for (const std::string& path : {folder.put("x", bytes), zipped(folder, bytes)}) {
    InputStream s(path);
    EXPECT_EQ(s.compressed(), path.ends_with("gz"));
    for (const int64_t piece : {1 << 20, 1000}) {
      s.seek(0);
      EXPECT_EQ(rest(s, piece), bytes);
      EXPECT_EQ(s.offset(), 3000000);
      EXPECT_EQ(s.peek(1), "");
    }
    for (const int64_t at : {2999990, 5, 1500000, 0, 2999999, 3000000}) {
      s.seek(at);
      EXPECT_EQ(s.offset(), at);
      EXPECT_EQ(s.peek(10).substr(0, 10), bytes.substr(size_t(at), 10));
    }
    expect_refused(Code::DataLoss, {"ends at byte"}, [&] { s.seek(3000001); });
  }
}

TEST(Input, GzipOfOthers) {
  InputStream gz(made_by_others("pax.tar.gz")), tar(made_by_others("pax.tar"));
  EXPECT_EQ(rest(gz, 512), rest(tar, 512));
}

TEST(Input, DamagedGzip) {
  const Folder folder;
  std::string bytes = read_file(zipped(folder, counted(200000)));
  const auto read = [&](const std::string& b) {
    InputStream s(folder.put("y.gz", b));
    rest(s, 1000);
  };
  expect_refused(Code::DataLoss, {"y.gz", "too early", "byte"},
                 [&] { read(bytes.substr(0, bytes.size() - 9)); });
  expect_refused(Code::DataLoss, {"y.gz", "behind the end"}, [&] { read(bytes + "more"); });
  bytes[bytes.size() / 2] ^= 0x55;
  expect_refused(Code::DataLoss, {"y.gz", "damaged"}, [&] { read(bytes); });
}

TEST(Input, GzipBomb) {
  const Folder folder;
  const std::string path = zipped(folder, std::string(64 << 20, '\0'));
  InputStream s(path);
  expect_refused(Code::ResourceExhausted, {path, "at most 200 for each"}, [&] { rest(s, 1000); });
  EXPECT_GE(s.offset(), (16 << 20) - (1 << 20));  // as much is granted to anybody
  InputStream small(path, {.max_bytes = 1000000, .max_ratio = 2000});
  expect_refused(Code::ResourceExhausted, {path, "more than 1000000 bytes"},
                 [&] { rest(small, 1000); });
  InputStream willing(path, {.max_ratio = 2000});
  EXPECT_EQ(rest(willing, 1 << 20).size(), size_t(64 << 20));
}

}  // namespace
}  // namespace evenflow::format
