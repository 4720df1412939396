// SPDX-License-Identifier: Apache-2.0
// The .npy format: magic, version, length, a Python dict literal, the elements. Specified in
// numpy/lib/_format_impl.py. The header is read by a parser of exactly that dict, nothing else.
#include "evenflow/format/npy.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "evenflow/format/element.h"

namespace evenflow::format {
namespace {

using detail::convert;
using detail::Element;
using detail::integer_element;

constexpr std::string_view kMagic("\x93NUMPY", 6);
constexpr size_t kMaxHeader = 1 << 16;  // NumPy refuses more than 10,000 bytes
constexpr size_t kMaxShapeItems = 64;   // NumPy's own largest rank

struct Header {
  std::string descr;
  bool fortran_order = false;
  std::vector<int64_t> shape;
};

class HeaderParser {
 public:
  HeaderParser(std::string_view text, std::string_view name) : text_(text), name_(name) {}

  Header parse() {
    Header h;
    bool seen[3] = {};
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted();
      expect(':');
      const int index = key == "descr" ? 0 : key == "fortran_order" ? 1 : key == "shape" ? 2 : -1;
      if (index < 0) bad(concat({"has the key \"", printable(key), "\""}));
      if (std::exchange(seen[index], true)) bad(concat({"has the key \"", key, "\" twice"}));
      if (index == 0) h.descr = descr();
      if (index == 1) h.fortran_order = boolean();
      if (index == 2) h.shape = tuple();
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_space();
    if (at_ != text_.size()) bad("has text after the dict");
    for (int i = 0; i < 3; ++i) {
      if (!seen[i]) bad(concat({"lacks ", i == 0 ? "descr" : i == 1 ? "fortran_order" : "shape"}));
    }
    return h;
  }

  static std::string printable(std::string_view s) {
    std::string out;
    for (const char c : s.substr(0, 40)) out += c >= 32 && c < 127 ? c : '?';
    return out;
  }

 private:
  [[noreturn]] void bad(std::string_view what) const {
    fail(Code::DataLoss, {"npy \"", name_, "\": header ", what, " (at byte ", at_, ")"});
  }
  void skip_space() {
    while (at_ < text_.size() && std::strchr(" \t\r\n\f\v", text_[at_]) && text_[at_]) ++at_;
  }
  bool accept(char c) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) bad(concat({"lacks a '", std::string(1, c), "'"}));
  }
  std::string quoted() {
    skip_space();
    if (at_ >= text_.size() || (text_[at_] != '\'' && text_[at_] != '"')) bad("lacks a string");
    const size_t end = text_.find(text_[at_], at_ + 1);
    if (end == text_.npos) bad("has a string without an end");
    std::string s(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return s;
  }
  std::string descr() {
    skip_space();
    if (at_ < text_.size() && text_[at_] == '[') {
      fail(Code::Unimplemented,
           {"npy \"", name_, "\": element type is a structure, expected a number"});
    }
    return quoted();
  }
  bool boolean() {
    skip_space();
    for (const bool value : {true, false}) {
      const std::string_view word = value ? "True" : "False";
      if (text_.substr(at_, word.size()) == word) {
        at_ += word.size();
        return value;
      }
    }
    bad("lacks True or False for fortran_order");
  }
  int64_t integer() {
    skip_space();
    int64_t v = 0;
    const size_t start = at_;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, text_[at_] - '0', &v)) {
        bad("has an extent that does not fit into 64 bits");
      }
    }
    if (at_ == start) bad("has a shape that is not a tuple of numbers from 0 on");
    if (at_ < text_.size() && text_[at_] == 'L') ++at_;  // Python 2 wrote long integers so
    return v;
  }
  std::vector<int64_t> tuple() {
    std::vector<int64_t> items;
    expect('(');
    while (!accept(')')) {
      if (items.size() == kMaxShapeItems) bad("has a shape of more than 64 extents");
      items.push_back(integer());
      if (!accept(',')) {
        expect(')');
        if (items.size() == 1) bad("has a shape that is a number, expected a tuple");
        break;
      }
    }
    return items;
  }

  std::string_view text_, name_;
  size_t at_ = 0;
};

Element element_of(const std::string& descr, std::string_view name) {
  std::string_view d = descr;
  char order = '|';
  if (!d.empty() && std::strchr("<>=|", d[0]) && d[0]) order = d[0], d.remove_prefix(1);
  if (d == "?") d = "b1";
  if (d.size() == 2) {
    const int size = d[1] - '0';
    const bool swap = order == '>' && size > 1;
    Element e{d[0], size, swap, DType::f32};
    if (d == "f4") return e;
    if (d == "f8") return e.dtype = DType::f64, e;
    if (d == "f2") return e.dtype = DType::f16, e;
    if (d == "b1") return e.dtype = DType::boolean, e;
    if ((d[0] == 'i' || d[0] == 'u') && integer_element(d[0], size, swap, &e)) return e;
  }
  fail(Code::Unimplemented,
       {"npy \"", name, "\": element type is \"", HeaderParser::printable(descr),
        "\", expected float16/32/64, int8/16/32/64, uint8/16/32 or bool"});
}

/// Column-major to row-major.
void transpose(const char* from, char* to, const Shape& shape, int64_t size) {
  std::array<int64_t, kMaxRank> index{}, stride{};
  int64_t k = size;
  for (int i = 0; i < shape.rank(); ++i) stride[i] = k, k *= shape[i];
  int64_t at = 0;
  for (int64_t n = 0; n < shape.count(); ++n, to += size) {
    std::memcpy(to, from + at, size_t(size));
    for (int i = shape.rank(); i--;) {
      at += stride[i];
      if (++index[i] < shape[i]) break;
      at -= stride[i] * shape[i];
      index[i] = 0;
    }
  }
}

}  // namespace

Array parse_npy(std::string_view bytes, std::string_view name) {
  const auto damaged = [&](std::initializer_list<Part> parts) {
    fail(Code::DataLoss, {"npy \"", name, "\": ", concat(parts)});
  };
  if (bytes.substr(0, kMagic.size()) != kMagic) damaged({"does not start with NumPy's magic"});
  if (bytes.size() < 8) damaged({"file has ", bytes.size(), " bytes, expected a header"});
  const int major = uint8_t(bytes[6]), minor = uint8_t(bytes[7]);
  if (major < 1 || major > 3 || minor != 0) {
    damaged({"version is ", major, ".", minor, ", expected 1.0, 2.0 or 3.0"});
  }
  const size_t start = major == 1 ? 10 : 12;
  if (bytes.size() < start) damaged({"file has ", bytes.size(), " bytes, expected a header"});
  size_t length = 0;
  for (size_t i = start; i-- > 8;) length = length << 8 | uint8_t(bytes[i]);
  if (length > bytes.size() - start || length > kMaxHeader) {
    damaged({"header length is ", length, ", expected at most ",
             std::min(bytes.size() - start, kMaxHeader)});
  }
  const Header header = HeaderParser(bytes.substr(start, length), name).parse();
  const Element element = element_of(header.descr, name);
  if (header.shape.size() > size_t(kMaxRank)) {
    fail(Code::Unimplemented,
         {"npy \"", name, "\": rank is ", header.shape.size(), ", expected at most ", kMaxRank});
  }
  const std::string_view body = bytes.substr(start + length);
  Shape shape;
  int64_t expected = 0;
  try {
    shape = Shape(header.shape);
    expected = checked_mul(shape.count(), element.size);
  } catch (const Error& e) {
    damaged({"header: ", e.what()});
  }
  if (expected != int64_t(body.size())) {
    damaged({"shape ", str(shape), " of \"", header.descr, "\" needs ", expected,
             " bytes, the file has ", body.size()});
  }

  Array array = make_array({element.dtype, shape});
  const char* from = body.data();
  auto* to = static_cast<char*>(array.data->data());
  if (header.fortran_order && shape.rank() > 1) {
    const BufferPtr rows = make_buffer(expected);
    auto* ordered = static_cast<char*>(rows->data());
    transpose(from, ordered, shape, element.size);
    convert(element, ordered, to, shape.count());
  } else {
    convert(element, from, to, shape.count());
  }
  return array;
}

Array read_npy(const std::string& path, int64_t max_bytes) {
  return parse_npy(read_file(path, max_bytes), path);
}

namespace {

std::string header_bytes(const Sig& sig) {
  std::string_view descr;
  switch (sig.dtype) {
    case DType::f32:
    case DType::bf16:
      descr = "<f4";
      break;
    case DType::f64:
      descr = "<f8";
      break;
    case DType::f16:
      descr = "<f2";
      break;
    case DType::i32:
      descr = "<i4";
      break;
    case DType::i64:
      descr = "<i8";
      break;
    case DType::u8:
      descr = "|u1";
      break;
    case DType::boolean:
      descr = "|b1";
      break;
  }
  std::string dict = concat({"{'descr': '", descr, "', 'fortran_order': False, 'shape': ("});
  for (int i = 0; i < sig.shape.rank(); ++i) {
    dict += (i ? ", " : "") + std::to_string(sig.shape[i]);
  }
  dict += sig.shape.rank() == 1 ? ",), }" : "), }";
  // NumPy leaves room for the first extent to grow, then pads to 64 bytes, the line's end included.
  if (sig.shape.rank() > 0) dict.append(21 - std::to_string(sig.shape[0]).size(), ' ');
  const size_t padding = 64 - (10 + dict.size() + 1) % 64;
  dict.append(padding, ' ');
  dict += '\n';
  std::string out(kMagic);
  out += {1, 0, char(dict.size() & 255), char(dict.size() >> 8)};
  return out + dict;
}

/// Calls `put` with the array's bytes as the file holds them.
template <class Put>
void body_bytes(const Array& array, Put&& put) {
  const auto* p = static_cast<const char*>(array.data->data());
  if (array.sig.dtype != DType::bf16) return put(std::string_view(p, size_t(array.sig.bytes())));
  std::string floats(size_t(array.sig.shape.count()) * 4, '\0');
  for (int64_t i = 0; i < array.sig.shape.count(); ++i) {
    bf16 v;
    std::memcpy(&v, p + 2 * i, 2);
    const float f = v;
    std::memcpy(floats.data() + 4 * i, &f, 4);
  }
  put(floats);
}

void check(const Array& array) {
  if (!array.data || array.data->bytes() < array.sig.bytes()) {
    fail({"npy: data has ", array.data ? array.data->bytes() : 0, " bytes, expected ",
          array.sig.bytes(), " for ", str(array.sig)});
  }
}

}  // namespace

std::string npy_bytes(const Array& array) {
  check(array);
  std::string out = header_bytes(array.sig);
  body_bytes(array, [&](std::string_view body) { out += body; });
  return out;
}

void write_npy(const std::string& path, const Array& array) {
  check(array);
  write_file_atomically(path, [&](FileWriter& writer) {
    writer.append(header_bytes(array.sig));
    body_bytes(array, [&](std::string_view body) { writer.append(body); });
  });
}

}  // namespace evenflow::format
