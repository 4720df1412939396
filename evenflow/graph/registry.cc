// SPDX-License-Identifier: Apache-2.0
// The registry of operations and kernels, and the choice of a kernel.
#include <algorithm>
#include <bit>
#include <climits>
#include <mutex>
#include <unordered_map>

#include "evenflow/core/log.h"
#include "evenflow/core/parallel.h"
#include "evenflow/graph/op.h"

namespace evenflow {

const OpEntry*& OpEntry::head() {
  static constinit const OpEntry* h = nullptr;
  return h;
}
OpEntry::OpEntry(const char* n, const OpDef& (*d)()) : name(n), def(d), next(head()) {
  head() = this;
}
const KernelEntry*& KernelEntry::head() {
  static constinit const KernelEntry* h = nullptr;
  return h;
}
KernelEntry::KernelEntry(const char* o, const char* n, KernelDef (*m)(), bool g)
    : op(o), name(n), make(m), gpu(g), next(head()) {
  head() = this;
}
const GenericKernelEntry*& GenericKernelEntry::head() {
  static constinit const GenericKernelEntry* h = nullptr;
  return h;
}
GenericKernelEntry::GenericKernelEntry(std::optional<KernelDef> (*m)(const OpDef&), bool g)
    : make(m), gpu(g), next(head()) {
  head() = this;
}

namespace {
// Both tables are rebuilt when a plug-in has added entries: the list's head tells.
template <class Entry, class Value>
struct Table {
  std::mutex mutex;
  const Entry* seen = nullptr;
  std::unordered_map<std::string_view, Value> by_name;
};

// Letters apart, counted with one row of the table (Levenshtein).
size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0]++;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t above = row[j + 1];
      row[j + 1] = std::min({above + 1, row[j] + 1, diagonal + (a[i] != b[j])});
      diagonal = above;
    }
  }
  return row[b.size()];
}
}  // namespace

const OpDef& find_op(std::string_view name) {
  static Table<OpEntry, const OpEntry*> table;
  std::lock_guard lock(table.mutex);
  for (auto* e = OpEntry::head(); e != table.seen; e = e->next) table.by_name.emplace(e->name, e);
  table.seen = OpEntry::head();
  if (auto it = table.by_name.find(name); it != table.by_name.end()) return it->second->def();
  std::string_view nearest;
  size_t best = name.size() / 2 + 2;
  for (auto& [n, e] : table.by_name)
    if (size_t d = distance(n, name); d < best || (d == best && n < nearest)) best = d, nearest = n;
  fail(Code::NotFound, {"operation \"", name, "\" is not known",
                        nearest.empty() ? "" : concat({"; the nearest is \"", nearest, "\""})});
}

std::vector<const OpDef*> all_ops() {
  std::vector<const OpDef*> r;
  for (auto* e = OpEntry::head(); e; e = e->next) r.push_back(&e->def());
  std::sort(r.begin(), r.end(), [](auto* a, auto* b) { return a->name < b->name; });
  return r;
}

const std::vector<KernelDef>& OpDef::kernels(bool gpu) const {
  static std::mutex mutex;
  using Made = std::unordered_map<const OpDef*, std::vector<KernelDef>>;
  static Made made_for[2];
  static thread_local std::unordered_map<const OpDef*, const std::vector<KernelDef>*>
      mine_for[2];  // no lock on the way of every call
  auto& mine = mine_for[gpu];
  if (auto it = mine.find(this); it != mine.end()) return *it->second;
  std::lock_guard lock(mutex);
  auto [it, fresh] = made_for[gpu].try_emplace(this);
  if (fresh) {
    auto& list = it->second;
    for (auto* e = KernelEntry::head(); e; e = e->next)
      if (e->gpu == gpu && name == e->op) list.push_back(e->make());
    for (auto* e = GenericKernelEntry::head(); e; e = e->next)
      if (e->gpu != gpu)
        continue;
      else if (auto k = e->make(*this)) {
        k->priority = INT_MIN;
        list.push_back(std::move(*k));
      }
    std::sort(list.begin(), list.end(), [](auto& a, auto& b) {
      return a.priority != b.priority ? a.priority > b.priority : a.name < b.name;
    });
  }
  mine.emplace(this, &it->second);
  return it->second;
}

namespace {
// Kernels that take long to prepare (library primitives), for calls outside plans: least recently
// used first out.
struct PreparedCache {
  std::mutex mutex;
  std::unordered_map<Key, std::pair<Prepared, uint64_t>, KeyHash> map;
  uint64_t clock = 0;
};
Prepared prepare_kept(const OpDef& op, const KernelDef& k, const CallSig& sig,
                      const AttrPtr& attrs) {
  static PreparedCache cache;
  Key key{std::bit_cast<uint64_t>(&op), std::hash<std::string>{}(k.name),
          uint64_t(available_threads()), std::bit_cast<uint64_t>(sig.on)};
  for (auto& s : sig.in) append(key, s);
  for (auto& s : sig.out) append(key, s);
  for (auto& v : op.get_attrs(attrs.get())) append(key, v);
  {
    std::lock_guard lock(cache.mutex);
    if (auto it = cache.map.find(key); it != cache.map.end()) {
      it->second.second = ++cache.clock;
      return it->second.first;
    }
  }
  Prepared p = k.prepare(sig, attrs.get());
  std::lock_guard lock(cache.mutex);
  if (cache.map.size() >= 512)
    cache.map.erase(std::min_element(cache.map.begin(), cache.map.end(), [](auto& a, auto& b) {
      return a.second.second < b.second.second;
    }));
  cache.map.emplace(std::move(key), std::pair{p, ++cache.clock});
  return p;
}
// "add(f32[3], f32[3]) cpu: "
std::string describe(const OpDef& op, const CallSig& sig) {
  std::string s = op.name + "(";
  for (size_t i = 0; i < sig.in.size(); ++i) s += (i ? ", " : "") + str(sig.in[i]);
  return s + ") " + (sig.on ? str(sig.on->device()) : "cpu") + ": ";
}
}  // namespace

std::optional<BatchRule> pointwise_batch(const CallSig& c) {
  BatchRule r;
  const Shape& out = c.out[0].shape;
  for (const Sig& s : c.out)
    if (s.shape != out) return {};
  if (!out.rank() || c.in.size() > 64) return {};
  for (size_t i = 0; i < c.in.size(); ++i)
    if (c.in[i].shape.rank() < out.rank() || c.in[i].shape[0] != out[0])
      r.whole |= uint64_t(1) << i;
  return r;
}

Selected select_kernel(const OpDef& op, const CallSig& sig, const AttrPtr& attrs) {
  std::string declined;
  for (const KernelDef& k : op.kernels(bool(sig.on))) {
    std::string why = k.declines ? k.declines(sig, attrs.get()) : std::string();
    if (why.empty()) {
      if (logs(Topic::dispatch))
        log(Topic::dispatch, describe(op, sig) + declined + k.name + ": chosen");
      return {k.costly ? prepare_kept(op, k, sig, attrs) : k.prepare(sig, attrs.get()), k.name,
              k.accumulates};
    }
    if (logs(Topic::dispatch)) declined += k.name + " declined (" + why + "); ";
  }
  if (!op.loop || sig.on) {
    if (logs(Topic::dispatch)) log(Topic::dispatch, describe(op, sig) + declined + "reference");
    return {};
  }
  if (logs(Topic::dispatch)) log(Topic::dispatch, describe(op, sig) + declined + "loop: chosen");
  return {Prepared{[&op, attrs](const Call& c) { op.loop(c, attrs.get()); }, 0}, "loop"};
}

bool has_kernel(const OpDef& op, const CallSig& sig, const void* attrs) {
  if (op.loop && !sig.on) return true;
  for (const KernelDef& k : op.kernels(bool(sig.on)))
    if (!k.declines || k.declines(sig, attrs).empty()) return true;
  return false;
}

}  // namespace evenflow
