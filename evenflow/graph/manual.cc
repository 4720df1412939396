// SPDX-License-Identifier: Apache-2.0
#include "evenflow/graph/manual.h"

namespace evenflow {
namespace {

std::string types_of(Types t) {
  if (t.mask == any_type.mask) return "any";
  if (t.mask == numeric.mask) return "any but bool";
  if (t.mask == floating.mask) return "any float";
  if (t.mask == integer.mask) return "any integer";
  std::string s;
  for (int d = 0; d < kDTypes; ++d)
    if (t.has(DType(d))) s += (s.empty() ? "" : ", ") + std::string(str(DType(d)));
  return s;
}
// In a cell of a table.
std::string cell(std::string_view text) {
  std::string s;
  for (char c : text) {
    if (c == '|') s += '\\';
    s += c == '\n' ? ' ' : c;
  }
  return s;
}
std::string python(const AttrValue& v) {
  if (auto* b = std::get_if<bool>(&v)) return *b ? "True" : "False";
  return str(v);
}
bool optional(const OpDef& op, size_t i) { return i < 32 && (op.traits.optional >> i & 1); }
bool shape_only(const OpDef& op, size_t i) { return i < 32 && (op.traits.shape_only >> i & 1); }

std::string facts(const OpDef& op) {
  const Traits& t = op.traits;
  std::string s;
  auto fact = [&](bool holds, const char* text) {
    if (holds) s += concat({"- ", text, "\n"});
  };
  fact(t.pointwise, "pointwise: may run in place, and after the predicate of a step");
  fact(t.alias, "no work when the output has the element type and shape of the input");
  fact(t.reshape, "never any work: the same bytes in another shape");
  fact(t.promotes, "inputs are cast to one element type first");
  fact(t.variadic, "the last input may repeat");
  fact(t.keeps_float32, "mixed precision leaves it in f32");
  fact(t.random, "random: never merged with a twin, never folded");
  fact(t.cut, "differentiation stops here");
  if (!op.no_gradient.empty())
    s += concat({"- no gradient: ", op.no_gradient, "\n"});
  else if (op.gradient)
    s += "- gradient: its own rule\n";
  else if (op.reference)
    s += "- gradient: that of its reference\n";
  if (op.reference)
    s += "- reference: a composition of other operations\n";
  else if (op.loop)
    s += "- a primitive: its reference is a plain loop\n";
  return s;
}

std::string example(const OpDef& op, const OpDef::Case& c) {
  std::string s = op.name + "(";
  for (size_t i = 0; i < c.in.size(); ++i) {
    const Types t = op.inputs[std::min(i, op.inputs.size() - 1)].types;
    DType d = DType::f32;
    for (int k = kDTypes; k--;)
      if (t.has(DType(k))) d = DType(k);
    s += (i ? ", " : "") + str(Sig{c.in[i].dtype.value_or(d), c.in[i].shape});
  }
  const auto values = op.get_attrs(c.attrs.get());
  for (size_t i = 0; i < values.size(); ++i)
    if (str(values[i]) != str(op.attrs[i].default_value))
      s += ", " + op.attrs[i].name + "=" + str(values[i]);
  return s + ")";
}
// What the shape rule answers to a case.
std::string answer(const OpDef& op, const OpDef::Case& c) {
  if (!c.flags.fails.empty()) return concat({"refused: ", c.flags.fails});
  Sigs in;
  for (size_t i = 0; i < c.in.size(); ++i) {
    const Types t = op.inputs[std::min(i, op.inputs.size() - 1)].types;
    DType d = DType::f32;
    for (int k = kDTypes; k--;)
      if (t.has(DType(k))) d = DType(k);
    in.push_back({c.in[i].dtype.value_or(d), c.in[i].shape});
  }
  std::string s;
  try {
    for (auto& sig : op.shape(in, c.attrs.get())) s += (s.empty() ? "" : ", ") + str(sig);
  } catch (const Error& e) {
    return concat({"refused: ", e.what()});
  }
  return s;
}

}  // namespace

std::string python_signature(const OpDef& op) {
  std::string s = op.name + "(";
  for (size_t i = 0; i < op.inputs.size(); ++i) {
    const bool repeats = op.traits.variadic && i + 1 == op.inputs.size();
    // "gamma, beta" are two inputs that the attributes name: in Python one sequence
    std::string name(op.inputs[i].name.substr(0, op.inputs[i].name.find(',')));
    if (repeats && name.size() < op.inputs[i].name.size()) name = "more";
    s += concat(
        {i ? ", " : "", repeats ? "*" : "", name, optional(op, i) && !repeats ? "=None" : ""});
  }
  if (!op.attrs.empty() && !op.traits.variadic) s += op.inputs.empty() ? "*" : ", *";
  for (size_t i = 0; i < op.attrs.size(); ++i)
    s += concat({i || !op.inputs.empty() || !op.traits.variadic ? ", " : "", op.attrs[i].name, ": ",
                 type_name(op.attrs[i].default_value), " = ", python(op.attrs[i].default_value)});
  return s + ")";
}

std::string manual_page(const OpDef& op, bool with_kernels) {
  std::string s = concat(
      {"# ", op.name, "\n\n```python\n", python_signature(op), "\n```\n\n", op.summary, ".\n"});
  if (!op.doc.empty()) s += concat({"\n", op.doc, op.doc.back() == '.' ? "" : ".", "\n"});
  if (!op.inputs.empty()) {
    s += "\n## Inputs\n\n| name | element types | what |\n|---|---|---|\n";
    for (size_t i = 0; i < op.inputs.size(); ++i) {
      const Arg& a = op.inputs[i];
      s += concat({"| ", cell(a.name), " | ", types_of(a.types),
                   a.types.letter ? concat({" (", std::string(1, a.types.letter), ")"}) : "", " | ",
                   cell(a.doc),
                   op.traits.variadic && i + 1 == op.inputs.size() ? "; may repeat" : "",
                   optional(op, i) ? "; may be absent" : "",
                   shape_only(op, i) ? "; only its shape is read" : "", " |\n"});
    }
    s += "\nInputs with the same letter have one element type.\n";
  }
  s += "\n## Outputs\n\n| name | what |\n|---|---|\n";
  for (auto& o : op.outputs) s += concat({"| ", cell(o.name), " | ", cell(o.doc), " |\n"});
  if (!op.attrs.empty()) {
    s += "\n## Attributes\n\n| name | type | default | what |\n|---|---|---|---|\n";
    for (auto& a : op.attrs)
      s += concat({"| ", a.name, " | ", type_name(a.default_value), " | ",
                   cell(str(a.default_value)), " | ", cell(a.doc), " |\n"});
  }
  s += "\n## Facts\n\n" + facts(op);
  std::string kernels;
  for (auto& k : op.kernels()) kernels += (kernels.empty() ? "" : ", ") + k.name;
  if (with_kernels && !kernels.empty())
    s += "- kernels on the CPU, in the order in which they are tried: " + kernels + "\n";
  s += concat({"- since version ", op.since, "\n"});
  std::string cases;
  for (auto& c : op.cases)
    if (!c.flags.bench)
      cases +=
          concat({"| ", c.name, " | `", cell(example(op, c)), "` | ", cell(answer(op, c)), " |\n"});
  if (!cases.empty())
    s += "\n## Cases\n\nEach of them is a test.\n\n| case | call | result |\n|---|---|---|\n" +
         cases;
  return s;
}

std::map<std::string, std::string> manual_pages() {
  std::map<std::string, std::string> r;
  std::string& index = r["index.md"];
  index =
      "# Operations\n\nWritten from the declarations by `make docs`.\n\n| operation | what "
      "|\n|---|---|\n";
  for (const OpDef* op : all_ops()) {
    r[op->name + ".md"] = manual_page(*op, false);
    index += concat({"| [", op->name, "](", op->name, ".md) | ", cell(op->summary), " |\n"});
  }
  return r;
}

}  // namespace evenflow
