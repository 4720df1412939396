// SPDX-License-Identifier: Apache-2.0
// What batch normalisation promises of its numbers: the invariances of the paper (Ioffe & Szegedy
// 2015, section 3.3), the digits of the variance, the same bits for any number of threads, and no
// negative variance.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "evenflow/core/parallel.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/ops/batch_norm.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/matmul.h"
#include "evenflow/ops/reduce.h"

namespace evenflow {
namespace {

Tensor normal(const Shape& shape, uint64_t seed, double mean = 0, double deviation = 1,
              DType dtype = DType::f64) {
  std::mt19937_64 bits(seed);
  std::normal_distribution<double> draw(mean, deviation);
  std::vector<double> v(size_t(shape.count()));
  for (double& x : v) x = draw(bits);
  return constant(v, shape, dtype);
}
double largest(const Tensor& t) {
  double m = 0;
  for (double x : t.to_vector<double>()) m = std::max(m, std::abs(x));
  return m;
}
// The largest difference, as a share of the largest element.
double relative(const Tensor& got, const Tensor& want) {
  return largest(got - want) / largest(want);
}
bool same_bits(const Tensor& a, const Tensor& b) {
  return a.sig() == b.sig() && !std::memcmp(a.data(), b.data(), size_t(a.sig().bytes()));
}

// y = BN(u w), and the gradients of sum(y seed) by u and w; u is [batch, in] here, w [in, out].
struct Layer {
  Tensor y, du, dw;
  Layer(const Tensor& u0, const Tensor& w0, const Tensor& seed, double epsilon) {
    const Tensor u = watch(u0), w = watch(w0);
    BatchNormAttrs attrs;
    attrs.epsilon = epsilon;
    const DType t = u0.dtype();
    y = batch_norm(matmul(u, w), full({w0.shape()[1]}, 1.5, t), full({w0.shape()[1]}, 0.25, t),
                   attrs)
            .y;
    const Tensors g = gradient({y}, {seed}, {u, w});
    du = g[0], dw = g[1];
  }
};
class Invariance : public testing::TestWithParam<double> {
 protected:
  static constexpr int64_t kBatch = 60, kIn = 100, kOut = 100;  // the paper's net for MNIST
};
TEST_P(Invariance, OfTheScaleOfWeights) {
  const double a = GetParam();
  const Tensor u = normal({kBatch, kIn}, 1), w = normal({kIn, kOut}, 2),
               seed = normal({kBatch, kOut}, 3);
  const Layer plain(u, w, seed, 0), scaled(u, w * full({}, a, DType::f64), seed, 0);
  const double sign = a < 0 ? -1 : 1;  // the paper has a > 0; a negative one turns x̂ around
  if (sign > 0) {
    EXPECT_LE(relative(scaled.y, plain.y), 1e-12);
    EXPECT_LE(relative(scaled.du, plain.du), 1e-11);
    EXPECT_LE(relative(scaled.dw * full({}, a, DType::f64), plain.dw), 1e-11);
  } else {
    EXPECT_LE(relative(scaled.y + plain.y, full({kBatch, kOut}, 0.5, DType::f64)), 1e-12);
  }
}
// A power of two changes exponents only, so not a bit of y and du may differ; dw is 1/a times.
TEST_P(Invariance, ToTheBitForPowersOfTwo) {
  const double a = std::exp2(std::round(std::log2(std::abs(GetParam()))));
  const Tensor u = normal({kBatch, kIn}, 4, 0, 1, DType::f32),
               w = normal({kIn, kOut}, 5, 0, 1, DType::f32),
               seed = normal({kBatch, kOut}, 6, 0, 1, DType::f32);
  const Layer plain(u, w, seed, 0), scaled(u, w * a, seed, 0);
  EXPECT_TRUE(same_bits(scaled.y, plain.y));
  EXPECT_TRUE(same_bits(scaled.du, plain.du));
  EXPECT_TRUE(same_bits(scaled.dw * a, plain.dw));
}
// Epsilon breaks it, by a share of epsilon / variance and no more.
TEST_P(Invariance, UpToEpsilon) {
  const double a = std::abs(GetParam()), epsilon = 1e-3, variance = kIn * std::min(1., a * a);
  const Tensor u = normal({kBatch, kIn}, 7), w = normal({kIn, kOut}, 8),
               seed = normal({kBatch, kOut}, 9);
  const Layer plain(u, w, seed, epsilon), scaled(u, w * full({}, a, DType::f64), seed, epsilon);
  EXPECT_LE(relative(scaled.y, plain.y), 2 * epsilon / variance + 1e-12);
}
INSTANTIATE_TEST_SUITE_P(Factors, Invariance, testing::Values(1e-3, 0.1, 0.5, 3., 1e3, 1e6, -2.));

struct Layout {
  Shape shape;
  std::vector<int64_t> axis;
};
const Layout kLayouts[] = {
    {{4096, 10}, {-1}},   {{257, 63}, {-1}},    {{16, 14, 14, 32}, {-1}}, {{16, 8, 20, 20}, {1}},
    {{3, 5, 300}, {1}},   {{2, 3, 40000}, {1}}, {{100000, 1}, {-1}},      {{8, 4, 6, 5}, {0, 2}},
    {{64, 3, 2, 2}, {1}}, {{7, 1025}, {-1}},
};
// Deviations from the mean and their squares in f64, of the f32 values as they are.
std::vector<double> exact_variance(const Tensor& x, const std::vector<int64_t>& axis) {
  const BatchNormResult r =
      batch_norm(cast(x, DType::f64), Tensor(), Tensor(), BatchNormAttrs{.axis = axis});
  // f64 statistics are right to about 1e-16 * mean^2 / variance: 1e-8 at most here; checked by hand
  // for the first channel.
  return r.statistics.variance().to_vector<double>();
}
double first_channel_variance(const Tensor& x, int64_t columns) {
  const std::vector<double> v = x.to_vector<double>();
  long double mean = 0, m2 = 0;
  const size_t n = v.size() / size_t(columns);
  for (size_t i = 0; i < v.size(); i += size_t(columns)) mean += v[i];
  mean /= n;
  for (size_t i = 0; i < v.size(); i += size_t(columns)) m2 += (v[i] - mean) * (v[i] - mean);
  return double(m2 / n);
}
TEST(BatchNormNumerics, TheYardstickIsExact) {
  for (const double ratio : {0., 1., 1e2, 1e4}) {
    const Tensor x = normal({4096, 10}, 11, ratio, 1, DType::f32);
    EXPECT_NEAR(exact_variance(x, {-1})[0] / first_channel_variance(x, 10), 1, 1e-12) << ratio;
  }
}
TEST(BatchNormNumerics, VarianceIsRightToOneMillionth) {
  for (const Layout& l : kLayouts)
    for (const double ratio : {0., 1., 10., 1e2, 1e3, 1e4})
      for (const double deviation : {1., 1e-3, 1e3}) {
        const Tensor x = normal(l.shape, 12, ratio * deviation, deviation, DType::f32);
        const std::vector<double>
            want = exact_variance(x, l.axis),
            got = batch_norm_statistics(x, l.axis).variance().to_vector<double>();
        double worst = 0;
        for (size_t i = 0; i < want.size(); ++i)
          worst = std::max(worst, std::abs(got[i] / want[i] - 1));
        EXPECT_LE(worst, 1e-6) << str(l.shape) << " mean / deviation " << ratio << ", deviation "
                               << deviation;
      }
}
TEST(BatchNormNumerics, NoNegativeVariance) {
  std::mt19937_64 bits(13);
  for (const Layout& l : kLayouts)
    for (int i = 0; i < 8; ++i) {
      // Values of few bits far from 0: all equal, or equal but for the last bit.
      const double far = std::ldexp(1 + double(bits() % 1000) / 1000, int(bits() % 60) - 30);
      std::vector<float> v(size_t(l.shape.count()), float(far));
      for (size_t k = 0; i % 2 && k < v.size(); ++k)
        if (bits() % 3 == 0) v[k] = std::nextafter(v[k], i % 4 == 1 ? 0.f : 2 * v[k]);
      for (const DType t : {DType::f32, DType::bf16}) {
        const Tensor x = cast(tensor(v, l.shape), t);
        for (const Tensor& m2 : {batch_norm_statistics(x, l.axis).m2,
                                 batch_norm(x, Tensor(), Tensor(), {.axis = l.axis}).statistics.m2})
          for (float m : m2.to_vector()) {
            ASSERT_GE(m, 0) << str(l.shape) << " around " << far;
            // Of channels that are no neighbours the mean is rounded before it is subtracted.
            if (i % 2 == 0 && l.axis.size() == 1) {
              ASSERT_EQ(m, 0) << str(l.shape) << " all " << far;
            }
          }
      }
    }
}

Tensors everything(const Tensor& x, const Layout& l) {
  const Shape c = batch_norm_statistics(x, l.axis).mean.shape();
  const DType wide = x.dtype() == DType::f64 ? DType::f64 : DType::f32;
  const Tensor gamma = watch(normal(c, 14, 1, 0.2, wide)), beta = watch(normal(c, 15, 0, 1, wide)),
               xw = watch(x);
  Tensors all;
  for (const char* activation : {"linear", "relu"}) {
    const BatchNormResult r =
        batch_norm(xw, gamma, beta, {.axis = l.axis, .activation = activation});
    for (const Tensor& t : {r.y, r.statistics.mean, r.statistics.m2}) all.push_back(t);
    for (const Tensor& g :
         gradient({r.y}, {normal(l.shape, 16, 0, 1, x.dtype())}, {xw, gamma, beta}))
      all.push_back(g);
  }
  const Statistics s = batch_norm_statistics(x, l.axis);
  all.push_back(batch_normalize(x, s.mean, s.variance(), gamma, beta, 1e-3, l.axis));
  return all;
}
TEST(BatchNormNumerics, SameBitsForAnyNumberOfThreads) {
  struct Restore {
    int threads = thread_count();
    ~Restore() { set_thread_count(threads); }
  } restore;
  for (const DType t : {DType::f32, DType::f64, DType::bf16, DType::f16})
    for (const Layout& l : kLayouts) {
      const Tensor x = normal(l.shape, 17, 3, 2, t);
      set_thread_count(1);
      const Tensors one = everything(x, l);
      for (const int threads : {2, 8}) {
        set_thread_count(threads);
        const Tensors many = everything(x, l);
        for (size_t i = 0; i < one.size(); ++i)
          EXPECT_TRUE(same_bits(many[i], one[i]))
              << str(x.sig()) << ", value " << i << ", " << threads << " threads";
      }
    }
}

}  // namespace
}  // namespace evenflow
