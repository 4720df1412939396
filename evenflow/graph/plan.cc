// SPDX-License-Identifier: Apache-2.0
#include "evenflow/graph/plan.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>

#include "evenflow/core/communicator.h"
#include "evenflow/core/log.h"
#include "evenflow/core/parallel.h"
#include "evenflow/graph/transaction.h"

namespace evenflow {
namespace {
constexpr int64_t kHeavy = 1 << 20;  // bytes of values from which a run moves to an executor
                                     // thread: below, the hand-over costs more
int64_t aligned(int64_t n) {
  return (n + Buffer::kAlignment - 1) / Buffer::kAlignment * Buffer::kAlignment;
}
}  // namespace

bool checks_nan() {
  static const bool on = [] {
    const char* text = std::getenv("EVENFLOW_CHECK");
    if (!text || !*text) return false;
    if (std::string_view(text) != "nan") fail({"EVENFLOW_CHECK is ", text, ", expected nan"});
    return true;
  }();
  return on;
}

Plan::Plan(const Graph& graph, std::vector<Role> roles, bool use_reference, Accelerator* on)
    : on_(on), graph_(lower(graph, use_reference, on)), roles_(std::move(roles)) {
  for (auto& [v, b] : graph_.constants) b = placed(b, on_);
  if (checks_nan())
    for (auto& r : roles_)
      r.late = false;  // a check can fail, and what can fail must not write over state
  schedule();
  choose_kernels();
  lay_out();
  if (logs(Topic::memory))
    log(Topic::memory, concat({"plan: ", order_.size(), " calls, arena ", arena_bytes_, " B (",
                               values_bytes_, " B as separate buffers), ", in_place_, " in place, ",
                               state_in_place_, " over their variable"}));
  if (logs(Topic::pass)) log(Topic::pass, "plan\n" + listing());
}

bool Plan::alias(const Graph::Call& c) const {
  return c.op->traits.reshape ||
         (c.op->traits.alias && graph_.values[size_t(c.in[0])] == graph_.values[size_t(c.out[0])]);
}

// What is needed, in which order, early or late.
void Plan::schedule() {
  const Graph& g = graph_;
  const size_t nv = g.values.size(), nc = g.calls.size();
  std::vector<char> wanted(nv), needed(nc), blocked(nv), late(nc);
  // An input that only lends its shape does not keep its producer alive.
  for (int v : g.results) wanted[size_t(v)] = 1;
  for (size_t o = nc; o--;) {
    for (int v : g.calls[o].out) needed[o] |= wanted[size_t(v)];
    if (needed[o])
      for (size_t i = 0; i < g.calls[o].in.size(); ++i)
        if (!shape_only(g.calls[o], i)) wanted[size_t(g.calls[o].in[i])] = 1;
  }
  // Late: pointwise calls that feed nothing but proposals. They run after the predicate, and so may
  // write over state.
  for (size_t i = 0; i < roles_.size(); ++i)
    if (!roles_[i].late) blocked[size_t(g.results[i])] = 1;
  for (size_t o = nc; o--;) {
    auto& c = g.calls[o];
    if (!needed[o]) continue;
    late[o] = c.op->traits.pointwise || alias(c);
    for (int v : c.out) late[o] &= !blocked[size_t(v)];
    if (!late[o])
      for (size_t i = 0; i < c.in.size(); ++i)
        if (!shape_only(c, i)) blocked[size_t(c.in[i])] = 1;
  }
  storage_.resize(nv);
  for (size_t v = 0; v < nv; ++v) storage_[v] = int(v);
  for (size_t o = 0; o < nc; ++o)
    if (auto& c = g.calls[o]; needed[o] && alias(c))
      storage_[size_t(c.out[0])] = storage_[size_t(c.in[0])];
  for (char pass : {0, 1}) {
    for (size_t o = 0; o < nc; ++o)
      if (needed[o] && late[o] == pass && !alias(g.calls[o])) order_.push_back({int(o), {}, {}});
    if (!pass) early_ = order_.size();
  }
}

void Plan::choose_kernels() {
  for (Step& s : order_) {
    auto& c = graph_.calls[size_t(s.call)];
    const Sigs in = graph_.sigs(c.in), out = graph_.sigs(c.out);
    Selected k = select_kernel(*c.op, {in, out, on_}, c.attrs);
    if (!k.prepared.run) fail(Code::Internal, {c.op->name, ": no kernel after lowering"});
    s.kernel = std::move(k.prepared), s.kernel_name = std::move(k.kernel),
    s.accumulates = k.accumulates;
  }
}

void Plan::lay_out() {
  Graph& g = graph_;
  storages_.resize(g.values.size());
  std::vector<int> last(g.values.size(), -1), leaf_refs(g.values.size()),
      producer(g.values.size(), -1), position(g.values.size(), -1);
  const int n_leaves = int(g.leaves.size());
  for (int i = 0; i < n_leaves; ++i)
    storages_[size_t(g.leaves[size_t(i)])] = {Storage::kLeaf, i, -1};
  for (size_t i = 0; i < g.constants.size(); ++i)
    storages_[size_t(g.constants[i].first)] = {Storage::kLeaf, n_leaves + int(i), -1};
  for (size_t i = 0; i < g.results.size(); ++i) {
    const size_t v = size_t(storage_[size_t(g.results[i])]);
    auto& s = storages_[v];
    if (s.kind == Storage::kArena)
      s = {Storage::kResult, int(i), -1};
    else if (s.kind == Storage::kLeaf)
      ++leaf_refs[v];
  }
  for (int p = 0; p < int(order_.size()); ++p) {
    auto& c = g.calls[size_t(order_[size_t(p)].call)];
    for (size_t i = 0; i < c.in.size(); ++i)
      if (!shape_only(c, i)) last[size_t(storage_[size_t(c.in[i])])] = p;
    for (int v : c.out) producer[size_t(v)] = order_[size_t(p)].call, position[size_t(v)] = p;
  }
  auto may_overwrite =
      [&](const Graph::Call& c, int p, int s,
          const Sig& out) {  // call p is the last reader of storage s, index for index
        if (!c.op->traits.pointwise || last[size_t(s)] != p) return false;
        for (size_t i = 0; i < c.in.size(); ++i)
          if (!shape_only(c, i) && storage_[size_t(c.in[i])] == s &&
              !(g.values[size_t(c.in[i])] == out))
            return false;
        return true;
      };
  // A proposal over its own variable: only late, only by the last reader, only if nobody takes the
  // old value away.
  for (size_t i = 0; i < roles_.size(); ++i) {
    const int d = roles_[i].over;
    roles_[i].over = -1;
    if (d < 0 || !roles_[i].late) continue;
    const int s = g.leaves[size_t(d)], v = storage_[size_t(g.results[i])], p = position[size_t(v)];
    if (p < int(early_) || leaf_refs[size_t(s)] || storages_[size_t(v)].kind != Storage::kResult ||
        storages_[size_t(v)].index != int(i))
      continue;
    if (last[size_t(s)] < p ||
        may_overwrite(g.calls[size_t(producer[size_t(v)])], p, s, g.values[size_t(v)]))
      roles_[i].over = d, ++state_in_place_;
  }
  for (Step& step : order_) {
    auto& c = g.calls[size_t(step.call)];
    if (c.out.size() != 1) continue;
    if (auto& s = storages_[size_t(c.out[0])]; s.kind == Storage::kResult) step.result = s.index;
  }
  // Arena offsets: first fit over lifetimes; a dying input's block is handed to a pointwise output.
  std::map<int64_t, int64_t> holes;
  auto size_of_value = [&](int v) { return aligned(g.values[size_t(v)].bytes()); };
  auto give = [&](int64_t at, int64_t n) {
    if (!n) return;
    auto it = holes.emplace(at, n).first;
    if (auto nx = std::next(it); nx != holes.end() && nx->first == at + n)
      it->second += nx->second, holes.erase(nx);
    if (it != holes.begin())
      if (auto pv = std::prev(it); pv->first + pv->second == it->first)
        pv->second += it->second, holes.erase(it);
  };
  auto take = [&](int64_t n) {
    for (auto it = holes.begin(); it != holes.end(); ++it)
      if (it->second >= n) {
        auto [at, size] = *it;
        holes.erase(it);
        if (size > n) holes[at + n] = size - n;
        return at;
      }
    int64_t at = arena_bytes_;
    if (!holes.empty() && std::prev(holes.end())->first + std::prev(holes.end())->second == at)
      at = std::prev(holes.end())->first, holes.erase(std::prev(holes.end()));
    arena_bytes_ = checked_add(at, n);
    return at;
  };
  for (int p = 0; p < int(order_.size()); ++p) {
    Step& step = order_[size_t(p)];
    auto& c = g.calls[size_t(step.call)];
    std::vector<int> stolen, dead;
    for (int v : c.out) {
      auto& s = storages_[size_t(v)];
      values_bytes_ = checked_add(values_bytes_, size_of_value(v));
      if (s.kind != Storage::kArena) continue;
      for (size_t i = 0; i < c.in.size() && s.offset < 0; ++i) {
        const int x = storage_[size_t(c.in[i])];
        auto& sx = storages_[size_t(x)];
        if (shape_only(c, i) || sx.kind != Storage::kArena ||
            std::count(stolen.begin(), stolen.end(), x))
          continue;
        if (g.values[size_t(c.in[i])] == g.values[size_t(v)] &&
            may_overwrite(c, p, x, g.values[size_t(v)]))
          s.offset = sx.offset, stolen.push_back(x), ++in_place_;
      }
      if (s.offset < 0) s.offset = take(size_of_value(v));
      if (last[size_t(v)] < 0) dead.push_back(v);
    }
    if (step.kernel.scratch_bytes > 0) {
      step.scratch = take(aligned(step.kernel.scratch_bytes));
      give(step.scratch, aligned(step.kernel.scratch_bytes));
    }
    for (size_t i = 0; i < c.in.size(); ++i) {
      const int x = storage_[size_t(c.in[i])];
      if (shape_only(c, i) || storages_[size_t(x)].kind != Storage::kArena || last[size_t(x)] != p)
        continue;
      if (!std::count(stolen.begin(), stolen.end(), x) && !std::count(dead.begin(), dead.end(), x))
        dead.push_back(x);
    }
    for (int x : dead) give(storages_[size_t(x)].offset, size_of_value(x));
  }
  work_bytes_ = values_bytes_;
}

std::string Plan::listing() const {
  std::string s;
  for (auto& step : order_) {
    auto& c = graph_.calls[size_t(step.call)];
    if (&step - order_.data() == long(early_)) s += "-- predicate --\n";
    s += "  " + c.op->name + " [" + step.kernel_name + "]";
    for (int v : c.out) {
      const Storage& m = storages_[size_t(v)];
      s += " " + str(graph_.values[size_t(v)]) +
           (m.kind == Storage::kArena ? concat({"@", m.offset}) : concat({" result ", m.index}));
    }
    if (c.name) s += " \"" + *c.name + "\"";
    s += "\n";
  }
  return s;
}

std::shared_ptr<Plan::Run> Plan::acquire() const {
  std::unique_ptr<Run> r;
  {
    std::lock_guard l(pool_->mutex);
    if (!pool_->free.empty()) r = std::move(pool_->free.back()), pool_->free.pop_back();
  }
  if (!r) {
    r = std::make_unique<Run>();
    r->arena = make_buffer(arena_bytes_, on_);
    r->ptr.resize(graph_.values.size());
    size_t arity = 0;
    for (auto& c : graph_.calls) arity = std::max(arity, c.in.size() + c.out.size());
    r->views.resize(arity);
    r->results.resize(graph_.results.size()), r->spare.resize(graph_.results.size());
    r->leaves.reserve(graph_.leaves.size() + graph_.constants.size());
    auto* base = static_cast<char*>(r->arena->data());
    for (size_t v = 0; v < storages_.size(); ++v)
      if (storages_[v].kind == Storage::kArena && storages_[v].offset >= 0)
        r->ptr[v] = base + storages_[v].offset;
    for (auto& [v, b] : graph_.constants) r->ptr[size_t(v)] = b->data();
  }
  return std::shared_ptr<Run>(
      r.release(),
      [p = pool_](Run* r) {  // also on an exception: the arena goes back, nothing else happened
        r->leaves.clear();
        for (auto& b : r->results) b.reset();
        std::lock_guard l(p->mutex);
        p->free.emplace_back(r);
      });
}

void Plan::bind(Run& r, std::vector<BufferPtr> leaves, const std::vector<char>& over) const {
  r.leaves.clear();
  for (BufferPtr& b : leaves) r.leaves.push_back(placed(b, on_));
  for (size_t i = 0; i < graph_.leaves.size(); ++i)
    r.ptr[size_t(graph_.leaves[i])] = r.leaves[i]->data();
  for (auto& [v, b] : graph_.constants) r.leaves.push_back(b);
  for (size_t i = 0; i < graph_.results.size(); ++i) {
    const int v = storage_[size_t(graph_.results[i])];
    const Storage& s = storages_[size_t(v)];
    if (s.kind == Storage::kLeaf)
      r.results[i] = r.leaves[size_t(s.index)];
    else if (s.index != int(i))
      r.results[i] = r.results[size_t(s.index)];  // one value, two results: shared, never copied
    else if (roles_[i].over >= 0 && (over.empty() || !over[i]))
      continue;  // decided when it commits
    else {
      if (!r.spare[i] || r.spare[i].use_count() != 1)
        r.spare[i] =
            make_buffer(graph_.values[size_t(v)].bytes(), on_);  // results never lie in the arena
      std::atomic_thread_fence(std::memory_order_acquire);
      written(*r.spare[i]);
      r.results[i] = r.spare[i];
      r.ptr[size_t(v)] = r.spare[i]->data();
    }
  }
}

void Plan::place(Run& r, size_t i, const BufferPtr& buffer) const {
  const int v = storage_[size_t(graph_.results[i])];
  r.ptr[size_t(v)] = buffer->data();
  written(*buffer);
  for (size_t j = 0; j < graph_.results.size(); ++j)
    if (storage_[size_t(graph_.results[j])] == v)
      r.results[j] = buffer;  // one value proposed to two variables
}

bool Plan::accumulates(size_t i) const {
  const int v = graph_.results[i];
  if (storage_[size_t(v)] != v || std::count(graph_.results.begin(), graph_.results.end(), v) != 1)
    return false;
  for (auto& s : order_)
    if (s.result == int(i)) return s.accumulates;
  return false;
}

void Plan::execute_at(Run& r, std::span<void* const> leaves, std::span<void* const> results,
                      std::span<const char> accumulate) const {
  for (size_t i = 0; i < leaves.size(); ++i) r.ptr[size_t(graph_.leaves[i])] = leaves[i];
  for (size_t i = 0; i < results.size(); ++i) {
    const int v = storage_[size_t(graph_.results[i])];
    const Storage& s = storages_[size_t(v)];
    if (s.kind == Storage::kResult && s.index == int(i)) r.ptr[size_t(v)] = results[i];
  }
  r.accumulate = accumulate, r.nested = true;
  execute(r, false);
  execute(r, true);
  r.accumulate = {}, r.nested = false;
  for (size_t i = 0; i < results.size(); ++i) {  // a leaf, or the same value as another result
    const int v = storage_[size_t(graph_.results[i])];
    if (void* at = r.ptr[size_t(v)]; at != results[i])
      std::memcpy(results[i], at, size_t(graph_.values[size_t(v)].bytes()));
  }
}

void check_finite(std::span<const View> out) {
  for (auto& v : out) {
    if (!is_floating(v.dtype())) continue;
    visit(v.dtype(), [&](auto zero) {
      using T = decltype(zero);
      if constexpr (!std::is_integral_v<T>)
        for (int64_t i = 0; i < v.count(); ++i)
          if (!std::isfinite(double(compute_t<T>(v.as<T>()[i]))))
            fail(Code::OutOfRange,
                 {"element ", i, " of output ", &v - out.data(), " ", str(*v.sig), " is ",
                  double(compute_t<T>(v.as<T>()[i])), ", expected a finite number"});
    });
  }
}

namespace {
void check_finite_on(Accelerator& on, std::span<const View> out) {
  std::vector<BufferPtr> copies;
  std::vector<View> views(out.begin(), out.end());
  for (View& v : views) {
    copies.push_back(make_buffer(v.sig->bytes()));
    on.download(copies.back()->data(), v.data, v.sig->bytes());
    v.data = copies.back()->data();
  }
  check_finite(views);
}
}  // namespace

const std::shared_ptr<const KernelCall>& Plan::described(size_t position) const {
  std::call_once(descriptions_->made, [&] {
    for (const Step& s : order_) {
      auto& c = graph_.calls[size_t(s.call)];
      KernelCall k{.op = c.op->name,
                   .kernel = s.kernel_name,
                   .name = c.name ? *c.name : "",
                   .in = {},
                   .out = graph_.sigs(c.out),
                   .cost = {}};
      for (const AttrValue& a : c.op->get_attrs(c.attrs.get()))
        k.has_graph = k.has_graph || std::holds_alternative<SubGraphPtr>(a);
      for (size_t i = 0; i < c.in.size(); ++i) {
        k.in.push_back(graph_.values[size_t(c.in[i])]);
        k.cost.bytes += shape_only(c, i) ? 0 : double(k.in[i].bytes());
      }
      for (auto& o : k.out) k.cost.bytes += double(o.bytes());
      if (c.op->cost) k.cost.flops = c.op->cost({k.in, k.out}, c.attrs.get()).flops;
      descriptions_->calls.push_back(std::make_shared<const KernelCall>(std::move(k)));
    }
  });
  return descriptions_->calls[position];
}

// Values that lie where they lay in an earlier run: the second time the work is recorded, from then
// on it is asked for as a whole. A training step finds its variables in the same two places.
bool Plan::replay(Run& r, bool late, const std::function<void()>& body) const {
  constexpr size_t kMost = 4;
  auto& known = r.recorded[late];
  for (size_t i = 0; i < known.size(); ++i) {
    if (known[i].ptr != r.ptr) continue;
    if (!known[i].work) known[i].work = on_->record(body);
    if (!known[i].work) return false;
    on_->replay(*known[i].work);
    std::rotate(known.begin(), known.begin() + long(i), known.begin() + long(i) + 1);
    return true;
  }
  if (known.size() == kMost) known.pop_back();
  known.insert(known.begin(), {r.ptr, nullptr});
  return false;
}

void Plan::execute(Run& r, bool late) const {
  const size_t begin = late ? early_ : 0, end = late ? order_.size() : early_;
  if (begin == end) return;
  const bool watched = Watched::on();
  auto body = [&] {
    View* in = r.views.data();
    char* base = static_cast<char*>(r.arena->data());
    for (size_t p = begin; p < end; ++p) {
      const Step& s = order_[p];
      auto& c = graph_.calls[size_t(s.call)];
      View* out = in + c.in.size();
      for (size_t i = 0; i < c.in.size(); ++i)
        in[i] = {&graph_.values[size_t(c.in[i])], r.ptr[size_t(storage_[size_t(c.in[i])])]};
      for (size_t i = 0; i < c.out.size(); ++i)
        out[i] = {&graph_.values[size_t(c.out[i])], r.ptr[size_t(storage_[size_t(c.out[i])])]};
      if (on_ && watched) on_->synchronize();
      std::optional<Watched> watch;
      if (watched) watch.emplace(r.nested);
      try {
        s.kernel.run({{in, c.in.size()},
                      {out, c.out.size()},
                      s.scratch >= 0 ? base + s.scratch : nullptr,
                      s.accumulates && s.result >= 0 && !r.accumulate.empty() &&
                          r.accumulate[size_t(s.result)],
                      on_});
        if (checks_nan())
          on_ ? check_finite_on(*on_, {out, c.out.size()}) : check_finite({out, c.out.size()});
      } catch (const Error& e) {
        fail(e.code(), {c.op->name, c.name ? " \"" + *c.name + "\"" : "", ": ", e.what(), ", at ",
                        str(c.where)});
      } catch (const std::bad_alloc&) {
        fail(Code::ResourceExhausted, {c.op->name, c.name ? " \"" + *c.name + "\"" : "",
                                       ": there is not enough memory, at ", str(c.where)});
      }
      if (on_ && watched) on_->synchronize();
      if (watch) watch->done(described(p));
    }
  };
  run_counters().kernels += int64_t(end - begin);
  if (on_ && !Watched::on() && !checks_nan() && replay(r, late, body)) return;
  // Ranks in one process wait for each other, so a rank's run must not queue behind another's.
  if (work_bytes_ >= kHeavy && !Communicator::current() && !on_)
    on_executor(body);
  else
    body();
}

}  // namespace evenflow
