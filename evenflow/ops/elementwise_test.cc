// SPDX-License-Identifier: Apache-2.0
// Values by TensorFlow and PyTorch, and what the derived checks cannot know: special values,
// integers at their ends, error texts.
#include "evenflow/ops/elementwise.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <limits>

#include "evenflow/graph/gradient.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/compare.h"
#include "tests/reference_values.h"

namespace evenflow {
namespace {
using testing::ElementsAre;
using testing::HasSubstr;
constexpr float kInf = std::numeric_limits<float>::infinity();
const float kNan = std::nanf("");

template <class F>
std::string message(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}
Tensor vector(const std::vector<float>& v) { return tensor(v, {int64_t(v.size())}); }
template <class T>
Tensor integers(const std::vector<T>& v) {
  return tensor(v, {int64_t(v.size())});
}

struct Named {
  const char* reference;
  Tensor (*f)(In);
};
TEST(Elementwise, UnaryAgreesWithTensorFlow) {
  const Named all[] = {{"abs", abs},       {"neg", negative},
                       {"exp", exp},       {"expm1", expm1},
                       {"log", log},       {"log1p", log1p},
                       {"sqrt", sqrt},     {"rsqrt", rsqrt},
                       {"square", square}, {"reciprocal", reciprocal},
                       {"sin", sin},       {"cos", cos},
                       {"tanh", tanh},     {"sigmoid", sigmoid},
                       {"erf", erf},       {"sign", sign},
                       {"floor", floor},   {"ceil", ceil},
                       {"round", round}};
  for (const Named& n : all)
    EXPECT_GT(reference::check(n.reference,
                               [&](const Tensors& x, auto&) -> Tensors { return {n.f(x[0])}; }),
              0)
        << n.reference;
}
struct NamedPair {
  const char* reference;
  Tensor (*f)(In, In);
};
TEST(Elementwise, BinaryAgreesWithTensorFlow) {
  const NamedPair all[] = {{"add", add},
                           {"sub", subtract},
                           {"mul", multiply},
                           {"div", divide},
                           {"pow", power},
                           {"maximum", maximum},
                           {"minimum", minimum},
                           {"squared_difference", squared_difference},
                           {"floordiv", floor_divide},
                           {"mod", mod},
                           {"equal", equal},
                           {"not_equal", not_equal},
                           {"less", less},
                           {"less_equal", less_equal},
                           {"greater", greater},
                           {"greater_equal", greater_equal}};
  for (const NamedPair& n : all) {
    const auto f = [&](const Tensors& x, auto&) -> Tensors { return {n.f(x[0], x[1])}; };
    EXPECT_GT(reference::check(n.reference, f, {}, "tensorflow"), 0) << n.reference;
  }
}
TEST(Elementwise, SelectClipAndCastAgreeWithTensorFlow) {
  EXPECT_GT(
      reference::check(
          "select", [](const Tensors& x, auto&) -> Tensors { return {select(x[0], x[1], x[2])}; }),
      0);
  EXPECT_GT(reference::check("clip",
                             [](const Tensors& x, auto& a) -> Tensors {
                               return {clip(x[0], a["min"].template get<double>(),
                                            a["max"].template get<double>())};
                             }),
            0);
  // A tenth of the smallest normal bf16 is a subnormal here, where TensorFlow has 0.
  EXPECT_GT(
      reference::check("cast",
                       [](const Tensors& x, auto& a) -> Tensors {
                         return {cast(x[0], parse_dtype(a["dtype"].template get<std::string>()))};
                       },
                       {.absolute = 1e-40, .relative = 0}),
      0);
}

TEST(Elementwise, IntegersAtTheirEndsNeverTrap) {
  const int64_t low = std::numeric_limits<int64_t>::min(), high = -(low + 1);
  const Tensor a = integers<int64_t>({low, low, high, 7, -7, 0});
  const Tensor b = integers<int64_t>({-1, 0, 0, 0, -2, 0});
  EXPECT_THAT(floor_divide(a, b).to_vector<int64_t>(), ElementsAre(low, 0, 0, 0, 3, 0));
  EXPECT_THAT(mod(a, b).to_vector<int64_t>(), ElementsAre(0, 0, 0, 0, -1, 0));
  EXPECT_THAT((-a).to_vector<int64_t>(), ElementsAre(low, low, -high, -7, 7, 0));
  EXPECT_THAT(abs(a).to_vector<int64_t>(), ElementsAre(low, low, high, 7, 7, 0));
  EXPECT_THAT((a - 1).to_vector<int64_t>(), ElementsAre(high, high, high - 1, 6, -8, -1));
  EXPECT_THAT((a * a).to_vector<int64_t>(), ElementsAre(0, 0, 1, 49, 49, 0));
  const int32_t least = std::numeric_limits<int32_t>::min();
  const Tensor c = integers<int32_t>({least, least, 5}), d = integers<int32_t>({-1, 0, -3});
  EXPECT_THAT(floor_divide(c, d).to_vector<int32_t>(), ElementsAre(least, 0, -2));
  EXPECT_THAT(mod(c, d).to_vector<int32_t>(), ElementsAre(0, 0, -1));
  EXPECT_THAT(power(integers<int32_t>({2, -1, 0, 3, 2}), integers<int32_t>({-1, -3, -1, 4, 31}))
                  .to_vector<int32_t>(),
              ElementsAre(0, -1, 0, 81, least));
  EXPECT_THAT((integers<uint8_t>({250, 3}) + integers<uint8_t>({10, 4})).to_vector<int32_t>(),
              ElementsAre(4, 7));
}
TEST(Elementwise, TrueDivisionOfIntegersIsF32) {
  const Tensor y = integers<int32_t>({7, 1, 0}) / integers<int32_t>({2, 0, 0});
  EXPECT_EQ(y.dtype(), DType::f32);
  EXPECT_EQ(y.to_vector()[0], 3.5f);
  EXPECT_EQ(y.to_vector()[1], kInf);
  EXPECT_TRUE(std::isnan(y.to_vector()[2]));
  EXPECT_THAT(divide_no_nan(integers<int32_t>({7, 1}), integers<int32_t>({2, 0})).to_vector(),
              ElementsAre(3.5f, 0));
}
TEST(Elementwise, FloorDivisionFollowsPython) {
  // In f64, 1 / 0.1 is 10 after rounding, yet Python's 1 // 0.1 is 9.
  EXPECT_EQ(floor_divide(constant({1}, {}, DType::f64), constant({0.1}, {}, DType::f64)).item(), 9);
  EXPECT_THAT(floor_divide(vector({-7, 7, -1, 5, -5}), vector({2, -2, kInf, kInf, 0})).to_vector(),
              ElementsAre(-4, -4, -1, 0, -kInf));
  EXPECT_THAT(mod(vector({-7, 7, -1, 5}), vector({2, -2, kInf, kInf})).to_vector(),
              ElementsAre(1, -1, kInf, 5));
  EXPECT_TRUE(std::isnan(mod(vector({1}), vector({0})).item()));
}

// Long enough for whole vectors and a rest, so that both ways through a kernel are seen.
Tensor repeated(float v) { return full({37}, v); }
void expect_all(const Tensor& t, float v, std::string_view what) {
  for (const float x : t.to_vector())
    if (!(x == v || (std::isnan(x) && std::isnan(v)))) {
      ADD_FAILURE() << what << " gives " << x << ", expected " << v;
      return;
    }
}
TEST(Elementwise, NanIsPropagatedAndComparesAsIeeeSays) {
  const Tensor x = repeated(kNan), one = repeated(1);
  for (auto* name : {"maximum", "minimum"}) {
    expect_all(call(find_op(name), {x, one})[0], kNan, name);
    expect_all(call(find_op(name), {one, x})[0], kNan, name);
  }
  for (auto* name : {"sign", "abs", "floor", "round", "sqrt", "exp", "log", "tanh", "sigmoid",
                     "erf", "negative", "clip"})
    expect_all(apply(find_op(name), find_op(name).defaults, std::vector<In>{x})[0], kNan, name);
  for (auto* name : {"equal", "less", "less_equal", "greater", "greater_equal", "not_equal"}) {
    const float expected = std::string_view(name) == "not_equal";
    expect_all(cast(call(find_op(name), {x, one})[0], DType::f32), expected, name);
    expect_all(cast(call(find_op(name), {x, x})[0], DType::f32), expected, name);
  }
  EXPECT_THAT(is_nan(vector({kNan, kInf, 0})).to_vector<float>(), ElementsAre(1, 0, 0));
  EXPECT_THAT(is_finite(vector({kNan, -kInf, 0})).to_vector<float>(), ElementsAre(0, 0, 1));
}
TEST(Elementwise, SpecialValues) {
  EXPECT_THAT(round(vector({0.5, 1.5, 2.5, -0.5, -1.5, 1e9})).to_vector(),
              ElementsAre(0, 2, 2, 0, -2, 1e9f));
  EXPECT_THAT(divide(vector({1, -1, 0.5}), vector({0, 0, 0.5})).to_vector(),
              ElementsAre(kInf, -kInf, 1));
  EXPECT_THAT(sigmoid(vector({-1000, -100, 1000})).to_vector(),
              ElementsAre(0, testing::FloatNear(3.8e-44f, 2e-45f), 1));
  EXPECT_THAT(cast(vector({kNan, kInf, -kInf, 3e9, -1.9}), DType::i32).to_vector<int32_t>(),
              ElementsAre(0, 2147483647, -2147483647 - 1, 2147483647, -1));
  EXPECT_THAT(cast(vector({-3, 300, kNan}), DType::u8).to_vector<int32_t>(),
              ElementsAre(0, 255, 0));
  EXPECT_THAT(cast(vector({kNan, 0, -0.0f, 1e-45f}), DType::boolean).to_vector<float>(),
              ElementsAre(1, 0, 0, 1));
}
TEST(Elementwise, GradientsAtKinks) {
  const Tensor x = watch(vector({1, 1, 2})), y = watch(vector({1, 2, 1}));
  EXPECT_THAT(gradient(maximum(x, y), x).to_vector(), ElementsAre(1, 0, 1));
  EXPECT_THAT(gradient(maximum(x, y), y).to_vector(), ElementsAre(0, 1, 0));
  EXPECT_THAT(gradient(minimum(x, y), x).to_vector(), ElementsAre(1, 1, 0));
  const Tensor z = watch(vector({-1, 0, 1}));
  EXPECT_THAT(gradient(abs(z), z).to_vector(), ElementsAre(-1, 0, 1));
  EXPECT_THAT(gradient(clip(z, -1, 0), z).to_vector(), ElementsAre(1, 1, 0));
  EXPECT_THAT(gradient(power(z, 0), z).to_vector(), ElementsAre(0, 0, 0));
  EXPECT_THAT(gradient(power(z, 2), z).to_vector(), ElementsAre(-2, 0, 2));
  EXPECT_THAT(gradient(stop_gradient(z) * z, z).to_vector(), ElementsAre(-1, 0, 1));
  EXPECT_THAT(gradient(divide_no_nan(z, z), z).to_vector(), ElementsAre(0, 0, 0));
}
TEST(Elementwise, NumbersTakeTheTypeOfTensors) {
  const Tensor half = cast(vector({1, 2}), DType::bf16), whole = integers<int32_t>({1, 2});
  EXPECT_EQ((half * 2.5).dtype(), DType::bf16);
  EXPECT_EQ((2 - whole).dtype(), DType::i32);
  EXPECT_EQ((whole + half).dtype(), DType::bf16);
  EXPECT_EQ((half + cast(half, DType::f16)).dtype(), DType::f32);
  EXPECT_EQ(select(greater(half, 1), half, 0).dtype(), DType::bf16);
  EXPECT_THAT(clip(whole, vector({0, 3}), 5).to_vector(), ElementsAre(1, 3));
}
TEST(Elementwise, ErrorsNameTheArgument) {
  const Tensor x = zeros({3}), flags = greater(x, 0);
  EXPECT_THAT(message([&] { x + zeros({4}); }), HasSubstr("broadcast"));
  EXPECT_THAT(message([&] { x + zeros({4}); }), HasSubstr("elementwise_test.cc"));
  EXPECT_THAT(message([&] { negative(flags); }), HasSubstr("x is bool[3], expected"));
  EXPECT_THAT(message([&] { exp(cast(x, DType::i32)); }), HasSubstr("x is i32[3], expected"));
  EXPECT_THAT(message([&] { clip(x, 1, 0); }), HasSubstr("low is 1, expected at most high 0"));
  EXPECT_THAT(message([&] { clip(cast(x, DType::i32), 0.5, 1); }), HasSubstr("a whole number"));
  EXPECT_THAT(message([&] { logical_and(x, flags); }), HasSubstr("a is f32[3], expected bool"));
  EXPECT_THAT(message([&] { select(x, x, x); }), HasSubstr("condition is f32[3], expected bool"));
}
TEST(Elementwise, FloatingCallsTakeTheVectorKernelAndIntegersTheLoop) {
  const auto chosen = [](const char* op, DType d, size_t inputs) {
    const Sigs in(inputs, Sig{d, {4}}), out{Sig{d, {4}}};
    const OpDef& def = find_op(op);
    return select_kernel(def, {in, out}, def.defaults).kernel;
  };
  for (const DType d : {DType::f32, DType::f64, DType::bf16, DType::f16}) {
    EXPECT_EQ(chosen("add", d, 2), "vector");
    EXPECT_EQ(chosen("exp", d, 1), "vector");
  }
  EXPECT_EQ(chosen("add", DType::i64, 2), "loop");
}

}  // namespace
}  // namespace evenflow
