// SPDX-License-Identifier: Apache-2.0
#include "evenflow/ops/random.h"

#include <cmath>

#include "evenflow/core/parallel.h"
#include "evenflow/core/random.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/elementwise.h"

namespace evenflow {
namespace {
struct RangeAttrs {
  double a = 0, b = 1;
  static void fields(auto& self, auto&& field) {
    field("a", self.a, "low, or mean"), field("b", self.b, "high, or deviation");
  }
};
struct RateAttrs {
  double rate = 0;
  static void fields(auto& self, auto&& field) { field("rate", self.rate, "probability of 0"); }
};
void check_draw(const Sig& draw) {
  if (draw.shape != Shape{2}) fail({"draw is ", str(draw), ", expected i64[2] (key, counter)"});
}
template <class A>
Sigs random_shape(std::span<const Sig> in, const A&) {
  check_draw(in[0]);
  return {in[1]};
}
// f(words, i) for each element: element i takes words 2 (i mod 2) of counter i / 2, so that chunks
// need not know of each other.
template <class F>
void fill(const Call& c, F f) {
  const int64_t* d = c.in[0].as<int64_t>();
  const Philox philox{uint64_t(d[0])};
  visit(c.out[0].dtype(), [&](auto zero) {
    using T = decltype(zero);
    if constexpr (!std::is_integral_v<T>) {
      T* y = c.out[0].as<T>();
      const int64_t n = c.out[0].count();
      parallel_for((n + 1) / 2, 4096, [&](int64_t b, int64_t e) {
        for (int64_t i = b; i < e; ++i) {
          const auto w = philox(uint64_t(d[1]), uint64_t(i));
          y[2 * i] = static_cast<T>(f(w[0], w[1], uint64_t(2 * i)));
          if (2 * i + 1 < n) y[2 * i + 1] = static_cast<T>(f(w[2], w[3], uint64_t(2 * i + 1)));
        }
      });
    }
  });
}
double gauss(uint32_t a, uint32_t b) {  // Box & Muller 1958
  const double u = 1 - uniform_f64(a, b & 0xffff0000u),
               v = double(b & 0xffff) * 0x1p-16 + double(a & 0xffff) * 0x1p-32;
  return std::sqrt(-2 * std::log(u)) * std::cos(2 * 3.14159265358979323846 * v);
}
const std::vector<Arg>& draw_and_like() {
  static const std::vector<Arg> args{{"draw", i64_only, "[2]: key and counter"},
                                     {"like", floating, "[...]; only its type and shape are read"}};
  return args;
}
template <class A>
std::vector<typename Op<A>::Case> random_cases(A a) {
  return {{"matrix", {values({2}, {7, 3}), {3, 5}}, a},
          {"odd", {values({2}, {7, 4}), {63}}, a},
          {"empty", {values({2}, {7, 3}), {0, 3}}, a},
          {"bench", {values({2}, {7, 3}), {1000, 1000}}, a, {.bench = true}},
          {"draw", {values({3}, {1, 2, 3}), {3}}, a, {.fails = "expected i64[2]"}}};
}
}  // namespace

OP(random_uniform_like, RangeAttrs) {
  return {.summary = "Uniform numbers in [a, b) from a draw",
          .inputs = draw_and_like(),
          .outputs = {{"y", "like like"}},
          .shape = random_shape<RangeAttrs>,
          .loop =
              [](const Call& c, const RangeAttrs& a) {
                fill(c, [&](uint32_t h, uint32_t l, uint64_t) {
                  const double y = a.a + (a.b - a.a) * uniform_f64(h, l);
                  return c.out[0].dtype() == DType::f64
                             ? y
                             : a.a + (a.b - a.a) * double(uniform_f32(h));
                });
              },
          .no_gradient = "random numbers depend on nothing",
          .traits = {.shape_only = 2, .random = true},
          .cases = random_cases(RangeAttrs{-1, 2})};
}
OP(random_normal_like, RangeAttrs) {
  return {.summary = "Normal numbers of mean a and deviation b from a draw",
          .inputs = draw_and_like(),
          .outputs = {{"y", "like like"}},
          .shape = random_shape<RangeAttrs>,
          .loop =
              [](const Call& c, const RangeAttrs& a) {
                fill(c, [&](uint32_t h, uint32_t l, uint64_t) { return a.a + a.b * gauss(h, l); });
              },
          .no_gradient = "random numbers depend on nothing",
          .traits = {.shape_only = 2, .random = true},
          .cases = random_cases(RangeAttrs{1, 2})};
}
OP(random_truncated_normal_like, RangeAttrs) {
  return {.summary = "Normal numbers of mean a and deviation b, cut at two deviations, from a draw",
          .inputs = draw_and_like(),
          .outputs = {{"y", "like like"}},
          .shape = random_shape<RangeAttrs>,
          .loop =
              [](const Call& c, const RangeAttrs& a) {
                const int64_t* d = c.in[0].as<int64_t>();
                const Philox again{uint64_t(d[0]) ^ 0x9E3779B97F4A7C15u};
                fill(c, [&](uint32_t h, uint32_t l, uint64_t i) {
                  double x = gauss(h, l);
                  for (uint64_t k = 0; std::abs(x) > 2;
                       ++k) {  // another word for this element alone
                    const auto w = again(uint64_t(d[1]) ^ k << 32, i);
                    x = gauss(w[0], w[1]);
                  }
                  return a.a + a.b * x;
                });
              },
          .no_gradient = "random numbers depend on nothing",
          .traits = {.shape_only = 2, .random = true},
          .cases = random_cases(RangeAttrs{0, 1})};
}
OP(dropout_mask, RateAttrs) {
  return {.summary = "0 with probability rate, else 1 / (1 - rate), from a draw",
          .inputs = draw_and_like(),
          .outputs = {{"y", "like like"}},
          .shape = [](std::span<const Sig> in, const RateAttrs& a) -> Sigs {
            if (!(a.rate >= 0 && a.rate < 1))
              fail({"rate is ", a.rate, ", expected from 0, below 1"});
            return random_shape(in, a);
          },
          .loop =
              [](const Call& c, const RateAttrs& a) {
                fill(c, [rate = a.rate, keep = 1 / (1 - a.rate)](uint32_t h, uint32_t, uint64_t) {
                  return double(uniform_f32(h)) < rate ? 0.0 : keep;
                });
              },
          .no_gradient = "random numbers depend on nothing",
          .traits = {.shape_only = 2, .random = true},
          .cases = random_cases(RateAttrs{0.25})};
}
Tensor random_uniform_like(In d, In like, double low, double high) {
  return call(random_uniform_like_op(), {d, like}, RangeAttrs{low, high})[0];
}
Tensor random_normal_like(In d, In like, double mean, double stddev) {
  return call(random_normal_like_op(), {d, like}, RangeAttrs{mean, stddev})[0];
}
Tensor random_truncated_normal_like(In d, In like, double mean, double stddev) {
  return call(random_truncated_normal_like_op(), {d, like}, RangeAttrs{mean, stddev})[0];
}
Tensor dropout_mask(In d, In like, double rate) {
  return call(dropout_mask_op(), {d, like}, RateAttrs{rate})[0];
}

Generator::Generator(uint64_t seed, Commit commit)
    : draw_(tensor(std::vector<int64_t>{int64_t(seed), 0}, {2}),
            {.name = "draw", .commit = commit}) {}
Tensor Generator::next() const {
  Tensor d = draw_.read();
  draw_.assign(d + tensor(std::vector<int64_t>{0, 1}, {2}));
  return d;
}

}  // namespace evenflow
