// SPDX-License-Identifier: Apache-2.0
// Batch normalisation (Ioffe & Szegedy 2015) as three operations, and fused forms that match their
// composition:
//   statistics (n, mean, M2) of a batch, their merge by Chan's formula, and normalise: y = gamma (x
//   - mean) / sqrt(variance + epsilon) + beta.
// `axis` holds the axes that keep statistics of their own (channels); all others are merged.
// Statistics, gamma and beta are f32, or f64 for x in f64, whatever the type of x. n = 0 gives (0,
// 0, 0) and an empty y; n = 1 gives y = beta.
#pragma once
#include <string>
#include <vector>

#include "evenflow/graph/tensor.h"

namespace evenflow {

struct StatisticsAttrs;
struct Statistics {
  Tensor n;     ///< elements merged, f32 [], or [ghosts]
  Tensor mean;  ///< [channels...], or [ghosts, channels...]
  Tensor m2;    ///< sum of squared deviations, like mean
  /// Population variance M2 / n; 0 for n = 0.
  Tensor variance() const;
};
/// Of the values as they are stored. Never E[x^2] - E[x]^2: exact to f32 however large the mean.
/// `weights`, f32 of x's rank with extents that are x's or 1 (1 on the kept axes), count an element
/// more than once, or less: n = sum w, mean = sum w x / n, M2 = sum w (x - mean)^2. A place of
/// weight 0 is masked and may hold anything. With `virtual_batch_size`, each block of so many
/// samples (the last may be smaller) has its own: n [ghosts], mean and M2 [ghosts, channels...].
/// `wide`: mean and M2 in f64.
Statistics batch_norm_statistics(In x, std::vector<int64_t> axis = {-1}, const Tensor& weights = {},
                                 int64_t virtual_batch_size = 0, bool wide = false);
/// Of both parts together (Chan, Golub & LeVeque 1979); n = 0 is the identity, exactly.
Statistics merge_statistics(const Statistics& a, const Statistics& b);
/// Of all parts, in their order: n [parts], mean and m2 [parts, channels...]. No parts give (0, 0,
/// 0).
Statistics merge_stacked_statistics(const Statistics& parts);

struct BatchNormAttrs {
  double epsilon = 1e-3;
  std::vector<int64_t> axis = {-1};
  bool scale = true, center = true, residual = false;
  std::string activation = "linear";
  bool weighted = false;
  int64_t virtual_batch_size = 0;
  static void fields(auto& self, auto&& field) {
    field("epsilon", self.epsilon, "added to the variance before the square root");
    field("axis", self.axis, "the axes with statistics of their own");
    field("scale", self.scale, "whether gamma is among the inputs");
    field("center", self.center, "whether beta is among the inputs");
    field("residual", self.residual, "whether a tensor like x is added before the activation");
    field("activation", self.activation, "\"linear\" or \"relu\", after all");
    field("weighted", self.weighted, "whether weights are among the inputs");
    field("virtual_batch_size", self.virtual_batch_size,
          "samples of a ghost batch, each with statistics of its own; 0: one for all");
  }
  /// Appends those of the four that are there to the inputs of a call, and names them here.
  void add(std::vector<In>& inputs, const Tensor& gamma, const Tensor& beta, const Tensor& weights,
           const Tensor& residual, Where where);
  StatisticsAttrs statistics() const;
};
/// gamma (x - mean) / sqrt(variance + epsilon) + beta, with statistics that are given: inference,
/// or a batch's. gamma and beta may be empty.
Tensor batch_normalize(In x, In mean, In variance, const Tensor& gamma, const Tensor& beta,
                       double epsilon = 1e-3, std::vector<int64_t> axis = {-1});

/// The same with a residual added and an activation applied, in one pass. With
/// attrs.virtual_batch_size, mean and variance are [ghosts, channels...]. Weights change no y: they
/// name what is masked, so that nothing comes back from there in the gradient.
Tensor batch_normalize(In x, In mean, In variance, const Tensor& gamma, const Tensor& beta,
                       BatchNormAttrs attrs, const Tensor& residual = {},
                       const Tensor& weights = {});

struct BatchNormResult {
  Tensor y;
  Statistics statistics;
};
/// The statistics of x, and x normalised by them; then `residual` (if any) is added, and the
/// activation applied, in the same pass.
/// Masks, weights and ghosts as in batch_norm_statistics; masked places are normalised too.
BatchNormResult batch_norm(In x, const Tensor& gamma, const Tensor& beta, BatchNormAttrs attrs = {},
                           const Tensor& residual = {}, const Tensor& weights = {});

/// The gradient of batch_norm in two halves: sums over the batch (which add up over devices, ghosts
/// and micro-batches), then dx with the n, mean and variance of the whole. dgamma is gx /
/// sqrt(variance + epsilon), dbeta is g.
struct BackwardSums {
  Tensor g;   ///< sum of the gradient that passes the activation, [channels...]
  Tensor gx;  ///< the same times (x - mean)
};
BackwardSums batch_norm_backward_sums(In x, In grad, In mean, In variance, const Tensor& gamma,
                                      const Tensor& beta, BatchNormAttrs attrs = {},
                                      const Tensor& residual = {}, const Tensor& weights = {});
struct BatchNormDx {
  Tensor x, residual;  ///< like x; residual is empty if there was none
};
BatchNormDx batch_norm_dx(In x, In grad, In n, In mean, In variance, const BackwardSums& sums,
                          const Tensor& gamma, const Tensor& beta, BatchNormAttrs attrs = {},
                          const Tensor& residual = {}, const Tensor& weights = {});

/// A moving average that forgets: moving + rate (value - moving), where rate is 1 - momentum, or
/// with `debiased` (1 - momentum) / (1 - momentum^count), count being the number of this update
/// from 1: then the average of a constant is that constant from the first update on (Kingma & Ba
/// 2015, section 3). n = 0 changes nothing.
Tensor moving_average(In moving, In value, In n, In count, double momentum, bool debiased);

}  // namespace evenflow
