// SPDX-License-Identifier: Apache-2.0
#include "evenflow/ops/random.h"

#include <algorithm>
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

// ---- rows: each element of a batch has numbers of its own ----
namespace {
struct RowsAttrs {
  double a = 0, b = 1;
  int64_t stream = 0;
  static void fields(auto& self, auto&& field) {
    field("a", self.a, "low, or mean"), field("b", self.b, "high, or deviation");
    field("stream", self.stream, "0 to 255: independent numbers for the same draw");
  }
};
void check_rows(const Sig& draw, const Sig& like, const Sig* index, int64_t stream) {
  check_draw(draw);
  if (stream < 0 || stream > 255) fail({"stream is ", stream, ", expected 0 to 255"});
  if (!like.shape.rank()) fail({"like is ", str(like), ", expected a batch"});
  const Shape n{like.shape[0]};
  if (index && index->shape != n)
    fail({"index is ", str(*index), ", expected i64", str(n), " (the batch)"});
}
template <class A>
Sigs rows_shape(std::span<const Sig> in, const A& a) {
  check_rows(in[0], in[1], in.size() > 2 ? &in[2] : nullptr, a.stream);
  return {in[1]};
}
// The words of one element: the counter has the draw's, the stream's and the word's number, and
// Philox's stream is the element.
struct Row {
  Philox philox;
  uint64_t element, base;
  Row(const View& draw, const View* index, int64_t stream, int64_t row)
      : philox{uint64_t(draw.as<int64_t>()[0])},
        element(uint64_t(index ? index->as<int64_t>()[row] : row)),
        base(uint64_t(draw.as<int64_t>()[1]) << 40 ^ uint64_t(stream) << 32) {}
  std::array<uint32_t, 4> operator()(uint64_t k) const { return philox(element, base ^ k); }
};
template <class F>
void fill_rows(const Call& c, int64_t stream, F f) {
  if (!c.out[0].count()) return;  // many rows of nothing, too
  const int64_t n = c.out[0].shape()[0], m = c.out[0].count() / n;
  const View* index = c.in.size() > 2 ? &c.in[2] : nullptr;
  visit(c.out[0].dtype(), [&](auto zero) {
    using T = decltype(zero);
    if constexpr (!std::is_integral_v<T>)
      parallel_for(n, std::max<int64_t>(1, 4096 / (m + 1)), [&](int64_t b, int64_t e) {
        for (int64_t i = b; i < e; ++i) {
          const Row row(c.in[0], index, stream, i);
          T* y = c.out[0].as<T>() + i * m;
          for (int64_t j = 0; j < m; j += 2) {
            const auto w = row(uint64_t(j / 2));
            y[j] = static_cast<T>(f(w[0], w[1]));
            if (j + 1 < m) y[j + 1] = static_cast<T>(f(w[2], w[3]));
          }
        }
      });
  });
}
std::vector<Arg> rows_args() {
  std::vector<Arg> r = draw_and_like();
  r[1].doc = "[n, ...]; only its type and shape are read";
  r.push_back({"index", i64_only, "[n]: which element a row is; absent: its number"});
  return r;
}
std::vector<Op<RowsAttrs>::Case> rows_cases() {
  return {
      {"matrix", {values({2}, {7, 3}), {3, 5}}, {-1, 2, 1}},
      {"index", {values({2}, {7, 3}), {3, 2, 2}, values({3}, {5, 0, 1e12})}, {-1, 2, 1}},
      {"empty", {values({2}, {7, 3}), {0, 3}}, {}},
      {"nothing", {values({2}, {7, 3}), {2, 0}}, {}},
      {"batch", {values({2}, {1, 2}), {3, 2}, values({2}, {0, 1})}, {}, {.fails = "(the batch)"}},
      {"stream", {values({2}, {1, 2}), {3}}, {0, 1, 256}, {.fails = "expected 0 to 255"}}};
}
// Marsaglia & Tsang, "A simple method for generating gamma variables" (2000): the logarithm of a
// Gamma(alpha, 1), which for a small alpha is below what a double holds.
double log_gamma_variate(const Row& row, double alpha, uint64_t& k) {
  const double boosted = alpha < 1 ? alpha + 1 : alpha, d = boosted - 1. / 3,
               c = 1 / std::sqrt(9 * d);
  for (;;) {
    const auto w = row(k++), v = row(k++);
    const double x = gauss(w[0], w[1]), t = 1 + c * x;
    if (t <= 0) continue;
    const double cube = t * t * t, u = 1 - uniform_f64(w[2], w[3]);
    if (std::log(u) >= 0.5 * x * x + d - d * cube + d * std::log(cube)) continue;
    const double more = 1 - uniform_f64(v[0], v[1]);
    return std::log(d * cube) + (alpha < 1 ? std::log(more) / alpha : 0);
  }
}
struct StreamAttrs {
  int64_t stream = 0;
  static void fields(auto& self, auto&& field) {
    field("stream", self.stream, "0 to 255: independent numbers for the same draw");
  }
};
}  // namespace
OP(random_uniform_rows, RowsAttrs) {
  return {.summary = "Uniform numbers in [a, b) for each element of a batch, by its index",
          .inputs = rows_args(),
          .outputs = {{"y", "like like"}},
          .shape = rows_shape<RowsAttrs>,
          .loop =
              [](const Call& c, const RowsAttrs& a) {
                const bool wide = c.out[0].dtype() == DType::f64;
                fill_rows(c, a.stream, [&](uint32_t h, uint32_t l) {
                  return a.a + (a.b - a.a) * (wide ? uniform_f64(h, l) : double(uniform_f32(h)));
                });
              },
          .no_gradient = "random numbers depend on nothing",
          .traits = {.shape_only = 2, .random = true, .optional = 4},
          .cases = rows_cases()};
}
OP(random_normal_rows, RowsAttrs) {
  return {.summary = "Normal numbers of mean a and deviation b for each element, by its index",
          .inputs = rows_args(),
          .outputs = {{"y", "like like"}},
          .shape = rows_shape<RowsAttrs>,
          .loop =
              [](const Call& c, const RowsAttrs& a) {
                fill_rows(c, a.stream,
                          [&](uint32_t h, uint32_t l) { return a.a + a.b * gauss(h, l); });
              },
          .no_gradient = "random numbers depend on nothing",
          .traits = {.shape_only = 2, .random = true, .optional = 4},
          .cases = rows_cases()};
}
OP(random_beta_rows, StreamAttrs) {
  return {
      .summary = "A number of Beta(alpha, alpha) for each element of a batch, by its index",
      .doc = "As X / (X + Y) of two Gamma variates (Marsaglia & Tsang 2000), by logarithms.",
      .inputs = {{"draw", i64_only, "[2]: key and counter"},
                 {"like", any_type, "[n, ...]; only its batch is read"},
                 {"alpha", f32_only, "[n] or [1], above 0; else NaN"},
                 {"index", i64_only, "[n]: which element a row is; absent: its number"}},
      .outputs = {{"y", "f32 [n]"}},
      .shape = [](std::span<const Sig> in, const StreamAttrs& a) -> Sigs {
        check_rows(in[0], in[1], in.size() > 3 ? &in[3] : nullptr, a.stream);
        const Shape n{in[1].shape[0]};
        if (in[2].shape != n && in[2].shape != Shape{1})
          fail({"alpha is ", str(in[2]), ", expected f32", str(n), " or f32[1]"});
        return {{DType::f32, n}};
      },
      .loop =
          [](const Call& c, const StreamAttrs& a) {
            const View* index = c.in.size() > 3 ? &c.in[3] : nullptr;
            const bool one = c.in[2].count() == 1;
            parallel_for(c.out[0].count(), 64, [&](int64_t b, int64_t e) {
              for (int64_t i = b; i < e; ++i) {
                const Row row(c.in[0], index, a.stream, i);
                const double alpha = double(c.in[2].as<float>()[one ? 0 : i]);
                float& y = c.out[0].as<float>()[i];
                if (!(alpha > 0 && std::isfinite(alpha))) {
                  y = NAN;
                  continue;
                }
                uint64_t k = 0;
                const double p = log_gamma_variate(row, alpha, k),
                             q = log_gamma_variate(row, alpha, k);
                y = float(1 / (1 + std::exp(q - p)));
              }
            });
          },
      .no_gradient = "random numbers depend on nothing",
      .traits = {.shape_only = 2, .random = true, .optional = 8},
      .cases = {{"one", {values({2}, {7, 3}), {40, 2}, values({1}, {.2})}, {1}},
                {"each",
                 {values({2}, {7, 3}), {3}, values({3}, {1e-6, 2, 40}), values({3}, {5, 0, 1e12})},
                 {}},
                {"empty", {values({2}, {7, 3}), {0, 3}, values({1}, {.2})}, {}},
                {"none", {values({2}, {7, 3}), {2, 3}, values({1}, {0})}, {}},
                {"alpha", {values({2}, {7, 3}), {4}, {3}}, {}, {.fails = "or f32[1]"}}}};
}
namespace {
std::vector<In> with_index(std::vector<In> in, const Tensor& index) {
  if (index) in.push_back(index);
  return in;
}
}  // namespace
Tensor random_uniform_rows(In d, In like, const Tensor& index, int64_t stream, double low,
                           double high) {
  return call(random_uniform_rows_op(), with_index({d, like}, index),
              RowsAttrs{low, high, stream})[0];
}
Tensor random_normal_rows(In d, In like, const Tensor& index, int64_t stream, double mean,
                          double stddev) {
  return call(random_normal_rows_op(), with_index({d, like}, index),
              RowsAttrs{mean, stddev, stream})[0];
}
Tensor random_beta_rows(In d, In like, In alpha, const Tensor& index, int64_t stream) {
  return call(random_beta_rows_op(), with_index({d, like, alpha}, index), StreamAttrs{stream})[0];
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
