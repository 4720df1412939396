// SPDX-License-Identifier: Apache-2.0
// A call that frees more memory than it takes runs as soon as it can: the gradient of a kernel
// beside that of its input, not at the end of the step when all activations are still there.
#include <algorithm>
#include <vector>

#include "evenflow/graph/pass.h"

namespace evenflow {
namespace {

class Scheduler {
 public:
  explicit Scheduler(Graph& g)
      : g_(g),
        made_by_(g.values.size(), -1),
        readers_(g.values.size()),
        left_(g.values.size()),
        missing_(g.calls.size()),
        done_(g.calls.size()) {
    for (size_t i = 0; i < g.calls.size(); ++i)
      for (int v : g.calls[i].out) made_by_[size_t(v)] = int(i);
    for (size_t i = 0; i < g.calls.size(); ++i)
      for (int v : inputs(int(i))) {
        readers_[size_t(v)].push_back(int(i)), ++left_[size_t(v)];
        missing_[i] += made_by_[size_t(v)] >= 0;
      }
    for (int v : g.results) left_[size_t(v)] += 1;  // is there to the end
  }
  void run() {
    for (size_t i = 0; i < g_.calls.size(); ++i) {
      if (done_[i]) continue;
      put(int(i));
      for (std::vector<int> next; !(next = best()).empty();)
        for (int c : next) put(c);
    }
    std::vector<Graph::Call> sorted;
    for (int i : order_) sorted.push_back(std::move(g_.calls[size_t(i)]));
    g_.calls = std::move(sorted);
  }

 private:
  // Each once.
  std::vector<int> inputs(int call) const {
    std::vector<int> in = g_.calls[size_t(call)].in;
    std::sort(in.begin(), in.end());
    in.erase(std::unique(in.begin(), in.end()), in.end());
    return in;
  }
  int64_t bytes(int v) const { return made_by_[size_t(v)] < 0 ? 0 : g_.values[size_t(v)].bytes(); }
  // Bytes more after these calls, each of which makes what the next one reads.
  int64_t taken(const std::vector<int>& calls) const {
    int64_t net = 0;
    for (int c : calls) {
      for (int v : g_.calls[size_t(c)].out) net += bytes(v);
      for (int v : inputs(c))
        if (left_[size_t(v)] == 1) net -= bytes(v);
    }
    return net;
  }
  // What is made again is worth making when its reader can follow.
  std::vector<int> best() const {
    std::vector<int> found;
    int64_t least = -kWorthwhile;
    auto look = [&](const std::vector<int>& calls) {
      if (const int64_t net = taken(calls); net < least) least = net, found = calls;
    };
    for (int i : ready_) {
      std::vector<int> calls{i};
      look(calls);
      for (int at = i; g_.calls[size_t(at)].again && calls.size() < 8;) {
        int next = -1;
        for (int v : g_.calls[size_t(at)].out)
          for (int r : readers_[size_t(v)])
            if (!done_[size_t(r)] && missing_[size_t(r)] == 1) next = r;
        if (next < 0) break;
        calls.push_back(at = next);
        look(calls);
      }
    }
    return found;
  }
  void put(int call) {
    order_.push_back(call), done_[size_t(call)] = 1;
    ready_.erase(std::remove(ready_.begin(), ready_.end(), call), ready_.end());
    for (int v : inputs(call)) --left_[size_t(v)];
    for (int v : g_.calls[size_t(call)].out)
      for (int r : readers_[size_t(v)])
        if (--missing_[size_t(r)] == 0) ready_.push_back(r);
  }

  static constexpr int64_t kWorthwhile = 4096;  // bytes
  Graph& g_;
  std::vector<int> made_by_;
  std::vector<std::vector<int>> readers_;
  std::vector<int> left_, missing_;  // readers to come; inputs that are not there
  std::vector<char> done_;
  std::vector<int> ready_, order_;
};
}  // namespace

PASS(free_early) {
  return {.summary = "calls that free memory run as soon as they can",
          .order = 95,
          .run = [](Graph& g, const PassOptions&) { Scheduler(g).run(); }};
}

}  // namespace evenflow
