// SPDX-License-Identifier: Apache-2.0
// Winograd's operations put together are conv2d and its gradients, to the error that
// docs/design/winograd.md states. The judge is conv2d in f64, whose values are held against
// TensorFlow and PyTorch elsewhere.
#include "evenflow/ops/winograd.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "evenflow/graph/attrs.h"
#include "evenflow/ops/conv.h"
#include "evenflow/ops/winograd_rules.h"

namespace evenflow {
namespace {

Tensor random(const Shape& shape, DType dtype, unsigned seed, double mean = 0) {
  std::mt19937 bits(seed);
  std::normal_distribution<double> normal(mean);
  std::vector<double> v(size_t(shape.count()));
  for (double& x : v) x = normal(bits);
  return constant(v, shape, dtype);
}
Tensor wide(const Tensor& t) { return constant(t.to_vector<double>(), t.shape(), DType::f64); }

struct Error {
  double worst, rms;  // of the root mean square of what is expected
};
Error error(const Tensor& got, const Tensor& want) {
  EXPECT_EQ(got.shape(), want.shape());
  const auto a = got.to_vector<double>(), b = want.to_vector<double>();
  double scale = 0, sum = 0, worst = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    scale += b[i] * b[i], sum += (a[i] - b[i]) * (a[i] - b[i]);
    worst = std::max(worst, std::abs(a[i] - b[i]));
  }
  scale = std::sqrt(scale / double(b.size()));
  return {worst / scale, std::sqrt(sum / double(b.size())) / scale};
}

struct Three {
  Tensor y, dx, dk;
};
Three by_conv(const Tensor& x, const Tensor& k, const Tensor& dy, const std::vector<int64_t>& p) {
  const Conv2DAttrs a{.padding = "explicit", .explicit_paddings = p};
  return {conv2d(x, k, a), conv2d_input_grad(k, dy, x, a), conv2d_kernel_grad(x, dy, k, a)};
}
Three by_winograd(const Tensor& x, const Tensor& k, const Tensor& dy, const std::vector<int64_t>& p,
                  int64_t tile) {
  const WinogradAttrs a{tile, p}, back{tile, {2 - p[0], 2 - p[1], 2 - p[2], 2 - p[3]}};
  return {winograd_conv2d(x, winograd_kernel(k, {.tile = tile}), a),
          winograd_conv2d(dy, winograd_kernel(k, {.tile = tile, .flip = true}), back),
          winograd_kernel_grad(winograd_conv2d_kernel_grad(x, dy, a), {.tile = tile})};
}
Shape y_shape(const Shape& x, int64_t co, const std::vector<int64_t>& p) {
  return {x[0], x[1] + p[0] + p[1] - 2, x[2] + p[2] + p[3] - 2, co};
}

TEST(Winograd, IsTheConvolutionInF64) {
  for (int64_t tile : {4, 2})
    for (const std::vector<int64_t>& p : std::vector<std::vector<int64_t>>{
             {1, 1, 1, 1}, {0, 0, 0, 0}, {2, 0, 1, 2}, {0, 1, 2, 2}}) {
      SCOPED_TRACE(concat({"tile ", tile, " paddings ", str(AttrValue(p))}));
      const Tensor x = random({2, 7, 9, 3}, DType::f64, 1), k = random({3, 3, 3, 5}, DType::f64, 2);
      const Tensor dy = random(y_shape(x.shape(), 5, p), DType::f64, 3);
      const Three want = by_conv(x, k, dy, p), got = by_winograd(x, k, dy, p, tile);
      EXPECT_LT(error(got.y, want.y).worst, 1e-13);
      EXPECT_LT(error(got.dx, want.dx).worst, 1e-13);
      EXPECT_LT(error(got.dk, want.dk).worst, 1e-13);
      // The gradient for x that serves any u.
      const Tensor u = winograd_kernel(k, {.tile = tile});
      EXPECT_LT(error(winograd_conv2d_input_grad(u, dy, x, {tile, p}), want.dx).worst, 1e-13);
    }
}

// In f32 the error of an element is random; these bounds are of the largest of many.
TEST(Winograd, IsTheConvolutionInF32ToItsBound) {
  struct Sized {
    Shape x;
    int64_t co;
  };
  for (const Sized& s : std::vector<Sized>{{{4, 32, 32, 16}, 16},
                                           {{4, 16, 16, 32}, 32},
                                           {{4, 8, 8, 64}, 64},
                                           {{2, 15, 13, 24}, 40},
                                           {{1, 28, 28, 128}, 96}})
    for (double mean : {0.0, 1.0})
      for (int64_t tile : {4, 2}) {
        SCOPED_TRACE(concat({str(s.x), " ", s.co, " mean ", mean, " tile ", tile}));
        const std::vector<int64_t> p = {1, 1, 1, 1};
        const Tensor x = random(s.x, DType::f32, 1, mean),
                     k = random({3, 3, s.x[3], s.co}, DType::f32, 2),
                     dy = random(y_shape(s.x, s.co, p), DType::f32, 3);
        const Three want = by_conv(wide(x), wide(k), wide(dy), p),
                    got = by_winograd(x, k, dy, p, tile);
        const Error y = error(got.y, want.y), dx = error(got.dx, want.dx),
                    dk = error(got.dk, want.dk);
        for (const Error& e : {y, dx, dk}) {
          EXPECT_LT(e.worst, tile == 4 ? 1.5e-5 : 4e-6);
          EXPECT_LT(e.rms, tile == 4 ? 1.5e-6 : 5e-7);
        }
      }
}

// Images of 16 bits: what is between them and their result is in f32, so that only the result is
// rounded. Half an ulp is at most 2^-8 of a bf16, 2^-11 of an f16; no element is beyond 6 standard
// deviations.
TEST(Winograd, RoundsImagesOf16BitsOnce) {
  const std::vector<int64_t> p = {1, 1, 1, 1};
  for (DType d : {DType::bf16, DType::f16})
    for (int64_t tile : {4, 2}) {
      SCOPED_TRACE(concat({str(d), " tile ", tile}));
      const Tensor x = random({4, 15, 13, 24}, d, 1), k = random({3, 3, 24, 40}, DType::f32, 2),
                   dy = random({4, 15, 13, 40}, d, 3);
      const Three want = by_conv(wide(x), wide(k), wide(dy), p),
                  got = by_winograd(x, k, dy, p, tile);
      EXPECT_EQ(got.y.dtype(), d);
      EXPECT_EQ(got.dx.dtype(), d);
      EXPECT_EQ(got.dk.dtype(), DType::f32);
      const double half = d == DType::bf16 ? 0x1p-8 : 0x1p-11;
      for (const Error& e : {error(wide(got.y), want.y), error(wide(got.dx), want.dx)}) {
        EXPECT_LT(e.worst, 6 * half);
        EXPECT_LT(e.rms, half);
      }
      EXPECT_LT(error(got.dk, want.dk).worst, 1.5e-5);
    }
}

// Images the size of an epoch's batch: 8192 tiles go into each sum.
TEST(Winograd, SumsOfManyTilesKeepTheirDigits) {
  const std::vector<int64_t> p = {1, 1, 1, 1};
  const Tensor x = random({128, 32, 32, 4}, DType::f32, 1, 1),
               dy = random({128, 32, 32, 6}, DType::f32, 2);
  const Tensor k = zeros({3, 3, 4, 6});
  const Tensor want = by_conv(wide(x), wide(k), wide(dy), p).dk;
  for (int64_t tile : {4, 2}) EXPECT_LT(error(by_winograd(x, k, dy, p, tile).dk, want).worst, 6e-6);
}
}  // namespace
}  // namespace evenflow
