// SPDX-License-Identifier: Apache-2.0
#include "evenflow/graph/compile.h"

#include <algorithm>

#include "evenflow/core/communicator.h"
#include "evenflow/core/log.h"
#include "evenflow/graph/hoist.h"
#include "evenflow/graph/pass.h"
#include "evenflow/graph/picture.h"
#include "evenflow/graph/program.h"

namespace evenflow {
namespace {
thread_local bool last_committed = true;

std::string describe(const Sigs& s) {
  std::string r = "(";
  for (auto& x : s) r += (r.size() > 1 ? ", " : "") + str(x);
  return r + ")";
}

// Results of a trace as a program: what is not symbolic is a constant, evaluated now.
Program program(const std::vector<Edge>& results, size_t outputs, size_t predicates,
                std::vector<VarPtr> targets, const Transaction& tx, bool args_allowed) {
  Program p;
  Extracted x = extract(results, [](const Node& n) { return !n.symbolic || n.in.empty(); });
  std::vector<int> leaves;
  for (size_t i = 0; i < x.leaves.size(); ++i) {
    Node& n = *x.leaves[i].node;
    const int id = x.graph.leaves[i];
    if (!n.symbolic) {
      x.graph.constants.push_back({id, Tensor(x.leaves[i]).buffer()});
      continue;
    }
    if (n.scope != tx.scope) {
      const Node* made = &n;  // rather than the other trace's argument what was made of it
      for (auto& v : x.visited)
        if (v->scope == n.scope) made = v.get();
      fail(Code::FailedPrecondition, {"compile: a tensor of another trace is used: ", str(*made)});
    }
    if (n.var)
      p.leaves.push_back({-1, n.var});
    else if (!args_allowed)
      fail(Code::FailedPrecondition, {"compile: a value of one micro-batch is used with pooled "
                                      "values, without pool() between them"});
    else
      p.leaves.push_back({n.index, nullptr});
    leaves.push_back(id);
  }
  x.graph.leaves = leaves;
  p.outputs = outputs, p.predicates = predicates, p.targets = std::move(targets);
  p.roles.resize(results.size());
  for (size_t i = 0; i < p.targets.size(); ++i) {
    auto& role = p.roles[outputs + predicates + i];
    role.late = p.targets[i]->commit == Commit::Step;
    for (size_t l = 0; l < p.leaves.size(); ++l)
      if (p.leaves[l].var == p.targets[i]) role.over = int(l);
  }
  p.graph = std::move(x.graph);
  return p;
}

// Inside the first program of a micro-batch what pool() gives is not known yet.
void refuse_pooled(const std::vector<Edge>& edges, const Transaction& tx) {
  for (auto& e : extract(edges, [](const Node& n) { return !n.symbolic || n.in.empty(); }).leaves)
    if (e.node->var && std::count(tx.accumulators.begin(), tx.accumulators.end(), e.node->var))
      fail(Code::FailedPrecondition,
           {"compile: a pooled value is returned, or written with Commit::Run, but it is known "
            "only when all micro-batches have run"});
}
// What a compiled function reads, for compiled_op.
Edge reads_of(const Program& p) {
  auto all = make_leaf_node(compiled_op(), {});
  for (auto& l : p.leaves)
    if (l.var) {
      auto n = make_leaf_node(read_op(), l.var->sig);
      n->var = l.var;
      all->in.push_back({n, 0});
    }
  return {all, 0};
}
}  // namespace

const OpDef& compiled_op() {
  static const OpDef op = [] {
    OpDef d;
    d.name = "compiled";
    d.summary = "A result of a compiled function";
    return d;
  }();
  return op;
}

struct Function::Impl {
  struct Traced {
    Sigs sigs;
    Program run, apply;
    Edge reads;  ///< of the variables that `run` reads
    bool has_apply = false, shape_seen = false;
    Passes passes = Passes::none;
    Accelerator* on = nullptr;
    bool pooled = false, grouped = false;  ///< called pool(); was there a group of ranks
    std::vector<VarPtr> accumulators;
    std::vector<std::pair<std::shared_ptr<std::atomic<int64_t>>, int64_t>> settings;
    uint64_t used = 0;
    bool modes_hold() const {
      if (pooled && grouped != bool(Communicator::current())) return false;
      return std::all_of(settings.begin(), settings.end(),
                         [](auto& s) { return s.first->load() == s.second; });
    }
  };
  CompileOptions options;
  Where where;
  std::vector<std::string> log;
  int traces = 0, skips = 0;
  std::shared_ptr<Traced> last;
  std::mutex mutex;
  std::vector<std::shared_ptr<Traced>> cache;
  uint64_t clock = 0;
  std::mutex group_mutex;  // held while a micro-batch runs; taken before `mutex`
  std::shared_ptr<Traced> group;
  int micro_done = 0;

  std::shared_ptr<Traced> find(const Sigs& sigs, const Body& body);
  std::shared_ptr<Traced> respecialised(const Traced& from, const Sigs& sigs,
                                        Accelerator* on) const;
  std::shared_ptr<Traced> traced(const Sigs& sigs, const Body& body) const;
  void plan(Program& p, Passes passes, Accelerator* on, const std::string& title) const;
  Passes passes() const {
    return options.use_reference ? Passes::none : options.passes.value_or(default_passes());
  }
  Accelerator* on() const { return accelerator(options.device.value_or(default_device())); }
  bool run(const Program& p, const std::vector<BufferPtr>& args, std::vector<BufferPtr>& outs,
           Transaction* join);
  Tensors results(const Traced& t, const Tensors& args, std::vector<BufferPtr> outs,
                  Transaction* tx) const;
  void count(bool committed) {
    std::lock_guard l(mutex);
    count_skip(skips, committed);
  }
  bool apply_group();
};

void Function::Impl::plan(Program& p, Passes passes, Accelerator* on,
                          const std::string& title) const {
  const bool writes = !p.targets.empty();
  std::vector<char> steady;
  if (!writes)
    for (auto& l : p.leaves)
      steady.push_back(l.var &&
                       !l.var->fixed_address);  // whose memory others may write without a commit
  const Graph optimised =
      optimise(p.graph, passes, {}, {options.activations, options.tile, steady, on});
  p.before = nullptr;
  if (!writes && !options.use_reference) {
    if (Hoisted h = hoist(optimised, steady); h.any()) {
      p.before = std::make_shared<Program::Before>();
      p.before->plan =
          std::make_shared<Plan>(h.before, std::vector<Role>(h.before.results.size()), false, on);
      p.before->leaves = std::move(h.leaves);
      p.plan = std::make_shared<Plan>(h.main, p.roles, false, on);
    }
  }
  if (!p.before) p.plan = std::make_shared<Plan>(optimised, p.roles, options.use_reference, on);
  picture_plan(title, p.graph, *p.plan);
}

Function::Function(CompileOptions o, Where w) : impl_(new Impl) {
  impl_->options = o, impl_->where = w;
}
Function::~Function() = default;
bool Function::committed() { return last_committed; }
int Function::traces() const {
  std::lock_guard l(impl_->mutex);
  return impl_->traces;
}
std::vector<std::string> Function::log() const {
  std::lock_guard l(impl_->mutex);
  return impl_->log;
}
Function::Stats Function::stats() const {
  std::lock_guard l(impl_->mutex);
  if (!impl_->last) return {};
  const Plan& p = *impl_->last->run.plan;
  return {p.calls(),
          p.early(),
          size_t(p.arena_bytes()),
          size_t(p.values_bytes()),
          size_t(p.in_place()),
          size_t(p.state_in_place())};
}

std::shared_ptr<Function::Impl::Traced> Function::Impl::respecialised(const Traced& from,
                                                                      const Sigs& sigs,
                                                                      Accelerator* on) const {
  auto n = std::make_shared<Traced>(from);
  for (Program* p : {&n->run, &n->apply}) {
    if (p == &n->apply && !n->has_apply) continue;
    Sigs leaf;
    for (size_t i = 0; i < p->leaves.size(); ++i)
      leaf.push_back(p->leaves[i].arg >= 0 ? sigs[size_t(p->leaves[i].arg)]
                                           : p->graph.values[size_t(p->graph.leaves[i])]);
    p->graph.respecialise(leaf);
    for (size_t i = 0; i < p->targets.size(); ++i)
      if (!(p->graph.values[size_t(p->graph.results[p->outputs + p->predicates + i])] ==
            p->targets[i]->sig))
        fail({"variable \"", p->targets[i]->name, "\" would change its shape"});
    plan(*p, n->passes = passes(), n->on = on,
         "compiled at " + str(where) + ", again for " + describe(sigs));
  }
  return n;
}

std::shared_ptr<Function::Impl::Traced> Function::Impl::traced(const Sigs& sigs,
                                                               const Body& body) const {
  auto t = std::make_shared<Traced>();
  Transaction tx(Transaction::kTrace);
  tx.micro_batches = options.micro_batches;
  if (last) tx.earlier = last->accumulators;
  Tensors p;
  for (size_t i = 0; i < sigs.size(); ++i) {
    p.push_back(placeholder(sigs[i], int(i)));
    p.back().edge().node->where = where;
  }
  Tensors outs = body(p);
  std::vector<Edge> run, apply;
  std::vector<VarPtr> run_targets, apply_targets;
  for (auto& o : outs) {
    if (!o) fail({"compile: the function returned an empty tensor, at ", str(where)});
    run.push_back(o.edge());
  }
  t->has_apply = tx.micro_batches > 1;
  auto& pe = t->has_apply ? apply : run;
  pe.insert(pe.end(), tx.predicates.begin(), tx.predicates.end());
  for (auto& [v, e] : tx.proposals) {
    const bool each_run = !t->has_apply || v->commit == Commit::Run;
    (each_run ? run : apply).push_back(e);
    (each_run ? run_targets : apply_targets).push_back(v);
  }
  if (t->has_apply) {
    std::vector<Edge> now(run.begin(), run.begin() + long(outs.size()));
    for (size_t i = 0; i < run_targets.size(); ++i)
      if (!std::count(tx.accumulators.begin(), tx.accumulators.end(), run_targets[i]))
        now.push_back(run[outs.size() + i]);
    refuse_pooled(now, tx);
  }
  t->run =
      program(run, outs.size(), t->has_apply ? 0 : tx.predicates.size(), run_targets, tx, true);
  if (t->has_apply) t->apply = program(apply, 0, tx.predicates.size(), apply_targets, tx, false);
  t->reads = reads_of(t->run);
  t->shape_seen = tx.shape_seen, t->accumulators = tx.accumulators,
  t->settings = std::move(tx.settings);
  t->pooled = tx.pooled, t->grouped = Communicator::current();
  return t;
}

std::shared_ptr<Function::Impl::Traced> Function::Impl::find(const Sigs& sigs, const Body& body) {
  Accelerator* const on = this->on();
  std::lock_guard l(mutex);
  for (auto& t : cache)
    if (t->sigs == sigs && t->passes == passes() && t->on == on && t->modes_hold()) {
      t->used = ++clock;
      return last = t;
    }
  std::string why = "first call";
  std::shared_ptr<Traced> t;
  for (auto& c : cache) {  // the same trace for other extents, if it never looked at one
    if (c->sigs.size() != sigs.size()) {
      why = "number of arguments";
      continue;
    }
    bool same_rank = true;
    for (size_t i = 0; i < sigs.size(); ++i)
      same_rank &=
          sigs[i].dtype == c->sigs[i].dtype && sigs[i].shape.rank() == c->sigs[i].shape.rank();
    if (!same_rank) {
      why = "element type or rank " + describe(c->sigs) + " -> " + describe(sigs);
      continue;
    }
    if (!c->modes_hold()) {
      why = c->pooled && c->grouped != bool(Communicator::current())
                ? "it pools, and whether there is a group of ranks has changed"
                : "a setting that was read has changed";
      continue;
    }
    if (c->shape_seen) {
      why = "shape " + describe(c->sigs) + " -> " + describe(sigs) +
            ", and the traced function looked at a shape";
      continue;
    }
    try {
      t = respecialised(*c, sigs, on);
      why.clear();
      break;
    } catch (const Error& e) {
      why = std::string("does not fit the kept trace: ") + e.what();
    }
  }
  if (!t) {
    Detached detached;
    std::string line = "traced at " + str(where) + " for " + describe(sigs) + ": " + why;
    if (logs(Topic::trace)) evenflow::log(Topic::trace, line);
    log.push_back(std::move(line));
    ++traces;
    t = traced(sigs, body);
    for (Program* p : {&t->run, &t->apply}) {
      if (p == &t->apply && !t->has_apply) continue;
      plan(*p, t->passes = passes(), t->on = on,
           "compiled at " + str(where) + " for " + describe(sigs) +
               (p == &t->apply ? ", applying the step" : ""));
    }
  }
  t->sigs = sigs, t->used = ++clock;
  if (!cache.empty() && cache.size() >= options.max_plans)
    cache.erase(std::min_element(cache.begin(), cache.end(),
                                 [](auto& a, auto& b) { return a->used < b->used; }));
  cache.push_back(t);
  return last = t;
}

namespace {
// What depends on variables alone, made now unless it is there for these versions.
void add_steady(Program::Before& b, std::vector<BufferPtr>& leaves,
                const std::vector<uint64_t>& versions) {
  {
    std::lock_guard l(b.mutex);
    if (!versions.empty() && versions == b.versions)
      return void(leaves.insert(leaves.end(), b.values.begin(), b.values.end()));
  }
  std::vector<BufferPtr> in;
  for (int i : b.leaves) in.push_back(leaves[size_t(i)]);
  auto run = b.plan->acquire();
  b.plan->bind(*run, std::move(in));
  b.plan->execute(*run, false);
  b.plan->execute(*run, true);
  leaves.insert(leaves.end(), run->results.begin(), run->results.end());
  std::lock_guard l(b.mutex);
  b.versions = versions, b.values = run->results;
}
}  // namespace

// One run: snapshot, early part, predicate, late part with commit. An exception before the commit
// leaves no trace.
bool Function::Impl::run(const Program& p, const std::vector<BufferPtr>& args,
                         std::vector<BufferPtr>& outs, Transaction* join) {
  std::vector<std::unique_lock<std::mutex>> locks;
  if (!p.targets.empty() && !join) {
    std::vector<VarState*> order;
    for (auto& v : p.targets) order.push_back(v.get());
    locks = lock_writers(std::move(order));
  }
  if (join)
    for (auto& l : p.leaves)
      if (l.var)
        if (Edge* e = join->proposal(l.var)) evaluate({*e});
  std::vector<BufferPtr> leaves;
  std::vector<uint64_t>
      versions;  // of what the early part reads; none inside a step, which may have written
  leaves.reserve(p.leaves.size());
  {
    std::shared_lock snapshot(state_mutex());
    for (auto& l : p.leaves) {
      if (l.arg >= 0) {
        leaves.push_back(args[size_t(l.arg)]);
        continue;
      }
      Edge* e = join ? join->proposal(l.var) : nullptr;
      if (join && !e)  // a step reads one version of a variable
        for (auto& r : join->reads)
          if (r.first == l.var) e = &r.second;
      if (e)
        leaves.push_back(e->node->values[size_t(e->out)]);
      else
        leaves.push_back(l.var->fixed_address
                             ? copy_of(*l.var->value, l.var->sig.bytes())
                             : l.var->value);  // memory that stays is written in place
      if (join && !e) {
        auto n = make_leaf_node(read_op(), l.var->sig);  // the step now depends on this version
        n->var = l.var, n->tracked = true, n->values = {leaves.back()};
        n->ready.store(true, std::memory_order_release);
        join->reads.push_back({l.var, {n, 0}});
        join->versions.push_back(l.var->version);
      }
    }
    if (p.before && !join)
      for (int i : p.before->leaves) versions.push_back(p.leaves[size_t(i)].var->version);
  }
  if (p.before) add_steady(*p.before, leaves, versions);
  const Plan& plan = *p.plan;
  auto r = plan.acquire();
  const size_t first = p.outputs + p.predicates;
  if (join) {  // inside an eager step: its proposals join the step's
    plan.bind(*r, std::move(leaves), std::vector<char>(plan.graph().results.size(), 1));
    plan.execute(*r, false);
    plan.execute(*r, true);
    for (size_t i = 0; i < p.predicates; ++i)
      join->predicates.push_back(
          tensor(plan.result_sig(p.outputs + i), r->results[p.outputs + i]).edge());
    for (size_t i = 0; i < p.targets.size(); ++i)
      join->propose(p.targets[i], tensor(p.targets[i]->sig, r->results[first + i]));
    outs.assign(r->results.begin(), r->results.begin() + long(p.outputs));
    return true;
  }
  plan.bind(*r, std::move(leaves));
  plan.execute(*r, false);
  bool ok = true;
  for (size_t i = 0; i < p.predicates; ++i)
    ok &= *static_cast<const bool*>(placed(r->results[p.outputs + i], nullptr)->data());
  for (size_t i = 0; i < p.targets.size();
       ++i)  // state is ours to write; somebody else's memory is not
    if (BufferPtr& b = r->results[first + i]; b && b->imported())
      b = copy_of(*b, p.targets[i]->sig.bytes());
  if (!p.targets.empty()) {
    std::unique_lock commit(state_mutex());  // no snapshot can be taken while state is written over
    if (ok) {
      for (size_t i = 0; i < p.targets.size(); ++i) {
        if (plan.roles()[first + i].over < 0) continue;
        auto& v = *p.targets[i];
        auto& spare = r->spare[first + i];
        const bool ours =
            v.value.use_count() == 2 &&
            !v.value->imported() &&  // the variable's and this run's own: write over it
            v.value->accelerator() == plan.on();
        std::atomic_thread_fence(
            std::memory_order_acquire);  // what others read of it came before they let go
        if (ours || (v.fixed_address && !plan.on()))
          plan.place(*r, first + i, v.value);
        else {
          if (!spare || spare.use_count() != 1) spare = make_buffer(v.sig.bytes(), plan.on());
          plan.place(*r, first + i, spare);
        }
      }
      plan.execute(*r, true);
    }
    for (size_t i = 0; i < p.targets.size(); ++i) {
      auto& v = *p.targets[i];
      BufferPtr& b = r->results[first + i];
      if (!ok && v.commit == Commit::Step) continue;
      if (b == v.value) {
        ++v.version;
        continue;
      }
      BufferPtr old = v.value;
      publish(v, b);
      if (BufferPtr& spare = r->spare[plan.home(first + i)]; spare == b && !v.fixed_address)
        spare = old->accelerator() == plan.on() ? old : nullptr;  // ping-pong
    }
  }
  outs.assign(r->results.begin(), r->results.begin() + long(p.outputs));
  return ok;
}

Tensors Function::operator()(const Tensors& args, const Body& body) {
  Transaction* tx = Transaction::current();
  if (tx && tx->tracing()) return body(args);  // a call inside a trace is inlined
  Sigs sigs;
  std::vector<Edge> want;
  for (auto& a : args) {
    if (!a) fail({"compile: an argument is an empty tensor, at ", str(impl_->where)});
    sigs.push_back(a.sig()), want.push_back(a.edge());
  }
  std::vector<BufferPtr> in = evaluate(want), outs;
  std::shared_ptr<Impl::Traced> t = impl_->find(sigs, body);
  if (!t->has_apply) {
    last_committed = impl_->run(t->run, in, outs, tx);
    if (t->run.predicates && !tx) impl_->count(last_committed);
    return impl_->results(*t, args, std::move(outs), tx);
  }
  if (tx)
    fail(Code::FailedPrecondition, {"compile: a function with micro-batches commits by itself; it "
                                    "cannot be called inside a Step, at ",
                                    str(impl_->where)});
  std::lock_guard one(impl_->group_mutex);
  if (impl_->micro_done && impl_->group->accumulators != t->accumulators)
    fail(Code::FailedPrecondition,
         {"compile: the micro-batches of one step pool different values, at ", str(impl_->where)});
  last_committed = impl_->run(t->run, in, outs, nullptr);
  Tensors r = impl_->results(*t, args, std::move(outs), nullptr);
  impl_->group = t;
  if (++impl_->micro_done >= impl_->options.micro_batches) impl_->apply_group();
  return r;
}

// In a step a result keeps its dependence, and a gradient through it is an error. Outside, nothing
// would end that history, so it is a constant that knows it is not one.
Tensors Function::Impl::results(const Traced& t, const Tensors& args, std::vector<BufferPtr> outs,
                                Transaction* tx) const {
  std::vector<Edge> in;
  bool opaque = false;
  for (auto& a : args) {
    opaque |= a.edge().node->opaque;
    if (a.edge().node->tracked) in.push_back(a.edge());
  }
  const bool keep = tx || !in.empty(), reads = !t.reads.node->in.empty();
  if (reads && keep) in.push_back(t.reads);
  Tensors r;
  for (size_t i = 0; i < outs.size(); ++i) {
    auto n = make_leaf_node(in.empty() ? constant_op() : compiled_op(), t.run.plan->result_sig(i),
                            where);
    n->values = {std::move(outs[i])};
    n->in = in, n->tracked = !in.empty(), n->opaque = opaque || (reads && !keep);
    n->ready.store(true, std::memory_order_release);
    if (tx && n->tracked) tx->made.push_back(n);
    r.push_back(Tensor({n, 0}));
  }
  return r;
}

bool Function::apply() {
  if (Transaction::current())
    fail(Code::FailedPrecondition, {"apply: a Step or a trace is open on this thread"});
  std::lock_guard one(impl_->group_mutex);
  if (!impl_->micro_done) fail(Code::FailedPrecondition, {"apply: no micro-batch has run"});
  return impl_->apply_group();
}
// Whatever happens, the group ends: its accumulators become n = 0, for which merging is the
// identity.
bool Function::Impl::apply_group() {
  struct End {
    Impl& f;
    std::vector<BufferPtr> zero;
    explicit End(Impl& f) : f(f) {
      for (auto& a : f.group->accumulators)
        zero.push_back(zeros(a->sig.shape, a->sig.dtype).buffer());
    }
    ~End() {
      std::unique_lock l(state_mutex());
      for (size_t i = 0; i < zero.size(); ++i) publish(*f.group->accumulators[i], zero[i]);
      f.micro_done = 0;
    }
  };
  {
    End end(*this);
    std::vector<BufferPtr> none;
    last_committed = run(group->apply, {}, none, nullptr);
  }
  count(last_committed);
  return last_committed;
}

Program trace(const Sigs& args, const Function::Body& body) {
  Detached detached;
  Transaction tx(Transaction::kTrace);
  Tensors p;
  for (size_t i = 0; i < args.size(); ++i) p.push_back(placeholder(args[i], int(i)));
  Tensors outs = body(p);
  if (!tx.proposals.empty())
    fail({"trace: the function writes variable \"", tx.proposals[0].first->name,
          "\", expected a pure function"});
  std::vector<Edge> edges;
  for (auto& o : outs) {
    if (!o) fail({"trace: the function returned an empty tensor"});
    edges.push_back(o.edge());
  }
  Program r = program(edges, outs.size(), 0, {}, tx, true);
  r.shape_seen = tx.shape_seen;
  return r;
}

}  // namespace evenflow
