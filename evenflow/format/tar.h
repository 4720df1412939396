// SPDX-License-Identifier: Apache-2.0
// Tar archives (POSIX.1-2001: ustar and pax; GNU's long names): their files from the front to the
// back. Nothing is ever unpacked to a disk.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "evenflow/format/input.h"

namespace evenflow::format {

struct TarEntry {
  std::string name;
  int64_t offset = 0;  ///< of its bytes, in the (inflated) archive
  int64_t size = 0;
};

struct TarLimits {
  int64_t max_file_bytes = int64_t(1) << 30;
  int64_t max_name_bytes = 4096;
};

/// The files of an archive, plain or gzip. All functions throw DataLoss, naming archive, entry and
/// byte: no archive, a damaged header, an end within a file, links and devices, and names that are
/// empty, absolute or hold "..", an empty part or a control character; Unimplemented for sparse
/// files; ResourceExhausted beyond the limits. Folders are left out.
class TarReader {
 public:
  explicit TarReader(InputStream stream, const TarLimits& limits = {})
      : stream_(std::move(stream)), limits_(limits) {}

  /// The next file; false at the end.
  bool next(TarEntry* entry);
  /// The bytes of the file that next gave, valid until the next call.
  std::string_view read();

  int64_t entry() const { return entry_; }  ///< number of the next header
  /// Offset of the next header.
  int64_t offset() const { return stream_.offset() + pending_; }
  /// Goes to a header by what entry() and offset() said.
  void seek(int64_t entry, int64_t offset);
  const std::string& name() const { return stream_.name(); }

 private:
  void pass(int64_t n);
  void end_of_data();

  InputStream stream_;
  TarLimits limits_;
  int64_t entry_ = 0;
  int64_t size_ = 0;     // of the file that was given last
  int64_t pending_ = 0;  // its bytes and their padding that were not taken yet
};

}  // namespace evenflow::format
