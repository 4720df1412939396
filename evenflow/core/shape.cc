// SPDX-License-Identifier: Apache-2.0
#include "evenflow/core/shape.h"

#include <algorithm>

namespace evenflow {

Shape::Shape(std::span<const int64_t> dims) {
  if (dims.size() > size_t(kMaxRank))
    fail({"shape has rank ", dims.size(), ", expected at most ", kMaxRank});
  rank_ = int(dims.size());
  int64_t bound =
      1;  // an empty extent must not hide an overflow of the others: strides use them too
  for (int i = 0; i < rank_; ++i) {
    if (dims[i] < 0) fail({"shape: extent ", i, " is ", dims[i], ", expected at least 0"});
    dims_[i] = dims[i];
    bound = checked_mul(bound, std::max<int64_t>(1, dims[i]));
    count_ *= dims[i];
  }
  if (bound > int64_t(1) << 59)
    fail(Code::OutOfRange, {"shape ", str(*this), " has too many elements"});
}

int Shape::resolve(int axis, std::string_view what) const {
  if (axis < -rank_ || axis >= rank_)
    fail({what, " is ", axis, ", expected ", -rank_, "..", rank_ - 1, " for shape ", str(*this)});
  return axis < 0 ? axis + rank_ : axis;
}

Shape Shape::with(int axis, int64_t extent) const {
  auto d = dims_;
  d[resolve(axis)] = extent;
  return Shape(std::span<const int64_t>(d.data(), size_t(rank_)));
}

std::array<int64_t, kMaxRank> Shape::strides() const {
  std::array<int64_t, kMaxRank> s{};
  int64_t k = 1;
  for (int i = rank_; i--;) s[i] = k, k *= dims_[i];
  return s;
}

std::string str(const Shape& shape) {
  std::string s = "[";
  for (int i = 0; i < shape.rank(); ++i) s += (i ? "," : "") + std::to_string(shape[i]);
  return s + "]";
}
std::string str(const Sig& sig) { return std::string(str(sig.dtype)) + str(sig.shape); }

Shape broadcast(const Shape& a, const Shape& b) {
  std::array<int64_t, kMaxRank> d{};
  const int r = std::max(a.rank(), b.rank());
  for (int i = 0; i < r; ++i) {
    const int64_t x = i < r - a.rank() ? 1 : a[i - (r - a.rank())],
                  y = i < r - b.rank() ? 1 : b[i - (r - b.rank())];
    if (x != y && x != 1 && y != 1)
      fail({"shapes ", str(a), " and ", str(b), " do not broadcast: extents ", x, " and ", y,
            " on axis ", i - r});
    d[i] = x == 1 ? y : x;
  }
  return Shape(std::span<const int64_t>(d.data(), size_t(r)));
}

}  // namespace evenflow
