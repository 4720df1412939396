// SPDX-License-Identifier: Apache-2.0
#include "evenflow/ops/encode.h"

#include <algorithm>
#include <cmath>

#include "evenflow/core/parallel.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/index.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"

namespace evenflow {
namespace {
struct BucketizeAttrs {
  std::vector<double> boundaries = {};
  static void fields(auto& self, auto&& field) {
    field("boundaries", self.boundaries, "ascending");
  }
};
struct CountAttrs {
  int64_t depth = 1;
  bool binary = false;
  DType dtype = DType::f32;
  static void fields(auto& self, auto&& field) {
    field("depth", self.depth, "extent of the last axis"),
        field("binary", self.binary, "1 however often"), field("dtype", self.dtype, "element type");
  }
};
}  // namespace

OP(bucketize, BucketizeAttrs) {
  using A = BucketizeAttrs;
  return {
      .summary = "How many of the ascending boundaries are at most x",
      .inputs = {{"x", numeric, "[...]"}},
      .outputs = {{"y", "i32 [...]; NaN is behind all boundaries"}},
      .shape = [](std::span<const Sig> in, const A& a) -> Sigs {
        if (a.boundaries.size() > 1 << 30 ||
            !std::is_sorted(a.boundaries.begin(), a.boundaries.end()) ||
            std::any_of(a.boundaries.begin(), a.boundaries.end(),
                        [](double b) { return std::isnan(b); }))
          fail({"boundaries has ", a.boundaries.size(), " numbers, expected ascending ones"});
        return {{DType::i32, in[0].shape}};
      },
      .loop =
          [](const Call& c, const A& a) {
            visit(c.in[0].dtype(), [&](auto zero) {
              using T = decltype(zero);
              const T* x = c.in[0].as<T>();
              int32_t* y = c.out[0].as<int32_t>();
              parallel_for(c.in[0].count(), 4096, [&](int64_t b, int64_t e) {
                for (int64_t i = b; i < e; ++i) {
                  const double v = double(compute_t<T>(x[i]));
                  y[i] = int32_t(
                      v != v ? int64_t(a.boundaries.size())
                             : std::upper_bound(a.boundaries.begin(), a.boundaries.end(), v) -
                                   a.boundaries.begin());
                }
              });
            });
          },
      .no_gradient = "an index does not change smoothly",
      .cases = {{"numbers", {{5, 4}}, {{-1, 0, .5}}},
                {"on", {values({5}, {-1, 0, 2, 3, 4})}, {{-1, 2, 2, 3}}},
                {"none", {{3}}, {}},
                {"empty", {{0}}, {{1}}},
                {"order", {{3}}, {{1, 0}}, {.fails = "expected ascending"}}},
  };
}
Tensor bucketize(In x, std::vector<double> b) {
  return call(bucketize_op(), {x}, BucketizeAttrs{std::move(b)})[0];
}

OP(count_indices, CountAttrs) {
  using A = CountAttrs;
  return {
      .summary = "How often each index below depth is in a row",
      .inputs = {{"indices", index_type, "[..., k]; others than 0 to depth - 1 do not count"}},
      .outputs = {{"y", "[..., depth]"}},
      .shape = [](std::span<const Sig> in, const A& a) -> Sigs {
        if (a.depth < 0) fail({"depth is ", a.depth, ", expected at least 0"});
        if (!in[0].shape.rank()) fail({"indices is ", str(in[0]), ", expected a last axis"});
        if (a.dtype == DType::boolean) fail({"dtype is bool, expected a type of numbers"});
        return {{a.dtype, in[0].shape.with(-1, a.depth)}};
      },
      .loop =
          [](const Call& c, const A& a) {
            const int64_t k = c.in[0].shape().dim(-1),
                          rows = a.depth ? c.out[0].count() / a.depth : 0;
            visit(c.out[0].dtype(), [&](auto zero) {
              using T = decltype(zero);
              T* out = c.out[0].as<T>();
              auto count = [&](const auto* in) {
                parallel_for(rows, std::max<int64_t>(1, 4096 / (k + a.depth + 1)),
                             [&](int64_t b, int64_t e) {
                               std::vector<int32_t> sum(static_cast<size_t>(a.depth));
                               for (int64_t r = b; r < e; ++r) {
                                 std::fill(sum.begin(), sum.end(), 0);
                                 for (int64_t i = 0; i < k; ++i)
                                   if (const int64_t at = in[r * k + i]; at >= 0 && at < a.depth)
                                     sum[size_t(at)] = a.binary ? 1 : sum[size_t(at)] + 1;
                                 for (int64_t i = 0; i < a.depth; ++i)
                                   out[r * a.depth + i] =
                                       static_cast<T>(compute_t<T>(sum[size_t(i)]));
                               }
                             });
              };
              if (c.in[0].dtype() == DType::i32)
                count(c.in[0].as<int32_t>());
              else
                count(c.in[0].as<int64_t>());
            });
          },
      .no_gradient = "an index does not change smoothly",
      .batch = [](const CallSig& c, const A&) -> std::optional<BatchRule> {
        if (c.in[0].shape.rank() < 2) return {};
        return BatchRule{};
      },
      .cases = {{"rows", {integers({3, 6}, -1, 6)}, {5}},
                {"binary", {integers({2, 2, 5}, 0, 4)}, {4, true, DType::i64}},
                {"vector", {integers({7}, 0, 4)}, {4}},
                {"empty", {integers({0, 3}, 0, 4)}, {4}},
                {"nothing", {integers({2, 0}, 0, 4)}, {4}},
                {"depth", {integers({2, 3}, 0, 4)}, {-1}, {.fails = "at least 0"}}},
  };
}
Tensor count_indices(In x, int64_t depth, bool binary, DType dtype) {
  return call(count_indices_op(), {x}, CountAttrs{depth, binary, dtype})[0];
}
Tensor count_indices(In x, In weights, int64_t depth) {
  const Tensor w = weights.as();
  return reduce_sum(one_hot(x, depth, 1, 0, w.dtype()) * expand_dims(w, -1), {-2});
}

}  // namespace evenflow
