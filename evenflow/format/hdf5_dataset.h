// SPDX-License-Identifier: Apache-2.0
// The inside of a dataset in an HDF5 file: type, shape, storage. Private to hdf5_reader.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "evenflow/core/array.h"
#include "evenflow/format/element.h"

namespace evenflow::format::hdf5 {

inline constexpr uint64_t kUndefined = ~uint64_t(0);

/// What an error names: the file and the object in it.
struct Context {
  std::string_view file;
  std::string path;
  [[noreturn]] void damaged(std::initializer_list<Part> parts) const;
  [[noreturn]] void refused(std::initializer_list<Part> parts) const;
};

/// A place in the file's bytes; every step is checked. Little-endian.
class Cursor {
 public:
  /// The whole of `bytes`.
  Cursor(std::string_view bytes, const Context& context, std::string_view what)
      : bytes_(bytes), context_(&context), what_(what) {}
  /// `size` bytes at `offset` of the file.
  Cursor(std::string_view file, uint64_t offset, uint64_t size, const Context& context,
         std::string_view what);

  std::string_view take(uint64_t n);
  void skip(uint64_t n) { take(n); }
  uint8_t u8() { return uint8_t(take(1)[0]); }
  uint16_t u16() { return uint16_t(number(2)); }
  uint32_t u32() { return uint32_t(number(4)); }
  uint64_t u64() { return number(8); }
  uint64_t number(int size);
  void expect(std::string_view signature);
  size_t left() const { return bytes_.size(); }
  std::string_view rest() const { return bytes_; }

 private:
  std::string_view bytes_;
  const Context* context_;
  std::string_view what_;
};

struct Type {
  enum class Class { number, opaque, string, variable_string };
  Class type_class = Class::number;
  uint32_t size = 0;
  detail::Element element;  ///< of a number
  int padding = 0;          ///< of a string: 0 zero-terminated, 1 zero-padded, 2 space-padded
};
Type parse_type(std::string_view message, const Context& context);

struct Space {
  bool null = false;
  std::vector<int64_t> dims;
};
Space parse_space(std::string_view message, const Context& context);

/// The header messages that describe a dataset; an absent one is empty.
struct DatasetMessages {
  std::string_view space, type, layout, filters;
  bool external = false;
  bool is_bfloat16 = false;  ///< Keras's attribute says so
};

/// All that is needed to read a dataset, checked against the file but nothing read.
struct Dataset {
  Sig sig;
  detail::Element element;
  std::string_view plain;  ///< the elements, when they are not chunked
  bool is_chunked = false;
  bool is_compressed = false;
  std::vector<int64_t> chunk;   ///< extents of a chunk
  int64_t chunks = 0;           ///< how many there must be
  int64_t storage = 0;          ///< bytes of all elements in the file's type, whole chunks
  uint64_t index = kUndefined;  ///< B-tree
  bool is_single_chunk = false;
  uint64_t single_size = 0;
  uint32_t single_mask = 0;
  struct Filter {
    int id;
    uint32_t size;  ///< shuffle's element size
  };
  std::vector<Filter> filters;
};
Dataset parse_dataset(std::string_view file, const DatasetMessages& messages,
                      const Context& context);
Array read_dataset(std::string_view file, const Dataset& dataset, const Context& context);

}  // namespace evenflow::format::hdf5
