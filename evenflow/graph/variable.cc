// SPDX-License-Identifier: Apache-2.0
// Variables, transactions, steps.
#include "evenflow/graph/variable.h"

#include <algorithm>
#include <cstring>

#include "evenflow/graph/op.h"
#include "evenflow/graph/transaction.h"

namespace evenflow {
namespace {
std::atomic<uint32_t> scopes = 0;
std::atomic<uint64_t> states = 0;
constexpr int kMaxSkips = 20;
bool truth(const BufferPtr& b) { return *static_cast<const bool*>(b->data()); }
}  // namespace

std::shared_mutex& state_mutex() {
  static std::shared_mutex m;
  return m;
}
std::shared_mutex& walk_mutex() {
  static std::shared_mutex m;
  return m;
}
VarPtr make_state(const Sig& sig, BufferPtr value, VariableOptions o) {
  auto s = std::make_shared<VarState>();
  s->id = ++states, s->sig = sig, s->value = std::move(value), s->commit = o.commit,
  s->fixed_address = o.fixed_address;
  s->name = o.name.empty() ? concat({"variable_", s->id}) : std::move(o.name);
  return s;
}
void publish(VarState& v, const BufferPtr& b) {
  if (v.fixed_address)
    std::memcpy(v.value->data(), placed(b, nullptr)->data(), size_t(v.sig.bytes()));
  else
    v.value = b;
  ++v.version;
}
std::vector<std::unique_lock<std::mutex>> lock_writers(std::vector<VarState*> order) {
  std::sort(order.begin(), order.end(), [](auto* a, auto* b) { return a->id < b->id; });
  std::vector<std::unique_lock<std::mutex>> locks;
  locks.reserve(order.size());
  for (auto* v : order) locks.emplace_back(v->writer);
  return locks;
}
void count_skip(int& in_a_row, bool committed) {
  in_a_row = committed ? 0 : in_a_row + 1;
  if (in_a_row < kMaxSkips) return;
  in_a_row = 0;
  fail(Code::FailedPrecondition,
       {"step: ", kMaxSkips,
        " steps in a row were skipped by require(), as by gradients that are not finite"});
}

// ---- transactions
// -----------------------------------------------------------------------------------------------------
Transaction*& Transaction::current() {
  static thread_local Transaction* t = nullptr;
  return t;
}
Transaction::Transaction(Kind k) : kind(k), outer(current()), scope(++scopes) {
  if (outer && k == kStep)
    fail(Code::FailedPrecondition,
         {"step: a ", outer->tracing() ? "trace" : "step", " is already open on this thread"});
  current() = this;
}
Transaction::~Transaction() { current() = outer; }
Transaction* Transaction::root() {
  Transaction* t = this;
  while (t->outer) t = t->outer;
  return t;
}
Edge* Transaction::proposal(const VarPtr& v) {
  for (auto& [x, e] : proposals)
    if (x == v) return &e;
  return nullptr;
}
void Transaction::propose(const VarPtr& v, const Tensor& t) {
  if (Edge* e = proposal(v))
    *e = t.edge();
  else
    proposals.push_back({v, t.edge()});
}

// ---- variables
// ------------------------------------------------------------------------------------------------------------
Variable::Variable(In init, VariableOptions o) {
  Tensor t = init.as();
  BufferPtr b = t.buffer();
  if (b->imported() || o.fixed_address)
    b = copy_of(*b, t.sig().bytes());  // a variable owns its memory: it is written in place
  state_ =
      make_state(t.sig(), std::move(b),
                 std::move(o));  // never a node: state holds buffers only, so no cycle can form
}
const Sig& Variable::sig() const {
  if (!state_) fail({"variable: it is empty"});
  return state_->sig;
}
const std::string& Variable::name() const {
  if (!state_) fail({"variable: it is empty"});
  return state_->name;
}
uint64_t Variable::version() const {
  if (!state_) fail({"variable: it is empty"});
  std::shared_lock l(state_mutex());
  return state_->version;
}
namespace {
// The committed value; the same node for each read of a transaction.
Tensor committed(const VarPtr& v, Where w) {
  Transaction* root = Transaction::current() ? Transaction::current()->root() : nullptr;
  if (root)
    for (auto& [x, e] : root->reads)
      if (x == v) return Tensor(e);
  Tensor t;
  if (root &&
      root->kind ==
          Transaction::kTrace) {  // belongs to the root trace, also when first read inside a branch
    t = placeholder(v->sig, -1, v);
    t.edge().node->scope = root->scope, t.edge().node->where = w;
  } else {
    auto n = make_leaf_node(read_op(), v->sig, w);
    n->var = v, n->tracked = true;
    std::shared_lock l(state_mutex());
    n->values = {v->value};  // pins this version
    if (v->fixed_address) n->values = {copy_of(*v->value, v->sig.bytes())};
    n->ready.store(true, std::memory_order_release);
    t = Tensor({n, 0});
    if (root) root->versions.push_back(v->version);
  }
  if (root) root->reads.push_back({v, t.edge()});
  return t;
}
// What v is for code that runs in t: a proposal of t or around it, the parameter that carries it,
// or nothing.
Tensor proposed(Transaction* t, const VarPtr& v, Where w) {
  auto carried = [&]() -> Edge* {
    for (auto& [x, e] : t->carried)
      if (x == v) return &e;
    return nullptr;
  };
  for (; t; t = t->outer) {
    Edge* p = t->proposal(v);
    if (!p) {
      if (Edge* e = carried()) return Tensor(*e);
      continue;
    }
    if (t->kind == Transaction::kBranch) {
      Edge* e = carried();
      Tensor before = e ? Tensor(*e) : proposed(t->outer, v, w);
      if (!before) before = committed(v, w);
      return call(assigned_op(), {In(Tensor(*p), w), In(before, w)})[0];
    }
    auto n = make_leaf_node(read_op(), v->sig, w);  // read your own write: the proposed value, cut
    n->in = {*p}, n->var = v, n->tracked = true, n->symbolic = p->node->symbolic;
    n->scope = t->scope;  // a branch captures it
    if (!n->symbolic) {
      t->made.push_back(n);
      if (eager() == Eager::immediate)
        run_now(*n);
      else
        pending().push_back(n);
    }
    return Tensor({n, 0});
  }
  return {};
}
}  // namespace

Tensor Variable::read(Where w) const {
  if (!state_) fail({"variable: it is empty, at ", str(w)});
  Tensor t = proposed(Transaction::current(), state_, w);
  return t ? t : committed(state_, w);
}
void Variable::assign(In in) const {
  if (!state_) fail({"assign: the variable is empty, at ", str(in.where)});
  Tensor x = in.as(state_->sig.dtype);
  if (!x) fail({"assign \"", state_->name, "\": value is an empty tensor, at ", str(in.where)});
  if (!(x.sig() == state_->sig))
    fail({"assign \"", state_->name, "\": value is ", str(x.sig()), ", expected ", str(state_->sig),
          ", at ", str(in.where)});
  if (auto* t = Transaction::current()) return t->propose(state_, x);
  if (x.edge().node->symbolic)
    fail(Code::FailedPrecondition,
         {"assign \"", state_->name, "\": this tensor belongs to a trace that has ended, at ",
          str(in.where)});
  flush();  // a transaction of its own: whatever is held and was built on the old value runs now
  BufferPtr b = x.buffer();
  if (b->imported()) b = copy_of(*b, x.sig().bytes());
  std::lock_guard w(state_->writer);
  std::unique_lock l(state_mutex());
  publish(*state_, b);
}
void Variable::assign_add(In x) const {
  assign({call(find_op("add"), {In(read(x.where), x.where), x})[0], x.where});
}
void Variable::assign_sub(In x) const {
  assign({call(find_op("subtract"), {In(read(x.where), x.where), x})[0], x.where});
}

void require(In p) {
  auto* t = Transaction::current();
  if (!t) fail(Code::FailedPrecondition, {"require: no step is open, at ", str(p.where)});
  Tensor x = p.as();
  if (t->kind == Transaction::kBranch)
    fail(Code::FailedPrecondition,
         {"require: a predicate of a branch or loop body cannot leave it, at ", str(p.where)});
  if (x.sig() != Sig{DType::boolean, {}})
    fail({"require: predicate is ", str(x.sig()), ", expected bool[], at ", str(p.where)});
  t->predicates.push_back(x.edge());
}

int64_t Setting::get() const {
  const int64_t v = value_->load();
  if (auto* t = Transaction::current())
    if (t = t->root(); t->tracing()) t->settings.push_back({value_, v});
  return v;
}

// ---- steps
// ------------------------------------------------------------------------------------------------------------------
Step::Step() : transaction_(new Transaction(Transaction::kStep)) {}
Step::~Step() = default;
bool Step::commit() {
  static thread_local int skips = 0;
  if (!transaction_) fail(Code::FailedPrecondition, {"step: it was committed already"});
  Transaction& t = *transaction_;
  std::vector<Edge> want = t.predicates;
  for (auto& [v, e] : t.proposals) want.push_back(e);
  for (auto& w : pending())
    if (auto n = w.lock(); n && n->handles > 0 && !n->ready)
      want.push_back({n, 0});                         // what the user still holds
  std::vector<BufferPtr> got = evaluate(want, true);  // may throw: nothing has happened
  bool ok = true;
  const size_t np = t.predicates.size();
  for (size_t i = 0; i < np; ++i) ok &= truth(got[i]);
  std::vector<VarState*> order;
  for (size_t i = 0; i < t.proposals.size(); ++i) {
    order.push_back(t.proposals[i].first.get());
    if (BufferPtr& b = got[np + i]; b->imported())
      b = copy_of(*b, order[i]->sig.bytes());  // state is ours to write
  }
  {
    auto locks = lock_writers(order);
    std::unique_lock l(state_mutex());
    for (size_t i = 0; i < t.reads.size(); ++i)
      if (t.reads[i].first->version != t.versions[i])
        fail(Code::FailedPrecondition, {"step: conflict, variable \"", t.reads[i].first->name,
                                        "\" was committed by another thread"});
    for (size_t i = 0; i < t.proposals.size(); ++i)
      if (auto& v = *t.proposals[i].first; ok || v.commit != Commit::Step) publish(v, got[np + i]);
  }
  std::vector<Edge> dropped;
  std::vector<NodePtr> made;
  for (auto& w : t.made)
    if (auto n = w.lock()) made.push_back(n);
  {
    std::unique_lock walk(walk_mutex());
    for (auto& n : made) {
      for (auto& e : n->in) dropped.push_back(std::move(e));
      n->in.clear();
      n->cut = true;
    }
  }
  pending().clear();
  transaction_.reset();  // history ends with the step: what it made is now a value
  count_skip(skips, ok);
  return ok;
}

}  // namespace evenflow
