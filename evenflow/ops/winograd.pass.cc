// SPDX-License-Identifier: Apache-2.0
// conv2d and its gradients by Winograd's operations, where these are faster. A kernel is
// transformed once for all that read it. Images of 16 bits too, with everything between in f32:
// there are no faster products for them but AMX's.
#include <array>
#include <map>

#include "evenflow/backends/cpu/features.h"
#include "evenflow/graph/pass.h"
#include "evenflow/ops/conv_rules.h"
#include "evenflow/ops/elementwise_attrs.h"
#include "evenflow/ops/winograd.h"

namespace evenflow {
namespace {

class Winograd {
 public:
  explicit Winograd(Graph& g) : r_(g) {}
  void run() {
    const int n = r_.calls();
    for (int i = 0; i < n; ++i) {
      const std::string& op = r_.call(i).op->name;
      if (op == "conv2d")
        forward(i);
      else if (op == "conv2d_input_grad")
        input_grad(i);
      else if (op == "conv2d_kernel_grad")
        kernel_grad(i);
    }
    r_.finish();
  }

 private:
  // The attributes for a call on these values; tile is 0 where it stays as it is.
  WinogradAttrs attrs_for(int call, int x, int kernel) const {
    const auto& a = *static_cast<const Conv2DAttrs*>(r_.call(call).attrs.get());
    const ConvGeometry g = conv_geometry(r_.sig(x), r_.sig(kernel), a);
    WinogradAttrs r{0, {g.h.before, g.h.after, g.w.before, g.w.after}};
    for (const Windows& w : {g.h, g.w})
      if (w.size != 3 || w.stride != 1 || w.dilation != 1 || std::max(w.before, w.after) > 2)
        return r;
    const DType d = r_.sig(x).dtype;
    if (g.groups != 1 || d == DType::f64 || (d == DType::bf16 && cpu::has_amx_bf16())) return r;
    r.tile = winograd_tile(g.n, g.h.out, g.w.out, g.c, g.filters);
    return r;
  }
  int transformed(int kernel, int64_t tile, bool flip, int like) {
    const auto [it, fresh] = transformed_.try_emplace({kernel, tile, flip}, -1);
    if (fresh) {
      if (r_.sig(kernel).dtype != DType::f32)
        kernel = emit("cast", CastAttrs{DType::f32}, {kernel}, like);
      it->second = emit("winograd_kernel", WinogradKernelAttrs{tile, flip}, {kernel}, like);
    }
    return it->second;
  }
  template <class A>
  int emit(std::string_view op, A attrs, std::vector<int> in, int like) {
    return r_.emit(find_op(op), std::make_shared<const A>(std::move(attrs)), std::move(in),
                   like)[0];
  }
  void put(int call, int value) {
    r_.replace(r_.call(call).out[0], value);
    r_.erase(call);
  }
  void forward(int i) {
    const int x = r_.call(i).in[0], kernel = r_.call(i).in[1];
    const WinogradAttrs a = attrs_for(i, x, kernel);
    if (!a.tile) return;
    put(i, emit("winograd_conv2d", a, {x, transformed(kernel, a.tile, false, i)}, i));
  }
  void input_grad(int i) {
    const int kernel = r_.call(i).in[0], dy = r_.call(i).in[1];
    WinogradAttrs a = attrs_for(i, r_.call(i).in[2], kernel);
    if (!a.tile) return;
    for (int64_t& p : a.paddings) p = 2 - p;
    put(i, emit("winograd_conv2d", a, {dy, transformed(kernel, a.tile, true, i)}, i));
  }
  void kernel_grad(int i) {
    const int x = r_.call(i).in[0], dy = r_.call(i).in[1];
    const WinogradAttrs a = attrs_for(i, x, r_.call(i).in[2]);
    if (!a.tile) return;
    const int du = emit("winograd_conv2d_kernel_grad", a, {x, dy}, i);
    int dk = emit("winograd_kernel_grad", WinogradKernelAttrs{.tile = a.tile}, {du}, i);
    if (const DType d = r_.sig(r_.call(i).out[0]).dtype; d != DType::f32)
      dk = emit("cast", CastAttrs{d}, {dk}, i);
    put(i, dk);
  }

  Rewriter r_;
  std::map<std::array<int64_t, 3>, int> transformed_;
};
}  // namespace

PASS(winograd) {
  return {.summary = "3x3 convolutions of stride 1 in Winograd's tiles",
          .order = 40,
          .keeps_bits = false,
          .host_only = true,
          .run = [](Graph& g, const PassOptions&) { Winograd(g).run(); }};
}

}  // namespace evenflow
