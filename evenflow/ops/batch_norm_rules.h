// SPDX-License-Identifier: Apache-2.0
// Shapes and compositions of batch normalisation, for its declarations and kernels.
#pragma once
#include <string_view>
#include <vector>

#include "evenflow/graph/tensor.h"

namespace evenflow {

struct StatisticsAttrs {
  std::vector<int64_t> axis = {-1};
  bool wide = false;
  static void fields(auto& self, auto&& field) {
    field("axis", self.axis, "the axes with statistics of their own");
    field("wide", self.wide, "mean and M2 in f64 whatever x, for what is to be merged");
  }
};
struct MovingAverageAttrs {
  double momentum = 0.99;
  bool debiased = false;
  static void fields(auto& self, auto&& field) {
    field("momentum", self.momentum, "weight of the old value");
    field("debiased", self.debiased, "whether early averages are freed from their initial value");
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
/// Whether the leading axis is merged, so that the statistics of parts of the batch can be merged.
bool merges_batch(const Sig& x, const std::vector<int64_t>& axis);
/// f64 for f64, else f32.
DType statistics_dtype(DType x);
void check_epsilon(double epsilon);
/// The CVE-2021-29583 class: every per-channel input has exactly one element a channel.
void check_channels(const Sig& found, std::string_view name, const Sig& x,
                    const ChannelLayout& layout);

/// Of n, mean and M2.
Sigs statistics_sigs(const Sig& x, const std::vector<int64_t>& axis, bool wide = false);

/// [channels...] as [1, c, 1, ...] against x: by axes, so that a trace serves any batch.
Tensor along(const Tensor& channels, const Tensor& x, const std::vector<int64_t>& axis);
Tensor channel_sum(const Tensor& x, const std::vector<int64_t>& axis);
/// In the type of the statistics.
Tensor wide_type(const Tensor& x);
/// a / n, 0 for n = 0.
Tensor over_n(const Tensor& a, const Tensor& n);
/// The sum, where empty tensors are 0.
Tensor plus(const Tensor& a, const Tensor& b);

}  // namespace evenflow
