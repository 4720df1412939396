// SPDX-License-Identifier: Apache-2.0
// The tree of an HDF5 file: "HDF5 File Format Specification Version 3.0", sections II (superblock),
// III (B-trees, heaps, symbol tables) and IV (object headers). The whole tree is read when the file
// is opened, under a budget of bytes looked at, so that structures which overlap or refer to one
// another in circles end in an error and not in work without end.
#include "evenflow/format/hdf5_reader.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <new>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "evenflow/format/hdf5_dataset.h"

namespace evenflow::format {
namespace {

using hdf5::Context;
using hdf5::Cursor;
using hdf5::kUndefined;

constexpr std::string_view kSignature("\x89HDF\r\n\x1a\n", 8);

enum MessageType {
  kNil = 0x00,
  kDataspace = 0x01,
  kLinkInfo = 0x02,
  kDatatype = 0x03,
  kLink = 0x06,
  kExternalFiles = 0x07,
  kLayout = 0x08,
  kFilters = 0x0b,
  kAttribute = 0x0c,
  kContinuation = 0x10,
  kSymbolTable = 0x11,
  kAttributeInfo = 0x15,
  kLastKnown = 0x18,
};

#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
constexpr bool kCheckSums = false;  // a fuzzer cannot guess them
#else
constexpr bool kCheckSums = true;
#endif

uint32_t rotate(uint32_t x, int k) { return x << k | x >> (32 - k); }

/// Bob Jenkins's lookup3 ("hashlittle"), the checksum of HDF5's newer structures.
uint32_t lookup3(std::string_view bytes) {
  uint32_t a = 0xdeadbeef + uint32_t(bytes.size()), b = a, c = a;
  const auto word = [&](size_t at) {
    uint32_t v = 0;
    for (size_t i = 0; i < 4 && at + i < bytes.size(); ++i) {
      v |= uint32_t(uint8_t(bytes[at + i])) << 8 * i;
    }
    return v;
  };
  while (bytes.size() > 12) {
    a += word(0), b += word(4), c += word(8);
    a -= c, a ^= rotate(c, 4), c += b;
    b -= a, b ^= rotate(a, 6), a += c;
    c -= b, c ^= rotate(b, 8), b += a;
    a -= c, a ^= rotate(c, 16), c += b;
    b -= a, b ^= rotate(a, 19), a += c;
    c -= b, c ^= rotate(b, 4), b += a;
    bytes.remove_prefix(12);
  }
  if (bytes.empty()) return c;
  a += word(0), b += word(4), c += word(8);
  c ^= b, c -= rotate(b, 14);
  a ^= c, a -= rotate(c, 11);
  b ^= a, b -= rotate(a, 25);
  c ^= b, c -= rotate(b, 16);
  a ^= c, a -= rotate(c, 4);
  b ^= a, b -= rotate(a, 14);
  c ^= b, c -= rotate(b, 24);
  return c;
}

struct Attribute {
  std::string_view type, space, data;
  bool shared = false;
};

/// A group or a dataset.
struct Object {
  bool is_dataset = false;
  std::map<std::string, std::unique_ptr<Object>, std::less<>> children;
  hdf5::DatasetMessages messages;
  std::map<std::string, Attribute, std::less<>> attributes;
  bool has_dense_attributes = false;
};

/// What the messages of an object header say.
struct Header {
  std::vector<std::pair<std::string, uint64_t>> links;
  bool is_group = false;
  uint64_t tree = kUndefined, heap = kUndefined;  ///< of a symbol table
};

}  // namespace

struct Hdf5File::Impl {
  std::string bytes, name;
  Object root;
  /// Where each object of a global heap that was looked at lies, by address and index.
  std::unordered_map<uint64_t, std::unordered_map<uint32_t, std::string_view>> global_heaps;
  std::unordered_set<uint64_t> visited;
  uint64_t looked_at = 0;
  std::mutex mutex;  ///< attributes are looked up, and heaps remembered, after opening too
  int64_t plain_bytes = 0, compressed_bytes = 0;

  /// Accounts for n bytes of structure. A sound file has each byte looked at about once.
  void charge(uint64_t n, const Context& context) {
    looked_at += n;
    if (looked_at > 4 * bytes.size() + 4096) context.damaged({"structures overlap one another"});
  }

  Cursor block(uint64_t offset, uint64_t size, const Context& context, std::string_view what) {
    Cursor c(bytes, offset, size, context, what);
    charge(size, context);
    return c;
  }

  void open();
  void read_object(uint64_t address, Object& object, Context& context, int depth);
  void read_header(uint64_t address, Object& object, Header& header, const Context& context);
  void read_header_1(uint64_t address, Object& object, Header& header, const Context& context);
  void read_header_2(uint64_t address, Object& object, Header& header, const Context& context);
  void take_message(int type, int flags, std::string_view body, Object& object, Header& header,
                    std::vector<std::pair<uint64_t, uint64_t>>& more, const Context& context);
  void take_link(std::string_view body, Header& header, const Context& context);
  void take_attribute(std::string_view body, Object& object, const Context& context);
  void walk_group(uint64_t address, int level, std::string_view names, Header& header,
                  const Context& context);
  void measure(Object& object, const Context& context);
  std::optional<std::string> text(const Attribute& attribute, const Context& context);
  std::string_view global(uint64_t collection, uint32_t index, const Context& context);

  const Object* find(std::string_view path) const;
  const Object& get(std::string_view path, bool is_dataset) const;
};

void Hdf5File::Impl::open() {
  Context context{name, ""};
  Cursor in(bytes, context, "superblock");
  in.expect(kSignature);
  const int version = in.u8();
  if (version > 3) context.refused({"superblock version is ", version, ", expected 0 to 3"});
  if (version < 2) in.skip(4);
  const int offsets = in.u8(), lengths = in.u8();
  if (offsets != 8 || lengths != 8) {
    context.refused({"addresses have ", offsets, " and lengths ", lengths, " bytes, expected 8"});
  }
  uint64_t base, end, root_address;
  if (version < 2) {
    in.skip(version == 0 ? 9 : 13);
    base = in.u64();
    in.skip(8);
    end = in.u64();
    in.skip(16);  // driver, and the name of the root's entry
    root_address = in.u64();
  } else {
    in.skip(1);
    base = in.u64();
    in.skip(8);
    end = in.u64();
    root_address = in.u64();
    const uint32_t sum = in.u32();
    if (kCheckSums && sum != lookup3(std::string_view(bytes).substr(0, 44))) {
      context.damaged({"the superblock's checksum is wrong"});
    }
  }
  if (base != 0) context.refused({"base address is ", base, ", expected 0"});
  if (end > bytes.size()) {
    context.damaged({"file has ", bytes.size(), " bytes, expected ", end, ": it is truncated"});
  }
  read_object(root_address, root, context, 0);
  if (root.is_dataset) context.damaged({"the root is a dataset, expected a group"});
}

void Hdf5File::Impl::read_object(uint64_t address, Object& object, Context& context, int depth) {
  if (depth > kMaxDepth) context.damaged({"groups are nested deeper than ", kMaxDepth});
  if (!visited.insert(address).second) context.damaged({"is linked a second time"});
  Header header;
  read_header(address, object, header, context);
  object.is_dataset = !object.messages.layout.empty();
  if (object.is_dataset == header.is_group) {
    context.refused({"object is ", header.is_group ? "both" : "neither", " a group ",
                     header.is_group ? "and" : "nor", " a dataset"});
  }
  if (object.is_dataset) return measure(object, context);

  if (header.tree != kUndefined) {
    Cursor heap = block(header.heap, 32, context, "local heap");
    heap.expect("HEAP");
    if (const int version = heap.u8()) context.damaged({"local heap version is ", version});
    heap.skip(3);
    const uint64_t size = heap.u64();
    heap.skip(8);
    const uint64_t at = heap.u64();
    walk_group(header.tree, -1, block(at, size, context, "local heap data").rest(), header,
               context);
  }
  for (auto& [link, target] : header.links) {
    if (link.empty() || link == "." || link == ".." || link.find('/') != link.npos) {
      context.damaged({"holds an object named \"", link, "\""});
    }
    auto [at, is_new] = object.children.try_emplace(link, std::make_unique<Object>());
    if (!is_new) context.damaged({"holds two objects named \"", link, "\""});
    const size_t length = context.path.size();
    charge(length + link.size(), context);
    context.path += (length ? "/" : "") + link;
    read_object(target, *at->second, context, depth + 1);
    context.path.resize(length);
  }
}

void Hdf5File::Impl::read_header(uint64_t address, Object& object, Header& header,
                                 const Context& context) {
  const Cursor peek(bytes, address, 4, context, "object header");
  if (peek.rest() == "OHDR") {
    read_header_2(address, object, header, context);
  } else {
    read_header_1(address, object, header, context);
  }
}

void Hdf5File::Impl::read_header_1(uint64_t address, Object& object, Header& header,
                                   const Context& context) {
  Cursor head = block(address, 16, context, "object header");
  if (const int version = head.u8(); version != 1) {
    context.damaged({"object header version is ", version, ", expected 1"});
  }
  head.skip(7);
  std::vector<std::pair<uint64_t, uint64_t>> blocks{{address + 16, head.u32()}};
  for (size_t i = 0; i < blocks.size(); ++i) {
    Cursor in = block(blocks[i].first, blocks[i].second, context, "object header");
    while (in.left() >= 8) {
      const int type = in.u16(), size = in.u16(), flags = in.u8();
      in.skip(3);
      take_message(type, flags, in.take(uint64_t(size)), object, header, blocks, context);
    }
  }
}

void Hdf5File::Impl::read_header_2(uint64_t address, Object& object, Header& header,
                                   const Context& context) {
  Cursor head(bytes, address, bytes.size() - address, context, "object header");
  head.expect("OHDR");
  if (const int version = head.u8(); version != 2) {
    context.damaged({"object header version is ", version, ", expected 2"});
  }
  const int header_flags = head.u8();
  if (header_flags & 0x20) head.skip(16);
  if (header_flags & 0x10) head.skip(4);
  const uint64_t first = head.number(1 << (header_flags & 3));
  const uint64_t prefix = bytes.size() - address - head.left();
  if (first > head.left())
    context.damaged({"object header has ", first, " bytes: it is truncated"});

  std::vector<std::pair<uint64_t, uint64_t>> blocks{{address, prefix + first + 4}};
  for (size_t i = 0; i < blocks.size(); ++i) {
    Cursor whole = block(blocks[i].first, blocks[i].second, context, "object header");
    if (whole.left() < 8) context.damaged({"object header block has ", whole.left(), " bytes"});
    const std::string_view covered = whole.take(whole.left() - 4);
    if (const uint32_t sum = whole.u32(); kCheckSums && sum != lookup3(covered)) {
      context.damaged({"an object header's checksum is wrong"});
    }
    Cursor in(covered, context, "object header");
    if (i == 0) {
      in.skip(prefix);
    } else {
      in.expect("OCHK");
    }
    const bool has_order = header_flags & 4;
    while (in.left() >= (has_order ? 6 : 4)) {  // less is a gap
      const int type = in.u8(), size = in.u16(), flags = in.u8();
      if (has_order) in.skip(2);
      take_message(type, flags, in.take(uint64_t(size)), object, header, blocks, context);
    }
  }
}

void Hdf5File::Impl::take_message(int type, int flags, std::string_view body, Object& object,
                                  Header& header, std::vector<std::pair<uint64_t, uint64_t>>& more,
                                  const Context& context) {
  const auto once = [&](std::string_view& slot) {
    if (!slot.empty()) context.damaged({"has two messages of type ", type});
    if (flags & 2) context.refused({"message of type ", type, " is shared"});
    slot = body;
  };
  Cursor in(body, context, "message");
  switch (type) {
    case kDataspace:
      return once(object.messages.space);
    case kDatatype:
      return once(object.messages.type);
    case kLayout:
      return once(object.messages.layout);
    case kFilters:
      return once(object.messages.filters);
    case kExternalFiles:
      object.messages.external = true;
      return;
    case kLinkInfo: {
      header.is_group = true;
      in.skip(1);
      if (in.u8() & 1) in.skip(8);
      if (in.u64() != kUndefined) context.refused({"group keeps its links in a dense heap"});
      return;
    }
    case kLink:
      header.is_group = true;
      return take_link(body, header, context);
    case kSymbolTable:
      header.is_group = true;
      header.tree = in.u64();
      header.heap = in.u64();
      return;
    case kAttribute:
      if (flags & 2) return;
      return take_attribute(body, object, context);
    case kAttributeInfo:
      in.skip(1);
      if (in.u8() & 1) in.skip(2);
      object.has_dense_attributes = in.u64() != kUndefined;
      return;
    case kContinuation: {
      const uint64_t offset = in.u64(), length = in.u64();
      more.emplace_back(offset, length);
      return;
    }
    default:
      if (type > kLastKnown && (flags & 0x80)) {
        context.refused({"message of type ", type, " must be understood"});
      }
  }
}

void Hdf5File::Impl::take_link(std::string_view body, Header& header, const Context& context) {
  Cursor in(body, context, "link message");
  if (const int version = in.u8(); version != 1) context.damaged({"link version is ", version});
  const int flags = in.u8();
  const int kind = flags & 8 ? in.u8() : 0;
  if (flags & 4) in.skip(8);
  if (flags & 16) in.skip(1);
  const std::string link(in.take(in.number(1 << (flags & 3))));
  if (kind != 0) {
    context.refused(
        {"\"", link, "\" is a ", kind == 1 ? "soft" : "external", " link, expected an object"});
  }
  header.links.emplace_back(link, in.u64());
}

void Hdf5File::Impl::take_attribute(std::string_view body, Object& object, const Context& context) {
  Cursor in(body, context, "attribute message");
  const int version = in.u8(), flags = in.u8();
  if (version < 1 || version > 3) context.damaged({"attribute version is ", version});
  const uint64_t name_size = in.u16(), type_size = in.u16(), space_size = in.u16();
  if (version == 3) in.skip(1);
  const auto padded = [&](uint64_t n) { return version == 1 ? (n + 7) / 8 * 8 : n; };
  std::string_view attribute_name = in.take(padded(name_size));
  attribute_name = attribute_name.substr(0, attribute_name.find('\0'));
  Attribute a;
  a.type = in.take(padded(type_size));
  a.space = in.take(padded(space_size));
  a.data = in.rest();
  a.shared = version > 1 && (flags & 3);
  object.attributes.emplace(attribute_name, a);
}

/// One node of a group's B-tree and what is under it: links by name and address.
void Hdf5File::Impl::walk_group(uint64_t address, int level, std::string_view names, Header& header,
                                const Context& context) {
  Cursor head = block(address, 24, context, "group index");
  head.expect("TREE");
  const int type = head.u8(), found = head.u8(), entries = head.u16();
  if (type != 0) context.damaged({"group index has node type ", type, ", expected 0"});
  if (level >= 0 && found != level) {
    context.damaged({"group index has level ", found, ", expected ", level});
  }
  Cursor in = block(address + 24, 8 + 16 * uint64_t(entries), context, "group index");
  for (int i = 0; i < entries; ++i) {
    in.skip(8);
    const uint64_t child = in.u64();
    if (found > 0) {
      walk_group(child, found - 1, names, header, context);
      continue;
    }
    Cursor node = block(child, 8, context, "symbol table");
    node.expect("SNOD");
    node.skip(2);
    const uint64_t symbols = node.u16();
    Cursor table = block(child + 8, 40 * symbols, context, "symbol table");
    for (uint64_t k = 0; k < symbols; ++k) {
      const uint64_t at = table.u64(), target = table.u64();
      const uint32_t kind = table.u32();
      table.skip(20);
      const size_t end = at < names.size() ? names.find('\0', at) : names.npos;
      if (end == names.npos) context.damaged({"a name at ", at, " of the local heap has no end"});
      charge(end - at, context);
      std::string link(names.substr(at, end - at));
      if (kind == 2) context.refused({"\"", link, "\" is a soft link, expected an object"});
      header.links.emplace_back(std::move(link), target);
    }
  }
}

/// Adds up what the datasets claim to hold, before anything is allocated for any.
void Hdf5File::Impl::measure(Object& object, const Context& context) {
  if (const auto a = object.attributes.find("dtype"); a != object.attributes.end()) {
    object.messages.is_bfloat16 = text(a->second, context) == "bfloat16";
  }
  hdf5::Dataset d;
  try {
    d = hdf5::parse_dataset(bytes, object.messages, context);
  } catch (const Error& e) {
    if (e.code() != Code::Unimplemented) throw;
    return;  // said again when it is read; the others can be
  }
  const int64_t size = int64_t(bytes.size());
  int64_t& total = d.is_compressed ? compressed_bytes : plain_bytes;
  // A small file of zeros compresses better than the rest: a MiB is always granted.
  const int64_t most =
      d.is_compressed ? std::max(int64_t(1) << 20, checked_mul(size, kMaxInflation)) : size;
  if (d.storage > most - total) {
    context.damaged({"shape ", str(d.sig.shape), " claims ", d.storage,
                     d.is_compressed ? " compressed" : "", " bytes, the file has ", size});
  }
  total += d.storage;
}

std::string_view Hdf5File::Impl::global(uint64_t collection, uint32_t index,
                                        const Context& context) {
  auto [at, is_new] = global_heaps.try_emplace(collection);
  if (is_new) {
    Cursor head(bytes, collection, 16, context, "global heap");
    head.expect("GCOL");
    head.skip(4);
    const uint64_t size = head.u64();
    if (size < 16) context.damaged({"global heap has ", size, " bytes"});
    Cursor in = block(collection, size, context, "global heap");
    in.skip(16);
    while (in.left() >= 16) {
      const uint32_t id = in.u16();
      in.skip(6);
      const uint64_t length = in.u64();
      if (id == 0) break;  // the rest is free
      const std::string_view object = in.take(length);
      in.skip(std::min<uint64_t>(in.left(), (8 - length % 8) % 8));
      at->second.emplace(id, object);
    }
  }
  const auto found = at->second.find(index);
  if (found == at->second.end()) context.damaged({"global heap lacks object ", index});
  return found->second;
}

std::optional<std::string> Hdf5File::Impl::text(const Attribute& a, const Context& context) {
  if (a.shared) return std::nullopt;
  hdf5::Type type;
  hdf5::Space space;
  try {
    type = hdf5::parse_type(a.type, context);
    space = hdf5::parse_space(a.space, context);
  } catch (const Error& e) {
    if (e.code() != Code::Unimplemented) throw;
    return std::nullopt;
  }
  if (space.null || !space.dims.empty()) return std::nullopt;
  Cursor in(a.data, context, "attribute");
  std::string_view value;
  if (type.type_class == hdf5::Type::Class::string) {
    value = in.take(type.size);
    if (type.padding == 2) {
      value = value.substr(0, value.find_last_not_of(' ') + 1);
    } else {
      value = value.substr(0, value.find('\0'));
    }
  } else if (type.type_class == hdf5::Type::Class::variable_string) {
    const uint64_t length = in.u32(), collection = in.u64();
    const uint32_t index = in.u32();
    if (length > 0) {
      value = global(collection, index, context);
      if (length > value.size()) {
        context.damaged({"a string has ", length, " bytes, its heap object ", value.size()});
      }
      value = value.substr(0, length);
    }
  } else {
    return std::nullopt;
  }
  return std::string(value);
}

const Object* Hdf5File::Impl::find(std::string_view path) const {
  const Object* object = &root;
  while (!path.empty()) {
    const size_t slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    path.remove_prefix(slash == path.npos ? path.size() : slash + 1);
    if (part.empty()) continue;
    const auto child = object->children.find(part);
    if (child == object->children.end()) return nullptr;
    object = child->second.get();
  }
  return object;
}

const Object& Hdf5File::Impl::get(std::string_view path, bool is_dataset) const {
  const Object* object = find(path);
  if (!object || object->is_dataset != is_dataset) {
    fail(Code::NotFound, {"hdf5 \"", name, "\": ", path.empty() ? "/" : path,
                          !object      ? " is not there"
                          : is_dataset ? " is a group"
                                       : " is a dataset",
                          is_dataset ? ", expected a dataset" : ", expected a group"});
  }
  return *object;
}

Hdf5File::Hdf5File(std::string bytes, std::string name) : impl_(std::make_unique<Impl>()) {
  impl_->bytes = std::move(bytes);
  impl_->name = std::move(name);
  impl_->open();
}
Hdf5File::~Hdf5File() = default;
Hdf5File::Hdf5File(Hdf5File&&) noexcept = default;
Hdf5File& Hdf5File::operator=(Hdf5File&&) noexcept = default;

std::vector<std::string> Hdf5File::groups(std::string_view path) const {
  std::vector<std::string> names;
  for (const auto& [child, object] : impl_->get(path, false).children) {
    if (!object->is_dataset) names.push_back(child);
  }
  return names;
}
std::vector<std::string> Hdf5File::datasets(std::string_view path) const {
  std::vector<std::string> names;
  for (const auto& [child, object] : impl_->get(path, false).children) {
    if (object->is_dataset) names.push_back(child);
  }
  return names;
}
bool Hdf5File::has_group(std::string_view path) const {
  const Object* object = impl_->find(path);
  return object && !object->is_dataset;
}
bool Hdf5File::has_dataset(std::string_view path) const {
  const Object* object = impl_->find(path);
  return object && object->is_dataset;
}

Sig Hdf5File::sig(std::string_view path) const {
  const Object& object = impl_->get(path, true);
  return hdf5::parse_dataset(impl_->bytes, object.messages, {impl_->name, std::string(path)}).sig;
}
Array Hdf5File::read(std::string_view path) const {
  const Object& object = impl_->get(path, true);
  const Context context{impl_->name, std::string(path)};
  try {
    return hdf5::read_dataset(impl_->bytes,
                              hdf5::parse_dataset(impl_->bytes, object.messages, context), context);
  } catch (const std::bad_alloc&) {
    fail(Code::ResourceExhausted, {"hdf5 \"", impl_->name, "\": ", path, ": no memory"});
  }
}

std::optional<std::string> Hdf5File::attribute(std::string_view path, std::string_view name) const {
  const Object* object = impl_->find(path);
  const Context context{impl_->name, std::string(path)};
  if (!object) fail(Code::NotFound, {"hdf5 \"", impl_->name, "\": ", path, " is not there"});
  const auto found = object->attributes.find(name);
  if (found != object->attributes.end()) {
    const std::lock_guard lock(impl_->mutex);
    return impl_->text(found->second, context);
  }
  if (object->has_dense_attributes) context.refused({"attributes lie in a dense heap"});
  return std::nullopt;
}

}  // namespace evenflow::format
