// SPDX-License-Identifier: Apache-2.0
// Convolutions as networks have them, by whichever kernels are chosen, against the loops in f64;
// callers side by side; nothing to sum.
#include "evenflow/ops/conv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <thread>

#include "evenflow/graph/gradient.h"
#include "evenflow/graph/op.h"

namespace evenflow {
namespace {

Tensor random(const Shape& shape, DType dtype = DType::f32, unsigned seed = 1) {
  std::mt19937 bits(seed);
  std::normal_distribution<double> normal;
  std::vector<double> v(size_t(shape.count()));
  for (double& x : v) x = normal(bits);
  return constant(v, shape, dtype);
}
// The three operations by whichever kernels are chosen, against the loops in f64.
Tensor by_loop(const char* name, const Tensors& in, const Conv2DAttrs& a) {
  const OpDef& op = find_op(name);
  Tensors wide;
  Sigs sigs;
  std::vector<View> views;
  for (const Tensor& t : in)
    wide.push_back(constant(t.to_vector<double>(), t.shape(), DType::f64)),
        sigs.push_back(wide.back().sig());
  for (size_t i = 0; i < in.size(); ++i)
    views.push_back({&sigs[i], const_cast<void*>(wide[i].data())});
  const Sigs out = op.shape(sigs, &a);
  const BufferPtr memory = make_buffer(out[0].bytes());
  const View result[] = {{&out[0], memory->data()}};
  op.loop({.in = views, .out = result}, &a);
  return tensor(out[0], memory);
}
double error(const Tensor& got, const Tensor& want) {  // the largest, of the root mean square
  const auto a = got.to_vector<double>(), b = want.to_vector<double>();
  double square = 0, worst = 0;
  for (size_t i = 0; i < b.size(); ++i)
    square += b[i] * b[i], worst = std::max(worst, std::abs(a[i] - b[i]));
  return b.empty() ? 0 : worst / (1e-30 + std::sqrt(square / double(b.size())));
}
struct Sized {
  Shape x, kernel;
  Conv2DAttrs attrs;
};
const std::vector<Sized>& sized() {
  static const std::vector<Sized> all = {
      {{2, 32, 32, 3}, {3, 3, 3, 16}, {.padding = "same"}},
      {{2, 32, 32, 16}, {3, 3, 16, 16}, {.padding = "same"}},
      {{2, 32, 32, 16}, {3, 3, 16, 32}, {.strides = {2, 2}, .padding = "same"}},
      {{2, 32, 32, 16}, {1, 1, 16, 32}, {.strides = {2, 2}, .padding = "same"}},
      {{2, 31, 33, 16}, {1, 1, 16, 32}, {.strides = {2, 3}}},
      // Fewer channels than a vector has: oneDNN writes past its memory (its issue 6035).
      {{8, 64, 64, 4}, {1, 1, 4, 8}, {.strides = {2, 2}}},
      {{4, 65, 63, 12}, {1, 1, 12, 16}, {.strides = {2, 3}, .padding = "same"}},
      {{3, 8, 8, 64}, {3, 3, 64, 64}, {.padding = "same"}},
      {{1, 56, 56, 3}, {7, 7, 3, 64}, {.strides = {2, 2}, .padding = "same"}},
      {{2, 14, 14, 48}, {3, 3, 12, 48}, {.padding = "same", .groups = 4}},
      {{2, 14, 14, 24}, {3, 3, 1, 48}, {.padding = "same", .groups = 24}},
      {{2, 14, 14, 24}, {5, 5, 1, 24}, {.strides = {2, 2}, .padding = "same", .groups = 24}},
      {{2, 20, 20, 17}, {3, 3, 17, 19}, {.dilations = {2, 3}}},
      {{65, 1, 1, 64}, {1, 1, 64, 10}, {}},
      {{2, 40, 1, 6}, {9, 1, 6, 8}, {.padding = "same"}},
      {{1, 5, 5, 1}, {5, 5, 1, 1}, {}},
      {{1, 28, 28, 1}, {3, 3, 1, 32}, {}}};
  return all;
}
TEST(ConvSizes, AgreeWithTheLoops) {
  for (const Sized& s : sized())
    for (DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16}) {
      SCOPED_TRACE(concat({str(s.x), " ", str(s.kernel), " ", str(dtype)}));
      const Tensor x = random(s.x, dtype), k = random(s.kernel, dtype, 2);
      const Tensor y = conv2d(x, k, s.attrs), dy = random(y.shape(), dtype, 3);
      const double unit = dtype == DType::f64   ? 1e-13
                          : dtype == DType::f32 ? 1e-5
                          : dtype == DType::f16 ? 1e-2
                                                : 5e-2;
      EXPECT_LT(error(y, by_loop("conv2d", {x, k}, s.attrs)), unit);
      EXPECT_LT(error(conv2d_input_grad(k, dy, x, s.attrs),
                      by_loop("conv2d_input_grad", {k, dy, x}, s.attrs)),
                unit);
      EXPECT_LT(error(conv2d_kernel_grad(x, dy, k, s.attrs),
                      by_loop("conv2d_kernel_grad", {x, dy, k}, s.attrs)),
                unit);
    }
}

// One kernel made ready, several callers with memory of their own.
TEST(ConvSizes, CallersSideBySide) {
  const Tensor x = random({4, 16, 16, 3}), k = random({3, 3, 3, 16}, DType::f32, 2);
  const Conv2DAttrs a{.padding = "same"};
  const Tensor dy = random({4, 16, 16, 16}, DType::f32, 3);
  auto all = [&] {
    std::vector<float> r = conv2d(x, k, a).to_vector();
    for (const Tensor& t : {conv2d_input_grad(k, dy, x, a), conv2d_kernel_grad(x, dy, k, a)}) {
      const auto v = t.to_vector();
      r.insert(r.end(), v.begin(), v.end());
    }
    return r;
  };
  const auto want = all();
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 8; ++i) wrong[size_t(t)] += all() != want;
    });
  for (auto& t : threads) t.join();
  EXPECT_THAT(wrong, testing::Each(0));
}

TEST(ConvSizes, NoImagesAndNoChannels) {
  for (const Shape& s : {Shape{0, 5, 5, 3}, Shape{2, 5, 5, 0}}) {
    SCOPED_TRACE(str(s));
    const Tensor x = watch(zeros(s)), k = watch(ones({3, 3, s[3], 4}));
    const Tensor y = conv2d(x, k, {.padding = "same"});
    EXPECT_EQ(y.shape(), (Shape{s[0], 5, 5, 4}));
    EXPECT_THAT(y.to_vector(), testing::Each(0));
    const Tensors g = gradient(y, {Wrt(x), Wrt(k)});
    EXPECT_EQ(g[0].shape(), x.shape());
    EXPECT_EQ(g[1].shape(), k.shape());
    EXPECT_THAT(g[1].to_vector(), testing::Each(0));
  }
  EXPECT_EQ(conv2d(zeros({2, 5, 5, 3}), zeros({3, 3, 3, 0})).shape(), (Shape{2, 3, 3, 0}));
}

}  // namespace
}  // namespace evenflow
