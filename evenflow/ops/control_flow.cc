// SPDX-License-Identifier: Apache-2.0
#include "evenflow/ops/control_flow.h"

#include <algorithm>
#include <cstring>

#include "evenflow/graph/gradient.h"
#include "evenflow/graph/sub_graph.h"
#include "evenflow/graph/transaction.h"

namespace evenflow {
namespace {

Tensor fill(const Tensor& like, double value) {
  const OpDef& op = find_op("fill_like");
  const AttrValue v = value;
  const In x(like);
  return apply(op, op.make_attrs({&v, 1}), {&x, 1})[0];
}
Tensors concat_lists(std::initializer_list<Tensors> lists) {
  Tensors r;
  for (auto& l : lists) r.insert(r.end(), l.begin(), l.end());
  return r;
}
Sigs sigs_of(const Tensors& ts) {
  Sigs r;
  for (auto& t : ts) r.push_back(t.sig());
  return r;
}
Tensors slice(const Tensors& t, size_t at, size_t n) {
  return {t.begin() + long(at), t.begin() + long(at + n)};
}

struct Traced {
  SubGraphPtr sub;
  Tensors captures;
  std::vector<std::pair<VarPtr, Edge>> writes;
};
using Body = std::function<Tensors(const Tensors&)>;

// Traces f in a scope of its own: nodes made outside are captures, so an untaken branch is never
// hoisted out. `carried` variables come in as further parameters and go out as further results;
// `written` (else carried) go out.
Traced sub_trace(const Sigs& params, const std::vector<VarPtr>& carried, const Body& f,
                 const std::vector<VarPtr>* written = nullptr) {
  Traced t;
  Transaction tx(Transaction::kBranch);
  Tensors p;
  for (auto& s : params) p.push_back(placeholder(s, int(p.size())));
  for (auto& v : carried) {
    p.push_back(placeholder(v->sig, int(p.size())));
    tx.carried.push_back({v, p.back().edge()});
  }
  Tensors outs = f(slice(p, 0, params.size()));
  t.writes = tx.proposals;
  std::vector<Edge> roots;
  for (auto& o : outs) {
    if (!o) fail({"a branch or body returned an empty tensor"});
    roots.push_back(o.edge());
  }
  for (auto& v : written ? *written : carried) {
    Edge* e = tx.proposal(v);
    roots.push_back(
        e && written ? *e
                     : Variable(v).read().edge());  // from one iteration to the next it is a read
  }
  Extracted x = extract(roots, [&](const Node& n) {
    return n.scope != tx.scope || n.in.empty() || (!n.symbolic && !n.tracked);
  });
  auto sub = std::make_shared<SubGraph>();
  std::vector<int> at(p.size(), -1), captured;
  for (size_t i = 0; i < x.leaves.size(); ++i) {
    Node& n = *x.leaves[i].node;
    if (n.scope == tx.scope && n.op == &argument_op())
      at[size_t(n.index)] = x.graph.leaves[i];
    else if (!n.symbolic && !n.tracked)
      x.graph.constants.push_back({x.graph.leaves[i], Tensor(x.leaves[i]).buffer()});
    else
      captured.push_back(x.graph.leaves[i]), t.captures.push_back(Tensor(x.leaves[i]));
  }
  for (size_t i = 0; i < p.size(); ++i)
    if (at[i] < 0) at[i] = x.graph.add_value(p[i].sig());
  sub->graph = std::move(x.graph);
  sub->graph.leaves = at;
  sub->graph.leaves.insert(sub->graph.leaves.end(), captured.begin(), captured.end());
  t.sub = sub;
  return t;
}

// (leaves..., gradients of the results...) -> gradients of the leaves; zeros, and f32, for what is
// not floating.
Sig grad_sig(const Sig& s) { return {is_floating(s.dtype) ? s.dtype : DType::f32, s.shape}; }
Tensors gradients_of_leaves(const SubGraph& g, const Tensors& leaves, const Tensors& seeds) {
  Tensors y = g.instantiate(leaves), ys, ss, r;
  for (size_t i = 0; i < y.size(); ++i)
    if (is_floating(y[i].dtype())) ys.push_back(y[i]), ss.push_back(seeds[i]);
  std::vector<Wrt> w;
  for (auto& l : leaves)
    if (is_floating(l.dtype())) w.push_back(l);
  Tensors d = w.empty() ? Tensors{} : gradient(ys, ss, w);
  size_t k = 0;
  const OpDef& cast = find_op("cast");
  for (auto& l : leaves) {
    if (is_floating(l.dtype()))
      r.push_back(d[k++]);
    else {
      const AttrValue to = DType::f32;
      const In x(fill(l, 0));
      r.push_back(apply(cast, cast.make_attrs({&to, 1}), {&x, 1})[0]);
    }
  }
  return r;
}
SubGraphPtr vjp(const SubGraphPtr& g, const Sigs& leaves, const Sigs& seeds) {
  Sigs all = leaves;
  all.insert(all.end(), seeds.begin(), seeds.end());
  return sub_trace(all, {},
                   [&](const Tensors& p) {
                     return gradients_of_leaves(*g, slice(p, 0, leaves.size()),
                                                slice(p, leaves.size(), seeds.size()));
                   })
      .sub;
}
Tensors seeds_of(const Tensors& out, const Tensors& grad) {
  Tensors r;
  for (size_t i = 0; i < out.size(); ++i) {
    if (grad[i]) {
      r.push_back(grad[i]);
      continue;
    }
    Tensor z = fill(out[i], 0);
    if (!is_floating(z.dtype())) {
      const OpDef& cast = find_op("cast");
      const AttrValue to = DType::f32;
      const In x(z);
      z = apply(cast, cast.make_attrs({&to, 1}), {&x, 1})[0];
    }
    r.push_back(z);
  }
  return r;
}

BufferPtr borrow(const View& v) {
  static const auto nobody = std::make_shared<const int>();
  return std::make_shared<Buffer>(v.data, v.sig->bytes(), nobody);
}
BufferPtr copy_of(const View& v) {
  auto b = make_buffer(v.sig->bytes());
  std::memcpy(b->data(), v.data, size_t(b->bytes()));
  return b;
}
void put(const View& out, const BufferPtr& b) {
  std::memcpy(out.data, b->data(), size_t(out.sig->bytes()));
}
Sigs sigs_of(std::span<const View> v) {
  Sigs r;
  for (auto& x : v) r.push_back(*x.sig);
  return r;
}
bool tracing() { return Transaction::current() && Transaction::current()->tracing(); }
void check_counts(std::span<const Sig> in, int64_t expected, const SubGraphPtr& a,
                  const SubGraphPtr& b) {
  if (!a || !b) fail({"a sub-graph is missing"});
  if (expected < 0 || int64_t(in.size()) != expected)
    fail({in.size(), " inputs were given, expected ", expected});
}
void check_leaves(const SubGraphPtr& g, size_t n, std::string_view what) {
  if (!g) fail({what, " is missing"});
  if (g->graph.leaves.size() != n)
    fail({what, " takes ", g->graph.leaves.size(), " values, expected ", n});
}
bool truth(const BufferPtr& b) { return *static_cast<const bool*>(b->data()); }
}  // namespace

// ---- cond
// -----------------------------------------------------------------------------------------------------------------
struct CondAttrs {
  SubGraphPtr yes, no;
  int64_t yes_captures = 0, no_captures = 0;
  static void fields(auto& self, auto&& field) {
    field("yes", self.yes, "graph of the branch taken when pred holds");
    field("no", self.no, "graph of the other branch");
    field("yes_captures", self.yes_captures, "how many inputs after pred belong to `yes`");
    field("no_captures", self.no_captures, "how many inputs after those belong to `no`");
  }
};
static Tensors call_cond(const CondAttrs& c, const Tensors& in);
OP(cond, CondAttrs) {
  return {
      .summary = "One of two sub-graphs; only the taken one runs",
      .inputs = {{"pred", boolean_only, "[]"},
                 {"captures", any_type.as(0), "what the branches use: of yes, then of no"}},
      .outputs = {{"y", "results of the branch"}},
      .shape = [](std::span<const Sig> in, const CondAttrs& c) -> Sigs {
        check_counts(in, checked_add(1, checked_add(c.yes_captures, c.no_captures)), c.yes, c.no);
        if (c.yes_captures < 0 || c.no_captures < 0) fail({"a count of captures is negative"});
        if (in[0].shape.rank()) fail({"pred is ", str(in[0]), ", expected bool[]"});
        const size_t a = size_t(c.yes_captures), b = size_t(c.no_captures);
        check_leaves(c.yes, a, "yes"), check_leaves(c.no, b, "no");
        Sigs y = c.yes->result_sigs(in.subspan(1, a)), n = c.no->result_sigs(in.subspan(1 + a, b));
        if (y != n) fail({"the branches return different shapes or element types"});
        return y;
      },
      .gradient = [](const Tensors& in, const Tensors& out, const Tensors& grad,
                     const CondAttrs& c) -> Tensors {
        const size_t a = size_t(c.yes_captures), b = size_t(c.no_captures);
        const Tensors captures = slice(in, 1, a + b), seeds = seeds_of(out, grad);
        const Tensors args = concat_lists({captures, seeds});
        auto side = [&](const SubGraphPtr& g, size_t at,
                        size_t n) {  // gradients for all captures; zero for the other branch's
          return sub_trace(sigs_of(args), {},
                           [&](const Tensors& p) {
                             Tensors own = gradients_of_leaves(*g, slice(p, at, n),
                                                               slice(p, a + b, seeds.size())),
                                     r;
                             for (size_t i = 0; i < a + b; ++i) {
                               Tensor z = i >= at && i < at + n ? own[i - at]
                                                                : seeds_of({p[i]}, {Tensor()})[0];
                               r.push_back(z);
                             }
                             return r;
                           })
              .sub;
        };
        CondAttrs d{side(c.yes, 0, a), side(c.no, a, b), int64_t(args.size()),
                    int64_t(args.size())};
        Tensors r = call_cond(d, concat_lists({{in[0]}, args, args}));
        for (size_t i = 0; i < r.size(); ++i)
          if (!is_floating(captures[i].dtype())) r[i] = Tensor();
        r.insert(r.begin(), Tensor());
        return r;
      },
      .traits = {.variadic = true, .optional = 2}};
}
KERNEL(cond, CondAttrs, branch) {
  return {.run = [](const Call& call, const CondAttrs& c) {
    const bool yes = *call.in[0].as<bool>();
    const auto views = call.in.subspan(yes ? 1 : 1 + size_t(c.yes_captures),
                                       size_t(yes ? c.yes_captures : c.no_captures));
    std::vector<BufferPtr> b;
    for (auto& v : views) b.push_back(borrow(v));
    auto r = (yes ? c.yes : c.no)->run(sigs_of(views), std::move(b));
    for (size_t i = 0; i < r.size(); ++i) put(call.out[i], r[i]);
  }};
}
static Tensors call_cond(const CondAttrs& c, const Tensors& in) {
  return call(cond_op(), to_inputs(in), c);
}

Tensors cond(In pred_in, const std::function<Tensors()>& yes, const std::function<Tensors()>& no) {
  Tensor pred = pred_in.as(DType::boolean);
  if (pred.sig() != Sig{DType::boolean, {}})
    fail({"cond: pred is ", str(pred.sig()), ", expected bool[], at ", str(pred_in.where)});
  if (!pred.edge().node->symbolic) return *static_cast<const bool*>(pred.data()) ? yes() : no();
  std::vector<VarPtr> written;
  auto body = [](auto& f) { return [&](const Tensors&) { return f(); }; };
  for (auto* f : {&yes, &no})
    for (auto& [v, e] : sub_trace({}, {}, body(*f)).writes)
      if (!std::count(written.begin(), written.end(), v)) written.push_back(v);
  Traced a = sub_trace({}, {}, body(yes), &written), b = sub_trace({}, {}, body(no), &written);
  Tensors out = call_cond({a.sub, b.sub, int64_t(a.captures.size()), int64_t(b.captures.size())},
                          concat_lists({{pred}, a.captures, b.captures}));
  const size_t n = out.size() - written.size();
  for (size_t i = 0; i < written.size(); ++i)
    Transaction::current()->propose(written[i], out[n + i]);
  out.resize(n);
  return out;
}

// ---- while_loop
// ---------------------------------------------------------------------------------------------------------------
struct WhileAttrs {
  SubGraphPtr go_on, body, back;
  int64_t carried = 0, go_on_captures = 0, body_captures = 0, maximum_iterations = 0;
  static void fields(auto& self, auto&& field) {
    field("go_on", self.go_on, "graph: (carried..., captures...) -> bool[]");
    field("body", self.body, "graph: (carried..., captures...) -> carried...");
    field("back", self.back, "graph of the gradient of body, for while_grad");
    field("carried", self.carried, "values carried from one iteration to the next");
    field("go_on_captures", self.go_on_captures, "further inputs of go_on");
    field("body_captures", self.body_captures, "further inputs of body");
    field("maximum_iterations", self.maximum_iterations, "0: no bound");
  }
};
static void check_while(std::span<const Sig> in, const WhileAttrs& w, size_t more) {
  if (w.carried < 1 || w.go_on_captures < 0 || w.body_captures < 0 || w.maximum_iterations < 0)
    fail({"a count is negative, or nothing is carried"});
  check_counts(in,
               checked_add(checked_add(w.carried, int64_t(more)),
                           checked_add(w.go_on_captures, w.body_captures)),
               w.go_on, w.body);
  const size_t n = size_t(w.carried), a = size_t(w.go_on_captures), b = size_t(w.body_captures);
  check_leaves(w.go_on, n + a, "go_on"), check_leaves(w.body, n + b, "body");
  Sigs body(in.begin(), in.begin() + long(n)), test = body;
  test.insert(test.end(), in.begin() + long(n), in.begin() + long(n + a));
  body.insert(body.end(), in.begin() + long(n + a), in.begin() + long(n + a + b));
  if (w.go_on->result_sigs(test) != Sigs{{DType::boolean, {}}})
    fail({"go_on does not return bool[]"});
  const Sigs r = w.body->result_sigs(body);
  for (size_t i = 0; i < n; ++i)
    if (r.size() != n || r[i] != in[i])
      fail({"body returns ", r.size() > i ? str(r[i]) : "nothing", " for carried value ", i,
            ", expected ", str(in[i])});
}
// The carried values before each iteration and after the last, or the last only.
static std::vector<std::vector<BufferPtr>> iterate(std::span<const View> in, const WhileAttrs& w,
                                                   bool keep) {
  const size_t n = size_t(w.carried), a = size_t(w.go_on_captures), b = size_t(w.body_captures);
  Sigs test = sigs_of(in.first(n)), body = test;
  std::vector<BufferPtr> now, test_captures, body_captures;
  for (auto& v : in.first(n)) now.push_back(copy_of(v));
  for (auto& v : in.subspan(n, a)) test.push_back(*v.sig), test_captures.push_back(borrow(v));
  for (auto& v : in.subspan(n + a, b)) body.push_back(*v.sig), body_captures.push_back(borrow(v));
  std::vector<std::vector<BufferPtr>> all;
  for (int64_t t = 0;; ++t) {
    if (keep || all.empty())
      all.push_back(now);
    else
      all.back() = now;
    auto x = now;
    x.insert(x.end(), test_captures.begin(), test_captures.end());
    if (!truth(w.go_on->run(test, x)[0])) break;
    if (w.maximum_iterations && t >= w.maximum_iterations)
      fail(Code::ResourceExhausted, {"maximum_iterations ", w.maximum_iterations, " reached"});
    x = now;
    x.insert(x.end(), body_captures.begin(), body_captures.end());
    now = w.body->run(body, x);
  }
  return all;
}
OP(while_grad,
   WhileAttrs) {  // runs the loop again keeping its states: memory grows with the iterations
  return {
      .summary = "Gradient of while_loop",
      .inputs = {{"values", any_type.as(0),
                  "carried..., captures..., gradients of the final values..."}},
      .outputs = {{"d", "of the initial values, then of the captures of body"}},
      .shape = [](std::span<const Sig> in, const WhileAttrs& w) -> Sigs {
        check_while(in, w, size_t(std::max<int64_t>(0, w.carried)));
        Sigs r;
        for (int64_t i = 0; i < w.carried; ++i) r.push_back(grad_sig(in[size_t(i)]));
        for (int64_t i = 0; i < w.body_captures; ++i)
          r.push_back(grad_sig(in[size_t(w.carried + w.go_on_captures + i)]));
        return r;
      },
      .gradient = [](const Tensors&, const Tensors&, const Tensors&, const WhileAttrs&) -> Tensors {
        fail(Code::Unimplemented, {"while_loop: there is no second order through it; use scan"});
      },
      .traits = {.variadic = true}};
}
KERNEL(while_grad, WhileAttrs, rerun) {
  return {.run = [](const Call& c, const WhileAttrs& w) {
    const size_t n = size_t(w.carried), a = size_t(w.go_on_captures), b = size_t(w.body_captures);
    auto all = iterate(c.in, w, true);
    Sigs s = sigs_of(c.in.first(n));
    std::vector<BufferPtr> captures, g;
    for (auto& v : c.in.subspan(n + a, b)) s.push_back(*v.sig), captures.push_back(borrow(v));
    for (auto& v : c.in.subspan(n + a + b, n)) s.push_back(*v.sig), g.push_back(copy_of(v));
    for (size_t i = 0; i < b; ++i)
      std::memset(c.out[n + i].data, 0, size_t(c.out[n + i].sig->bytes()));
    for (size_t t = all.size() - 1; t--;) {
      auto x = all[t];
      x.insert(x.end(), captures.begin(), captures.end());
      x.insert(x.end(), g.begin(), g.end());
      auto r = w.back->run(s, x);
      g.assign(r.begin(), r.begin() + long(n));
      for (size_t i = 0; i < b; ++i)
        visit(c.out[n + i].dtype(), [&](auto zero) {
          using T = decltype(zero);
          T* d = c.out[n + i].as<T>();
          auto* e = static_cast<const T*>(r[n + i]->data());
          for (int64_t k = 0; k < c.out[n + i].count(); ++k)
            d[k] = static_cast<T>(compute_t<T>(d[k]) + compute_t<T>(e[k]));
        });
    }
    for (size_t i = 0; i < n; ++i) put(c.out[i], g[i]);
  }};
}
OP(while_loop, WhileAttrs) {
  return {
      .summary = "Repeats a sub-graph while another one holds",
      .inputs = {{"values", any_type.as(0), "initial values, captures of go_on, captures of body"}},
      .outputs = {{"y", "final values"}},
      .shape = [](std::span<const Sig> in, const WhileAttrs& w) -> Sigs {
        check_while(in, w, 0);
        return {in.begin(), in.begin() + long(w.carried)};
      },
      .gradient = [](const Tensors& in, const Tensors& out, const Tensors& grad,
                     const WhileAttrs& w) -> Tensors {
        if (!w.maximum_iterations)
          fail(Code::FailedPrecondition, {"while_loop: its gradient needs maximum_iterations"});
        const size_t n = size_t(w.carried), a = size_t(w.go_on_captures),
                     b = size_t(w.body_captures);
        const Tensors seeds = seeds_of(out, grad);
        WhileAttrs d = w;
        d.back = vjp(w.body, sigs_of(concat_lists({slice(in, 0, n), slice(in, n + a, b)})),
                     sigs_of(seeds));
        Tensors r = call(while_grad_op(), to_inputs(concat_lists({in, seeds})), d);
        r.insert(r.begin() + long(n), a, Tensor());
        for (size_t i = 0; i < r.size(); ++i)
          if (!is_floating(in[i].dtype())) r[i] = Tensor();
        return r;
      },
      .traits = {.variadic = true}};
}
KERNEL(while_loop, WhileAttrs, iterate) {
  return {.run = [](const Call& c, const WhileAttrs& w) {
    auto last = iterate(c.in, w, false).back();
    for (size_t i = 0; i < c.out.size(); ++i) put(c.out[i], last[i]);
  }};
}

// Traces a body until every variable that it writes is carried.
static Traced trace_body(const Sigs& params, std::vector<VarPtr>& carried, const Body& body) {
  for (;;) {
    const size_t n = carried.size();
    Traced t = sub_trace(params, carried, body);
    for (auto& [v, e] : t.writes)
      if (!std::count(carried.begin(), carried.end(), v)) carried.push_back(v);
    if (carried.size() == n) return t;
  }
}

Tensors while_loop(const std::function<Tensor(const Tensors&)>& go_on,
                   const std::function<Tensors(const Tensors&)>& body, const Tensors& init,
                   int64_t maximum_iterations) {
  if (init.empty()) fail({"while_loop: init is empty, expected at least one tensor"});
  if (!tracing()) {
    const Sigs carried = sigs_of(init);
    Tensors x = init;
    for (int64_t t = 0;; ++t) {
      const Tensor more = go_on(x);
      if (!more || more.sig() != Sig{DType::boolean, {}})
        fail({"while_loop: go_on does not return bool[]"});
      if (!truth(more.buffer())) return x;
      if (maximum_iterations && t >= maximum_iterations)
        fail(Code::ResourceExhausted,
             {"while_loop: maximum_iterations ", maximum_iterations, " reached"});
      x = body(x);
      if (x.size() != carried.size())
        fail({"while_loop: body returns ", x.size(), " values, expected ", carried.size()});
      for (size_t i = 0; i < x.size(); ++i)
        if (x[i].sig() != carried[i])
          fail({"while_loop: body returns ", str(x[i].sig()), " for carried value ", i,
                ", expected ", str(carried[i])});
    }
  }
  std::vector<VarPtr> carried;
  Traced b = trace_body(sigs_of(init), carried, body);
  const std::vector<VarPtr> none;
  Traced g = sub_trace(
      sigs_of(init), carried, [&](const Tensors& p) { return Tensors{go_on(p)}; }, &none);
  Tensors in = init;
  for (auto& v : carried) in.push_back(Variable(v).read());
  const int64_t n = int64_t(in.size());
  Tensors out = call(while_loop_op(), to_inputs(concat_lists({in, g.captures, b.captures})),
                     WhileAttrs{g.sub, b.sub, nullptr, n, int64_t(g.captures.size()),
                                int64_t(b.captures.size()), maximum_iterations});
  for (size_t i = 0; i < carried.size(); ++i)
    Transaction::current()->propose(carried[i], out[init.size() + i]);
  out.resize(init.size());
  return out;
}

// ---- scan
// ---------------------------------------------------------------------------------------------------------------------
struct ScanAttrs {
  SubGraphPtr body;
  int64_t carried = 0, elements = 0;
  bool reverse = false, keep_states = false;
  static void fields(auto& self, auto&& field) {
    field("body", self.body,
          "graph: (carried..., one element of each x..., captures...) -> carried..., outputs...");
    field("carried", self.carried, "values carried from one element to the next");
    field("elements", self.elements, "inputs that are scanned over their leading extent");
    field("reverse", self.reverse, "from the last element to the first");
    field("keep_states", self.keep_states,
          "further outputs: the carried values before each element, stacked");
  }
};
static Sig element(const Sig& s) {
  if (!s.shape.rank()) fail({"a scanned value is ", str(s), ", expected a leading extent"});
  return {s.dtype, Shape(s.shape.dims().subspan(1))};
}
static Sig stacked(const Sig& s, int64_t n) {
  std::vector<int64_t> d{n};
  d.insert(d.end(), s.shape.begin(), s.shape.end());
  return {s.dtype, Shape(d)};
}
static Sigs scan_body_sigs(std::span<const Sig> in, const ScanAttrs& a) {
  Sigs s(in.begin(), in.begin() + long(a.carried));
  for (auto& x : in.subspan(size_t(a.carried), size_t(a.elements))) s.push_back(element(x));
  s.insert(s.end(), in.begin() + long(a.carried + a.elements), in.end());
  return s;
}
OP(scan, ScanAttrs) {
  return {
      .summary =
          "Carries a state over the leading extent of its inputs, and stacks what the body gives "
          "for each element",
      .inputs = {{"values", any_type.as(0), "initial values, scanned values [n, ...], captures"}},
      .outputs = {{"y", "final values, then outputs [n, ...], then the states [n, ...] when kept"}},
      .shape = [](std::span<const Sig> in, const ScanAttrs& a) -> Sigs {
        if (a.carried < 0 || a.elements < 1 ||
            checked_add(a.carried, a.elements) > int64_t(in.size()))
          fail({"scan of ", a.elements, " values with ", a.carried, " carried from ", in.size(),
                " inputs"});
        check_leaves(a.body, in.size(), "body");
        const Sig& first = in[size_t(a.carried)];
        element(first);
        const int64_t n = first.shape[0];
        for (auto& x : in.subspan(size_t(a.carried), size_t(a.elements)))
          if (element(x), x.shape[0] != n)
            fail({"a scanned value is ", str(x), ", expected the leading extent ", n, " of ",
                  str(first)});
        Sigs r = a.body->result_sigs(scan_body_sigs(in, a));
        if (int64_t(r.size()) < a.carried)
          fail({"body returns ", r.size(), " values, expected at least ", a.carried});
        for (size_t i = 0; i < r.size(); ++i) {
          if (int64_t(i) >= a.carried)
            r[i] = stacked(r[i], n);
          else if (r[i] != in[i])
            fail({"body returns ", str(r[i]), " for carried value ", i, ", expected ", str(in[i])});
        }
        if (a.keep_states)
          for (int64_t i = 0; i < a.carried; ++i) r.push_back(stacked(in[size_t(i)], n));
        return r;
      },
      // The adjoint is a scan the other way, over the states kept by a second forward scan: so it
      // can be differentiated again.
      .gradient = [](const Tensors& in, const Tensors& out, const Tensors& grad,
                     const ScanAttrs& a) -> Tensors {
        const size_t n = size_t(a.carried), e = size_t(a.elements), c = in.size() - n - e,
                     outs = out.size() - (a.keep_states ? 2 * n : n);
        ScanAttrs f = a;
        f.keep_states = true;
        const size_t kept = a.keep_states ? n : 0;
        Tensors again = kept ? out : call(scan_op(), to_inputs(in), f),
                states = slice(again, n + outs, n);
        Tensors seeds = seeds_of(out, grad);
        // carried: d state, d captures. elements: states, xs, d outputs, d kept states. captures:
        // captures.
        Tensors carried = slice(seeds, 0, n), captures = slice(in, n + e, c);
        for (auto& t : captures) carried.push_back(seeds_of({t}, {Tensor()})[0]);
        Tensors scanned = concat_lists({states, slice(in, n, e), slice(seeds, n, outs + kept)});
        Sigs params = sigs_of(carried);
        for (auto& t : scanned) params.push_back(element(t.sig()));
        for (auto& t : captures) params.push_back(t.sig());
        const OpDef& add = find_op("add");
        Traced b = sub_trace(params, {}, [&](const Tensors& p) {
          const size_t at = n + c;
          Tensors leaves = concat_lists(
              {slice(p, at, n), slice(p, at + n, e), slice(p, at + n + e + outs + kept, c)});
          Tensors d = gradients_of_leaves(
              *a.body, leaves, concat_lists({slice(p, 0, n), slice(p, at + n + e, outs)}));
          Tensors r = slice(d, 0, n);
          for (size_t i = 0; i < kept; ++i) r[i] = call(add, {r[i], p[at + n + e + outs + i]})[0];
          for (size_t i = 0; i < c; ++i) r.push_back(call(add, {p[n + i], d[n + e + i]})[0]);
          for (size_t i = 0; i < e; ++i) r.push_back(d[n + i]);
          return r;
        });
        ScanAttrs back{b.sub, int64_t(n + c), int64_t(scanned.size()), !a.reverse, false};
        Tensors d = call(scan_op(),
                         to_inputs(concat_lists({carried, scanned, captures, b.captures})), back),
                r = slice(d, 0, n);
        for (size_t i = 0; i < e; ++i) r.push_back(d[n + c + i]);
        for (size_t i = 0; i < c; ++i) r.push_back(d[n + i]);
        for (size_t i = 0; i < r.size(); ++i)
          if (!is_floating(in[i].dtype())) r[i] = Tensor();
        return r;
      },
      .traits = {.variadic = true}};
}
KERNEL(scan, ScanAttrs, iterate) {
  return {.run = [](const Call& call, const ScanAttrs& a) {
    const size_t nc = size_t(a.carried), ne = size_t(a.elements),
                 outs = call.out.size() - (a.keep_states ? 2 * nc : nc);
    const int64_t n = call.in[nc].shape()[0];
    const Sigs all = sigs_of(call.in), s = scan_body_sigs(all, a);
    std::vector<BufferPtr> state, fixed;
    for (auto& v : call.in.first(nc)) state.push_back(copy_of(v));
    for (auto& v : call.in.subspan(nc + ne)) fixed.push_back(borrow(v));
    static const auto nobody = std::make_shared<const int>();
    for (int64_t t = 0; t < n; ++t) {
      const int64_t i = a.reverse ? n - 1 - t : t;
      if (a.keep_states)
        for (size_t k = 0; k < nc; ++k) {
          const int64_t bytes = s[k].bytes();
          std::memcpy(call.out[nc + outs + k].as<char>() + i * bytes, state[k]->data(),
                      size_t(bytes));
        }
      auto x = state;
      for (size_t k = 0; k < ne; ++k) {
        const int64_t bytes = s[nc + k].bytes();
        x.push_back(
            std::make_shared<Buffer>(call.in[nc + k].as<char>() + i * bytes, bytes, nobody));
      }
      x.insert(x.end(), fixed.begin(), fixed.end());
      auto r = a.body->run(s, std::move(x));
      for (size_t k = 0; k < outs; ++k) {
        const int64_t bytes = n ? call.out[nc + k].sig->bytes() / n : 0;
        std::memcpy(call.out[nc + k].as<char>() + i * bytes, r[nc + k]->data(), size_t(bytes));
      }
      state.assign(r.begin(), r.begin() + long(nc));
    }
    for (size_t k = 0; k < nc; ++k) put(call.out[k], state[k]);
  }};
}

ScanResult scan(const std::function<Tensors(const Tensors&, const Tensors&)>& body,
                const Tensors& init, const Tensors& xs) {
  if (xs.empty()) fail({"scan: xs is empty, expected at least one tensor"});
  const size_t n = init.size();
  Sigs params = sigs_of(init);
  for (auto& x : xs) params.push_back(element(x.sig()));
  auto split = [&](const Tensors& p) { return body(slice(p, 0, n), slice(p, n, xs.size())); };
  std::vector<VarPtr> carried;
  if (!tracing() && !Transaction::current()) {  // outside a step a body that writes is traced and
                                                // committed as one transaction
    Traced probe = sub_trace(params, {}, split);
    if (!probe.writes.empty())
      fail(Code::FailedPrecondition,
           {"scan: its body writes variable \"", probe.writes[0].first->name,
            "\"; open a Step or compile it"});
  }
  // sub_trace reads carried variables as parameters after the elements; the operation wants them
  // before.
  Traced b = trace_body(params, carried, split);
  const size_t v = carried.size(), e = xs.size();
  auto sub = std::make_shared<SubGraph>();
  sub->graph = b.sub->graph;
  auto& leaves = sub->graph.leaves;
  std::rotate(leaves.begin() + long(n), leaves.begin() + long(n + e),
              leaves.begin() + long(n + e + v));
  auto& results = sub->graph.results;
  if (results.size() < n + v)
    fail({"scan: body returns ", results.size() - v, " tensors, expected at least ", n,
          " (the state)"});
  std::rotate(results.begin() + long(n), results.end() - long(v), results.end());
  Tensors state = init;
  for (auto& var : carried) state.push_back(Variable(var).read());
  Tensors out = call(scan_op(), to_inputs(concat_lists({state, xs, b.captures})),
                     ScanAttrs{sub, int64_t(n + v), int64_t(e), false, false});
  for (size_t i = 0; i < v; ++i) Transaction::current()->propose(carried[i], out[n + i]);
  return {slice(out, 0, n), {out.begin() + long(n + v), out.end()}};
}

}  // namespace evenflow
