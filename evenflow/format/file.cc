// SPDX-License-Identifier: Apache-2.0
// Reading and atomically replacing files through POSIX calls.
#include "evenflow/format/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <system_error>
#include <utility>

namespace evenflow::format {
namespace {

constexpr size_t kChunk = size_t(1) << 20;

Code code_of(int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return Code::NotFound;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
      return Code::ResourceExhausted;
    case EIO:
      return Code::DataLoss;
    case EISDIR:
    case ENAMETOOLONG:
    case ELOOP:
    case EINVAL:
      return Code::InvalidArgument;
    default:
      return Code::FailedPrecondition;
  }
}

[[noreturn]] void fail_errno(std::string_view op, const std::string& path, std::string_view step,
                             int error) {
  fail(code_of(error),
       {op, " \"", path, "\": ", step, ": ", std::generic_category().message(error)});
}

void check_path(std::string_view op, const std::string& path) {
  if (path.empty()) fail({op, ": path is empty, expected a file's name"});
  if (path.find('\0') != path.npos) fail({op, ": path contains a zero byte"});
}

int open_retry(const char* path, int flags, mode_t mode = 0) {
  for (;;) {
    const int fd = ::open(path, flags | O_CLOEXEC, mode);
    if (fd >= 0 || errno != EINTR) return fd;
  }
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() { close(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  /// 0 or errno; after EINTR the descriptor is gone on Linux, so it is never closed twice.
  int close() {
    if (fd_ < 0) return 0;
    const int r = detail::file_calls().close(std::exchange(fd_, -1));
    return r == 0 || errno == EINTR ? 0 : errno;
  }

 private:
  int fd_;
};

int sync(int fd) {
  int r;
  while ((r = detail::file_calls().fsync(fd)) != 0 && errno == EINTR) {
  }
  return r == 0 ? 0 : errno;
}

/// The folder of a path: "" is ".", "/x" is "/".
std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == path.npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

/// Where the bytes really go when `path` is a symbolic link to an existing file.
std::string resolved(const std::string& path) {
  struct stat link {};
  if (::lstat(path.c_str(), &link) != 0 || !S_ISLNK(link.st_mode)) return path;
  const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr),
                                                         &std::free);
  return real ? std::string(real.get()) : path;
}

}  // namespace

namespace detail {
FileCalls& file_calls() {
  static FileCalls calls{::write, ::fsync, ::close, ::rename};
  return calls;
}
}  // namespace detail

std::string read_file(const std::string& path, int64_t max_bytes) {
  constexpr std::string_view op = "read_file";
  check_path(op, path);
  Descriptor fd(open_retry(path.c_str(), O_RDONLY));
  if (fd.get() < 0) fail_errno(op, path, "open", errno);
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) fail_errno(op, path, "stat", errno);
  if (S_ISDIR(info.st_mode)) fail_errno(op, path, "open", EISDIR);
  if (S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode))  // it may have no end
    fail({op, " \"", path, "\": is a device, expected a file or a pipe"});
  const auto too_large = [&](int64_t found) {
    fail(Code::ResourceExhausted,
         {op, " \"", path, "\": file has ", found, " bytes or more, expected at most ", max_bytes});
  };
  if (S_ISREG(info.st_mode) && info.st_size > max_bytes) too_large(info.st_size);
  try {
    // The stated size is a hint only: pipes and /proc files say 0, and a file may grow meanwhile.
    std::string bytes(S_ISREG(info.st_mode) ? size_t(info.st_size) : 0, '\0');
    size_t filled = 0;
    for (;;) {
      if (filled == bytes.size()) {
        char extra;
        const ssize_t n = ::read(fd.get(), &extra, 1);
        if (n == 0) break;
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail_errno(op, path, "read", errno);
        if (int64_t(filled) >= max_bytes) too_large(int64_t(filled) + 1);
        bytes.resize(size_t(std::min(max_bytes, int64_t(filled + filled / 2 + 4096))));
        bytes[filled++] = extra;
        continue;
      }
      const ssize_t n = ::read(fd.get(), bytes.data() + filled, bytes.size() - filled);
      if (n == 0) break;
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail_errno(op, path, "read", errno);
      filled += size_t(n);
    }
    bytes.resize(filled);
    return bytes;
  } catch (const std::bad_alloc&) {
    fail(Code::ResourceExhausted, {op, " \"", path, "\": no memory for the file's bytes"});
  }
}

void FileWriter::append(std::string_view bytes) {
  written_ += int64_t(bytes.size());
  if (pending_.size() + bytes.size() <= kChunk) {
    pending_.append(bytes);
    return;
  }
  flush();
  put(bytes);
}

void FileWriter::flush() {
  put(pending_);
  pending_.clear();
}

void FileWriter::put(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n =
        detail::file_calls().write(fd_, bytes.data(), std::min(bytes.size(), size_t(1) << 30));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno("write_file", path_, "write", errno);
    // POSIX lets a device that takes nothing answer 0 for ever.
    if (n == 0) fail_errno("write_file", path_, "write", ENOSPC);
    bytes.remove_prefix(size_t(n));
  }
}

void write_file_atomically(const std::string& path, FunctionRef<void(FileWriter&)> write) {
  constexpr std::string_view op = "write_file";
  check_path(op, path);
  const std::string target = resolved(path);
  struct stat old {};
  const bool exists = ::stat(target.c_str(), &old) == 0;
  if (exists && S_ISDIR(old.st_mode)) fail_errno(op, path, "open", EISDIR);
  if (exists && !S_ISREG(old.st_mode)) {
    Descriptor fd(open_retry(target.c_str(), O_WRONLY));
    if (fd.get() < 0) fail_errno(op, path, "open", errno);
    FileWriter writer(fd.get(), path);
    write(writer);
    writer.flush();
    if (const int e = fd.close()) fail_errno(op, path, "close", e);
    return;
  }

  static std::atomic<unsigned> serial{0};
  const std::string folder = folder_of(target);
  const size_t slash = target.rfind('/');
  // Cut short so that the suffix fits into a name of 255 bytes.
  const std::string name = target.substr(slash == target.npos ? 0 : slash + 1, 200);
  std::string temporary;
  int raw = -1;
  do {
    temporary = concat({folder, "/.", name, ".tmp-", int(::getpid()), "-", serial++});
    raw = open_retry(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0666);
  } while (raw < 0 && errno == EEXIST);
  if (raw < 0) fail_errno(op, path, "create", errno);
  Descriptor fd(raw);
  try {
    FileWriter writer(fd.get(), path);
    if (exists && ::fchmod(fd.get(), old.st_mode & 07777) != 0) {
      fail_errno(op, path, "set permissions", errno);
    }
    write(writer);
    writer.flush();
    if (const int e = sync(fd.get())) fail_errno(op, path, "fsync", e);
    if (const int e = fd.close()) fail_errno(op, path, "close", e);
    if (detail::file_calls().rename(temporary.c_str(), target.c_str()) != 0) {
      fail_errno(op, path, "rename", errno);
    }
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  // Some file systems cannot sync a folder (EINVAL): then there is nothing more to be done.
  Descriptor folder_fd(open_retry(folder.c_str(), O_RDONLY | O_DIRECTORY));
  if (folder_fd.get() >= 0) {
    const int e = sync(folder_fd.get());
    if (e != 0 && e != EINVAL) fail_errno(op, path, "fsync of the folder", e);
  }
}

void write_file_atomically(const std::string& path, std::string_view bytes) {
  write_file_atomically(path, [&](FileWriter& writer) { writer.append(bytes); });
}

}  // namespace evenflow::format
