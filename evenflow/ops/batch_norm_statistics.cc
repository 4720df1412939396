// SPDX-License-Identifier: Apache-2.0
// The statistics of batch normalisation, their merge (Chan, Golub & LeVeque 1979), and moving
// averages of them.
#include <cmath>

#include "evenflow/graph/op.h"
#include "evenflow/ops/batch_norm.h"
#include "evenflow/ops/batch_norm_rules.h"
#include "evenflow/ops/blocks.h"
#include "evenflow/ops/compare.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"

namespace evenflow {

// ---- shapes
ChannelLayout channel_layout(const Sig& x, const std::vector<int64_t>& axis,
                             int64_t virtual_batch_size) {
  const Shape& s = x.shape;
  if (s.rank() < 1) fail({"x is ", str(x), ", expected rank 1 or more"});
  if (axis.empty() || axis.size() > size_t(s.rank()))
    fail({"axis has ", axis.size(), " axes, expected 1 to ", s.rank(), " for x ", str(x)});
  ChannelLayout r;
  r.kept.assign(size_t(s.rank()), false);
  for (int64_t a : axis) {
    if (a < -s.rank() || a >= s.rank())
      fail({"axis holds ", a, ", expected ", -s.rank(), "..", s.rank() - 1, " for x ", str(x)});
    const size_t d = size_t(s.resolve(int(a)));
    if (r.kept[d]) fail({"axis holds ", a, " twice"});
    r.kept[d] = true;
  }
  std::vector<int64_t> kept, wide;
  for (int i = 0; i < s.rank(); ++i) {
    if (r.kept[size_t(i)]) kept.push_back(s[i]);
    wide.push_back(r.kept[size_t(i)] ? s[i] : 1);
  }
  r.channels = Shape(kept), r.wide = Shape(wide);
  if (virtual_batch_size < 0)
    fail({"virtual_batch_size is ", virtual_batch_size, ", expected 0 (none) or more"});
  if (virtual_batch_size) {
    if (r.kept[0])
      fail({"virtual_batch_size is ", virtual_batch_size,
            ", expected 0 where the batch, axis 0, has statistics of its own"});
    kept.insert(kept.begin(), s[0] / virtual_batch_size + (s[0] % virtual_batch_size != 0));
  }
  r.statistics = Shape(kept);
  int state = 0;  // x as [outer, channels, inner] when the kept axes are neighbours
  for (int i = 0; i < s.rank(); ++i) {
    if (s[i] == 1) continue;
    if (r.kept[size_t(i)]) {
      if (state == 2) r.blocked = false;
      state = 1;
    } else if (state == 0)
      r.outer *= s[i];
    else
      state = 2, r.inner *= s[i];
  }
  r.n = r.channels.count() ? s.count() / r.channels.count() : 0;
  return r;
}
bool merges_batch(const Sig& x, const std::vector<int64_t>& axis) {
  return x.shape.rank() > 1 && !channel_layout(x, axis).kept[0];
}
DType statistics_dtype(DType x) { return x == DType::f64 ? DType::f64 : DType::f32; }
void check_epsilon(double e) {
  if (!(e >= 0) || !std::isfinite(e))
    fail({"epsilon is ", e, ", expected a finite number, at least 0"});
}
void check_channels(const Sig& found, std::string_view name, const Sig& x, const ChannelLayout& c) {
  const Sig want{statistics_dtype(x.dtype), c.channels};
  if (found != want)
    fail({name, " is ", str(found), ", expected ", str(want), " (channels of x ", str(x), ")"});
}
void check_statistics(const Sig& found, std::string_view name, const Sig& x,
                      const ChannelLayout& c) {
  const Sig want{statistics_dtype(x.dtype), c.statistics};
  if (found != want)
    fail({name, " is ", str(found), ", expected ", str(want),
          c.statistics == c.channels ? " (channels of x " : " (ghosts and channels of x ", str(x),
          ")"});
}
void check_weights(const Sig& found, const Sig& x, const ChannelLayout& c) {
  bool fits = found.dtype == DType::f32 && found.shape.rank() == x.shape.rank();
  for (int i = 0; fits && i < x.shape.rank(); ++i)
    fits = found.shape[i] == 1 || (!c.kept[size_t(i)] && found.shape[i] == x.shape[i]);
  if (!fits)
    fail({"weights are ", str(found), ", expected f32 of the rank of x ", str(x),
          ", each extent that of x or 1, and 1 on the axes with statistics of their own"});
}

// ---- compositions
namespace {
std::vector<int64_t> merged_axes(const Tensor& x, const std::vector<int64_t>& axis, int first) {
  const ChannelLayout c = channel_layout(x.sig(), axis);
  std::vector<int64_t> r;
  for (int i = first; i < x.rank(); ++i)
    if (!c.kept[size_t(i)]) r.push_back(i);
  return r;
}
Tensor sum_over(const Tensor& x, const std::vector<int64_t>& axes) {
  return axes.empty() ? x : reduce_sum(x, axes);
}
}  // namespace

Tensor Channels::along(const Tensor& channels, const Tensor& x) const {
  const ChannelLayout c = channel_layout(x.sig(), axis);
  Tensor t = channels;
  bool trailing = true;  // kept axes that are the last ones need no further axes
  for (int i = x.rank() - c.channels.rank(); i < x.rank(); ++i) trailing &= bool(c.kept[size_t(i)]);
  if (!trailing)
    for (int i = 0; i < x.rank(); ++i)
      if (!c.kept[size_t(i)]) t = expand_dims(t, i);
  return t;
}
Tensor Channels::statistics_along(const Tensor& s, const Tensor& x) const {
  if (!virtual_batch_size) return along(s, x);
  Tensor t = expand_blocks(s, x, virtual_batch_size);
  for (int64_t i : merged_axes(x, axis, 1)) t = expand_dims(t, i);
  return t;
}
Tensor Channels::sum(const Tensor& x) const {
  if (!virtual_batch_size) return sum_over(x, merged_axes(x, axis, 0));
  return sum_blocks(sum_over(x, merged_axes(x, axis, 1)), virtual_batch_size);
}
Tensor Channels::whole(const Tensor& s) const {
  return virtual_batch_size ? reduce_sum(s, {0}) : s;
}
// All channels count alike: one stands for them, and none is 0.
Tensor Channels::count(const Tensor& x) const {
  return count(x, cast(fill_like(x, 1), DType::f32));
}
Tensor Channels::statistics_sum(const Tensor& s) const {
  std::vector<int64_t> channels;
  for (int i = virtual_batch_size ? 1 : 0; i < s.rank(); ++i) channels.push_back(i);
  return sum_over(s, channels);
}
Tensor Channels::count(const Tensor& x, const Tensor& weights) const {
  const Tensor each = sum(cast(expand_like(weights, x), DType::f64)), total = statistics_sum(each);
  return cast(total / maximum(cast(count_like(each, total), DType::f64), 1), DType::f32);
}
Tensor wide_type(const Tensor& x) { return cast(x, statistics_dtype(x.dtype())); }
Tensor over_n(const Tensor& a, const Tensor& n) {
  Tensor d = cast(n, a.dtype());
  if (n.rank())
    for (int i = 1; i < a.rank(); ++i) d = expand_dims(d, i);
  return a / select(greater(d, 0), d, 1);
}
Tensor plus(const Tensor& a, const Tensor& b) { return !a ? b : !b ? a : a + b; }
StatisticsGradient statistics_gradient(const Tensor& x, const Tensor& weights, const Channels& c,
                                       const Statistics& s, const Statistics& grad) {
  StatisticsGradient r;
  if (!grad.mean && !grad.m2 && !(grad.n && weights)) return r;
  const Tensor centred = x - c.statistics_along(s.mean, x);
  Tensor dw;
  if (grad.mean) {
    Tensor g = expand_like(c.statistics_along(over_n(grad.mean, s.n), x), x);
    r.x = g, dw = g * centred;
  }
  if (grad.m2) {
    Tensor g = c.statistics_along(grad.m2, x);
    r.x = plus(r.x, 2 * centred * g), dw = plus(dw, square(centred) * g);
  }
  if (!weights) return r;
  if (grad.n) {  // every channel has its share
    Tensor g = cast(grad.n, s.mean.dtype());
    for (int i = g.rank(); i < s.mean.rank(); ++i) g = expand_dims(g, i);
    g = expand_like(g, s.mean) / maximum(cast(count_like(s.mean, s.n), g.dtype()), 1);
    dw = plus(dw, expand_like(c.statistics_along(g, x), x));
  }
  const Tensor w = cast(weights, x.dtype());
  if (r.x) r.x = select(equal(w, 0), fill_like(r.x, 0), w * r.x);
  r.weights = cast(sum_like(dw, weights), weights.dtype());
  return r;
}
Sigs statistics_sigs(const Sig& x, const StatisticsAttrs& a) {
  const ChannelLayout c = channel_layout(x, a.axis, a.virtual_batch_size);
  const Sig s{a.wide ? DType::f64 : statistics_dtype(x.dtype), c.statistics};
  return {{DType::f32, a.virtual_batch_size ? Shape{c.statistics[0]} : Shape{}}, s, s};
}

Tensor Statistics::variance() const { return over_n(m2, n); }

// ---- statistics
OP(batch_norm_statistics, StatisticsAttrs) {
  return {
      .summary = "Count, mean and sum of squared deviations of each channel",
      .doc =
          "Merged from blocks by Chan's formula in f64, in a fixed order; never E[x^2] - E[x]^2. "
          "With weights, n = sum w, mean = sum w x / n, M2 = sum w (x - mean)^2: an element of "
          "weight 2 counts as two, one of weight 0 may hold anything. With virtual_batch_size, "
          "each block of so many samples (the last may be smaller) has its own.",
      .inputs = {{"x", floating, "[..., channels, ...]"},
                 {"weights", f32_only, "of x's rank, extents x's or 1, if `weighted`; at least 0"}},
      .outputs = {{"n", "f32 [], or [ghosts]: elements merged"},
                  {"mean", "[channels...], or [ghosts, channels...]"},
                  {"m2", "like mean"}},
      .shape = [](std::span<const Sig> in, const StatisticsAttrs& a) -> Sigs {
        if (in.size() != (a.weighted ? 2u : 1u))
          fail({in.size(), " inputs were given, expected ", a.weighted ? 2 : 1, " (weighted ",
                a.weighted, ")"});
        if (a.weighted) check_weights(in[1], in[0], channel_layout(in[0], a.axis));
        return statistics_sigs(in[0], a);
      },
      .reference = [](const Tensors& in, const StatisticsAttrs& a) -> Tensors {
        const Channels c{a.axis, a.virtual_batch_size};
        Tensor x = a.wide ? cast(in[0], DType::f64) : wide_type(in[0]);
        if (!a.weighted) {
          Tensor sum = c.sum(x), n = a.virtual_batch_size ? c.count(x) : count_like(x, sum),
                 mean = over_n(sum, n);
          return {n, mean, c.sum(square(x - c.statistics_along(mean, x)))};
        }
        Tensor w = cast(in[1], x.dtype()), n = c.count(x, in[1]);
        x = select(equal(w, 0), fill_like(x, 0), x);
        Tensor mean = over_n(c.sum(w * x), n);
        return {n, mean, c.sum(w * square(x - c.statistics_along(mean, x)))};
      },
      .gradient = [](const Tensors& in, const Tensors& out, const Tensors& g,
                     const StatisticsAttrs& a) -> Tensors {
        Tensor x = a.wide ? cast(in[0], DType::f64) : wide_type(in[0]);
        const StatisticsGradient d =
            statistics_gradient(x, a.weighted ? in[1] : Tensor(), {a.axis, a.virtual_batch_size},
                                {out[0], out[1], out[2]}, {g[0], g[1], g[2]});
        Tensors r(in.size());
        if (d.x) r[0] = cast(d.x, in[0].dtype());
        if (a.weighted) r[1] = d.weights;
        return r;
      },
      .traits = {.keeps_float32 = true, .optional = 2},
      .batch = [](const CallSig& c, const StatisticsAttrs& a) -> std::optional<BatchRule> {
        if (a.weighted || a.virtual_batch_size || !merges_batch(c.in[0], a.axis)) return {};
        StatisticsAttrs part = a;
        part.wide = true;
        return BatchRule{0, BatchRule::statistics, std::make_shared<const StatisticsAttrs>(part)};
      },
      .cases = {{"dense", {{33, 10}}},
                {"image", {{2, 3, 4, 5}}},
                {"nchw", {{2, 5, 3, 4}}, {{1}}},
                {"two_axes", {{4, 3, 5}}, {{0, 2}}},
                {"vector", {{7}}},
                {"one", {{1, 6}}},
                {"wide", {{33, 10}}, {{-1}, true}},
                {"large_mean", {normal({64, 8}, 1e4, 1).of(DType::f32)}, {}, {.no_gradient = true}},
                {"odd", {{65, 1}}},
                {"empty", {{0, 3}}},
                {"no_channels", {{3, 0}}},
                {"samples",
                 {{9, 3, 2, 5}, uniform({9, 1, 1, 1}, 0.5, 2).of(DType::f32)},
                 {.weighted = true}},
                {"mask",
                 {{9, 17}, integers({9, 1}, 0, 2).of(DType::f32)},
                 {.weighted = true},
                 {.no_gradient = true}},
                {"elements",
                 {{4, 3, 2, 5}, uniform({4, 1, 2, 5}, 0, 2).of(DType::f32)},
                 {.axis = {1}, .weighted = true}},
                {"all_masked",
                 {{3, 5}, values({3, 1}, {0, 0, 0}).of(DType::f32)},
                 {.weighted = true},
                 {.no_gradient = true}},
                {"ghosts", {{8, 3, 2, 5}}, {.virtual_batch_size = 4}},
                {"ghosts_left", {{7, 2, 5}}, {.axis = {1}, .virtual_batch_size = 3}},
                {"one_ghost", {{4, 5}}, {.virtual_batch_size = 9}},
                {"no_ghosts", {{0, 5}}, {.virtual_batch_size = 2}},
                {"ghosts_weighted",
                 {{7, 2, 5}, uniform({7, 2, 1}, 0, 2).of(DType::f32)},
                 {.wide = true, .weighted = true, .virtual_batch_size = 3}},
                {"bench", {{32, 56, 56, 64}}, {}, {.bench = true}},
                {"axis", {{3, 4}}, {{2}}, {.fails = "expected -2..1"}},
                {"scalar", {{}}, {}, {.fails = "rank 1 or more"}},
                {"weights", {{3, 4}, {3, 4}}, {.weighted = true}, {.fails = "weights are"}},
                {"batch", {{3, 4}}, {.axis = {0}, .virtual_batch_size = 2}, {.fails = "axis 0"}},
                {"size", {{3, 4}}, {.virtual_batch_size = -2}, {.fails = "0 (none) or more"}}}};
}
Statistics batch_norm_statistics(In x, std::vector<int64_t> axis, const Tensor& weights,
                                 int64_t virtual_batch_size, bool wide) {
  std::vector<In> in{x};
  if (weights) in.emplace_back(weights, x.where);
  Tensors r = call(batch_norm_statistics_op(), in,
                   StatisticsAttrs{std::move(axis), wide, bool(weights), virtual_batch_size});
  return {r[0], r[1], r[2]};
}

OP(merge_statistics, NoAttrs) {
  return {
      .summary = "Statistics of two parts together",
      .doc =
          "n = n_a + n_b, d = mean_b - mean_a, mean = mean_a + d n_b / n, M2 = M2_a + M2_b + d^2 "
          "n_a n_b / n.",
      .inputs = {{"n_a", f32_only, "[]"},
                 {"mean_a", only(DType::f32, 'S') | only(DType::f64), "[channels...]"},
                 {"m2_a", only(DType::f32, 'S') | only(DType::f64), "[channels...]"},
                 {"n_b", f32_only, "[]"},
                 {"mean_b", only(DType::f32, 'S') | only(DType::f64), "[channels...]"},
                 {"m2_b", only(DType::f32, 'S') | only(DType::f64), "[channels...]"}},
      .outputs = {{"n", "[]"}, {"mean", "[channels...]"}, {"m2", "[channels...]"}},
      .shape = [](std::span<const Sig> in, const NoAttrs&) -> Sigs {
        constexpr std::string_view names[] = {"n_a", "mean_a", "m2_a", "n_b", "mean_b", "m2_b"};
        for (size_t i : {0, 3})
          if (in[i].shape.rank()) fail({names[i], " is ", str(in[i]), ", expected f32[]"});
        for (size_t i : {2, 4, 5})
          if (in[i].shape != in[1].shape)
            fail({names[i], " is ", str(in[i]), ", expected ", str(in[1]), " (mean_a)"});
        return {in[0], in[1], in[1]};
      },
      .reference = [](const Tensors& in, const NoAttrs&) -> Tensors {
        Tensor na = cast(in[0], in[1].dtype()), nb = cast(in[3], in[1].dtype()), n = na + nb,
               safe = select(greater(n, 0), n, 1), d = in[4] - in[1];
        Tensor mean = in[1] + d * (nb / safe), m2 = in[2] + in[5] + square(d) * (na * nb / safe);
        Tensor none_a = equal(na, 0), none_b = equal(nb, 0);
        return {in[0] + in[3], select(none_a, in[4], select(none_b, in[1], mean)),
                select(none_a, in[5], select(none_b, in[2], m2))};
      },
      .traits = {.keeps_float32 = true},
      .cases =
          {{"parts",
            {values({}, {3}), {4}, uniform({4}, 1, 2), values({}, {5}), {4}, uniform({4}, 1, 2)},
            {},
            {.no_gradient = true}},
           {"none",
            {values({}, {0}), {4}, uniform({4}, 1, 2), values({}, {5}), {4}, uniform({4}, 1, 2)},
            {},
            {.no_gradient = true}},
           {"shape",
            {values({}, {3}), {4}, {4}, values({}, {5}), {5}, {5}},
            {},
            {.fails = "expected"}}}};
}
Statistics merge_statistics(const Statistics& a, const Statistics& b) {
  Tensors r = call(merge_statistics_op(), {a.n, a.mean, a.m2, b.n, b.mean, b.m2});
  return {r[0], r[1], r[2]};
}

OP(merge_stacked_statistics, NoAttrs) {
  return {
      .summary = "Statistics of many parts together",
      .doc =
          "In the order of the parts, in f64, by Chan's formula. A part with n = 0 changes no bit.",
      .inputs = {{"n", f32_only, "[parts]"},
                 {"mean", only(DType::f32, 'S') | only(DType::f64), "[parts, channels...]"},
                 {"m2", only(DType::f32, 'S') | only(DType::f64), "[parts, channels...]"}},
      .outputs = {{"n", "f32 []"}, {"mean", "[channels...]"}, {"m2", "[channels...]"}},
      .shape = [](std::span<const Sig> in, const NoAttrs&) -> Sigs {
        if (in[0].shape.rank() != 1) fail({"n is ", str(in[0]), ", expected f32[parts]"});
        if (in[1].shape.rank() < 1 || in[1].shape[0] != in[0].shape[0])
          fail({"mean is ", str(in[1]), ", expected [parts, channels...], parts being those of n ",
                str(in[0])});
        if (in[2].shape != in[1].shape)
          fail({"m2 is ", str(in[2]), ", expected ", str(in[1]), " (mean)"});
        const Sig s{in[1].dtype, Shape(in[1].shape.dims().subspan(1))};
        return {{DType::f32, {}}, s, s};
      },
      // The mean of the parts, then once more about it, for what the first sum lost.
      .reference = [](const Tensors& in, const NoAttrs&) -> Tensors {
        Tensor n = reduce_sum(in[0]), w = cast(in[0], in[1].dtype());
        for (int i = 1; i < in[1].rank(); ++i) w = expand_dims(w, i);
        // Whatever a part with n = 0 holds, not a number for instance.
        const Tensor none = equal(w, 0), means = select(none, 0, in[1]),
                     m2s = select(none, 0, in[2]);
        Tensor total = cast(n, in[1].dtype()), safe = select(greater(total, 0), total, 1),
               centre = reduce_sum(means * (w / safe), {0});
        Tensor mean = centre + reduce_sum((means - centre) * (w / safe), {0});
        Tensor m2 = reduce_sum(m2s, {0}) + reduce_sum(w * square(means - mean), {0});
        return {n, mean, m2};
      },
      .traits = {.keeps_float32 = true},
      .cases = {{"parts",
                 {values({3}, {3, 5, 2}), {3, 4}, uniform({3, 4}, 1, 2)},
                 {},
                 {.no_gradient = true}},
                {"with_none",
                 {values({3}, {3, 0, 2}),
                  {3, 2, 2},
                  values({3, 2, 2}, {1, 2, 3, 4, 0, 0, 0, 0, 5, 6, 7, 8})},
                 {},
                 {.no_gradient = true}},
                {"none_holds_anything",
                 {values({3}, {3, 0, 2}), values({3, 2}, {1, 2, NAN, 7, 3, 4}),
                  values({3, 2}, {1, 2, 9, NAN, 5, 6})},
                 {},
                 {.no_gradient = true}},
                {"no_parts", {values({0}, {1, 2, 3}), {0, 4}, {0, 4}}, {}, {.no_gradient = true}},
                {"n", {{2}, {3, 4}, {3, 4}}, {}, {.fails = "mean is"}},
                {"m2", {{3}, {3, 4}, {3, 5}}, {}, {.fails = "m2 is"}}}};
}
Statistics merge_stacked_statistics(const Statistics& parts) {
  Tensors r = call(merge_stacked_statistics_op(), {parts.n, parts.mean, parts.m2});
  return {r[0], r[1], r[2]};
}

// ---- moving averages
OP(moving_average, MovingAverageAttrs) {
  return {
      .summary = "A moving average that forgets, with a value more",
      .doc =
          "moving + rate (value - moving), where rate is 1 - momentum, or (1 - momentum) / (1 - "
          "momentum^count). n = 0 changes nothing.",
      .inputs = {{"moving", floating, "[...]"},
                 {"value", floating, "like moving"},
                 {"n", numeric.as(0), "[]: elements behind the value"},
                 {"count", i64_only, "[]: number of this update, from 1"}},
      .outputs = {{"next", "like moving"}},
      .shape = [](std::span<const Sig> in, const MovingAverageAttrs& a) -> Sigs {
        if (!(a.momentum >= 0 && a.momentum <= 1))
          fail({"momentum is ", a.momentum, ", expected between 0 and 1"});
        if (in[1] != in[0]) fail({"value is ", str(in[1]), ", expected ", str(in[0]), " (moving)"});
        for (size_t i : {2, 3})
          if (in[i].shape.rank())
            fail({i == 2 ? "n" : "count", " is ", str(in[i]), ", expected a scalar"});
        return {in[0]};
      },
      .reference = [](const Tensors& in, const MovingAverageAttrs& a) -> Tensors {
        const Tensor &moving = in[0], &value = in[1];
        Tensor rate = full({}, 1 - a.momentum, DType::f64);
        if (a.debiased) {  // in f64: 1 - momentum^count loses six digits of an f32 at momentum
                           // 0.999
          Tensor c = cast(in[3], DType::f64);
          rate = a.momentum == 1
                     ? 1 / c
                     : (1 - a.momentum) / (1 - power(full({}, a.momentum, DType::f64), c));
        }
        Tensor next = moving + (value - moving) * cast(rate, moving.dtype());
        return {select(greater(in[2], 0), next, moving)};
      },
      .traits = {.pointwise = true, .keeps_float32 = true},
      .cases =
          {{"plain", {{5}, {5}, values({}, {3}), values({}, {4})}},
           {"debiased",
            {{2, 3}, {2, 3}, values({}, {3}), values({}, {4})},
            {.momentum = 0.9, .debiased = true}},
           {"first", {{5}, {5}, values({}, {3}), values({}, {1})}, {.debiased = true}},
           {"all", {{5}, {5}, values({}, {3}), values({}, {4})}, {.momentum = 1, .debiased = true}},
           {"nothing", {{5}, {5}, values({}, {0}), values({}, {4})}, {}, {.no_gradient = true}},
           {"momentum",
            {{5}, {5}, values({}, {3}), values({}, {4})},
            {.momentum = 2},
            {.fails = "momentum is 2"}},
           {"value", {{5}, {4}, values({}, {3}), values({}, {4})}, {}, {.fails = "value is"}}}};
}
Tensor moving_average(In moving, In value, In n, In count, double momentum, bool debiased) {
  return call(moving_average_op(), {moving, value, n, In(cast(count, DType::i64), count.where)},
              MovingAverageAttrs{momentum, debiased})[0];
}

}  // namespace evenflow
