// SPDX-License-Identifier: Apache-2.0
// The numbers of a Winograd convolution, checked, and its matrices. For declarations and kernels.
#pragma once
#include "evenflow/core/shape.h"
#include "evenflow/ops/winograd.h"

namespace evenflow {

struct WinogradGeometry {
  int64_t tile = 4;                     // outputs of a tile along an axis
  int64_t n = 0, h = 0, w = 0, ci = 0;  // x
  int64_t oh = 0, ow = 0, co = 0;       // y
  int64_t top = 0, left = 0;            // paddings
  int64_t tiles_y = 0, tiles_x = 0;     // of an image; the last ones may be partial
  int64_t points() const { return (tile + 2) * (tile + 2); }
  int64_t tiles() const { return n * tiles_y * tiles_x; }
};
/// Throws what the declarations say.
WinogradGeometry winograd_geometry(const Sig& x, int64_t co, const WinogradAttrs& attrs);
/// The same, from u [points, ci, co].
WinogradGeometry winograd_geometry_of(const Sig& x, const Sig& u, const WinogradAttrs& attrs);

/// A small matrix, row-major.
struct WinogradMatrix {
  int rows = 0, columns = 0;
  double at[36] = {};
  WinogradMatrix transposed() const;
};
/// In one dimension y = A^T [(G g) * (B^T d)]. tile is 4 or 2.
struct WinogradMatrices {
  WinogradMatrix input;   ///< B^T [tile + 2, tile + 2]
  WinogradMatrix kernel;  ///< G [tile + 2, 3]
  WinogradMatrix output;  ///< A^T [tile, tile + 2]
};
const WinogradMatrices& winograd_matrices(int64_t tile);

}  // namespace evenflow
