// SPDX-License-Identifier: Apache-2.0
// Values by TensorFlow.
#include "evenflow/ops/matmul.h"

#include <gtest/gtest.h>

#include "tests/reference_values.h"

namespace evenflow {
namespace {

TEST(Matmul, AgreesWithTensorFlow) {
  EXPECT_EQ(12,
            reference::check("matmul", [](const Tensors& x, const nlohmann::json& a) -> Tensors {
              return {matmul(x[0], x[1], a["transpose_a"], a["transpose_b"])};
            }));
}
// The gemm of 16-bit types sums in f32 and rounds once: whole numbers up to 256 stay whole in bf16.
TEST(Matmul, RoundsOnce) {
  for (DType d : {DType::bf16, DType::f16}) {
    const Tensor y = matmul(full({3, 200}, 1, d), full({200, 5}, 1, d));
    EXPECT_EQ(y.dtype(), d);
    EXPECT_EQ(y.to_vector(), std::vector<float>(15, 200));
  }
}
TEST(Matmul, OfIntegersIsExact) {
  const Tensor y = matmul(tensor(std::vector<int64_t>{int64_t(1) << 53, 1}, {1, 2}),
                          tensor(std::vector<int64_t>{1, 1}, {2, 1}));
  EXPECT_EQ(y.to_vector<int64_t>(), std::vector<int64_t>{(int64_t(1) << 53) + 1});
}
// Extents beside a zero may be beyond all bounds, and cost nothing.
TEST(Matmul, NothingOfMuch) {
  constexpr int64_t much = int64_t(1) << 40;
  for (DType d : {DType::f32, DType::i64})
    EXPECT_EQ(matmul(zeros({much, 0, 3}, d), zeros({3, 5}, d)).shape(), Shape({much, 0, 5}));
}
// Several axes of the batch, some of them broadcast in one operand and some in the other.
TEST(Matmul, BroadcastsAxisByAxis) {
  std::vector<double> va, vb;
  for (int i = 0; i < 2 * 1 * 3 * 2 * 4; ++i) va.push_back(i % 7 - 3);
  for (int i = 0; i < 5 * 1 * 4 * 3; ++i) vb.push_back(i % 5 - 2);
  const Tensor y = matmul(tensor(va, {2, 1, 3, 2, 4}), tensor(vb, {5, 1, 4, 3}));
  ASSERT_EQ(y.shape(), Shape({2, 5, 3, 2, 3}));
  const double* got = y.data_as<double>();
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 5; ++j)
      for (int k = 0; k < 3; ++k)
        for (int r = 0; r < 2; ++r)
          for (int c = 0; c < 3; ++c) {
            double sum = 0;
            for (int l = 0; l < 4; ++l)
              sum += va[size_t(((i * 3 + k) * 2 + r) * 4 + l)] * vb[size_t((j * 4 + l) * 3 + c)];
            EXPECT_EQ(*got++, sum);
          }
}

}  // namespace
}  // namespace evenflow
