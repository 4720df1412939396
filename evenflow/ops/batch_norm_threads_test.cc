// SPDX-License-Identifier: Apache-2.0
// Reports of users of other systems that concern the operations; the layer's are in
// model/batch_norm_threads_test.cc. The numbers are those of docs/batch-norm.md.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "evenflow/graph/gradient.h"
#include "evenflow/ops/batch_norm.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"

namespace evenflow {
namespace {
std::vector<double> draw(int64_t n, unsigned seed, double mean = 0, double deviation = 1) {
  std::mt19937 bits(seed);
  std::normal_distribution<double> normal(mean, deviation);
  std::vector<double> v(static_cast<size_t>(n));
  for (double& x : v) x = normal(bits);
  return v;
}

// Synchronised batch norm: what each device has is merged between statistics and normalise, and
// between sums and dx. Devices have batches of different sizes, one of them none.
TEST(BatchNormThreads, Thread9TensorFlow7439PartsOfAnySizeAreTheWholeBatch) {
  const int64_t row = 5 * 7, channels = 7;
  const std::vector<int64_t> sizes{3, 0, 9, 1};
  const auto x = draw(13 * row, 1, 3, 2), g = draw(13 * row, 2);
  const Shape shape{13, 5, channels};
  const Tensor gamma = constant(draw(channels, 3), {channels}, DType::f64),
               beta = constant(draw(channels, 4), {channels}, DType::f64);
  const Tensor all = constant(x, shape, DType::f64);
  std::vector<double> y, dx, want_y, want_dx;
  {
    Variable v(all);
    Step step;
    const Tensor out = batch_norm(v, gamma, beta, {.activation = "relu"}).y;
    want_dx = gradient(reduce_sum(out * constant(g, shape, DType::f64)), v).to_vector<double>();
    want_y = out.to_vector<double>();
  }
  std::vector<Tensor> parts, grads;
  int64_t at = 0;
  for (int64_t n : sizes) {
    auto part = [&](const std::vector<double>& v) {
      return constant(std::vector<double>(v.begin() + at * row, v.begin() + (at + n) * row),
                      {n, 5, channels}, DType::f64);
    };
    parts.push_back(part(x)), grads.push_back(part(g));
    at += n;
  }
  Statistics whole = batch_norm_statistics(parts[0]);
  for (size_t i = 1; i < parts.size(); ++i)
    whole = merge_statistics(whole, batch_norm_statistics(parts[i]));
  EXPECT_EQ(whole.n.item(), 13 * 5);
  const BatchNormAttrs attrs{.activation = "relu"};
  BackwardSums sums;
  for (size_t i = 0; i < parts.size(); ++i) {
    const BackwardSums s = batch_norm_backward_sums(parts[i], grads[i], whole.mean,
                                                    whole.variance(), gamma, beta, attrs);
    sums = i ? BackwardSums{sums.g + s.g, sums.gx + s.gx} : s;
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    for (double v : batch_normalize(parts[i], whole.mean, whole.variance(), gamma, beta, attrs)
                        .to_vector<double>())
      y.push_back(v);
    for (double v : batch_norm_dx(parts[i], grads[i], whole.n, whole.mean, whole.variance(), sums,
                                  gamma, beta, attrs)
                        .x.to_vector<double>())
      dx.push_back(v);
  }
  ASSERT_EQ(y.size(), want_y.size());
  for (size_t i = 0; i < y.size(); ++i) {
    EXPECT_NEAR(y[i], want_y[i], 1e-13 * std::max(1.0, std::abs(want_y[i])));
    EXPECT_NEAR(dx[i], want_dx[i], 1e-13 * std::max(1.0, std::abs(want_dx[i])));
  }
}

// Training batch norm from C++: gradients of x, gamma, beta, mean and variance, in both layouts,
// and of second order, against differences in f64.
TEST(BatchNormThreads, Thread15TensorFlow51201AllGradientsAreThereInCpp) {
  for (int64_t axis : {-1, 1}) {
    const Shape shape = axis == 1 ? Shape{4, 3, 5} : Shape{4, 5, 3};
    Variable x(constant(draw(60, 1), shape, DType::f64)),
        gamma(constant(draw(3, 2), {3}, DType::f64)), beta(constant(draw(3, 3), {3}, DType::f64)),
        mean(constant(draw(3, 4), {3}, DType::f64)),
        variance(constant({0.5, 1, 2}, {3}, DType::f64));
    const Tensor weights = constant(draw(60, 5), shape, DType::f64);
    auto training = [&] {
      return reduce_sum(square(batch_norm(x, gamma, beta, {.axis = {axis}}).y) * weights);
    };
    auto given = [&] {
      return reduce_sum(square(batch_normalize(x, mean, variance, gamma, beta, 1e-3, {axis})) *
                        weights);
    };
    // The sum of a gradient's squares is a function whose gradient is of second order.
    auto second = [&](auto f) { return [=] { return reduce_sum(square(gradient(f(), x))); }; };
    auto check = [&](auto f, const Variable& v, const char* what) {
      std::vector<double> found;
      {
        Step step;
        found = gradient(f(), v).template to_vector<double>();
      }
      const auto at = v.read().to_vector<double>();
      for (size_t i = 0; i < at.size(); i += 7) {
        auto value = [&](double h) {
          auto moved = at;
          moved[i] += h;
          Step step;
          v.assign(constant(moved, v.sig().shape, DType::f64));
          return double(f().template to_vector<double>()[0]);
        };
        const double h = 1e-4,
                     slope =
                         (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h);
        EXPECT_NEAR(found[i], slope, 1e-6 * std::max(1.0, std::abs(slope))) << what << " " << i;
      }
    };
    for (const Variable& v : {x, gamma, beta}) {
      check(training, v, "training");
      check(second(training), v, "training, second order");
    }
    for (const Variable& v : {x, gamma, beta, mean, variance}) {
      check(given, v, "given statistics");
      check(second(given), v, "given statistics, second order");
    }
  }
}

}  // namespace
}  // namespace evenflow
