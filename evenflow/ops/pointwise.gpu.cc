// SPDX-License-Identifier: Apache-2.0
// Element-wise calls on GPUs, each by a kernel made for it from the scalar bodies of scalar.h; and
// regions of them by one kernel, whose values between calls are rounded as if they were stored.
#include <cmath>
#include <map>

#include "evenflow/ops/elementwise_tiles.h"
#include "evenflow/ops/gpu_call.h"

namespace evenflow {

std::string gpu_type(DType d) {
  constexpr const char* names[] = {"float",   "double",  "bf16",    "f16",
                                   "int32_t", "int64_t", "uint8_t", "bool"};
  return names[int(d)];
}

namespace {
using gpu::Arg;
using gpu::Grid;

std::string number(double v) {
  if (std::isinf(v)) return v < 0 ? "-infinity()" : "infinity()";
  if (std::isnan(v)) return "not_a_number()";
  char text[40];
  std::snprintf(text, sizeof text, "%.17g", v);
  return std::string(text).find_first_of(".e") == std::string::npos ? text + std::string(".0")
                                                                    : text;
}
// The type in which a call on these inputs computes.
std::string compute_type(const OpDef& op, std::span<const Sig> in) {
  const DType d = in.back().dtype;
  if (op.name.starts_with("divide") && !is_floating(d)) return "float";
  return d == DType::f64 ? "double" : is_floating(d) ? "float" : "int64_t";
}

// What is no function of scalar.h: $0, $1, $2 are the inputs, wide but for booleans of select.
const std::map<std::string_view, std::string_view>& expressions() {
  static const std::map<std::string_view, std::string_view> e{
      {"equal", "$0 == $1"},
      {"not_equal", "$0 != $1"},
      {"less", "$0 < $1"},
      {"less_equal", "$0 <= $1"},
      {"greater", "$0 > $1"},
      {"greater_equal", "$0 >= $1"},
      {"logical_and", "$0 && $1"},
      {"logical_or", "$0 || $1"},
      {"logical_xor", "$0 != $1"},
      {"logical_not", "!$0"},
      {"is_finite", "std::isfinite($0)"},
      {"is_nan", "std::isnan($0)"},
      {"select", "$0 ? $1 : $2"},
      {"cast", "$0"},
      {"tanh_grad", "$1 * (1 - $0 * $0)"},
      {"sigmoid_grad", "$1 * ($0 * (1 - $0))"},
      {"expand_like", "$0"},
      {"broadcast_to", "$0"},
      {"moving_average", ""},
  };
  return e;
}
bool is_scalar_function(const std::string& name) {
  static const std::string text = gpu::source_of("ops/scalar.h", {});
  return text.find(" T " + name + "(T") != std::string::npos;
}
bool has_expression(const OpDef& op) {
  return expressions().contains(op.name) || (op.traits.pointwise && is_scalar_function(op.name));
}

// The value of a call as an expression of its inputs, in the type of its output.
std::string expression(const OpDef& op, const void* attrs, std::span<const Sig> in, const Sig& out,
                       std::vector<std::string> args) {
  const std::string c = compute_type(op, in), to = gpu_type(out.dtype);
  if (op.name == "moving_average") {
    const auto a = op.get_attrs(attrs);
    const double momentum = std::get<double>(a[0]);
    const std::string m = number(momentum), count = "double(wide(" + args[3] + "))";
    const std::string rate =
        !std::get<bool>(a[1]) ? number(1 - momentum)
        : momentum == 1       ? "1.0 / " + count
                        : number(1 - momentum) + " / (1.0 - std::pow(" + m + ", " + count + "))";
    return "narrow<" + to + ">(wide(" + args[2] + ") > 0 ? wide(" + args[0] + ") + (wide(" +
           args[1] + ") - wide(" + args[0] + ")) * wide_t<" + to + ">(" + rate + ") : wide(" +
           args[0] + "))";
  }
  for (size_t i = 0; i < args.size(); ++i) args[i] = c + "(wide(" + args[i] + "))";
  auto placed = [&](std::string_view text) {
    std::string s;
    for (size_t i = 0; i < text.size(); ++i)
      if (text[i] == '$')
        s += args[size_t(text[++i] - '0')];
      else
        s += text[i];
    return s;
  };
  if (op.name == "cast") return "converted<" + to + ">(wide(" + args[0] + "))";
  if (op.name == "expand_like") {
    const AttrValue mean = op.get_attrs(attrs)[0];
    if (!std::get<bool>(mean)) return "narrow<" + to + ">(" + args[0] + ")";
    return "narrow<" + to + ">(" + args[0] + " / " + c + "(REPEATED))";
  }
  if (auto it = expressions().find(op.name); it != expressions().end())
    return "converted<" + to + ">(" + placed(it->second) + ")";
  std::string list;
  for (auto& a : args) list += (list.empty() ? "" : ", ") + a;
  if (op.name == "relu_grad") list = args[1] + ", " + args[0];  // scalar.h takes the gradient first
  for (const AttrValue& v : op.get_attrs(attrs)) {
    if (auto* d = std::get_if<double>(&v))
      list += ", " + c + "(" + number(*d) + ")";
    else if (auto* b = std::get_if<bool>(&v))
      list += *b ? ", true" : ", false";
  }
  return "converted<" + to + ">(evenflow::scalar::" + op.name + "<" + c + ">(" + list + "))";
}

// A kernel over the elements of one shape. An input has the element (`each`), one element for all
// (`one`), or is found by its strides.
struct Map {
  enum Access : char { each, one, strided };
  Sigs in, out;
  std::vector<Access> access;
  std::vector<std::pair<std::string, std::string>> lines;  // type and name, expression
  std::vector<std::string> results;
  int rank = 0;  // of the strides
  bool wide_index = false;

  std::string source() const {
    int64_t widest = 1;
    for (auto& s : in) widest = std::max(widest, size_of(s.dtype));
    for (auto& s : out) widest = std::max(widest, size_of(s.dtype));
    const bool packs = std::count(access.begin(), access.end(), strided) == 0;
    const int n = packs ? int(std::max<int64_t>(1, 16 / widest)) : 1;
    std::string s, parameters;
    if (rank)
      s += concat({"struct Strides { int64_t extent[", rank, "], stride[", in.size(), "][", rank,
                   "]; };\n"});
    s += concat({"using Index = ", wide_index ? "int64_t" : "uint32_t", ";\n"});
    for (size_t i = 0; i < in.size(); ++i)
      parameters += concat({"const ", gpu_type(in[i].dtype), "* a", i, ", "});
    for (size_t i = 0; i < out.size(); ++i)
      parameters += concat({gpu_type(out[i].dtype), "* y", i, ", "});
    s += "KERNEL(map, " + parameters + "int64_t count" + (rank ? ", Strides at" : "") + ") {\n";
    for (size_t i = 0; i < in.size(); ++i)
      if (access[i] == one)
        s += concat({"const ", gpu_type(in[i].dtype), " x", i, " = *a", i, ";\n"});
    std::string body;
    for (auto& [name, text] : lines) body += name + " = " + text + ";\n";
    if (packs && n > 1) {
      s += concat({"for (Index p = first_item(); p < Index(count / ", n, "); p += items()) {\n"});
      for (size_t i = 0; i < in.size(); ++i)
        if (access[i] == each)
          s += concat(
              {"const auto p", i, " = load_pack<", n, ">(a", i, " + int64_t(p) * ", n, ");\n"});
      for (size_t i = 0; i < out.size(); ++i)
        s += concat({"Pack<", gpu_type(out[i].dtype), ", ", n, "> q", i, ";\n"});
      s += concat({"for (int k = 0; k < ", n, "; ++k) {\n"});
      for (size_t i = 0; i < in.size(); ++i)
        if (access[i] == each)
          s += concat({"const ", gpu_type(in[i].dtype), " x", i, " = p", i, ".v[k];\n"});
      s += body;
      for (size_t i = 0; i < out.size(); ++i) s += concat({"q", i, ".v[k] = ", results[i], ";\n"});
      s += "}\n";
      for (size_t i = 0; i < out.size(); ++i)
        s += concat({"store_pack(y", i, " + int64_t(p) * ", n, ", q", i, ");\n"});
      s += concat({"}\nfor (int64_t i = count / ", n, " * ", n,
                   " + first_item(); i < count; i += items()) {\n"});
    } else {
      s += "for (Index i = first_item(); i < Index(count); i += items()) {\n";
    }
    if (rank) {
      for (size_t i = 0; i < in.size(); ++i)
        if (access[i] == strided) s += concat({"int64_t o", i, " = 0;\n"});
      s += concat({"Index rest = i;\n#pragma unroll\nfor (int d = ", rank - 1,
                   "; d >= 0; --d) {\nconst Index e = Index(at.extent[d]), q = rest / e, c = rest "
                   "- q * e;\nrest = q;\n"});
      for (size_t i = 0; i < in.size(); ++i)
        if (access[i] == strided)
          s += concat({"o", i, " += int64_t(c) * at.stride[", i, "][d];\n"});
      s += "}\n";
    }
    for (size_t i = 0; i < in.size(); ++i)
      if (access[i] != one)
        s += concat({"const ", gpu_type(in[i].dtype), " x", i, " = a", i, "[",
                     access[i] == each ? "i" : concat({"o", i}), "];\n"});
    s += body;
    for (size_t i = 0; i < out.size(); ++i) s += concat({"y", i, "[i] = ", results[i], ";\n"});
    return s + "}\n}\n";
  }
};

// Extents and strides of inputs that broadcast to `out`, neighbouring axes joined where all inputs
// allow it. The result holds the extents, then a row of strides an input.
std::vector<int64_t> strides_of(const Shape& out, std::span<const Sig> in, int& rank) {
  struct Axis {
    int64_t extent;
    std::vector<int64_t> stride;
  };
  std::vector<Axis> axes;
  std::vector<int64_t> next(in.size(), 1);
  for (int d = out.rank(); d--;) {
    Axis a{out[d], {}};
    for (size_t i = 0; i < in.size(); ++i) {
      const int at = d - (out.rank() - in[i].shape.rank());
      const int64_t e = at < 0 ? 1 : in[i].shape[at];
      a.stride.push_back(e == 1 ? 0 : next[i]);
      next[i] *= e;
    }
    if (a.extent == 1) continue;
    bool joins = !axes.empty();
    for (size_t i = 0; joins && i < in.size(); ++i)
      joins = a.stride[i] == axes.back().stride[i] * axes.back().extent;
    if (joins)
      axes.back().extent *= a.extent;
    else
      axes.push_back(std::move(a));
  }
  rank = int(axes.size());
  std::vector<int64_t> r;
  for (int d = rank; d--;) r.push_back(axes[size_t(d)].extent);
  for (size_t i = 0; i < in.size(); ++i)
    for (int d = rank; d--;) r.push_back(axes[size_t(d)].stride[i]);
  return r;
}

Prepared prepared(const Map& m, Accelerator* on, std::vector<int64_t> strides, int64_t count) {
  const std::string source = gpu::source_of("ops/scalar.h", {}) + m.source();
  gpu::KernelPtr kernel = count ? gpu::gpu_of(on).compile(source, "map") : nullptr;
  const size_t inputs = m.in.size();
  const int64_t per_thread = strides.empty() ? 4 : 1;
  return {[kernel, strides = std::move(strides), count, inputs, per_thread](const Call& c) {
    if (!count) return;
    std::vector<Arg> args;
    for (size_t i = 0; i < inputs; ++i) args.push_back({&c.in[i].data, sizeof(void*)});
    for (auto& v : c.out) args.push_back({&v.data, sizeof(void*)});
    args.push_back({&count, sizeof count});
    if (!strides.empty()) args.push_back({strides.data(), strides.size() * sizeof(int64_t)});
    gpu::gpu_of(c.on).launch(*kernel, grid_for(c.on, (count + per_thread - 1) / per_thread), args);
  }};
}

constexpr int64_t kLargeIndex = int64_t(1) << 31;

// Inputs whose values are read.
size_t value_inputs(const OpDef& op, std::span<const Sig> in) {
  size_t n = in.size();
  while (n && n <= 32 && (op.traits.shape_only >> (n - 1) & 1)) --n;
  return n;
}

std::optional<KernelDef> pointwise(const OpDef& op) {
  if (!has_expression(op)) return {};
  KernelDef k;
  k.name = "gpu_map";
  k.prepare = [&op](const CallSig& sig, const void* attrs) {
    Map m;
    const size_t n = value_inputs(op, sig.in);
    m.in.assign(sig.in.begin(), sig.in.begin() + long(n));
    m.out.assign(sig.out.begin(), sig.out.end());
    const Shape& shape = sig.out[0].shape;
    const int64_t count = shape.count();
    std::vector<std::string> args;
    for (size_t i = 0; i < n; ++i) {
      const Shape& s = m.in[i].shape;
      m.access.push_back(s.count() == count ? Map::each : s.count() == 1 ? Map::one : Map::strided);
      args.push_back(concat({"x", i}));
    }
    std::vector<int64_t> strides;
    if (count && std::count(m.access.begin(), m.access.end(), Map::strided))
      strides = strides_of(shape, m.in, m.rank);
    m.wide_index = count >= kLargeIndex;
    std::string e = expression(op, attrs, m.in, m.out[0], args);
    if (const size_t at = e.find("REPEATED"); at != e.npos) {
      const int64_t each = m.in[0].shape.count();
      e.replace(at, 8, number(each ? double(count) / double(each) : 1));
    }
    m.lines = {{"const " + gpu_type(m.out[0].dtype) + " v", e}};
    m.results = {"v"};
    return prepared(m, sig.on, std::move(strides), count);
  };
  return k;
}
const GenericKernelEntry pointwise_entry{pointwise, true};

}  // namespace

GPU_KERNEL(elementwise_tiles, ElementwiseTilesAttrs, map) {
  return {.declines = [](const CallSig& sig, const ElementwiseTilesAttrs& a) -> std::string {
            for (auto& c : a.body->graph.calls)
              if (!has_expression(*c.op)) return c.op->name + " has no scalar body";
            if (sig.in.size() + sig.out.size() > 28) return "too many inputs and outputs";
            return {};
          },
          .prepare = [](const CallSig& sig, const ElementwiseTilesAttrs& a) -> Prepared {
            Map m;
            m.in.assign(sig.in.begin(), sig.in.end());
            m.out.assign(sig.out.begin(), sig.out.end());
            const Graph& g = a.body->graph;
            std::map<int, std::string> at;
            for (size_t i = 0; i < sig.in.size(); ++i) {
              m.access.push_back(a.whole[i] ? Map::one : Map::each);
              at[g.leaves[i]] = concat({"x", i});
            }
            for (auto& [v, b] : g.constants) {
              const double x = tensor(g.values[size_t(v)], placed(b, nullptr)).item();
              at[v] = "converted<" + gpu_type(g.values[size_t(v)].dtype) + ">(" + number(x) + ")";
            }
            for (auto& c : g.calls) {
              std::vector<std::string> args;
              Sigs in = g.sigs(c.in);
              const size_t n = value_inputs(*c.op, in);
              in.resize(n);
              for (size_t i = 0; i < n; ++i) args.push_back(at.at(c.in[i]));
              const Sig& out = g.values[size_t(c.out[0])];
              const std::string name = concat({"v", c.out[0]});
              m.lines.emplace_back("const " + gpu_type(out.dtype) + " " + name,
                                   expression(*c.op, c.attrs.get(), in, out, args));
              at[c.out[0]] = name;
            }
            for (int r : g.results) m.results.push_back(at.at(r));
            const int64_t count = sig.out[0].shape.count();
            m.wide_index = count >= kLargeIndex;
            return prepared(m, sig.on, {}, count);
          }};
}

}  // namespace evenflow
