// SPDX-License-Identifier: Apache-2.0
// Extents of a tensor, at most kMaxRank of them, kept inline.
#pragma once
#include <array>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "evenflow/core/dtype.h"

namespace evenflow {

inline constexpr int kMaxRank = 8;

class Shape {
 public:
  Shape() = default;  ///< rank 0: a scalar
  Shape(std::initializer_list<int64_t> dims) : Shape(std::span(dims.begin(), dims.size())) {}
  /// Throws InvalidArgument for a rank above kMaxRank, a negative extent, or more than 2^62
  /// elements.
  explicit Shape(std::span<const int64_t> dims);
  explicit Shape(const std::vector<int64_t>& dims) : Shape(std::span<const int64_t>(dims)) {}

  int rank() const { return rank_; }
  int64_t operator[](int i) const { return dims_[i]; }  ///< 0 <= i < rank
  /// Extent of an axis that may be negative (counted from the end); throws for one out of range.
  int64_t dim(int axis) const { return dims_[resolve(axis)]; }
  /// The axis in 0..rank-1; `what` names the argument in the error.
  int resolve(int axis, std::string_view what = "axis") const;
  int64_t count() const { return count_; }  ///< product of the extents, 1 for a scalar
  std::span<const int64_t> dims() const { return {dims_.data(), size_t(rank_)}; }
  const int64_t* begin() const { return dims_.data(); }
  const int64_t* end() const { return dims_.data() + rank_; }
  Shape with(int axis, int64_t extent) const;  ///< one extent changed
  /// Row-major strides in elements.
  std::array<int64_t, kMaxRank> strides() const;

  bool operator==(const Shape& o) const {
    if (rank_ != o.rank_) return false;
    for (int i = 0; i < rank_; ++i)
      if (dims_[i] != o.dims_[i]) return false;
    return true;
  }

 private:
  int rank_ = 0;
  int64_t count_ = 1;
  std::array<int64_t, kMaxRank> dims_{};
};

/// "[8,64,7,7]"
std::string str(const Shape& shape);
/// NumPy's rule; throws InvalidArgument when they do not broadcast.
Shape broadcast(const Shape& a, const Shape& b);

/// What a value is before it has one: element type and shape.
struct Sig {
  DType dtype = DType::f32;
  Shape shape;
  int64_t bytes() const { return checked_mul(shape.count(), size_of(dtype)); }
  bool operator==(const Sig&) const = default;
};
/// "f32[8,64]"
std::string str(const Sig& sig);
using Sigs = std::vector<Sig>;

}  // namespace evenflow
