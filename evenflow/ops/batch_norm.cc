// SPDX-License-Identifier: Apache-2.0
// Ioffe & Szegedy 2015, algorithm 1, and its gradient in closed form. docs/design/batch-norm.md is
// the contract.
#include "evenflow/ops/batch_norm.h"

#include <cmath>

#include "evenflow/graph/op.h"
#include "evenflow/ops/activations.h"
#include "evenflow/ops/batch_norm_rules.h"
#include "evenflow/ops/compare.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"

namespace evenflow {

namespace {
Types any_float(char letter = 0) { return floating.as(letter); }
using Places = BatchNormPlaces;
ChannelLayout layout_of(const Sig& x, const BatchNormAttrs& a) {
  return channel_layout(x, a.axis, a.virtual_batch_size);
}
void check_batch_norm(std::span<const Sig> in, const BatchNormAttrs& a, int first,
                      const ChannelLayout& c) {
  check_epsilon(a.epsilon);
  if (a.activation != "linear" && a.activation != "relu")
    fail({"activation is \"", a.activation, "\", expected \"linear\" or \"relu\""});
  const Places p(a, first);
  if (int(in.size()) != p.count)
    fail({in.size(), " inputs were given, expected ", p.count, " (scale ", a.scale, ", center ",
          a.center, ", weighted ", a.weighted, ", residual ", a.residual, ")"});
  if (p.gamma >= 0) check_channels(in[size_t(p.gamma)], "gamma", in[0], c);
  if (p.beta >= 0) check_channels(in[size_t(p.beta)], "beta", in[0], c);
  if (p.weights >= 0) check_weights(in[size_t(p.weights)], in[0], c);
  if (p.residual >= 0 && in[size_t(p.residual)] != in[0])
    fail({"residual is ", str(in[size_t(p.residual)]), ", expected ", str(in[0]), " (x)"});
}
// A scalar serves all ghosts.
void check_n(const Sig& n, const ChannelLayout& c) {
  const bool ghosts = c.statistics != c.channels;
  if (n.shape.rank() && !(ghosts && n.shape == Shape{c.statistics[0]}))
    fail({"n is ", str(n), ", expected f32[]", ghosts ? " or one for each ghost" : ""});
}
// Cut along the batch, when it is not an axis with statistics: x, grad and the residual by rows.
std::optional<BatchRule> batch_rule(const CallSig& c, const BatchNormAttrs& a, int first,
                                    uint64_t rows, BatchRule::Join join = BatchRule::rows) {
  if (a.weighted || a.virtual_batch_size || !merges_batch(c.in[0], a.axis)) return {};
  const Places p(a, first);
  if (p.residual >= 0) rows |= uint64_t(1) << p.residual;
  return BatchRule{~rows, join, {}};
}
Tensor at(const Tensors& in, int i) { return i < 0 ? Tensor() : in[size_t(i)]; }
// 1 / sqrt(variance + epsilon); 0 where that would be 1 / 0, so that a constant channel is beta.
// The inner select keeps the gradient finite.
Tensor inverse_deviation(const Tensor& variance, double epsilon) {
  Tensor v = variance + epsilon;
  if (epsilon > 1e-30) return 1 / sqrt(v);
  Tensor constant = equal(v, 0);
  return select(constant, fill_like(v, 0), 1 / sqrt(select(constant, fill_like(v, 1), v)));
}
// The inputs gamma, beta, weights and residual, as far as the attributes name them, and what is
// made of them.
struct Affine {
  const BatchNormAttrs& a;
  Channels channels;
  Tensor x, mean, inverse, gamma, beta, weights, residual;
  Affine(const Tensors& in, const BatchNormAttrs& attrs, int first, const Tensor& m,
         const Tensor& variance)
      : a(attrs),
        channels{attrs.axis, attrs.virtual_batch_size},
        x(wide_type(in[0])),
        mean(m),
        inverse(inverse_deviation(variance, attrs.epsilon)) {
    const Places p(a, first);
    gamma = at(in, p.gamma), beta = at(in, p.beta), weights = at(in, p.weights),
    residual = at(in, p.residual);
  }
  // Of the type and shape of statistics.
  Tensor scale() const { return gamma ? inverse * gamma : inverse; }
  Tensor wide(const Tensor& t) const { return channels.statistics_along(t, x); }
  Tensor centred() const { return x - wide(mean); }
  Tensor before_activation() const {
    Tensor y = centred() * wide(scale());
    if (beta) y = y + channels.along(beta, x);
    return residual ? y + wide_type(residual) : y;
  }
  Tensor y(DType t) const {
    return cast(a.activation == "relu" ? relu(before_activation()) : before_activation(), t);
  }
  // The gradient that passes the activation.
  Tensor passed(const Tensor& grad) const {
    Tensor g = wide_type(grad);
    return a.activation == "relu" ? select(greater(before_activation(), 0), g, fill_like(g, 0)) : g;
  }
  // g (x - mean). What is masked may be no number, and nothing comes from it.
  Tensor times_centred(const Tensor& g) const {
    Tensor r = g * centred();
    return weights ? select(equal(g, 0), fill_like(r, 0), r) : r;
  }
};
}  // namespace

void BatchNormAttrs::add(std::vector<In>& in, const Tensor& gamma, const Tensor& beta,
                         const Tensor& weights, const Tensor& other, Where where) {
  for (const Tensor* t : {&gamma, &beta, &weights, &other})
    if (*t) in.emplace_back(*t, where);
  scale = bool(gamma), center = bool(beta), weighted = bool(weights), residual = bool(other);
}

StatisticsAttrs BatchNormAttrs::statistics() const {
  return {axis, false, weighted, virtual_batch_size};
}

// ---- normalise
OP(batch_normalize, BatchNormAttrs) {
  return {
      .summary = "gamma (x - mean) / sqrt(variance + epsilon) + beta with given statistics",
      .doc =
          "Then the residual is added and the activation applied. A channel with variance + "
          "epsilon = 0 is beta.",
      .inputs = {{"x", floating, "[..., channels, ...]"},
                 {"mean", any_float(), "[channels...]"},
                 {"variance", any_float(), "[channels...]"},
                 {"gamma, beta, weights, residual", any_float(), "those that the attributes name"}},
      .outputs = {{"y", "like x"}},
      .shape = [](std::span<const Sig> in, const BatchNormAttrs& a) -> Sigs {
        const ChannelLayout c = layout_of(in[0], a);
        check_batch_norm(in, a, 3, c);
        check_statistics(in[1], "mean", in[0], c), check_statistics(in[2], "variance", in[0], c);
        return {in[0]};
      },
      .reference = [](const Tensors& in, const BatchNormAttrs& a) -> Tensors {
        return {Affine(in, a, 3, in[1], in[2]).y(in[0].dtype())};
      },
      .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                     const BatchNormAttrs& a) -> Tensors {
        const Places p(a, 3);
        std::vector<In> args{In(in[0]), In(g[0]), In(in[1]), In(in[2])};
        for (size_t i = 3; i < in.size(); ++i) args.emplace_back(in[i]);
        const auto attrs = std::make_shared<const BatchNormAttrs>(a);
        Tensors sums = apply(find_op("batch_norm_backward_sums"), attrs, args);
        // Statistics that are given do not move with x: as if the sums were 0.
        Tensor none = fill_like(in[1], 0);
        args.insert(args.begin() + 2, In(full({}, 1)));
        args.insert(args.begin() + 5, {In(none), In(none)});
        Tensors d = apply(find_op("batch_norm_dx"), attrs, args), r(in.size());
        const Channels channels{a.axis, a.virtual_batch_size};
        Tensor inverse = inverse_deviation(in[2], a.epsilon),
               scale = p.gamma < 0 ? inverse : inverse * at(in, p.gamma);
        r[0] = d[0], r[1] = -(scale * sums[0]), r[2] = -0.5 * scale * square(inverse) * sums[1];
        if (p.gamma >= 0) r[size_t(p.gamma)] = channels.whole(inverse * sums[1]);
        if (p.beta >= 0) r[size_t(p.beta)] = channels.whole(sums[0]);
        if (p.residual >= 0) r[size_t(p.residual)] = d[1];
        return r;
      },
      .traits = {.variadic = true, .keeps_float32 = true, .optional = 8},
      .batch = [](const CallSig& c, const BatchNormAttrs& a) { return batch_rule(c, a, 3, 1); },
      .cases =
          {{"dense", {{33, 10}, {10}, uniform({10}, 0.5, 2), {10}, {10}}},
           {"nchw", {{2, 5, 3, 4}, {5}, uniform({5}, 0.5, 2), {5}, {5}}, {.axis = {1}}},
           {"plain", {{4, 3}, {3}, uniform({3}, 0.5, 2)}, {.scale = false, .center = false}},
           {"scale", {{4, 3}, {3}, uniform({3}, 0.5, 2), {3}}, {.center = false}},
           {"fused",
            {{4, 63}, {63}, uniform({63}, 0.5, 2), {63}, {63}, {4, 63}},
            {.residual = true, .activation = "relu"},
            {.no_gradient = true}},
           {"two_axes",
            {{4, 3, 5}, {4, 5}, uniform({4, 5}, 0.5, 2), {4, 5}, {4, 5}},
            {.axis = {0, 2}}},
           {"empty", {{0, 3}, {3}, uniform({3}, 0.5, 2), {3}, {3}}},
           {"ghosts",
            {{7, 2, 3}, {3, 3}, uniform({3, 3}, 0.5, 2), {3}, {3}},
            {.virtual_batch_size = 3}},
           {"weighted",
            {{4, 3}, {3}, uniform({3}, 0.5, 2), {3}, {3}, integers({4, 1}, 0, 2).of(DType::f32)},
            {.weighted = true}},
           {"bench",
            {{32, 56, 56, 64}, {64}, uniform({64}, 0.5, 2), {64}, {64}},
            {},
            {.bench = true}},
           {"gamma", {{4, 3}, {3}, {3}, {4}, {3}}, {}, {.fails = "gamma is"}},
           {"mean", {{4, 3}, {1}, {3}, {3}, {3}}, {}, {.fails = "mean is"}},
           {"epsilon", {{4, 3}, {3}, {3}, {3}, {3}}, {.epsilon = -1}, {.fails = "epsilon is -1"}}}};
}
Tensor batch_normalize(In x, In mean, In variance, const Tensor& gamma, const Tensor& beta,
                       double epsilon, std::vector<int64_t> axis) {
  return batch_normalize(x, mean, variance, gamma, beta,
                         BatchNormAttrs{.epsilon = epsilon, .axis = std::move(axis)});
}
Tensor batch_normalize(In x, In mean, In variance, const Tensor& gamma, const Tensor& beta,
                       BatchNormAttrs a, const Tensor& residual, const Tensor& weights) {
  std::vector<In> in{x, mean, variance};
  a.add(in, gamma, beta, weights, residual, x.where);
  return call(batch_normalize_op(), in, a)[0];
}

// ---- fused: training
OP(batch_norm, BatchNormAttrs) {
  return {
      .summary =
          "Normalises each channel over the batch, then scales and shifts it; also the "
          "statistics of the batch",
      .doc =
          "y = gamma (x - mean) / sqrt(M2 / n + epsilon) + beta. The same as "
          "batch_norm_statistics followed by batch_normalize.",
      .inputs = {{"x", floating, "[..., channels, ...]"},
                 {"gamma, beta, weights, residual", any_float(), "those that the attributes name"}},
      .outputs = {{"y", "like x"},
                  {"n", "f32 []"},
                  {"mean", "[channels...]"},
                  {"m2", "[channels...]"}},
      .shape = [](std::span<const Sig> in, const BatchNormAttrs& a) -> Sigs {
        check_batch_norm(in, a, 1, layout_of(in[0], a));
        Sigs s = statistics_sigs(in[0], a.statistics());
        return {in[0], s[0], s[1], s[2]};
      },
      .reference = [](const Tensors& in, const BatchNormAttrs& a) -> Tensors {
        Statistics s = batch_norm_statistics(in[0], a.axis, at(in, Places(a, 1).weights),
                                             a.virtual_batch_size);
        std::vector<In> args{In(in[0]), In(s.mean), In(s.variance())};
        for (size_t i = 1; i < in.size(); ++i) args.emplace_back(in[i]);
        const auto attrs = std::make_shared<const BatchNormAttrs>(a);
        return {apply(batch_normalize_op(), attrs, args)[0], s.n, s.mean, s.m2};
      },
      .gradient = [](const Tensors& in, const Tensors& out, const Tensors& g,
                     const BatchNormAttrs& a) -> Tensors {
        const Places p(a, 1);
        Tensors r(in.size());
        if (g[0]) {
          std::vector<In> args{In(in[0]), In(g[0]), In(out[1]), In(out[2]), In(out[3])};
          for (size_t i = 1; i < in.size(); ++i) args.emplace_back(in[i]);
          Tensors d =
              apply(find_op("batch_norm_grad"), std::make_shared<const BatchNormAttrs>(a), args);
          r[0] = d[0];
          size_t next = 1;
          for (int i : {p.gamma, p.beta, p.residual})
            if (i >= 0) r[size_t(i)] = d[next++];
        }
        // through the statistics: those that are given out, and for the weights y's too
        const Statistics statistics{out[1], out[2], out[3]};
        Statistics given{g[1], g[2], g[3]};
        const Tensor weights = at(in, p.weights), x = wide_type(in[0]);
        const Channels channels{a.axis, a.virtual_batch_size};
        if (const Tensor dx = statistics_gradient(x, weights, channels, statistics, given).x)
          r[0] = plus(r[0], cast(dx, in[0].dtype()));
        if (weights) {
          if (g[0]) {
            const Tensor variance = statistics.variance();
            Tensors args{in[0], out[2], variance};
            args.insert(args.end(), in.begin() + 1, in.end());
            const Tensors d = batch_normalize_op().gradient(args, {}, {g[0]}, &a);
            const Tensor m2 = over_n(d[2], out[1]), n = -(m2 * variance);
            given.mean = plus(given.mean, d[1]), given.m2 = plus(given.m2, m2);
            given.n = plus(given.n, cast(channels.statistics_sum(n), DType::f32));
          }
          r[size_t(p.weights)] =
              statistics_gradient(x, weights, channels, statistics, given).weights;
        }
        return r;
      },
      .traits = {.variadic = true, .keeps_float32 = true, .optional = 2},
      .cost = [](const CallSig& c, const BatchNormAttrs&) -> Cost {
        return {3.0 * double(c.in[0].bytes()), 8.0 * double(c.in[0].shape.count())};
      },
      .cases =
          {{"dense", {{33, 10}, {10}, {10}}},
           {"image", {{2, 3, 4, 5}, {5}, {5}}},
           {"nchw", {{2, 5, 3, 4}, {5}, {5}}, {.axis = {1}}},
           {"plain", {{4, 3}}, {.scale = false, .center = false}},
           {"odd", {{3, 1, 1, 63}, {63}, {63}}},
           {"two_axes", {{4, 3, 5}, {4, 5}, {4, 5}}, {.axis = {0, 2}}},
           {"one_channel", {{9, 1}, {1}, {1}}},
           {"relu", {{33, 10}, {10}, {10}}, {.activation = "relu"}, {.no_gradient = true}},
           {"residual", {{33, 10}, {10}, {10}, {33, 10}}, {.residual = true}},
           {"residual_relu",
            {{4, 3, 3, 16}, {16}, {16}, {4, 3, 3, 16}},
            {.residual = true, .activation = "relu"},
            {.no_gradient = true}},
           {"large_mean",
            {normal({64, 8}, 1e4, 1).of(DType::f32), {8}, {8}},
            {},
            {.no_gradient = true}},
           {"ghosts", {{8, 2, 3}, {3}, {3}}, {.virtual_batch_size = 4}},
           {"ghosts_left", {{7, 3, 2}, {3}, {3}}, {.axis = {1}, .virtual_batch_size = 3}},
           {"weighted",
            {{9, 2, 5}, {5}, {5}, uniform({9, 1, 1}, 0.5, 2).of(DType::f32)},
            {.weighted = true}},
           {"mask",
            {{9, 2, 5}, {5}, {5}, integers({9, 2, 1}, 0, 2).of(DType::f32)},
            {.weighted = true},
            {.no_gradient = true}},
           {"ghosts_mask_residual_relu",
            {{7, 2, 5}, {5}, {5}, integers({7, 2, 1}, 0, 2).of(DType::f32), {7, 2, 5}},
            {.residual = true, .activation = "relu", .weighted = true, .virtual_batch_size = 3},
            {.no_gradient = true}},
           {"one", {{1, 6}, {6}, {6}}},
           {"empty", {{0, 3}, {3}, {3}}},
           {"bench", {{32, 56, 56, 64}, {64}, {64}}, {}, {.bench = true}},
           {"gamma",
            {{4, 3}, {4}, {3}},
            {},
            {.fails = "gamma is f32[4], expected f32[3] (channels of x f32[4,3])"}},
           {"count", {{4, 3}, {3}}, {}, {.fails = "inputs were given"}}}};
}
BatchNormResult batch_norm(In x, const Tensor& gamma, const Tensor& beta, BatchNormAttrs a,
                           const Tensor& residual, const Tensor& weights) {
  std::vector<In> in{x};
  a.add(in, gamma, beta, weights, residual, x.where);
  Tensors r = call(batch_norm_op(), in, a);
  return {r[0], {r[1], r[2], r[3]}};
}

// With xhat = (x - mean) r, r = 1 / sqrt(variance + epsilon), m the mean over the batch:
// dx = gamma r (g - m(g) - xhat m(g xhat)), dgamma = n m(g xhat), dbeta = n m(g). Under a ReLU, g
// is 0 where y is.
OP(batch_norm_grad, BatchNormAttrs) {
  return {
      .summary = "Gradient of batch_norm for x, gamma, beta and the residual",
      .inputs = {{"x", floating, "[..., channels, ...]"},
                 {"grad", floating, "like x"},
                 {"n", f32_only, "[]"},
                 {"mean", any_float(), "[channels...]"},
                 {"m2", any_float(), "[channels...]"},
                 {"gamma, beta, weights, residual", any_float(), "those that the attributes name"}},
      .outputs = {{"dx", "like x"}, {"dgamma, dbeta, dresidual", "those that the attributes name"}},
      .shape = [](std::span<const Sig> in, const BatchNormAttrs& a) -> Sigs {
        const ChannelLayout c = layout_of(in[0], a);
        check_batch_norm(in, a, 5, c);
        if (in[1] != in[0]) fail({"grad is ", str(in[1]), ", expected ", str(in[0]), " (x)"});
        check_n(in[2], c);
        check_statistics(in[3], "mean", in[0], c), check_statistics(in[4], "m2", in[0], c);
        const Places p(a, 5);
        Sigs r{in[0]};
        for (int i : {p.gamma, p.beta, p.residual})
          if (i >= 0) r.push_back(in[size_t(i)]);
        return r;
      },
      .reference = [](const Tensors& in, const BatchNormAttrs& a) -> Tensors {
        const Places p(a, 5);
        Tensor variance = over_n(in[4], in[2]);
        std::vector<In> args{In(in[0]), In(in[1]), In(in[3]), In(variance)};
        for (size_t i = 5; i < in.size(); ++i) args.emplace_back(in[i]);
        const auto attrs = std::make_shared<const BatchNormAttrs>(a);
        Tensors sums = apply(find_op("batch_norm_backward_sums"), attrs, args);
        args.insert(args.begin() + 2, In(in[2]));
        args.insert(args.begin() + 5, {In(sums[0]), In(sums[1])});
        Tensors d = apply(find_op("batch_norm_dx"), attrs, args), out{d[0]};
        const Channels channels{a.axis, a.virtual_batch_size};
        if (p.gamma >= 0)
          out.push_back(channels.whole(sums[1] * inverse_deviation(variance, a.epsilon)));
        if (p.beta >= 0) out.push_back(channels.whole(sums[0]));
        if (p.residual >= 0) out.push_back(d[1]);
        return out;
      },
      .traits = {.variadic = true, .keeps_float32 = true, .optional = 32},
      .cases =
          {{"dense",
            {{33, 10}, {33, 10}, values({}, {33}), {10}, uniform({10}, 20, 50), {10}, {10}}},
           {"nchw",
            {{2, 5, 3, 4}, {2, 5, 3, 4}, values({}, {24}), {5}, uniform({5}, 20, 50), {5}, {5}},
            {.axis = {1}}},
           {"plain",
            {{4, 3}, {4, 3}, values({}, {4}), {3}, uniform({3}, 2, 5)},
            {.scale = false, .center = false}},
           {"fused",
            {{4, 63}, {4, 63}, values({}, {4}), {63}, uniform({63}, 2, 5), {63}, {63}, {4, 63}},
            {.residual = true, .activation = "relu"},
            {.no_gradient = true}},
           {"empty", {{0, 3}, {0, 3}, values({}, {0}), {3}, uniform({3}, 0, 1), {3}, {3}}},
           {"bench",
            {{32, 56, 56, 64},
             {32, 56, 56, 64},
             values({}, {100352}),
             {64},
             uniform({64}, 1e5, 2e5),
             {64},
             {64}},
            {},
            {.bench = true}},
           {"grad",
            {{4, 3}, {4, 2}, values({}, {4}), {3}, {3}, {3}, {3}},
            {},
            {.fails = "grad is"}},
           {"mean",
            {{4, 3}, {4, 3}, values({}, {4}), {2}, {3}, {3}, {3}},
            {},
            {.fails = "mean is"}}}};
}

// The two passes of the gradient apart, so that sums of several devices, ghosts or micro-batches
// can be merged between them: they add up.
OP(batch_norm_backward_sums, BatchNormAttrs) {
  return {
      .summary = "First half of batch_norm's gradient: sums over the batch",
      .doc = "Sum of g and of g (x - mean) for each channel; under a ReLU, g is 0 where y is.",
      .inputs = {{"x", floating, "[..., channels, ...]"},
                 {"grad", floating, "like x"},
                 {"mean", any_float(), "[channels...]"},
                 {"variance", any_float(), "[channels...]"},
                 {"gamma, beta, weights, residual", any_float(), "those that the attributes name"}},
      .outputs = {{"sum_g", "[channels...]"}, {"sum_gx", "[channels...]"}},
      .shape = [](std::span<const Sig> in, const BatchNormAttrs& a) -> Sigs {
        const ChannelLayout c = layout_of(in[0], a);
        check_batch_norm(in, a, 4, c);
        if (in[1] != in[0]) fail({"grad is ", str(in[1]), ", expected ", str(in[0]), " (x)"});
        check_statistics(in[2], "mean", in[0], c), check_statistics(in[3], "variance", in[0], c);
        return {in[2], in[2]};
      },
      .reference = [](const Tensors& in, const BatchNormAttrs& a) -> Tensors {
        const Affine f(in, a, 4, in[2], in[3]);
        Tensor g = f.passed(in[1]);
        return {f.channels.sum(g), f.channels.sum(f.times_centred(g))};
      },
      .traits = {.variadic = true, .keeps_float32 = true, .optional = 16},
      .batch = [](const CallSig& c,
                  const BatchNormAttrs& a) { return batch_rule(c, a, 4, 3, BatchRule::sum); },
      .cases = {{"dense", {{33, 10}, {33, 10}, {10}, uniform({10}, 0.5, 2), {10}, {10}}},
                {"nchw",
                 {{2, 5, 3, 4}, {2, 5, 3, 4}, {5}, uniform({5}, 0.5, 2), {5}, {5}},
                 {.axis = {1}}},
                {"runs",
                 {{2, 3, 5, 13}, {2, 3, 5, 13}, {3}, uniform({3}, 0.5, 2), {3}, {3}, {2, 3, 5, 13}},
                 {.axis = {1}, .residual = true, .activation = "relu"},
                 {.no_gradient = true}},
                {"relu",
                 {{9, 65}, {9, 65}, {65}, uniform({65}, 0.5, 2), {65}, {65}},
                 {.activation = "relu"},
                 {.no_gradient = true}},
                {"plain",
                 {{4, 3}, {4, 3}, {3}, uniform({3}, 0.5, 2)},
                 {.scale = false, .center = false}},
                {"empty", {{0, 3}, {0, 3}, {3}, uniform({3}, 0.5, 2), {3}, {3}}},
                {"grad", {{4, 3}, {3, 3}, {3}, {3}, {3}, {3}}, {}, {.fails = "grad is"}},
                {"variance", {{4, 3}, {4, 3}, {3}, {4}, {3}, {3}}, {}, {.fails = "variance is"}}}};
}
OP(batch_norm_dx, BatchNormAttrs) {
  return {
      .summary =
          "Second half of batch_norm's gradient: for x and the residual, from sums over the batch",
      .doc =
          "gamma r (g - w (sum_g / n + (x - mean) r^2 sum_gx / n)) with r = 1 / sqrt(variance + "
          "epsilon), and w the weight, or 1.",
      .inputs = {{"x", floating, "[..., channels, ...]"},
                 {"grad", floating, "like x"},
                 {"n", f32_only, "[]"},
                 {"mean", any_float(), "[channels...]"},
                 {"variance", any_float(), "[channels...]"},
                 {"sum_g", any_float(), "[channels...]"},
                 {"sum_gx", any_float(), "[channels...]"},
                 {"gamma, beta, weights, residual", any_float(), "those that the attributes name"}},
      .outputs = {{"dx", "like x"}, {"dresidual", "like x, if there is a residual"}},
      .shape = [](std::span<const Sig> in, const BatchNormAttrs& a) -> Sigs {
        constexpr std::string_view names[] = {"mean", "variance", "sum_g", "sum_gx"};
        const ChannelLayout c = layout_of(in[0], a);
        check_batch_norm(in, a, 7, c);
        if (in[1] != in[0]) fail({"grad is ", str(in[1]), ", expected ", str(in[0]), " (x)"});
        check_n(in[2], c);
        for (size_t i = 0; i < 4; ++i) check_statistics(in[3 + i], names[i], in[0], c);
        return a.residual ? Sigs{in[0], in[0]} : Sigs{in[0]};
      },
      .reference = [](const Tensors& in, const BatchNormAttrs& a) -> Tensors {
        const Affine f(in, a, 7, in[3], in[4]);
        Tensor g = f.passed(in[1]), slope = square(f.inverse) * over_n(in[6], in[2]);
        Tensor rest = f.wide(over_n(in[5], in[2])) + f.centred() * f.wide(slope);
        if (f.weights) {
          Tensor w = cast(f.weights, g.dtype());
          rest = select(equal(w, 0), fill_like(rest, 0), w * rest);
        }
        Tensor dx = (g - rest) * f.wide(f.scale());
        Tensors out{cast(dx, in[0].dtype())};
        if (a.residual) out.push_back(cast(g, in[0].dtype()));
        return out;
      },
      .traits = {.variadic = true, .keeps_float32 = true, .optional = 128},
      .batch = [](const CallSig& c, const BatchNormAttrs& a) { return batch_rule(c, a, 7, 3); },
      .cases = {{"dense",
                 {{33, 10},
                  {33, 10},
                  values({}, {33}),
                  {10},
                  uniform({10}, 0.5, 2),
                  {10},
                  {10},
                  {10},
                  {10}}},
                {"nchw",
                 {{2, 5, 3, 4},
                  {2, 5, 3, 4},
                  values({}, {24}),
                  {5},
                  uniform({5}, 0.5, 2),
                  {5},
                  {5},
                  {5},
                  {5}},
                 {.axis = {1}}},
                {"runs",
                 {{2, 3, 5, 13},
                  {2, 3, 5, 13},
                  values({}, {130}),
                  {3},
                  uniform({3}, 0.5, 2),
                  {3},
                  {3},
                  {3},
                  {3},
                  {2, 3, 5, 13}},
                 {.axis = {1}, .residual = true, .activation = "relu"},
                 {.no_gradient = true}},
                {"residual",
                 {{9, 65},
                  {9, 65},
                  values({}, {9}),
                  {65},
                  uniform({65}, 0.5, 2),
                  {65},
                  {65},
                  {65},
                  {65},
                  {9, 65}},
                 {.residual = true}},
                {"plain",
                 {{4, 3}, {4, 3}, values({}, {4}), {3}, uniform({3}, 0.5, 2), {3}, {3}},
                 {.scale = false, .center = false}},
                {"empty",
                 {{0, 3}, {0, 3}, values({}, {0}), {3}, uniform({3}, 0.5, 2), {3}, {3}, {3}, {3}}},
                {"sums",
                 {{4, 3}, {4, 3}, values({}, {4}), {3}, {3}, {2}, {3}, {3}, {3}},
                 {},
                 {.fails = "sum_g is"}},
                {"n", {{4, 3}, {4, 3}, {1}, {3}, {3}, {3}, {3}, {3}, {3}}, {}, {.fails = "n is"}}}};
}
BackwardSums batch_norm_backward_sums(In x, In grad, In mean, In variance, const Tensor& gamma,
                                      const Tensor& beta, BatchNormAttrs a, const Tensor& residual,
                                      const Tensor& weights) {
  std::vector<In> in{x, grad, mean, variance};
  a.add(in, gamma, beta, weights, residual, x.where);
  Tensors r = call(batch_norm_backward_sums_op(), in, a);
  return {r[0], r[1]};
}
BatchNormDx batch_norm_dx(In x, In grad, In n, In mean, In variance, const BackwardSums& sums,
                          const Tensor& gamma, const Tensor& beta, BatchNormAttrs a,
                          const Tensor& residual, const Tensor& weights) {
  std::vector<In> in{x, grad, n, mean, variance, In(sums.g, x.where), In(sums.gx, x.where)};
  a.add(in, gamma, beta, weights, residual, x.where);
  Tensors r = call(batch_norm_dx_op(), in, a);
  return {r[0], residual ? r[1] : Tensor()};
}

}  // namespace evenflow
