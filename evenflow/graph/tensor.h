// SPDX-License-Identifier: Apache-2.0
// Tensor: a handle to an output of a node. Outside a step an operation runs when it is called;
// inside a Step or a trace it is recorded.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "evenflow/core/buffer.h"
#include "evenflow/core/shape.h"

namespace evenflow {

struct Node;
class Variable;
using NodePtr = std::shared_ptr<Node>;

/// One output of a node.
struct Edge {
  NodePtr node;
  int out = 0;
  const Sig& sig() const;
  bool operator==(const Edge&) const = default;
};

class Tensor {
 public:
  Tensor() = default;  ///< empty: stands for no tensor
  explicit Tensor(Edge edge);
  Tensor(const Tensor& t);
  Tensor(Tensor&& t) noexcept : edge_(std::move(t.edge_)) { t.edge_ = {}; }
  Tensor& operator=(Tensor t) noexcept {
    std::swap(edge_, t.edge_);
    return *this;
  }
  ~Tensor();
  explicit operator bool() const { return bool(edge_.node); }

  DType dtype() const { return sig().dtype; }
  int rank() const { return sig().shape.rank(); }
  /// Inside a trace, looking at extents makes the trace serve these extents only.
  const Shape& shape() const;
  int64_t size() const { return shape().count(); }
  /// Element type and shape, without specialising a trace: for rules and layers that check what
  /// cannot change (channels).
  const Sig& sig() const { return edge_.sig(); }

  /// The memory, row-major; runs what is needed. Valid while this handle lives.
  const void* data() const;
  template <class T>
  const T* data_as() const {
    expect_dtype(dtype_of<T>);
    return static_cast<const T*>(data());
  }
  /// The one element, converted.
  double item() const;
  /// A copy, converted to T.
  template <class T = float>
  std::vector<T> to_vector() const;
  /// Shares ownership (DLPack export): valid after this handle is gone.
  BufferPtr buffer() const;
  /// Whether the value is there already.
  bool ready() const;
  const Edge& edge() const { return edge_; }

 private:
  void expect_dtype(DType expected) const;
  Edge edge_;
};
using Tensors = std::vector<Tensor>;

/// Copies of values. Throws InvalidArgument when the count is not the shape's.
Tensor tensor(const std::vector<float>& values, const Shape& shape);
Tensor tensor(const std::vector<double>& values, const Shape& shape);
Tensor tensor(const std::vector<int32_t>& values, const Shape& shape);
Tensor tensor(const std::vector<int64_t>& values, const Shape& shape);
Tensor tensor(const std::vector<uint8_t>& values, const Shape& shape);
Tensor tensor(const std::vector<bool>& values, const Shape& shape);
/// A value that exists: the buffer is shared, not copied; it must hold at least sig.bytes().
Tensor tensor(const Sig& sig, BufferPtr buffer);
/// Memory of somebody else (DLPack, NumPy): read in place, never written, copied when a recorded
/// step outlives it.
Tensor from_external(const void* data, const Sig& sig, std::shared_ptr<const void> owner);
Tensor zeros(const Shape& shape, DType dtype = DType::f32);
Tensor ones(const Shape& shape, DType dtype = DType::f32);
Tensor full(const Shape& shape, double value, DType dtype = DType::f32);
/// A constant of any element type from doubles, rounded (bool: not zero).
Tensor constant(const std::vector<double>& values, const Shape& shape, DType dtype);

/// Keep history for gradients with respect to this tensor: a new handle with the same value.
Tensor watch(const Tensor& t);

/// Argument of every operation: its conversions capture the caller's line (also for operators), and
/// let plain numbers stand for tensors. A number is weak: it takes the element type of the tensors
/// that it meets.
struct In {
  Tensor t;  ///< empty for a number
  enum class Weak : uint8_t { none, boolean, integer, floating } weak = Weak::none;
  double number = 0;
  Where where;

  In(const Tensor& x, Where w = Where::current()) : t(x), where(w) {}
  In(Tensor&& x, Where w = Where::current()) : t(std::move(x)), where(w) {}
  In(const Variable& v, Where w = Where::current());
  In(float x, Where w = Where::current()) : weak(Weak::floating), number(x), where(w) {}
  In(double x, Where w = Where::current()) : weak(Weak::floating), number(x), where(w) {}
  In(int x, Where w = Where::current()) : weak(Weak::integer), number(x), where(w) {}
  In(int64_t x, Where w = Where::current()) : weak(Weak::integer), number(double(x)), where(w) {}
  In(bool x, Where w = Where::current()) : weak(Weak::boolean), number(x), where(w) {}
  /// As a tensor; a number becomes a scalar of `like`, or of f32, i64, bool when that has no place
  /// for it.
  Tensor as(std::optional<DType> like = {}) const;
};

/// Names what is made while it lives: "block1/conv" appears in errors and pictures.
class NameScope {
 public:
  explicit NameScope(std::string_view name);
  ~NameScope();
  NameScope(const NameScope&) = delete;

 private:
  std::shared_ptr<const std::string> outer_;
};

}  // namespace evenflow
