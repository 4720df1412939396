// SPDX-License-Identifier: Apache-2.0
#include "evenflow/graph/graph.h"

#include <bit>
#include <cstring>
#include <unordered_map>

#include "evenflow/graph/transaction.h"

namespace evenflow {

Sigs Graph::sigs(const std::vector<int>& ids) const {
  Sigs r;
  r.reserve(ids.size());
  for (int v : ids) r.push_back(values[size_t(v)]);
  return r;
}
void Graph::respecialise(std::span<const Sig> s) {
  if (s.size() != leaves.size())
    fail(Code::Internal, {"graph: ", s.size(), " signatures for ", leaves.size(), " leaves"});
  for (size_t i = 0; i < leaves.size(); ++i) values[size_t(leaves[i])] = s[i];
  for (auto& c : calls) {
    Sigs out;
    try {
      out = c.op->shape(sigs(c.in), c.attrs.get());
    } catch (const Error& e) {
      fail(e.code(), {c.op->name, c.name ? " \"" + *c.name + "\"" : "", ": ", e.what(), ", at ",
                      str(c.where)});
    }
    for (size_t i = 0; i < out.size(); ++i) values[size_t(c.out[i])] = out[i];
  }
}
std::string str(const Graph& g) {
  std::string s;
  for (auto& c : g.calls) {
    for (size_t i = 0; i < c.out.size(); ++i) s += concat({i ? ", " : "", "%", c.out[i]});
    s += " = " + c.op->name + "(";
    for (size_t i = 0; i < c.in.size(); ++i) s += concat({i ? ", " : "", "%", c.in[i]});
    s += ")";
    auto v = c.op->get_attrs(c.attrs.get());
    for (size_t i = 0; i < v.size(); ++i)
      if (!(v[i] == c.op->attrs[i].default_value)) s += " " + c.op->attrs[i].name + "=" + str(v[i]);
    s += " :";
    for (int o : c.out) s += " " + str(g.values[size_t(o)]);
    s += "\n";
  }
  return s;
}

struct Extractor::Impl {
  std::function<bool(const Node&)> is_leaf;
  std::unordered_map<const Node*, int> first;  // values of node n: ids[first[n] + out]
  std::vector<int> ids;
  std::unordered_map<Key, std::vector<int>, KeyHash> twins;
};
Extractor::Extractor(std::function<bool(const Node&)> is_leaf)
    : impl_(new Impl{std::move(is_leaf), {}, {}, {}}) {}
Extractor::~Extractor() = default;
int Extractor::id(const Edge& e) const {
  return impl_->ids[size_t(impl_->first.at(e.node.get()) + e.out)];
}
bool Extractor::keeps(const Node& n) const { return impl_->first.count(&n); }

void Extractor::walk(const std::vector<Edge>& roots) {
  Impl& m = *impl_;
  auto bind = [&](const Node* n, const std::vector<int>& v) {
    m.first[n] = int(m.ids.size());
    m.ids.insert(m.ids.end(), v.begin(), v.end());
  };
  auto emit = [&](Node& n) {
    if (n.in.empty() && !n.op->loop && !n.op->reference && n.op->kernels().empty())
      fail(Code::FailedPrecondition, {str(n), ": a tensor of an ended trace has no value"});
    std::vector<int> in;
    for (auto& e : n.in) in.push_back(id(e));
    x.visited.push_back(n.shared_from_this());
    Key k{std::bit_cast<uint64_t>(n.op)};
    for (auto& v : n.op->get_attrs(n.attrs.get())) append(k, v);
    k.push_back(in.size());
    for (int v : in) k.push_back(uint64_t(v));
    x.key.insert(x.key.end(), k.begin(), k.end());
    std::vector<int> fresh;
    auto& twin = n.op->traits.random ? fresh : m.twins[std::move(k)];
    if (twin.empty()) {
      for (auto& s : n.sigs) twin.push_back(x.graph.add_value(s));
      x.graph.calls.push_back({n.op, n.attrs, std::move(in), twin, n.where, n.name});
    }
    bind(&n, twin);
  };
  std::vector<std::pair<NodePtr, size_t>> stack;
  auto enter = [&](const NodePtr& n) {
    if (m.first.count(n.get())) return;
    if (!m.is_leaf(*n)) return void(stack.push_back({n, 0}));
    std::vector<int> v;
    for (size_t o = 0; o < n->sigs.size(); ++o) {
      v.push_back(x.graph.add_value(n->sigs[o]));
      x.graph.leaves.push_back(v.back());
      x.leaves.push_back({n, int(o)});
      x.key.push_back(1);
      append(x.key, n->sigs[o]);
    }
    bind(n.get(), v);
  };
  for (auto& r : roots) {
    enter(r.node);
    while (!stack.empty()) {
      auto& [n, i] = stack.back();
      if (i < n->in.size()) {
        const NodePtr c = n->in[i++].node;
        enter(c);
        continue;
      }
      NodePtr done = n;
      stack.pop_back();
      if (!m.first.count(done.get())) emit(*done);
    }
  }
}
Extracted extract(const std::vector<Edge>& roots, std::function<bool(const Node&)> is_leaf) {
  Extractor e(std::move(is_leaf));
  e.walk(roots);
  for (auto& r : roots) e.x.graph.results.push_back(e.id(r));
  return std::move(e.x);
}

Tensors instantiate(const Graph& g, const Tensors& leaves) {
  Tensors v(g.values.size()), r;
  for (size_t i = 0; i < g.leaves.size(); ++i) v[size_t(g.leaves[i])] = leaves[i];
  for (auto& [id, b] : g.constants) v[size_t(id)] = tensor(g.values[size_t(id)], b);
  for (auto& c : g.calls) {
    std::vector<In> in;
    for (int i : c.in) in.emplace_back(v[size_t(i)], c.where);
    Tensors out = c.op == &read_op() ? Tensors{v[size_t(c.in[0])]} : apply(*c.op, c.attrs, in);
    for (size_t i = 0; i < out.size(); ++i) v[size_t(c.out[i])] = out[i];
  }
  for (int i : g.results) r.push_back(v[size_t(i)]);
  return r;
}

// ---- lowering
// -----------------------------------------------------------------------------------------------------------
namespace {
bool runs(const Graph& g, const Graph::Call& c, Accelerator* on) {
  if (c.op->traits.reshape || c.op == &read_op()) return true;
  const Sigs in = g.sigs(c.in), out = g.sigs(c.out);
  if (c.op->traits.alias && out[0] == in[0]) return true;
  return has_kernel(*c.op, {in, out, on}, c.attrs.get());
}
}  // namespace

Graph reference_of(const Graph& g, const Graph::Call& c) {
  Detached detached;
  OriginScope origin(c.where, c.name);
  Tensors in;
  for (int v : c.in) in.push_back(placeholder(g.values[size_t(v)], int(in.size())));
  Tensors out = c.op->reference(in, c.attrs.get());
  if (out.size() != c.out.size())
    fail(Code::Internal,
         {c.op->name, ": its reference gives ", out.size(), " values, expected ", c.out.size()});
  std::vector<Edge> roots;
  for (size_t i = 0; i < out.size(); ++i) {
    if (out[i].sig() != g.values[size_t(c.out[i])])
      fail(Code::Internal, {c.op->name, ": output ", i, " of its reference is ", str(out[i].sig()),
                            ", expected ", str(g.values[size_t(c.out[i])])});
    roots.push_back(out[i].edge());
  }
  Extracted x = extract(roots, [](const Node& n) { return !n.symbolic || n.in.empty(); });
  std::vector<int> leaves(in.size(), -1);
  for (size_t i = 0; i < x.leaves.size(); ++i) {
    Node& n = *x.leaves[i].node;
    if (n.symbolic)
      leaves[size_t(n.index)] = x.graph.leaves[i];
    else
      x.graph.constants.push_back({x.graph.leaves[i], Tensor(x.leaves[i]).buffer()});
  }
  for (size_t i = 0; i < leaves.size(); ++i)
    if (leaves[i] < 0) leaves[i] = x.graph.add_value(in[i].sig());
  x.graph.leaves = leaves;
  return std::move(x.graph);
}

Graph lower(const Graph& g, bool use_reference, Accelerator* on) {
  bool any = false;
  for (auto& c : g.calls) any |= use_reference ? bool(c.op->reference) : !runs(g, c, on);
  if (!any) return g;
  Graph r;
  std::vector<int> at(g.values.size(), -1);  // where a value of g is in r
  auto value = [&](int v) {
    if (at[size_t(v)] < 0) at[size_t(v)] = r.add_value(g.values[size_t(v)]);
    return at[size_t(v)];
  };
  for (int v : g.leaves) r.leaves.push_back(value(v));
  for (auto& [v, b] : g.constants) r.constants.push_back({value(v), b});
  for (auto& c : g.calls) {
    if (use_reference ? !c.op->reference : runs(g, c, on)) {
      Graph::Call d = c;
      for (int& v : d.in) v = value(v);
      for (int& v : d.out) v = value(v);
      r.calls.push_back(std::move(d));
      continue;
    }
    if (!c.op->reference)
      fail(Code::Unimplemented,
           {c.op->name, ": no kernel takes this call on ", on ? str(on->device()) : "cpu",
            " and it has no reference, at ", str(c.where)});
    const Graph ref = lower(reference_of(g, c), use_reference, on);
    std::vector<int> in(ref.values.size(), -1);
    auto inner = [&](int v) {
      if (in[size_t(v)] < 0) in[size_t(v)] = r.add_value(ref.values[size_t(v)]);
      return in[size_t(v)];
    };
    for (size_t i = 0; i < ref.leaves.size(); ++i) in[size_t(ref.leaves[i])] = value(c.in[i]);
    for (auto& [v, b] : ref.constants) r.constants.push_back({inner(v), b});
    for (auto& d : ref.calls) {
      Graph::Call e = d;
      for (int& v : e.in) v = inner(v);
      for (int& v : e.out) v = inner(v);
      r.calls.push_back(std::move(e));
    }
    for (size_t i = 0; i < c.out.size(); ++i) at[size_t(c.out[i])] = inner(ref.results[i]);
  }
  for (int v : g.results) r.results.push_back(value(v));
  return r;
}

}  // namespace evenflow
