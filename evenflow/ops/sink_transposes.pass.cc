// SPDX-License-Identifier: Apache-2.0
// Channels-first layers compute between two transposes. Here a transpose goes behind what works
// element by element or channel by channel, until it meets its inverse: such a net runs channels
// last throughout, and later passes see its batch norms beside its convolutions.
#include <algorithm>
#include <numeric>
#include <optional>

#include "evenflow/graph/op.h"
#include "evenflow/graph/pass.h"
#include "evenflow/ops/batch_norm.h"

namespace evenflow {
namespace {
using Perm = std::vector<int64_t>;  // axis i of the result is axis perm[i] of x

class Sinker {
 public:
  explicit Sinker(Graph& g) : r_(g) {}
  // In the order of the calls: what a call reads has been dealt with.
  void run() {
    const int n = r_.calls();
    for (int i = 0; i < n; ++i)
      if (const Graph::Call c = r_.call(i); c.op->name == "transpose")
        compose(c, i);
      else if (const auto ends = moved(c))
        sink(c, i, *ends);
    r_.finish();
  }

 private:
  struct Source {
    int x;
    Perm perm;
  };
  // What a value is the transpose of.
  std::optional<Source> source(int value) const {
    const int i = r_.made_by(value, "transpose");
    if (i < 0) return {};
    const Graph::Call& c = r_.call(i);
    Perm p = std::get<Perm>(c.op->get_attrs(c.attrs.get())[0]);
    const int rank = r_.sig(value).shape.rank();
    if (p.empty())
      for (int d = rank; d--;) p.push_back(d);
    for (int64_t& d : p) d += d < 0 ? rank : 0;
    return Source{c.in[0], p};
  }
  int transposed(int x, const Perm& p, int like) {
    const OpDef& op = find_op("transpose");
    return r_.emit(op, op.make_attrs(std::vector<AttrValue>{p}), {x}, like)[0];
  }
  // Two become one, or none.
  void compose(const Graph::Call& c, int i) {
    const auto inner = source(c.in[0]);
    if (!inner) return;
    Perm p = source(c.out[0])->perm, none(p.size());
    for (int64_t& d : p) d = inner->perm[size_t(d)];
    std::iota(none.begin(), none.end(), 0);
    r_.replace(c.out[0], p == none ? inner->x : transposed(inner->x, p, i));
    r_.erase(i);
  }

  // The inputs and outputs of a call that a transpose moves across.
  struct Ends {
    std::vector<size_t> in, out;
    AttrPtr attrs;
  };
  std::optional<Ends> moved(const Graph::Call& c) const {
    auto ends = is_norm(c) ? ends_of_norm(c) : ends_of_pointwise(c);
    if (!ends || ends->in.empty()) return {};
    const auto first = source(c.in[ends->in[0]]);
    if (!first) return {};
    for (size_t k : ends->in)
      if (const auto s = source(c.in[k]); !s || s->perm != first->perm) return {};
    return ends;
  }
  static bool is_norm(const Graph::Call& c) {
    return c.op->name == "batch_normalize" || c.op->name == "batch_norm" ||
           c.op->name == "batch_norm_grad";
  }
  std::optional<Ends> ends_of_norm(const Graph::Call& c) const {
    BatchNormAttrs a = *static_cast<const BatchNormAttrs*>(c.attrs.get());
    const auto s = source(c.in[0]);
    if (!s || a.weighted || a.virtual_batch_size || a.axis.size() != 1) return {};
    const bool grad = c.op->name == "batch_norm_grad";
    Ends e{{0}, {0}, {}};
    if (grad) e.in.push_back(1);
    if (a.residual) e.in.push_back(c.in.size() - 1);
    if (a.residual && grad) e.out.push_back(c.out.size() - 1);
    const int64_t rank = int64_t(s->perm.size());
    int64_t& axis = a.axis[0];
    axis = s->perm[size_t(axis < 0 ? axis + rank : axis)];
    if (axis == rank - 1) axis = -1;
    e.attrs = std::make_shared<const BatchNormAttrs>(a);
    return e;
  }
  std::optional<Ends> ends_of_pointwise(const Graph::Call& c) const {
    const Traits& t = c.op->traits;
    if (!t.pointwise || t.random || t.shape_only || c.out.size() != 1) return {};
    Ends e{{}, {0}, c.attrs};
    for (size_t k = 0; k < c.in.size(); ++k) {
      const Shape& s = r_.sig(c.in[k]).shape;
      if (s == r_.sig(c.out[0]).shape)
        e.in.push_back(k);
      else if (s.count() != 1)
        return {};
    }
    return e;
  }
  void sink(const Graph::Call& c, int i, const Ends& ends) {
    const Perm p = source(c.in[ends.in[0]])->perm;
    std::vector<int> in = c.in;
    for (size_t k : ends.in) in[k] = source(c.in[k])->x;
    const std::vector<int> out = r_.emit(*c.op, ends.attrs, in, i);
    for (size_t k = 0; k < out.size(); ++k) {
      const bool goes = std::count(ends.out.begin(), ends.out.end(), k) > 0;
      r_.replace(c.out[k], goes ? transposed(out[k], p, i) : out[k]);
    }
    r_.erase(i);
  }

  Rewriter r_;
};
int64_t transposed_bytes(const Graph& g) {
  int64_t n = 0;
  for (const Graph::Call& c : g.calls)
    if (c.op->name == "transpose") n = checked_add(n, g.values[size_t(c.out[0])].bytes());
  return n;
}
}  // namespace

PASS(sink_transposes) {
  return {.summary = "transposes go behind batch norm and element-wise calls, to their inverses",
          .order = 20,
          // Statistics are summed in another order.
          .keeps_bits = false,
          .run = [](Graph& g, const PassOptions&) {
            const int64_t before = transposed_bytes(g);
            if (!before) return;
            Graph moved = g;
            Sinker(moved).run();
            // Where a value is needed both ways, moving may cost one more.
            if (transposed_bytes(moved) <= before) g = std::move(moved);
          }};
}

}  // namespace evenflow
