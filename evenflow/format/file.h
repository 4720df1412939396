// SPDX-License-Identifier: Apache-2.0
// Whole files in and out. Bytes are std::string, views of them std::string_view.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "evenflow/core/error.h"
#include "evenflow/core/parallel.h"

namespace evenflow::format {

/// What a reader accepts unless told otherwise: 16 GiB.
inline constexpr int64_t kMaxFileBytes = int64_t(16) << 30;

/// The bytes of a file, a private copy. Throws NotFound (no such file), ResourceExhausted (more
/// than `max_bytes`, no memory), InvalidArgument (a folder or a device), DataLoss (the disk fails),
/// FailedPrecondition (no permission).
std::string read_file(const std::string& path, int64_t max_bytes = kMaxFileBytes);

/// Takes the bytes of a file that is being written; see write_file_atomically.
class FileWriter {
 public:
  void append(std::string_view bytes);
  int64_t written() const { return written_; }

 private:
  friend void write_file_atomically(const std::string&, FunctionRef<void(FileWriter&)>);
  FileWriter(int fd, const std::string& path) : fd_(fd), path_(path) {}
  void flush();
  void put(std::string_view bytes);

  int fd_;
  const std::string& path_;
  std::string pending_;
  int64_t written_ = 0;
};

/// Replaces the file at `path` by what `write` appends, as a whole or not at all: a temporary file
/// in the same folder, fsync, rename, fsync of the folder. When anything fails, `write` included,
/// the old file stays and the temporary one goes. A symbolic link is followed, an old file's
/// permissions are kept; a pipe or a device is written in place. Throws ResourceExhausted (disk,
/// quota or file size limit full), NotFound (no such folder), DataLoss (the disk fails),
/// FailedPrecondition (no permission), InvalidArgument (a folder).
void write_file_atomically(const std::string& path, FunctionRef<void(FileWriter&)> write);
void write_file_atomically(const std::string& path, std::string_view bytes);

namespace detail {
/// The system calls that can fail while a file is written; tests put failing ones here.
struct FileCalls {
  ssize_t (*write)(int, const void*, size_t);
  int (*fsync)(int);
  int (*close)(int);
  int (*rename)(const char*, const char*);
};
FileCalls& file_calls();
}  // namespace detail

}  // namespace evenflow::format
