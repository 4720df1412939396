// SPDX-License-Identifier: Apache-2.0
// Files that are read in pieces: from anywhere (InputFile), or from the front to the back, plain or
// gzip (InputStream). Both notice that a file became shorter while it was read.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "evenflow/core/error.h"

namespace evenflow::format {

/// Where in a file something is, for errors: `"a/b.csv" record 7 (byte 1234)`.
std::string place(std::string_view file, int64_t record, int64_t offset);

/// A file whose bytes are read at any offset, in several threads at once. It stays open, so that
/// removing or replacing it changes nothing.
class InputFile {
 public:
  /// Throws NotFound, InvalidArgument (a folder, pipe or device), FailedPrecondition (permission),
  /// ResourceExhausted (too many files are open).
  explicit InputFile(std::string path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::string& path() const { return path_; }
  int64_t size() const { return size_; }  ///< when it was opened
  /// The n bytes at offset. Throws DataLoss where the file ends before them.
  void read(int64_t offset, char* to, int64_t n) const;
  /// As many of them as there are.
  int64_t read_some(int64_t offset, char* to, int64_t n) const;

 private:
  std::string path_;
  int fd_;
  int64_t size_;
};

/// A piece of a file in memory that moves where it is needed. For one thread.
class InputWindow {
 public:
  /// Reads at least `piece` bytes at once.
  explicit InputWindow(const InputFile& file, int64_t piece = int64_t(256) << 10)
      : file_(&file), piece_(piece) {}
  /// The n bytes at offset, valid until the next call. Throws DataLoss where the file ends before
  /// them, ResourceExhausted when there is no memory.
  std::string_view view(int64_t offset, int64_t n) {
    if (offset < begin_ || offset - begin_ > filled_ - n) move(offset, n);
    return {buffer_.get() + (offset - begin_), size_t(n)};
  }

 private:
  void move(int64_t offset, int64_t n);

  const InputFile* file_;
  int64_t piece_, begin_ = 0, filled_ = 0, room_ = 0;
  std::unique_ptr<char[]> buffer_;
};

/// What a compressed file may become.
struct InflateLimits {
  int64_t max_bytes = int64_t(1) << 40;
  /// Inflated bytes for one compressed; the first 16 MiB are always granted.
  int64_t max_ratio = 200;
};

/// The bytes of a file from the front to the back; a gzip file, known by its first bytes, is
/// inflated on the way. Offsets are those of the inflated bytes.
class InputStream {
 public:
  explicit InputStream(std::string path, const InflateLimits& limits = {});
  /// Bytes in memory, which must outlive the stream; `name` stands for them in errors.
  InputStream(std::string_view bytes, std::string name, const InflateLimits& limits = {});
  ~InputStream();
  InputStream(InputStream&&) noexcept;
  InputStream& operator=(InputStream&&) noexcept;

  const std::string& name() const;
  bool compressed() const;
  /// What comes next, without taking it: at least n bytes, fewer only where the stream ends. Valid
  /// until the next call. It keeps as many bytes in memory as are asked for, and one piece more.
  /// Throws DataLoss (damaged or truncated gzip data, a failing disk), ResourceExhausted (the
  /// limits).
  std::string_view peek(int64_t n);
  /// Takes n bytes of those that peek showed.
  void skip(int64_t n);
  /// How many bytes were taken.
  int64_t offset() const;
  /// Goes to an offset; a compressed file is inflated from the front again when it lies behind.
  /// Throws DataLoss when the stream ends before.
  void seek(int64_t offset);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace evenflow::format
