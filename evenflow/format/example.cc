// SPDX-License-Identifier: Apache-2.0
// The wire format of protocol buffers: protobuf.dev/programming-guides/encoding. A field is a tag
// (number and wire type) and a value: a varint, 4 or 8 bytes, or a length and as many bytes.
#include "evenflow/format/example.h"

#include <bit>
#include <cstring>
#include <utility>

#include "evenflow/core/error.h"

namespace evenflow::format {
namespace {

static_assert(std::endian::native == std::endian::little);

enum Wire : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

[[noreturn]] void bad(std::string_view what) {
  fail(Code::DataLoss, {"example: ", what, ", expected a tf.train.Example"});
}

/// Reads fields one after the other.
struct Fields {
  const char* at;
  const char* end;
  uint32_t number = 0;
  Wire wire = kVarint;
  std::string_view value{};  // of kBytes, kFixed32 and kFixed64
  uint64_t varint = 0;

  explicit Fields(std::string_view s) : at(s.data()), end(s.data() + s.size()) {}

  uint64_t read_varint() {
    if (at < end && *at >= 0) return uint64_t(*at++);
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (at == end) bad("a number ends too early");
      const auto byte = uint8_t(*at++);
      if (shift == 63 && byte > 1) break;
      v |= uint64_t(byte & 127) << shift;
      if (byte < 128) return v;
    }
    bad("a number has more than 64 bits");
  }
  std::string_view take(uint64_t n) {
    if (n > uint64_t(end - at)) bad("a length reaches behind the end");
    const char* from = at;
    at += n;
    return {from, size_t(n)};
  }
  bool next() {
    if (at == end) return false;
    const uint64_t tag = read_varint();
    if (tag >> 3 == 0 || tag >> 32) bad("a field has no number");
    number = uint32_t(tag >> 3), wire = Wire(tag & 7);
    switch (wire) {
      case kVarint:
        varint = read_varint();
        return true;
      case kFixed64:
        value = take(8);
        return true;
      case kFixed32:
        value = take(4);
        return true;
      case kBytes:
        value = take(read_varint());
        return true;
    }
    bad("a field has an unknown type");
  }
  bool is(uint32_t n, Wire w) const { return number == n && wire == w; }
};

/// Calls f with each field 1 of each list in the encoded feature.
template <class F>
void for_each_value(const Feature& feature, F&& f) {
  for (Fields lists(feature.encoded); lists.next();) {
    if (!lists.is(uint32_t(feature.kind), kBytes)) continue;
    for (Fields values(lists.value); values.next();)
      if (values.number == 1) f(values);
  }
}

Feature feature_of(std::string_view encoded) {
  Feature f;
  const char* begin = encoded.data();
  const char* field = begin;
  for (Fields fields(encoded); fields.next(); field = fields.at) {
    if (fields.number < 1 || fields.number > 3 || fields.wire != kBytes) continue;
    // Of several kinds the last counts; lists of one kind are one.
    if (f.kind != FeatureKind(fields.number)) f.kind = FeatureKind(fields.number), begin = field;
  }
  f.encoded = encoded.substr(size_t(begin - encoded.data()));
  return f;
}

/// Calls f(name, encoded feature) for each.
template <class F>
void for_each_feature(std::string_view example, F&& f) {
  for (Fields features(example); features.next();) {
    if (!features.is(1, kBytes)) continue;
    for (Fields entries(features.value); entries.next();) {
      if (!entries.is(1, kBytes)) continue;
      std::string_view name, feature;
      for (Fields entry(entries.value); entry.next();) {
        if (entry.is(1, kBytes)) name = entry.value;
        if (entry.is(2, kBytes)) feature = entry.value;
      }
      f(name, feature);
    }
  }
}

void put_varint(std::string& out, uint64_t v) {
  for (; v >= 128; v >>= 7) out += char(v | 128);
  out += char(v);
}
void put_bytes(std::string& out, uint32_t number, std::string_view bytes) {
  put_varint(out, number << 3 | kBytes);
  put_varint(out, bytes.size());
  out += bytes;
}

void expect_kind(const Feature& f, FeatureKind kind) {
  if (f.kind != kind && f.kind != FeatureKind::none)
    fail({"example: the feature has ", str(f.kind), ", expected ", str(kind)});
}

}  // namespace

std::string_view str(FeatureKind kind) {
  constexpr std::string_view names[] = {"no values", "bytes", "floats", "integers"};
  return names[size_t(kind)];
}

int64_t Feature::count() const {
  int64_t n = 0;
  for_each_value(*this, [&](const Fields& v) {
    if (kind == FeatureKind::floats) {
      if (v.wire == kFixed32) {
        ++n;
      } else if (v.wire == kBytes) {
        if (v.value.size() % 4) bad("a list of floats has a part of one");
        n += int64_t(v.value.size() / 4);
      } else {
        bad("a float is of another type");
      }
    } else if (kind == FeatureKind::integers) {
      if (v.wire == kVarint) {
        ++n;
      } else if (v.wire == kBytes) {
        for (const char c : v.value) n += c >= 0;  // the last byte of each
        if (!v.value.empty() && v.value.back() < 0) bad("a number ends too early");
      } else {
        bad("an integer is of another type");
      }
    } else if (kind == FeatureKind::bytes) {
      if (v.wire != kBytes) bad("a byte string is of another type");
      ++n;
    }
  });
  return n;
}

void Feature::read(float* to) const {
  expect_kind(*this, FeatureKind::floats);
  for_each_value(*this, [&](const Fields& v) {
    if (v.wire != kFixed32 && (v.wire != kBytes || v.value.size() % 4))
      bad("a float is of another type");
    std::memcpy(to, v.value.data(), v.value.size());
    to += v.value.size() / 4;
  });
}

void Feature::read(int64_t* to) const {
  expect_kind(*this, FeatureKind::integers);
  for_each_value(*this, [&](const Fields& v) {
    if (v.wire == kVarint) {
      *to++ = int64_t(v.varint);
    } else if (v.wire == kBytes) {
      for (Fields numbers(v.value); numbers.at != numbers.end;)
        *to++ = int64_t(numbers.read_varint());
    } else {
      bad("an integer is of another type");
    }
  });
}

void Feature::read(FunctionRef<void(std::string_view)> f) const {
  expect_kind(*this, FeatureKind::bytes);
  for_each_value(*this, [&](const Fields& v) {
    if (v.wire != kBytes) bad("a byte string is of another type");
    f(v.value);
  });
}

ExampleReader::ExampleReader(std::vector<std::string> names) : names_(std::move(names)) {
  for (size_t i = 0; i < names_.size(); ++i)
    if (!index_.emplace(names_[i], i).second)
      fail({"example: the feature \"", names_[i], "\" is named twice"});
}

void ExampleReader::find(std::string_view example, std::span<Feature> found) const {
  if (found.size() != names_.size())
    fail({"example: room for ", found.size(), " features, expected ", names_.size()});
  for (Feature& f : found) f = {};
  size_t guess = 0;  // files mostly keep one order
  for_each_feature(example, [&](std::string_view name, std::string_view feature) {
    size_t i = guess;
    if (i >= names_.size() || names_[i] != name) {
      const auto it = index_.find(name);
      if (it == index_.end()) return;
      i = it->second;
    }
    guess = i + 1;
    found[i] = feature_of(feature);
  });
}

std::map<std::string, Feature, std::less<>> example_features(std::string_view example) {
  std::map<std::string, Feature, std::less<>> all;
  for_each_feature(example, [&](std::string_view name, std::string_view feature) {
    all.insert_or_assign(std::string(name), feature_of(feature));
  });
  return all;
}

ExampleWriter& ExampleWriter::floats(std::string_view name, std::span<const float> values) {
  std::string list, feature;
  if (!values.empty())
    put_bytes(list, 1, {reinterpret_cast<const char*>(values.data()), values.size_bytes()});
  put_bytes(feature, uint32_t(FeatureKind::floats), list);
  features_.insert_or_assign(std::string(name), std::move(feature));
  return *this;
}
ExampleWriter& ExampleWriter::integers(std::string_view name, std::span<const int64_t> values) {
  std::string packed, list, feature;
  for (const int64_t v : values) put_varint(packed, uint64_t(v));
  if (!values.empty()) put_bytes(list, 1, packed);
  put_bytes(feature, uint32_t(FeatureKind::integers), list);
  features_.insert_or_assign(std::string(name), std::move(feature));
  return *this;
}
ExampleWriter& ExampleWriter::bytes(std::string_view name,
                                    std::span<const std::string_view> values) {
  std::string list, feature;
  for (const std::string_view v : values) put_bytes(list, 1, v);
  put_bytes(feature, uint32_t(FeatureKind::bytes), list);
  features_.insert_or_assign(std::string(name), std::move(feature));
  return *this;
}

std::string ExampleWriter::finish() const {
  std::string all, out;
  for (const auto& [name, feature] : features_) {
    std::string entry;
    put_bytes(entry, 1, name);
    put_bytes(entry, 2, feature);
    put_bytes(all, 1, entry);
  }
  put_bytes(out, 1, all);
  return out;
}

}  // namespace evenflow::format
