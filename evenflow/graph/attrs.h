// SPDX-License-Identifier: Apache-2.0
// Attributes of an operation, as the rest of the system sees them: a list of typed values. An
// author writes a plain struct with one `fields` function; equality, hashing, saving, printing,
// documentation and bindings are derived from it.
//
//   struct ReduceAttrs {
//     std::vector<int64_t> axes;
//     bool keepdims = false;
//     static void fields(auto& self, auto&& field) {
//       field("axes", self.axes, "axes to reduce; empty: all");
//       field("keepdims", self.keepdims, "keep reduced axes with extent 1");
//     }
//   };
#pragma once
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "evenflow/core/shape.h"

namespace evenflow {

struct SubGraph;  // graph/sub_graph.h: an attribute of cond, while_loop and scan
using SubGraphPtr = std::shared_ptr<const SubGraph>;

using AttrValue = std::variant<bool, int64_t, double, std::string, std::vector<int64_t>,
                               std::vector<double>, DType, Shape, SubGraphPtr>;
using AttrPtr = std::shared_ptr<const void>;

struct AttrInfo {
  std::string name;
  AttrValue default_value;
  std::string doc;
};
/// "bool", "int", "float", "string", "ints", "floats", "dtype", "shape", "graph".
std::string_view type_name(const AttrValue& value);
/// As a person would write it: true, 3, 0.001, "same", [1, 2].
std::string str(const AttrValue& value);

/// A structural key: equal keys, equal meaning. Nothing in it is an address, but for sub-graphs and
/// operations.
using Key = std::vector<uint64_t>;
struct KeyHash {
  size_t operator()(const Key& key) const;
};
void append(Key& key, const AttrValue& value);
void append(Key& key, const Sig& sig);

struct NoAttrs {
  static void fields(auto&, auto&&) {}
};

namespace detail {
inline AttrValue to_value(bool v) { return v; }
inline AttrValue to_value(int v) { return int64_t(v); }
inline AttrValue to_value(int64_t v) { return v; }
inline AttrValue to_value(float v) { return double(v); }
inline AttrValue to_value(double v) { return v; }
inline AttrValue to_value(const std::string& v) { return v; }
inline AttrValue to_value(const std::vector<int64_t>& v) { return v; }
inline AttrValue to_value(const std::vector<double>& v) { return v; }
inline AttrValue to_value(DType v) { return v; }
inline AttrValue to_value(const Shape& v) { return v; }
inline AttrValue to_value(const SubGraphPtr& v) { return v; }
[[noreturn]] void wrong_attr(std::string_view name, const AttrValue& found,
                             std::string_view expected);
int checked_int(std::string_view name, int64_t v);
template <class T>
void from_value(std::string_view name, const AttrValue& v, T& out) {
  if constexpr (std::is_same_v<T, int>) {
    if (auto* p = std::get_if<int64_t>(&v)) return void(out = checked_int(name, *p));
  } else if constexpr (std::is_floating_point_v<T>) {
    if (auto* p = std::get_if<double>(&v)) return void(out = T(*p));
    if (auto* p = std::get_if<int64_t>(&v)) return void(out = T(*p));
  } else {
    if (auto* p = std::get_if<T>(&v)) return void(out = *p);
  }
  wrong_attr(name, v, type_name(to_value(T{})));
}
}  // namespace detail

}  // namespace evenflow
