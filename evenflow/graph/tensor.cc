// SPDX-License-Identifier: Apache-2.0
#include "evenflow/graph/tensor.h"

#include <algorithm>
#include <cstring>

#include "evenflow/graph/op.h"
#include "evenflow/graph/transaction.h"

namespace evenflow {

// ---- nodes
// ------------------------------------------------------------------------------------------------------------
Node::~Node() {
  static thread_local std::vector<Edge>* grave =
      nullptr;  // a plain pointer: safe in any order of thread exit
  if (grave) {
    for (auto& e : in) grave->push_back(std::move(e));
    return;
  }
  std::vector<Edge> mine = std::move(in);
  grave = &mine;
  while (!mine.empty()) {
    Edge e = std::move(mine.back());
    mine.pop_back();
  }
  grave = nullptr;
}
std::string str(const Node& n) {
  return concat({n.op->name, n.name ? " \"" + *n.name + "\"" : "", " (", str(n.where), ")"});
}

namespace {
thread_local std::shared_ptr<const std::string> scope_name;
}
NameScope::NameScope(std::string_view name) : outer_(scope_name) {
  scope_name = std::make_shared<const std::string>(outer_ ? *outer_ + "/" + std::string(name)
                                                          : std::string(name));
}
NameScope::~NameScope() { scope_name = outer_; }
std::shared_ptr<const std::string> current_scope_name() { return scope_name; }

NodePtr make_leaf_node(const OpDef& op, const Sig& sig, Where w) {
  auto n = std::make_shared<Node>();
  n->op = &op, n->attrs = op.defaults, n->sigs = {sig}, n->where = w, n->name = scope_name;
  if (auto* t = Transaction::current()) n->scope = t->scope;
  return n;
}
Tensor placeholder(const Sig& sig, int index, VarPtr var) {
  auto n = make_leaf_node(var ? read_op() : argument_op(), sig);
  n->index = index, n->var = std::move(var), n->symbolic = n->tracked = true;
  return Tensor({n, 0});
}

// ---- handles
// ------------------------------------------------------------------------------------------------------------
const Sig& Edge::sig() const {
  if (!node) fail({"tensor: an empty tensor has no type, shape or value"});
  return node->sigs[size_t(out)];
}
Tensor::Tensor(Edge e) : edge_(std::move(e)) {
  if (edge_.node) edge_.node->handles.fetch_add(1, std::memory_order_relaxed);
}
Tensor::Tensor(const Tensor& t) : Tensor(t.edge_) {}
Tensor::~Tensor() {
  if (edge_.node) edge_.node->handles.fetch_sub(1, std::memory_order_relaxed);
}
const Shape& Tensor::shape() const {
  if (edge_.node && edge_.node->symbolic)
    for (auto* t = Transaction::current(); t; t = t->outer)
      if (t->tracing()) t->shape_seen = true;
  return sig().shape;
}
bool Tensor::ready() const {
  return edge_.node && edge_.node->ready.load(std::memory_order_acquire);
}
BufferPtr Tensor::buffer() const {
  if (!edge_.node) fail({"tensor: an empty tensor has no value"});
  return ready() ? edge_.node->values[size_t(edge_.out)] : evaluate({edge_})[0];
}
const void* Tensor::data() const { return placed(buffer(), nullptr)->data(); }
void Tensor::expect_dtype(DType expected) const {
  if (dtype() != expected)
    fail({"tensor: its elements are ", str(dtype()), ", expected ", str(expected)});
}
double Tensor::item() const {
  if (sig().shape.count() != 1)
    fail({"item: the tensor is ", str(sig()), ", expected one element"});
  return to_vector<double>()[0];
}
template <class T>
std::vector<T> Tensor::to_vector() const {
  const void* p = data();
  std::vector<T> r(size_t(sig().shape.count()));
  visit(dtype(), [&](auto zero) {
    auto* x = static_cast<const decltype(zero)*>(p);
    for (size_t i = 0; i < r.size(); ++i) r[i] = static_cast<T>(compute_t<decltype(zero)>(x[i]));
  });
  return r;
}
template std::vector<float> Tensor::to_vector<float>() const;
template std::vector<double> Tensor::to_vector<double>() const;
template std::vector<int32_t> Tensor::to_vector<int32_t>() const;
template std::vector<int64_t> Tensor::to_vector<int64_t>() const;
template std::vector<uint8_t> Tensor::to_vector<uint8_t>() const;
template std::vector<bool> Tensor::to_vector<bool>() const;

// ---- making
// ---------------------------------------------------------------------------------------------------------------
Tensor tensor(const Sig& sig, BufferPtr b) {
  if (!b || b->bytes() < sig.bytes())
    fail({"tensor: the buffer has ", b ? b->bytes() : 0, " bytes, expected ", sig.bytes(), " for ",
          str(sig)});
  auto n = make_leaf_node(constant_op(), sig);
  n->values = {std::move(b)};
  n->ready.store(true, std::memory_order_release);
  return Tensor({n, 0});
}
namespace {
template <class To, class From>
Tensor copied(const std::vector<From>& v, const Shape& shape) {
  const Sig sig{dtype_of<To>, shape};
  if (int64_t(v.size()) != shape.count())
    fail({"tensor: ", v.size(), " values were given, expected ", shape.count(), " for shape ",
          str(shape)});
  auto b = make_buffer(sig.bytes());
  std::copy(v.begin(), v.end(), static_cast<To*>(b->data()));
  return tensor(sig, std::move(b));
}
}  // namespace
Tensor tensor(const std::vector<float>& v, const Shape& s) { return copied<float>(v, s); }
Tensor tensor(const std::vector<double>& v, const Shape& s) { return copied<double>(v, s); }
Tensor tensor(const std::vector<int32_t>& v, const Shape& s) { return copied<int32_t>(v, s); }
Tensor tensor(const std::vector<int64_t>& v, const Shape& s) { return copied<int64_t>(v, s); }
Tensor tensor(const std::vector<uint8_t>& v, const Shape& s) { return copied<uint8_t>(v, s); }
Tensor tensor(const std::vector<bool>& v, const Shape& s) { return copied<bool>(v, s); }
Tensor from_external(const void* data, const Sig& sig, std::shared_ptr<const void> owner) {
  return tensor(sig, std::make_shared<Buffer>(data, sig.bytes(), std::move(owner)));
}
Tensor zeros(const Shape& shape, DType dtype) { return full(shape, 0, dtype); }
Tensor ones(const Shape& shape, DType dtype) { return full(shape, 1, dtype); }
Tensor full(const Shape& shape, double value, DType dtype) {
  const Sig sig{dtype, shape};
  auto b = make_buffer(sig.bytes());
  visit(dtype, [&](auto zero) {
    std::fill_n(static_cast<decltype(zero)*>(b->data()), shape.count(),
                static_cast<decltype(zero)>(value));
  });
  return tensor(sig, std::move(b));
}
Tensor constant(const std::vector<double>& v, const Shape& shape, DType dtype) {
  return visit(dtype, [&](auto zero) {
    using T = decltype(zero);
    const Sig sig{dtype, shape};
    if (int64_t(v.size()) != shape.count())
      fail({"constant: ", v.size(), " values were given, expected ", shape.count(), " for shape ",
            str(shape)});
    auto b = make_buffer(sig.bytes());
    for (size_t i = 0; i < v.size(); ++i) static_cast<T*>(b->data())[i] = static_cast<T>(v[i]);
    return tensor(sig, std::move(b));
  });
}
Tensor watch(const Tensor& t) {
  if (!t) fail({"watch: an empty tensor was given"});
  if (t.edge().node->symbolic) return t;  // inside a trace everything has its history
  BufferPtr b = evaluate({t.edge()})[0];
  if (b->imported())
    b = copy_of(*b, t.sig().bytes());  // recorded steps may outlive somebody else's memory
  Tensor r = tensor(t.sig(), std::move(b));
  r.edge().node->tracked = true;
  return r;
}

In::In(const Variable& v, Where w) : t(v.read(w)), where(w) {}
Tensor In::as(std::optional<DType> like) const {
  if (weak == Weak::none) return t;
  DType d = weak == Weak::boolean   ? DType::boolean
            : weak == Weak::integer ? DType::i64
                                    : DType::f32;
  if (like && (is_floating(*like) || (is_integer(*like) && weak != Weak::floating) ||
               weak == Weak::boolean))
    d = *like;
  return full({}, number, d);
}

}  // namespace evenflow
