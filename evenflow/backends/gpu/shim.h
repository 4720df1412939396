// SPDX-License-Identifier: Apache-2.0
// The language of kernels for GPUs: C++ and what is defined here, for CUDA (compiled by NVRTC),
// SYCL (by its run-time compiler) and, for tests, the host's compiler. Embedded in the library as
// text.
//
//   KERNEL(scale, const float* x, float* y, int64_t n) {
//     for (int64_t i = first_item(); i < n; i += items()) y[i] = 2 * x[i];
//   }
#pragma once

#if defined(EVENFLOW_CUDA)
using int8_t = signed char;
using uint8_t = unsigned char;
using int16_t = short;
using uint16_t = unsigned short;
using int32_t = int;
using uint32_t = unsigned int;
using int64_t = long long;
using uint64_t = unsigned long long;
namespace std {
template <class A, class B>
inline constexpr bool is_same_v = false;
template <class A>
inline constexpr bool is_same_v<A, A> = true;
template <class T>
inline constexpr bool is_floating_point_v = is_same_v<T, float> || is_same_v<T, double>;
#define EVENFLOW_MATH1(name)                                     \
  __device__ inline float name(float x) { return ::name##f(x); } \
  __device__ inline double name(double x) { return ::name(x); }
#define EVENFLOW_MATH2(name)                                                 \
  __device__ inline float name(float x, float y) { return ::name##f(x, y); } \
  __device__ inline double name(double x, double y) { return ::name(x, y); }
EVENFLOW_MATH1(exp)
EVENFLOW_MATH1(expm1)
EVENFLOW_MATH1(log)
EVENFLOW_MATH1(log1p)
EVENFLOW_MATH1(sqrt)
EVENFLOW_MATH1(sin)
EVENFLOW_MATH1(cos)
EVENFLOW_MATH1(tanh)
EVENFLOW_MATH1(erf)
EVENFLOW_MATH1(floor)
EVENFLOW_MATH1(ceil)
EVENFLOW_MATH1(rint)
EVENFLOW_MATH1(nearbyint)
EVENFLOW_MATH1(fabs)
EVENFLOW_MATH1(erfc)
EVENFLOW_MATH2(pow)
EVENFLOW_MATH2(fmod)
EVENFLOW_MATH2(copysign)
__device__ inline float abs(float x) { return ::fabsf(x); }
__device__ inline double abs(double x) { return ::fabs(x); }
__device__ inline bool isnan(float x) { return x != x; }
__device__ inline bool isnan(double x) { return x != x; }
__device__ inline bool isfinite(float x) { return x - x == 0; }
__device__ inline bool isfinite(double x) { return x - x == 0; }
}  // namespace std

#define FUNCTION __device__ __forceinline__
#define KERNEL(name, ...) extern "C" __global__ void name(__VA_ARGS__)
FUNCTION int thread_index() { return int(threadIdx.x); }
FUNCTION int threads() { return int(blockDim.x); }
FUNCTION int64_t block_index() { return blockIdx.x; }
FUNCTION int64_t blocks() { return gridDim.x; }
FUNCTION void barrier() { __syncthreads(); }
/// Memory that the threads of a block share, of the size that the launch asked for.
FUNCTION void* local_memory() {
  extern __shared__ __align__(16) unsigned char evenflow_local[];
  return evenflow_local;
}
FUNCTION uint32_t bits_of(float x) { return __float_as_uint(x); }
FUNCTION float float_of(uint32_t u) { return __uint_as_float(u); }

#elif defined(EVENFLOW_EMULATED)
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <utility>
struct EvenflowItem {
  int thread, threads;
  int64_t block, blocks;
  void* local;
  void (*barrier)();
};
extern "C" {
EvenflowItem* evenflow_item;
}
#define FUNCTION inline
template <class... A, int... I>
void evenflow_call(void (*f)(A...), void** a, std::integer_sequence<int, I...>) {
  f(*static_cast<A*>(a[I])...);
}
#define KERNEL(name, ...)                                                 \
  static void name##_body(__VA_ARGS__);                                   \
  template <class... A>                                                   \
  void name##_call(void (*f)(A...), void** a) {                           \
    evenflow_call(f, a, std::make_integer_sequence<int, sizeof...(A)>()); \
  }                                                                       \
  extern "C" void name(void** a) { name##_call(name##_body, a); }         \
  static void name##_body(__VA_ARGS__)
FUNCTION int thread_index() { return evenflow_item->thread; }
FUNCTION int threads() { return evenflow_item->threads; }
FUNCTION int64_t block_index() { return evenflow_item->block; }
FUNCTION int64_t blocks() { return evenflow_item->blocks; }
FUNCTION void barrier() { evenflow_item->barrier(); }
FUNCTION void* local_memory() { return evenflow_item->local; }
FUNCTION uint32_t bits_of(float x) { return __builtin_bit_cast(uint32_t, x); }
FUNCTION float float_of(uint32_t u) { return __builtin_bit_cast(float, u); }

#elif defined(EVENFLOW_SYCL)
#include <sycl/sycl.hpp>
#define FUNCTION inline
// The block's memory comes as the first argument; a kernel keeps it where its functions find it.
#define KERNEL(name, ...)                                         \
  extern "C" SYCL_EXT_ONEAPI_FUNCTION_PROPERTY(                   \
      (sycl::ext::oneapi::experimental::nd_range_kernel<1>)) void \
  name(__VA_ARGS__)
FUNCTION sycl::nd_item<1> evenflow_item() {
  return sycl::ext::oneapi::this_work_item::get_nd_item<1>();
}
FUNCTION int thread_index() { return int(evenflow_item().get_local_id(0)); }
FUNCTION int threads() { return int(evenflow_item().get_local_range(0)); }
FUNCTION int64_t block_index() { return int64_t(evenflow_item().get_group(0)); }
FUNCTION int64_t blocks() { return int64_t(evenflow_item().get_group_range(0)); }
FUNCTION void barrier() { sycl::group_barrier(evenflow_item().get_group()); }
FUNCTION void* local_memory() {
  return sycl::ext::oneapi::experimental::get_work_group_scratch_memory();
}
FUNCTION uint32_t bits_of(float x) { return sycl::bit_cast<uint32_t>(x); }
FUNCTION float float_of(uint32_t u) { return sycl::bit_cast<float>(u); }
#endif

/// This thread's number in the grid, and how many there are.
FUNCTION int64_t first_item() { return block_index() * threads() + thread_index(); }
FUNCTION int64_t items() { return blocks() * threads(); }

// ---- element types
struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};
FUNCTION float wide(bf16 x) { return float_of(uint32_t(x.bits) << 16); }
FUNCTION float wide(float x) { return x; }
FUNCTION double wide(double x) { return x; }
FUNCTION int64_t wide(int32_t x) { return x; }
FUNCTION int64_t wide(int64_t x) { return x; }
FUNCTION int64_t wide(uint8_t x) { return x; }
FUNCTION int64_t wide(bool x) { return x; }
#if defined(EVENFLOW_CUDA)
FUNCTION float wide(f16 x) {
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(x.bits));
  return f;
}
#else
FUNCTION float wide(f16 x) {
  const uint32_t sign = uint32_t(x.bits & 0x8000) << 16, rest = x.bits & 0x7fff;
  if (rest >= 0x7c00) return float_of(sign | 0x7f800000 | (rest & 0x3ff) << 13);
  if (rest >= 0x400) return float_of(sign | ((rest << 13) + 0x38000000));
  const float f = float(rest) * 5.9604644775390625e-8f;  // 2^-24
  return sign ? -f : f;
}
#endif

template <class T>
struct Narrow {
  template <class C>
  FUNCTION static T of(C x) {
    return T(x);
  }
};
template <>
struct Narrow<bool> {
  template <class C>
  FUNCTION static bool of(C x) {
    return x != C(0);
  }
};
template <>
struct Narrow<bf16> {
  template <class C>
  FUNCTION static bf16 of(C x) {
    const uint32_t u = bits_of(float(x));
    if ((u & 0x7fffffffu) > 0x7f800000u) return {uint16_t(u >> 16 | 0x40)};
    return {uint16_t((u + 0x7fffu + (u >> 16 & 1)) >> 16)};
  }
#if defined(EVENFLOW_CUDA)
  FUNCTION static bf16 of(float x) {
    bf16 r;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r.bits) : "f"(x));
    return r;
  }
#endif
};
template <>
struct Narrow<f16> {
  template <class C>
  FUNCTION static f16 of(C x) {
#if defined(EVENFLOW_CUDA)
    f16 r;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r.bits) : "f"(float(x)));
    return r;
#else
    const uint32_t u = bits_of(float(x)), sign = u >> 16 & 0x8000, rest = u & 0x7fffffff;
    if (rest > 0x7f800000) return {uint16_t(sign | 0x7e00)};
    if (rest >= 0x477ff000) return {uint16_t(sign | 0x7c00)};
    if (rest < 0x38800000) {  // subnormal: the adder rounds
      const float f = float_of(rest) + float_of(0x3f000000);
      return {uint16_t(sign | (bits_of(f) - 0x3f000000))};
    }
    return {uint16_t(sign | ((rest + 0xc8000fffu + (rest >> 13 & 1)) >> 13))};
#endif
  }
};
template <class T, class C>
FUNCTION T narrow(C x) {
  return Narrow<T>::of(x);
}
FUNCTION float infinity() { return float_of(0x7f800000u); }
FUNCTION float not_a_number() { return float_of(0x7fc00000u); }

/// A number in another type: floats to integers truncate and saturate, NaN is 0; integers wrap.
template <class To>
struct Convert {
  template <class From>
  FUNCTION static To of(From v) {
    return narrow<To>(v);
  }
};
template <class To, class From>
FUNCTION To saturated(From v, double low, double high, To lowest, To highest) {
  if constexpr (std::is_floating_point_v<From>) {
    if (v != v) return 0;
    if (v >= From(high)) return highest;
    if (v <= From(low)) return lowest;
  }
  return To(v);
}
template <>
struct Convert<int32_t> {
  template <class From>
  FUNCTION static int32_t of(From v) {
    return saturated<int32_t>(v, -2147483648.0, 2147483647.0, int32_t(-2147483647 - 1), 2147483647);
  }
};
template <>
struct Convert<int64_t> {
  template <class From>
  FUNCTION static int64_t of(From v) {
    return saturated<int64_t>(v, -9223372036854775808.0, 9223372036854775807.0,
                              int64_t(-9223372036854775807LL - 1), int64_t(9223372036854775807LL));
  }
};
template <>
struct Convert<uint8_t> {
  template <class From>
  FUNCTION static uint8_t of(From v) {
    return saturated<uint8_t>(v, 0.0, 255.0, uint8_t(0), uint8_t(255));
  }
};
template <class To, class From>
FUNCTION To converted(From v) {
  return Convert<To>::of(v);
}

/// The type in which arithmetic on T is done.
template <class T>
using wide_t = decltype(wide(T()));

/// N elements, moved at once.
template <class T, int N>
struct alignas(sizeof(T) * N <= 16 ? sizeof(T) * N : 16) Pack {
  T v[N];
};
template <int N, class T>
FUNCTION Pack<T, N> load_pack(const T* p) {
  return *reinterpret_cast<const Pack<T, N>*>(p);
}
template <int N, class T>
FUNCTION void store_pack(T* p, const Pack<T, N>& v) {
  *reinterpret_cast<Pack<T, N>*>(p) = v;
}

/// The same for what is not needed again: it leaves the cache to others.
template <int N, class T>
FUNCTION Pack<T, N> load_last(const T* p) {
#if defined(EVENFLOW_CUDA)
  if constexpr (sizeof(T) * N == 16) {
    const uint4 v = __ldcs(reinterpret_cast<const uint4*>(p));
    Pack<T, N> r;
    *reinterpret_cast<uint4*>(&r) = v;
    return r;
  }
#endif
  return load_pack<N>(p);
}
template <int N, class T>
FUNCTION void store_last(T* p, const Pack<T, N>& v) {
#if defined(EVENFLOW_CUDA)
  if constexpr (sizeof(T) * N == 16) {
    __stcs(reinterpret_cast<uint4*>(p), *reinterpret_cast<const uint4*>(&v));
    return;
  }
#endif
  store_pack(p, v);
}

/// NaN wins.
template <class C>
FUNCTION C larger(C a, C b) {
  return b > a || b != b ? b : a;
}
template <class C>
FUNCTION C smaller(C a, C b) {
  return b < a || b != b ? b : a;
}

/// Merges what the rows of a block have, for each of `lanes` threads side by side: pairs at a fixed
/// distance, the same bits each time. `local` holds one value a thread; all threads must come here,
/// and each gets its lane's.
template <class V, class Merge>
FUNCTION V reduce_rows(V v, V* local, int lanes, Merge merge) {
  const int t = thread_index(), row = t / lanes;
  barrier();
  local[t] = v;
  for (int half = threads() / lanes / 2; half > 0; half /= 2) {
    barrier();
    if (row < half) local[t] = merge(local[t], local[t + half * lanes]);
  }
  barrier();
  return local[t % lanes];
}
/// The same of all threads.
template <class V, class Merge>
FUNCTION V reduce_block(V v, V* local, Merge merge) {
  return reduce_rows(v, local, 1, merge);
}
