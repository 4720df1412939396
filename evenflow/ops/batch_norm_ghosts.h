// SPDX-License-Identifier: Apache-2.0
// Ghost batches for kernels: one call on the batch as a call on each block of it.
#pragma once
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "evenflow/graph/op.h"
#include "evenflow/ops/batch_norm.h"

namespace evenflow::cpu {

/// The most that bytes(x of a ghost) gives: full ghosts and the last one are cut differently.
template <class F>
int64_t most_of_ghosts(const Sig& x, int64_t size, F bytes) {
  if (!size || x.shape[0] <= size) return bytes(x);
  auto of = [&](int64_t rows) { return bytes(Sig{x.dtype, x.shape.with(0, rows)}); };
  return std::max(of(size), x.shape[0] % size ? of(x.shape[0] % size) : 0);
}
/// Kinds of gamma, beta, weights and the residual, for each_ghost.
inline std::string operand_kinds(const BatchNormAttrs& a) {
  return std::string(size_t(a.scale + a.center), 'w') + (a.weighted ? "r" : "") +
         (a.residual ? "r" : "");
}
/// f(call on one ghost), in order. A letter each for inputs and outputs: 'r', rows of the batch
/// (those of extent 1 are whole); 's', one a ghost; 'w', whole.
template <class F>
void each_ghost(const Call& c, int64_t size, std::string_view in, std::string_view out, F f) {
  if (!size) return f(c);
  const int64_t n = c.in[0].shape()[0];
  std::vector<Sig> sigs(c.in.size() + c.out.size());
  std::vector<View> views(sigs.size());
  for (int64_t begin = 0; begin < n; begin += size) {
    const int64_t rows = std::min(size, n - begin);
    for (size_t i = 0; i < views.size(); ++i) {
      const bool is_in = i < c.in.size();
      const View& v = is_in ? c.in[i] : c.out[i - c.in.size()];
      const char kind = is_in ? in[i] : out[i - c.in.size()];
      sigs[i] = *v.sig;
      int64_t skipped = 0;
      if (kind == 's') {
        sigs[i].shape = Shape(v.shape().dims().subspan(1));
        skipped = begin / size;
      } else if (kind == 'r' && v.shape()[0] == n && n > 1) {
        sigs[i].shape = v.shape().with(0, rows);
        skipped = begin;
      }
      const int64_t bytes = v.shape().rank() && v.shape()[0] ? v.sig->bytes() / v.shape()[0] : 0;
      views[i] = {&sigs[i], static_cast<char*>(v.data) + skipped * bytes};
    }
    Call part = c;
    part.in = {views.data(), c.in.size()}, part.out = {views.data() + c.in.size(), c.out.size()};
    f(part);
  }
}

}  // namespace evenflow::cpu
