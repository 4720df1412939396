// SPDX-License-Identifier: Apache-2.0
// Reverse mode over pointer nodes. Rules are graph to graph, so the result is differentiable again.
#include "evenflow/graph/gradient.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "evenflow/graph/op.h"
#include "evenflow/graph/transaction.h"

namespace evenflow {
namespace {
struct Visit {
  NodePtr node;
  std::vector<Edge> in;  // copied: another thread may drop a node's edges later
};
Tensor fill_like(const Tensor& like, double value) {
  const OpDef& op = find_op("fill_like");
  const AttrValue v = value;
  const In x(like);
  return apply(op, op.make_attrs({&v, 1}), {&x, 1})[0];
}
// As gradient(), and no walk goes past the nodes of `ends`: one input of a reference may have been
// made from another.
Tensors differentiate(const Tensors& ys, const Tensors& seeds, const std::vector<Wrt>& xs,
                      const std::unordered_set<const Node*>& ends);
bool is_target(const Node& n, const std::vector<Wrt>& xs) {
  for (auto& x : xs)
    if (x.var ? n.var == x.var.state() : x.t.edge().node.get() == &n) return true;
  return false;
}
}  // namespace

Tensor gradient(In y, Wrt x) { return gradient(std::move(y), std::vector<Wrt>{std::move(x)})[0]; }
Tensors gradient(In y, const std::vector<Wrt>& xs) {
  Tensor t = y.as();
  if (!t) fail({"gradient: y is an empty tensor, at ", str(y.where)});
  if (!is_floating(t.dtype()))
    fail({"gradient: y is ", str(t.sig()), ", expected a floating type, at ", str(y.where)});
  return gradient(Tensors{t}, {fill_like(t, 1)}, xs);
}

Tensors gradient(const Tensors& ys, const Tensors& seeds, const std::vector<Wrt>& xs) {
  for (auto& x : xs)
    if (x.t && !x.t.edge().node->symbolic && !x.t.edge().node->tracked)
      fail(Code::FailedPrecondition,
           {"gradient: with respect to ", str(x.t.sig()), " of ", str(*x.t.edge().node),
            ", whose history was not kept; use watch()"});
  for (size_t i = 0; i < seeds.size() && i < ys.size(); ++i)
    if (ys[i] && seeds[i] && is_floating(ys[i].dtype()) && seeds[i].sig() != ys[i].sig())
      fail({"gradient: seed ", i, " is ", str(seeds[i].sig()), ", expected ", str(ys[i].sig()),
            " like y"});
  return differentiate(ys, seeds, xs, {});
}

namespace {
Tensors differentiate(const Tensors& ys, const Tensors& seeds, const std::vector<Wrt>& xs,
                      const std::unordered_set<const Node*>& ends) {
  for (auto& x : xs) {
    if (!x.var && !x.t) fail({"gradient: with respect to an empty tensor"});
    const Sig& s = x.var ? x.var.sig() : x.t.sig();
    if (!is_floating(s.dtype)) fail({"gradient: x is ", str(s), ", expected a floating type"});
  }
  if (seeds.size() != ys.size())
    fail({"gradient: ", seeds.size(), " seeds were given, expected ", ys.size()});
  std::vector<Visit> topo;
  std::unordered_map<const Node*, char> depends;
  bool cut = false;
  auto is_end = [&](const Node& n) { return n.op->traits.cut || ends.count(&n); };
  {
    std::shared_lock walk(walk_mutex());
    std::vector<std::pair<NodePtr, size_t>> stack;
    for (auto& y : ys) {
      if (!y) continue;
      if (!depends.count(y.edge().node.get()))
        stack.push_back({y.edge().node, 0}), depends[y.edge().node.get()] = 0;
      while (!stack.empty()) {
        Node& n = *stack.back().first;
        const size_t i = stack.back().second++;
        if (!is_end(n) && i < n.in.size()) {
          const NodePtr& c = n.in[i].node;
          if (depends.try_emplace(c.get(), 0).second) stack.push_back({c, 0});
          continue;
        }
        char d = is_target(n, xs);
        cut |= (n.cut && n.tracked) || n.opaque;
        if (!is_end(n))
          for (size_t k = 0; k < n.in.size(); ++k)
            if (k >= 32 || !(n.op->traits.shape_only >> k & 1)) d |= depends[n.in[k].node.get()];
        depends[&n] = d;
        topo.push_back({stack.back().first, n.in});
        stack.pop_back();
      }
    }
  }
  const OpDef& add = find_op("add");
  std::unordered_map<const Node*, Tensors> adjoint;
  auto give = [&](const Edge& e, const Tensor& g) {
    if (!is_floating(e.sig().dtype)) return;
    auto& a = adjoint[e.node.get()];
    a.resize(e.node->sigs.size());
    Tensor& at = a[size_t(e.out)];
    at = at ? call(add, {at, g})[0] : g;
  };
  for (size_t i = 0; i < ys.size(); ++i)
    if (ys[i] && seeds[i] && depends[ys[i].edge().node.get()]) give(ys[i].edge(), seeds[i]);
  for (size_t i = topo.size(); i--;) {
    Node& n = *topo[i].node;
    auto& edges = topo[i].in;
    auto it = adjoint.find(&n);
    if (it == adjoint.end() || !depends[&n] || is_end(n) || edges.empty() ||
        !n.op->no_gradient.empty())
      continue;
    Tensors g = it->second, in, out, r;
    for (auto& e : edges) in.push_back(Tensor(e));
    for (size_t k = 0; k < n.sigs.size(); ++k) out.push_back(Tensor({topo[i].node, int(k)}));
    OriginScope origin(n.where, n.name);
    if (n.op == &compiled_op())
      fail(Code::FailedPrecondition,
           {"gradient: y depends on x through a result of the function compiled at ", str(n.where),
            "; differentiate inside it"});
    if (n.op->gradient)
      r = n.op->gradient(in, out, g, n.attrs.get());
    else if (n.op->reference) {
      std::vector<Wrt> w;
      std::vector<size_t> at;
      for (size_t k = 0; k < in.size(); ++k)
        if (is_floating(in[k].dtype()) && (k >= 32 || !(n.op->traits.shape_only >> k & 1)) &&
            std::find(edges.begin(), edges.begin() + long(k), edges[k]) ==
                edges.begin() + long(k))  // given twice: its gradient is the whole
          w.push_back(in[k]), at.push_back(k);
      std::unordered_set<const Node*> leaves;
      for (auto& e : edges) leaves.insert(e.node.get());
      Tensors d = differentiate(n.op->reference(in, n.attrs.get()), g, w, leaves);
      r.resize(in.size());
      for (size_t k = 0; k < d.size(); ++k) r[at[k]] = d[k];
    } else
      fail(Code::Unimplemented, {str(n), ": has no gradient"});
    if (r.size() > edges.size())
      fail(Code::Internal, {n.op->name, ": its gradient gives ", r.size(), " values for ",
                            edges.size(), " inputs"});
    for (size_t k = 0; k < r.size(); ++k) {
      if (!r[k] || !depends[edges[k].node.get()]) continue;
      if (r[k].sig() != edges[k].sig() && is_floating(edges[k].sig().dtype))
        fail(Code::Internal, {n.op->name, ": the gradient of input ", k, " is ", str(r[k].sig()),
                              ", expected ", str(edges[k].sig())});
      give(edges[k], r[k]);
    }
  }
  Tensors result;
  for (auto& x : xs) {
    Tensor sum;
    bool found = false;
    for (auto& v : topo) {
      if (!(x.var ? v.node->var == x.var.state() : v.node == x.t.edge().node)) continue;
      found = true;
      if (auto it = adjoint.find(v.node.get()); it != adjoint.end())
        if (auto& a = it->second[x.var ? 0 : size_t(x.t.edge().out)])
          sum = sum ? call(add, {sum, a})[0] : a;
    }
    if (!found && cut)
      fail(Code::FailedPrecondition, {"gradient: the history of this tensor has ended: its step "
                                      "was committed, or a compiled function made it"});
    result.push_back(sum ? sum : fill_like(x.var ? x.var.read() : x.t, 0));
  }
  return result;
}
}  // namespace

}  // namespace evenflow
