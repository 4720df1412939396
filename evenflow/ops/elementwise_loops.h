// SPDX-License-Identifier: Apache-2.0
// Plain loops of element-wise operations, for every element type.
#pragma once
#include "evenflow/backends/cpu/map.h"
#include "evenflow/graph/op.h"

namespace evenflow::detail {

template <class To, class From>
To converted(From v) {
  if constexpr (std::is_integral_v<To> && !std::is_same_v<To, bool> && std::is_floating_point_v<From>) {
    if (v != v) return 0;
    if (v >= From(std::numeric_limits<To>::max())) return std::numeric_limits<To>::max();
    if (v <= From(std::numeric_limits<To>::min())) return std::numeric_limits<To>::min();
    return To(v);
  } else return static_cast<To>(v);
}

/// y = f(x) in the compute type of x; the result is converted to y's type.
template <class F>
void map1(const Call& c, F f) {
  visit(c.in[0].dtype(), [&](auto zx) {
    using X = decltype(zx);
    using C = compute_t<X>;
    visit(c.out[0].dtype(), [&](auto zy) {
      using Y = decltype(zy);
      cpu::map_scalar([&](X x) { return converted<Y>(f(C(x))); }, c.out[0].shape(), c.out[0].as<Y>(), std::pair<const X*, const Shape*>{c.in[0].as<X>(), &c.in[0].shape()});
    });
  });
}
/// y = f(a, b), a and b of one type.
template <class F>
void map2(const Call& c, F f) {
  visit(c.in[0].dtype(), [&](auto zx) {
    using X = decltype(zx);
    using C = compute_t<X>;
    auto run = [&](auto zy) {
      using Y = decltype(zy);
      cpu::map_scalar([&](X a, X b) { return converted<Y>(f(C(a), C(b))); }, c.out[0].shape(), c.out[0].as<Y>(), std::pair<const X*, const Shape*>{c.in[0].as<X>(), &c.in[0].shape()},
                      std::pair<const X*, const Shape*>{c.in[1].as<X>(), &c.in[1].shape()});
    };
    if (c.out[0].dtype() == c.in[0].dtype()) run(X());
    else if (c.out[0].dtype() == DType::boolean) run(false);
    else run(float());
  });
}

}  // namespace evenflow::detail
