// SPDX-License-Identifier: Apache-2.0
// The normalisations besides batch norm: what the nets of Keras (tests/reference/nets/norms_*) do
// not show.
#include "evenflow/model/normalization_layers.h"

#include <gmock/gmock.h>

#include <cmath>
#include <cstring>

#include "evenflow/data/dataset.h"
#include "evenflow/graph/compile.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/model/layers.h"
#include "evenflow/model/model.h"
#include "evenflow/model/normalization.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"
#include "tests/reference_values.h"

namespace evenflow {
namespace {
using testing::ElementsAre;
using testing::FloatNear;
using testing::HasSubstr;
using testing::Pointwise;

Tensor numbers(const Shape& shape, double mean = 0) {
  std::vector<float> v(static_cast<size_t>(shape.count()));
  uint64_t s = 11;
  for (float& x : v)
    s = s * 6364136223846793005u + 1442695040888963407u,
    x = float(s >> 40) / float(1 << 22) - 2 + float(mean);
  return tensor(v, shape);
}
Tensor floats(const std::vector<float>& v, const Shape& s) { return tensor(v, s); }
template <class F>
std::string refusal(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}
bool same_bits(const Tensor& a, const Tensor& b) {
  return a.sig() == b.sig() && !std::memcmp(a.data(), b.data(), size_t(a.sig().bytes()));
}

TEST(NormalizationLayers, HaveKerassArgumentsAndWeights) {
  LayerNormalization layer;
  layer(numbers({2, 3, 4}));
  ASSERT_EQ(layer.weights().size(), 2u);
  EXPECT_EQ(layer.weights()[0].name, "gamma");
  EXPECT_EQ(layer.weights()[1].name, "beta");
  EXPECT_EQ(layer.weights()[0].variable.sig().shape, Shape({4}));
  LayerNormalization two({.axis = {1, 2}, .center = false});
  two(numbers({2, 3, 4}));
  ASSERT_EQ(two.weights().size(), 1u);
  EXPECT_EQ(two.weights()[0].variable.sig().shape, Shape({3, 4}));
  EXPECT_EQ(GroupNormalizationConfig().groups, 32);
  EXPECT_EQ(RMSNormalizationConfig().epsilon, 1e-6);
  RMSNormalization rms;
  rms(numbers({2, 5}));
  EXPECT_EQ(rms.weights()[0].name, "scale");
  EXPECT_EQ(UnitNormalization().weights().size(), 0u);
}

// Each sample by itself: mean 0 and deviation 1, whatever its neighbours.
TEST(NormalizationLayers, SamplesDoNotSeeEachOther) {
  const Shape shape{6, 4, 3, 8};
  const Tensor x = numbers(shape, 3);
  for (const Layer& l : std::vector<Layer>{
           LayerNormalization({.axis = {1, 2, 3}}), GroupNormalization({.groups = 2}),
           GroupNormalization({.groups = -1, .axis = 1}), RMSNormalization(),
           UnitNormalization({.axis = {1, 2}})}) {
    SCOPED_TRACE(l.name());
    const Tensor all = l(x);
    for (int64_t i : {0, 3, 5}) {
      const Tensor alone = l(slice(x, {i, 0, 0, 0}, {1, -1, -1, -1}));
      EXPECT_EQ(reference::difference(alone, slice(all, {i, 0, 0, 0}, {1, -1, -1, -1}), {1e-6, 0}),
                "");
    }
    EXPECT_EQ(l(zeros({0, 4, 3, 8})).shape(), Shape({0, 4, 3, 8}));
    for (float v : l(full(shape, 7)).to_vector()) ASSERT_TRUE(std::isfinite(v));
  }
}
// Groups of all channels are layer normalisation, of one channel instance normalisation; both by
// the kernel of rows, which is another way.
TEST(NormalizationLayers, GroupsAreRowsOfAnotherShape) {
  const Tensor x = numbers({3, 5, 4, 8}, 2);
  auto rows = [](const Tensor& t) {
    return LayerNormalization({.axis = {-1}, .center = false, .scale = false})(t);
  };
  const Tensor one = GroupNormalization({.groups = 1})(x);
  EXPECT_EQ(reference::difference(reshape(one, {3, 160}), rows(reshape(x, {3, 160})), {2e-6, 0}),
            "");
  const Tensor first = transpose(x, {0, 3, 1, 2});  // channels first: groups are rows
  for (int64_t groups : {1, 2, 4, 8}) {
    const Tensor want = rows(reshape(first, {3 * groups, 160 / groups}));
    const Tensor y = GroupNormalization({.groups = groups, .axis = 1})(first),
                 last = GroupNormalization({.groups = groups})(x);
    EXPECT_EQ(reference::difference(reshape(y, {3 * groups, 160 / groups}), want, {2e-6, 0}), "");
    EXPECT_EQ(reference::difference(transpose(last, {0, 3, 1, 2}), y, {2e-6, 0}), "") << groups;
  }
}
TEST(NormalizationLayers, ManyGroupsAtALargeMean) {
  const Tensor x = numbers({2, 16, 16, 32}, 1e4);
  const Tensor y = GroupNormalization({.groups = 4, .dtype = "float64"})(cast(x, DType::f64)),
               z = GroupNormalization({.groups = 4})(x);
  EXPECT_EQ(reference::difference(z, cast(y, DType::f32), {1e-3, 0}), "");
}
TEST(NormalizationLayers, OneTraceServesImagesOfAllSizes) {
  const GroupNormalization g({.groups = 2});
  const LayerNormalization l;
  g(numbers({1, 2, 2, 4})), l(numbers({1, 2, 2, 4}));
  int traced = 0;
  auto f = compile([&](const Tensor& x) {
    ++traced;
    return l(g(x));
  });
  for (const Shape& s :
       {Shape{2, 3, 3, 4}, Shape{1, 5, 2, 4}, Shape{0, 3, 3, 4}, Shape{7, 1, 1, 4}}) {
    const Tensor x = numbers(s);
    EXPECT_EQ(reference::difference(f(x), l(g(x)), {1e-6, 0}), "") << str(s);
  }
  EXPECT_EQ(traced, 1);
}
TEST(NormalizationLayers, StatisticsAreFloat32In16Bits) {
  const Tensor x = numbers({4, 6, 8}, 50);
  for (const char* policy : {"mixed_bfloat16", "mixed_float16"}) {
    const double ulp = std::string(policy) == "mixed_float16" ? 2e-3 : 2e-2;
    for (auto& [half, wide] : std::vector<std::pair<Layer, Layer>>{
             {LayerNormalization({.dtype = policy}), LayerNormalization()},
             {GroupNormalization({.groups = 2, .dtype = policy}),
              GroupNormalization({.groups = 2})},
             {RMSNormalization({.dtype = policy}), RMSNormalization()},
             {UnitNormalization({.dtype = policy}), UnitNormalization()}}) {
      const Tensor y = half(x);
      EXPECT_EQ(y.dtype(), half.impl()->compute_dtype());
      for (auto& w : half.weights()) EXPECT_EQ(w.variable.sig().dtype, DType::f32);
      // x itself is rounded first
      const Tensor want = wide(cast(cast(x, y.dtype()), DType::f32));
      EXPECT_EQ(reference::difference(cast(y, DType::f32), want, {ulp, ulp}), "") << half.name();
    }
  }
}
// |0| = 0: Keras's gradient there is NaN.
TEST(NormalizationLayers, TheUnitOfNothingIsNothing) {
  const Tensor x = watch(floats({0, 0, 3, 4}, {2, 2}));
  const Tensor y = UnitNormalization()(x);
  EXPECT_THAT(y.to_vector(), Pointwise(FloatNear(1e-6f), std::vector<float>{0, 0, .6f, .8f}));
  for (float g : gradient(y, x).to_vector()) EXPECT_TRUE(std::isfinite(g));
}
TEST(NormalizationLayers, RefuseWhatDoesNotFit) {
  auto why = [](const Layer& l, const Shape& s) { return refusal([&] { l(zeros(s)); }); };
  EXPECT_THAT(why(LayerNormalization({.axis = {3}}), {2, 3}), HasSubstr("axes [3], each once"));
  EXPECT_THAT(why(LayerNormalization({.axis = {1, -1}}), {2, 3}), HasSubstr("each once"));
  EXPECT_THAT(why(LayerNormalization({.axis = {-1, 1}}), {2, 3, 4}), HasSubstr("from the front"));
  EXPECT_THAT(why(LayerNormalization({.axis = {0}}), {2, 3}),
              HasSubstr("a known extent on axis 0"));
  EXPECT_THAT(refusal([] { LayerNormalization({.axis = {}}); }), HasSubstr("axis is empty"));
  EXPECT_THAT(refusal([] { LayerNormalization({.epsilon = -1}); }), HasSubstr("epsilon is -1"));
  EXPECT_THAT(refusal([] { GroupNormalization({.groups = 0}); }), HasSubstr("groups is 0"));
  EXPECT_THAT(why(GroupNormalization({.groups = 3}), {2, 4}), HasSubstr("a multiple of groups, 3"));
  EXPECT_THAT(why(GroupNormalization(), {2, 4}), HasSubstr("a multiple of groups, 32"));
  EXPECT_THAT(why(GroupNormalization({.groups = 2, .axis = 0}), {2, 4}),
              HasSubstr("besides the batch"));
  EXPECT_THAT(why(RMSNormalization({.axis = {1}}), {2, 3, 4}), HasSubstr("to be the last ones"));
  EXPECT_THAT(why(UnitNormalization({.axis = {2}}), {2, 3}), HasSubstr("each once"));
  LayerNormalization built;
  built(zeros({2, 3}));
  EXPECT_THAT(why(built, {2, 4}), HasSubstr("3 on axis 1, for which it was built"));
  GroupNormalization groups({.groups = 2});
  groups(zeros({2, 4}));
  EXPECT_THAT(why(groups, {2, 6}), HasSubstr("4 channels, for which it was built"));
}

// ---- SpectralNormalization
TEST(SpectralNormalization, TheLargestSingularValueBecomesOne) {
  set_random_seed(4);
  const Dense dense({.units = 3, .use_bias = false});
  const SpectralNormalization layer(dense, {.power_iterations = 60});
  layer(zeros({1, 2}));
  // [[3, 0, 0], [0, 4, 0]]: singular values 3 and 4
  dense.weights()[0].variable.assign(floats({3, 0, 0, 0, 4, 0}, {2, 3}));
  const Tensor before = layer(floats({1, 1}, {1, 2}));
  EXPECT_THAT(before.to_vector(), ElementsAre(3, 4, 0));  // inference: as it is
  Step s;
  const Tensor y = layer(floats({1, 1}, {1, 2}), {.training = true});
  EXPECT_THAT(y.to_vector(), Pointwise(FloatNear(1e-5f), std::vector<float>{.75f, 1, 0}));
  s.commit();
  EXPECT_THAT(dense.weights()[0].variable.read().to_vector(),
              Pointwise(FloatNear(1e-5f), std::vector<float>{.75f, 0, 0, 0, 1, 0}));
}
TEST(SpectralNormalization, AZeroKernelStays) {
  const Dense dense({.units = 3, .use_bias = false, .kernel_initializer = "zeros"});
  const SpectralNormalization layer(dense);
  layer(zeros({1, 2}));
  const Tensor u = layer.weights()[0].variable.read();
  Step s;
  EXPECT_THAT(layer(ones({1, 2}), {.training = true}).to_vector(), ElementsAre(0, 0, 0));
  s.commit();
  EXPECT_TRUE(same_bits(layer.weights()[0].variable.read(), u));
}
TEST(SpectralNormalization, ASkippedStepChangesNothing) {
  set_random_seed(5);
  const SpectralNormalization layer(Dense({.units = 3}));
  layer(zeros({1, 2}));
  const Layer dense(layer.impl()->wrapped());
  const Tensor kernel = dense.weights()[0].variable.read(), u = layer.weights()[0].variable.read();
  Step s;
  layer(ones({1, 2}), {.training = true});
  require(zeros({}, DType::boolean));
  EXPECT_FALSE(s.commit());
  EXPECT_TRUE(same_bits(dense.weights()[0].variable.read(), kernel));
  EXPECT_TRUE(same_bits(layer.weights()[0].variable.read(), u));
}
TEST(SpectralNormalization, IsALayerWithALayer) {
  set_random_seed(6);
  Sequential m({to_layer(Input({4})), SpectralNormalization(Dense({.units = 3}), {.name = "sn"}),
                SpectralNormalization(Layer(SpectralNormalization(Dense({.units = 2}))))});
  EXPECT_EQ(m.count_params(), 4 * 3 + 3 + 3 + 3 * 2 + 2 + 2 * 2);
  EXPECT_EQ(m.trainable_weights().size(), 4u);  // kernels and biases
  EXPECT_THAT(m.summary(), HasSubstr("SpectralNormalization"));
  const std::string path = testing::TempDir() + "evenflow_spectral.keras";
  m.save(path);
  const Model again = load_model(path);
  const Tensor x = numbers({5, 4});
  EXPECT_TRUE(same_bits(again(x), m(x)));
  EXPECT_EQ(again.weights().size(), m.weights().size());
  std::remove(path.c_str());
  m.get_layer("sn").set_trainable(false);
  EXPECT_EQ(m.trainable_weights().size(), 2u);
}
TEST(SpectralNormalization, Refuses) {
  EXPECT_THAT(refusal([] { SpectralNormalization(Dense({.units = 2}), {.power_iterations = 0}); }),
              HasSubstr("power_iterations is 0"));
  EXPECT_THAT(refusal([] {
                const SpectralNormalization s{ReLU()};
                s(zeros({1, 2}));
              }),
              HasSubstr("layer is ReLU, expected one with a kernel"));
  EXPECT_THAT(refusal([] { SpectralNormalization{Layer()}; }), HasSubstr("layer is empty"));
}

// ---- Normalization
TEST(Normalization, BatchesOfAnySizeGiveTheStatisticsOfAll) {
  const Tensor x = numbers({1000, 3}, 1e4);
  auto adapted = [](auto&&... data) {
    Normalization n;
    n.adapt(data...);
    return n;
  };
  const Normalization whole = adapted(x);
  Tensors parts;
  for (const auto& [begin, size] :
       std::vector<std::pair<int64_t, int64_t>>{{0, 1}, {1, 0}, {1, 499}, {500, 500}})
    parts.push_back(slice(x, {begin, 0}, {size, -1}));
  std::vector<Normalization> all{adapted(parts), adapted(Dataset(Tensors{x}).batch(7)),
                                 adapted(Dataset(x, zeros({1000})).batch(64)),
                                 adapted(Dataset(Tensors{x}))};
  for (const Normalization& n : all)
    for (size_t i : {0, 1, 2})
      EXPECT_EQ(reference::difference(n.weights()[i].variable.read(),
                                      whole.weights()[i].variable.read(), {0, 1e-7}),
                "")
          << i;
  EXPECT_EQ(whole.weights()[2].variable.read().item(), 1000);
  // In f64, since Keras's own f32 is off at this mean.
  const Moments m = moments(cast(x, DType::f64), {0});
  EXPECT_EQ(reference::difference(whole.weights()[1].variable.read(), cast(m.variance, DType::f32),
                                  {0, 1e-6}),
            "");
}
TEST(Normalization, InvertUndoesIt) {
  const Tensor x = numbers({50, 4}, 7);
  Normalization n, back({.invert = true});
  n.adapt(x), back.adapt(x);
  EXPECT_EQ(reference::difference(back(n(x)), x, {1e-5, 0}), "");
}
// Keras aligns what is given with the last axes.
TEST(Normalization, GivenNumbersAreThoseOfTheLastAxes) {
  const Tensor x = numbers({2, 3, 2});
  const Normalization n({.axis = {1, 2}, .mean = {{1, 2}}, .variance = {{4, 9}}});
  const std::vector<float> in = x.to_vector(), got = n(x).to_vector();
  for (size_t i = 0; i < in.size(); ++i)
    EXPECT_NEAR(got[i], i % 2 ? (in[i] - 2) / 3 : (in[i] - 1) / 2, 1e-6);
  EXPECT_THAT(refusal([&] {
                Normalization({.axis = {1, 2}, .mean = {{1, 2, 3}}, .variance = {{1, 1, 1}}})(x);
              }),
              HasSubstr("mean has 3 numbers, expected 6"));
  EXPECT_THAT(refusal([] {
                Normalization({.axis = {}, .mean = {{1, 2}}, .variance = {{1, 1}}});
              }),
              HasSubstr("mean is 2 numbers, expected one"));
}
TEST(Normalization, RefusesDataThatDoesNotFit) {
  Normalization n;
  n.adapt(numbers({4, 3}));
  EXPECT_THAT(refusal([&] { n.adapt(numbers({4, 2})); }), HasSubstr("for which it was built"));
  EXPECT_THAT(refusal([&] { n.adapt(Tensors{}); }), HasSubstr("there is no batch"));
  EXPECT_THAT(refusal([&] { n.adapt(Tensors{zeros({0, 3}), zeros({0, 3})}); }), HasSubstr("empty"));
  EXPECT_THAT(refusal([&] {
                n.adapt(Tensors{zeros({2, 3}), zeros({2, 4})});
              }),
              HasSubstr("for which it was built"));
  EXPECT_THAT(refusal([&] {
                Normalization({.axis = {2}}).adapt(zeros({2, 3}));
              }),
              HasSubstr("axis 2"));
}

}  // namespace
}  // namespace evenflow
