// SPDX-License-Identifier: Apache-2.0
#include "evenflow/graph/attrs.h"

#include <bit>
#include <climits>

namespace evenflow {
namespace {
template <class... F>
struct Overload : F... {
  using F::operator()...;
};
template <class... F>
Overload(F...) -> Overload<F...>;
}  // namespace

std::string_view type_name(const AttrValue& v) {
  constexpr std::string_view names[] = {"bool",   "int",   "float", "string", "ints",
                                        "floats", "dtype", "shape", "graph"};
  return names[v.index()];
}

std::string str(const AttrValue& value) {
  auto list = [](const auto& v) {
    std::string s = "[";
    for (size_t i = 0; i < v.size(); ++i) s += (i ? ", " : "") + Part(v[i]).text;
    return s + "]";
  };
  return std::visit(
      Overload{[](bool v) { return Part(v).text; }, [](int64_t v) { return Part(v).text; },
               [](double v) { return Part(v).text; },
               [](const std::string& v) { return "\"" + v + "\""; },
               [&](const std::vector<int64_t>& v) { return list(v); },
               [&](const std::vector<double>& v) { return list(v); },
               [](DType v) { return std::string(str(v)); }, [](const Shape& v) { return str(v); },
               [](const SubGraphPtr&) { return std::string("{graph}"); }},
      value);
}

size_t KeyHash::operator()(const Key& key) const {
  uint64_t h = 14695981039346656037u;
  for (uint64_t x : key) h = (h ^ x) * 1099511628211u, h ^= h >> 29;
  return h;
}

void append(Key& key, const Sig& sig) {
  key.push_back(uint64_t(sig.dtype) << 8 | uint64_t(sig.shape.rank()));
  for (int64_t d : sig.shape) key.push_back(uint64_t(d));
}
void append(Key& key, const AttrValue& value) {
  key.push_back(value.index());
  auto list = [&](const auto& v) {
    key.push_back(v.size());
    for (const auto& x : v) key.push_back(std::bit_cast<uint64_t>(x));
  };
  std::visit(
      Overload{[&](bool v) { key.push_back(v); }, [&](int64_t v) { key.push_back(uint64_t(v)); },
               [&](double v) { key.push_back(std::bit_cast<uint64_t>(v)); },
               [&](const std::string& v) {
                 key.push_back(v.size());
                 for (size_t i = 0; i < v.size(); i += 8) {
                   uint64_t w = 0;
                   for (size_t j = i; j < std::min(v.size(), i + 8); ++j)
                     w = w << 8 | uint8_t(v[j]);
                   key.push_back(w);
                 }
               },
               [&](const std::vector<int64_t>& v) { list(v); },
               [&](const std::vector<double>& v) { list(v); },
               [&](DType v) { key.push_back(uint64_t(v)); },
               [&](const Shape& v) {
                 append(key, Sig{DType::f32, v});
               },
               [&](const SubGraphPtr& v) { key.push_back(reinterpret_cast<uint64_t>(v.get())); }},
      value);
}

namespace detail {
void wrong_attr(std::string_view name, const AttrValue& found, std::string_view expected) {
  fail(
      {"attribute \"", name, "\" is ", type_name(found), " ", str(found), ", expected ", expected});
}
int checked_int(std::string_view name, int64_t v) {
  if (v < INT_MIN || v > INT_MAX)
    fail(Code::OutOfRange, {"attribute \"", name, "\" is ", v, ", expected a 32-bit integer"});
  return int(v);
}
}  // namespace detail

}  // namespace evenflow
