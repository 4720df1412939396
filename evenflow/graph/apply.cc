// SPDX-License-Identifier: Apache-2.0
// Making a node: the checks derived from the declaration, promotion, the shape rule; and running
// one at once.
#include <algorithm>
#include <bit>

#include "evenflow/graph/op.h"
#include "evenflow/graph/plan.h"
#include "evenflow/graph/transaction.h"

namespace evenflow {

std::shared_ptr<const std::string> current_scope_name();

OP(constant, NoAttrs) {
  return {.summary = "A value that is known",
          .inputs = {},
          .outputs = {{"y", "the value"}},
          .no_gradient = "a leaf",
          .traits = {.cut = true}};
}
OP(argument, NoAttrs) {
  return {.summary = "A value that is given to a run",
          .inputs = {},
          .outputs = {{"y", "the value"}},
          .no_gradient = "a leaf",
          .traits = {.cut = true}};
}
OP(read, NoAttrs) {
  return {.summary =
              "The value of a variable; with an input, the value that was proposed for it. "
              "Differentiation stops here",
          .inputs = {{"proposed", any_type, "[...]"}},
          .outputs = {{"y", "like proposed"}},
          .shape = same_as_first,
          .no_gradient = "an assignment cuts differentiation",
          .traits = {.alias = true, .cut = true, .optional = 1}};
}
// In a sub-graph there is no variable to differentiate by, only the value it had outside: so d/dw
// still sums over all reads of w.
OP(assigned, NoAttrs) {
  return {
      .summary =
          "What was written to a variable inside a branch or a loop body, as a later read of it "
          "gives it",
      .doc =
          "A gradient goes to the variable, as that of any read of it; none passes to the value, "
          "since an assignment cuts differentiation.",
      .inputs = {{"value", any_type, "[...]: what was written"},
                 {"variable", any_type, "like value: its value before"}},
      .outputs = {{"y", "value"}},
      .shape = [](std::span<const Sig> in, const NoAttrs&) -> Sigs {
        if (in[1] != in[0])
          fail({"value is ", str(in[0]), ", expected ", str(in[1]), " (like variable)"});
        return {in[0]};
      },
      .reference = [](const Tensors& in, const NoAttrs&) -> Tensors { return {in[0]}; },
      .gradient = [](const Tensors&, const Tensors&, const Tensors& g, const NoAttrs&) -> Tensors {
        return {Tensor(), g[0]};
      },
      .traits = {.alias = true},
      .cases = {{"vector", {{3}, {3}}, {}, {.no_gradient = true}},
                {"matrix", {{2, 3}, {2, 3}}, {}, {.no_gradient = true}},
                {"shape", {{3}, {2}}, {}, {.fails = "expected f32[2]"}}}};
}

const Origin*& Origin::current() {
  static thread_local const Origin* o = nullptr;
  return o;
}
RunCounters& run_counters() {
  static thread_local RunCounters c;
  return c;
}
Eager& eager() {
  static thread_local Eager e = Eager::by_scope;
  return e;
}
size_t& pending_limit() {
  static thread_local size_t limit = 4096;
  return limit;
}
std::vector<std::weak_ptr<Node>>& pending() {
  static thread_local std::vector<std::weak_ptr<Node>> p;
  return p;
}

void run_now(Node& n) {
  const size_t ni = n.in.size(), no = n.sigs.size();
  std::vector<BufferPtr> hold(ni);  // an input's buffer lives until the kernel has ended
  std::vector<View> views(ni + no);
  std::vector<BufferPtr> made(no);
  for (size_t i = 0; i < ni; ++i) {
    views[i].sig = &n.in[i].sig();
    if (i < 32 && (n.op->traits.shape_only >> i & 1)) continue;
    hold[i] = placed(Tensor(n.in[i]).buffer(), nullptr);  // outside compiled functions: on the host
    views[i].data = hold[i]->data();
  }
  if (n.op->traits.reshape || (n.op->traits.alias && n.sigs[0] == n.in[0].sig()))
    made[0] = hold[0];
  else {
    Sigs in(ni);
    for (size_t i = 0; i < ni; ++i) in[i] = n.in[i].sig();
    Selected k = select_kernel(*n.op, {in, n.sigs}, n.attrs);
    if (k.prepared.run) {
      for (size_t i = 0; i < no; ++i) {
        made[i] = make_buffer(n.sigs[i].bytes());
        views[ni + i] = {&n.sigs[i], made[i]->data()};
      }
      BufferPtr scratch =
          k.prepared.scratch_bytes ? make_buffer(k.prepared.scratch_bytes) : nullptr;
      k.prepared.run({std::span(views).first(ni), std::span(views).subspan(ni),
                      scratch ? scratch->data() : nullptr});
      ++run_counters().kernels;
      if (checks_nan()) check_finite(std::span(views).subspan(ni));
    } else {
      if (!n.op->reference)
        fail(Code::Internal, {n.op->name, ": has neither kernel nor reference for this signature"});
      Detached detached;
      OriginScope origin(n.where, n.name);
      Tensors t;
      for (size_t i = 0; i < ni; ++i)
        t.push_back(hold[i] ? tensor(n.in[i].sig(), hold[i]) : Tensor(n.in[i]));
      Tensors r = n.op->reference(t, n.attrs.get());
      for (size_t i = 0; i < no; ++i) made[i] = r[i].buffer();
    }
  }
  n.values = std::move(made);
  n.ready.store(true, std::memory_order_release);
}

namespace {
const Arg& arg_of(const OpDef& op, size_t i) {
  return op.inputs[std::min(i, op.inputs.size() - 1)];
}
std::string arg_name(const OpDef& op, size_t i) {
  return op.traits.variadic && i + 1 >= op.inputs.size()
             ? concat({op.inputs.back().name, "[", i + 1 - op.inputs.size(), "]"})
             : std::string(arg_of(op, i).name);
}
std::string types_of(Types t) {
  std::string s;
  for (int d = 0; d < kDTypes; ++d)
    if (t.has(DType(d))) s += (s.empty() ? "" : " or ") + std::string(str(DType(d)));
  return s;
}

// Numbers become tensors, and with `promotes` all of one letter get one type.
Tensors resolve(const OpDef& op, std::span<const In> in) {
  Tensors r(in.size());
  std::array<int, 128> types;  // by letter; -1: none yet
  types.fill(-1);
  for (size_t i = 0; i < in.size(); ++i) {
    if (in[i].weak != In::Weak::none) continue;
    const char l = arg_of(op, i).types.letter;
    if (!in[i].t) fail({arg_name(op, i), " is an empty tensor"});
    r[i] = in[i].t;
    if (!l) continue;
    const DType d = r[i].dtype();
    int& t = types[size_t(l)];
    t = t < 0 ? int(d) : op.traits.promotes ? int(promote(DType(t), d)) : t;
  }
  for (size_t i = 0; i < in.size(); ++i) {
    if (in[i].weak == In::Weak::none) continue;
    const Types& allowed = arg_of(op, i).types;
    int& t = types[size_t(allowed.letter)];
    std::optional<DType> like;
    if (allowed.letter && t >= 0)
      like = DType(t);
    else if (!allowed.letter && std::popcount(allowed.mask) == 1)
      like = DType(std::countr_zero(allowed.mask));
    r[i] = in[i].as(like);
    if (allowed.letter && op.traits.promotes)
      t = t < 0 ? int(r[i].dtype()) : int(promote(DType(t), r[i].dtype()));
    else if (allowed.letter && t < 0)
      t = int(r[i].dtype());
  }
  if (op.traits.promotes)
    for (size_t i = 0; i < r.size(); ++i) {
      const char l = arg_of(op, i).types.letter;
      if (!l || types[size_t(l)] < 0 || int(r[i].dtype()) == types[size_t(l)]) continue;
      const OpDef& cast = find_op("cast");
      const AttrValue to = DType(types[size_t(l)]);
      const In x(r[i], in[i].where);
      r[i] = apply(cast, cast.make_attrs({&to, 1}), {&x, 1})[0];
    }
  return r;
}

void check_types(const OpDef& op, std::span<const Sig> in) {
  std::array<int, 128> first;
  first.fill(-1);
  for (size_t i = 0; i < in.size(); ++i) {
    const Types& t = arg_of(op, i).types;
    const DType d = in[i].dtype;
    if (!t.has(d)) fail({arg_name(op, i), " is ", str(in[i]), ", expected ", types_of(t)});
    if (!t.letter) continue;
    int& f = first[size_t(t.letter)];
    if (f < 0)
      f = int(i);
    else if (in[size_t(f)].dtype != d)
      fail({arg_name(op, i), " is ", str(in[i]), ", expected ", str(in[size_t(f)].dtype),
            " (the type of ", arg_name(op, size_t(f)), " ", str(in[size_t(f)]), ")"});
  }
}
void check_count(const OpDef& op, size_t n) {
  const size_t all = op.inputs.size(), least = all - size_t(std::popcount(op.traits.optional));
  if (n < least || (n > all && !op.traits.variadic))
    fail({n, " inputs were given, expected ",
          least == all ? Part(all) : Part(concat({least, " to ", all})),
          op.traits.variadic ? " or more" : ""});
}
}  // namespace

void check_inputs(const OpDef& op, std::span<const Sig> in) {
  check_count(op, in.size());
  check_types(op, in);
}

Tensors apply(const OpDef& op, AttrPtr attrs, std::span<const In> in) {
  auto n = std::make_shared<Node>();
  const Origin* origin = Origin::current();
  n->op = &op, n->attrs = std::move(attrs);
  n->where = origin ? *origin->where : in.empty() ? Where::current() : in[0].where;
  n->name = origin && *origin->name ? *origin->name : current_scope_name();
  auto* tx = Transaction::current();
  try {
    check_count(op, in.size());
    Tensors args = resolve(op, in);
    Sigs sigs;
    sigs.reserve(in.size()), n->in.reserve(in.size());
    for (auto& x : args) {
      const Node& from = *x.edge().node;
      sigs.push_back(x.sig());
      n->symbolic |= from.symbolic, n->tracked |= from.tracked, n->opaque |= from.opaque;
      n->in.push_back(x.edge());
    }
    check_types(op, sigs);
    if (!op.shape) fail(Code::Internal, {"it has no shape rule"});
    n->sigs = op.shape(sigs, n->attrs.get());
  } catch (const Error& e) {
    fail(e.code(),
         {op.name, n->name ? " \"" + *n->name + "\"" : "", ": ", e.what(), ", at ", str(n->where)});
  } catch (const std::bad_alloc&) {
    fail(Code::ResourceExhausted, {op.name, n->name ? " \"" + *n->name + "\"" : "",
                                   ": there is not enough memory, at ", str(n->where)});
  }
  n->scope = tx ? tx->scope : 0;
  if (!n->symbolic) {
    if (tx && n->tracked) tx->made.push_back(n);
    if (eager() == Eager::immediate || (eager() == Eager::by_scope && !tx)) {
      try {
        run_now(*n);
      } catch (const Error& e) {
        fail(e.code(), {op.name, n->name ? " \"" + *n->name + "\"" : "", ": ", e.what(), ", at ",
                        str(n->where)});
      } catch (const std::bad_alloc&) {
        fail(Code::ResourceExhausted, {op.name, n->name ? " \"" + *n->name + "\"" : "",
                                       ": there is not enough memory, at ", str(n->where)});
      }
      if (!n->tracked) n->in.clear(), n->cut = true;
    } else {
      for (auto& e : n->in)  // somebody else's memory may change before this runs
        if (e.node->ready && e.node->values[size_t(e.out)]->imported() && !e.node->var)
          e = tensor(e.sig(), copy_of(*e.node->values[size_t(e.out)], e.sig().bytes())).edge();
      if (pending().size() >= pending_limit()) flush();
      pending().push_back(n);
    }
  }
  Tensors out;
  out.reserve(n->sigs.size());
  for (size_t i = 0; i < n->sigs.size(); ++i) out.push_back(Tensor({n, int(i)}));
  return out;
}

std::vector<In> to_inputs(const Tensors& tensors, Where where) {
  std::vector<In> r;
  r.reserve(tensors.size());
  for (auto& t : tensors) r.emplace_back(t, where);
  return r;
}

}  // namespace evenflow
