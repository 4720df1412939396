// SPDX-License-Identifier: Apache-2.0
// gzip (RFC 1952).
#pragma once
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

}  // namespace evenflow::format
