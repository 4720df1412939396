// SPDX-License-Identifier: Apache-2.0
#include "evenflow/graph/profile.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "evenflow/core/log.h"

namespace evenflow {
namespace {
std::atomic<Recorder*> recorder{nullptr};
std::mutex recorder_mutex;  // an execution on another thread may end when the recorder does
thread_local int depth = 0;

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}
int thread_number() {
  static std::atomic<int> next{0};
  thread_local const int mine = next++;
  return mine;
}
std::string list(const Sigs& sigs) {
  std::string s;
  for (auto& x : sigs) s += (s.empty() ? "" : ", ") + str(x);
  return s;
}
}  // namespace

std::string str(const KernelCall& call, double us) {
  std::string line = call.op + " [" + call.kernel + "]" +
                     (call.name.empty() ? "" : " \"" + call.name + "\"") + concat({" ", us, " us"});
  if (call.cost.flops > 0) line += concat({", ", call.cost.flops / us / 1e3, " GFlop/s"});
  return line + concat({", ", call.cost.bytes / us / 1e3, " GB/s"});
}
std::string shapes_of(const KernelCall& call) { return list(call.in) + " -> " + list(call.out); }

struct Recorder::Impl {
  std::vector<Execution> executions, spans;
};
Recorder::Recorder() : impl_(std::make_unique<Impl>()) {
  Recorder* none = nullptr;
  if (!recorder.compare_exchange_strong(none, this))
    fail(Code::FailedPrecondition, {"Recorder: there is one already, expected one at a time"});
}
Recorder::~Recorder() {
  std::lock_guard l(recorder_mutex);
  recorder = nullptr;
}
void Recorder::span(const std::string& name, const std::function<void()>& f) {
  Execution e{std::make_shared<const KernelCall>(KernelCall{"", "", name, {}, {}, {}, false}),
              now_ns(), 0, thread_number(), false};
  f();
  e.end_ns = now_ns();
  impl_->spans.push_back(std::move(e));
}
std::vector<Execution> Recorder::executions() const {
  std::lock_guard l(recorder_mutex);
  return impl_->executions;
}
std::vector<Execution> Recorder::spans() const { return impl_->spans; }

bool Watched::on() { return recorder.load(std::memory_order_relaxed) || logs(Topic::exec); }
Watched::Watched(bool nested) : nested_(nested || depth > 0), begin_ns_(now_ns()) { ++depth; }
Watched::~Watched() { --depth; }
void Watched::done(const std::shared_ptr<const KernelCall>& call) {
  const int64_t end = now_ns();
  if (logs(Topic::exec)) log(Topic::exec, str(*call, double(end - begin_ns_) / 1e3));
  if (!recorder.load(std::memory_order_relaxed)) return;
  std::lock_guard l(recorder_mutex);
  if (Recorder* r = recorder.load())
    r->impl_->executions.push_back({call, begin_ns_, end, thread_number(), nested_});
}

namespace {
// Execution by execution: the time that counts for it, and whether others ran inside it.
struct Share {
  double ns = 0;
  bool outer = false;
};
std::vector<Share> shares_of(const std::vector<Execution>& all) {
  constexpr size_t kNone = size_t(-1);
  auto duration = [&](size_t i) { return double(all[i].end_ns - all[i].begin_ns); };
  std::vector<Share> r(all.size());
  std::vector<size_t> order(all.size()), parent(all.size(), kNone), tops, open;
  for (size_t i = 0; i < all.size(); ++i) order[i] = i, r[i].ns = duration(i);
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    auto key = [&](size_t i) {
      return std::tuple(all[i].begin_ns, all[i].thread, -all[i].end_ns, all[i].nested);
    };
    return key(a) < key(b);
  });
  std::map<int, std::vector<size_t>> by_thread;
  for (size_t i : order) {
    by_thread[all[i].thread].push_back(i);
    if (!all[i].nested && all[i].call->has_graph) tops.push_back(i);
  }
  for (auto& [thread, mine] : by_thread) {
    open.clear();
    for (size_t i : mine) {
      while (!open.empty() && all[open.back()].end_ns <= all[i].begin_ns) open.pop_back();
      if (all[i].nested && !open.empty()) parent[i] = open.back();
      open.push_back(i);
    }
  }
  // What has nothing around it on its own thread ran for a call of another.
  for (size_t i : order) {
    if (!all[i].nested || parent[i] != kNone) continue;
    auto at = std::upper_bound(tops.begin(), tops.end(), all[i].begin_ns,
                               [&](int64_t t, size_t a) { return t < all[a].begin_ns; });
    while (parent[i] == kNone && at != tops.begin())
      if (all[*--at].end_ns >= all[i].end_ns) parent[i] = *at;
  }
  auto top = [&](size_t i) {
    while (parent[i] != kNone) i = parent[i];
    return i;
  };
  std::map<size_t, std::set<int>> threads;  // that worked for a top
  for (size_t i = 0; i < all.size(); ++i) {
    const size_t p = parent[i];
    if (p == kNone) continue;
    r[p].outer = true;
    if (parent[p] != kNone) r[p].ns -= duration(i);
    threads[top(i)].insert({all[i].thread, all[top(i)].thread});
  }
  for (size_t i = 0; i < all.size(); ++i)
    if (parent[i] != kNone) {
      r[i].ns /= double(threads[top(i)].size());
      r[top(i)].ns -= r[i].ns;
    }
  return r;
}
}  // namespace

std::vector<KernelTime> kernel_times(const std::vector<Execution>& executions,
                                     const MachineLimits& limits, bool each_layer) {
  std::map<std::tuple<std::string, std::string, std::string, std::string>, KernelTime> rows;
  const std::vector<Share> shares = shares_of(executions);
  for (size_t i = 0; i < executions.size(); ++i) {
    const Execution& e = executions[i];
    const std::string shapes = each_layer ? shapes_of(*e.call) : "",
                      name = each_layer ? e.call->name : "";
    KernelTime& row = rows[{e.call->op, e.call->kernel, name, shapes}];
    row.op = e.call->op, row.kernel = e.call->kernel, row.name = name, row.shapes = shapes;
    ++row.calls;
    row.us += shares[i].ns / 1e3;
    if (shares[i].outer) continue;  // its bytes and FLOPs are those of what ran inside
    const Cost& cost = e.call->cost;
    row.bytes += cost.bytes, row.flops += cost.flops;
    double least = limits.flops_per_s > 0 ? cost.flops / limits.flops_per_s : 0;
    if (limits.copy_bytes_per_s && cost.bytes > 0)
      least = std::max(least, cost.bytes / limits.copy_bytes_per_s(
                                               cost.bytes / (e.nested ? 1 : limits.threads)));
    row.limit_us += least * 1e6;
  }
  std::vector<KernelTime> r;
  for (auto& [key, row] : rows) r.push_back(std::move(row));
  std::stable_sort(r.begin(), r.end(), [](auto& a, auto& b) { return a.us > b.us; });
  return r;
}

std::string chrome_trace(const std::vector<Execution>& executions,
                         const std::vector<Execution>& spans) {
  using nlohmann::json;
  json events = json::array();
  std::set<int> threads;
  int64_t start = INT64_MAX;
  for (auto* all : {&executions, &spans})
    for (auto& e : *all) start = std::min(start, e.begin_ns), threads.insert(e.thread);
  events.push_back({{"name", "process_name"},
                    {"ph", "M"},
                    {"pid", 1},
                    {"tid", 0},
                    {"args", {{"name", "evenflow"}}}});
  for (int t : threads)
    events.push_back({{"name", "thread_name"},
                      {"ph", "M"},
                      {"pid", 1},
                      {"tid", t},
                      {"args", {{"name", concat({"thread ", t})}}}});
  auto event = [&](const Execution& e, const std::string& name, const char* kind, json args) {
    events.push_back({{"name", name},
                      {"cat", kind},
                      {"ph", "X"},
                      {"ts", double(e.begin_ns - start) / 1e3},
                      {"dur", double(e.end_ns - e.begin_ns) / 1e3},
                      {"pid", 1},
                      {"tid", e.thread},
                      {"args", std::move(args)}});
  };
  for (auto& e : spans) event(e, e.call->name, "step", json::object());
  for (auto& e : executions) {
    json args{
        {"kernel", e.call->kernel}, {"shapes", shapes_of(*e.call)}, {"bytes", e.call->cost.bytes}};
    if (!e.call->name.empty()) args["name"] = e.call->name;
    if (e.call->cost.flops > 0) args["flops"] = e.call->cost.flops;
    event(e, e.call->op, "kernel", std::move(args));
  }
  const json trace{{"displayTimeUnit", "ms"}, {"traceEvents", std::move(events)}};
  // Names are the user's, and may be no UTF-8.
  return trace.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace evenflow
