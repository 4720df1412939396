// SPDX-License-Identifier: Apache-2.0
// conv2d and its gradients where each channel is a group with one filter: vectors along the
// channels.
#include <algorithm>
#include <cstring>
#include <type_traits>

#include "evenflow/core/buffer.h"
#include "evenflow/core/floating.h"
#include "evenflow/core/parallel.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/conv_rules.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "evenflow/ops/conv_depthwise.cpu.cc"
#include "hwy/foreach_target.h"

#include "evenflow/backends/cpu/convert-inl.h"

#ifndef EVENFLOW_OPS_CONV_DEPTHWISE_CPU_ONCE
#define EVENFLOW_OPS_CONV_DEPTHWISE_CPU_ONCE
namespace evenflow::cpu {
// Gradients are summed in C by chunks of images: in place, or in scratch.
struct DepthwisePlan {
  ConvGeometry g;
  int64_t grain, chunks, each;  // images to a chunk; bytes of a chunk's sums in scratch
};
inline int64_t first_tap(const Windows& w, int64_t o) {  // not before the image
  const int64_t start = o * w.stride - w.before;
  return start < 0 ? (-start + w.dilation - 1) / w.dilation : 0;
}
inline int64_t last_tap(const Windows& w, int64_t o) {  // behind it
  const int64_t room = w.in - 1 - (o * w.stride - w.before);
  return room < 0 ? 0 : std::min(w.size, room / w.dilation + 1);
}
}  // namespace evenflow::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace evenflow::cpu::HWY_NAMESPACE {
namespace depthwise_kernels {

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

template <class T>
void forward(const ConvGeometry& g, const T* x, const T* kernel, T* y) {
  const int64_t work = g.w.out * g.c * g.h.size * g.w.size;
  const int64_t grain = std::max<int64_t>(1, 65536 / std::max<int64_t>(1, work));
  parallel_for(g.n * g.h.out, grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t oy = r % g.h.out, ky0 = first_tap(g.h, oy), ky1 = last_tap(g.h, oy);
      const T* image = x + r / g.h.out * g.h.in * g.w.in * g.c;
      const int64_t row = (oy * g.h.stride - g.h.before) * g.w.in;
      for (int64_t ox = 0; ox < g.w.out; ++ox) {
        const int64_t kx0 = first_tap(g.w, ox), kx1 = last_tap(g.w, ox);
        const int64_t column = ox * g.w.stride - g.w.before;
        T* to = y + (r * g.w.out + ox) * g.c;
        each_channel<compute_t<T>>(g.c, [&](auto d, int64_t k) HWY_ATTR {
          auto sum = hn::Zero(d);
          for (int64_t ky = ky0; ky < ky1; ++ky)
            for (int64_t kx = kx0; kx < kx1; ++kx) {
              const int64_t at = row + ky * g.h.dilation * g.w.in + column + kx * g.w.dilation;
              sum = hn::MulAdd(load(d, image + at * g.c + k),
                               load(d, kernel + (ky * g.w.size + kx) * g.c + k), sum);
            }
          store(d, sum, to + k);
        });
      }
    }
  });
}

template <class T>
void input_grad(const DepthwisePlan& plan, const T* kernel, const T* dy, T* dx, char* scratch) {
  using C = compute_t<T>;
  const ConvGeometry& g = plan.g;
  const int64_t size = g.h.in * g.w.in * g.c;
  parallel_for(g.n, plan.grain, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      C* sums;
      if constexpr (std::is_same_v<T, C>)
        sums = dx + n * size;
      else
        sums = reinterpret_cast<C*>(scratch + begin / plan.grain * plan.each);
      std::memset(sums, 0, size_t(size) * sizeof(C));
      const T* grad = dy + n * g.h.out * g.w.out * g.c;
      for (int64_t oy = 0; oy < g.h.out; ++oy) {
        const int64_t ky0 = first_tap(g.h, oy), ky1 = last_tap(g.h, oy);
        const int64_t row = (oy * g.h.stride - g.h.before) * g.w.in;
        for (int64_t ox = 0; ox < g.w.out; ++ox, grad += g.c) {
          const int64_t kx0 = first_tap(g.w, ox), kx1 = last_tap(g.w, ox);
          const int64_t column = ox * g.w.stride - g.w.before;
          each_channel<C>(g.c, [&](auto d, int64_t k) HWY_ATTR {
            const auto v = load(d, grad + k);
            for (int64_t ky = ky0; ky < ky1; ++ky)
              for (int64_t kx = kx0; kx < kx1; ++kx) {
                const int64_t at = row + ky * g.h.dilation * g.w.in + column + kx * g.w.dilation;
                C* to = sums + at * g.c + k;
                const auto w = load(d, kernel + (ky * g.w.size + kx) * g.c + k);
                store(d, hn::MulAdd(v, w, load(d, to)), to);
              }
          });
        }
      }
      if constexpr (!std::is_same_v<T, C>)
        each_channel<C>(size, [&](auto d, int64_t i)
                                  HWY_ATTR { store(d, load(d, sums + i), dx + n * size + i); });
    }
  });
}

template <class T>
void kernel_grad(const DepthwisePlan& plan, const T* x, const T* dy, T* dkernel, char* scratch) {
  using C = compute_t<T>;
  const ConvGeometry& g = plan.g;
  const int64_t size = g.h.size * g.w.size * g.c;
  auto sums_of = [&](int64_t chunk) { return reinterpret_cast<C*>(scratch + chunk * plan.each); };
  parallel_for(g.n, plan.grain, [&](int64_t begin, int64_t end) {
    C* sums = sums_of(begin / plan.grain);
    std::memset(sums, 0, size_t(size) * sizeof(C));
    for (int64_t r = begin * g.h.out; r < end * g.h.out; ++r) {
      const int64_t oy = r % g.h.out;
      const T* image = x + r / g.h.out * g.h.in * g.w.in * g.c;
      const T* grad = dy + r * g.w.out * g.c;
      for (int64_t ky = first_tap(g.h, oy); ky < last_tap(g.h, oy); ++ky) {
        const int64_t iy = oy * g.h.stride - g.h.before + ky * g.h.dilation;
        for (int64_t kx = 0; kx < g.w.size; ++kx) {
          // The windows whose tap kx lies inside the image.
          const int64_t shift = kx * g.w.dilation - g.w.before;
          const int64_t ox0 = shift < 0 ? (-shift + g.w.stride - 1) / g.w.stride : 0;
          const int64_t room = g.w.in - 1 - shift;
          const int64_t ox1 = room < 0 ? 0 : std::min(g.w.out, room / g.w.stride + 1);
          if (ox0 >= ox1) continue;
          const int64_t from = iy * g.w.in + shift;
          C* to = sums + (ky * g.w.size + kx) * g.c;
          each_channel<C>(g.c, [&](auto d, int64_t k) HWY_ATTR {
            auto sum = load(d, to + k);
            for (int64_t ox = ox0; ox < ox1; ++ox)
              sum = hn::MulAdd(load(d, image + (from + ox * g.w.stride) * g.c + k),
                               load(d, grad + ox * g.c + k), sum);
            store(d, sum, to + k);
          });
        }
      }
    }
  });
  C* total = sums_of(0);
  for (int64_t c = 1; c < plan.chunks; ++c)
    for (int64_t i = 0; i < size; ++i) total[i] += sums_of(c)[i];
  for (int64_t i = 0; i < size; ++i) dkernel[i] = static_cast<T>(total[i]);
}

}  // namespace depthwise_kernels

void depthwise_forward(const DepthwisePlan& p, const Call& c) {
  visit_floating(c.out[0].dtype(), [&](auto zero) {
    using T = decltype(zero);
    depthwise_kernels::forward(p.g, c.in[0].as<T>(), c.in[1].as<T>(), c.out[0].as<T>());
  });
}
void depthwise_input_grad(const DepthwisePlan& p, const Call& c) {
  visit_floating(c.out[0].dtype(), [&](auto zero) {
    using T = decltype(zero);
    depthwise_kernels::input_grad(p, c.in[0].as<T>(), c.in[1].as<T>(), c.out[0].as<T>(),
                                  static_cast<char*>(c.scratch));
  });
}
void depthwise_kernel_grad(const DepthwisePlan& p, const Call& c) {
  visit_floating(c.out[0].dtype(), [&](auto zero) {
    using T = decltype(zero);
    depthwise_kernels::kernel_grad(p, c.in[0].as<T>(), c.in[1].as<T>(), c.out[0].as<T>(),
                                   static_cast<char*>(c.scratch));
  });
}

}  // namespace evenflow::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace evenflow {
namespace cpu {
HWY_EXPORT(depthwise_forward);
HWY_EXPORT(depthwise_input_grad);
HWY_EXPORT(depthwise_kernel_grad);
}  // namespace cpu
using namespace cpu;  // one target alone is dispatched to by its namespace

namespace {
enum class Pass { forward, input_grad, kernel_grad };

const Sig& x_of(Pass pass, const CallSig& c) {
  return pass == Pass::input_grad ? c.in[2] : c.in[0];
}
const Sig& kernel_of(Pass pass, const CallSig& c) {
  return pass == Pass::forward ? c.in[1] : pass == Pass::input_grad ? c.in[0] : c.in[2];
}

cpu::DepthwisePlan plan_of(Pass pass, const CallSig& c, const Conv2DAttrs& a) {
  cpu::DepthwisePlan p{conv_geometry(x_of(pass, c), kernel_of(pass, c), a), 1, 1, 0};
  constexpr int64_t kChunks = 16;
  p.grain = std::max<int64_t>(1, (p.g.n + kChunks - 1) / kChunks);
  p.chunks = (p.g.n + p.grain - 1) / p.grain;
  const DType dtype = c.out[0].dtype;
  if (pass == Pass::forward || (pass == Pass::input_grad && size_of(dtype) != 2)) return p;
  const int64_t count =
      pass == Pass::input_grad ? c.out[0].shape.count() / p.g.n : c.out[0].shape.count();
  const int64_t bytes = checked_mul(count, dtype == DType::f64 ? 8 : 4);
  p.each = checked_add(bytes, Buffer::kAlignment) / Buffer::kAlignment * Buffer::kAlignment;
  return p;
}

template <Pass pass>
KernelSheet<Conv2DAttrs> sheet() {
  return {.priority = 15,
          .declines = [](const CallSig& c, const Conv2DAttrs& a) -> std::string {
            if (a.groups != x_of(pass, c).shape[3] || kernel_of(pass, c).shape[3] != a.groups)
              return "groups of more than a channel and a filter";
            for (std::span<const Sig> sigs : {c.in, c.out})
              for (const Sig& s : sigs)
                if (s.shape.count() == 0) return "empty";
            return "";
          },
          .prepare = [](const CallSig& sig, const Conv2DAttrs& a) -> Prepared {
            const cpu::DepthwisePlan p = plan_of(pass, sig, a);
            return {[p](const Call& c) {
                      if constexpr (pass == Pass::forward)
                        HWY_DYNAMIC_DISPATCH(depthwise_forward)(p, c);
                      else if constexpr (pass == Pass::input_grad)
                        HWY_DYNAMIC_DISPATCH(depthwise_input_grad)(p, c);
                      else
                        HWY_DYNAMIC_DISPATCH(depthwise_kernel_grad)(p, c);
                    },
                    checked_mul(p.chunks, p.each)};
          }};
}
}  // namespace

KERNEL(conv2d, Conv2DAttrs, channels) { return sheet<Pass::forward>(); }
KERNEL(conv2d_input_grad, Conv2DAttrs, channels) { return sheet<Pass::input_grad>(); }
KERNEL(conv2d_kernel_grad, Conv2DAttrs, channels) { return sheet<Pass::kernel_grad>(); }

}  // namespace evenflow
#endif
