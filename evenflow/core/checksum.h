// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>

namespace evenflow {

/// CRC-32C (Castagnoli, RFC 3720), continued from `crc`.
uint32_t crc32c(const void* data, size_t bytes, uint32_t crc = 0);

namespace detail {
/// The same where the machine has no instruction for it.
uint32_t crc32c_by_tables(const void* data, size_t bytes, uint32_t crc = 0);
}  // namespace detail

}  // namespace evenflow
