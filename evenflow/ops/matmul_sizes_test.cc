// SPDX-License-Identifier: Apache-2.0
// matmul on both sides of the sizes at which one kernel gives way to another; special values;
// callers side by side.
#include "evenflow/ops/matmul.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <thread>

#include "evenflow/graph/op.h"

namespace evenflow {
namespace {
using testing::ElementsAre;

Tensor random(const Shape& shape, DType dtype = DType::f32, unsigned seed = 1) {
  std::mt19937 bits(seed);
  std::normal_distribution<double> normal;
  std::vector<double> v(size_t(shape.count()));
  for (double& x : v) x = normal(bits);
  return constant(v, shape, dtype);
}
// The scalar loop of the declaration.
std::vector<double> by_loop(const Tensor& a, const Tensor& b, bool transpose_a, bool transpose_b) {
  const OpDef& op = find_op("matmul");
  const AttrPtr attrs = op.make_attrs(std::vector<AttrValue>{transpose_a, transpose_b});
  const Sigs in = {a.sig(), b.sig()}, out = op.shape(in, attrs.get());
  const BufferPtr memory = make_buffer(out[0].bytes());
  const View views[] = {{&in[0], const_cast<void*>(a.data())},
                        {&in[1], const_cast<void*>(b.data())}};
  const View result[] = {{&out[0], memory->data()}};
  op.loop({.in = views, .out = result}, attrs.get());
  return tensor(out[0], memory).to_vector<double>();
}
// Own kernels, the library, and the loop, over the sizes at which one gives way to the next.
TEST(MatmulSizes, AgreeWithTheLoop) {
  const int64_t sizes[][3] = {{1, 1, 1},      {1, 300, 1},    {3, 1, 70},   {5, 7, 0},
                              {16, 16, 16},   {17, 31, 33},   {64, 64, 64}, {100, 100, 100},
                              {129, 65, 257}, {210, 200, 201}};
  for (auto [m, n, k] : sizes)
    for (DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16})
      for (int t = 0; t < 4; ++t) {
        const bool ta = t & 1, tb = t & 2;
        SCOPED_TRACE(
            concat({m, "x", n, "x", k, " ", str(dtype), ta ? " ta" : "", tb ? " tb" : ""}));
        const Tensor a = random(ta ? Shape{k, m} : Shape{m, k}, dtype),
                     b = random(tb ? Shape{n, k} : Shape{k, n}, dtype, 2);
        const std::vector<double> got = matmul(a, b, ta, tb).to_vector<double>(),
                                  want = by_loop(a, b, ta, tb);
        const double unit = dtype == DType::f64   ? 1e-14
                            : dtype == DType::f32 ? 4e-6
                            : dtype == DType::f16 ? 1e-3
                                                  : 8e-3;
        double worst = 0;
        for (size_t i = 0; i < want.size(); ++i)
          worst = std::max(
              worst, std::abs(got[i] - want[i]) / (1 + std::abs(want[i]) + std::sqrt(double(k))));
        EXPECT_LT(worst, unit);
      }
}

// A row with NaN or inf spoils its own results and no others, in all kernels.
TEST(MatmulSizes, SpecialValuesStayInTheirRows) {
  for (int64_t n : {4, 220}) {
    std::vector<double> v(size_t(n * n), 1.0);
    v[size_t(n)] = NAN, v[size_t(2 * n + 1)] = INFINITY;
    for (DType dtype : {DType::f32, DType::f64, DType::bf16}) {
      SCOPED_TRACE(concat({n, " ", str(dtype)}));
      const auto y = matmul(constant(v, {n, n}, dtype), ones({n, n}, dtype)).to_vector<double>();
      for (int64_t j = 0; j < n; ++j) {
        ASSERT_EQ(y[size_t(j)], double(n));
        ASSERT_TRUE(std::isnan(y[size_t(n + j)]));
        ASSERT_EQ(y[size_t(2 * n + j)], INFINITY);
        ASSERT_EQ(y[size_t(3 * n + j)], double(n));
      }
    }
  }
}

TEST(MatmulSizes, CallersSideBySide) {
  const Tensor a = random({260, 240}), b = random({240, 250}, DType::f32, 2);
  const std::vector<float> want = matmul(a, b).to_vector();
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 8; ++i) wrong[size_t(t)] += matmul(a, b).to_vector() != want;
    });
  for (auto& t : threads) t.join();
  EXPECT_THAT(wrong, ElementsAre(0, 0, 0, 0));
}

}  // namespace
}  // namespace evenflow
