// SPDX-License-Identifier: Apache-2.0
// NumPy's .npy and .npz files (format versions 1.0, 2.0, 3.0).
#pragma once
#include <string>
#include <string_view>

#include "evenflow/core/array.h"
#include "evenflow/format/file.h"

namespace evenflow::format {

/// The array in the bytes of a .npy file; `name` stands for it in errors. Any byte order, C or
/// Fortran order. float16/32/64, int32/64, uint8 and bool are read as they are; int8, int16 and
/// uint16 become i32, uint32 becomes i64. Throws Unimplemented for every other element type (bf16
/// has none in NumPy: save it as float32) and for a rank above 8, DataLoss for damaged or truncated
/// bytes and for bytes after the array. Allocates at most four times the bytes given.
Array parse_npy(std::string_view bytes, std::string_view name = "npy");
/// parse_npy of a file; throws what read_file throws besides.
Array read_npy(const std::string& path, int64_t max_bytes = kMaxFileBytes);

/// The bytes of a .npy file of version 1.0, as numpy.save writes them. bf16, which NumPy has not,
/// is written as float32: every value stays the same.
std::string npy_bytes(const Array& array);
/// npy_bytes, put in place by write_file_atomically.
void write_npy(const std::string& path, const Array& array);

}  // namespace evenflow::format
