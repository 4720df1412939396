// SPDX-License-Identifier: Apache-2.0
#include "evenflow/format/file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>

namespace evenflow::format {
namespace {

namespace fs = std::filesystem;

class FileTest : public testing::Test {
 protected:
  FileTest() {
    std::string name = (fs::temp_directory_path() / "evenflow_file_XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~FileTest() override {
    detail::file_calls() = saved_;
    fs::remove_all(folder_);
  }
  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  size_t entries() const {
    size_t n = 0;
    for (const auto& entry : fs::directory_iterator(folder_)) n += !entry.path().empty();
    return n;
  }

  std::string folder_;
  detail::FileCalls saved_ = detail::file_calls();
};

template <class F>
Code code_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.code();
  }
  ADD_FAILURE() << "no error";
  return Code::Internal;
}

TEST_F(FileTest, RoundTrip) {
  for (const size_t n : {size_t(0), size_t(1), size_t(5000), size_t(3) << 20}) {
    const std::string bytes(n, 'x');
    write_file_atomically(path("a"), bytes);
    EXPECT_EQ(read_file(path("a")), bytes);
    EXPECT_EQ(entries(), 1u);
  }
}

TEST_F(FileTest, Streams) {
  std::string expected;
  write_file_atomically(path("a"), [&](FileWriter& w) {
    for (int i = 0; i < 300; ++i) {
      const std::string part(size_t(i * 37), char('a' + i % 26));
      w.append(part), expected += part;
    }
    EXPECT_EQ(w.written(), int64_t(expected.size()));
  });
  EXPECT_EQ(read_file(path("a")), expected);
}

TEST_F(FileTest, TypedErrorsOfReading) {
  EXPECT_EQ(code_of([&] { read_file(path("none")); }), Code::NotFound);
  EXPECT_EQ(code_of([&] { read_file(folder_); }), Code::InvalidArgument);
  EXPECT_EQ(code_of([&] { read_file(""); }), Code::InvalidArgument);
  EXPECT_EQ(code_of([&] { read_file(std::string("a\0b", 3)); }), Code::InvalidArgument);
  write_file_atomically(path("a"), std::string(100, 'x'));
  EXPECT_EQ(code_of([&] { read_file(path("a"), 99); }), Code::ResourceExhausted);
  EXPECT_EQ(read_file(path("a"), 100).size(), 100u);
  EXPECT_EQ(code_of([&] { read_file("/dev/zero"); }), Code::InvalidArgument);
}

TEST_F(FileTest, TypedErrorsOfWriting) {
  EXPECT_EQ(code_of([&] { write_file_atomically(path("no/a"), "x"); }), Code::NotFound);
  EXPECT_EQ(code_of([&] { write_file_atomically(folder_, "x"); }), Code::InvalidArgument);
  EXPECT_EQ(code_of([&] { write_file_atomically("/dev/full", "x"); }), Code::ResourceExhausted);
  EXPECT_EQ(entries(), 0u);
}

TEST_F(FileTest, AThrowingWriterLeavesTheOldFile) {
  write_file_atomically(path("a"), "old");
  EXPECT_EQ(code_of([&] {
              write_file_atomically(path("a"), [](FileWriter& w) {
                w.append("new");
                fail(Code::FailedPrecondition, {"stop"});
              });
            }),
            Code::FailedPrecondition);
  EXPECT_EQ(read_file(path("a")), "old");
  EXPECT_EQ(entries(), 1u);
}

// Every system call fails in turn, with the errors that disks and quotas give.
TEST_F(FileTest, EveryFailureLeavesTheOldFile) {
  write_file_atomically(path("a"), "old");
  const auto attempt = [&](Code expected) {
    EXPECT_EQ(code_of([&] { write_file_atomically(path("a"), "new"); }), expected);
    detail::file_calls() = saved_;
    EXPECT_EQ(read_file(path("a")), "old");
    EXPECT_EQ(entries(), 1u);
  };
  auto& calls = detail::file_calls();
  calls.write = [](int, const void*, size_t) -> ssize_t { return errno = ENOSPC, -1; };
  attempt(Code::ResourceExhausted);
  calls.write = [](int, const void*, size_t) -> ssize_t { return errno = EIO, -1; };
  attempt(Code::DataLoss);
  calls.write = [](int, const void*, size_t) -> ssize_t { return 0; };
  attempt(Code::ResourceExhausted);
  calls.write = [](int fd, const void* p, size_t n) -> ssize_t {
    static int turn = 0;
    return turn++ == 0 ? ::write(fd, p, std::min<size_t>(n, 1)) : (errno = EDQUOT, -1);
  };
  attempt(Code::ResourceExhausted);
  calls.fsync = [](int) { return errno = EIO, -1; };
  attempt(Code::DataLoss);
  calls.close = [](int fd) { return ::close(fd), errno = EIO, -1; };
  attempt(Code::DataLoss);
  calls.rename = [](const char*, const char*) { return errno = EACCES, -1; };
  attempt(Code::FailedPrecondition);
}

TEST_F(FileTest, ShortWritesAndInterruptionsAreContinued) {
  detail::file_calls().write = [](int fd, const void* p, size_t n) -> ssize_t {
    static int turn = 0;
    if (turn++ % 2 == 0) return errno = EINTR, -1;
    return ::write(fd, p, std::min<size_t>(n, 7));
  };
  detail::file_calls().fsync = [](int fd) {
    static int turn = 0;
    return turn++ % 2 == 0 ? (errno = EINTR, -1) : ::fsync(fd);
  };
  write_file_atomically(path("a"), "a text longer than seven bytes");
  EXPECT_EQ(read_file(path("a")), "a text longer than seven bytes");
}

TEST_F(FileTest, FileSizeLimit) {
  write_file_atomically(path("a"), "old");
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
  const rlimit low{4096, limit.rlim_max};
  auto* handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &low), 0);
  const Code code = code_of([&] { write_file_atomically(path("a"), std::string(10000, 'x')); });
  setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(code, Code::ResourceExhausted);
  EXPECT_EQ(read_file(path("a")), "old");
  EXPECT_EQ(entries(), 1u);
}

TEST_F(FileTest, LinksAreFollowedAndPermissionsKept) {
  write_file_atomically(path("a"), "old");
  ASSERT_EQ(::chmod(path("a").c_str(), 0640), 0);
  fs::create_symlink(path("a"), path("link"));
  write_file_atomically(path("link"), "new");
  EXPECT_TRUE(fs::is_symlink(path("link")));
  EXPECT_EQ(read_file(path("a")), "new");
  struct stat info {};
  ASSERT_EQ(::stat(path("a").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0640u);
  write_file_atomically("/dev/null", "gone");
  EXPECT_FALSE(fs::is_regular_file("/dev/null"));
}

TEST_F(FileTest, LongNames) {
  write_file_atomically(path(std::string(255, 'n')), "x");
  EXPECT_EQ(entries(), 1u);
  EXPECT_EQ(code_of([&] { write_file_atomically(path(std::string(256, 'n')), "x"); }),
            Code::InvalidArgument);
  EXPECT_EQ(entries(), 1u);
}

}  // namespace
}  // namespace evenflow::format
