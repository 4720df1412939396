// SPDX-License-Identifier: Apache-2.0
#include "evenflow/graph/pass.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <queue>

#include "evenflow/core/log.h"

namespace evenflow {
namespace {
Passes from_environment() {
  const char* text = std::getenv("EVENFLOW_PASSES");
  const std::string_view which = text && *text ? text : "all";
  if (which == "none") return Passes::none;
  if (which == "exact") return Passes::exact;
  if (which == "all") return Passes::all;
  fail({"EVENFLOW_PASSES is ", which, ", expected none, exact or all"});
}
std::atomic<Passes>& setting() {
  static std::atomic<Passes> passes{from_environment()};
  return passes;
}
}  // namespace

Passes default_passes() { return setting(); }
void set_default_passes(Passes which) { setting() = which; }

const PassEntry*& PassEntry::head() {
  static constinit const PassEntry* h = nullptr;
  return h;
}
PassEntry::PassEntry(const char* n, PassDef (*m)()) : name(n), make(m), next(head()) {
  head() = this;
}

std::vector<NamedPass> all_passes() {
  std::vector<NamedPass> r;
  for (auto* e = PassEntry::head(); e; e = e->next) r.push_back({e->name, e->make()});
  std::sort(r.begin(), r.end(), [](auto& a, auto& b) {
    return a.def.order != b.def.order ? a.def.order < b.def.order : a.name < b.name;
  });
  return r;
}

Graph optimise(Graph g, Passes which,
               const std::function<void(std::string_view, const Graph&)>& after,
               const PassOptions& options) {
  if (which == Passes::none) return g;
  for (const NamedPass& p : all_passes()) {
    if (which == Passes::exact && !p.def.keeps_bits) continue;
    if (options.on && p.def.host_only) continue;
    const bool watched = after || logs(Topic::pass);
    const std::string before = watched ? str(g) : std::string();
    p.def.run(g, options);
    if (!watched) continue;
    if (const std::string now = str(g); now != before) {
      if (logs(Topic::pass)) log(Topic::pass, concat({p.name, ": ", p.def.summary, "\n", now}));
      if (after) after(p.name, g);
    }
  }
  return g;
}

// ---- rewriting
Rewriter::Rewriter(Graph& g)
    : g_(g),
      alive_(g.calls.size(), 1),
      place_(g.calls.size()),
      producer_(g.values.size(), -1),
      readers_(g.values.size()) {
  for (int i = 0; i < calls(); ++i) attach(i), place_[size_t(i)] = i;
}
void Rewriter::attach(int i) {
  for (int v : call(i).out) producer_[size_t(v)] = i;
  for (int v : call(i).in) readers_[size_t(v)].push_back(i);
}
void Rewriter::detach(int i) {
  for (int v : call(i).in) {
    auto& r = readers_[size_t(v)];
    if (auto it = std::find(r.begin(), r.end(), i); it != r.end()) r.erase(it);
  }
}
bool Rewriter::is_result(int v) const {
  return std::find(g_.results.begin(), g_.results.end(), v) != g_.results.end();
}
int Rewriter::made_by(int v, std::string_view op) const {
  const int i = producer(v);
  return i >= 0 && alive(i) && call(i).op->name == op ? i : -1;
}
std::vector<int> Rewriter::emit(const OpDef& op, AttrPtr attrs, std::vector<int> in, int like) {
  const Where where = call(like).where;
  auto name = call(like).name;
  std::vector<int> out;
  for (const Sig& s : op.shape(g_.sigs(in), attrs.get())) out.push_back(g_.add_value(s));
  producer_.resize(g_.values.size(), -1), readers_.resize(g_.values.size());
  g_.calls.push_back({&op, std::move(attrs), std::move(in), out, where, std::move(name)});
  alive_.push_back(1), place_.push_back(place_[size_t(like)]);
  attach(calls() - 1);
  return out;
}
void Rewriter::reroute(int i, int value, int by) {
  detach(i);
  auto& in = g_.calls[size_t(i)].in;
  std::replace(in.begin(), in.end(), value, by);
  for (int v : in) readers_[size_t(v)].push_back(i);
}
std::vector<int> Rewriter::insert(const Graph& part, const std::vector<int>& in, int like) {
  std::vector<int> at(part.values.size(), -1);
  auto there = [&](const std::vector<int>& values) {
    std::vector<int> r;
    for (int v : values) r.push_back(at[size_t(v)]);
    return r;
  };
  for (size_t k = 0; k < part.leaves.size(); ++k) at[size_t(part.leaves[k])] = in[k];
  for (auto& [v, b] : part.constants)
    g_.constants.push_back({at[size_t(v)] = g_.add_value(part.values[size_t(v)]), b});
  producer_.resize(g_.values.size(), -1), readers_.resize(g_.values.size());
  for (auto& c : part.calls) {
    const std::vector<int> out = emit(*c.op, c.attrs, there(c.in), like);
    for (size_t k = 0; k < out.size(); ++k) at[size_t(c.out[k])] = out[k];
  }
  return there(part.results);
}
void Rewriter::expand(int i) {
  const std::vector<int> out = call(i).out, by = insert(reference_of(g_, call(i)), call(i).in, i);
  for (size_t k = 0; k < out.size(); ++k) replace(out[k], by[k]);
  erase(i);
}
void Rewriter::replace(int v, int by) {
  if (v == by) return;
  for (int r : std::exchange(readers_[size_t(v)], {}))
    if (alive(r)) {
      for (int& x : g_.calls[size_t(r)].in)
        if (x == v) x = by;
      readers_[size_t(by)].push_back(r);
    }
  for (int& x : g_.results)
    if (x == v) x = by;
}
void Rewriter::erase(int i) {
  if (!alive(i)) return;
  alive_[size_t(i)] = 0;
  detach(i);
  for (int v : call(i).out) producer_[size_t(v)] = -1;
}
void Rewriter::finish() {
  // What nobody needs. A value that is read for its shape keeps its producer: the plan knows
  // better.
  const size_t n = g_.calls.size();
  std::vector<char> needed(n);
  std::vector<int> stack;
  auto want = [&](int v) {
    if (const int p = producer(v); p >= 0 && !needed[size_t(p)])
      needed[size_t(p)] = 1, stack.push_back(p);
  };
  for (int v : g_.results) want(v);
  while (!stack.empty()) {
    const int i = stack.back();
    stack.pop_back();
    for (int v : call(i).in) want(v);
  }
  // Topological order, near the one that was.
  std::vector<int> missing(n), order;
  using Placed = std::pair<int, int>;
  std::priority_queue<Placed, std::vector<Placed>, std::greater<>> ready;
  auto make_ready = [&](int i) { ready.push({place_[size_t(i)], i}); };
  for (size_t i = 0; i < n; ++i) {
    if (!needed[i]) continue;
    for (int v : g_.calls[i].in) missing[i] += producer(v) >= 0;
    if (!missing[i]) make_ready(int(i));
  }
  while (!ready.empty()) {
    const int i = ready.top().second;
    ready.pop();
    order.push_back(i);
    for (int v : call(i).out)
      for (int r : readers(v))
        if (needed[size_t(r)] && --missing[size_t(r)] == 0) make_ready(r);
  }
  std::vector<Graph::Call> sorted;
  for (int i : order) sorted.push_back(std::move(g_.calls[size_t(i)]));
  if (order.size() != size_t(std::count(needed.begin(), needed.end(), 1)))
    fail(Code::Internal, {"passes: the rewritten graph has a cycle"});
  std::erase_if(g_.constants, [&](auto& c) {
    const auto& r = readers(c.first);
    return !is_result(c.first) &&
           std::none_of(r.begin(), r.end(), [&](int i) { return needed[size_t(i)]; });
  });
  g_.calls = std::move(sorted);
}

}  // namespace evenflow
