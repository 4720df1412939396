// SPDX-License-Identifier: Apache-2.0
// What the element-wise families share: plain loops for every element type, and the way from a
// call to a vectorised map.
#pragma once
#include <limits>

#include "evenflow/backends/cpu/map.h"
#include "evenflow/graph/op.h"

namespace evenflow::detail {

/// A number in another type. Floats to integers truncate and saturate, NaN is 0.
template <class To, class From>
To converted(From v) {
  if constexpr (std::is_integral_v<To> && !std::is_same_v<To, bool> &&
                std::is_floating_point_v<From>) {
    if (v != v) return 0;
    if (v >= From(std::numeric_limits<To>::max())) return std::numeric_limits<To>::max();
    if (v <= From(std::numeric_limits<To>::min())) return std::numeric_limits<To>::min();
    return To(v);
  } else {
    return static_cast<To>(v);
  }
}

template <class T>
std::pair<const T*, const Shape*> operand(const View& v) {
  return {v.as<T>(), &v.shape()};
}

/// y = f(x), computed in the compute type of x and converted to y's type, which is x's or Y if
/// given.
template <class Y = void, class F>
void map1(const Call& c, F f) {
  visit(c.in[0].dtype(), [&](auto zero) {
    using X = decltype(zero);
    using To = std::conditional_t<std::is_void_v<Y>, X, Y>;
    cpu::map_scalar([&](X x) { return converted<To>(f(compute_t<X>(x))); }, c.out[0].shape(),
                    c.out[0].as<To>(), operand<X>(c.in[0]));
  });
}
/// y = f(a, b), a and b of one type.
template <class Y = void, class F>
void map2(const Call& c, F f) {
  visit(c.in[0].dtype(), [&](auto zero) {
    using X = decltype(zero);
    using C = compute_t<X>;
    using To = std::conditional_t<std::is_void_v<Y>, X, Y>;
    cpu::map_scalar([&](X a, X b) { return converted<To>(f(C(a), C(b))); }, c.out[0].shape(),
                    c.out[0].as<To>(), operand<X>(c.in[0]), operand<X>(c.in[1]));
  });
}
/// The same for operations on floating types only: fewer loops to compile.
template <class F>
decltype(auto) visit_float(DType d, F&& f) {
  switch (d) {
    case DType::f64:
      return f(double{});
    case DType::bf16:
      return f(bf16{});
    case DType::f16:
      return f(f16{});
    default:
      return f(float{});
  }
}
template <class F>
void map1_float(const Call& c, F f) {
  visit_float(c.in[0].dtype(), [&](auto zero) {
    using X = decltype(zero);
    cpu::map_scalar([&](X x) { return X(f(compute_t<X>(x))); }, c.out[0].shape(), c.out[0].as<X>(),
                    operand<X>(c.in[0]));
  });
}

/// Why a vectorised map does not serve this call, or nothing: it computes in f32 or f64.
template <class A>
std::string floats_only(const CallSig& sig, const A&) {
  const DType d = sig.in.back().dtype;
  return is_floating(d) ? std::string() : concat({str(d), " takes the loop"});
}

/// Runs a vectorised functor. Short f32 arrays without broadcasts skip the cutting into tiles.
inline void run_map(const cpu::Strips& strips, const Call& c, const void* functor = nullptr) {
  const View& y = c.out[0];
  const int64_t n = y.count();
  const size_t inputs = c.in.size();
  bool flat = n > 0 && n <= cpu::detail::kMapChunk && y.dtype() == DType::f32 && inputs <= 3;
  for (const View& x : c.in)
    flat = flat && x.dtype() == DType::f32 && (x.count() == n || x.count() == 1);
  if (flat) {
    const float* in[3];
    int64_t step[3];
    float splat[3][cpu::kSplat];
    for (size_t k = 0; k < inputs; ++k) {
      in[k] = c.in[k].as<float>(), step[k] = c.in[k].count() == n;
      if (step[k]) continue;
      std::fill_n(splat[k], cpu::kSplat, *in[k]);
      in[k] = splat[k];
    }
    return strips.f32(functor, n, y.as<float>(), in, step);
  }
  auto in = [&](size_t k) { return cpu::MapIn{c.in[k].data, c.in[k].dtype(), c.in[k].shape()}; };
  const cpu::MapOut out{y.data, y.dtype(), y.shape()};
  if (inputs == 1) return cpu::map(strips, out, {in(0)}, functor);
  if (inputs == 2) return cpu::map(strips, out, {in(0), in(1)}, functor);
  cpu::map(strips, out, {in(0), in(1), in(2)}, functor);
}

}  // namespace evenflow::detail
