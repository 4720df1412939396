// SPDX-License-Identifier: Apache-2.0
// Pooling, vectors along the channels.
#include <algorithm>
#include <cstring>
#include <type_traits>

#include "evenflow/core/buffer.h"
#include "evenflow/core/floating.h"
#include "evenflow/core/parallel.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/pooling_rules.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "evenflow/ops/pooling.cpu.cc"
#include "hwy/foreach_target.h"

#include "evenflow/backends/cpu/convert-inl.h"

#ifndef EVENFLOW_OPS_POOLING_CPU_ONCE
#define EVENFLOW_OPS_POOLING_CPU_ONCE
namespace evenflow::cpu {
constexpr int64_t kPoolChunks = 16;
// Gradients of 16-bit types are summed in f32: an image for each chunk.
struct PoolGrad {
  int64_t grain, chunks, image;  // images to a chunk; bytes
};
inline PoolGrad pool_grad(const Pooling& p, DType dtype) {
  PoolGrad g{};
  g.grain = std::max<int64_t>(1, (p.n + kPoolChunks - 1) / kPoolChunks);
  g.chunks = (p.n + g.grain - 1) / g.grain;
  if (size_of(dtype) == 2)
    g.image = checked_mul(checked_mul(p.h.in * p.w.in, p.c), 4) / Buffer::kAlignment *
                  Buffer::kAlignment +
              Buffer::kAlignment;
  return g;
}
}  // namespace evenflow::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace evenflow::cpu::HWY_NAMESPACE {
namespace pooling_kernels {
// Calls f(tag, channel) for vectors of channels, and for what is left of them one by one.
template <class C, class F>
HWY_INLINE void each_channel(int64_t channels, F f) {
  const hn::ScalableTag<C> d;
  const int64_t lanes = int64_t(hn::Lanes(d));
  int64_t k = 0;
  for (; k + lanes <= channels; k += lanes) f(d, k);
  const hn::CappedTag<C, 1> one;
  for (; k < channels; ++k) f(one, k);
}

// Calls f(row of all output rows, its range of input rows) in parallel.
template <class F>
void each_row(const Pooling& p, F f) {
  const int64_t work = p.w.out * p.c;
  parallel_for(p.n * p.h.out, std::max<int64_t>(1, 16384 / std::max<int64_t>(1, work)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t r = begin; r < end; ++r) f(r, range(p.h, r % p.h.out));
               });
}

template <class T>
void max_forward(const Pooling& p, const T* x, T* y) {
  each_row(p, [&](int64_t r, Range ry) {
    const T* image = x + r / p.h.out * p.h.in * p.w.in * p.c;
    for (int64_t ox = 0; ox < p.w.out; ++ox) {
      const Range rx = range(p.w, ox);
      T* to = y + (r * p.w.out + ox) * p.c;
      each_channel<compute_t<T>>(p.c, [&](auto d, int64_t k) HWY_ATTR {
        auto best = load(d, image + (ry.from * p.w.in + rx.from) * p.c + k);
        for (int64_t i = ry.from; i < ry.to; ++i) {
          const T* from = image + (i * p.w.in + rx.from) * p.c + k;
          for (int64_t j = rx.from; j < rx.to; ++j, from += p.c) {
            const auto v = load(d, from);
            best = hn::IfThenElse(hn::Or(hn::Gt(v, best), hn::IsNaN(v)), v, best);
          }
        }
        store(d, best, to + k);
      });
    }
  });
}

template <class T>
void average_forward(const Pooling& p, const T* x, T* y) {
  using C = compute_t<T>;
  each_row(p, [&](int64_t r, Range ry) {
    const T* image = x + r / p.h.out * p.h.in * p.w.in * p.c;
    for (int64_t ox = 0; ox < p.w.out; ++ox) {
      const Range rx = range(p.w, ox);
      T* to = y + (r * p.w.out + ox) * p.c;
      const C count = C((ry.to - ry.from) * (rx.to - rx.from));
      each_channel<C>(p.c, [&](auto d, int64_t k) HWY_ATTR {
        auto sum = hn::Zero(d);
        for (int64_t i = ry.from; i < ry.to; ++i) {
          const T* from = image + (i * p.w.in + rx.from) * p.c + k;
          for (int64_t j = rx.from; j < rx.to; ++j, from += p.c) sum = hn::Add(sum, load(d, from));
        }
        store(d, hn::Div(sum, hn::Set(d, count)), to + k);
      });
    }
  });
}

// f(n, sums of image n) adds to the sums.
template <class T, class F>
void each_image(const Pooling& p, T* dx, char* scratch, F f) {
  using C = compute_t<T>;
  const PoolGrad plan = pool_grad(p, dtype_of<T>);
  const int64_t size = p.h.in * p.w.in * p.c;
  parallel_for(p.n, plan.grain, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      T* to = dx + n * size;
      C* sum;
      if constexpr (std::is_same_v<T, C>)
        sum = to;
      else
        sum = reinterpret_cast<C*>(scratch + begin / plan.grain * plan.image);
      std::memset(sum, 0, size_t(size) * sizeof(C));
      f(n, sum);
      if constexpr (!std::is_same_v<T, C>)
        each_channel<C>(size,
                        [&](auto d, int64_t i) HWY_ATTR { store(d, load(d, sum + i), to + i); });
    }
  });
}

template <class T>
void max_backward(const Pooling& p, const T* x, const T* dy, T* dx, char* scratch) {
  using C = compute_t<T>;
  each_image(p, dx, scratch, [&](int64_t n, C* sums) {
    const T* image = x + n * p.h.in * p.w.in * p.c;
    const T* grad = dy + n * p.h.out * p.w.out * p.c;
    for (int64_t oy = 0; oy < p.h.out; ++oy)
      for (int64_t ox = 0; ox < p.w.out; ++ox, grad += p.c) {
        const Range ry = range(p.h, oy), rx = range(p.w, ox);
        each_channel<C>(p.c, [&](auto d, int64_t k) HWY_ATTR {
          auto best = load(d, image + (ry.from * p.w.in + rx.from) * p.c + k);
          auto which = hn::Zero(d), tap = hn::Zero(d);
          const auto one = hn::Set(d, C(1));
          for (int64_t i = ry.from; i < ry.to; ++i) {
            const T* from = image + (i * p.w.in + rx.from) * p.c + k;
            for (int64_t j = rx.from; j < rx.to; ++j, from += p.c) {
              const auto v = load(d, from);
              const auto more = hn::Gt(v, best);
              best = hn::IfThenElse(more, v, best);
              which = hn::IfThenElse(more, tap, which);
              tap = hn::Add(tap, one);
            }
          }
          const auto g = load(d, grad + k);
          tap = hn::Zero(d);
          for (int64_t i = ry.from; i < ry.to; ++i) {
            C* to = sums + (i * p.w.in + rx.from) * p.c + k;
            for (int64_t j = rx.from; j < rx.to; ++j, to += p.c) {
              store(d, hn::Add(load(d, to), hn::IfThenElseZero(hn::Eq(which, tap), g)), to);
              tap = hn::Add(tap, one);
            }
          }
        });
      }
  });
}

template <class T>
void average_backward(const Pooling& p, const T* dy, T* dx, char* scratch) {
  using C = compute_t<T>;
  each_image(p, dx, scratch, [&](int64_t n, C* sums) {
    const T* grad = dy + n * p.h.out * p.w.out * p.c;
    for (int64_t oy = 0; oy < p.h.out; ++oy)
      for (int64_t ox = 0; ox < p.w.out; ++ox, grad += p.c) {
        const Range ry = range(p.h, oy), rx = range(p.w, ox);
        const C count = C((ry.to - ry.from) * (rx.to - rx.from));
        each_channel<C>(p.c, [&](auto d, int64_t k) HWY_ATTR {
          const auto g = hn::Div(load(d, grad + k), hn::Set(d, count));
          for (int64_t i = ry.from; i < ry.to; ++i) {
            C* to = sums + (i * p.w.in + rx.from) * p.c + k;
            for (int64_t j = rx.from; j < rx.to; ++j, to += p.c)
              store(d, hn::Add(load(d, to), g), to);
          }
        });
      }
  });
}

}  // namespace pooling_kernels
using namespace pooling_kernels;

void max_pool(const Pooling& p, const Call& c) {
  visit_floating(c.in[0].dtype(), [&](auto zero) {
    using T = decltype(zero);
    max_forward(p, c.in[0].as<T>(), c.out[0].as<T>());
  });
}
void average_pool(const Pooling& p, const Call& c) {
  visit_floating(c.in[0].dtype(), [&](auto zero) {
    using T = decltype(zero);
    average_forward(p, c.in[0].as<T>(), c.out[0].as<T>());
  });
}
void max_pool_grad(const Pooling& p, const Call& c) {
  visit_floating(c.in[0].dtype(), [&](auto zero) {
    using T = decltype(zero);
    max_backward(p, c.in[0].as<T>(), c.in[1].as<T>(), c.out[0].as<T>(),
                 static_cast<char*>(c.scratch));
  });
}
void average_pool_grad(const Pooling& p, const Call& c) {
  visit_floating(c.in[0].dtype(), [&](auto zero) {
    using T = decltype(zero);
    average_backward(p, c.in[0].as<T>(), c.out[0].as<T>(), static_cast<char*>(c.scratch));
  });
}

}  // namespace evenflow::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace evenflow {
namespace cpu {
HWY_EXPORT(max_pool);
HWY_EXPORT(average_pool);
HWY_EXPORT(max_pool_grad);
HWY_EXPORT(average_pool_grad);
}  // namespace cpu
using namespace cpu;  // one target alone is dispatched to by its namespace

namespace {
// Positions in a window are counted in the element type.
std::string declines(const Sig& x, const Pool2DAttrs& a) {
  const Pooling p = pooling(x, a);
  if (x.shape.count() == 0) return "empty";
  return double(p.h.size) * double(p.w.size) > 1 << 20 ? "a window above 2^20" : "";
}
int64_t scratch(const Sig& x, const Pool2DAttrs& a) {
  const cpu::PoolGrad g = cpu::pool_grad(pooling(x, a), x.dtype);
  return checked_mul(g.chunks, g.image);
}
}  // namespace

KERNEL(max_pool2d, Pool2DAttrs, channels) {
  return {.priority = 10,
          .declines = [](const CallSig& c, const Pool2DAttrs& a) { return declines(c.in[0], a); },
          .run =
              [](const Call& c, const Pool2DAttrs& a) {
                HWY_DYNAMIC_DISPATCH(max_pool)(pooling(*c.in[0].sig, a), c);
              }};
}
KERNEL(average_pool2d, Pool2DAttrs, channels) {
  return {.priority = 10,
          .declines = [](const CallSig& c, const Pool2DAttrs& a) { return declines(c.in[0], a); },
          .run =
              [](const Call& c, const Pool2DAttrs& a) {
                HWY_DYNAMIC_DISPATCH(average_pool)(pooling(*c.in[0].sig, a), c);
              }};
}
KERNEL(max_pool2d_grad, Pool2DAttrs, channels) {
  return {.priority = 10,
          .declines = [](const CallSig& c, const Pool2DAttrs& a) { return declines(c.in[0], a); },
          .run =
              [](const Call& c, const Pool2DAttrs& a) {
                HWY_DYNAMIC_DISPATCH(max_pool_grad)(pooling(*c.in[0].sig, a), c);
              },
          .scratch = [](const CallSig& c, const Pool2DAttrs& a) { return scratch(c.in[0], a); }};
}
KERNEL(average_pool2d_grad, Pool2DAttrs, channels) {
  return {.priority = 10,
          .declines = [](const CallSig& c, const Pool2DAttrs& a) { return declines(c.in[1], a); },
          .run =
              [](const Call& c, const Pool2DAttrs& a) {
                HWY_DYNAMIC_DISPATCH(average_pool_grad)(pooling(*c.in[1].sig, a), c);
              },
          .scratch = [](const CallSig& c, const Pool2DAttrs& a) { return scratch(c.in[1], a); }};
}

}  // namespace evenflow
#endif
