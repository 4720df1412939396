// SPDX-License-Identifier: Apache-2.0
// IDX files, as MNIST comes in: two zero bytes, the element type, the rank, big-endian extents,
// big-endian elements (Y. LeCun, C. Cortes, C. Burges, "The MNIST database").
#pragma once
#include <string>
#include <string_view>

#include "evenflow/core/array.h"
#include "evenflow/format/element.h"
#include "evenflow/format/file.h"

namespace evenflow::format {

struct IdxHeader {
  detail::Element element;  ///< as it is in the file; u8, i8, i16, i32, f32 or f64
  Shape shape;
  int64_t bytes = 0;  ///< of the header; the elements come behind
};
/// The longest header.
inline constexpr int64_t kMaxIdxHeader = 4 + 4 * 255;

/// The header at the front of a file. Throws DataLoss for damaged or truncated bytes, Unimplemented
/// for a rank above 8.
IdxHeader idx_header(std::string_view bytes, std::string_view name = "idx");

/// The array in the bytes of an IDX file; i8 and i16 become i32. Throws what idx_header throws, and
/// DataLoss where there are fewer or more bytes than the header says.
Array parse_idx(std::string_view bytes, std::string_view name = "idx");
/// parse_idx of a file, plain or gzip.
Array read_idx(const std::string& path, int64_t max_bytes = kMaxFileBytes);

}  // namespace evenflow::format
