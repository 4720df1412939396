// SPDX-License-Identifier: Apache-2.0
// The options of batch normalisation together: axis x weights x ghosts x residual x activation x
// type x size, each against the definition in f64, one element at a time.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "evenflow/graph/compile.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/ops/batch_norm.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/reduce.h"

namespace evenflow {
namespace {
enum class Weights { none, mask, samples };
struct Case {
  Shape shape;
  std::vector<int64_t> axis;
  Weights weights;
  int64_t ghosts;
  bool residual, relu;
  DType dtype;
};
std::string name(const Case& c) {
  return concat({str(Sig{c.dtype, c.shape}), " axis ", c.axis[0], " of ", c.axis.size(),
                 " weights ", int(c.weights), " ghosts of ", c.ghosts, " residual ", c.residual,
                 " relu ", c.relu});
}
// What a case needs and gives, as f64 of the values as stored.
struct Data {
  std::vector<double> x, g, residual, weights, gamma, beta;
};
std::vector<double> draw(std::mt19937& r, int64_t n, double mean = 0, double deviation = 1) {
  std::normal_distribution<double> d(mean, deviation);
  std::vector<double> v(static_cast<size_t>(n));
  for (double& e : v) e = d(r);
  return v;
}
struct Result {
  std::vector<double> y, n, mean, m2, dx, dgamma, dbeta, dresidual;
};

// The definition: for each ghost and channel, over its elements.
Result defined(const Case& c, const Data& d, int64_t channels, double epsilon) {
  const Shape& s = c.shape;
  const int64_t size = s.count(), batch = s[0], row = batch ? size / batch : 0;
  const int64_t step = c.ghosts ? c.ghosts : std::max<int64_t>(1, batch),
                ghosts = c.ghosts ? (batch + step - 1) / step : 1;
  std::vector<bool> kept(size_t(s.rank()), false);
  for (int64_t a : c.axis) kept[size_t(s.resolve(int(a)))] = true;
  const auto strides = s.strides();
  auto channel_of = [&](int64_t i) {
    int64_t k = 0;
    for (int a = 0; a < s.rank(); ++a)
      if (kept[size_t(a)]) k = k * s[a] + i / strides[size_t(a)] % s[a];
    return k;
  };
  Result r;
  r.y.resize(size_t(size)), r.dx = r.dresidual = r.y;
  r.n.assign(size_t(ghosts), 0);
  r.mean.assign(size_t(ghosts * channels), 0), r.m2 = r.mean;
  r.dgamma.assign(size_t(channels), 0), r.dbeta = r.dgamma;
  for (int64_t q = 0; q < ghosts; ++q)
    for (int64_t k = 0; k < channels; ++k) {
      std::vector<size_t> at;
      for (int64_t i = q * step * row; i < std::min(size, (q + 1) * step * row); ++i)
        if (channel_of(i) == k) at.push_back(size_t(i));
      double n = 0, mean = 0, m2 = 0;
      for (size_t i : at) n += d.weights[i];
      for (size_t i : at)
        if (d.weights[i] != 0) mean += d.weights[i] * d.x[i] / n;
      for (size_t i : at)
        if (d.weights[i] != 0) m2 += d.weights[i] * (d.x[i] - mean) * (d.x[i] - mean);
      r.n[size_t(q)] = n, r.mean[size_t(q * channels + k)] = mean;
      r.m2[size_t(q * channels + k)] = m2;
      const double inverse = 1 / std::sqrt((n > 0 ? m2 / n : 0) + epsilon);
      double sum_g = 0, sum_gx = 0;
      for (size_t i : at) {
        double y = d.gamma[size_t(k)] * inverse * (d.x[i] - mean) + d.beta[size_t(k)];
        if (c.residual) y += d.residual[i];
        r.dresidual[i] = c.relu && !(y > 0) ? 0 : d.g[i];
        r.y[i] = c.relu && y <= 0 ? 0 : y;
        sum_g += r.dresidual[i];
        if (r.dresidual[i] != 0) sum_gx += r.dresidual[i] * (d.x[i] - mean);
      }
      for (size_t i : at) {
        double rest = 0;
        if (d.weights[i] != 0)
          rest = d.weights[i] / n * (sum_g + (d.x[i] - mean) * inverse * inverse * sum_gx);
        r.dx[i] = d.gamma[size_t(k)] * inverse * (r.dresidual[i] - rest);
      }
      r.dgamma[size_t(k)] += inverse * sum_gx, r.dbeta[size_t(k)] += sum_g;
    }
  if (channels == 0) r.n.assign(size_t(ghosts), 0);
  return r;
}
void expect_close(const Tensor& found, const std::vector<double>& want, double tolerance,
                  const char* what) {
  const auto v = cast(found, DType::f64).to_vector<double>();
  ASSERT_EQ(v.size(), want.size()) << what;
  for (size_t i = 0; i < v.size(); ++i) {
    if (std::isnan(want[i])) {
      EXPECT_TRUE(std::isnan(v[i])) << what << " " << i;
      continue;
    }
    EXPECT_NEAR(v[i], want[i], tolerance * std::max(1.0, std::abs(want[i]))) << what << " " << i;
  }
}

void check(const Case& c, uint32_t seed) {
  SCOPED_TRACE(name(c));
  std::mt19937 random(seed);
  const int64_t size = c.shape.count();
  int64_t channels = 1;
  std::vector<int64_t> kept_extents;
  std::vector<bool> kept(size_t(c.shape.rank()), false);
  for (int64_t a : c.axis) kept[size_t(c.shape.resolve(int(a)))] = true;
  std::vector<int64_t> weight_extents;
  for (int a = 0; a < c.shape.rank(); ++a) {
    if (kept[size_t(a)]) channels *= c.shape[a], kept_extents.push_back(c.shape[a]);
    const bool is_whole = kept[size_t(a)] || (a && c.weights == Weights::samples);
    weight_extents.push_back(is_whole ? 1 : c.shape[a]);
  }
  const Shape per_channel(kept_extents), weight_shape(weight_extents);
  Data d{draw(random, size, 3, 2),       draw(random, size),    draw(random, size), {},
         draw(random, channels, 1, 0.3), draw(random, channels)};
  std::vector<double> w(size_t(weight_shape.count()), 1.0);
  if (c.weights != Weights::none)
    for (double& e : w)
      e = c.weights == Weights::mask ? double(random() % 2) : double(random() % 4) / 2;
  Tensor weights;
  if (c.weights != Weights::none) weights = constant(w, weight_shape, DType::f32);
  d.weights =
      expand_like(constant(w, weight_shape, DType::f64), zeros(c.shape)).to_vector<double>();
  // A mask hides anything, and no loss comes from there.
  if (c.weights == Weights::mask)
    for (size_t i = 0; i < d.x.size(); ++i)
      if (d.weights[i] == 0) d.x[i] = NAN, d.g[i] = 0;
  auto typed = [&](std::vector<double>& v) {
    Tensor t = constant(v, c.shape, c.dtype);
    v = cast(t, DType::f64).to_vector<double>();  // as stored
    return t;
  };
  const DType wide = c.dtype == DType::f64 ? DType::f64 : DType::f32;
  Tensor x = typed(d.x), g = typed(d.g), residual = typed(d.residual);
  Tensor gamma = constant(d.gamma, per_channel, wide), beta = constant(d.beta, per_channel, wide);
  d.gamma = gamma.to_vector<double>(), d.beta = beta.to_vector<double>();
  const double epsilon = 1e-3;
  const BatchNormAttrs attrs{.epsilon = epsilon,
                             .axis = c.axis,
                             .activation = c.relu ? "relu" : "linear",
                             .virtual_batch_size = c.ghosts};
  const bool with_residual = c.residual;
  auto step = compile([=](const Tensor& x, const Tensor& g, const Tensor& gamma, const Tensor& beta,
                          const Tensor& residual) {
    const BatchNormResult r =
        batch_norm(x, gamma, beta, attrs, with_residual ? residual : Tensor(), weights);
    std::vector<Wrt> wrt{x, gamma, beta};
    if (with_residual) wrt.push_back(residual);
    Tensors out = gradient({r.y}, {g}, wrt);
    out.insert(out.begin(), {r.y, r.statistics.n, r.statistics.mean, r.statistics.m2});
    return out;
  });
  const Tensors out = step(x, g, gamma, beta, residual);
  const Result want = defined(c, d, channels, epsilon);
  // Two elements close to one another are magnified by 1 / sqrt(epsilon).
  const double tight = c.dtype == DType::f64 ? 1e-9 : 2e-5,
               loose = c.dtype == DType::bf16 ? 2e-2 : 15 * tight;
  const std::vector<double> n = c.ghosts ? (c.shape[0] ? want.n : std::vector<double>()) : want.n;
  expect_close(out[1], n, 1e-6, "n");
  if (c.ghosts && !c.shape[0]) {
    EXPECT_EQ(out[2].shape()[0], 0);
  } else {
    expect_close(out[2], want.mean, tight, "mean"), expect_close(out[3], want.m2, tight, "m2");
  }
  expect_close(out[0], want.y, loose, "y");
  expect_close(out[4], want.dx, loose, "dx");
  expect_close(out[5], want.dgamma, 15 * tight, "dgamma");
  expect_close(out[6], want.dbeta, 15 * tight, "dbeta");
  if (with_residual) expect_close(out[7], want.dresidual, loose, "dresidual");
}

TEST(BatchNormOptions, Combine) {
  uint32_t seed = 1;
  for (int64_t n : {0, 1, 2, 33})
    for (auto weights : {Weights::none, Weights::mask, Weights::samples})
      for (int64_t ghosts : {0, 1, 4, 50})
        for (DType type : {DType::f32, DType::f64, DType::bf16})
          for (int form = 0; form < 4; ++form) {
            const bool residual = form & 1, relu = form & 2;
            check({{n, 2, 3, 5}, {-1}, weights, ghosts, residual, relu, type}, seed++);
            check({{n, 5, 2, 3}, {1}, weights, ghosts, residual, relu, type}, seed++);
            check({{n, 3, 2, 4}, {1, 3}, weights, ghosts, residual, relu, type}, seed++);
            if (HasFatalFailure()) return;
          }
}
// Ghosts are the batch norms of the parts, bit for bit; full ghosts or one that holds the batch.
TEST(BatchNormOptions, GhostsAreThePartsAlone) {
  std::mt19937 random(3);
  Tensor x = constant(draw(random, 10 * 6 * 17, 2, 3), {10, 6, 17}, DType::f32);
  const BatchNormResult all = batch_norm(x, {}, {}, {.virtual_batch_size = 4});
  const auto y = all.y.to_vector<double>(), mean = all.statistics.mean.to_vector<double>();
  const std::vector<double> values = x.to_vector<double>();
  size_t at = 0;
  for (int64_t begin = 0, q = 0; begin < 10; begin += 4, ++q) {
    const int64_t rows = std::min<int64_t>(4, 10 - begin), row = 6 * 17;
    const std::vector<double> part(values.begin() + begin * row,
                                   values.begin() + (begin + rows) * row);
    const BatchNormResult one = batch_norm(constant(part, {rows, 6, 17}, DType::f32), {}, {});
    for (double v : one.y.to_vector<double>()) ASSERT_EQ(v, y[at++]);
    const auto m = one.statistics.mean.to_vector<double>();
    for (size_t k = 0; k < m.size(); ++k) EXPECT_EQ(m[k], mean[size_t(q) * 17 + k]);
  }
}
TEST(BatchNormOptions, AWeightOfTwoIsTheElementTwice) {
  Tensor x = constant(std::vector<double>{1, 5, 2, 7, 4, 1}, {3, 2}, DType::f64),
         twice = constant(std::vector<double>{1, 5, 2, 7, 2, 7}, {3, 2}, DType::f64),
         w = constant(std::vector<double>{1, 2, 0}, {3, 1}, DType::f32);
  const Statistics a = batch_norm_statistics(x, {-1}, w), b = batch_norm_statistics(twice);
  EXPECT_EQ(a.n.to_vector<double>(), b.n.to_vector<double>());
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_NEAR(a.mean.to_vector<double>()[i], b.mean.to_vector<double>()[i], 1e-15);
    EXPECT_NEAR(a.m2.to_vector<double>()[i], b.m2.to_vector<double>()[i], 1e-14);
  }
}
// n < 1 is a count like any other.
TEST(BatchNormOptions, SmallWeightsScaleNothing) {
  std::mt19937 random(5);
  Tensor x = constant(draw(random, 24), {8, 3}, DType::f64),
         w = constant(std::vector<double>(8, 0.01), {8, 1}, DType::f32);
  const BatchNormResult a = batch_norm(x, {}, {}, {}, {}, w), b = batch_norm(x, {}, {});
  const auto ya = a.y.to_vector<double>(), yb = b.y.to_vector<double>();
  for (size_t i = 0; i < ya.size(); ++i) EXPECT_NEAR(ya[i], yb[i], 1e-7);
  const auto va = a.statistics.variance().to_vector<double>(),
             vb = b.statistics.variance().to_vector<double>();
  for (size_t i = 0; i < va.size(); ++i) EXPECT_NEAR(va[i], vb[i], 1e-7);
}
TEST(BatchNormOptions, WeightedVarianceKeepsItsDigitsAtLargeMeans) {
  for (double mean : {0.0, 1e1, 1e2, 1e3, 1e4}) {
    std::mt19937 random(7);
    const int64_t n = 4096, channels = 5;
    Tensor x = constant(draw(random, n * channels, mean), {n, channels}, DType::f32);
    std::vector<double> w(size_t(n), 1.0);
    for (double& e : w) e = double(random() % 3) / 2;
    const Statistics s = batch_norm_statistics(x, {-1}, constant(w, {n, 1}, DType::f32));
    const auto values = x.to_vector<double>(), m2 = s.m2.to_vector<double>();
    for (int64_t k = 0; k < channels; ++k) {
      double sum = 0, total = 0, exact = 0;
      for (int64_t i = 0; i < n; ++i)
        total += w[size_t(i)], sum += w[size_t(i)] * values[size_t(i * channels + k)];
      for (int64_t i = 0; i < n; ++i) {
        const double d = values[size_t(i * channels + k)] - sum / total;
        exact += w[size_t(i)] * d * d;
      }
      EXPECT_NEAR(m2[size_t(k)] / exact, 1, 1e-6) << "mean " << mean;
    }
  }
}
TEST(BatchNormOptions, RefusesWeightsOfAnotherShapeAndGhostsOfAKeptBatch) {
  Tensor x = zeros({4, 3});
  auto message = [](auto f) {
    try {
      f();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::InvalidArgument);
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_NE(message([&] {
              batch_norm(x, {}, {}, {}, {}, zeros({4, 3}));
            }).find("weights are f32[4,3], expected f32 of the rank of x f32[4,3]"),
            std::string::npos);
  EXPECT_NE(message([&] { batch_norm(x, {}, {}, {}, {}, zeros({4})); }).find("weights are f32[4]"),
            std::string::npos);
  EXPECT_NE(message([&] {
              batch_norm(x, {}, {}, {.axis = {0}, .virtual_batch_size = 2});
            }).find("virtual_batch_size is 2"),
            std::string::npos);
}

}  // namespace
}  // namespace evenflow
