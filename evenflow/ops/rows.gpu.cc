// SPDX-License-Identifier: Apache-2.0
// Softmax, cross-entropy and places of extremes on GPUs.
#include "evenflow/ops/gpu_call.h"
#include "evenflow/ops/softmax_rules.h"

namespace evenflow {
namespace {
using gpu::Grid;
using gpu::Launcher;

// Threads for rows of n: one that has nothing to do waits at every barrier.
int threads_for(int64_t n) {
  int t = 32;
  while (t < 512 && t * 4 < n) t *= 2;
  return t;
}
Grid row_grid(int64_t rows, int64_t n) {
  const int t = threads_for(n);
  return {std::clamp<int64_t>(rows, 1, 1 << 20), t, t * int64_t(sizeof(double))};
}
Launcher kernel(const CallSig& s, const std::string& name, DType labels = DType::i64) {
  return {s.on, "ops/rows.gpu.h", name, {{"T", gpu_type(s.in[0].dtype)}, {"I", gpu_type(labels)}}};
}
template <bool kLogarithm>
KernelSheet<SoftmaxAttrs> softmax_sheet() {
  return {.prepare = [](const CallSig& s, const SoftmaxAttrs& a) -> Prepared {
    const Shape& x = s.in[0].shape;
    const AlongAxis along = along_axis(x, x.resolve(int(a.axis)));
    const int64_t rows = along.outer * along.inner, n = along.extent, inner = along.inner;
    const Launcher softmax = kernel(s, "softmax");
    return {[=](const Call& c) {
      if (!nothing_to_do(c))
        softmax(c.on, row_grid(rows, n), c.in[0].data, c.out[0].data, rows, n, inner,
                int32_t(kLogarithm));
    }};
  }};
}
template <class A, bool kLeast>
Prepared extreme(const CallSig& s, const std::vector<AttrValue>& attrs) {
  const Shape& x = s.in[0].shape;
  const AlongAxis along = along_axis(x, x.resolve(int(std::get<int64_t>(attrs[0]))));
  const int64_t results = along.outer * along.inner, n = along.extent, inner = along.inner;
  const Launcher search = kernel(s, "extreme");
  return {[=](const Call& c) {
    if (results)
      search(c.on, grid_for(c.on, results), c.in[0].data, c.out[0].data, results, n, inner,
             int32_t(kLeast));
  }};
}
// argmax and argmin keep their attributes to themselves.
std::optional<KernelDef> extremes(const OpDef& op) {
  if (op.name != "argmax" && op.name != "argmin") return {};
  KernelDef k;
  k.name = "gpu_search";
  k.prepare = [&op](const CallSig& s, const void* attrs) {
    return op.name == "argmin" ? extreme<void, true>(s, op.get_attrs(attrs))
                               : extreme<void, false>(s, op.get_attrs(attrs));
  };
  return k;
}
const GenericKernelEntry extremes_entry{extremes, true};
}  // namespace

GPU_KERNEL(softmax, SoftmaxAttrs, rows) { return softmax_sheet<false>(); }
GPU_KERNEL(log_softmax, SoftmaxAttrs, rows) { return softmax_sheet<true>(); }
GPU_KERNEL(sparse_softmax_cross_entropy, NoAttrs, rows) {
  return {.prepare = [](const CallSig& s, const NoAttrs&) -> Prepared {
    const int64_t rows = s.in[1].shape.count(), n = s.in[0].shape[s.in[0].shape.rank() - 1];
    const Launcher loss = kernel(s, "cross_entropy", s.in[1].dtype);
    return {[=](const Call& c) {
      if (rows)
        loss(c.on, row_grid(rows, n), c.in[0].data, c.in[1].data, c.out[0].data,
             gpu::gpu_of(c.on).errors(), rows, n);
    }};
  }};
}
GPU_KERNEL(sparse_softmax_cross_entropy_grad, NoAttrs, rows) {
  return {.prepare = [](const CallSig& s, const NoAttrs&) -> Prepared {
    const int64_t rows = s.in[1].shape.count(), n = s.in[0].shape[s.in[0].shape.rank() - 1];
    const Launcher grad = kernel(s, "cross_entropy_grad", s.in[1].dtype);
    return {[=](const Call& c) {
      if (rows)
        grad(c.on, row_grid(rows, n), c.in[0].data, c.in[1].data, c.in[2].data, c.out[0].data,
             gpu::gpu_of(c.on).errors(), rows, n);
    }};
  }};
}

}  // namespace evenflow
