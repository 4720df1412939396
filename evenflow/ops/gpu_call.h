// SPDX-License-Identifier: Apache-2.0
// What kernels for GPUs have in common on the host's side.
#pragma once
#include <algorithm>
#include <string>

#include "evenflow/backends/gpu/gpu.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/gpu_args.gpu.h"

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
/// What the kernel `copy` of shape.gpu.h takes.
inline gpu::Box gpu_box(const Shape& s, std::span<const int64_t> to,
                        std::span<const int64_t> from) {
  gpu::Box b;
  b.rank = s.rank(), b.count = s.count();
  for (int d = 0; d < s.rank(); ++d)
    b.extent[d] = s[d], b.to[d] = to[size_t(d)], b.from[d] = from[size_t(d)];
  return b;
}
/// A call whose outputs have no element: nothing is to be done.
inline bool nothing_to_do(const Call& c) {
  return std::all_of(c.out.begin(), c.out.end(), [](const View& v) { return !v.count(); });
}

/// The kernel `name` of a file, for the type of the first output.
inline gpu::Launcher gpu_kernel(const CallSig& s, std::string_view file, const std::string& name) {
  return {s.on, file, name, {{"T", gpu_type(s.out[0].dtype)}}};
}
/// run(kernel, call), unless nothing is to be done.
template <class F>
Prepared gpu_call(const CallSig& s, std::string_view file, const std::string& name, F run) {
  return {[k = gpu_kernel(s, file, name), run](const Call& c) {
    if (!nothing_to_do(c)) run(k, c);
  }};
}

/// As in matmul.gpu.h: tiles of a length, and the blocks for them with their memory.
inline int64_t gpu_tiles(int64_t n) { return (n + 63) / 64; }
inline gpu::Grid gpu_tile_grid(int64_t blocks, DType d) {
  constexpr int64_t kDepth = 16, kTile = 64;
  const int64_t wide = d == DType::f64 || !is_floating(d) ? 8 : 4;
  return {std::clamp<int64_t>(blocks, 1, 1 << 20), 256, 2 * kDepth * (kTile + 1) * wide};
}

}  // namespace evenflow
