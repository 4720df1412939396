// SPDX-License-Identifier: Apache-2.0
// The layer's options with one another: axis x mask x weights x ghosts x renorm x activation x
// types x size. Outputs and gradients against the definition in f64, one element at a time.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "evenflow/graph/gradient.h"
#include "evenflow/model/batch_normalization.h"
#include "evenflow/model/layers.h"
#include "evenflow/ops/elementwise.h"

namespace evenflow {
namespace {
using Values = std::vector<double>;
enum class Renorm { none, free, clipped };
struct Case {
  Shape shape;
  ChannelAxes axis;
  bool mask, weights, relu, wide;
  int64_t ghosts;
  Renorm renorm;
  const char* policy;
};
constexpr double kEpsilon = 1e-3;
constexpr RenormClipping kClipping{.rmax = 1.2, .rmin = 0.8, .dmax = 0.25};

Values draw(std::mt19937& r, int64_t n, double mean, double deviation) {
  std::normal_distribution<double> d(mean, deviation);
  Values v(static_cast<size_t>(n));
  for (double& e : v) e = d(r);
  return v;
}
// What the definition is made from: a weight an element; gamma, beta and what renorm remembers by
// channel.
struct Data {
  Values x, g, weight, gamma, beta, past_mean, past_deviation;
  std::vector<int64_t> channel;
};
struct Result {
  Values y, dx, dgamma, dbeta;
  double part = 0;  ///< the largest of what dx is the difference of
};
Result defined(const Case& c, const Data& d) {
  const size_t size = d.x.size(), channels = d.gamma.size();
  const int64_t batch = c.shape[0], row = batch ? int64_t(size) / batch : 0,
                block = c.ghosts ? c.ghosts : std::max<int64_t>(1, batch);
  Result r{Values(size), Values(size), Values(channels), Values(channels), 0};
  for (int64_t begin = 0; begin < batch; begin += block)
    for (size_t k = 0; k < channels; ++k) {
      std::vector<size_t> at;
      for (int64_t i = begin * row; i < std::min(batch, begin + block) * row; ++i)
        if (d.channel[size_t(i)] == int64_t(k)) at.push_back(size_t(i));
      double n = 0, mean = 0, variance = 0;
      for (size_t i : at) n += d.weight[i];
      for (size_t i : at) mean += n > 0 ? d.weight[i] * d.x[i] / n : 0;
      for (size_t i : at)
        variance += n > 0 ? d.weight[i] * (d.x[i] - mean) * (d.x[i] - mean) / n : 0;
      const double s = std::sqrt(variance + kEpsilon);
      double ratio = 1, shift = 0;
      if (c.renorm != Renorm::none) {
        const double past = std::max(d.past_deviation[k], std::sqrt(kEpsilon));
        ratio = s / past, shift = (mean - d.past_mean[k]) / past;
      }
      if (c.renorm == Renorm::clipped) {
        ratio = std::clamp(ratio, *kClipping.rmin, *kClipping.rmax);
        shift = std::clamp(shift, -*kClipping.dmax, *kClipping.dmax);
      }
      double sum_g = 0, sum_gx = 0;
      for (size_t i : at) {
        const double u = (d.x[i] - mean) / s, v = u * ratio + shift, y = d.gamma[k] * v + d.beta[k],
                     g = c.relu && y <= 0 ? 0 : d.g[i];
        r.y[i] = c.relu ? std::max(y, 0.) : y;
        sum_g += g, sum_gx += g * u;
        r.dgamma[k] += g * v, r.dbeta[k] += g;
      }
      for (size_t i : at) {
        const double g = c.relu && r.y[i] == 0 ? 0 : d.g[i];
        const double rest = n > 0 ? d.weight[i] / n * (sum_g + (d.x[i] - mean) / s * sum_gx) : 0;
        r.dx[i] = d.gamma[k] * ratio / s * (g - rest);
        r.part = std::max(r.part, std::abs(d.gamma[k] * ratio / s * g));
      }
    }
  return r;
}
void expect_close(const Tensor& found, const Values& want, double tolerance, const char* what,
                  double size = 1) {
  const Values v = found.to_vector<double>();
  ASSERT_EQ(v.size(), want.size()) << what;
  for (double w : want) size = std::max(size, std::abs(w));
  for (size_t i = 0; i < v.size(); ++i)
    ASSERT_NEAR(v[i], want[i], tolerance * size) << what << " " << i;
}

void check(const Case& c, uint32_t seed) {
  SCOPED_TRACE(
      concat({c.policy, " ", str(Sig{DType::f32, c.shape}), " axes ", c.axis.axes.size(), " from ",
              c.axis.axes[0], " mask ", c.mask, " weights ", c.weights, " ghosts of ", c.ghosts,
              " renorm ", int(c.renorm), " relu ", c.relu, " wide ", c.wide}));
  std::mt19937 random(seed);
  const Shape& s = c.shape;
  const auto strides = s.strides();
  std::vector<bool> kept(size_t(s.rank()), false);
  for (int64_t a : c.axis.axes) kept[size_t(s.resolve(int(a)))] = true;
  int64_t channels = 1, places = 1;
  std::vector<int64_t> place_extents;
  for (int a = 0; a < s.rank(); ++a)
    kept[size_t(a)] ? channels *= s[a] : (places *= s[a], place_extents.push_back(s[a]), 0);
  Data d{draw(random, s.count(), 2, 3),
         draw(random, s.count(), 0, 1),
         {},
         draw(random, channels, 1, .3),
         draw(random, channels, 0, 1),
         draw(random, channels, 1, 1),
         draw(random, channels, 3, .2),
         {}};
  const Tensor stored = cast(constant(d.x, s, DType::f32), DType::bf16);  // every policy has it
  d.x = stored.to_vector<double>();
  Values keep(size_t(places), 1), many(size_t(s[0]), 1);
  if (c.mask)
    for (double& k : keep) k = double(random() % 3 > 0);
  if (c.weights)
    for (double& m : many) m = double(random() % 4) / 2;
  for (int64_t i = 0; i < s.count(); ++i) {
    int64_t channel = 0, place = 0;
    for (int a = 0; a < s.rank(); ++a) {
      int64_t& to = kept[size_t(a)] ? channel : place;
      to = to * s[a] + i / strides[size_t(a)] % s[a];
    }
    d.channel.push_back(channel);
    d.weight.push_back(keep[size_t(place)] * many[size_t(i / strides[0])]);
  }

  BatchNormalizationConfig config{.renorm = c.renorm != Renorm::none, .dtype = c.policy};
  config.averages = BatchNormAverages::plain;
  config.axis = c.axis, config.epsilon = kEpsilon, config.virtual_batch_size = c.ghosts;
  config.activation = c.relu ? "relu" : "linear";
  if (c.renorm == Renorm::clipped) config.renorm_clipping = kClipping;
  if (c.wide) config.statistics_dtype = "float64";
  const BatchNormalization layer(config);
  const bool f64 = c.policy == std::string("float64");
  const Tensor x = cast(stored, f64 ? DType::f64 : DType::f32);
  layer(x);  // built
  auto& b = layer.impl();
  auto give = [](const Variable& v, Values& values) {
    v.assign(constant(values, v.sig().shape, v.sig().dtype));
    values = v.read().to_vector<double>();
  };
  give(b.gamma, d.gamma), give(b.beta, d.beta);
  if (config.renorm) give(b.renorm_mean, d.past_mean), give(b.renorm_stddev, d.past_deviation);

  CallContext context{.training = true};
  if (c.mask) context.mask = constant(keep, Shape(place_extents), DType::f32);
  if (c.weights) context.sample_weight = constant(many, {s[0]}, DType::f32);
  Step step;
  const Tensor u = watch(x), y = layer(u, context);
  const Tensor g = cast(constant(d.g, s, DType::f64), y.dtype());
  d.g = g.to_vector<double>();
  const Tensors got = gradient({y}, {g}, {u, b.gamma, b.beta});
  const Result want = defined(c, d);
  const bool half = c.policy == std::string("mixed_bfloat16");
  const double tight = f64 ? 1e-10 : 3e-5, loose = half ? 1e-2 : tight;
  expect_close(y, want.y, loose, "y");
  // With renorm its parts are rounded one by one.
  expect_close(got[0], want.dx, loose, "dx", std::max(1., want.part));
  expect_close(got[1], want.dgamma, tight, "dgamma");
  expect_close(got[2], want.dbeta, tight, "dbeta");
}

TEST(BatchNormalizationOptions, OutputsAndGradientsAreThoseOfTheDefinition) {
  uint32_t seed = 1;
  for (const int64_t n : {0, 1, 2, 33})
    for (int bits = 0; bits < 32; ++bits)
      for (const Renorm renorm : {Renorm::none, Renorm::free, Renorm::clipped})
        for (const char* policy : {"float32", "mixed_bfloat16", "float64"}) {
          const bool mask = bits & 1, weights = bits & 2, relu = bits & 4, wide = bits & 8;
          const int64_t ghosts = bits & 16 ? 4 : 0;
          for (const Case& c :
               {Case{{n, 2, 3}, -1, mask, weights, relu, wide, ghosts, renorm, policy},
                Case{{n, 3, 2}, 1, mask, weights, relu, wide, ghosts, renorm, policy},
                Case{{n, 2, 2, 3}, {1, 3}, mask, weights, relu, wide, ghosts, renorm, policy}}) {
            check(c, seed++);
            if (HasFatalFailure()) return;
          }
        }
}

}  // namespace
}  // namespace evenflow
