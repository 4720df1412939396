// SPDX-License-Identifier: Apache-2.0
// Evaluation outside a trace: one plan for everything wanted, kept by structure.
#include <list>
#include <unordered_map>

#include "evenflow/graph/plan.h"
#include "evenflow/graph/transaction.h"

namespace evenflow {
namespace {
class PlanCache {
 public:
  std::shared_ptr<const Plan> find(const Key& key) {
    std::lock_guard l(mutex_);
    auto it = map_.find(key);
    if (it == map_.end()) return nullptr;
    order_.splice(order_.begin(), order_, it->second.second);
    return it->second.first;
  }
  void put(Key key, std::shared_ptr<const Plan> plan) {
    std::lock_guard l(mutex_);
    if (map_.count(key)) return;
    if (map_.size() >= kMax) map_.erase(order_.back()), order_.pop_back();
    order_.push_front(key);
    map_.emplace(std::move(key), std::pair{std::move(plan), order_.begin()});
  }
  size_t size() {
    std::lock_guard l(mutex_);
    return map_.size();
  }
  void clear() {
    std::lock_guard l(mutex_);
    map_.clear(), order_.clear();
  }

 private:
  static constexpr size_t kMax = 256;
  std::mutex mutex_;
  std::list<Key> order_;  // most recently used first
  std::unordered_map<Key, std::pair<std::shared_ptr<const Plan>, std::list<Key>::iterator>, KeyHash>
      map_;
};
PlanCache& cache() {
  static PlanCache c;
  return c;
}
std::mutex publish_mutex;
bool has_value(const Node& n) { return n.ready.load(std::memory_order_acquire); }
}  // namespace

size_t plan_cache_size() { return cache().size(); }
void clear_plan_cache() { cache().clear(); }

std::vector<BufferPtr> evaluate(const std::vector<Edge>& want, bool last) {
  std::vector<Edge> roots;
  for (auto& e : want) {
    if (e.node->symbolic)
      fail(Code::FailedPrecondition,
           {str(*e.node), ": this tensor has no value: it stands for a value inside a trace"});
    if (!has_value(*e.node)) roots.push_back(e);
  }
  if (!roots.empty()) {
    Extractor ex(has_value);
    std::vector<NodePtr> made;
    std::unordered_map<const Node*, char> seen;
    std::vector<BufferPtr> leaves;
    {
      std::shared_lock walk(walk_mutex());
      ex.walk(roots);
      for (auto& e : ex.x.leaves) leaves.push_back(e.node->values[size_t(e.out)]);
    }
    Extracted& x = ex.x;
    for (auto& r : roots)
      if (ex.keeps(*r.node) && !seen[r.node.get()]++) made.push_back(r.node);
    const bool keep = !last && Transaction::current();  // a read in the middle of a step: its
                                                        // gradient will want what it passes
    for (auto& n : x.visited)
      if ((n->handles > 0 || (keep && n->tracked)) && !n->symbolic && !seen[n.get()]++)
        made.push_back(n);  // never pass what is held without keeping it
    x.key.push_back(2);
    for (auto& n : made)
      for (size_t o = 0; o < n->sigs.size(); ++o) {
        x.graph.results.push_back(ex.id({n, int(o)}));
        x.key.push_back(uint64_t(x.graph.results.back()));
      }
    auto plan = cache().find(x.key);
    if (!plan) {
      plan = std::make_shared<Plan>(x.graph, std::vector<Role>(x.graph.results.size()));
      ++run_counters().plans;
      cache().put(std::move(x.key), plan);
    }
    auto run = plan->acquire();
    plan->bind(*run, std::move(leaves));
    plan->execute(*run, false);
    plan->execute(*run, true);
    ++run_counters().runs;
    std::vector<Edge> dropped;  // freed after the lock
    std::lock_guard l(publish_mutex);
    size_t k = 0;
    std::vector<Node*> forget;
    for (auto& n : made) {
      const size_t count = n->sigs.size();
      if (!has_value(*n)) {  // else another thread was first: the same bits
        n->values.assign(run->results.begin() + long(k), run->results.begin() + long(k + count));
        n->ready.store(true, std::memory_order_release);
        if (!n->tracked)
          forget.push_back(n.get());  // nothing to differentiate: drop what it came from
      }
      k += count;
    }
    for (auto& r : run->results) r.reset();
    std::unique_lock walk(walk_mutex());
    for (Node* n : forget) {
      for (auto& e : n->in) dropped.push_back(std::move(e));
      n->in.clear();
      n->cut = true;
    }
  }
  std::vector<BufferPtr> r;
  for (auto& e : want) r.push_back(e.node->values[size_t(e.out)]);
  return r;
}

void flush() {
  std::vector<std::weak_ptr<Node>> mine = std::move(pending());
  pending().clear();
  std::vector<Edge> want;
  for (auto& w : mine)
    if (auto n = w.lock(); n && n->handles > 0 && !n->ready) want.push_back({n, 0});
  if (!want.empty()) evaluate(want);
}

}  // namespace evenflow
