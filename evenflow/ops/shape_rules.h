// SPDX-License-Identifier: Apache-2.0
// What operations on shapes share: reshaping, joining, cutting.
#pragma once
#include <array>

#include "evenflow/graph/op.h"

namespace evenflow {

struct AxisAttrs {
  int64_t axis = -1;
  static void fields(auto& self, auto&& field) { field("axis", self.axis, "the axis"); }
};

/// A place on the axes of s (`extra`: one more place, for a new axis). Throws for others.
inline int axis_of(const Shape& s, int64_t axis, int extra = 0) {
  const int64_t r = s.rank() + extra;
  if (axis < -r || axis >= r)
    fail({"axis is ", axis, ", expected ", -r, "..", r - 1, " for shape ", str(s)});
  return int(axis < 0 ? axis + r : axis);
}
inline void expect_length(std::string_view name, const std::vector<int64_t>& v, size_t n,
                          const Sig& x) {
  if (v.size() != n) fail({name, " has ", v.size(), " numbers, expected ", n, " for x ", str(x)});
}
/// f(index of the row's first element in part, position) for each row of `part`.
template <class F>
void walk_rows(const Shape& part, F f) {
  const int r = part.rank();
  const int64_t inner = r ? part[r - 1] : 1;
  if (part.count() == 0) return;
  const int64_t rows = part.count() / inner;
  std::array<int64_t, kMaxRank> at{};
  for (int64_t row = 0; row < rows; ++row) {
    f(row * inner, at);
    for (int d = r - 1; d-- > 0;) {
      if (++at[size_t(d)] < part[d]) break;
      at[size_t(d)] = 0;
    }
  }
}

}  // namespace evenflow
