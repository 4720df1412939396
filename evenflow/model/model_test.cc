// SPDX-License-Identifier: Apache-2.0
#include "evenflow/model/model.h"

#include <gmock/gmock.h>

#include "evenflow/graph/compile.h"
#include "evenflow/model/batch_normalization.h"
#include "evenflow/model/layers.h"
#include "evenflow/ops/elementwise.h"

namespace evenflow {
namespace {
using testing::ElementsAre;
using testing::HasSubstr;

template <class F>
std::string refusal(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}
std::vector<std::string> names(const Model& m) {
  std::vector<std::string> r;
  for (auto& l : m.impl().layers) r.push_back(l->name);
  return r;
}

TEST(Sequential, IsBuiltByItsFirstInputOrGrowsFromAnInput) {
  Sequential m({Dense({.units = 3}), ReLU()});
  EXPECT_FALSE(m.built());
  m.add(Dense({.units = 2}));
  EXPECT_EQ(m(ones({4, 5})).shape(), (Shape{4, 2}));
  EXPECT_EQ(m.count_params(), 5 * 3 + 3 + 3 * 2 + 2);
  m.add(ReLU());
  EXPECT_EQ(m.layers().size(), 4u);
  EXPECT_THAT(refusal([&] {
                m(ones({4, 6}));
              }),
              HasSubstr("input 0 is f32[4,6], expected (None, 5)"));

  Sequential n({to_layer(Input({5}))});
  n.add(Dense({.units = 3}));
  EXPECT_TRUE(n.built());
  EXPECT_EQ(n.output_dims()[0], (Dims{-1, 3}));
  EXPECT_THAT(refusal([&] { n.add(Conv2D({.filters = 1, .kernel_size = 1})); }),
              HasSubstr("expected (batch, height"));
  EXPECT_EQ(n.layers().size(), 1u);  // a layer that does not fit leaves it as it was
  n.add(Dense({.units = 4}));
  EXPECT_EQ(n(ones({2, 5})).shape(), (Shape{2, 4}));
}

TEST(Sequential, RefusesWhatMakesNoChain) {
  Dense d({.units = 2, .name = "d"});
  EXPECT_THAT(refusal([&] { Sequential({d, d}); }), HasSubstr("two layers have the name \"d\""));
  EXPECT_THAT(refusal([&] {
                Sequential({d, to_layer(Input({2}))});
              }),
              HasSubstr("Input is not the first layer"));
  EXPECT_THAT(refusal([&] { Sequential({Layer()}); }), HasSubstr("the layer is empty"));
  EXPECT_THAT(refusal([&] { Sequential({d}, "a/b"); }), HasSubstr("slash"));
  EXPECT_THAT(refusal([] { Sequential().build({}); }), HasSubstr("the batch extent"));
}

TEST(Model, ConnectsSymbolicTensors) {
  auto a = Input({3}, "a"), b = Input({3}, "b");
  Dense shared({.units = 3, .name = "shared"});
  const Model m({a, b}, {Add({.name = "sum"})({shared(a), shared(b)}), shared(shared(a))}, "m");
  EXPECT_EQ(m.weights().size(), 2u);
  const Tensors y = m.call({ones({2, 3}), zeros({2, 3})});
  const Tensor one = shared(ones({2, 3})), none = shared(zeros({2, 3}));
  EXPECT_EQ(y[0].to_vector(), (one + none).to_vector());
  EXPECT_EQ(y[1].to_vector(), shared(one).to_vector());
  EXPECT_EQ(m.get_layer("sum").name(), "sum");
  EXPECT_THAT(refusal([&] { m.get_layer("x"); }), HasSubstr("no layer has the name \"x\""));
  EXPECT_THAT(refusal([&] {
                m.call({ones({2, 3})});
              }),
              HasSubstr("1 inputs were given, expected 2"));
  EXPECT_THAT(refusal([&] { m(ones({2, 3})); }), HasSubstr("1 inputs were given, expected 2"));
  EXPECT_THAT(refusal([&] { m.build({-1, 3}); }), HasSubstr("built already"));
}

TEST(Model, RefusesGraphsThatAreNone) {
  auto a = Input({3}, "a"), b = Input({3}, "b");
  auto y = Dense({.units = 2})(a);
  EXPECT_THAT(refusal([&] { Model({b}, {y}); }),
              HasSubstr("output depends on input \"a\", which is not among the inputs"));
  EXPECT_THAT(refusal([&] { Model({y}, {y}); }), HasSubstr("not the result of Input()"));
  EXPECT_THAT(refusal([&] { Model(std::vector<SymbolicTensor>{}, {y}); }),
              HasSubstr("at least one input"));
  EXPECT_THAT(refusal([&] { Model({a}, {SymbolicTensor()}); }), HasSubstr("an output is empty"));
  auto c = Input({3}, "a");
  EXPECT_THAT(refusal([&] {
                Model({a, c}, {Add()({Dense({.units = 1})(a), Dense({.units = 1})(c)})});
              }),
              HasSubstr("two layers have the name \"a\""));
  EXPECT_THAT(refusal([] { Model().name(); }), HasSubstr("it is empty"));
}

// Keras's map_graph, traced by hand: depth from the outputs, then the order in which a walk from
// the outputs meets layers.
TEST(Model, LayersAreInKerassOrder) {
  auto x = Input({4}, "x"), unused = Input({4}, "unused");
  auto a = Dense({.units = 4, .name = "a"})(x);
  auto b = Dense({.units = 4, .name = "b"})(Dense({.units = 4, .name = "b0"})(x));
  const Model m({unused, x},
                {Add({.name = "sum"})({b, a}), Dense({.units = 1, .name = "late"})(a)});
  // Depths: sum and late 0; b and a 1; b0 2; x 3; and an input that leads nowhere is at 0, before
  // the others.
  EXPECT_THAT(names(m), ElementsAre("x", "b0", "b", "a", "unused", "sum", "late"));
}

TEST(Model, ADeepChainNeedsNoStack) {
  auto x = Input({1});
  auto y = x;
  for (int i = 0; i < 5000; ++i) y = ReLU()(y);
  const Model m(x, y);
  EXPECT_EQ(m(full({1, 1}, 3)).item(), 3);
}

TEST(Model, ModelsAreLayers) {
  const Sequential inner({Dense({.units = 3, .name = "dense"}), BatchNormalization({.name = "bn"})},
                         "inner");
  auto x = Input({3});
  const Model m(x, Dense({.units = 1, .name = "dense"})(to_layer(inner)(x)));
  EXPECT_TRUE(inner.built());
  EXPECT_EQ(m.count_params(), 9 + 3 + 12 + 4);
  EXPECT_EQ(m.trainable_weights().size(), 6u);
  inner.set_trainable(false);
  EXPECT_EQ(m.trainable_weights().size(), 2u);
  EXPECT_EQ(m.non_trainable_weights().size(), 6u);
  m.set_trainable(true);
  EXPECT_EQ(m.trainable_weights().size(), 6u);
  inner.layers()[1].impl()->trainable.set(0);  // one within
  EXPECT_EQ(m.trainable_weights().size(), 4u);
  // Training goes through, and the statistics are those of the model within.
  Step s;
  m(ones({2, 3}), {.training = true});
  s.commit();
  inner.layers()[1].impl()->trainable.set(1);
  Step t;
  m(ones({2, 3}), {.training = true});
  t.commit();
  EXPECT_EQ(
      static_cast<BatchNormalizationImpl&>(*inner.layers()[1].impl()).update_count.read().item(),
      1);
  auto u = Input({3});
  EXPECT_THAT(refusal([&] {
                to_layer(Model({u}, {Dense({.units = 1})(u), Dense({.units = 1})(u)}));
              }),
              HasSubstr("2 outputs, expected one"));
  EXPECT_THAT(refusal([&] { to_layer(inner)(Input({4})); }), HasSubstr("inner"));
}

TEST(Model, InputsAreCastToTheirType) {
  const Sequential m({to_layer(Input({2})), Dense({.units = 1})});
  EXPECT_EQ(m(cast(ones({1, 2}), DType::u8)).to_vector(), m(ones({1, 2})).to_vector());
  EXPECT_EQ(m(cast(ones({1, 2}), DType::f64)).dtype(), DType::f32);
}

TEST(Model, IsAFunctionThatCompiles) {
  const Sequential m({to_layer(Input({2})), Dense({.units = 3, .activation = "tanh"})});
  auto f = compile([m](const Tensor& x) { return m(x); });
  const Tensor x = full({4, 2}, .5);
  EXPECT_EQ(f(x).to_vector(), m(x).to_vector());
  f(full({9, 2}, .5));
  EXPECT_EQ(f.function().traces(), 1);
}

TEST(Model, SameSeedSameWeights) {
  auto made = [] {
    set_random_seed(4);
    const Sequential m({to_layer(Input({2})), Dense({.units = 3}), Dense({.units = 3})});
    return std::vector{m.weights()[0].variable.read().to_vector(),
                       m.weights()[2].variable.read().to_vector()};
  };
  EXPECT_EQ(made(), made());
}

}  // namespace
}  // namespace evenflow
