// SPDX-License-Identifier: Apache-2.0
#include "evenflow/format/idx.h"

#include <bit>

#include "evenflow/format/gzip.h"

namespace evenflow::format {
namespace {

detail::Element element_of(uint8_t type, std::string_view name) {
  constexpr bool swap = std::endian::native == std::endian::little;
  switch (type) {
    case 0x08:
      return {'u', 1, false, DType::u8};
    case 0x09:
      return {'i', 1, false, DType::i32};
    case 0x0B:
      return {'i', 2, swap, DType::i32};
    case 0x0C:
      return {'i', 4, swap, DType::i32};
    case 0x0D:
      return {'f', 4, swap, DType::f32};
    case 0x0E:
      return {'f', 8, swap, DType::f64};
  }
  fail(Code::DataLoss, {"idx \"", name, "\": element type is ", int(type),
                        ", expected 8, 9, 11, 12, 13 or 14 (byte 2)"});
}

}  // namespace

IdxHeader idx_header(std::string_view bytes, std::string_view name) {
  const auto byte = [&](size_t i) { return uint8_t(bytes[i]); };
  if (bytes.size() < 4 || byte(0) || byte(1))
    fail(Code::DataLoss, {"idx \"", name, "\": does not begin as an IDX file does (byte 0)"});
  IdxHeader h;
  h.element = element_of(byte(2), name);
  const size_t rank = byte(3);
  if (rank > size_t(kMaxRank))
    fail(Code::Unimplemented,
         {"idx \"", name, "\": rank is ", rank, ", expected at most ", kMaxRank, " (byte 3)"});
  h.bytes = int64_t(4 + 4 * rank);
  if (int64_t(bytes.size()) < h.bytes)
    fail(Code::DataLoss,
         {"idx \"", name, "\": ends at byte ", bytes.size(), ", within its header"});
  std::vector<int64_t> extents;
  for (size_t i = 0; i < rank; ++i) {
    const size_t at = 4 + 4 * i;
    extents.push_back(int64_t(byte(at)) << 24 | byte(at + 1) << 16 | byte(at + 2) << 8 |
                      byte(at + 3));
  }
  try {
    h.shape = Shape(extents);
    checked_add(checked_mul(h.shape.count(), 8), h.bytes);
  } catch (const Error&) {
    fail(Code::DataLoss, {"idx \"", name, "\": the extents have too large a product"});
  }
  return h;
}

Array parse_idx(std::string_view bytes, std::string_view name) {
  const IdxHeader h = idx_header(bytes, name);
  const int64_t expected = h.bytes + h.shape.count() * h.element.size;
  if (int64_t(bytes.size()) != expected)
    fail(Code::DataLoss, {"idx \"", name, "\": file has ", bytes.size(), " bytes, expected ",
                          expected, " for the shape ", str(h.shape)});
  Array a = make_array({h.element.dtype, h.shape});
  detail::convert(h.element, bytes.data() + h.bytes, static_cast<char*>(a.data->data()),
                  h.shape.count());
  return a;
}

Array read_idx(const std::string& path, int64_t max_bytes) {
  std::string bytes = read_file(path, max_bytes);
  if (is_gzip(bytes)) bytes = gunzip(bytes, path, max_bytes);
  return parse_idx(bytes, path);
}

}  // namespace evenflow::format
