// SPDX-License-Identifier: Apache-2.0
// Element-wise maps: y[i] = f(x0[i], x1[i], ...) with NumPy's broadcasting, on all threads, for any
// element type.
//
// A kernel file gives the functor, once for all instruction sets (map_test.cc is a complete
// example):
//
//   #undef HWY_TARGET_INCLUDE
//   #define HWY_TARGET_INCLUDE "evenflow/ops/this_file.cpu.cc"
//   #include "hwy/foreach_target.h"
//   #include "evenflow/backends/cpu/map-inl.h"           // and vector_math-inl.h for exp, log,
//   tanh, sigmoid, erf HWY_BEFORE_NAMESPACE(); namespace evenflow::cpu::HWY_NAMESPACE { struct
//   Swish { template <class D, class V> V operator()(D d, V x) const { return hn::Mul(x, sigmoid(d,
//   x)); } }; Strips swish() { return strips<Swish, 1>(); }        // 1: inputs
//   }
//   HWY_AFTER_NAMESPACE();
//   #if HWY_ONCE
//   HWY_EXPORT(swish);                                   // inside namespace evenflow::cpu
//   ... map(HWY_DYNAMIC_DISPATCH(swish)(), {y, dtype, shape}, {{x, dtype, shape}});
//   #endif
//
// Only two loops are compiled for a functor and an instruction set, f32 and f64: other types, and
// broadcasts, pass through a tile that stays in the first cache.
#pragma once
#include <array>
#include <initializer_list>
#include <span>
#include <utility>

#include "evenflow/core/parallel.h"
#include "evenflow/core/shape.h"

namespace evenflow::cpu {

inline constexpr int kMapInputs = 8;

/// An operand: memory, element type and shape; row-major, without gaps.
struct MapOut {
  void* data;
  DType dtype;
  const Shape& shape;
};
struct MapIn {
  const void* data;
  DType dtype;
  const Shape& shape;
};

/// f over n elements; input k advances by step[k] elements (0 or 1). With 0 it holds kSplat equal
/// values.
template <class T>
using Strip = void (*)(const void* functor, int64_t n, T* out, const T* const* in,
                       const int64_t* step);
inline constexpr int kSplat = 64;

/// What strips<F, inputs>() makes of a functor, for the instruction set in use.
struct Strips {
  Strip<float> f32;
  Strip<double> f64;
};

/// Fills `out`, whose shape every input broadcasts to. Computes in f64 if an operand is f64, else
/// in f32 (so integers beyond 2^24 want map_scalar). Truth values are 1 and 0. `functor` points to
/// the functor if it has members. An output may lie where an input of its type and shape lies. The
/// bits do not depend on the number of threads.
void map(const Strips& f, MapOut out, std::span<const MapIn> in, const void* functor = nullptr);
inline void map(const Strips& f, MapOut out, std::initializer_list<MapIn> in,
                const void* functor = nullptr) {
  map(f, out, std::span(in.begin(), in.size()), functor);
}

/// How the inputs of a map are walked: axes that run on in every input are merged, so that equal
/// shapes have one axis, and
/// [..., c] with [c] has two. The innermost stride is 0 or 1 (or anything, for strides that were
/// given).
struct Walk {
  int rank = 1;
  std::array<int64_t, kMaxRank> extent{1};
  std::array<std::array<int64_t, kMaxRank>, kMapInputs> stride{};  ///< [input][axis], in elements

  /// Offset of input k at the row-major position `at` of the first `axes` axes.
  int64_t offset(int k, int64_t at, int axes) const {
    int64_t sum = 0;
    for (int a = axes; a--;) sum += at % extent[a] * stride[k][a], at /= extent[a];
    return sum;
  }
};
/// Throws InvalidArgument for an input that does not broadcast to `out`.
Walk walk(const Shape& out, std::span<const Shape* const> in);

namespace detail {
inline constexpr int64_t kMapChunk = 16384;  // elements a task: about a microsecond or two

template <class TOut, class F, class... TIn, size_t... I>
void map_scalar(const Walk& w, const F& f, TOut* out, std::index_sequence<I...>, const TIn*... in) {
  const int last = w.rank - 1;
  const int64_t inner = w.extent[last];
  int64_t rows = 1;
  for (int a = 0; a < last; ++a) rows *= w.extent[a];
  const int64_t pieces = (inner - 1) / kMapChunk + 1;
  parallel_for(rows * pieces, std::max<int64_t>(1, kMapChunk / inner), [&](int64_t b, int64_t e) {
    for (int64_t t = b; t < e; ++t) {
      const int64_t row = t / pieces, from = t % pieces * kMapChunk;
      const int64_t to = std::min(inner, from + kMapChunk);
      const int64_t base[] = {w.offset(I, row, last)...};
      for (int64_t i = from; i < to; ++i)
        out[row * inner + i] = f(in[base[I] + i * w.stride[I][last]]...);
    }
  });
}
}  // namespace detail

/// The same for plain C++ functions of one element each, for integers and whatever has no vectors:
/// out[i] = f(in[i]...).
template <class F, class TOut, class... TIn>
void map_scalar(const F& f, const Shape& shape, TOut* out,
                std::pair<const TIn*, const Shape*>... in) {
  static_assert(sizeof...(TIn) <= kMapInputs);
  const std::array<const Shape*, sizeof...(TIn)> shapes{in.second...};
  const Walk w = walk(shape, shapes);
  if (shape.count() == 0) return;
  detail::map_scalar(w, f, out, std::index_sequence_for<TIn...>(), in.first...);
}

}  // namespace evenflow::cpu
