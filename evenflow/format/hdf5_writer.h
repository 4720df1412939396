// SPDX-License-Identifier: Apache-2.0
// Writes HDF5 files as h5py does, through libhdf5, in memory.
#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "evenflow/core/array.h"

namespace evenflow::format {

/// One HDF5 file in the making: superblock 0, groups by symbol tables, contiguous datasets; the
/// same calls give the same bytes (no times are stored). h5py and Keras read it; so does Hdf5File.
/// Paths are names joined by '/'; the groups above are made as needed. Throws InvalidArgument for
/// an empty name, "." or "..", a zero byte, or a path that is taken; ResourceExhausted when
/// libhdf5 finds no memory; Internal for what else it refuses. libhdf5's calls are serialised over
/// all writers, and its error printing is off during them.
class Hdf5Writer {
 public:
  Hdf5Writer();
  ~Hdf5Writer();
  Hdf5Writer(const Hdf5Writer&) = delete;
  Hdf5Writer& operator=(const Hdf5Writer&) = delete;

  /// Makes a group; one that is there already is left as it is.
  void group(std::string_view path);
  /// A dataset. bool is written as h5py's enumeration, bf16 as Keras writes it: two opaque bytes
  /// and the attribute dtype = "bfloat16".
  void dataset(std::string_view path, const Array& array);
  /// A string attribute of a group or dataset that is there ("" is the root), as h5py writes a str.
  void attribute(std::string_view path, std::string_view name, std::string_view value);
  /// The file's bytes. Nothing can be added afterwards.
  std::string finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace evenflow::format
