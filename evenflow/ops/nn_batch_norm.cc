// SPDX-License-Identifier: Apache-2.0
#include "evenflow/ops/nn_batch_norm.h"

#include <algorithm>
#include <cmath>

#include "evenflow/graph/op.h"
#include "evenflow/ops/batch_norm.h"
#include "evenflow/ops/batch_norm_rules.h"
#include "evenflow/ops/compare.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/layer_norm_rules.h"
#include "evenflow/ops/shape.h"

namespace evenflow {
namespace {
constexpr std::string_view kNormalization = "batch_normalization", kFused = "fused_batch_norm";

void expect_floating(std::string_view function, std::string_view argument, const Tensor& t) {
  if (!t) evenflow::mismatch(function, argument, "an empty tensor", "a tensor");
  if (!is_floating(t.dtype()))
    evenflow::mismatch(function, argument, str(t.sig()), "a floating type");
}
// x is not made larger by what it meets.
void expect_broadcast(std::string_view function, std::string_view argument, const Tensor& t,
                      const Tensor& x) {
  const Shape &a = t.sig().shape, &b = x.sig().shape;
  bool fits = a.rank() <= b.rank();
  for (int i = 1; fits && i <= a.rank(); ++i)
    fits = a[a.rank() - i] == 1 || a[a.rank() - i] == b[b.rank() - i];
  if (!fits)
    evenflow::mismatch(function, argument, str(t.sig()),
                       concat({"a shape that broadcasts to x ", str(x.sig())}));
}
// [channels] along the last axis, in the type of statistics: what batch_normalize takes. An only
// axis is the batch, whose extent may change under a trace.
bool by_last_axis(const Tensor& x, std::initializer_list<const Tensor*> parameters) {
  if (x.rank() < 2) return false;
  const Sig want{statistics_dtype(x.dtype()), {x.sig().shape[x.rank() - 1]}};
  return std::all_of(parameters.begin(), parameters.end(),
                     [&](const Tensor* t) { return !*t || t->sig() == want; });
}
}  // namespace

Tensor batch_normalization(In given, In given_mean, In given_variance, const Tensor& offset,
                           const Tensor& scale, double variance_epsilon) {
  const Tensor x = given.as(), mean = given_mean.as(x.dtype()),
               variance = given_variance.as(x.dtype());
  expect_floating(kNormalization, "x", x);
  if (!(variance_epsilon >= 0) || !std::isfinite(variance_epsilon))
    evenflow::mismatch(kNormalization, "variance_epsilon", variance_epsilon,
                       "a finite number, at least 0");
  const std::pair<std::string_view, const Tensor*> parameters[] = {
      {"mean", &mean}, {"variance", &variance}, {"offset", &offset}, {"scale", &scale}};
  for (auto& [name, t] : parameters) {
    if (!*t && (t == &offset || t == &scale)) continue;
    expect_floating(kNormalization, name, *t), expect_broadcast(kNormalization, name, *t, x);
  }
  if (by_last_axis(x, {&mean, &variance, &offset, &scale}))
    return batch_normalize(x, mean, variance, scale, offset, variance_epsilon);
  const DType wide = statistics_dtype(x.dtype());
  Tensor inverse = inverse_deviation_of(cast(variance, wide), variance_epsilon);
  if (scale) inverse = inverse * cast(scale, wide);
  Tensor y = (cast(x, wide) - cast(mean, wide)) * inverse;
  if (offset) y = y + cast(offset, wide);
  return cast(y, x.dtype());
}

Moments weighted_moments(In given, Axes axes, In frequency_weights, bool keepdims) {
  constexpr std::string_view kName = "weighted_moments";
  const Tensor given_x = given.as();
  expect_floating(kName, "x", given_x);
  const DType wide = statistics_dtype(given_x.dtype());
  const Tensor w = cast(frequency_weights.as(wide), wide);
  Tensor x = cast(given_x, wide);
  if (w.rank() > x.rank())
    evenflow::mismatch(kName, "frequency_weights", str(w.sig()),
                       concat({"at most the axes of x ", str(x.sig())}));
  const Tensor all = w + fill_like(x, 0);  // one for each element, whichever of both is larger
  x = x + fill_like(w, 0);
  const Tensor n = reduce_sum(all, axes, true);
  const Tensor mean = divide_no_nan(reduce_sum(all * x, axes, true), n);
  const Tensor variance =
      divide_no_nan(reduce_sum(all * square(x - expand_like(mean, x)), axes, keepdims),
                    keepdims ? n : reduce_sum(all, axes));
  return {cast(keepdims ? mean : reshape_like(mean, variance), given_x.dtype()),
          cast(variance, given_x.dtype())};
}

SufficientStatistics sufficient_statistics(In given, Axes axes, const Tensor& shift,
                                           bool keepdims) {
  constexpr std::string_view kName = "sufficient_statistics";
  Tensor x = given.as();
  expect_floating(kName, "x", x);
  const DType wide = statistics_dtype(x.dtype());
  x = cast(x, wide);
  if (shift) {
    expect_floating(kName, "shift", shift), expect_broadcast(kName, "shift", shift, x);
    x = x - cast(shift, wide);
  }
  const Tensor sum = reduce_sum(x, axes, keepdims);
  return {cast(count_like(x, sum), wide), sum, reduce_sum(square(x), axes, keepdims), shift};
}
Moments normalize_moments(In counts, In mean_ss, In variance_ss, const Tensor& shift) {
  const Tensor sum = mean_ss.as(), squares = variance_ss.as(sum.dtype());
  expect_floating("normalize_moments", "mean_ss", sum);
  expect_floating("normalize_moments", "variance_ss", squares);
  if (squares.sig() != sum.sig())
    evenflow::mismatch("normalize_moments", "variance_ss", str(squares.sig()),
                       concat({str(sum.sig()), " (mean_ss)"}));
  const Tensor n = cast(counts.as(sum.dtype()), sum.dtype()), mean = sum / n;
  return {shift ? mean + cast(shift, sum.dtype()) : mean, maximum(squares / n - square(mean), 0)};
}

namespace {
int64_t channel_axis(const Tensor& x, const std::string& format) {
  const bool four = format == "NHWC" || format == "NCHW",
             five = format == "NDHWC" || format == "NCDHW";
  if (!four && !five)
    evenflow::mismatch(kFused, "data_format", "\"" + format.substr(0, 20) + "\"",
                       "NHWC, NCHW, NDHWC or NCDHW");
  if (x.rank() != (four ? 4 : 5))
    evenflow::mismatch(kFused, "x", str(x.sig()),
                       concat({four ? 4 : 5, " axes (data_format ", format, ")"}));
  return format[1] == 'C' ? 1 : -1;
}
}  // namespace

FusedBatchNorm fused_batch_norm(In given, In given_scale, In given_offset, const Tensor& mean,
                                const Tensor& variance, FusedBatchNormOptions o) {
  const Tensor x = given.as(), scale = given_scale.as(), offset = given_offset.as();
  expect_floating(kFused, "x", x);
  const int64_t axis = channel_axis(x, o.data_format);
  const double f = o.exponential_avg_factor;
  if (!std::isfinite(f)) evenflow::mismatch(kFused, "exponential_avg_factor", f, "a finite number");
  if (!(o.epsilon >= 0) || !std::isfinite(o.epsilon))
    evenflow::mismatch(kFused, "epsilon", o.epsilon, "a finite number, at least 0");
  const ChannelLayout layout = channel_layout(x.sig(), {axis});
  const Sig channels{statistics_dtype(x.dtype()), layout.channels};
  auto expect_channels = [&](std::string_view name, const Tensor& t) {
    if (!t || t.sig() != channels)
      evenflow::mismatch(kFused, name, t ? str(t.sig()) : "an empty tensor",
                         concat({str(channels), " (channels of x ", str(x.sig()), ")"}));
  };
  expect_channels("scale", scale), expect_channels("offset", offset);
  if (!o.is_training || f != 1) {
    expect_channels("mean", mean), expect_channels("variance", variance);
  } else {
    for (auto& [name, t] : {std::pair{"mean", &mean}, std::pair{"variance", &variance}})
      if (*t && t->sig().shape.count())
        evenflow::mismatch(kFused, name, str(t->sig()),
                           "none (in training with an exponential_avg_factor of 1)");
  }
  if (!o.is_training)
    return {batch_normalize(x, mean, variance, scale, offset, o.epsilon, {axis}), mean, variance};
  BatchNormAttrs attrs;
  attrs.epsilon = o.epsilon, attrs.axis = {axis};
  const BatchNormResult r = batch_norm(x, scale, offset, attrs);
  const Tensor n = cast(r.statistics.n, channels.dtype), none = equal(n, 0);
  const Tensor batch_mean = r.statistics.mean, sample = r.statistics.m2 / maximum(n - 1, 1);
  if (f == 1) {
    const Tensor unknown = full({}, NAN, channels.dtype);
    return {r.y, select(none, unknown, batch_mean), select(none, unknown, sample)};
  }
  return {r.y, select(none, mean, (1 - f) * mean + f * batch_mean),
          select(none, variance, (1 - f) * variance + f * sample)};
}

}  // namespace evenflow
