// SPDX-License-Identifier: Apache-2.0
#include "evenflow/format/element.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace evenflow::format::detail {
namespace {

static_assert(std::endian::native == std::endian::little, "big-endian hosts need swaps in here");

template <class From, class To>
void widen(const char* from, char* to, int64_t n, bool swap) {
  for (int64_t i = 0; i < n; ++i) {
    char bytes[sizeof(From)];
    std::memcpy(bytes, from + i * int64_t(sizeof(From)), sizeof bytes);
    if (swap) std::reverse(bytes, bytes + sizeof bytes);
    From v;
    std::memcpy(&v, bytes, sizeof v);
    const To w = v;
    std::memcpy(to + i * int64_t(sizeof w), &w, sizeof w);
  }
}

}  // namespace

bool integer_element(char kind, int size, bool swap, Element* element) {
  const bool is_signed = kind == 'i';
  DType dtype;
  switch (size) {
    case 1:
      dtype = is_signed ? DType::i32 : DType::u8;
      break;
    case 2:
      dtype = DType::i32;
      break;
    case 4:
      dtype = is_signed ? DType::i32 : DType::i64;
      break;
    case 8:
      dtype = DType::i64;
      break;
    default:
      return false;
  }
  if (size == 8 && !is_signed) return false;
  *element = {kind, size, swap && size > 1, dtype};
  return true;
}

void convert(const Element& e, const char* from, char* to, int64_t n) {
  if (n == 0) return;
  if (e.kind == 'b') {
    for (int64_t i = 0; i < n; ++i) to[i] = from[i] != 0;
  } else if (e.size == size_of(e.dtype)) {
    std::memcpy(to, from, size_t(n * e.size));
    if (!e.swap) return;
    for (char* p = to; p < to + n * e.size; p += e.size) std::reverse(p, p + e.size);
  } else if (e.kind == 'i') {
    e.size == 1 ? widen<int8_t, int32_t>(from, to, n, e.swap)
                : widen<int16_t, int32_t>(from, to, n, e.swap);
  } else {
    e.size == 2 ? widen<uint16_t, int32_t>(from, to, n, e.swap)
                : widen<uint32_t, int64_t>(from, to, n, e.swap);
  }
}

}  // namespace evenflow::format::detail
