// SPDX-License-Identifier: Apache-2.0
// How a number in a file becomes one of ours. Shared by the readers of this room.
#pragma once
#include <string_view>

#include "evenflow/core/dtype.h"

namespace evenflow::format::detail {

struct Element {
  char kind = 'f';           ///< f: float, i: signed, u: unsigned, b: bool in one byte
  int size = 4;              ///< bytes in the file
  bool swap = false;         ///< the file's byte order is not ours
  DType dtype = DType::f32;  ///< what it becomes: the same values, never fewer bytes
};

/// Numbers of `size` bytes of kind i or u: u8, i32, i64 as they are, the narrower ones widened to
/// i32 or i64. False for what has no such type (uint64, odd sizes).
bool integer_element(char kind, int size, bool swap, Element* element);

/// n elements from the file's form (no alignment asked) into ours. Any non-zero bool is true.
void convert(const Element& element, const char* from, char* to, int64_t n);

}  // namespace evenflow::format::detail
