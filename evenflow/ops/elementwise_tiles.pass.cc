// SPDX-License-Identifier: Apache-2.0
// Element-wise calls that feed each other become one that runs through them some thousand elements
// at a time: an optimizer's update of a large weight reads and writes memory once.
#include <algorithm>
#include <map>

#include "evenflow/graph/op.h"
#include "evenflow/graph/pass.h"
#include "evenflow/ops/elementwise_tiles.h"

namespace evenflow {
namespace {

class Fuser {
 public:
  Fuser(Graph& g, int64_t least) : r_(g), least_(least) {}
  void run() {
    const int n = r_.calls();
    taken_.assign(size_t(n), 0);
    for (int root = n; root--;)
      if (!taken_[size_t(root)] && fits(root, r_.sig(r_.call(root).out[0]).shape)) fuse(root);
    r_.finish();
  }

 private:
  static constexpr int64_t kElements = 16384;
  static constexpr size_t kCalls = 32, kInputs = 16;

  // Whether a call works element by element on values of this shape, and single ones.
  bool fits(int i, const Shape& shape) const {
    const Graph::Call& c = r_.call(i);
    const Traits& t = c.op->traits;
    if (!r_.alive(i) || !t.pointwise || t.random || t.shape_only || t.alias || c.out.size() != 1 ||
        r_.sig(c.out[0]).shape != shape || shape.count() < least_)
      return false;
    Sigs run;
    for (int v : c.in) {
      const Sig& s = r_.sig(v);
      if (s.shape != shape && s.shape.count() != 1) return false;
      run.push_back({s.dtype, s.shape == shape ? Shape{kElements} : Shape{}});
    }
    const Sigs out = c.op->shape(run, c.attrs.get());
    return out.size() == 1 && out[0] == Sig{r_.sig(c.out[0]).dtype, {kElements}};
  }
  bool is_member(int call) const { return std::count(members_.begin(), members_.end(), call) > 0; }
  bool read_outside(int value) const {
    const auto& readers = r_.readers(value);
    return std::any_of(readers.begin(), readers.end(), [&](int c) { return !is_member(c); });
  }

  // All run where the root does. What else than the root's output is needed by other calls stays
  // outside: it might be wanted earlier. A result that no call reads may join, if the root is one.
  void fuse(int root) {
    const Shape shape = r_.sig(r_.call(root).out[0]).shape;
    members_ = {root};
    const bool proposes = r_.readers(r_.call(root).out[0]).empty();
    for (int i = root; i-- && members_.size() < kCalls;) {
      const int out = r_.call(i).out[0];
      if (taken_[size_t(i)] || !fits(i, shape) || read_outside(out)) continue;
      if (r_.readers(out).empty() || (r_.is_result(out) && !proposes)) continue;
      members_.push_back(i);
      if (inputs().size() > kInputs) members_.pop_back();
    }
    if (members_.size() < 2) return;
    std::reverse(members_.begin(), members_.end());
    for (int i : members_) taken_[size_t(i)] = 1;
    replace(shape);
  }
  std::vector<int> inputs() const {
    std::vector<int> r;
    for (int i : members_)
      for (int v : r_.call(i).in)
        if ((r_.producer(v) < 0 || !is_member(r_.producer(v))) &&
            !std::count(r.begin(), r.end(), v))
          r.push_back(v);
    return r;
  }
  void replace(const Shape& shape) {
    auto body = std::make_shared<SubGraph>();
    ElementwiseTilesAttrs a;
    std::map<int, int> at;
    const std::vector<int> in = inputs();
    for (int v : in) {
      body->graph.leaves.push_back(at[v] = body->graph.add_value(r_.sig(v)));
      a.whole.push_back(r_.sig(v).shape != shape);
    }
    std::vector<int> results;
    for (int i : members_) {
      Graph::Call c = r_.call(i);
      for (int& v : c.in) v = at.at(v);
      const int out = c.out[0];
      c.out[0] = at[out] = body->graph.add_value(r_.sig(out));
      body->graph.calls.push_back(std::move(c));
      if (!read_outside(out) && !r_.is_result(out)) continue;
      body->graph.results.push_back(at[out]), results.push_back(out);
    }
    a.body = std::move(body);
    const auto made =
        r_.emit(find_op("elementwise_tiles"),
                std::make_shared<const ElementwiseTilesAttrs>(std::move(a)), in, members_.back());
    for (size_t k = 0; k < results.size(); ++k) r_.replace(results[k], made[k]);
    for (int i : members_) r_.erase(i);
  }

  Rewriter r_;
  int64_t least_;
  std::vector<char> taken_;
  std::vector<int> members_;
};
}  // namespace

PASS(fuse_elementwise) {
  return {
      .summary =
          "element-wise calls that feed each other run together, some thousand elements at a time",
      .order = 92,
      .run = [](Graph& g, const PassOptions& o) {
        // Below so many elements all of it is in a CPU's first caches anyway; an accelerator takes
        // longer to be asked than to run.
        Fuser(g, o.on ? 1 : 16384).run();
      }};
}

}  // namespace evenflow
