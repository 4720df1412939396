// SPDX-License-Identifier: Apache-2.0
// What makes batch norm's backward pass do with less of the forward pass: a bit for each element of
// a ReLU's output, and the input from the output (Rota Bulò, Porzi & Kontschieder 2018). Emitted by
// batch_norm_memory.pass.cc.
#include <algorithm>

#include "evenflow/graph/op.h"
#include "evenflow/ops/activations.h"
#include "evenflow/ops/batch_norm.h"
#include "evenflow/ops/batch_norm_rules.h"
#include "evenflow/ops/compare.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/reduce.h"

namespace evenflow {
namespace {
int64_t mask_bytes(int64_t elements) { return elements / 8 + (elements % 8 != 0); }
}  // namespace

OP(positive_bits, NoAttrs) {
  return {.summary = "A bit for each element of x: whether it is positive",
          .doc = "Bit i % 8 of byte i / 8, elements in row-major order; the last bits are 0.",
          .inputs = {{"x", floating, "[...]"}},
          .outputs = {{"bits", "u8 [elements / 8, rounded up]"}},
          .shape = [](std::span<const Sig> in, const NoAttrs&) -> Sigs {
            return {{DType::u8, {mask_bytes(in[0].shape.count())}}};
          },
          .loop =
              [](const Call& c, const NoAttrs&) {
                const int64_t n = c.in[0].count();
                auto* bits = c.out[0].as<uint8_t>();
                visit(c.in[0].dtype(), [&](auto zero) {
                  using T = decltype(zero);
                  const T* x = c.in[0].as<T>();
                  for (int64_t i = 0; i < n; i += 8) {
                    unsigned b = 0;
                    for (int64_t k = 0; k < std::min<int64_t>(8, n - i); ++k)
                      b |= unsigned(compute_t<T>(x[i + k]) > 0) << k;
                    bits[i / 8] = uint8_t(b);
                  }
                });
              },
          .no_gradient = "a comparison",
          .cases = {{"eight", {{4, 4}}}, {"more", {{3, 7}}}, {"empty", {{0, 3}}}}};
}
OP(keep_where_bit, NoAttrs) {
  return {
      .summary = "x where its bit is set, else 0",
      .doc = "The gradient of a ReLU, from what positive_bits said of its output.",
      .inputs = {{"bits", only(DType::u8), "[elements / 8, rounded up]"}, {"x", floating, "[...]"}},
      .outputs = {{"y", "like x"}},
      .shape = [](std::span<const Sig> in, const NoAttrs&) -> Sigs {
        if (in[0].shape != Shape{mask_bytes(in[1].shape.count())})
          fail({"bits are ", str(in[0]), ", expected u8[", mask_bytes(in[1].shape.count()),
                "] for x ", str(in[1])});
        return {in[1]};
      },
      .loop =
          [](const Call& c, const NoAttrs&) {
            const auto* bits = c.in[0].as<uint8_t>();
            visit(c.in[1].dtype(), [&](auto zero) {
              using T = decltype(zero);
              const T* x = c.in[1].as<T>();
              T* y = c.out[0].as<T>();
              for (int64_t i = 0, n = c.in[1].count(); i < n; ++i)
                y[i] = bits[i / 8] >> (i % 8) & 1 ? x[i] : T(0);
            });
          },
      .gradient = [](const Tensors& in, const Tensors&, const Tensors& g,
                     const NoAttrs&) -> Tensors {
        return {Tensor(), call(find_op("keep_where_bit"), {in[0], g[0]})[0]};
      },
      .cases = {{"eight", {values({2}, {0x0f, 0xa5}).of(DType::u8), {4, 4}}},
                {"more", {values({3}, {0x0f, 0xa5, 0x10}).of(DType::u8), {3, 7}}},
                {"empty", {values({0}, {}).of(DType::u8), {0, 3}}},
                {"bits", {values({2}, {1, 2}).of(DType::u8), {3, 7}}, {}, {.fails = "bits are"}}}};
}

// The inverse of batch_normalize: the same inputs, y for x.
OP(batch_norm_invert, BatchNormAttrs) {
  return {
      .summary = "x from y = batch_normalize(x)",
      .doc =
          "mean + (y - beta) sqrt(variance + epsilon) / gamma; a channel whose gamma is 0 gives "
          "its "
          "mean. Digits are lost where gamma is small. Linear, without residual.",
      .inputs = {{"y", floating, "[..., channels, ...]"},
                 {"mean", floating.as(0), "[channels...]"},
                 {"variance", floating.as(0), "[channels...]"},
                 {"gamma, beta", floating.as(0), "those that the attributes name"}},
      .outputs = {{"x", "like y"}},
      .shape = [](std::span<const Sig> in, const BatchNormAttrs& a) -> Sigs {
        if (a.residual || a.weighted || a.virtual_batch_size || a.activation != "linear")
          fail({"residual, weighted, virtual_batch_size and activation are ", a.residual, ", ",
                a.weighted, ", ", a.virtual_batch_size, " and ", a.activation,
                ", expected false, false, 0 and linear"});
        return find_op("batch_normalize").shape(in, &a);
      },
      .reference = [](const Tensors& in, const BatchNormAttrs& a) -> Tensors {
        const Channels c{a.axis};
        size_t next = 3;
        Tensor y = wide_type(in[0]), deviation = sqrt(in[2] + a.epsilon);
        if (a.scale) {
          const Tensor& gamma = in[next++];
          const Tensor none = equal(gamma, 0);
          deviation = select(none, fill_like(gamma, 0),
                             deviation / select(none, fill_like(gamma, 1), gamma));
        }
        if (a.center) y = y - c.along(in[next], y);
        return {cast(c.along(in[1], y) + y * c.along(deviation, y), in[0].dtype())};
      },
      .traits = {.variadic = true, .keeps_float32 = true, .optional = 8},
      .cases = {{"dense", {{33, 10}, {10}, uniform({10}, 0.5, 2), uniform({10}, 0.5, 2), {10}}},
                {"nchw",
                 {{2, 5, 3, 4}, {5}, uniform({5}, 0.5, 2), uniform({5}, -2, -0.5), {5}},
                 {.axis = {1}}},
                {"plain", {{4, 3}, {3}, uniform({3}, 0.5, 2)}, {.scale = false, .center = false}},
                {"zero_gamma",
                 {{4, 3}, {3}, uniform({3}, 0.5, 2), values({3}, {1, 0, 2}), {3}},
                 {},
                 {.no_gradient = true}},
                {"empty", {{0, 3}, {3}, uniform({3}, 0.5, 2), {3}, {3}}},
                {"relu",
                 {{4, 3}, {3}, {3}, {3}, {3}},
                 {.activation = "relu"},
                 {.fails = "expected false, false, 0 and linear"}}}};
}

}  // namespace evenflow
