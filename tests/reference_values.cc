// SPDX-License-Identifier: Apache-2.0
#include "tests/reference_values.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>

#include "evenflow/graph/gradient.h"

namespace evenflow::reference {
using nlohmann::json;

const json& document(const std::string& name) {
  static std::map<std::string, json> read;
  auto it = read.find(name);
  if (it == read.end()) {
    std::ifstream file(EVENFLOW_SOURCE_DIR "/tests/reference/" + name);
    it = read.emplace(name, json::parse(file)).first;
  }
  return it->second;
}

namespace {
double number(const json& v) {
  if (v.is_boolean()) return v.get<bool>();
  if (v.is_number()) return v.get<double>();
  const std::string& text = v.get_ref<const std::string&>();
  if (text == "nan") return std::nan("");
  return text == "inf" ? INFINITY : -INFINITY;
}
}  // namespace
Tensor to_tensor(const json& v) {
  if (v.is_null()) return {};
  std::vector<double> values;
  for (const json& x : v["data"]) values.push_back(number(x));
  return constant(values, Shape(v["shape"].get<std::vector<int64_t>>()),
                  parse_dtype(v["dtype"].get<std::string>()));
}
namespace {
Tensors read_all(const json& c, const char* key) {
  Tensors r;
  if (c.contains(key))
    for (const json& v : c[key]) r.push_back(to_tensor(v));
  return r;
}
}  // namespace

std::vector<Case> cases(std::string_view op, std::string_view from, const std::string& file) {
  std::vector<Case> r;
  for (const json& c : document(file)["cases"]) {
    if (c["op"] != op || (!from.empty() && c["from"] != from)) continue;
    r.push_back({c["op"], c["from"], c.value("note", ""), c["computed"] == "f64", c["attrs"],
                 read_all(c, "inputs"), read_all(c, "outputs"), read_all(c, "grad_outputs"),
                 read_all(c, "grad_inputs")});
  }
  return r;
}

std::string difference(const Tensor& got, const Tensor& want, Tolerance tolerance) {
  if (got.sig() != want.sig())
    return concat({"signature is ", str(got.sig()), ", expected ", str(want.sig())});
  const std::vector<double> a = got.to_vector<double>(), b = want.to_vector<double>();
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) continue;
    if (std::abs(a[i] - b[i]) <= tolerance.absolute + tolerance.relative * std::abs(b[i])) continue;
    return concat({"element ", i, " is ", a[i], ", expected ", b[i]});
  }
  return {};
}

int check(std::string_view op, const Function& f, Tolerance tolerance, std::string_view from,
          const std::string& file) {
  int n = 0;
  for (const Case& c : cases(op, from, file)) {
    SCOPED_TRACE(
        concat({"case ", n, " of ", op, " from ", c.from, " ", c.attrs.dump(), " ", c.note}));
    Tensors in;
    for (const Tensor& x : c.inputs) in.push_back(is_floating(x.dtype()) ? watch(x) : x);
    const Tensors out = f(in, c.attrs);
    if (out.empty()) continue;
    ++n;
    EXPECT_EQ(out.size(), c.outputs.size());
    for (size_t i = 0; i < std::min(out.size(), c.outputs.size()); ++i)
      EXPECT_EQ(difference(out[i], c.outputs[i], tolerance), "") << "output " << i;
    std::vector<Wrt> by;
    Tensors want;
    for (size_t i = 0; i < c.grad_inputs.size(); ++i)
      if (c.grad_inputs[i]) by.emplace_back(in[i]), want.push_back(c.grad_inputs[i]);
    if (by.empty()) continue;
    const Tensors got = gradient(out, c.grad_outputs, by);
    for (size_t i = 0; i < got.size(); ++i)
      EXPECT_EQ(difference(got[i], want[i], tolerance), "") << "gradient " << i;
  }
  return n;
}

}  // namespace evenflow::reference
