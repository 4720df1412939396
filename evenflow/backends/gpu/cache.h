// SPDX-License-Identifier: Apache-2.0
// Compiled kernels on disk, by content.
#pragma once
#include <optional>
#include <string>

namespace evenflow::gpu {

/// What was kept for a key (source, target, compiler), if it is there and whole.
std::optional<std::string> cached_binary(const std::string& key);
/// Keeps it: a temporary file, then a rename. A folder that cannot be written is no error.
void keep_binary(const std::string& key, const std::string& binary);
/// EVENFLOW_CACHE, else XDG_CACHE_HOME/evenflow, else ~/.cache/evenflow; empty: nothing is kept.
std::string cache_folder();

}  // namespace evenflow::gpu
