// SPDX-License-Identifier: Apache-2.0
// Datasets of HDF5: "HDF5 File Format Specification Version 3.0", sections IV.A.2 (messages) and
// III.A.1 (B-tree of chunks).
#include "evenflow/format/hdf5_dataset.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <unordered_set>

namespace evenflow::format::hdf5 {

void Context::damaged(std::initializer_list<Part> parts) const {
  fail(Code::DataLoss, {"hdf5 \"", file, "\": ", path.empty() ? "/" : path, ": ", concat(parts)});
}
void Context::refused(std::initializer_list<Part> parts) const {
  fail(Code::Unimplemented,
       {"hdf5 \"", file, "\": ", path.empty() ? "/" : path, ": ", concat(parts)});
}

Cursor::Cursor(std::string_view file, uint64_t offset, uint64_t size, const Context& context,
               std::string_view what)
    : context_(&context), what_(what) {
  if (offset > file.size() || size > file.size() - offset) {
    context.damaged({what, " of ", size, " bytes is at ", offset, ", the file has ", file.size()});
  }
  bytes_ = file.substr(offset, size);
}

std::string_view Cursor::take(uint64_t n) {
  if (n > bytes_.size()) {
    context_->damaged({what_, " ends after ", bytes_.size(), " bytes, expected ", n, " more"});
  }
  const std::string_view taken = bytes_.substr(0, n);
  bytes_.remove_prefix(n);
  return taken;
}

uint64_t Cursor::number(int size) {
  const std::string_view b = take(uint64_t(size));
  uint64_t v = 0;
  for (int i = size; i--;) v = v << 8 | uint8_t(b[size_t(i)]);
  return v;
}

void Cursor::expect(std::string_view signature) {
  if (take(signature.size()) != signature) {
    context_->damaged({what_, " lacks its signature \"", signature, "\""});
  }
}

namespace {

/// The IEEE layouts that can be read: exponent at, its size, mantissa size, bias, sign at.
constexpr struct FloatLayout {
  uint32_t size;
  int exponent, exponent_size, mantissa_size;
  uint32_t bias;
  DType dtype;
} kFloats[] = {{2, 10, 5, 10, 15, DType::f16},
               {2, 7, 8, 7, 127, DType::bf16},
               {4, 23, 8, 23, 127, DType::f32},
               {8, 52, 11, 52, 1023, DType::f64}};

void parse_float(Cursor& in, uint32_t bits, Type& type, const Context& context) {
  const int offset = in.u16(), precision = in.u16(), exponent = in.u8(), exponent_size = in.u8(),
            mantissa = in.u8(), mantissa_size = in.u8();
  const uint32_t bias = in.u32();
  const bool vax = (bits & 0x40) != 0;
  for (const FloatLayout& f : kFloats) {
    if (type.size == f.size && offset == 0 && precision == int(8 * f.size) && !vax &&
        exponent == f.exponent && exponent_size == f.exponent_size && mantissa == 0 &&
        mantissa_size == f.mantissa_size && bias == f.bias && (bits >> 4 & 3) == 2 &&
        (bits >> 8 & 255) == 8 * f.size - 1) {
      type.element = {'f', int(type.size), (bits & 1) != 0, f.dtype};
      return;
    }
  }
  context.refused({"float type of ", type.size, " bytes with ", exponent_size, " exponent and ",
                   mantissa_size, " mantissa bits, expected IEEE 16, 32, 64 or bfloat16"});
}

void parse_integer(Cursor& in, uint32_t bits, Type& type, const Context& context) {
  const int offset = in.u16(), precision = in.u16();
  const char kind = bits & 8 ? 'i' : 'u';
  if (offset != 0 || uint64_t(precision) != 8 * uint64_t(type.size) ||
      !detail::integer_element(kind, int(std::min(type.size, 99u)), bits & 1, &type.element)) {
    context.refused({kind == 'i' ? "signed" : "unsigned", " integer type of ", precision,
                     " bits in ", type.size, " bytes, expected int8..64 or uint8..32"});
  }
}

/// h5py's bool: an enumeration over one byte of FALSE = 0 and TRUE = 1.
void parse_enum(Cursor& in, uint32_t bits, int version, Type& type, const Context& context) {
  const auto other = [&] { context.refused({"enumeration type, expected h5py's bool"}); };
  const uint32_t base = in.u32(), base_bits = base >> 8;
  if ((base & 15) != 0 || in.u32() != 1 || type.size != 1 || (bits & 0xffff) != 2) other();
  Type number;
  number.size = 1;
  parse_integer(in, base_bits, number, context);
  bool is_true[2];
  for (bool& t : is_true) {
    const size_t end = in.rest().find('\0');
    if (end == std::string_view::npos) context.damaged({"enumeration has a name without an end"});
    const std::string_view name =
        in.take(version >= 3 ? end + 1 : (end + 8) / 8 * 8).substr(0, end);
    t = name == "TRUE";
    if (!t && name != "FALSE") other();
  }
  if (in.u8() != is_true[0] || in.u8() != is_true[1] || is_true[0] == is_true[1]) other();
  type.element = {'b', 1, false, DType::boolean};
}

}  // namespace

Type parse_type(std::string_view message, const Context& context) {
  Cursor in(message, context, "datatype message");
  const uint32_t head = in.u32(), bits = head >> 8;
  const int version = head >> 4 & 15;
  if (version < 1 || version > 5) context.damaged({"datatype version is ", version});
  Type type;
  type.size = in.u32();
  switch (head & 15) {
    case 0:
      parse_integer(in, bits, type, context);
      break;
    case 1:
      parse_float(in, bits, type, context);
      break;
    case 3:
      type.type_class = Type::Class::string;
      type.padding = bits & 15;
      break;
    case 5:
      type.type_class = Type::Class::opaque;
      break;
    case 8:
      parse_enum(in, bits, version, type, context);
      break;
    case 9:
      if ((bits & 15) != 1) context.refused({"datatype is a sequence of variable length"});
      if (type.size != 16) context.damaged({"variable-length string has ", type.size, " bytes"});
      type.type_class = Type::Class::variable_string;
      break;
    default:
      context.refused({"datatype is of class ", int(head & 15), ", expected numbers or strings"});
  }
  return type;
}

Space parse_space(std::string_view message, const Context& context) {
  Cursor in(message, context, "dataspace message");
  const int version = in.u8(), rank = in.u8(), flags = in.u8();
  if (version != 1 && version != 2) context.damaged({"dataspace version is ", version});
  const int kind = in.u8();
  Space space;
  if (version == 1) in.skip(4);
  if (version == 1 && (flags & 2)) context.refused({"dataspace has permutation indices"});
  if (version == 2 && kind > 2) context.damaged({"dataspace kind is ", kind});
  space.null = version == 2 && kind == 2;
  if (rank > 32) context.damaged({"rank is ", rank, ", expected at most 32"});
  for (int i = 0; i < rank; ++i) {
    const uint64_t extent = in.u64();
    if (extent > uint64_t(INT64_MAX)) context.damaged({"extent ", i, " is ", extent});
    space.dims.push_back(int64_t(extent));
  }
  return space;
}

namespace {

void parse_filters(std::string_view message, Dataset& d, const Context& context) {
  Cursor in(message, context, "filter message");
  const int version = in.u8(), count = in.u8();
  if (version != 1 && version != 2) context.damaged({"filter pipeline version is ", version});
  if (count > 32) context.damaged({"has ", count, " filters, expected at most 32"});
  if (version == 1) in.skip(6);
  for (int i = 0; i < count; ++i) {
    const int id = in.u16();
    const int name = version == 1 || id >= 256 ? in.u16() : 0;
    in.skip(2);
    const int values = in.u16();
    in.skip(version == 1 ? (name + 7) / 8 * 8 : name);
    uint32_t first = 0;
    for (int k = 0; k < values; ++k) {
      const uint32_t v = in.u32();
      if (k == 0) first = v;
    }
    if (version == 1 && values % 2 == 1) in.skip(4);
    if (id < 1 || id > 3) {
      context.refused({"filter ", id, ", expected deflate (1), shuffle (2) or fletcher32 (3)"});
    }
    if (id == 1 && d.is_compressed) context.refused({"is deflated twice"});
    if (id == 1) d.is_compressed = true;
    if (id == 2 && (first == 0 || values == 0)) context.damaged({"shuffle has no element size"});
    d.filters.push_back({id, first});
  }
}

/// Reads the rest of a chunked layout message and works out how many chunks there must be.
void parse_chunked(Cursor& in, int version, Dataset& d, const Context& context) {
  const int flags = version == 3 ? 0 : in.u8();
  const int rank = in.u8() - 1;
  if (rank != d.sig.shape.rank()) {
    context.damaged({"chunks have rank ", rank, ", expected ", d.sig.shape.rank()});
  }
  if (version == 3) d.index = in.u64();
  const int width = version == 3 ? 4 : in.u8();
  if (width < 1 || width > 8) context.damaged({"chunk extents have ", width, " bytes"});
  d.is_chunked = true;
  d.chunks = 1;
  int64_t bytes = d.element.size;
  for (int i = 0; i < rank; ++i) {
    const uint64_t extent = in.number(width);
    if (extent < 1 || extent > uint64_t(UINT32_MAX)) {
      context.damaged({"chunk extent ", i, " is ", extent});
    }
    d.chunk.push_back(int64_t(extent));
    bytes = checked_mul(bytes, int64_t(extent));
    const int64_t n = d.sig.shape[i];
    d.chunks = checked_mul(d.chunks, n / int64_t(extent) + (n % int64_t(extent) != 0));
  }
  const uint64_t element = in.number(width);
  if (element != uint64_t(d.element.size)) {
    context.damaged({"chunk elements have ", element, " bytes, expected ", d.element.size});
  }
  d.storage = checked_mul(bytes, d.chunks);
  if (version == 3) return;
  const int index = in.u8();
  if (index != 1) {
    static constexpr std::string_view kNames[] = {"implicit", "fixed array", "extensible array",
                                                  "B-tree 2"};
    if (index < 1 || index > 5) context.damaged({"chunk index is ", index});
    context.refused({"chunk index is a ", kNames[index - 2], ", expected B-tree 1 or one chunk"});
  }
  if (d.chunks > 1) context.damaged({"has ", d.chunks, " chunks and an index for one"});
  d.is_single_chunk = true;
  d.single_size = uint64_t(bytes);
  if (flags & 2) d.single_size = in.u64(), d.single_mask = in.u32();
  d.index = in.u64();
}

void parse_layout(std::string_view file, std::string_view message, Dataset& d,
                  const Context& context) {
  Cursor in(message, context, "layout message");
  const int version = in.u8();
  if (version < 3) context.refused({"layout version is ", version, ", expected 3 or 4"});
  if (version > 5) context.damaged({"layout version is ", version});
  const int kind = in.u8();
  d.storage = checked_mul(d.sig.shape.count(), d.element.size);
  if (kind == 2) return parse_chunked(in, version, d, context);
  if (!d.filters.empty()) context.damaged({"has filters and no chunks"});
  uint64_t size = 0, address = 0;
  if (kind == 0) {
    size = in.u16();
    d.plain = in.take(size);
  } else if (kind == 1) {
    address = in.u64();
    size = in.u64();
    if (d.storage == 0) return;
    if (address == kUndefined) context.refused({"was never written: it has no storage"});
    d.plain = Cursor(file, address, size, context, "storage").rest();
  } else {
    context.refused({"layout class is ", kind, ", expected compact, contiguous or chunked"});
  }
  if (size != uint64_t(d.storage)) {
    context.damaged(
        {"shape ", str(d.sig.shape), " needs ", d.storage, " bytes, the storage has ", size});
  }
}

}  // namespace

Dataset parse_dataset(std::string_view file, const DatasetMessages& m, const Context& context) {
  if (m.external) context.refused({"its data lie in another file"});
  if (m.type.empty() || m.space.empty()) context.damaged({"lacks a datatype or dataspace message"});
  Dataset d;
  const Type type = parse_type(m.type, context);
  switch (type.type_class) {
    case Type::Class::number:
      d.element = type.element;
      break;
    case Type::Class::opaque:
      if (type.size != 2 || !m.is_bfloat16) {
        context.refused({"datatype is opaque, expected numbers"});
      }
      d.element = {'f', 2, false, DType::bf16};
      break;
    default:
      context.refused({"datatype is a string, expected numbers"});
  }
  const Space space = parse_space(m.space, context);
  if (space.null) context.refused({"dataspace is null, expected a shape"});
  if (space.dims.size() > size_t(kMaxRank)) {
    context.refused({"rank is ", space.dims.size(), ", expected at most ", kMaxRank});
  }
  try {
    d.sig = {d.element.dtype, Shape(space.dims)};
    if (!m.filters.empty()) parse_filters(m.filters, d, context);
    parse_layout(file, m.layout, d, context);
  } catch (const Error& e) {
    if (e.code() == Code::DataLoss || e.code() == Code::Unimplemented) throw;
    context.damaged({e.what()});  // a size that overflows
  }
  return d;
}

namespace {

uint32_t fletcher32(std::string_view bytes) {
  uint32_t a = 0, b = 0;
  size_t i = 0;
  for (size_t words = bytes.size() / 2; words > 0;) {
    const size_t run = std::min<size_t>(words, 360);  // sums cannot overflow before that
    words -= run;
    for (size_t k = 0; k < run; ++k, i += 2) {
      a += uint32_t(uint8_t(bytes[i])) << 8 | uint8_t(bytes[i + 1]);
      b += a;
    }
    a = (a & 0xffff) + (a >> 16);
    b = (b & 0xffff) + (b >> 16);
  }
  if (i < bytes.size()) {
    a += uint32_t(uint8_t(bytes[i])) << 8;
    b += a;
    a = (a & 0xffff) + (a >> 16);
    b = (b & 0xffff) + (b >> 16);
  }
  a = (a & 0xffff) + (a >> 16);
  b = (b & 0xffff) + (b >> 16);
  return b << 16 | a;
}

std::string unshuffle(std::string_view in, size_t size) {
  std::string out(in);
  const size_t n = in.size() / size;  // what does not fill an element stays at the end
  for (size_t byte = 0; byte < size && n > 0; ++byte) {
    for (size_t i = 0; i < n; ++i) out[i * size + byte] = in[byte * n + i];
  }
  return out;
}

class ChunkReader {
 public:
  ChunkReader(std::string_view file, const Dataset& dataset, const Context& context, char* to)
      : file_(file),
        d_(dataset),
        context_(context),
        to_(to),
        bytes_(uint64_t(dataset.element.size)) {
    for (const int64_t extent : d_.chunk) bytes_ *= uint64_t(extent);
  }

  void read() {
    if (d_.chunks == 0) return;
    if (d_.index == kUndefined) context_.refused({"was never written: it has no storage"});
    if (d_.is_single_chunk) {
      place(std::vector<int64_t>(d_.chunk.size(), 0), d_.index, d_.single_size, d_.single_mask);
    } else {
      // A node of the index has 24 bytes and more for each chunk that it knows.
      if (uint64_t(d_.chunks) > file_.size() / 24) {
        context_.damaged({"needs ", d_.chunks, " chunks, more than its index can hold"});
      }
      walk(d_.index, -1);
    }
    if (int64_t(seen_.size()) != d_.chunks) {
      context_.damaged({"has ", seen_.size(), " chunks, expected ", d_.chunks});
    }
  }

 private:
  /// One node of the B-tree and what is under it; its level must be `level` unless that is -1.
  void walk(uint64_t address, int level) {
    const size_t rank = d_.chunk.size(), key = 8 + 8 * (rank + 1);
    Cursor head(file_, address, 24, context_, "chunk index");
    head.expect("TREE");
    const int type = head.u8(), found = head.u8(), entries = head.u16();
    if (type != 1) context_.damaged({"chunk index has node type ", type, ", expected 1"});
    if (level >= 0 && found != level) {
      context_.damaged({"chunk index has level ", found, ", expected ", level});
    }
    visited_ += 24 + size_t(entries) * (key + 8);
    if (visited_ > file_.size()) context_.damaged({"chunk index overlaps itself"});
    Cursor in(file_, address + 24, size_t(entries) * (key + 8) + key, context_, "chunk index");
    for (int i = 0; i < entries; ++i) {
      const uint32_t size = in.u32(), mask = in.u32();
      std::vector<int64_t> offset;
      for (size_t k = 0; k < rank; ++k) offset.push_back(int64_t(in.u64()));
      in.skip(8);
      const uint64_t child = in.u64();
      found > 0 ? walk(child, found - 1) : place(offset, child, size, mask);
    }
  }

  /// Takes one chunk in: its filters undone, its part within the shape copied.
  void place(const std::vector<int64_t>& offset, uint64_t address, uint64_t size, uint32_t mask) {
    int64_t number = 0;
    for (size_t i = 0; i < offset.size(); ++i) {
      const int64_t extent = d_.sig.shape[int(i)];
      if (offset[i] < 0 || offset[i] >= extent || offset[i] % d_.chunk[i] != 0) {
        context_.damaged({"a chunk is at ", offset[i], " of axis ", i, ", expected a multiple of ",
                          d_.chunk[i], " below ", extent});
      }
      number = number * ((extent - 1) / d_.chunk[i] + 1) + offset[i] / d_.chunk[i];
    }
    if (!seen_.insert(number).second) context_.damaged({"has chunk ", number, " twice"});
    std::string buffer;
    const std::string_view bytes =
        unfiltered(Cursor(file_, address, size, context_, "chunk").rest(), mask, buffer);
    copy(offset, bytes.data());
  }

  std::string_view unfiltered(std::string_view bytes, uint32_t mask, std::string& buffer) const {
    // Sizes before each filter, as the writer saw them; after deflate they are not known.
    std::vector<uint64_t> before;
    uint64_t size = bytes_;
    for (size_t i = 0; i < d_.filters.size(); ++i) {
      before.push_back(size);
      if (d_.filters[i].id == 3 && !(mask >> i & 1)) size += 4;
    }
    for (size_t i = d_.filters.size(); i--;) {
      if (mask >> i & 1) continue;
      const auto& filter = d_.filters[i];
      if (filter.id == 1) {
        buffer = inflated(bytes, before[i]);
        bytes = buffer;
      } else if (filter.id == 2) {
        buffer = unshuffle(bytes, filter.size);
        bytes = buffer;
      } else {
        if (bytes.size() < 4) context_.damaged({"a chunk lacks its checksum"});
        Cursor sum(bytes.substr(bytes.size() - 4), context_, "checksum");
        bytes.remove_suffix(4);
        if (sum.u32() != fletcher32(bytes)) context_.damaged({"a chunk's checksum is wrong"});
      }
    }
    if (bytes.size() != bytes_) {
      context_.damaged({"a chunk has ", bytes.size(), " bytes, expected ", bytes_});
    }
    return bytes;
  }

  std::string inflated(std::string_view bytes, uint64_t size) const {
    std::string out(size, '\0');
    uLongf filled = uLongf(size);
    uLong used = uLong(bytes.size());
    const int r = ::uncompress2(reinterpret_cast<Bytef*>(out.data()), &filled,
                                reinterpret_cast<const Bytef*>(bytes.data()), &used);
    if (r == Z_MEM_ERROR) fail(Code::ResourceExhausted, {"hdf5: no memory to inflate a chunk"});
    if (r != Z_OK || filled != size) {
      context_.damaged({"a chunk of ", bytes.size(), " bytes does not inflate to ", size});
    }
    return out;
  }

  void copy(const std::vector<int64_t>& offset, const char* from) {
    const int rank = int(offset.size());
    const auto strides = d_.sig.shape.strides();
    const int64_t size = d_.element.size;
    if (rank == 0) {
      std::memcpy(to_, from, size_t(size));
      return;
    }
    std::array<int64_t, kMaxRank> extent{}, index{};
    for (int i = 0; i < rank; ++i) {
      extent[i] = std::min(d_.chunk[i], d_.sig.shape[i] - offset[i]);
    }
    for (;;) {
      int64_t target = offset[rank - 1], source = 0;
      for (int i = 0; i + 1 < rank; ++i) {
        target += (offset[i] + index[i]) * strides[i];
        source = (source + index[i]) * d_.chunk[i + 1];
      }
      std::memcpy(to_ + target * size, from + source * size, size_t(extent[rank - 1] * size));
      int i = rank - 2;
      for (; i >= 0 && ++index[i] == extent[i]; --i) index[i] = 0;
      if (i < 0) return;
    }
  }

  std::string_view file_;
  const Dataset& d_;
  const Context& context_;
  char* to_;
  uint64_t bytes_;  ///< of a chunk
  size_t visited_ = 0;
  std::unordered_set<int64_t> seen_;
};

}  // namespace

Array read_dataset(std::string_view file, const Dataset& d, const Context& context) {
  Array array = make_array(d.sig);
  auto* to = static_cast<char*>(array.data->data());
  if (!d.is_chunked) {
    detail::convert(d.element, d.plain.data(), to, d.plain.empty() ? 0 : d.sig.shape.count());
    return array;
  }
  if (d.sig.shape.count() == 0) return array;
  const BufferPtr raw = make_buffer(checked_mul(d.sig.shape.count(), d.element.size));
  ChunkReader(file, d, context, static_cast<char*>(raw->data())).read();
  detail::convert(d.element, static_cast<const char*>(raw->data()), to, d.sig.shape.count());
  return array;
}

}  // namespace evenflow::format::hdf5
