// SPDX-License-Identifier: Apache-2.0
// Batch norm takes in what stands behind it: a residual, a ReLU, and the ReLU's gradient.
#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "evenflow/graph/pass.h"
#include "evenflow/ops/batch_norm.h"
#include "evenflow/ops/elementwise_attrs.h"

namespace evenflow {
namespace {

template <class A>
const A& attrs_of(const Graph::Call& c) {
  return *static_cast<const A*>(c.attrs.get());
}
// max(x, 0): then the gradient can be told from y as well as from x.
bool is_plain_relu(const Graph::Call& c) {
  const auto& a = attrs_of<ReluAttrs>(c);
  return a.negative_slope == 0 && a.threshold == 0 && std::isinf(a.max_value);
}
// The calls that read a value, if each is named so; the only `one` among them and the others.
struct Readers {
  int one = -1;
  std::vector<int> others;
  bool fit = true;
  Readers(const Rewriter& r, int value, std::string_view name, std::string_view other_name) {
    fit = !r.is_result(value);
    for (int i : r.readers(value)) {
      const Graph::Call& c = r.call(i);
      if (c.op->name == name && one < 0)
        one = i;
      else if (!other_name.empty() && c.op->name == other_name && c.in[0] == value)
        others.push_back(i);
      else
        fit = false;
    }
    fit &= one >= 0;
  }
};
AttrPtr with(const BatchNormAttrs& a, bool residual, bool relu) {
  BatchNormAttrs r = a;
  r.residual = residual;
  if (relu) r.activation = "relu";
  return std::make_shared<const BatchNormAttrs>(r);
}

bool depends(const Rewriter& r, int value, int call) {
  std::vector<int> stack{value};
  std::unordered_set<int> seen;
  while (!stack.empty()) {
    const int made = r.producer(stack.back());
    stack.pop_back();
    if (made == call) return true;
    if (made < 0 || !seen.insert(made).second) continue;
    for (int v : r.call(made).in) stack.push_back(v);
  }
  return false;
}

void fuse(Rewriter& r, int i) {
  const Graph::Call bn = r.call(i);  // a copy: the list grows
  const auto& a = attrs_of<BatchNormAttrs>(bn);
  if (a.residual || a.activation != "linear") return;
  int y = bn.out[0], residual = -1, at = i;
  auto is_plain = [&](const Readers& u) {
    return u.fit && is_plain_relu(r.call(u.one)) &&
           std::all_of(u.others.begin(), u.others.end(),
                       [&](int g) { return is_plain_relu(r.call(g)); });
  };
  Readers relu(r, y, "relu", "relu_grad");
  if (!is_plain(relu)) {
    const Readers add(r, y, "add", "");
    if (!add.fit || r.readers(y).size() != 1) return;
    const Graph::Call& sum = r.call(add.one);
    residual = sum.in[0] == y ? sum.in[1] : sum.in[0];
    // It may be made of the statistics, which come from the same call.
    if (r.sig(residual) != r.sig(y) || depends(r, residual, i)) return;
    at = add.one, y = sum.out[0];
    relu = Readers(r, y, "relu", "relu_grad");
  }
  const bool has_relu = is_plain(relu);
  // In training without a residual the gradient of the ReLU goes into that of batch norm, which
  // makes the mask anew from x; else it is told from the output, which is there.
  int grad = -1, passed = -1;
  if (has_relu && residual < 0 && !relu.others.empty() && bn.op->name == "batch_norm") {
    if (relu.others.size() != 1) return;
    passed = r.call(relu.others[0]).out[0];
    if (r.is_result(passed) || r.readers(passed).size() != 1) return;
    grad = r.readers(passed)[0];
    const Graph::Call& g = r.call(grad);
    if (g.op->name != "batch_norm_grad" || g.in[0] != bn.in[0] || g.in[1] != passed ||
        attrs_of<BatchNormAttrs>(g).residual || attrs_of<BatchNormAttrs>(g).activation != "linear")
      return;
  }
  std::vector<int> in = bn.in;
  if (residual >= 0) in.push_back(residual);
  const std::vector<int> out =
      r.emit(*bn.op, with(a, residual >= 0, has_relu), in, has_relu ? relu.one : at);
  for (size_t k = 1; k < out.size(); ++k) r.replace(bn.out[k], out[k]);
  if (!has_relu)
    r.replace(y, out[0]);
  else {
    r.replace(r.call(relu.one).out[0], out[0]);
    r.erase(relu.one);
  }
  if (grad >= 0) {
    const Graph::Call g = r.call(grad);
    std::vector<int> gin = g.in;
    gin[1] = r.call(relu.others[0]).in[1];
    const std::vector<int> gout =
        r.emit(*g.op, with(attrs_of<BatchNormAttrs>(g), false, true), gin, grad);
    for (size_t k = 0; k < gout.size(); ++k) r.replace(g.out[k], gout[k]);
    r.erase(grad), r.erase(relu.others[0]);
  } else
    r.replace(y, out[0]);
  if (at != i) r.erase(at);
  r.erase(i);
}
}  // namespace

PASS(fuse_batch_norm) {
  return {.summary = "batch norm with a residual and a ReLU in one pass, forward and backward",
          .order = 30,
          // In 16 bits what lies between them is no longer rounded.
          .keeps_bits = false,
          .run = [](Graph& g, const PassOptions&) {
            Rewriter r(g);
            const int n = r.calls();
            for (int i = 0; i < n; ++i)
              if (r.alive(i) &&
                  (r.call(i).op->name == "batch_norm" || r.call(i).op->name == "batch_normalize"))
                fuse(r, i);
            r.finish();
          }};
}

}  // namespace evenflow
