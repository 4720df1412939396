// SPDX-License-Identifier: Apache-2.0
// Calls that can be cut along the batch become regions that run tile by tile (batch_tiles). A
// region ends where a value of the whole batch is needed: batch norm's statistics, the sums of its
// gradient, the gradient of a weight. So a convolution's tile is followed by its statistics while
// it is in the cache, and the normalised activation exists in a tile only.
#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "evenflow/graph/pass.h"
#include "evenflow/ops/batch_tiles.h"

namespace evenflow {
namespace {
constexpr int64_t kTileBytes = 640 << 10;  // of all values of a tile: within an L2 of 1 MB
constexpr int64_t kLeastBytes =
    2 << 20;  // a region whose values fit the cache anyway gains nothing
constexpr int64_t kTilesAtLeast = 8;

bool is_shape_only(const Graph::Call& c, size_t i) {
  return i < 32 && (c.op->traits.shape_only >> i & 1);
}

struct Cut {
  bool on = false;
  BatchRule rule;
  int phase = 0;
  bool whole(size_t i) const { return i >= 64 || (rule.whole >> i & 1); }
};

class Tiler {
 public:
  Tiler(Graph& g, const PassOptions& options)
      : g_(g), options_(options), cuts_(g.calls.size()), producer_(g.values.size(), -1) {
    for (size_t i = 0; i < g.calls.size(); ++i)
      for (int v : g.calls[i].out) producer_[size_t(v)] = int(i);
  }
  void run() {
    if (!choose_batch()) return;
    order_phases();
    group();
    if (groups_.empty()) return;
    if (options_.activations == Activations::automatic) recompute();
    build();
  }

 private:
  const Sig& sig(int v) const { return g_.values[size_t(v)]; }
  int64_t rows(int v) const { return sig(v).shape.rank() ? sig(v).shape[0] : -1; }
  int group_of(int value) const {
    return producer_[size_t(value)] < 0 ? -1 : group_[size_t(producer_[size_t(value)])];
  }
  bool has_rows(int call, int64_t n) const {
    const Graph::Call& c = g_.calls[size_t(call)];
    const Cut& cut = cuts_[size_t(call)];
    bool any = false;
    for (size_t i = 0; i < c.in.size(); ++i)
      if (!cut.whole(i)) {
        if (rows(c.in[i]) != n) return false;
        any = true;
      }
    if (cut.rule.join == BatchRule::rows)
      for (int v : c.out)
        if (rows(v) != n) return false;
    return any;
  }
  // Whether what every tile would read or add to anew, as a dense layer's weights, does not stay in
  // the cache, and is more than the rows themselves.
  bool weighs_more(int call) const {
    const Graph::Call& c = g_.calls[size_t(call)];
    const Cut& cut = cuts_[size_t(call)];
    int64_t rows = 0, all = 0;
    for (size_t i = 0; i < c.in.size(); ++i)
      if (!is_shape_only(c, i)) (cut.whole(i) ? all : rows) += sig(c.in[i]).bytes();
    for (int v : c.out) (cut.rule.join == BatchRule::rows ? rows : all) += sig(v).bytes();
    return all > kTileBytes && all * kTilesAtLeast > rows;
  }
  // The batch of the largest value that more than an element-wise call cuts.
  bool choose_batch() {
    int64_t most = 0, n = 0;
    for (size_t i = 0; i < g_.calls.size(); ++i) {
      const Graph::Call& c = g_.calls[i];
      if (!c.op->batch || c.op->traits.random) continue;
      const Sigs in = g_.sigs(c.in), out = g_.sigs(c.out);
      const auto rule = c.op->batch({in, out}, c.attrs.get());
      if (!rule) continue;
      cuts_[i].on = true, cuts_[i].rule = *rule;
      if (c.op->traits.pointwise) continue;
      for (size_t k = 0; k < c.in.size(); ++k)
        if (!cuts_[i].whole(k) && sig(c.in[k]).bytes() > most)
          most = sig(c.in[k]).bytes(), n = rows(c.in[k]);
    }
    if (n < (options_.tile ? options_.tile + 1 : kTilesAtLeast)) return false;
    for (size_t i = 0; i < cuts_.size(); ++i)
      cuts_[i].on = cuts_[i].on && has_rows(int(i), n) && (options_.tile || !weighs_more(int(i)));
    batch_ = n;
    return true;
  }
  // A call runs in the first phase in which all it reads is there: rows in the phase that makes
  // them, all else after it.
  void order_phases() {
    std::vector<int> whole(g_.values.size());  // from which phase on all of a value is there
    for (size_t i = 0; i < g_.calls.size(); ++i) {
      const Graph::Call& c = g_.calls[i];
      Cut& cut = cuts_[i];
      int phase = 0;
      for (size_t k = 0; k < c.in.size(); ++k) {
        const int v = c.in[k], p = producer_[size_t(v)];
        const bool in_phase = cut.on && !cut.whole(k) && p >= 0 && cuts_[size_t(p)].on &&
                              cuts_[size_t(p)].rule.join == BatchRule::rows;
        phase = std::max(phase, in_phase ? cuts_[size_t(p)].phase : whole[size_t(v)]);
      }
      cut.phase = phase;
      for (int v : c.out) whole[size_t(v)] = phase + (cut.on ? 1 : 0);
    }
  }
  // Phases with something to gain: more than one call, one of them more than element-wise.
  void group() {
    std::map<int, std::vector<int>> phases;
    for (size_t i = 0; i < cuts_.size(); ++i)
      if (cuts_[i].on) phases[cuts_[i].phase].push_back(int(i));
    group_.assign(g_.calls.size(), -1);
    for (auto& [phase, calls] : phases) {
      bool heavy = false;
      int64_t bytes = 0;
      for (int i : calls) {
        heavy |=
            !g_.calls[size_t(i)].op->traits.pointwise && !g_.calls[size_t(i)].op->traits.reshape;
        if (cuts_[size_t(i)].rule.join == BatchRule::rows)
          for (int v : g_.calls[size_t(i)].out) bytes += sig(v).bytes();
      }
      if (calls.size() < 2 || !heavy || (!options_.tile && bytes < kLeastBytes)) continue;
      for (int i : calls) group_[size_t(i)] = int(groups_.size());
      groups_.push_back(calls);
    }
  }
  // What is cheap to make from a value that is kept anyway is made again where it is needed.
  void recompute() {
    std::vector<std::set<int>> readers(g_.values.size());  // groups; -1: elsewhere
    for (size_t i = 0; i < g_.calls.size(); ++i)
      for (size_t k = 0; k < g_.calls[i].in.size(); ++k)
        if (!is_shape_only(g_.calls[i], k)) readers[size_t(g_.calls[i].in[k])].insert(group_[i]);
    for (int v : g_.results) readers[size_t(v)].insert(-1);
    for (size_t q = 0; q < groups_.size(); ++q) {
      std::map<int, int> again;  // value -> its copy in this group
      const std::vector<int> members = groups_[q];
      for (int i : members)
        for (size_t k = 0; k < g_.calls[size_t(i)].in.size(); ++k) {
          const int v = g_.calls[size_t(i)].in[k], p = group_of(v);
          if (p < 0 || p == int(q) || cuts_[size_t(i)].whole(k)) continue;
          auto it = again.find(v);
          if (it == again.end()) {
            const int c = producer_[size_t(v)];
            if (!is_cheap(c) || readers[size_t(v)].count(-1) || !source_is_kept(c, readers))
              continue;
            it = again.emplace(v, copy_into(c, int(q))).first;
          }
          g_.calls[size_t(i)].in[k] = it->second;
        }
    }
  }
  bool is_cheap(int call) const {
    const Graph::Call& c = g_.calls[size_t(call)];
    return (c.op->traits.pointwise || c.op->name == "batch_normalize") && c.out.size() == 1;
  }
  // One cut input, and that is in memory whatever we do.
  bool source_is_kept(int call, const std::vector<std::set<int>>& readers) const {
    const Graph::Call& c = g_.calls[size_t(call)];
    int source = -1;
    for (size_t k = 0; k < c.in.size(); ++k) {
      if (cuts_[size_t(call)].whole(k)) continue;
      if (source >= 0) return false;
      source = c.in[k];
    }
    const int p = group_of(source);
    return p < 0 || readers[size_t(source)].size() > 1 || *readers[size_t(source)].begin() != p;
  }
  int copy_into(int call, int group) {
    Graph::Call c = g_.calls[size_t(call)];
    const int v = g_.add_value(sig(c.out[0]));
    c.out = {v};
    producer_.push_back(int(g_.calls.size()));
    g_.calls.push_back(std::move(c));
    cuts_.push_back(cuts_[size_t(call)]), group_.push_back(group);
    groups_[size_t(group)].insert(groups_[size_t(group)].begin(), int(g_.calls.size()) - 1);
    return v;
  }

  void build() {
    std::vector<char> outside(g_.values.size());  // read by other groups, other calls, or a result
    for (size_t i = 0; i < g_.calls.size(); ++i)
      for (int v : g_.calls[i].in) outside[size_t(v)] |= group_of(v) != group_[i];
    for (int v : g_.results) outside[size_t(v)] = 1;
    std::vector<Graph::Call> calls;
    std::vector<size_t> left(groups_.size());
    for (size_t q = 0; q < groups_.size(); ++q) left[q] = groups_[q].size();
    for (size_t i = 0; i < g_.calls.size(); ++i) {
      if (group_[i] < 0)
        calls.push_back(g_.calls[i]);
      else if (--left[size_t(group_[i])] == 0)
        add_region(groups_[size_t(group_[i])], outside, calls);
    }
    g_.calls = std::move(calls);
    Rewriter(g_).finish();
  }
  // Adds the call of a region, and casts of what its parts made in a wider type.
  void add_region(const std::vector<int>& members, const std::vector<char>& outside,
                  std::vector<Graph::Call>& calls) {
    std::vector<std::pair<int, int>> narrower;
    calls.push_back(region(members, outside, narrower));
    const OpDef& cast = find_op("cast");
    for (auto [from, to] : narrower) {
      const AttrValue type = sig(to).dtype;
      calls.push_back({&cast,
                       cast.make_attrs({&type, 1}),
                       {from},
                       {to},
                       calls.back().where,
                       calls.back().name});
    }
  }
  Graph::Call region(const std::vector<int>& members, const std::vector<char>& outside,
                     std::vector<std::pair<int, int>>& narrower) {
    auto body = std::make_shared<SubGraph>();
    BatchTilesAttrs a;
    std::map<std::pair<int, bool>, int> at;  // of a value, all of it or a tile
    std::vector<int> in, out;
    auto made_here = [&](int v, int of) { return group_of(v) == of; };
    auto value = [&](int v, bool whole) {
      auto [it, fresh] = at.emplace(std::pair(v, whole), 0);
      if (fresh) it->second = body->graph.add_value(sig(v));
      return it->second;
    };
    for (int i : members) {
      Graph::Call c = g_.calls[size_t(i)];
      for (size_t k = 0; k < c.in.size(); ++k) {
        const int v = c.in[k];
        const bool whole = cuts_[size_t(i)].whole(k);
        if (!made_here(v, group_[size_t(i)]) && !at.count({v, whole})) {
          body->graph.leaves.push_back(value(v, whole));
          in.push_back(v), a.whole.push_back(whole);
        }
        c.in[k] = value(v, whole);
      }
      const BatchRule::Join join = cuts_[size_t(i)].rule.join;
      const bool all =
          join == BatchRule::statistics &&
          std::any_of(c.out.begin(), c.out.end(), [&](int v) { return outside[size_t(v)]; });
      if (cuts_[size_t(i)].rule.part) c.attrs = cuts_[size_t(i)].rule.part;
      const Sigs sigs = c.op->shape(body->graph.sigs(c.in), c.attrs.get());
      for (size_t k = 0; k < c.out.size(); ++k) {
        const int w = c.out[k];
        c.out[k] = value(w, false);
        body->graph.values[size_t(c.out[k])] = sigs[k];
        if (!outside[size_t(w)] && !all) continue;
        body->graph.results.push_back(c.out[k]);
        out.push_back(sigs[k] == sig(w) ? w : g_.add_value(sigs[k])), a.joins.push_back(join);
        if (out.back() != w) narrower.push_back({out.back(), w});
      }
      body->graph.calls.push_back(std::move(c));
    }
    Rewriter(body->graph).finish();
    const int64_t row = std::max<int64_t>(1, most_alive(body->graph) / batch_);
    a.tile = std::max<int64_t>(1, options_.tile);
    while (!options_.tile && a.tile * 2 * row <= kTileBytes && a.tile * 2 * kTilesAtLeast <= batch_)
      a.tile *= 2;
    a.body = std::move(body);
    const Graph::Call& like = g_.calls[size_t(members.back())];
    return {&find_op("batch_tiles"),
            std::make_shared<const BatchTilesAttrs>(std::move(a)),
            in,
            out,
            like.where,
            like.name};
  }

  // Bytes of the values along the batch that are in use together, at the worst moment.
  int64_t most_alive(const Graph& g) const {
    auto bytes = [&](int v) {
      const Sig& s = g.values[size_t(v)];
      return s.shape.rank() && s.shape[0] == batch_ ? s.bytes() : 0;
    };
    std::vector<int> last(g.values.size(), -1);
    for (size_t i = 0; i < g.calls.size(); ++i)
      for (size_t k = 0; k < g.calls[i].in.size(); ++k)
        if (!is_shape_only(g.calls[i], k)) last[size_t(g.calls[i].in[k])] = int(i);
    std::vector<char> seen(g.values.size());
    int64_t now = 0, most = 0;
    for (size_t i = 0; i < g.calls.size(); ++i) {
      auto enter = [&](int v) {
        if (!std::exchange(seen[size_t(v)], 1)) now += bytes(v);
      };
      for (int v : g.calls[i].in)
        if (last[size_t(v)] >= int(i)) enter(v);
      for (int v : g.calls[i].out) enter(v);
      most = std::max(most, now);
      for (size_t v = 0; v < seen.size(); ++v)
        if (seen[v] == 1 && last[v] <= int(i)) seen[v] = 2, now -= bytes(int(v));
    }
    return most;
  }

  Graph& g_;
  const PassOptions& options_;
  std::vector<Cut> cuts_;
  std::vector<int> producer_, group_;
  std::vector<std::vector<int>> groups_;
  int64_t batch_ = 0;
};
}  // namespace

// Batch norm in its parts, where its input is made by a call that could be followed by the
// statistics.
PASS(split_batch_norm) {
  return {.summary =
              "batch norm as statistics and normalise, so that they can join the calls around them",
          .order = 50,
          .keeps_bits = false,
          .host_only = true,
          .run = [](Graph& g, const PassOptions& options) {
            Rewriter r(g);
            const int n = r.calls();
            for (int i = 0; i < n; ++i) {
              const std::string& name = r.call(i).op->name;
              if (name != "batch_norm" && name != "batch_norm_grad") continue;
              const int x = r.call(i).in[0], p = r.producer(x);
              if (p < 0 || !r.call(p).op->batch || r.call(p).op->traits.pointwise ||
                  (!options.tile && r.sig(x).bytes() < kLeastBytes / 2))
                continue;
              r.expand(i);
            }
            r.finish();
          }};
}

PASS(tile_batches) {
  return {.summary = "calls along the batch run together, tile by tile",
          .order = 60,
          .keeps_bits = false,
          .host_only = true,
          .run = [](Graph& g, const PassOptions& o) { Tiler(g, o).run(); }};
}

}  // namespace evenflow
