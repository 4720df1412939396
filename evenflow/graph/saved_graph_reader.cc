// SPDX-License-Identifier: Apache-2.0
// Reading a saved graph from bytes that nobody vouches for. Every check takes time linear in the
// file.
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "evenflow/core/checksum.h"
#include "evenflow/graph/saved_graph_format.h"
#include "evenflow/graph/sub_graph.h"

namespace evenflow {
namespace {
using nlohmann::json;

constexpr int kJsonDepth = 128;

[[noreturn]] void damaged(std::initializer_list<Part> parts) {
  fail(Code::DataLoss, {"saved graph: ", concat(parts)});
}
const json& member(const json& j, const char* name) {
  if (!j.is_object()) damaged({"an object is missing where \"", name, "\" is looked for"});
  auto it = j.find(name);
  if (it == j.end()) damaged({"\"", name, "\" is missing"});
  return *it;
}
const json& list(const json& j, const char* what) {
  if (!j.is_array()) damaged({"\"", what, "\" is no list"});
  return j;
}
int64_t integer(const json& j, const char* what, int64_t least, int64_t most) {
  if (!j.is_number_integer() ||
      (j.is_number_unsigned() && j.get<uint64_t>() > uint64_t(std::numeric_limits<int64_t>::max())))
    damaged({"\"", what, "\" is no integer"});
  const int64_t v = j.get<int64_t>();
  if (v < least || v > most) damaged({"\"", what, "\" is ", v, ", expected ", least, "..", most});
  return v;
}
constexpr int64_t kLeast = std::numeric_limits<int64_t>::min(),
                  kMost = std::numeric_limits<int64_t>::max();
std::string text(const json& j, const char* what) {
  if (!j.is_string()) damaged({"\"", what, "\" is no text"});
  return j.get<std::string>();
}
double real(const json& j, const char* what) {
  if (j.is_string()) {
    const std::string s = j.get<std::string>();
    if (s == "nan") return std::numeric_limits<double>::quiet_NaN();
    if (s == "inf") return std::numeric_limits<double>::infinity();
    if (s == "-inf") return -std::numeric_limits<double>::infinity();
  }
  if (!j.is_number()) damaged({"\"", what, "\" is no number"});
  return j.get<double>();
}
std::vector<int64_t> integers(const json& j, const char* what) {
  std::vector<int64_t> r;
  for (auto& x : list(j, what)) r.push_back(integer(x, what, kLeast, kMost));
  return r;
}
DType type(const json& j) { return parse_dtype(text(j, "dtype")); }
Sig sig(const json& j) {
  if (list(j, "signature").empty() || j.size() > size_t(kMaxRank) + 1)
    damaged({"a signature has ", j.size(), " entries"});
  std::vector<int64_t> dims;
  for (size_t i = 1; i < j.size(); ++i) dims.push_back(integer(j[i], "extent", 0, kMost));
  Sig s{type(j[0]), Shape(dims)};
  s.bytes();  // throws when they cannot be counted
  return s;
}

struct Constant {
  Sig sig;
  BufferPtr buffer;
};

class Reader {
 public:
  Reader(std::string_view bytes, const LoadLimits& limits) : bytes_(bytes), limits_(limits) {}

  std::shared_ptr<SavedGraph::Impl> read() {
    const json header = parse();
    auto r = std::make_shared<SavedGraph::Impl>();
    r->limits = limits_;
    operations(member(header, "operations"));
    constants(member(header, "constants"), r->weight_bytes);
    const json& metadata = member(header, "metadata");
    if (!metadata.is_object()) damaged({"\"metadata\" is no object"});
    for (auto& [k, v] : metadata.items()) r->metadata[k] = text(v, "metadata");
    std::set<std::string> names;
    for (auto& f : list(member(header, "functions"), "functions")) {
      auto loaded = std::make_unique<efg::Loaded>();
      SavedFunction& to = loaded->function;
      to.name = text(member(f, "name"), "name");
      if (!names.insert(to.name).second) damaged({"two functions are named \"", to.name, "\""});
      for (auto& x : list(member(f, "inputs"), "inputs")) to.inputs.push_back(text(x, "inputs"));
      for (auto& x : list(member(f, "outputs"), "outputs"))
        to.outputs.push_back(text(x, "outputs"));
      const json& fixed = member(f, "fixed_extents");
      if (!fixed.is_boolean()) damaged({"\"fixed_extents\" is no bool"});
      to.fixed_extents = fixed.get<bool>();
      to.graph = graph(member(f, "graph"), 0);
      if (to.inputs.size() != to.graph.leaves.size() ||
          to.outputs.size() != to.graph.results.size())
        damaged({"\"", to.name, "\" names ", to.inputs.size(), " inputs and ", to.outputs.size(),
                 " outputs, expected ", to.graph.leaves.size(), " and ", to.graph.results.size()});
      r->functions.push_back(std::move(loaded));
    }
    if (r->functions.empty()) damaged({"it holds no function"});
    return r;
  }

 private:
  json parse() {
    if (bytes_.size() < efg::kStart || bytes_.substr(0, efg::kMagic.size()) != efg::kMagic)
      damaged({"it does not begin as a saved graph does"});
    const uint32_t format = efg::get<uint32_t>(bytes_, efg::kMagic.size()),
                   sum = efg::get<uint32_t>(bytes_, efg::kMagic.size() + 4);
    const uint64_t size = efg::get<uint64_t>(bytes_, efg::kMagic.size() + 8);
    if (format != uint32_t(efg::kFormat))
      fail(Code::Unimplemented,
           {"saved graph: its format is ", format, ", expected ", efg::kFormat});
    if (size > bytes_.size() - efg::kStart)
      damaged({"its header has ", size, " bytes, the file ", bytes_.size()});
    if (size > uint64_t(limits_.header_bytes))
      fail(Code::ResourceExhausted, {"saved graph: its header has ", size,
                                     " bytes, expected at most ", limits_.header_bytes});
    const std::string_view head = bytes_.substr(efg::kStart, size);
    if (crc32c(head.data(), head.size()) != sum) damaged({"the checksum of its header is wrong"});
    const size_t begin = (efg::kStart + size + efg::kAlign - 1) / efg::kAlign * efg::kAlign;
    data_ = bytes_.substr(std::min(begin, bytes_.size()));
    return json::parse(head, [](int depth, json::parse_event_t, json&) {
      if (depth > kJsonDepth) damaged({"its header is nested more than ", kJsonDepth, " deep"});
      return true;
    });
  }

  void operations(const json& j) {
    if (!j.is_object()) damaged({"\"operations\" is no object"});
    for (auto& [name, since] : j.items()) {
      const OpDef* op = nullptr;
      try {
        op = &find_op(name);
      } catch (const Error& e) {
        fail(Code::Unimplemented, {"saved graph: ", e.what()});
      }
      const int64_t version = integer(since, "operations", 1, 1 << 20);
      if (version != op->since)
        fail(Code::Unimplemented, {"saved graph: it has version ", version, " of operation \"",
                                   name, "\", expected ", op->since});
      known_[name] = op;
    }
  }

  void constants(const json& j, int64_t& total) {
    int64_t end =
        0;  // of the one before: none may overlap, so their sum is below the size of the file
    for (auto& c : list(j, "constants")) {
      Constant r{sig(member(c, "sig")), nullptr};
      const int64_t bytes = integer(member(c, "bytes"), "bytes", 0, kMost),
                    offset = integer(member(c, "offset"), "offset", end, kMost);
      if (bytes != r.sig.bytes())
        damaged({"a weight ", str(r.sig), " has ", bytes, " bytes, expected ", r.sig.bytes()});
      if (offset > int64_t(data_.size()) || bytes > int64_t(data_.size()) - offset)
        damaged({"a weight ", str(r.sig), " lies at ", offset, ", behind the end of the file"});
      end = offset + bytes;
      const char* at = data_.data() + offset;
      const uint32_t sum = uint32_t(integer(member(c, "crc32c"), "crc32c", 0, 0xffffffff));
      if (crc32c(at, size_t(bytes)) != sum)
        damaged({"the checksum of weight ", constants_.size(), " ", str(r.sig), " is wrong"});
      r.buffer = make_buffer(bytes);
      std::memcpy(r.buffer->data(), at, size_t(bytes));
      if (r.sig.dtype == DType::boolean)
        for (int64_t i = 0; i < bytes; ++i)
          if (uint8_t(at[i]) > 1) damaged({"weight ", constants_.size(), " holds what is no bool"});
      total += bytes;
      constants_.push_back(std::move(r));
    }
  }

  AttrValue attribute(const json& j, const AttrInfo& info, int depth) {
    const char* what = info.name.c_str();
    return std::visit(
        [&](const auto& x) -> AttrValue {
          using T = std::decay_t<decltype(x)>;
          if constexpr (std::is_same_v<T, bool>) {
            if (!j.is_boolean()) damaged({"\"", what, "\" is no bool"});
            return j.get<bool>();
          } else if constexpr (std::is_same_v<T, int64_t>)
            return integer(j, what, kLeast, kMost);
          else if constexpr (std::is_same_v<T, double>)
            return real(j, what);
          else if constexpr (std::is_same_v<T, std::string>)
            return text(j, what);
          else if constexpr (std::is_same_v<T, std::vector<int64_t>>)
            return integers(j, what);
          else if constexpr (std::is_same_v<T, std::vector<double>>) {
            std::vector<double> r;
            for (auto& y : list(j, what)) r.push_back(real(y, what));
            return r;
          } else if constexpr (std::is_same_v<T, DType>)
            return type(j);
          else if constexpr (std::is_same_v<T, Shape>)
            return Shape(integers(j, what));
          else {
            if (j.is_null()) return SubGraphPtr();
            if (depth >= limits_.depth)
              damaged({"its sub-graphs are nested more than ", limits_.depth, " deep"});
            auto sub = std::make_shared<SubGraph>();
            sub->graph = graph(j, depth + 1);
            return SubGraphPtr(sub);
          }
        },
        info.default_value);
  }

  AttrPtr attributes(const OpDef& op, const json& call, int depth) {
    auto it = call.find("attrs");
    if (it == call.end()) return op.defaults;
    if (!it->is_object()) damaged({"\"attrs\" is no object"});
    std::vector<AttrValue> values;
    size_t used = 0;
    for (auto& info : op.attrs) {
      auto v = it->find(info.name);
      used += v != it->end();
      values.push_back(v == it->end() ? info.default_value : attribute(*v, info, depth));
    }
    if (used != it->size())
      for (auto& [name, v] : it->items())
        if (std::none_of(op.attrs.begin(), op.attrs.end(),
                         [n = name](auto& a) { return a.name == n; }))
          fail(Code::Unimplemented, {"saved graph: ", op.name, " has no attribute \"", name, "\""});
    return op.make_attrs(values);
  }

  Graph graph(const json& j, int depth) {
    Graph g;
    for (auto& v : list(member(j, "values"), "values")) g.values.push_back(sig(v));
    const int64_t n = int64_t(g.values.size());
    std::vector<char> defined(g.values.size());
    auto id = [&](const json& x) { return int(integer(x, "value", 0, n - 1)); };
    auto define = [&](int v) {
      if (defined[size_t(v)]) damaged({"value ", v, " is defined twice"});
      defined[size_t(v)] = 1;
    };
    auto use = [&](int v) {
      if (!defined[size_t(v)]) damaged({"value ", v, " is used before it is defined"});
    };
    for (auto& x : list(member(j, "leaves"), "leaves"))
      g.leaves.push_back(id(x)), define(g.leaves.back());
    for (auto& x : list(member(j, "constants"), "constants")) {
      if (list(x, "constants").size() != 2)
        damaged({"an entry of \"constants\" has ", x.size(), " numbers, expected 2"});
      const int v = id(x[0]);
      const auto& c =
          constants_.empty()
              ? damaged_constant()
              : constants_[size_t(integer(x[1], "constant", 0, int64_t(constants_.size()) - 1))];
      if (c.sig != g.values[size_t(v)])
        damaged({"value ", v, " is ", str(g.values[size_t(v)]), ", its weight ", str(c.sig)});
      define(v);
      g.constants.push_back({v, c.buffer});
    }
    for (auto& x : list(member(j, "calls"), "calls")) {
      const std::string name = text(member(x, "op"), "op");
      auto op = known_.find(name);
      if (op == known_.end()) damaged({"operation \"", name, "\" is not among its \"operations\""});
      if (!op->second->shape) damaged({"operation \"", name, "\" cannot be called"});
      Graph::Call c{op->second, attributes(*op->second, x, depth), {}, {}, Where(), nullptr};
      if (auto it = x.find("name"); it != x.end())
        c.name = std::make_shared<const std::string>(text(*it, "name"));
      for (auto& v : list(member(x, "in"), "in")) c.in.push_back(id(v)), use(c.in.back());
      for (auto& v : list(member(x, "out"), "out")) c.out.push_back(id(v)), define(c.out.back());
      const Sigs in = g.sigs(c.in);
      Sigs out;
      try {
        check_inputs(*c.op, in);
        out = c.op->shape(in, c.attrs.get());
      } catch (const Error& e) {
        damaged({name, c.name ? " \"" + *c.name + "\"" : "", ": ", e.what()});
      }
      if (out != g.sigs(c.out))
        damaged({name, ": the shapes of its outputs are not those that its shape rule gives"});
      g.calls.push_back(std::move(c));
    }
    for (auto& x : list(member(j, "results"), "results"))
      g.results.push_back(id(x)), use(g.results.back());
    for (int64_t v = 0; v < n; ++v)
      if (!defined[size_t(v)]) damaged({"value ", v, " is never defined"});
    return g;
  }
  [[noreturn]] static const Constant& damaged_constant() {
    damaged({"a weight is used, and there is none"});
  }

  std::string_view bytes_, data_;
  LoadLimits limits_;
  std::map<std::string, const OpDef*> known_;
  std::vector<Constant> constants_;
};

}  // namespace

SavedGraph load_graph(std::string_view bytes, LoadLimits limits) {
  try {
    return SavedGraph(Reader(bytes, limits).read());
  } catch (const json::exception& e) {
    damaged({"its header is no JSON: ", e.what()});
  } catch (const std::bad_alloc&) {
    fail(Code::ResourceExhausted, {"saved graph: there is not enough memory for it"});
  } catch (const Error& e) {
    if (e.code() == Code::InvalidArgument || e.code() == Code::OutOfRange) damaged({e.what()});
    throw;
  }
}

}  // namespace evenflow
