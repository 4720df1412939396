// SPDX-License-Identifier: Apache-2.0
// gzip (RFC 1952).
#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "evenflow/format/file.h"

namespace evenflow::format {

/// Whether the bytes begin as gzip's do.
bool is_gzip(std::string_view bytes);
/// What they inflate to, all members one after the other. Throws DataLoss, naming `name`, for
/// damaged or truncated bytes and for bytes behind the last member, ResourceExhausted for more than
/// max_bytes.
std::string gunzip(std::string_view bytes, std::string_view name = "gzip",
                   int64_t max_bytes = kMaxFileBytes);

/// Deflates what is appended into a file that is being written.
class GzipWriter {
 public:
  explicit GzipWriter(FileWriter& out);
  ~GzipWriter();
  GzipWriter(const GzipWriter&) = delete;
  GzipWriter& operator=(const GzipWriter&) = delete;
  void append(std::string_view bytes);
  /// The end of the data; nothing can be appended afterwards.
  void finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace evenflow::format
