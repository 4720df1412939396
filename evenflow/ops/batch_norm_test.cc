// SPDX-License-Identifier: Apache-2.0
// Batch normalisation against TensorFlow, Keras, PyTorch and two passes in f64; refusals; threads;
// merges.
#include "evenflow/ops/batch_norm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <random>

#include "evenflow/core/parallel.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/activations.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"
#include "tests/reference_values.h"

namespace evenflow {
namespace {
using nlohmann::json;
using testing::HasSubstr;
using Axes = std::vector<int64_t>;

Tensor draw(const Shape& shape, double mean = 0, double deviation = 1, DType t = DType::f32,
            unsigned seed = 1) {
  std::mt19937 bits(seed);
  std::normal_distribution<double> normal(mean, deviation);
  std::vector<double> v(size_t(shape.count()));
  for (double& x : v) x = normal(bits);
  return constant(v, shape, t);
}
std::vector<int64_t> axis_of(const json& a) { return {a["axis"].get<int64_t>()}; }
std::string same(const Tensor& a, const Tensor& b, double absolute = 2e-5, double relative = 2e-5) {
  return reference::difference(a, b, {absolute, relative});
}
bool same_bits(const Tensor& a, const Tensor& b) {
  return a.sig() == b.sig() && std::memcmp(a.data(), b.data(), size_t(a.sig().bytes())) == 0;
}
double largest(const Tensor& t) {
  double m = 0;
  for (double x : t.to_vector<double>()) m = std::max(m, std::abs(x));
  return m;
}

// ---- values by others
TEST(BatchNorm, AgreesWithTensorFlowAndPyTorch) {
  auto normalise = [](const Tensors& x, const json& a) -> Tensors {
    BatchNormResult r = batch_norm(x[0], x[1], x[2], {.epsilon = a["epsilon"], .axis = axis_of(a)});
    return {r.y, r.statistics.mean, r.statistics.variance()};
  };
  int usual = reference::check("batch_norm",
                               [&](const Tensors& x, const json& a) {
                                 return largest(x[0]) < 100 ? normalise(x, a) : Tensors();
                               },
                               {5e-6, 1e-5});
  EXPECT_GE(usual, 25);
  // A mean of 10^4 is itself rounded to 5e-4 of a deviation of 1.
  int large = reference::check("batch_norm",
                               [&](const Tensors& x, const json& a) {
                                 return largest(x[0]) < 100 ? Tensors() : normalise(x, a);
                               },
                               {1e-3, 2e-3});
  EXPECT_GE(large, 4);
}
TEST(BatchNorm, InferenceAgreesWithTensorFlow) {
  int n = reference::check("batch_norm_inference",
                           [](const Tensors& in, const json& a) -> Tensors {
                             // gamma, beta, mean, variance behind x
                             return {batch_normalize(in[0], in[3], in[4], in[1], in[2],
                                                     a["epsilon"].get<double>(), axis_of(a))};
                           },
                           {5e-6, 1e-5});
  EXPECT_EQ(n, 3);
}

Tensor read(const json& v) {
  return constant(v["data"].get<std::vector<double>>(),
                  Shape(v["shape"].get<std::vector<int64_t>>()),
                  parse_dtype(v["dtype"].get<std::string>()));
}
Tensor read_if(const json& from, const char* key) {
  return from.contains(key) ? read(from[key]) : Tensor();
}
json layer_cases() {
  std::ifstream file(EVENFLOW_SOURCE_DIR "/tests/reference/batch_norm.json");
  return json::parse(file)["cases"];
}
TEST(BatchNorm, StepsOfKerasLayers) {
  int compared = 0;
  for (const json& c : layer_cases()) {
    if (c["kind"] != "layer" || !c["trainable"] || c["config"].contains("renorm") ||
        c["steps"][0].contains("mask"))
      continue;
    const std::string note = c.value("note", "");
    SCOPED_TRACE(c["config"].dump() + " " + note);
    const bool loose = note.starts_with("large mean"), half = c["dtype"] == "mixed_bfloat16";
    const double tolerance = half ? 2e-2 : loose ? 2e-3 : 2e-5;
    const json& k = c["config"];
    const double momentum = k["momentum"];
    Tensor gamma = read_if(c["initial"], "gamma"), beta = read_if(c["initial"], "beta"),
           moving_mean = read(c["initial"]["moving_mean"]),
           moving_variance = read(c["initial"]["moving_variance"]);
    if (gamma) gamma = watch(gamma);
    if (beta) beta = watch(beta);
    double count = 0;
    for (const json& s : c["steps"]) {
      const Tensor x = watch(read(s["x"]));
      BatchNormResult r = batch_norm(x, gamma, beta, {.epsilon = k["epsilon"], .axis = axis_of(k)});
      EXPECT_EQ(same(r.y, read(s["y"]), tolerance, tolerance), "");
      ++count;
      moving_mean =
          moving_average(moving_mean, r.statistics.mean, r.statistics.n, count, momentum, false);
      moving_variance = moving_average(moving_variance, r.statistics.variance(), r.statistics.n,
                                       count, momentum, false);
      EXPECT_EQ(same(moving_mean, read(s["moving_mean"]), 1e-5, 1e-5), "");
      EXPECT_EQ(same(moving_variance, read(s["moving_variance"]), 1e-5, loose ? 1e-3 : 2e-5), "");
      if (!s.contains("dy")) continue;
      std::vector<Wrt> by{x};
      if (gamma) by.emplace_back(gamma);
      if (beta) by.emplace_back(beta);
      Tensors g = gradient({r.y}, {read(s["dy"])}, by);
      EXPECT_EQ(same(g[0], read(s["dx"]), tolerance, tolerance), "");
      size_t next = 1;
      if (gamma) {
        EXPECT_EQ(same(g[next++], read(s["dgamma"]), loose ? 2e-2 : tolerance, tolerance), "");
      }
      if (beta) {
        EXPECT_EQ(same(g[next++], read(s["dbeta"]), tolerance, tolerance), "");
      }
    }
    const Tensor y = batch_normalize(read(c["inference"]["x"]), moving_mean, moving_variance, gamma,
                                     beta, k["epsilon"].get<double>(), axis_of(k));
    EXPECT_EQ(same(y, read(c["inference"]["y"]), tolerance, tolerance), "");
    ++compared;
  }
  EXPECT_GE(compared, 15);
}
TEST(BatchNorm, FusedOfPyTorchAndTensorFlow) {
  int compared = 0;
  for (const json& c : layer_cases()) {
    if (c["kind"] != "fused") continue;
    const Tensor x = watch(read(c["x"])), gamma = watch(read(c["gamma"])),
                 beta = watch(read(c["beta"]));
    BatchNormResult r = batch_norm(x, gamma, beta, {.epsilon = c["epsilon"], .axis = axis_of(c)});
    Tensors g = gradient({r.y}, {read(c["dy"])}, {x, gamma, beta});
    // A mean of 1000 costs the peers, and us, three digits of f32.
    const double t = largest(x) < 100 ? 2e-5 : 5e-4;
    EXPECT_EQ(same(r.y, read(c["y"]), t, t), "");
    EXPECT_EQ(same(r.statistics.mean, read(c["mean"]), t, t), "");
    EXPECT_EQ(same(r.statistics.variance(), read(c["variance"]), t, t), "");
    EXPECT_EQ(same(g[0], read(c["dx"]), t, t), "");
    EXPECT_EQ(same(g[1], read(c["dgamma"]), t, t), "");
    EXPECT_EQ(same(g[2], read(c["dbeta"]), t, t), "");
    ++compared;
  }
  EXPECT_EQ(compared, 5);
}

// ---- two passes in f64
struct Oracle {
  std::vector<double> mean, m2, count;
  std::vector<size_t> channel;  // of each element
  Oracle(const Tensor& x, const Axes& axis) {
    const Shape s = x.shape();
    std::vector<bool> kept(size_t(s.rank()));
    for (int64_t a : axis) kept[size_t(a < 0 ? a + s.rank() : a)] = true;
    const std::vector<double> v = x.to_vector<double>();
    size_t channels = 1;
    for (int i = 0; i < s.rank(); ++i)
      if (kept[size_t(i)]) channels *= size_t(s[i]);
    for (size_t e = 0; e < v.size(); ++e) {
      size_t at = e, c = 0, weight = 1;
      for (int i = s.rank(); i--;) {
        if (kept[size_t(i)]) c += at % size_t(s[i]) * weight, weight *= size_t(s[i]);
        at /= size_t(s[i]);
      }
      channel.push_back(c);
    }
    mean.assign(channels, 0), m2 = count = mean;
    for (size_t e = 0; e < v.size(); ++e) mean[channel[e]] += v[e], ++count[channel[e]];
    for (size_t c = 0; c < channels; ++c) mean[c] /= std::max(1.0, count[c]);
    for (size_t e = 0; e < v.size(); ++e)
      m2[channel[e]] += (v[e] - mean[channel[e]]) * (v[e] - mean[channel[e]]);
  }
};
TEST(BatchNorm, StatisticsOfEverySetOfAxes) {
  for (DType t : {DType::f32, DType::f64, DType::bf16, DType::f16})
    for (const auto& [shape, axis] : std::vector<std::pair<Shape, Axes>>{
             {{33, 1}, {-1}},         {{33, 3}, {1}},          {{700, 63}, {-1}},
             {{65, 64}, {-1}},        {{3, 65}, {-1}},         {{5, 2100}, {-1}},
             {{2, 5000}, {-1}},       {{4097}, {0}},           {{6, 5, 4}, {0}},
             {{6, 5, 4}, {1}},        {{6, 5, 4}, {2}},        {{6, 5, 4}, {0, 1}},
             {{6, 5, 4}, {0, 2}},     {{6, 5, 4}, {1, 2}},     {{6, 5, 4}, {0, 1, 2}},
             {{9, 3, 5, 7}, {1}},     {{2, 3, 20, 10}, {1}},   {{2, 3, 9, 9}, {1}},
             {{1, 2, 300, 200}, {1}}, {{2, 3, 1, 4, 5}, {-1}}, {{4097, 1, 1, 1}, {3}}}) {
      SCOPED_TRACE(concat({str(shape), " ", axis[0], " ", str(t)}));
      const Tensor x = draw(shape, 3, 2, t);
      const Statistics s = batch_norm_statistics(x, axis);
      const Oracle o(x, axis);
      const auto mean = s.mean.to_vector<double>(), m2 = s.m2.to_vector<double>();
      ASSERT_EQ(mean.size(), o.mean.size());
      EXPECT_EQ(s.n.item(), o.count[0]);
      const double tolerance = t == DType::f64 ? 1e-12 : 4e-7;
      for (size_t c = 0; c < mean.size(); ++c) {
        EXPECT_NEAR(mean[c], o.mean[c], tolerance * 10) << c;
        EXPECT_NEAR(m2[c], o.m2[c], tolerance * (o.m2[c] + 1)) << c;
      }
    }
}
// An implementation by E[x^2] - E[x]^2 has no digit left here.
TEST(BatchNorm, LargeMeans) {
  for (double mean : {1e3, -1e4, 1e6})
    for (const auto& [shape, axis] :
         std::vector<std::pair<Shape, Axes>>{{{20000, 8}, {-1}}, {{4, 8, 50, 50}, {1}}}) {
      const Tensor x = draw(shape, mean, 1);
      const Statistics s = batch_norm_statistics(x, axis);
      const Oracle o(x, axis);
      const auto got_mean = s.mean.to_vector<double>(), m2 = s.m2.to_vector<double>();
      for (size_t c = 0; c < 8; ++c) {
        EXPECT_NEAR(got_mean[c] / o.mean[c], 1, 1e-7);
        EXPECT_NEAR(m2[c] / o.m2[c], 1, 1e-6) << mean;
      }
    }
}

// ---- fused is the composition
TEST(BatchNorm, FusedIsTheComposition) {
  for (DType t : {DType::f32, DType::f64, DType::bf16, DType::f16})
    for (const auto& [shape, axis] : std::vector<std::pair<Shape, Axes>>{{{33, 63}, {-1}},
                                                                         {{2, 3, 3, 64}, {-1}},
                                                                         {{9, 5, 6, 6}, {1}},
                                                                         {{2, 3, 13, 13}, {1}},
                                                                         {{4, 3, 5}, {0, 2}}})
      for (bool relu_after : {false, true})
        for (bool add : {false, true}) {
          SCOPED_TRACE(
              concat({str(shape), " ", str(t), relu_after ? " relu" : "", add ? " add" : ""}));
          const DType st = t == DType::f64 ? DType::f64 : DType::f32;
          const Tensor x = watch(draw(shape, 1, 2, t)), residual = watch(draw(shape, 0, 1, t, 2)),
                       seed = draw(shape, 0, 1, t, 3);
          const Shape channels = batch_norm_statistics(x, axis).mean.shape();
          const Tensor gamma = watch(draw(channels, 1, 0.3, st, 4)),
                       beta = watch(draw(channels, 0, 1, st, 5));
          const BatchNormAttrs attrs{.axis = axis, .activation = relu_after ? "relu" : "linear"};
          const BatchNormResult fused =
              batch_norm(x, gamma, beta, attrs, add ? residual : Tensor());
          const Statistics s = batch_norm_statistics(x, axis);
          EXPECT_TRUE(same_bits(fused.statistics.mean, s.mean) &&
                      same_bits(fused.statistics.m2, s.m2) && same_bits(fused.statistics.n, s.n));
          const Tensor one_pass = batch_normalize(x, s.mean, s.variance(), gamma, beta, attrs,
                                                  add ? residual : Tensor());
          EXPECT_TRUE(same_bits(fused.y, one_pass));
          std::vector<Wrt> by{x, gamma, beta};
          if (add) by.emplace_back(residual);
          const Tensors a = gradient({fused.y}, {seed}, by), b = gradient({one_pass}, {seed}, by);
          const double tolerance = t == DType::f64 ? 1e-11 : t == DType::f32 ? 5e-5 : 2e-2;
          for (size_t i = 0; i < a.size(); ++i)
            EXPECT_EQ(same(a[i], b[i], tolerance, tolerance), "") << i;
          if (t != DType::f64) continue;
          Tensor y = batch_normalize(x, s.mean, s.variance(), gamma, beta, 1e-3, axis);
          if (add) y = y + residual;
          if (relu_after) y = relu(y);
          EXPECT_EQ(same(fused.y, y, 1e-12, 1e-12), "");
          const Tensors c = gradient({y}, {seed}, by);
          for (size_t i = 0; i < a.size(); ++i) EXPECT_EQ(same(a[i], c[i], 1e-11, 1e-11), "") << i;
        }
}
TEST(BatchNorm, GradientsFlowIntoTheStatisticsToo) {
  const Tensor x = watch(draw({9, 5}, 2, 1, DType::f64));
  const BatchNormResult r = batch_norm(x, {}, {});
  const Tensor got =
      gradient(reduce_sum(r.statistics.mean) + reduce_sum(square(r.statistics.variance())), x);
  const Moments m = moments(x, {0});
  EXPECT_EQ(
      same(got, gradient(reduce_sum(m.mean) + reduce_sum(square(m.variance)), x), 1e-12, 1e-12),
      "");
}

// ---- merges
TEST(BatchNorm, PartsMergeToTheWhole) {
  const Tensor x = draw({33, 7}, 1e4, 1, DType::f64);
  const Tensors parts = split(x, {5, 0, 27, 1}, 0);
  Statistics all = batch_norm_statistics(parts[0]);
  Tensors n{all.n}, mean{all.mean}, m2{all.m2};
  for (size_t i = 1; i < parts.size(); ++i) {
    const Statistics s = batch_norm_statistics(parts[i]);
    n.push_back(s.n), mean.push_back(s.mean), m2.push_back(s.m2);
    all = merge_statistics(all, s);
  }
  const Statistics whole = batch_norm_statistics(x),
                   stacked = merge_stacked_statistics({stack(n), stack(mean), stack(m2)});
  for (const Statistics& s : {all, stacked}) {
    EXPECT_EQ(s.n.item(), 33);
    EXPECT_EQ(same(s.mean, whole.mean, 0, 1e-14), "");
    EXPECT_EQ(same(s.m2, whole.m2, 0, 1e-10), "");
  }
}
TEST(BatchNorm, NothingIsTheIdentityOfMerge) {
  const Statistics s = batch_norm_statistics(draw({17, 5}, 1e4, 3)),
                   none = batch_norm_statistics(zeros({0, 5}));
  EXPECT_EQ(none.n.item(), 0);
  for (const Statistics& r : {merge_statistics(s, none), merge_statistics(none, s),
                              merge_stacked_statistics({stack({none.n, s.n, none.n}),
                                                        stack({none.mean, s.mean, none.mean}),
                                                        stack({none.m2, s.m2, none.m2})})})
    EXPECT_TRUE(same_bits(r.n, s.n) && same_bits(r.mean, s.mean) && same_bits(r.m2, s.m2));
  const Statistics nothing = merge_statistics(none, none);
  EXPECT_EQ(largest(nothing.mean) + largest(nothing.m2) + largest(nothing.variance()), 0);
}
// Two devices with different shares of a batch: sums add up between the halves of the gradient.
TEST(BatchNorm, HalvesOfTheGradientMakeTheWhole) {
  const Tensor x = watch(draw({12, 5})), g = draw({12, 5}, 0, 1, DType::f32, 2),
               gamma = draw({5}, 1, 0.2, DType::f32, 3), beta = draw({5}, 0, 1, DType::f32, 4);
  const BatchNormAttrs attrs{.activation = "relu"};
  const BatchNormResult r = batch_norm(x, gamma, beta, attrs);
  const Tensor whole = gradient({r.y}, {g}, {x})[0];
  const Statistics& s = r.statistics;
  const Tensors xs = split(x, {3, 9}, 0), gs = split(g, {3, 9}, 0);
  const BackwardSums a = batch_norm_backward_sums(xs[0], gs[0], s.mean, s.variance(), gamma, beta,
                                                  attrs),
                     b = batch_norm_backward_sums(xs[1], gs[1], s.mean, s.variance(), gamma, beta,
                                                  attrs);
  Tensors dx;
  for (size_t i : {0, 1})
    dx.push_back(batch_norm_dx(xs[i], gs[i], s.n, s.mean, s.variance(), {a.g + b.g, a.gx + b.gx},
                               gamma, beta, attrs)
                     .x);
  EXPECT_EQ(same(concat(dx, 0), whole, 1e-5, 1e-5), "");
}

// ---- sizes of a batch
TEST(BatchNorm, BatchesOfAnySize) {
  const Tensor gamma = watch(full({3}, 2)), beta = watch(tensor(std::vector<float>{1, 2, 3}, {3}));
  for (int64_t n : {0, 1, 2, 33}) {
    SCOPED_TRACE(n);
    const Tensor x = watch(draw({n, 3}, 5, 2));
    const BatchNormResult r = batch_norm(x, gamma, beta);
    EXPECT_EQ(r.statistics.n.item(), double(n));
    const Tensors g = gradient({r.y}, {ones({n, 3})}, {x, gamma, beta});
    for (const Tensor& t :
         {r.y, r.statistics.mean, r.statistics.m2, r.statistics.variance(), g[0], g[1], g[2]})
      for (double v : t.to_vector<double>()) EXPECT_TRUE(std::isfinite(v));
    EXPECT_EQ(g[2].to_vector<double>(), std::vector<double>(3, double(n)));
    if (n == 0) {
      EXPECT_EQ(largest(r.statistics.mean) + largest(r.statistics.m2) + largest(g[1]), 0);
    }
    if (n == 1) {
      EXPECT_EQ(r.y.to_vector<float>(), (std::vector<float>{1, 2, 3}));
      EXPECT_EQ(largest(g[0]), 0);
    }
  }
}
TEST(BatchNorm, ConstantChannelsAreBetaWithoutEpsilon) {
  const Tensor x = watch(full({6, 2}, 7)), beta = tensor(std::vector<float>{1, 2}, {2});
  const BatchNormResult r = batch_norm(x, full({2}, 3), beta, {.epsilon = 0});
  EXPECT_EQ(r.y.to_vector<float>(), (std::vector<float>{1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2}));
  EXPECT_EQ(largest(gradient(reduce_sum(square(r.y)), x)), 0);
  EXPECT_EQ(batch_normalize(x, full({2}, 6), zeros({2}), {}, beta, 0.0).to_vector<float>(),
            r.y.to_vector<float>());
}
TEST(BatchNorm, NaNIsSeen) {
  std::vector<float> v(40, 1);
  v[3] = std::nanf("");
  const BatchNormResult r = batch_norm(tensor(v, {10, 4}), {}, {}, {.activation = "relu"});
  const std::vector<float> y = r.y.to_vector<float>();
  for (size_t i = 0; i < 40; ++i) EXPECT_EQ(std::isnan(y[i]), i % 4 == 3) << i;
}
TEST(BatchNorm, SameBitsForAnyNumberOfThreads) {
  const int before = thread_count();
  for (DType t : {DType::f32, DType::bf16})
    for (const auto& [shape, axis] : std::vector<std::pair<Shape, Axes>>{{{3001, 63}, {-1}},
                                                                         {{40, 50, 50}, {-1}},
                                                                         {{9, 3, 70, 80}, {1}},
                                                                         {{17, 40, 7, 7}, {1}},
                                                                         {{40, 5000}, {-1}}}) {
      std::vector<Tensors> runs;
      for (int threads : {1, 2, 3}) {
        set_thread_count(threads);
        const Tensor x = watch(draw(shape, 1, 2, t));
        const BatchNormResult r = batch_norm(x, {}, {}, {.axis = axis, .activation = "relu"});
        runs.push_back({r.y, r.statistics.mean, r.statistics.m2,
                        gradient({r.y}, {draw(shape, 0, 1, t, 2)}, {x})[0]});
        for (const Tensor& result : runs.back()) result.data();
      }
      for (size_t k : {1, 2})
        for (size_t i = 0; i < 4; ++i)
          EXPECT_TRUE(same_bits(runs[k][i], runs[0][i])) << str(shape) << i;
    }
  set_thread_count(before);
}
// Ioffe & Szegedy 2015, section 3.3: a layer's scale does not matter, and larger weights have
// smaller gradients.
TEST(BatchNorm, ScaleOfTheInputDoesNotMatter) {
  const Tensor u = watch(draw({16, 4}, 0, 1, DType::f64)),
               seed = draw({16, 4}, 0, 1, DType::f64, 2);
  const BatchNormAttrs attrs{.epsilon = 0};
  const Tensor y = batch_norm(u, {}, {}, attrs).y, scaled = watch(8 * u),
               y8 = batch_norm(scaled, {}, {}, attrs).y;
  EXPECT_EQ(same(y8, y, 1e-13, 1e-13), "");
  EXPECT_EQ(
      same(gradient({y8}, {seed}, {scaled})[0] * 8, gradient({y}, {seed}, {u})[0], 1e-13, 1e-12),
      "");
}

// ---- moving averages
TEST(BatchNorm, MovingAverages) {
  const Tensor moving = full({2}, 5), value = tensor(std::vector<float>{1, 2}, {2});
  EXPECT_TRUE(same_bits(moving_average(moving, value, 0, 1, 0.9, true), moving));  // n = 0
  EXPECT_TRUE(same_bits(moving_average(moving, value, 0, 1, 0.9, false), moving));
  EXPECT_EQ(same(moving_average(moving, value, 8, 1, 0.99, true), value, 1e-6, 1e-6),
            "");  // the first value, whatever was there
  Tensor average = moving;
  double plain = 5, weight = 0, sum = 0;
  for (int k = 1; k <= 20; ++k) {
    average = moving_average(average, full({2}, k), 8, k, 0.9, true);
    sum = 0.9 * sum + 0.1 * k, weight = 0.9 * weight + 0.1, plain = 0.9 * plain + 0.1 * k;
    EXPECT_NEAR(average.to_vector<double>()[0], sum / weight, 1e-5);
  }
  EXPECT_THROW(moving_average(moving, value, 8, 1, 1.5, false), Error);
}

// ---- what is refused
template <class F>
std::string refusal(F f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::InvalidArgument);
    return e.what();
  }
  return "accepted";
}
TEST(BatchNormRefuses, CVE_2021_29583_LengthsOtherThanChannels) {
  const Tensor x = zeros({10, 10, 10, 6}), six = zeros({6}), one = zeros({1}), none = zeros({0});
  for (const Tensor& bad : {one, none, zeros({7}), zeros({6, 1})}) {
    EXPECT_THAT(refusal([&] { batch_norm(x, bad, six); }),
                HasSubstr(concat({"gamma is ", str(bad.sig()), ", expected f32[6]"})));
    EXPECT_THAT(refusal([&] { batch_norm(x, six, bad); }), HasSubstr("beta is"));
    EXPECT_THAT(refusal([&] { batch_normalize(x, bad, six, six, six); }), HasSubstr("mean is"));
    EXPECT_THAT(refusal([&] { batch_normalize(x, six, bad, six, six); }), HasSubstr("variance is"));
    EXPECT_THAT(refusal([&] { batch_normalize(x, six, six, bad, six); }), HasSubstr("gamma is"));
    EXPECT_THAT(refusal([&] { batch_norm_backward_sums(x, x, bad, six, six, six); }),
                HasSubstr("mean is"));
    EXPECT_THAT(refusal([&] {
                  batch_norm_dx(x, x, 1.f, six, six, {six, bad}, six, six);
                }),
                HasSubstr("sum_gx is"));
  }
}
TEST(BatchNormRefuses, CVE_2021_29555_NoChannelsIsNoDivision) {
  const Tensor x = watch(zeros({1, 1, 1, 0})), none = watch(zeros({0}));
  const BatchNormResult r = batch_norm(x, none, none);
  EXPECT_EQ(r.y.shape(), (Shape{1, 1, 1, 0}));
  EXPECT_EQ(gradient(r.y, x).shape(), (Shape{1, 1, 1, 0}));
  EXPECT_EQ(gradient(r.y, none).shape(), Shape{0});
  EXPECT_EQ(batch_normalize(x, none, none, none, none).size(), 0);
}
TEST(BatchNormRefuses, CVE_2021_41223_GradientsOfOtherShapes) {
  const Tensor x = zeros({4, 3}), three = zeros({3}), n = full({}, 4);
  auto grad = [&](const Tensor& dy, const Tensor& count, const Tensor& mean, const Tensor& m2) {
    return refusal([&] {
      call(find_op("batch_norm_grad"), {x, dy, count, mean, m2, three, three}, BatchNormAttrs());
    });
  };
  EXPECT_EQ(grad(x, n, three, three), "accepted");
  EXPECT_THAT(grad(zeros({4, 2}), n, three, three),
              HasSubstr("grad is f32[4,2], expected f32[4,3] (x)"));
  EXPECT_THAT(grad(zeros({3, 3}), n, three, three), HasSubstr("grad is"));
  EXPECT_THAT(grad(x, three, three, three), HasSubstr("n is f32[3]"));
  EXPECT_THAT(grad(x, n, zeros({2}), three), HasSubstr("mean is"));
  EXPECT_THAT(grad(x, n, three, zeros({0})), HasSubstr("m2 is"));
}
TEST(BatchNormRefuses, CVE_2021_29547_29548_29549_EmptyInputs) {
  const Tensor empty = zeros({0, 3}), three = zeros({3}), scalar = zeros({});
  EXPECT_EQ(batch_normalize(empty, three, three, three, three).size(), 0);
  EXPECT_THAT(refusal([&] { batch_norm(scalar, {}, {}); }),
              HasSubstr("x is f32[], expected rank 1 or more"));
  EXPECT_THAT(refusal([&] { batch_normalize(empty, scalar, three, {}, {}); }),
              HasSubstr("mean is f32[]"));
  EXPECT_THAT(refusal([&] {
                batch_normalize(zeros({3, 0}), three, three, {}, {});
              }),
              HasSubstr("mean is f32[3], expected f32[0]"));
  const Tensor x = watch(empty), gamma = watch(full({3}, 1));  // and backward
  const Tensor y = batch_norm(x, gamma, three).y;
  EXPECT_EQ(gradient(y, x).shape(), (Shape{0, 3}));
  EXPECT_EQ(gradient(y, gamma).to_vector(), (std::vector<float>{0, 0, 0}));
  EXPECT_THAT(refusal([&] {
                call(find_op("batch_norm_grad"),
                     {zeros({4, 3}), empty, full({}, 4), three, three, three, three},
                     BatchNormAttrs());
              }),
              HasSubstr("grad is f32[0,3], expected f32[4,3] (x)"));
}
TEST(BatchNormRefuses, Attributes) {
  const Tensor x = zeros({4, 3});
  for (double epsilon : {-1e-9, double(NAN), double(INFINITY)})
    EXPECT_THAT(refusal([&] { batch_norm(x, {}, {}, {.epsilon = epsilon}); }),
                HasSubstr("epsilon is"));
  EXPECT_THAT(refusal([&] { batch_norm(x, {}, {}, {.axis = {2}}); }),
              HasSubstr("axis holds 2, expected -2..1"));
  EXPECT_THAT(
      refusal([&] { batch_norm(x, {}, {}, {.axis = {std::numeric_limits<int64_t>::min()}}); }),
      HasSubstr("axis holds"));
  EXPECT_THAT(refusal([&] { batch_norm(x, {}, {}, {.axis = {1, -1}}); }), HasSubstr("twice"));
  EXPECT_THAT(refusal([&] { batch_norm(x, {}, {}, {.axis = {}}); }), HasSubstr("axis has 0 axes"));
  EXPECT_THAT(refusal([&] { batch_norm(x, {}, {}, {.activation = "tanh"}); }),
              HasSubstr("activation is \"tanh\""));
  EXPECT_THAT(refusal([&] { batch_norm(x, {}, {}, {}, zeros({4, 4})); }), HasSubstr("residual is"));
  EXPECT_THAT(refusal([&] { batch_norm(x, zeros({3}, DType::f64), {}); }),
              HasSubstr("gamma is f64[3], expected f32[3]"));
  EXPECT_THAT(refusal([&] { batch_norm(zeros({4, 3}, DType::i32), {}, {}); }), HasSubstr("x"));
}

}  // namespace
}  // namespace evenflow
