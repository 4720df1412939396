// SPDX-License-Identifier: Apache-2.0
// Layer normalisation (Ba, Kiros & Hinton 2016) and RMS normalisation (Zhang & Sennrich 2019), with
// the gradient in closed form.
#include "evenflow/ops/layer_norm.h"

#include "evenflow/graph/op.h"
#include "evenflow/ops/batch_norm_rules.h"
#include "evenflow/ops/compare.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/layer_norm_rules.h"
#include "evenflow/ops/reduce.h"

namespace evenflow {

Tensor inverse_deviation_of(const Tensor& variance, double epsilon) {
  const Tensor v = variance + epsilon;
  if (epsilon > 1e-30) return 1 / sqrt(v);
  const Tensor constant = equal(v, 0);  // the inner select keeps the gradient finite
  return select(constant, fill_like(v, 0), 1 / sqrt(select(constant, fill_like(v, 1), v)));
}

namespace {
Types any_float() { return floating.as(0); }
// In the shape of x, with 1 for the axes that are normalised over.
Sig statistics_sig(const Sig& x, const ChannelLayout& c) {
  std::vector<int64_t> d;
  for (int i = 0; i < x.shape.rank(); ++i) d.push_back(c.kept[size_t(i)] ? 1 : x.shape[i]);
  return {statistics_dtype(x.dtype), Shape(d)};
}
void check_count(std::span<const Sig> in, size_t expected, const LayerNormAttrs& a) {
  check_epsilon(a.epsilon);
  if (in.size() != expected)
    fail({in.size(), " inputs were given, expected ", expected, " (scale ", a.scale, ", center ",
          a.center, ")"});
}
Axes positive_axes(const Tensor& x, const LayerNormAttrs& a) {
  const ChannelLayout c = channel_layout(x.sig(), a.axis);
  Axes axes;
  for (int i = 0; i < x.rank(); ++i)
    if (c.kept[size_t(i)]) axes.push_back(i);
  return axes;
}
Tensor cube(const Tensor& x) { return x * square(x); }
// All but the first input belong to every sample, wherever the batch is cut.
std::optional<BatchRule> by_rows(const CallSig& c, const LayerNormAttrs& a) {
  if (!merges_batch(c.in[0], a.axis)) return {};
  return BatchRule{~uint64_t(1), BatchRule::rows, {}};
}
}  // namespace

OP(layer_norm, LayerNormAttrs) {
  return {
      .summary = "Normalise each sample over some of its axes, then scale and shift",
      .doc =
          "y = gamma (x - mean) / sqrt(variance + epsilon) + beta; with rms, gamma x / "
          "sqrt(mean(x^2) + epsilon) + beta, and mean is given out as 0. Where variance + epsilon "
          "is 0, y is beta.",
      .inputs = {{"x", floating, "[...]"},
                 {"gamma, beta", any_float(), "[extents of axis]: those that the attributes name"}},
      .outputs = {{"y", "like x"},
                  {"mean", "like x with 1 for the axes"},
                  {"inverse", "1 / sqrt(variance + epsilon), like mean"}},
      .shape = [](std::span<const Sig> in, const LayerNormAttrs& a) -> Sigs {
        check_count(in, size_t(1 + a.scale + a.center), a);
        const ChannelLayout c = channel_layout(in[0], a.axis);
        size_t next = 1;
        if (a.scale) check_channels(in[next++], "gamma", in[0], c);
        if (a.center) check_channels(in[next], "beta", in[0], c);
        const Sig s = statistics_sig(in[0], c);
        return {in[0], s, s};
      },
      .reference = [](const Tensors& in, const LayerNormAttrs& a) -> Tensors {
        const Tensor x = wide_type(in[0]);
        const Axes axes = positive_axes(x, a);
        const Tensor sum = reduce_sum(x, axes, true), n = count_like(x, sum),
                     mean = a.rms ? fill_like(sum, 0) : over_n(sum, n);
        Tensor d = x;
        if (!a.rms) {  // the rounding of the mean would be in every deviation: once more about it
          d = x - mean;
          d = d - over_n(reduce_sum(d, axes, true), n);
        }
        const Tensor inverse =
            inverse_deviation_of(over_n(reduce_sum(square(d), axes, true), n), a.epsilon);
        Tensor y = d * inverse;
        size_t next = 1;
        if (a.scale) y = y * Channels{a.axis}.along(in[next++], x);
        if (a.center) y = y + Channels{a.axis}.along(in[next], x);
        return {cast(y, in[0].dtype()), mean, inverse};
      },
      .gradient = [](const Tensors& in, const Tensors& out, const Tensors& g,
                     const LayerNormAttrs& a) -> Tensors {
        Tensors r(in.size());
        if (g[0]) {
          std::vector<In> args{In(in[0]), In(g[0]), In(out[1]), In(out[2])};
          if (a.scale) args.emplace_back(in[1]);
          Tensors d =
              apply(find_op("layer_norm_grad"), std::make_shared<const LayerNormAttrs>(a), args);
          for (size_t i = 0; i < d.size(); ++i) r[i] = d[i];
        }
        // through the statistics: d mean / dx = 1 / n, d inverse / dx = -inverse^3 (x - mean) / n
        const Tensor x = wide_type(in[0]), n = count_like(x, out[1]);
        Tensor dx;
        if (g[1] && !a.rms) dx = expand_like(over_n(g[1], n), x);
        if (g[2]) dx = plus(dx, (out[1] - x) * over_n(g[2] * cube(out[2]), n));
        if (dx) r[0] = plus(r[0], cast(dx, in[0].dtype()));
        return r;
      },
      .traits = {.variadic = true, .keeps_float32 = true, .optional = 2},
      .cost = [](const CallSig& c, const LayerNormAttrs&) -> Cost {
        return {2.0 * double(c.in[0].bytes()), 8.0 * double(c.in[0].shape.count())};
      },
      .batch = by_rows,
      .cases = {{"rows", {{33, 10}, {10}, {10}}},
                {"sequence", {{2, 5, 63}, {63}, {63}}},
                {"rms", {{7, 100}, {100}}, {.epsilon = 1e-6, .center = false, .rms = true}},
                {"rms_beta", {{3, 4, 9}, {9}, {9}}, {.rms = true}},
                {"plain", {{4, 300}}, {.scale = false, .center = false}},
                {"scale", {{4, 3}, {3}}, {.center = false}},
                {"center", {{4, 3}, {3}}, {.scale = false}},
                {"two_axes", {{4, 3, 5}, {3, 5}, {3, 5}}, {.axis = {1, -1}}},
                {"middle", {{4, 3, 5}, {3}, {3}}, {.axis = {1}}},
                {"batch", {{4, 6}, {4}, {4}}, {.axis = {0}}},
                {"vector", {{70}, {70}, {70}}},
                {"long", {{2, 40000}, {40000}, {40000}}, {}, {.no_gradient = true}},
                {"many", {{3000, 2}, {2}, {2}}, {.epsilon = 0.1}},
                {"one_column", {{5, 1}, {1}, {1}}},
                {"large_mean", {normal({8, 64}, 1e4, 1), {64}, {64}}, {}, {.no_gradient = true}},
                {"empty", {{0, 3}, {3}, {3}}},
                {"no_columns", {{3, 0}, {0}, {0}}},
                {"bench", {{4096, 1024}, {1024}, {1024}}, {}, {.bench = true}},
                {"bench_rms",
                 {{4096, 1024}, {1024}},
                 {.epsilon = 1e-6, .center = false, .rms = true},
                 {.bench = true}},
                {"bench_narrow", {{65536, 64}, {64}, {64}}, {}, {.bench = true}},
                {"gamma",
                 {{4, 3}, {4}, {3}},
                 {},
                 {.fails = "gamma is f32[4], expected f32[3] (channels of x f32[4,3])"}},
                {"beta", {{4, 3}, {3}, {1, 3}}, {}, {.fails = "beta is"}},
                {"count", {{4, 3}, {3}}, {}, {.fails = "inputs were given"}},
                {"axis", {{4, 3}, {3}, {3}}, {.axis = {2}}, {.fails = "expected -2..1"}},
                {"epsilon", {{4, 3}, {3}, {3}}, {.epsilon = -1}, {.fails = "epsilon is -1"}}}};
}
Tensor layer_norm(In x, const Tensor& gamma, const Tensor& beta, LayerNormAttrs a) {
  std::vector<In> in{x};
  for (const Tensor* t : {&gamma, &beta})
    if (*t) in.emplace_back(*t, x.where);
  a.scale = bool(gamma), a.center = bool(beta);
  return call(layer_norm_op(), in, a)[0];
}

// With xhat = (x - mean) r, m the mean along the axes and h = gamma g:
//   dx = r (h - m(h) - xhat m(h xhat)), dgamma = sum of g xhat, dbeta = sum of g over the samples.
// With rms there is no m(h).
OP(layer_norm_grad, LayerNormAttrs) {
  return {
      .summary = "Gradient of layer_norm for x, gamma and beta",
      .inputs = {{"x", floating, "[...]"},
                 {"grad", floating, "like x"},
                 {"mean", any_float(), "like x with 1 for the axes"},
                 {"inverse", any_float(), "like mean"},
                 {"gamma", any_float(), "[extents of axis], if the attributes name it"}},
      .outputs = {{"dx", "like x"}, {"dgamma, dbeta", "those that the attributes name"}},
      .shape = [](std::span<const Sig> in, const LayerNormAttrs& a) -> Sigs {
        check_count(in, size_t(4 + a.scale), a);
        const ChannelLayout c = channel_layout(in[0], a.axis);
        const Sig s = statistics_sig(in[0], c), p{statistics_dtype(in[0].dtype), c.channels};
        if (in[1] != in[0]) fail({"grad is ", str(in[1]), ", expected ", str(in[0]), " (x)"});
        for (size_t i : {2, 3})
          if (in[i] != s)
            fail({i == 2 ? "mean" : "inverse", " is ", str(in[i]), ", expected ", str(s)});
        if (a.scale) check_channels(in[4], "gamma", in[0], c);
        Sigs r{in[0]};
        r.insert(r.end(), size_t(a.scale + a.center), p);
        return r;
      },
      .reference = [](const Tensors& in, const LayerNormAttrs& a) -> Tensors {
        const Tensor x = wide_type(in[0]), g = wide_type(in[1]), inverse = in[3],
                     h = a.scale ? g * Channels{a.axis}.along(in[4], x) : g, d = x - in[2];
        const Axes axes = positive_axes(x, a);
        const Tensor n = count_like(x, in[2]);
        Tensor dx = h;
        if (!a.rms) dx = dx - over_n(reduce_sum(h, axes, true), n);
        dx = inverse * dx - d * (cube(inverse) * over_n(reduce_sum(h * d, axes, true), n));
        Tensors r{cast(dx, in[0].dtype())};
        if (a.scale) r.push_back(Channels{a.axis}.sum(g * d * inverse));
        if (a.center) r.push_back(Channels{a.axis}.sum(g));
        return r;
      },
      .traits = {.variadic = true, .keeps_float32 = true, .optional = 16},
      .cost = [](const CallSig& c, const LayerNormAttrs&) -> Cost {
        return {3.0 * double(c.in[0].bytes()), 14.0 * double(c.in[0].shape.count())};
      },
      .batch = [](const CallSig& c, const LayerNormAttrs& a) -> std::optional<BatchRule> {
        if (a.scale || a.center || !merges_batch(c.in[0], a.axis)) return {};
        return BatchRule{};
      },
      .cases = {{"rows", {{33, 10}, {33, 10}, {33, 1}, uniform({33, 1}, 0.5, 2), {10}}},
                {"rms",
                 {{7, 100}, {7, 100}, values({7, 1}, {0}), uniform({7, 1}, 0.5, 2), {100}},
                 {.center = false, .rms = true}},
                {"plain",
                 {{4, 300}, {4, 300}, {4, 1}, uniform({4, 1}, 0.5, 2)},
                 {.scale = false, .center = false}},
                {"two_axes",
                 {{4, 3, 5}, {4, 3, 5}, {4, 1, 1}, uniform({4, 1, 1}, 0.5, 2), {3, 5}},
                 {.axis = {1, 2}}},
                {"middle",
                 {{4, 3, 5}, {4, 3, 5}, {4, 1, 5}, uniform({4, 1, 5}, 0.5, 2), {3}},
                 {.axis = {1}}},
                {"many",
                 {{3000, 2}, {3000, 2}, {3000, 1}, uniform({3000, 1}, 0.5, 2)},
                 {.scale = false}},
                {"empty", {{0, 3}, {0, 3}, {0, 1}, {0, 1}, {3}}},
                {"no_columns", {{3, 0}, {3, 0}, {3, 1}, {3, 1}, {0}}},
                {"bench",
                 {{4096, 1024}, {4096, 1024}, {4096, 1}, uniform({4096, 1}, 0.5, 2), {1024}},
                 {},
                 {.bench = true}},
                {"bench_narrow",
                 {{65536, 64}, {65536, 64}, {65536, 1}, uniform({65536, 1}, 0.5, 2), {64}},
                 {},
                 {.bench = true}},
                {"grad", {{4, 3}, {4, 4}, {4, 1}, {4, 1}, {3}}, {}, {.fails = "grad is"}},
                {"mean", {{4, 3}, {4, 3}, {4}, {4, 1}, {3}}, {}, {.fails = "mean is"}},
                {"count", {{4, 3}, {4, 3}, {4, 1}, {4, 1}}, {}, {.fails = "inputs were given"}}}};
}

}  // namespace evenflow
