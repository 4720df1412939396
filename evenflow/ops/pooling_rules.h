// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>

#include "evenflow/ops/conv_geometry.h"
#include "evenflow/ops/pooling.h"

namespace evenflow {

struct Pooling {
  Windows h, w;
  int64_t n, c;
  Shape out() const { return {n, h.out, w.out, c}; }
};
/// Throws what the declarations of pooling say.
Pooling pooling(const Sig& x, const Pool2DAttrs& attrs);

/// The part of a window that lies inside the image.
struct Range {
  int64_t from, to;
};
inline Range range(const Windows& w, int64_t o) {
  const int64_t start = o * w.stride - w.before;
  return {std::max<int64_t>(0, start), std::min(w.in, start + w.size)};
}

}  // namespace evenflow
