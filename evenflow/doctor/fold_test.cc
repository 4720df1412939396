// SPDX-License-Identifier: Apache-2.0
// A folded model predicts what the model predicted, with fewer layers; what cannot be folded stays,
// with the reason.
#include "evenflow/doctor/fold.h"

#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "evenflow/doctor/net.h"
#include "evenflow/model/layers.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/train/train.h"

namespace evenflow::doctor {
namespace {
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

// Numbers about 0, never twice the same.
Tensor numbers(const Shape& shape, uint64_t seed = 1) {
  return tensor(Initializer("RandomNormal", 0, 1)(shape, seed), shape);
}
// Statistics and parameters that are not where initialisers leave them; some gammas are negative.
void stir(const Model& m) {
  uint64_t seed = 7;
  for (auto& w : m.weights()) {
    if (!is_floating(w.variable.sig().dtype)) continue;
    const Tensor old = w.variable.read(),
                 noise = cast(numbers(old.shape(), seed++), old.dtype()) * .5;
    w.variable.assign(w.name.find("variance") == std::string::npos ? old + noise
                                                                   : square(noise) + .1);
  }
}
Model model(const std::vector<Layer>& layers) {
  set_random_seed(1);
  const Sequential m(layers);
  stir(m);
  return m;
}
// The largest difference of the predictions, of the largest prediction.
double difference(const Model& a, const Model& b, const Tensors& x) {
  double worst = 0, largest = 0;
  const Tensors p = a.call(x), q = b.call(x);
  for (size_t k = 0; k < p.size(); ++k) {
    const auto v = p[k].to_vector<double>(), w = q[k].to_vector<double>();
    EXPECT_EQ(v.size(), w.size());
    for (size_t i = 0; i < v.size(); ++i)
      worst = std::max(worst, std::abs(v[i] - w[i])), largest = std::max(largest, std::abs(v[i]));
  }
  EXPECT_GT(largest, 0);
  return worst / largest;
}
std::vector<std::string> classes(const Model& m) {
  std::vector<std::string> r;
  for (auto& l : m.layers()) r.emplace_back(l.impl()->class_name());
  return r;
}
std::string kept(const Folded& f) {
  std::string s;
  for (auto& k : f.kept) s += (s.empty() ? "" : "; ") + k.norm + ": " + k.reason;
  return s;
}
// Folds all, and nothing else changes.
Folded folds(const Model& m, const Shape& x, size_t many) {
  const Tensor data = numbers(x, 99);
  const Folded f = fold(m, {.x = {data}});
  EXPECT_THAT(f.folds, SizeIs(many));
  EXPECT_EQ(kept(f), "");
  EXPECT_LE(difference(m, f.model, {data}), 1e-5);
  EXPECT_LE(f.relative, 1e-5);
  for (auto& k : f.folds) EXPECT_LE(k.relative, 1e-5) << k.norm;
  EXPECT_TRUE(Net(f.model).norms.empty());
  return f;
}
Folded stays(const Model& m, const std::string& why) {
  const Folded f = fold(m);
  EXPECT_THAT(kept(f), HasSubstr(why));
  EXPECT_LE(f.relative, 1e-5);
  return f;
}

// y = 2 (x - 1) / 2 + 3 = x + 2 for variance + epsilon = 4; then 5 y + 7 = 5 x + 17.
TEST(Fold, numbers_that_one_can_follow) {
  set_random_seed(1);
  const Sequential m({to_layer(Input({1})), BatchNormalization({.epsilon = 1, .name = "norm"}),
                      Dense({.units = 1, .name = "dense"})});
  auto& bn = static_cast<BatchNormalizationImpl&>(*m.get_layer("norm").impl());
  bn.gamma.assign(full({1}, 2)), bn.beta.assign(full({1}, 3));
  bn.moving_mean.assign(full({1}, 1)), bn.moving_variance.assign(full({1}, 3));
  auto& d = static_cast<DenseImpl&>(*m.get_layer("dense").impl());
  d.kernel.assign(full({1, 1}, 5)), d.bias.assign(full({1}, 7));
  const Folded f = fold(m);
  auto& to = static_cast<DenseImpl&>(*f.model.get_layer("dense").impl());
  EXPECT_EQ(to.kernel.read().item(), 5);
  EXPECT_EQ(to.bias.read().item(), 17);
  ASSERT_THAT(f.folds, SizeIs(1));
  EXPECT_EQ(f.folds[0].norm, "norm");
  EXPECT_EQ(f.folds[0].into, "dense");
  EXPECT_EQ(f.folds[0].side, "behind");
  EXPECT_EQ(f.folds[0].int8_risk, 1);
  EXPECT_TRUE(f.random_probe);
}
TEST(Fold, the_layer_before) {
  const Layer input = to_layer(Input({9, 9, 4}));
  const Shape x{5, 9, 9, 4};
  folds(model({input, Conv2D({.filters = 6, .kernel_size = 3, .padding = "same"}),
               BatchNormalization(), ReLU()}),
        x, 1);
  folds(
      model(
          {input,
           Conv2D(
               {.filters = 6, .kernel_size = {3, 2}, .strides = 2, .groups = 2, .use_bias = false}),
           BatchNormalization({.center = false}), ReLU()}),
      x, 1);
  folds(model({input, DepthwiseConv2D({.kernel_size = 3, .depth_multiplier = 2}),
               BatchNormalization({.scale = false}), ReLU()}),
        x, 1);
  folds(model({input,
               SeparableConv2D(
                   {.filters = 5, .kernel_size = 3, .depth_multiplier = 2, .use_bias = false}),
               BatchNormalization(), ReLU()}),
        x, 1);
  folds(model({input, Conv2DTranspose({.filters = 6, .kernel_size = {3, 4}, .strides = 2}),
               BatchNormalization(), ReLU(),
               Conv2DTranspose({.filters = 3,
                                .kernel_size = 4,
                                .strides = {1, 2},
                                .padding = "same",
                                .use_bias = false}),
               BatchNormalization({.activation = "relu"})}),
        x, 2);
  folds(model({input, Dense({.units = 3}), BatchNormalization(), Activation("tanh")}), x, 1);
  folds(model({to_layer(Input({4, 9, 9})),
               Conv2D({.filters = 6, .kernel_size = 3, .data_format = "channels_first"}),
               BatchNormalization({.axis = 1})}),
        {5, 4, 9, 9}, 1);
}
TEST(Fold, past_dropout_linear_activations_and_average_pooling) {
  const Folded f =
      folds(model({to_layer(Input({9, 9, 4})), Conv2D({.filters = 6, .kernel_size = 3}),
                   AveragePooling2D({.pool_size = 2, .padding = "same"}), Dropout({.rate = 0.5}),
                   Activation("linear"), BatchNormalization(), ReLU()}),
            {5, 9, 9, 4}, 1);
  EXPECT_THAT(classes(f.model),
              ElementsAre("Conv2D", "AveragePooling2D", "Dropout", "Activation", "ReLU"));
  folds(model({to_layer(Input({9, 9, 4})), Conv2D({.filters = 6, .kernel_size = 3}),
               GlobalAveragePooling2D(), BatchNormalization(), ReLU()}),
        {5, 9, 9, 4}, 1);
}
TEST(Fold, the_layer_behind) {
  const Layer input = to_layer(Input({9, 9, 4}));
  const Shape x{5, 9, 9, 4};
  folds(model({input, BatchNormalization(),
               Conv2D({.filters = 6, .kernel_size = 3, .groups = 2, .activation = "relu"})}),
        x, 1);
  folds(model({input, BatchNormalization(),
               Conv2D({.filters = 6, .kernel_size = 3, .strides = 2, .use_bias = false})}),
        x, 1);
  folds(model({input, BatchNormalization(),
               DepthwiseConv2D({.kernel_size = 3, .depth_multiplier = 3})}),
        x, 1);
  folds(model({input, BatchNormalization(),
               SeparableConv2D({.filters = 5, .kernel_size = 3, .depth_multiplier = 2})}),
        x, 1);
  folds(model({input, BatchNormalization(), Dense({.units = 7, .activation = "relu"})}), x, 1);
  folds(model({input, BatchNormalization(), Flatten(), Dropout({.rate = .2}), Dense({.units = 7})}),
        x, 1);
  folds(model({input, BatchNormalization(), GlobalAveragePooling2D(), Dense({.units = 7})}), x, 1);
  folds(model({to_layer(Input({4, 5, 3})), BatchNormalization({.axis = 1}),
               Flatten({.data_format = "channels_first"}), Dense({.units = 7})}),
        {5, 4, 5, 3}, 1);
  folds(model({to_layer(Input({4, 5, 3})), BatchNormalization({.axis = 1}), Flatten(),
               Dense({.units = 7})}),
        {5, 4, 5, 3}, 1);
}
// The noise that it is tried on is rows of the table.
TEST(Fold, behind_an_embedding) {
  const SymbolicTensor ids = Input({6}, {}, DType::i32);
  const SymbolicTensor x = Embedding({.input_dim = 3, .output_dim = 4})(ids);
  const Model m(ids, ReLU()(BatchNormalization()(Conv1D({.filters = 5, .kernel_size = 2})(x))));
  stir(m);
  const Folded f = fold(m);
  EXPECT_THAT(f.folds, SizeIs(1));
  EXPECT_LE(f.relative, 1e-5);
}
TEST(Fold, padding_meets_a_shift) {
  const Layer input = to_layer(Input({9, 9, 4}));
  const Conv2D same({.filters = 6, .kernel_size = 3, .padding = "same"});
  stays(model({input, BatchNormalization(), same}), "pads with zeros");
  set_random_seed(1);
  const Sequential unshifted({to_layer(Input({9, 9, 4})), BatchNormalization({.center = false}),
                              Conv2D({.filters = 6, .kernel_size = 3, .padding = "same"})});
  folds(unshifted, {5, 9, 9, 4}, 1);  // mean and beta are 0: s alone passes the padding
}
// Where windows overlap, a shift would count twice; at the edge, less.
TEST(Fold, a_transposed_layer_behind_takes_no_shift) {
  const Layer input = to_layer(Input({5, 5, 4}));
  const Layer spreads = Conv2DTranspose({.filters = 6, .kernel_size = 3, .strides = 2});
  stays(model({input, BatchNormalization(), spreads}), "spreads a shift unevenly");
  set_random_seed(1);
  const Sequential unshifted(
      {to_layer(Input({5, 5, 4})), BatchNormalization({.center = false}),
       Conv2DTranspose({.filters = 6, .kernel_size = 3, .strides = 2, .padding = "same"})});
  for (auto& w : unshifted.weights())
    if (w.name.find("gamma") != w.name.npos || w.name.find("variance") != w.name.npos)
      w.variable.assign(square(numbers(w.variable.sig().shape)) + .1);
  folds(unshifted, {5, 5, 5, 4}, 1);
}
TEST(Fold, one_norm_into_the_next) {
  const Model m =
      model({to_layer(Input({6})), BatchNormalization({.name = "a"}),
             BatchNormalization({.center = false, .scale = false, .name = "b"}), ReLU()});
  const Tensor x = numbers({8, 6});
  const Folded f = fold(m, {.x = {x}});
  ASSERT_THAT(f.folds, SizeIs(1));
  EXPECT_EQ(f.folds[0].into, "b");
  EXPECT_LE(difference(m, f.model, {x}), 1e-5);
  EXPECT_THAT(classes(f.model), ElementsAre("BatchNormalization", "ReLU"));
  // And on into what lies behind them; or both into what lies before.
  folds(model({to_layer(Input({6})), BatchNormalization(), BatchNormalization(),
               Dense({.units = 4})}),
        {8, 6}, 2);
  folds(model({to_layer(Input({6})), Dense({.units = 4}), BatchNormalization(),
               BatchNormalization(), ReLU()}),
        {8, 6}, 2);
}
TEST(Fold, before_and_behind_of_one_layer) {
  folds(model({to_layer(Input({6})), BatchNormalization(), Dense({.units = 4}),
               BatchNormalization(), ReLU(), Dense({.units = 3}), BatchNormalization()}),
        {8, 6}, 3);
}
TEST(Fold, a_residual_net_as_Keras_users_build_it) {
  set_random_seed(3);
  auto conv = [](int64_t filters) {
    return Conv2D({.filters = filters, .kernel_size = 3, .padding = "same", .use_bias = false});
  };
  const SymbolicTensor x = Input({8, 8, 3});
  SymbolicTensor a = ReLU()(BatchNormalization()(conv(8)(x)));
  const SymbolicTensor b = BatchNormalization()(conv(8)(ReLU()(BatchNormalization()(conv(8)(a)))));
  a = ReLU()(Add()(std::vector{a, b}));
  const Model m(x, Dense({.units = 4, .activation = "softmax"})(GlobalAveragePooling2D()(a)));
  stir(m);
  folds(m, {6, 8, 8, 3}, 3);
}
TEST(Fold, several_inputs_and_outputs) {
  set_random_seed(3);
  const SymbolicTensor p = Input({5}), q = Input({4});
  const SymbolicTensor u = BatchNormalization()(Dense({.units = 3})(p)),
                       v = BatchNormalization()(Dense({.units = 3})(q));
  const Model m(std::vector{p, q}, std::vector{ReLU()(Add()(std::vector{u, v})), v});
  stir(m);
  const Tensors x{numbers({7, 5}), numbers({7, 4}, 2)};
  const Folded f = fold(m, {.x = x});
  EXPECT_THAT(f.folds, SizeIs(2));
  EXPECT_LE(difference(m, f.model, x), 1e-5);
  EXPECT_THAT(fold(m).folds, SizeIs(2));  // the random probe has a part for each
}
TEST(Fold, models_inside_fold_within_themselves_once_for_all_uses) {
  set_random_seed(3);
  Sequential tower({to_layer(Input({6})), Dense({.units = 5, .name = "wide"}),
                    BatchNormalization({.name = "norm"}), ReLU({.name = "on"})},
                   "tower");
  const Layer t = to_layer(tower);
  const SymbolicTensor x = Input({6});
  const Model m(x, Add()(std::vector{t(x), t(Rescaling({.scale = -1})(x))}));
  stir(m);
  const Folded f = folds(m, {8, 6}, 1);
  EXPECT_EQ(f.folds[0].norm, "tower/norm");
  EXPECT_EQ(f.folds[0].into, "tower/wide");
}
TEST(Fold, what_is_shared_or_read_twice_stays) {
  set_random_seed(3);
  const SymbolicTensor x = Input({6});
  const Layer dense = Dense({.units = 6, .name = "dense"}),
              norm = BatchNormalization({.name = "n"});
  Model m(x, Add()(std::vector{norm(dense(x)), ReLU()(dense(ReLU()(x)))}));
  stir(m);
  stays(m, "\"dense\" before it is used several times");
  const SymbolicTensor d = Dense({.units = 6, .name = "d2"})(x);
  m = Model(x, Add()(std::vector{BatchNormalization()(d), d}));
  stir(m);
  stays(m, "\"d2\" before it has other readers");
  const Layer twice = BatchNormalization({.name = "twice"});
  m = Model(x, Add()(std::vector{twice(x), twice(ReLU()(x))}));
  stir(m);
  stays(m, "twice: it is used 2 times");
  m = Model(x, BatchNormalization({.name = "last"})(ReLU({.name = "on"})(x)));
  stir(m);
  stays(m, "last: \"on\" before it is not linear; what it makes has other readers, or none");
  m = model({to_layer(Input({6})), Dense({.units = 4, .activation = "relu", .name = "d3"}),
             BatchNormalization(), ReLU()});
  stays(m, "\"d3\" before it is not linear");
  m = model({to_layer(Input({8, 8, 3})), Conv2D({.filters = 8, .kernel_size = 1, .name = "c"}),
             BatchNormalization({.axis = 1}), ReLU()});
  stays(m, "\"c\" before it has its channels on another axis");
}
TEST(Fold, a_norm_with_an_activation_gives_it_to_the_layer_before) {
  const BatchNormalizationConfig relu{.activation = "relu"};
  const Folded f = folds(model({to_layer(Input({6})), Dense({.units = 4, .name = "d"}),
                                BatchNormalization(relu), Dense({.units = 2})}),
                         {8, 6}, 1);
  EXPECT_EQ(static_cast<DenseImpl&>(*f.model.get_layer("d").impl()).config.activation, "relu");
  stays(model({to_layer(Input({6})), BatchNormalization(relu), Dense({.units = 4})}),
        "it has an activation");
  stays(model({to_layer(Input({8, 8, 2})), Conv2D({.filters = 4, .kernel_size = 1}),
               AveragePooling2D(), BatchNormalization(relu)}),
        "its activation would come before what lies between");
}
TEST(Fold, modes_and_axes) {
  const Layer frozen = BatchNormalization({.mode = BatchNormMode::frozen});
  folds(model({to_layer(Input({6})), Dense({.units = 4}), frozen, ReLU()}), {8, 6}, 1);
  stays(model({to_layer(Input({6})), Dense({.units = 4}),
               BatchNormalization({.mode = BatchNormMode::batch_only}), ReLU()}),
        "the batch's own statistics");
  stays(model({to_layer(Input({6, 3})), Dense({.units = 4}), BatchNormalization({.axis = {1, 2}}),
               ReLU()}),
        "several axes");
}
TEST(Fold, settings_that_only_Evenflow_knows_are_kept_in_what_stays) {
  const BatchNormalization b({.averages = BatchNormAverages::window, .window = 5, .name = "b"});
  const Sequential m({to_layer(Input({6})), b, ReLU()});
  b.impl().set_mode(BatchNormMode::eval);
  const Folded f = fold(m);
  auto& copy = static_cast<BatchNormalizationImpl&>(*f.model.get_layer("b").impl());
  EXPECT_EQ(copy.mode(), BatchNormMode::eval);
  EXPECT_EQ(copy.averages(), BatchNormAverages::window);
  EXPECT_EQ(copy.config.window, 5);
}
TEST(Fold, degenerate_channels_are_refused_by_name_unless_asked_for) {
  const Model m = model(
      {to_layer(Input({6})), Dense({.units = 4}), BatchNormalization({.name = "norm"}), ReLU()});
  auto& bn = static_cast<BatchNormalizationImpl&>(*m.get_layer("norm").impl());
  auto g = bn.gamma.read().to_vector(), v = bn.moving_variance.read().to_vector();
  g[1] = 0, v[3] = 1e-9f;
  bn.gamma.assign(tensor(g, {4})), bn.moving_variance.assign(tensor(v, {4}));
  const Folded f = fold(m);
  ASSERT_THAT(f.kept, SizeIs(1));
  EXPECT_THAT(f.kept[0].channels, ElementsAre(1, 3));
  EXPECT_THAT(f.folds, IsEmpty());
  const Folded all = fold(m, {.degenerate = true});
  EXPECT_THAT(all.folds, SizeIs(1));
  EXPECT_LE(all.relative, 1e-5);
  EXPECT_GT(all.folds[0].int8_risk, 5);  // 1 / sqrt(1e-3) for channel 3
}
TEST(Fold, the_model_itself_does_not_change_and_the_copy_is_a_copy) {
  const Model m =
      model({to_layer(Input({6})), Dense({.units = 4, .name = "d"}), BatchNormalization(), ReLU()});
  const auto kernel = m.get_layer("d").weights()[0].variable.read().to_vector();
  const Folded f = fold(m);
  EXPECT_EQ(m.get_layer("d").weights()[0].variable.read().to_vector(), kernel);
  EXPECT_NE(f.model.get_layer("d").impl(), m.get_layer("d").impl());
  EXPECT_THAT(classes(m), ElementsAre("Dense", "BatchNormalization", "ReLU"));
  EXPECT_EQ(f.model.name(), m.name());
}
TEST(Fold, refuses_with_the_reason) {
  auto refused = [](auto f) -> std::string {
    try {
      f();
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  const Model m = model({to_layer(Input({6})), Dense({.units = 4}), BatchNormalization()});
  EXPECT_THAT(refused([&] { fold(Sequential({Dense({.units = 1})})); }), HasSubstr("not built"));
  EXPECT_THAT(refused([&] { fold(m, {.x = {zeros({3, 5})}}); }), HasSubstr("[3,5]"));
  EXPECT_THAT(refused([&] {
                fold(m, {.x = {zeros({3, 6}), zeros({3, 6})}});
              }),
              HasSubstr("2 tensors"));
  EXPECT_THAT(refused([&] { fold(m, {.samples = 0}); }), HasSubstr("samples is 0"));
}
TEST(Fold, the_certificate_says_all_of_it) {
  const Model m = model({to_layer(Input({6})), Dense({.units = 4, .name = "d"}),
                         BatchNormalization({.name = "n"}), ReLU({.name = "r"}),
                         BatchNormalization({.name = "k"})});
  const Folded f = fold(m);
  EXPECT_THAT(certificate_text(f),
              AllOf(HasSubstr("folded n into d before it: difference "), HasSubstr("int8 risk "),
                    HasSubstr("kept k: \"r\" before it is not linear"),
                    HasSubstr("64 samples of normal numbers")));
  const auto j = nlohmann::json::parse(certificate_json(f));
  EXPECT_EQ(j["folds"][0]["into"], "d");
  EXPECT_EQ(j["kept"][0]["norm"], "k");
  EXPECT_LE(j["relative"].get<double>(), 1e-5);
}

}  // namespace
}  // namespace evenflow::doctor
