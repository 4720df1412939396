// SPDX-License-Identifier: Apache-2.0
// Shapes and compositions of batch normalisation, for its declarations and kernels.
#pragma once
#include <string_view>
#include <vector>

#include "evenflow/ops/batch_norm.h"

namespace evenflow {

struct StatisticsAttrs {
  std::vector<int64_t> axis = {-1};
  bool wide = false, weighted = false;
  int64_t virtual_batch_size = 0;
  static void fields(auto& self, auto&& field) {
    field("axis", self.axis, "the axes with statistics of their own");
    field("wide", self.wide, "mean and M2 in f64 whatever x, for what is to be merged");
    field("weighted", self.weighted, "whether weights are among the inputs");
    field("virtual_batch_size", self.virtual_batch_size,
          "samples of a ghost batch, each with statistics of its own; 0: one for all");
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
/// Where gamma, beta, the weights and the residual are among the inputs of a call that has `first`
/// others before them; -1: absent.
struct BatchNormPlaces {
  int gamma = -1, beta = -1, weights = -1, residual = -1, count;
  BatchNormPlaces(const BatchNormAttrs& a, int first) : count(first) {
    if (a.scale) gamma = count++;
    if (a.center) beta = count++;
    if (a.weighted) weights = count++;
    if (a.residual) residual = count++;
  }
};
struct ChannelLayout {
  Shape channels;          ///< extents of the kept axes
  Shape statistics;        ///< of mean, variance, M2 and sums: channels, behind the ghosts if any
  Shape wide;              ///< the same with 1 for the merged ones
  std::vector<bool> kept;  ///< by axis of x
  int64_t n = 0;           ///< elements merged into one channel; 0 where there is no channel
  bool blocked = true;     ///< x is [outer, channels, inner]
  int64_t outer = 1, inner = 1;
};
/// Throws for a scalar x, axes that are out of range or given twice, and ghosts of a batch that is
/// kept.
ChannelLayout channel_layout(const Sig& x, const std::vector<int64_t>& axis,
                             int64_t virtual_batch_size = 0);
/// Whether the leading axis is merged, so that the statistics of parts of the batch can be merged.
bool merges_batch(const Sig& x, const std::vector<int64_t>& axis);
/// f64 for f64, else f32.
DType statistics_dtype(DType x);
void check_epsilon(double epsilon);
/// The CVE-2021-29583 class: every per-channel input has exactly one element a channel.
void check_channels(const Sig& found, std::string_view name, const Sig& x,
                    const ChannelLayout& layout);
/// The same for statistics, of which each ghost has its own.
void check_statistics(const Sig& found, std::string_view name, const Sig& x,
                      const ChannelLayout& layout);
/// f32 of x's rank; each extent is x's or 1, and 1 on the kept axes.
void check_weights(const Sig& found, const Sig& x, const ChannelLayout& layout);

/// Of n, mean and M2.
Sigs statistics_sigs(const Sig& x, const StatisticsAttrs& attrs);

/// What statistics and x are to one another, as compositions that look at no extent, so that a
/// trace serves any batch.
struct Channels {
  const std::vector<int64_t>& axis;
  int64_t virtual_batch_size = 0;
  /// [channels...] as [1, c, 1, ...] against x.
  Tensor along(const Tensor& channels, const Tensor& x) const;
  /// [ghosts, channels...] the same, each ghost's for its rows; without ghosts as along().
  Tensor statistics_along(const Tensor& statistics, const Tensor& x) const;
  /// Over all axes but the channels, of each ghost.
  Tensor sum(const Tensor& x) const;
  /// The sum over ghosts of [ghosts, channels...]; without ghosts what is given.
  Tensor whole(const Tensor& statistics) const;
  /// The sum over channels of statistics, [] or [ghosts].
  Tensor statistics_sum(const Tensor& statistics) const;
  /// Elements behind each channel, f32 [] or [ghosts].
  Tensor count(const Tensor& x) const;
  /// The weights behind each channel, f32 [] or [ghosts].
  Tensor count(const Tensor& x, const Tensor& weights) const;
};
/// In the type of the statistics.
Tensor wide_type(const Tensor& x);
/// a / n, 0 for n = 0; n is a scalar, or [ghosts] for a [ghosts, channels...].
Tensor over_n(const Tensor& a, const Tensor& n);
/// The sum, where empty tensors are 0.
Tensor plus(const Tensor& a, const Tensor& b);
/// What flows into x and the weights from gradients of n, mean and M2 (each may be empty): d mean /
/// dx = w / n, d M2 / dx = 2 w (x - mean), d mean / dw = (x - mean) / n, d M2 / dw = (x - mean)^2.
struct StatisticsGradient {
  Tensor x, weights;  ///< empty where nothing flows
};
StatisticsGradient statistics_gradient(const Tensor& x, const Tensor& weights,
                                       const Channels& channels, const Statistics& statistics,
                                       const Statistics& grad);

}  // namespace evenflow
