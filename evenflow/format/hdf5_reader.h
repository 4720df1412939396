// SPDX-License-Identifier: Apache-2.0
// Reads the HDF5 files that hold Keras's weights. Own code, no libhdf5: files come from strangers.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "evenflow/core/array.h"

namespace evenflow::format {

/// The groups and datasets of one HDF5 file, held in memory.
///
/// Read are: superblocks 0 to 3; groups by symbol table or link messages; object headers 1 and 2;
/// datasets that are compact, contiguous or chunked (B-tree 1, or one single chunk), plain or
/// filtered by shuffle, deflate and fletcher32; IEEE floats of 16, 32 and 64 bits, bfloat16 (as
/// such a float, or as Keras writes it: two opaque bytes and the attribute dtype = "bfloat16"),
/// integers (see parse_npy for the narrow ones) and h5py's bool, in any byte order; string
/// attributes. Everything else is refused by name with Unimplemented: soft and external links,
/// external storage, dense groups, shared messages, other chunk indexes, filters and types.
///
/// Paths are names joined by '/'; "" and "/" are the root. A path that is not there is NotFound.
/// Damaged or hostile bytes are DataLoss. Opening takes time linear in the file's size. Datasets
/// that claim more storage than the file has, or more than kMaxInflation times it when compressed,
/// are refused before anything is allocated for them.
class Hdf5File {
 public:
  static constexpr int kMaxDepth = 64;           ///< groups within groups
  static constexpr int64_t kMaxInflation = 100;  ///< of all compressed datasets together

  /// `name` stands for the file in errors.
  explicit Hdf5File(std::string bytes, std::string name = "hdf5");
  ~Hdf5File();
  Hdf5File(Hdf5File&&) noexcept;
  Hdf5File& operator=(Hdf5File&&) noexcept;

  /// Names of the groups, of the datasets in a group, sorted.
  std::vector<std::string> groups(std::string_view path = "") const;
  std::vector<std::string> datasets(std::string_view path = "") const;
  bool has_group(std::string_view path) const;
  bool has_dataset(std::string_view path) const;

  /// Type and shape of a dataset, without reading it.
  Sig sig(std::string_view path) const;
  Array read(std::string_view path) const;
  /// A string attribute of a group or dataset, nothing when there is none of that name.
  std::optional<std::string> attribute(std::string_view path, std::string_view name) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace evenflow::format
