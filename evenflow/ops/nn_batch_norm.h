// SPDX-License-Identifier: Apache-2.0
// Batch normalisation as TensorFlow's functions of these names have it (tf.nn and
// tf.compat.v1.nn): names, argument order, defaults and meaning are TensorFlow's. They are
// compositions of operations, so gradients of every order exist, also through the statistics that
// are given out. moments() is in reduce.h. All compute in f32 for 16-bit types; arguments that do
// not fit throw InvalidArgument with function, argument, found and expected.
#pragma once
#include <string>

#include "evenflow/ops/reduce.h"

namespace evenflow {

/// scale (x - mean) / sqrt(variance + variance_epsilon) + offset; offset and scale may be empty.
/// The others broadcast to x: [channels] over its last axis, or [1, ..., channels, ..., 1] as
/// moments() with keepdims gives them. With variance_epsilon = 0, elements of variance 0 are offset
/// (TensorFlow: NaN).
Tensor batch_normalization(In x, In mean, In variance, const Tensor& offset, const Tensor& scale,
                           double variance_epsilon);

/// Mean and population variance over `axes` (none: all), each element of x counted as often as
/// frequency_weights says; the weights broadcast with x. Two passes. A sum of weights of 0 gives 0.
Moments weighted_moments(In x, Axes axes, In frequency_weights, bool keepdims = false);

struct SufficientStatistics {
  Tensor counts;       ///< elements behind each sum, []
  Tensor mean_ss;      ///< sum of x - shift
  Tensor variance_ss;  ///< sum of (x - shift)^2
  Tensor shift;        ///< as given; empty: 0
};
/// Sums that add up over parts of a batch. They cancel where the mean is large against the
/// deviation, unless `shift` (broadcast against x) is near the mean: batch_norm_statistics does
/// not.
SufficientStatistics sufficient_statistics(In x, Axes axes, const Tensor& shift = {},
                                           bool keepdims = false);
/// Mean and population variance from such sums; rounding never makes the variance negative
/// (TensorFlow: it may).
Moments normalize_moments(In counts, In mean_ss, In variance_ss, const Tensor& shift = {});

struct FusedBatchNormOptions {
  double epsilon = 0.001;
  std::string data_format = "NHWC";  ///< or NCHW for four axes, NDHWC or NCDHW for five
  bool is_training = true;
  double exponential_avg_factor = 1;
};
struct FusedBatchNorm {
  Tensor y;                          ///< like x
  Tensor running_mean, running_var;  ///< [channels]
};
/// x [batch, ..., channels] or [batch, channels, ...]; scale, offset, mean and variance [channels],
/// f32 (f64 for x in f64). In training x is normalised by its own statistics, and with factor f
///   running_mean = (1 - f) mean + f batch_mean
///   running_var  = (1 - f) variance + f batch_variance n / max(n - 1, 1)      (Bessel)
/// n being the elements of a channel; mean and variance are given exactly if f is not 1. Without
/// training they are what x is normalised by, and come back as they are. Of an empty x in training
/// the running values are those given, or NaN (as TensorFlow's) if there were none.
FusedBatchNorm fused_batch_norm(In x, In scale, In offset, const Tensor& mean = {},
                                const Tensor& variance = {}, FusedBatchNormOptions options = {});

}  // namespace evenflow
