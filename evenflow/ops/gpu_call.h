// SPDX-License-Identifier: Apache-2.0
// What kernels for GPUs have in common on the host's side.
#pragma once
#include <algorithm>
#include <string>

#include "evenflow/backends/gpu/gpu.h"
#include "evenflow/graph/op.h"

namespace evenflow {

/// The name of an element type in kernels.
std::string gpu_type(DType dtype);
/// Threads that go over n items together: enough to fill the device, no more than there are items.
inline gpu::Grid grid_for(Accelerator* on, int64_t n, int threads = 256, int blocks_each = 8) {
  const int64_t most = int64_t(gpu::gpu_of(on).processors()) * blocks_each;
  return {std::clamp<int64_t>((n + threads - 1) / threads, 1, most), threads, 0};
}
/// Blocks along a shape: how the outer extents, the one that matters and the inner ones multiply
/// up.
struct AlongAxis {
  int64_t outer = 1, extent = 1, inner = 1;
};
inline AlongAxis along_axis(const Shape& s, int axis) {
  AlongAxis r;
  for (int i = 0; i < s.rank(); ++i) (i < axis ? r.outer : i > axis ? r.inner : r.extent) *= s[i];
  return r;
}
/// As in shape.gpu.h: the kernel `copy` moves to[to_base + ...] = from[from_base + ...].
struct GpuBox {
  int64_t rank = 0, count = 1, to_base = 0, from_base = 0, extent[8] = {}, to[8] = {}, from[8] = {};
};
inline GpuBox gpu_box(const Shape& s, std::span<const int64_t> to, std::span<const int64_t> from) {
  GpuBox b;
  b.rank = s.rank(), b.count = s.count();
  for (int d = 0; d < s.rank(); ++d)
    b.extent[d] = s[d], b.to[d] = to[size_t(d)], b.from[d] = from[size_t(d)];
  return b;
}
/// A call whose outputs have no element: nothing is to be done.
inline bool nothing_to_do(const Call& c) {
  return std::all_of(c.out.begin(), c.out.end(), [](const View& v) { return !v.count(); });
}

}  // namespace evenflow
