// SPDX-License-Identifier: Apache-2.0
// Also the example of how a kernel file uses map.h and vector_math-inl.h.
#include "evenflow/backends/cpu/map.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "evenflow/backends/cpu/convert.h"

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "evenflow/backends/cpu/map_test.cc"
#include "hwy/foreach_target.h"
#include "evenflow/backends/cpu/map-inl.h"
#include "evenflow/backends/cpu/vector_math-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace evenflow::cpu::HWY_NAMESPACE {

struct Add {
  template <class D, class V>
  V operator()(D, V a, V b) const {
    return hn::Add(a, b);
  }
};
struct Mul {
  template <class D, class V>
  V operator()(D, V a, V b) const {
    return hn::Mul(a, b);
  }
};
struct Less {
  template <class D, class V>
  V operator()(D d, V a, V b) const {
    return hn::IfThenElseZero(hn::Lt(a, b), hn::Set(d, hn::TFromD<D>(1)));
  }
};
struct Select {
  template <class D, class V>
  V operator()(D d, V condition, V a, V b) const {
    return hn::IfThenElse(hn::Ne(condition, hn::Zero(d)), a, b);
  }
};
struct Relu {
  template <class D, class V>
  V operator()(D d, V x) const {  // NaN stays NaN
    return hn::IfThenZeroElse(hn::Lt(x, hn::Zero(d)), x);
  }
};
struct Scale {
  double factor;
  template <class D, class V>
  V operator()(D d, V x) const {
    return hn::Mul(x, hn::Set(d, hn::TFromD<D>(factor)));
  }
};
#define UNARY(Name, function)      \
  struct Name {                    \
    template <class D, class V>    \
    V operator()(D d, V x) const { \
      return function(d, x);       \
    }                              \
  };                               \
  Strips Name##_strips() { return strips<Name, 1>(); }
UNARY(Exp, exp)
UNARY(Log, log)
UNARY(Tanh, tanh)
UNARY(Sigmoid, sigmoid)
UNARY(Erf, erf)
UNARY(Expm1, expm1)
#undef UNARY

Strips add() { return strips<Add, 2>(); }
Strips mul() { return strips<Mul, 2>(); }
Strips less() { return strips<Less, 2>(); }
Strips select() { return strips<Select, 3>(); }
Strips relu() { return strips<Relu, 1>(); }
Strips scale() { return strips<Scale, 1>(); }

}  // namespace evenflow::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace evenflow::cpu {
namespace {
HWY_EXPORT(add);
HWY_EXPORT(mul);
HWY_EXPORT(less);
HWY_EXPORT(select);
HWY_EXPORT(relu);
HWY_EXPORT(scale);
HWY_EXPORT(Exp_strips);
HWY_EXPORT(Log_strips);
HWY_EXPORT(Tanh_strips);
HWY_EXPORT(Sigmoid_strips);
HWY_EXPORT(Erf_strips);
HWY_EXPORT(Expm1_strips);

std::vector<float> numbers(int64_t n, int seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> v(n);
  for (float& x : v) x = normal(random);
  return v;
}

// Every instruction set that this machine has.
template <class F>
void on_all_targets(F f) {
  for (int64_t target : hwy::SupportedAndGeneratedTargets()) {
    SCOPED_TRACE(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    f();
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

int64_t broadcast_index(const Shape& out, const Shape& in, int64_t i) {
  const auto so = out.strides(), si = in.strides();
  int64_t at = 0;
  for (int a = 0; a < in.rank(); ++a) {
    const int o = a + out.rank() - in.rank();
    if (in[a] != 1) at += i / so[o] % out[o] * si[a];
  }
  return at;
}

TEST(Map, BroadcastsOfAllKinds) {
  const std::vector<std::pair<Shape, Shape>> cases = {
      {{}, {}},
      {{5}, {5}},
      {{40000}, {40000}},
      {{40000}, {}},
      {{1, 1}, {1}},
      {{7, 33}, {33}},
      {{3000, 16}, {16}},
      {{3000, 3}, {3}},
      {{5, 5000}, {5000}},
      {{5, 5000}, {5, 1}},
      {{900, 20}, {900, 1}},
      {{20, 1}, {1, 30}},
      {{300, 1}, {1, 2000}},
      {{2, 3, 4, 5}, {3, 1, 5}},
      {{2, 1, 4, 1, 3, 1, 2, 2}, {1, 3, 1, 2, 1, 2, 1, 2}},
      {{4, 1, 700}, {1, 6, 1}},
      {{0, 3}, {3}},
      {{4, 0}, {1, 1}}};
  on_all_targets([&] {
    for (const auto& [left, right] : cases)
      for (bool swap : {false, true}) {
        const Shape& sa = swap ? right : left;
        const Shape& sb = swap ? left : right;
        const Shape out = broadcast(sa, sb);
        const auto a = numbers(sa.count(), 1), b = numbers(sb.count(), 2);
        for (DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16}) {
          const size_t width = size_t(size_of(dtype));
          std::vector<char> xa(a.size() * width), xb(b.size() * width), y(out.count() * width);
          from_f32(dtype, a.data(), sa.count(), xa.data());
          from_f32(dtype, b.data(), sb.count(), xb.data());
          map(HWY_DYNAMIC_DISPATCH(add)(), {y.data(), dtype, out},
              {{xa.data(), dtype, sa}, {xb.data(), dtype, sb}});
          visit(dtype, [&](auto zero) {
            using T = decltype(zero);
            for (int64_t i = 0; i < out.count(); ++i) {
              const T p = reinterpret_cast<T*>(xa.data())[broadcast_index(out, sa, i)];
              const T q = reinterpret_cast<T*>(xb.data())[broadcast_index(out, sb, i)];
              ASSERT_EQ(double(reinterpret_cast<T*>(y.data())[i]),
                        double(T(compute_t<T>(p) + compute_t<T>(q))))
                  << str(dtype) << str(sa) << str(sb) << i;
            }
          });
        }
      }
  });
}

TEST(Map, MixedTypesTruthValuesAndState) {
  const Shape shape{100, 37}, row{37};
  const auto a = numbers(3700, 3), b = numbers(37, 4);
  bool less_than[3700];
  map(HWY_DYNAMIC_DISPATCH(less)(), {less_than, DType::boolean, shape},
      {{a.data(), DType::f32, shape}, {b.data(), DType::f32, row}});
  std::vector<float> y(3700);
  map(HWY_DYNAMIC_DISPATCH(select)(), {y.data(), DType::f32, shape},
      {{less_than, DType::boolean, shape},
       {a.data(), DType::f32, shape},
       {b.data(), DType::f32, row}});
  for (int i = 0; i < 3700; ++i) {
    ASSERT_EQ(less_than[i], a[i] < b[i % 37]);
    ASSERT_EQ(y[i], std::min(a[i], b[i % 37]));
  }
  const float factor = 3;
  map(HWY_DYNAMIC_DISPATCH(mul)(), {y.data(), DType::f32, shape},
      {{y.data(), DType::f32, shape}, {&factor, DType::f32, Shape()}});  // in place
  for (int i = 0; i < 3700; ++i) ASSERT_EQ(y[i], 3 * std::min(a[i], b[i % 37]));
  const struct { double factor; } half{0.5};
  map(HWY_DYNAMIC_DISPATCH(scale)(), {y.data(), DType::f32, shape}, {{a.data(), DType::f32, shape}},
      &half);
  for (int i = 0; i < 3700; ++i) ASSERT_EQ(y[i], 0.5f * a[i]);
  const float odd[] = {-1, -0.0f, 2, NAN, INFINITY, -INFINITY};
  map(HWY_DYNAMIC_DISPATCH(relu)(), {y.data(), DType::f32, Shape{6}},
      {{odd, DType::f32, Shape{6}}});
  EXPECT_EQ(y[0], 0);
  EXPECT_EQ(y[2], 2);
  EXPECT_TRUE(std::isnan(y[3]));
  EXPECT_EQ(y[4], INFINITY);
  EXPECT_EQ(y[5], 0);
}

TEST(Map, RefusesShapesThatDoNotBroadcast) {
  float x[6] = {}, y[6];
  const Shape out{2, 3}, bad{2}, large{2, 2, 3};
  EXPECT_THROW(map(HWY_DYNAMIC_DISPATCH(relu)(), {y, DType::f32, out}, {{x, DType::f32, bad}}),
               Error);
  EXPECT_THROW(map(HWY_DYNAMIC_DISPATCH(relu)(), {y, DType::f32, out}, {{x, DType::f32, large}}),
               Error);
}

TEST(Map, SameBitsForAnyNumberOfThreads) {
  const Shape shape{999, 101};
  const auto a = numbers(shape.count(), 5);
  const int before = thread_count();
  std::vector<float> first(shape.count()), y(shape.count());
  for (int threads : {1, 2, 5}) {
    set_thread_count(threads);
    map(HWY_DYNAMIC_DISPATCH(Exp_strips)(), {y.data(), DType::f32, shape},
        {{a.data(), DType::f32, shape}});
    if (threads == 1) first = y;
    EXPECT_EQ(y, first);
  }
  set_thread_count(before);
}

TEST(Map, Scalar) {
  const Shape shape{300, 70}, row{70};
  std::vector<int64_t> a(21000), y(21000);
  std::vector<int32_t> b(70);
  for (int i = 0; i < 21000; ++i) a[i] = int64_t(i) << 40;
  for (int i = 0; i < 70; ++i) b[i] = -i;
  map_scalar<>([](int64_t p, int32_t q) { return p + q; }, shape, y.data(),
               std::pair(const_cast<const int64_t*>(a.data()), &shape),
               std::pair(const_cast<const int32_t*>(b.data()), &row));
  for (int i = 0; i < 21000; ++i) ASSERT_EQ(y[i], (int64_t(i) << 40) - i % 70);
}

// The distance in floats between y and the exact value.
double ulps(float y, double exact) {
  if (std::isnan(exact)) return std::isnan(y) ? 0 : 1e9;
  if (std::isinf(float(exact)) || std::isinf(y)) return y == float(exact) ? 0 : 1e9;
  const float near = float(exact);
  const double unit =
      std::max<double>(std::ldexp(1.0, std::ilogb(near == 0 ? 0x1p-149f : near) - 23), 0x1p-149);
  return std::abs(y - exact) / unit;
}

TEST(VectorMath, WholeRange) {
  std::vector<float> x = {0.0f,     -0.0f,     1,         -1,           NAN,
                          INFINITY, -INFINITY, 0x1p-149f, -0x1p-149f,   0x1p-126f,
                          0.625f,   88.72283f, 88.7229f,  -87.3f,       -103.9f,
                          -104.5f,  1e30f,     -1e30f,    3.4028235e38f};
  std::mt19937 random(6);
  for (int i = 0; i < 200000; ++i) x.push_back(std::bit_cast<float>(uint32_t(random())));
  for (int i = -150000; i < 150000; ++i) x.push_back(float(i) * 7e-4f);
  for (int i = 0; i < 200000; ++i) x.push_back(float(i) * 1e-5f);
  const Shape shape{int64_t(x.size())};
  std::vector<float> y(x.size());
  auto check = [&](const char* name, const Strips& f, auto exact, double bound) {
    map(f, {y.data(), DType::f32, shape}, {{x.data(), DType::f32, shape}});
    double worst = 0;
    float where = 0;
    for (size_t i = 0; i < x.size(); ++i)
      if (const double u = ulps(y[i], exact(double(x[i]))); u > worst) worst = u, where = x[i];
    EXPECT_LE(worst, bound) << name << " at " << where;
    RecordProperty(std::string(name) + "_worst_ulp_times_1000", int(worst * 1000));
  };
  on_all_targets([&] {
    check(
        "exp", HWY_DYNAMIC_DISPATCH(Exp_strips)(), [](double v) { return std::exp(v); }, 1.5);
    check(
        "log", HWY_DYNAMIC_DISPATCH(Log_strips)(), [](double v) { return std::log(v); }, 1.5);
    check(
        "tanh", HWY_DYNAMIC_DISPATCH(Tanh_strips)(), [](double v) { return std::tanh(v); }, 2);
    check(
        "sigmoid", HWY_DYNAMIC_DISPATCH(Sigmoid_strips)(),
        [](double v) { return 1 / (1 + std::exp(-v)); }, 2.5);
    check(
        "erf", HWY_DYNAMIC_DISPATCH(Erf_strips)(), [](double v) { return std::erf(v); }, 2);
    check(
        "expm1", HWY_DYNAMIC_DISPATCH(Expm1_strips)(), [](double v) { return std::expm1(v); }, 1);
  });
}

TEST(Convert, SixteenBitsBothWays) {
  std::vector<uint16_t> bits(65536);
  for (int i = 0; i < 65536; ++i) bits[i] = uint16_t(i);
  std::vector<float> f(65536);
  std::vector<uint16_t> back(65536);
  on_all_targets([&] {
    for (DType dtype : {DType::bf16, DType::f16}) {
      to_f32(dtype, bits.data(), 65536, f.data());
      from_f32(dtype, f.data(), 65536, back.data());
      for (int i = 0; i < 65536; ++i) {
        const float expected = dtype == DType::f16 ? float(std::bit_cast<f16>(bits[i]))
                                                   : float(std::bit_cast<bf16>(bits[i]));
        if (std::isnan(expected)) {
          ASSERT_TRUE(std::isnan(f[i])) << i;
        } else {
          ASSERT_EQ(std::bit_cast<uint32_t>(f[i]), std::bit_cast<uint32_t>(expected)) << i;
          ASSERT_EQ(back[i], bits[i]);
        }
      }
      auto x = numbers(50001, 7);
      for (size_t i = 0; i < x.size(); ++i) x[i] *= std::ldexp(1.0f, int(i % 64) - 40);
      std::vector<uint16_t> y(x.size());
      from_f32(dtype, x.data(), int64_t(x.size()), y.data());
      for (size_t i = 0; i < x.size(); ++i)
        ASSERT_EQ(y[i], dtype == DType::f16 ? f16(x[i]).bits : bf16(x[i]).bits) << x[i];
    }
  });
}

TEST(Convert,
     NothingMayLieNowhere) {  // an empty vector has no address; the sanitizers watch this one
  for (DType d : {DType::f32, DType::f64, DType::bf16, DType::f16, DType::i64}) {
    EXPECT_NO_THROW(to_f32(d, nullptr, 0, nullptr));
    EXPECT_NO_THROW(to_f64(d, nullptr, 0, nullptr));
    EXPECT_NO_THROW(from_f32(d, nullptr, 0, nullptr));
    EXPECT_NO_THROW(from_f64(d, nullptr, 0, nullptr));
  }
}

TEST(Convert, IntegersAreHeldToTheirRange) {
  const float x[] = {-1e30f, -1.9f, -0.5f, 0, 1.9f, 255.5f, 1e30f, NAN, INFINITY};
  int32_t i[9];
  uint8_t u[9];
  int64_t l[9];
  bool b[9];
  from_f32(DType::i32, x, 9, i);
  from_f32(DType::u8, x, 9, u);
  from_f32(DType::i64, x, 9, l);
  from_f32(DType::boolean, x, 9, b);
  EXPECT_EQ(i[0], INT32_MIN);
  EXPECT_EQ(i[1], -1);
  EXPECT_EQ(i[6], INT32_MAX);
  EXPECT_EQ(i[7], 0);
  EXPECT_EQ(u[0], 0);
  EXPECT_EQ(u[1], 0);
  EXPECT_EQ(u[5], 255);
  EXPECT_EQ(u[8], 255);
  EXPECT_EQ(l[8], INT64_MAX);
  EXPECT_EQ(l[0], INT64_MIN);
  EXPECT_TRUE(b[2] && !b[3] && b[7]);
}

}  // namespace
}  // namespace evenflow::cpu
#endif
