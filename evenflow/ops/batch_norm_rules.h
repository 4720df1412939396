// SPDX-License-Identifier: Apache-2.0
// Shapes of batch normalisation, for its declarations and kernels.
#pragma once
#include <string_view>
#include <vector>

#include "evenflow/core/shape.h"

namespace evenflow {

struct AxisSetAttrs {
  std::vector<int64_t> axis = {-1};
  static void fields(auto& self, auto&& field) {
    field("axis", self.axis, "the axes with statistics of their own");
  }
};
struct ChannelLayout {
  Shape channels;          ///< extents of the kept axes
  Shape wide;              ///< the same with 1 for the merged ones
  std::vector<bool> kept;  ///< by axis of x
  int64_t n = 0;           ///< elements merged into one channel; 0 where there is no channel
  bool blocked = true;     ///< x is [outer, channels, inner]
  int64_t outer = 1, inner = 1;
};
/// Throws for a scalar x, and axes that are out of range or given twice.
ChannelLayout channel_layout(const Sig& x, const std::vector<int64_t>& axis);
/// f64 for f64, else f32.
DType statistics_dtype(DType x);
void check_epsilon(double epsilon);
/// The CVE-2021-29583 class: every per-channel input has exactly one element a channel.
void check_channels(const Sig& found, std::string_view name, const Sig& x,
                    const ChannelLayout& layout);

}  // namespace evenflow
