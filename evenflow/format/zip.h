// SPDX-License-Identifier: Apache-2.0
// ZIP archives in memory, over libzip: .keras and .npz files.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "evenflow/format/file.h"

namespace evenflow::format {

/// What an archive may hold, so that a small file cannot become a large one.
struct ZipLimits {
  int64_t max_members = 10000;
  int64_t max_bytes = kMaxFileBytes;  ///< of all members together, uncompressed
  /// Uncompressed bytes for one compressed: of each member, and of all members for one of the
  /// archive (which also bounds members that overlap). The first MiB is always granted.
  int64_t max_ratio = 100;
};

struct ZipMember {
  std::string name;
  int64_t size = 0;  ///< uncompressed
  int64_t compressed_size = 0;
};

/// The members of an archive. Opening throws DataLoss for what is no archive or contradicts itself,
/// for names that are empty, absolute, contain "..", ".", an empty part, a backslash, a colon or a
/// control character, for duplicate names and for symbolic links; Unimplemented for encryption
/// and for compressions other than stored and deflated; ResourceExhausted beyond the limits.
/// Folders among the members are left out. Reading may go on in several threads.
class ZipReader {
 public:
  /// `name` stands for the archive in errors.
  explicit ZipReader(std::string bytes, std::string name = "zip", const ZipLimits& limits = {});
  ~ZipReader();
  ZipReader(ZipReader&&) noexcept;
  ZipReader& operator=(ZipReader&&) noexcept;

  const std::vector<ZipMember>& members() const;  ///< in the archive's order
  bool has(std::string_view member) const;
  /// A member's bytes. Throws NotFound; DataLoss when its size or checksum (CRC-32) is not as
  /// stated.
  std::string read(std::string_view member) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// An archive in the making. The same calls give the same bytes: every member is dated 1980-01-01.
class ZipWriter {
 public:
  ZipWriter();
  ~ZipWriter();
  ZipWriter(const ZipWriter&) = delete;
  ZipWriter& operator=(const ZipWriter&) = delete;

  /// Stored as it is, as Keras and NumPy do, or deflated. Throws InvalidArgument for a name that
  /// ZipReader would refuse or that is taken.
  void add(std::string_view member, std::string bytes, bool deflate = false);
  /// The archive's bytes. Nothing can be added afterwards.
  std::string finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace evenflow::format
