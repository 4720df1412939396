// SPDX-License-Identifier: Apache-2.0
// NumPy's .npz files: a ZIP archive of .npy members.
#pragma once
#include <map>
#include <string>

#include "evenflow/core/array.h"
#include "evenflow/format/zip.h"

namespace evenflow::format {

/// The arrays in the bytes of a .npz file, by name (without ".npy"). Throws what ZipReader and
/// parse_npy throw, and DataLoss for a member that is no .npy file.
std::map<std::string, Array> parse_npz(std::string bytes, const std::string& name = "npz",
                                       const ZipLimits& limits = {});
std::map<std::string, Array> read_npz(const std::string& path, const ZipLimits& limits = {});

/// The bytes of a .npz file, as numpy.savez writes it (members stored, not deflated).
std::string npz_bytes(const std::map<std::string, Array>& arrays);

}  // namespace evenflow::format
