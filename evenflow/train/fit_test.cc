// SPDX-License-Identifier: Apache-2.0
// compile, fit, evaluate, predict: the nets of tests/reference/nets are trained to Keras's weights,
// and the edges.
#include <gmock/gmock.h>

#include <array>
#include <cmath>
#include <span>
#include <thread>

#include "evenflow/model/batch_normalization.h"
#include "evenflow/model/layers.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/shape.h"
#include "evenflow/train/train.h"
#include "tests/keras_nets.h"
#include "tests/optimizer_from_json.h"

namespace evenflow {
namespace {
using nlohmann::json;
using testing::HasSubstr;

Tensor floats(const std::vector<float>& v, const Shape& s) { return tensor(v, s); }
Tensor labels(const std::vector<int64_t>& v) { return tensor(v, {int64_t(v.size())}); }
template <class F>
std::string refusal(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}
FitOptions quiet(int64_t epochs = 1, int64_t batch = 32) {
  return {.batch_size = batch, .epochs = epochs, .verbose = 0, .shuffle = false};
}

// By every pass: batch norm folded, Winograd's convolutions, regions along the batch.
TEST(Predict, NetsOfKerasPredictAsInKeras) {
  int n = 0, folded = 0;
  for (const json& net : reference::nets()) {
    if (net["expect"] != "predict" || !net["x"].is_string() || !net["prediction"].is_string())
      continue;
    SCOPED_TRACE(net["name"].get<std::string>());
    const Model model = load_model(reference::net_file(net["model"]));
    const Tensor x = reference::net_array(net["x"]), want = reference::net_array(net["prediction"]);
    const Passes before = default_passes();
    set_default_passes(Passes::all);
    const Tensor y = model.predict(x);
    set_default_passes(Passes::exact);
    folded += y.to_vector() != model.predict(x).to_vector();
    set_default_passes(before);
    EXPECT_EQ(
        reference::difference(cast(y, DType::f32), want, {net.value("tolerance", 2e-5), 2e-5}), "");
    ++n;
  }
  EXPECT_GE(n, 45);
  EXPECT_GE(folded, 10);
}

TEST(Fit, NetsTrainToKerassWeights) {
  int n = 0;
  for (const json& net : reference::nets()) {
    if (!net.contains("train")) continue;
    SCOPED_TRACE(net["name"].get<std::string>());
    const json& t = net["train"];
    const Model model = load_model(reference::net_file(net["model"])),
                trained = load_model(reference::net_file(t["trained"]));
    model.compile(
        {.optimizer = tests::optimizer_from_json(t["optimizer"]["name"], t["optimizer"]["config"]),
         .loss = t["loss"].get<std::string>()});
    const History h = model.fit(reference::net_array(t["x"]), reference::net_array(t["y"]),
                                quiet(t["epochs"], t["batch_size"]));
    for (size_t e = 0; e < t["losses"].size(); ++e)
      EXPECT_NEAR(h.at("loss")[e], t["losses"][e].get<double>(), 1e-5);
    const auto got = model.weights(), want = trained.weights();
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i)
      EXPECT_EQ(
          reference::difference(got[i].variable.read(), want[i].variable.read(), {2e-5, 2e-5}), "")
          << got[i].variable.name();
    ++n;
  }
  EXPECT_EQ(n, 30);
}

// Rows of `features` numbers, and what a fixed rule makes of them: 0 or 1.
struct Data {
  Tensor x, y;
};
Data data(int64_t n, int64_t features = 3) {
  std::vector<float> x(static_cast<size_t>(n * features));
  std::vector<int64_t> y(static_cast<size_t>(n));
  uint64_t s = 9;
  for (float& v : x)
    s = s * 6364136223846793005u + 1442695040888963407u, v = float(s >> 40) / float(1 << 24) - .5f;
  for (int64_t i = 0; i < n; ++i)
    y[size_t(i)] = x[size_t(i * features)] + x[size_t(i * features + 1)] > 0;
  return {tensor(x, {n, features}), tensor(y, {n})};
}
Sequential classifier(bool norm = true) {
  set_random_seed(5);
  std::vector<Layer> l{to_layer(Input({3})), Dense({.units = 4})};
  if (norm) l.push_back(BatchNormalization());
  l.push_back(ReLU()), l.push_back(Dense({.units = 2, .activation = "softmax"}));
  return Sequential(l);
}
void compiled(const Model& m, Optimizer o = SGD({.learning_rate = .1, .momentum = .9})) {
  m.compile({.optimizer = o, .loss = "sparse_categorical_crossentropy", .metrics = {"accuracy"}});
}
std::vector<std::vector<float>> values(const Model& m) {
  std::vector<std::vector<float>> r;
  for (auto& w : m.weights()) r.push_back(w.variable.read().to_vector());
  return r;
}

TEST(Fit, NeedsCompileAlsoAfterPredict) {
  const Sequential m = classifier();
  const auto [x, y] = data(4);
  m.predict(x);
  EXPECT_THAT(refusal([&] { m.fit(x, y, quiet()); }),
              HasSubstr("fit: model \"" + m.name() + "\" is not compiled"));
  EXPECT_THAT(refusal([&] { m.evaluate(x, y, {}); }), HasSubstr("is not compiled"));
  EXPECT_THAT(refusal([&] { m.compile({}); }), HasSubstr("loss is missing"));
  EXPECT_THAT(refusal([&] {
                m.compile({.loss = "mse", .metrics = {"mae", "mae"}});
              }),
              HasSubstr("two metrics have the name"));
}

TEST(Fit, RefusesDataThatDoNotFit) {
  const Sequential m = classifier();
  compiled(m);
  const auto [x, y] = data(8);
  EXPECT_THAT(refusal([&] { m.fit(Tensor(), y, quiet()); }), HasSubstr("empty tensor"));
  EXPECT_THAT(refusal([&] {
                m.fit(x, labels({1, 2}), quiet());
              }),
              HasSubstr("column 1 is i64[2], expected the leading extent 8"));
  EXPECT_THAT(refusal([&] {
                m.fit(zeros({0, 3}), labels({}), quiet());
              }),
              HasSubstr("the dataset is empty"));
  EXPECT_THAT(refusal([&] {
                m.evaluate(zeros({0, 3}), labels({}), {});
              }),
              HasSubstr("the dataset is empty"));
  EXPECT_THAT(refusal([&] {
                m.fit(zeros({8, 4}), y, quiet());
              }),
              HasSubstr("input 0 is f32[8,4], expected (None, 3)"));
  EXPECT_THAT(refusal([&] { m.fit(Dataset(Tensors{x}), quiet()); }),
              HasSubstr("1 column, expected x and y"));
  for (double split : {-.1, 1., 1.5, double(NAN)}) {
    FitOptions o = quiet();
    o.validation_split = split;
    EXPECT_THAT(refusal([&] { m.fit(x, y, o); }), HasSubstr("validation_split is")) << split;
  }
  FitOptions o = quiet();
  o.validation_split = .99;
  EXPECT_THAT(refusal([&] { m.fit(x, y, o); }), HasSubstr("leaves one part empty"));
  o = quiet(1, 0);
  EXPECT_THAT(refusal([&] { m.fit(x, y, o); }), HasSubstr("batch_size is 0"));
  EXPECT_THAT(refusal([&] { m.predict(x, {.batch_size = 0}); }), HasSubstr("batch_size is 0"));
  o = quiet();
  o.sample_weight = ones({3});
  EXPECT_THAT(refusal([&] { m.fit(x, y, o); }), HasSubstr("column 2"));
}

TEST(Fit, ALabelOutOfRangeIsAnErrorAndChangesNothing) {
  const Sequential m = classifier();
  compiled(m);
  const auto [x, y] = data(4);
  m.fit(x, y, quiet());
  const auto before = values(m);
  for (int64_t bad : {2, -1})
    EXPECT_THAT(refusal([&] {
                  m.fit(x, labels({0, bad, 1, 0}), quiet());
                }),
                HasSubstr("expected 0..1"))
        << bad;
  EXPECT_THAT(refusal([&] {
                m.fit(x, floats({0, NAN, 1, 0}, {4}), quiet());
              }),
              HasSubstr("expected 0..1"));
  EXPECT_EQ(values(m), before);
}

// The scaler skips the weights, and the running mean is NaN for ever: seen in validation only.
TEST(Fit, Thread5PyTorch88474AnOverflowInFitLeavesStatisticsAndIsCounted) {
  const BatchNormalization bn;
  const Sequential m({to_layer(Input({3})), bn, Dense({.units = 1})});
  m.compile({.optimizer = Adam(), .loss = "mse"});
  const auto [x, y] = data(12);
  std::vector<float> v = x.to_vector();
  v[3 * 5] = INFINITY;  // in the second batch of three
  const History h = m.fit(floats(v, {12, 3}), cast(y, DType::f32), quiet(2, 4));
  EXPECT_EQ(h.skipped_steps, (std::vector<int64_t>{1, 1}));
  EXPECT_EQ(bn.impl().rejected_count.read().item(), 2);
  EXPECT_EQ(bn.impl().update_count.read().item(), 4);
  for (auto& w : values(m))
    for (float f : w) EXPECT_TRUE(std::isfinite(f));
  // The averages are those of the good batches: the same as without the bad one.
  const BatchNormalization other;
  for (int epoch = 0; epoch < 2; ++epoch)
    for (size_t at : {size_t(0), size_t(8)}) {
      Step s;
      other(floats({v.begin() + long(3 * at), v.begin() + long(3 * at + 12)}, {4, 3}),
            {.training = true});
      s.commit();
    }
  EXPECT_EQ(bn.impl().moving_mean.read().to_vector(), other.impl().moving_mean.read().to_vector());
  EXPECT_EQ(bn.impl().moving_variance.read().to_vector(),
            other.impl().moving_variance.read().to_vector());
}

TEST(Fit, AStepWithNaNIsSkippedAndSaid) {
  const Sequential m({to_layer(Input({3})), BatchNormalization(), Dense({.units = 1})});
  m.compile({.optimizer = Adam(), .loss = "mse"});
  const auto [x, y] = data(12);
  std::vector<float> t = cast(y, DType::f32).to_vector();
  t[5] = NAN;  // in the second batch of three
  const History h = m.fit(x, floats(t, {12}), quiet(2, 4));
  EXPECT_EQ(h.skipped_steps, (std::vector<int64_t>{1, 1}));
  for (double loss : h.at("loss")) EXPECT_TRUE(std::isfinite(loss));
  for (auto& w : values(m))
    for (float v : w) EXPECT_TRUE(std::isfinite(v));
  auto& bn = static_cast<BatchNormalizationImpl&>(*m.layers()[0].impl());
  EXPECT_EQ(bn.update_count.read().item(), 4);  // two steps an epoch
  const auto before = values(m);
  const Logs logs = m.train_on_batch(x, floats(std::vector<float>(12, NAN), {12}));
  EXPECT_EQ(logs.at("skipped_steps"), 1);
  EXPECT_TRUE(std::isnan(logs.at("loss")));
  EXPECT_EQ(values(m), before);
  // An epoch of nothing else has no loss, and twenty in a row are an error.
  const History none = m.fit(x, floats(std::vector<float>(12, NAN), {12}), quiet(1, 4));
  EXPECT_TRUE(std::isnan(none.at("loss")[0]));
  EXPECT_THAT(refusal([&] { m.fit(x, floats(std::vector<float>(12, NAN), {12}), quiet(20, 4)); }),
              HasSubstr("20"));
  EXPECT_EQ(values(m), before);
}

TEST(Fit, OneSampleThroughBatchNorm) {
  const Sequential m = classifier();
  compiled(m);
  const auto [x, y] = data(3);
  const History h = m.fit(x, y, quiet(2, 1));
  EXPECT_TRUE(std::isfinite(h.at("loss")[1]));
  for (auto& w : values(m))
    for (float v : w) EXPECT_TRUE(std::isfinite(v));
}

TEST(Fit, TheLastPartialBatchCountsByItsSize) {
  const Sequential m = classifier();
  compiled(m);
  const auto [x, y] = data(11);
  const Logs parts = m.evaluate(x, y, {.batch_size = 4}),
             whole = m.evaluate(x, y, {.batch_size = 11});
  EXPECT_NEAR(parts.at("loss"), whole.at("loss"), 1e-6);
  EXPECT_NEAR(parts.at("accuracy"), whole.at("accuracy"), 1e-6);
  const auto a = m.predict(x, {.batch_size = 4}).to_vector(),
             b = m.predict(x, {.batch_size = 100}).to_vector();
  ASSERT_EQ(a.size(), 22u);
  EXPECT_THAT(a, testing::Pointwise(testing::FloatNear(1e-6f), b));
  EXPECT_EQ(m.predict(zeros({0, 3})).shape(), (Shape{0, 2}));
}

TEST(Fit, TwiceIsAsOnceForTwiceAsLong) {
  const auto [x, y] = data(20);
  for (const char* name : {"adam", "rmsprop"}) {
    const Sequential a = classifier(), b = classifier();
    compiled(a, Optimizer(name)), compiled(b, Optimizer(name));
    ASSERT_EQ(values(a), values(b));
    a.fit(x, y, quiet(4, 8));
    b.fit(x, y, quiet(2, 8)), b.fit(x, y, quiet(2, 8));
    EXPECT_EQ(values(a), values(b)) << name;
  }
  // initial_epoch: the epochs before are taken as run.
  const Sequential m = classifier();
  compiled(m);
  FitOptions o = quiet(5, 8);
  o.initial_epoch = 3;
  EXPECT_EQ(m.fit(x, y, o).epoch, (std::vector<int64_t>{3, 4}));
  o.initial_epoch = 5;
  EXPECT_TRUE(m.fit(x, y, o).epoch.empty());
}

TEST(Fit, ShuffleIsAFunctionOfItsSeed) {
  const auto [x, y] = data(20);
  auto trained = [&](uint64_t seed) {
    const Sequential m = classifier();
    compiled(m);
    FitOptions o = quiet(2, 8);
    o.shuffle = true, o.seed = seed;
    m.fit(x, y, o);
    return values(m);
  };
  EXPECT_EQ(trained(1), trained(1));
  EXPECT_NE(trained(1), trained(2));
}

TEST(Fit, ValidationIsWhatEvaluateSays) {
  const Sequential m = classifier();
  compiled(m);
  const auto [x, y] = data(20);
  FitOptions o = quiet(3, 8);
  o.validation_split = .25, o.validation_freq = 2;
  const History h = m.fit(x, y, o);
  EXPECT_EQ(h.at("val_loss").size(), 1u);  // after the second epoch
  o.validation_freq = 1;
  const History k = m.fit(x, y, o);
  const Logs logs = m.evaluate(Dataset(x, y).skip(15), {.batch_size = 8});
  EXPECT_DOUBLE_EQ(k.at("val_loss").back(), logs.at("loss"));
  EXPECT_DOUBLE_EQ(k.at("val_accuracy").back(), logs.at("accuracy"));
}

TEST(Fit, SampleWeightsWeighTheLoss) {
  const auto [x, y] = data(6);
  const Sequential m({to_layer(Input({3})), Dense({.units = 1})});
  m.compile({.optimizer = SGD(), .loss = "mse", .metrics = {"mse"}});
  const std::vector<float> w{1, 0, 2, 0, .5f, 3}, p = m.predict(x).to_vector();
  const std::vector<float> t = cast(y, DType::f32).to_vector();
  double loss = 0, plain = 0;
  for (size_t i = 0; i < 6; ++i)
    loss += double(w[i]) * (p[i] - t[i]) * (p[i] - t[i]) / 6,
        plain += double(p[i] - t[i]) * (p[i] - t[i]) / 6;
  FitOptions o = quiet();
  o.sample_weight = floats(w, {6});
  const History h = m.fit(x, floats(t, {6}), o);
  EXPECT_NEAR(h.at("loss")[0], loss, 1e-6);
  EXPECT_NEAR(h.at("mse")[0], plain, 1e-6);
}

TEST(Fit, RegularizersAreInTheLossOfWhatIsTrained) {
  Dense d({.units = 1,
           .use_bias = false,
           .kernel_initializer = {"constant", 2},
           .kernel_regularizer = {.l1 = .1, .l2 = .5}});
  const Sequential m({to_layer(Input({1})), d});
  m.compile({.optimizer = SGD({.learning_rate = .1}), .loss = "mse"});
  const Tensor x = floats({1}, {1, 1}), t = floats({1}, {1, 1});
  // (2 - 1)^2 + .1 * 2 + .5 * 4; the gradient is 2 + .1 + 2
  EXPECT_FLOAT_EQ(float(m.evaluate(x, t, {}).at("loss")), 3.2f);
  EXPECT_FLOAT_EQ(float(m.train_on_batch(x, t).at("loss")), 3.2f);
  EXPECT_FLOAT_EQ(d.weights()[0].variable.read().item(), 2 - .41);
  d.set_trainable(false);
  EXPECT_NEAR(m.evaluate(x, t, {}).at("loss"), .59 * .59, 1e-6);
}

TEST(Fit, FreezingAfterCompileHoldsFromTheNextStepOn) {
  const Sequential m = classifier();
  compiled(m);
  const auto [x, y] = data(16);
  m.fit(x, y, quiet());
  const Layer first = m.layers()[0], norm = m.layers()[1];
  first.impl()->set_trainable(false), norm.impl()->set_trainable(false);
  const auto before = values(m);
  m.fit(x, y, quiet());
  const auto after = values(m);
  for (size_t i = 0; i < 6; ++i)
    EXPECT_EQ(after[i], before[i]) << i;  // moving averages too: it is inference
  for (size_t i = 6; i < 8; ++i) EXPECT_NE(after[i], before[i]) << i;
  first.impl()->set_trainable(true);
  m.fit(x, y, quiet());
  EXPECT_NE(values(m)[0], before[0]);
}

TEST(Fit, NothingTrainableStillMeasures) {
  const Sequential m = classifier();
  compiled(m);
  m.set_trainable(false);
  const auto [x, y] = data(8);
  const auto before = values(m);
  EXPECT_TRUE(std::isfinite(m.fit(x, y, quiet()).at("loss")[0]));
  EXPECT_EQ(values(m), before);
}

TEST(Fit, OneOptimizerForTwoModelsMixesNothingUp) {
  const Optimizer adam = Adam();
  const Sequential a = classifier(), b = classifier(false), alone = classifier();
  compiled(a, adam), compiled(b, adam), compiled(alone, Adam());
  const auto [x, y] = data(16);
  a.fit(x, y, quiet());
  alone.fit(x, y, quiet());
  const auto was = values(a);
  EXPECT_EQ(was, values(alone));
  b.fit(x, y, quiet());
  EXPECT_EQ(values(a), was);
  a.fit(x, y, quiet());  // starts its slots anew
  EXPECT_NE(values(a), was);
}

TEST(Fit, ImagesOfBytesAndOneHotTargets) {
  const Sequential m({to_layer(Input({2, 2, 1})), Rescaling({.scale = 1 / 255.}), Flatten(),
                      Dense({.units = 2, .activation = "softmax"})});
  m.compile({.optimizer = SGD(), .loss = "categorical_crossentropy", .metrics = {"accuracy"}});
  std::vector<float> pixels{0, 255, 3, 4, 5, 6, 7, 8};
  const Tensor f = floats(pixels, {2, 2, 2, 1}), u = cast(f, DType::u8),
               y = floats({1, 0, 0, 1}, {2, 2});
  EXPECT_EQ(m.predict(u).to_vector(), m.predict(f).to_vector());
  EXPECT_DOUBLE_EQ(m.evaluate(u, y, {}).at("loss"), m.evaluate(f, y, {}).at("loss"));
  EXPECT_TRUE(std::isfinite(m.fit(u, y, quiet()).at("loss")[0]));
}

TEST(Fit, ASequentialIsBuiltByTheFirstData) {
  const Sequential m(
      {Dense({.units = 3}), BatchNormalization(), Dense({.units = 2, .activation = "softmax"})});
  compiled(m);
  const auto [x, y] = data(8);
  EXPECT_FALSE(m.built());
  m.fit(x, y, quiet());
  EXPECT_EQ(m.count_params(), 3 * 3 + 3 + 12 + 3 * 2 + 2);
  // and one that grows predicts as it is then
  const Sequential grown({to_layer(Input({3})), Dense({.units = 4})});
  EXPECT_EQ(grown.predict(x).shape(), (Shape{8, 4}));
  Sequential(grown).add(Dense({.units = 5}));
  EXPECT_EQ(grown.predict(x).shape(), (Shape{8, 5}));
}

TEST(Fit, CallbacksAreCalledInOrder) {
  struct Recorder : Callback {
    std::string name;
    std::vector<std::string>* to;
    Recorder(std::string n, std::vector<std::string>* t) : name(std::move(n)), to(t) {}
    void say(const std::string& what) { to->push_back(name + what); }
    void on_train_begin(TrainingState& s) override { say(" begin of " + std::to_string(s.epochs)); }
    void on_epoch_begin(TrainingState&, int64_t e) override { say(" epoch " + std::to_string(e)); }
    void on_train_batch_end(TrainingState& s, int64_t b, const Logs&) override {
      say(" batch " + std::to_string(b) + "/" + std::to_string(s.steps));
    }
    void on_epoch_end(TrainingState& s, int64_t e, const Logs& l) override {
      say(" end of " + std::to_string(e) + (l.find("val_loss") ? " with val_loss" : ""));
      if (e == 1) s.stop_training = true;
    }
    void on_train_end(TrainingState&) override { say(" end"); }
  };
  std::vector<std::string> said;
  const Sequential m = classifier();
  compiled(m);
  const auto [x, y] = data(8);
  FitOptions o = quiet(9, 4);
  o.callbacks = {std::make_shared<Recorder>("a", &said), std::make_shared<Recorder>("b", &said)};
  o.validation_data = Dataset(x, y);
  m.fit(x, y, o);
  std::vector<std::string> want;
  auto both = [&](const std::string& what) {
    want.push_back("a" + what), want.push_back("b" + what);
  };
  both(" begin of 9");
  for (const char* e : {"0", "1"}) {
    both(" epoch " + std::string(e));
    both(" batch 0/2"), both(" batch 1/2");
    both(" end of " + std::string(e) + " with val_loss");
  }
  both(" end");
  EXPECT_EQ(said, want);
}

TEST(Fit, PredictInSeveralThreads) {
  const Sequential m = classifier();
  const auto [x, y] = data(40);
  const auto want = m.predict(x, {.batch_size = 7}).to_vector();
  std::vector<std::thread> threads;
  std::vector<std::vector<float>> got(4);
  for (auto& g : got)
    threads.emplace_back([&] { g = m.predict(x, {.batch_size = 7}).to_vector(); });
  for (auto& t : threads) t.join();
  for (auto& g : got) EXPECT_EQ(g, want);
}

// y = 2 x, element by element, of a length that only a pass can tell.
Dataset doubles(int64_t n) {
  std::vector<float> x(static_cast<size_t>(n));
  for (size_t i = 0; i < x.size(); ++i) x[i] = float(i % 7);
  return Dataset(Tensors{floats(x, {n, 1})})
      .map([](std::span<const float> v) {
        return std::pair(std::array{v[0]}, std::array{2 * v[0]});
      })
      .filter([](std::span<const float> v, std::span<const float>) { return v[0] != 3; });
}
Model one_weight() {
  Model m = Sequential({Dense({.units = 1, .use_bias = false, .kernel_initializer = "ones"})});
  m.compile({.optimizer = SGD({.learning_rate = .01}), .loss = "mse"});
  return m;
}
TEST(Datasets, OfAnyLengthTrainAsTensorsDo) {
  const Dataset d = doubles(70);
  const Tensors whole = d.all();
  const Model a = one_weight(), b = one_weight();
  const History of_tensors = a.fit(whole[0], whole[1], quiet(3, 8));
  int64_t steps_at_begin = 0, steps_at_end = 0;
  struct Look : Callback {
    int64_t *begin, *end;
    void on_train_begin(TrainingState& s) override { *begin = s.steps; }
    void on_epoch_end(TrainingState& s, int64_t, const Logs&) override { *end = s.steps; }
  };
  auto look = std::make_shared<Look>();
  look->begin = &steps_at_begin, look->end = &steps_at_end;
  FitOptions o = quiet(3, 8);
  o.callbacks = {look};
  o.validation_data = doubles(21);
  const History of_pass = b.fit(d, o);
  EXPECT_EQ(of_pass.at("loss"), of_tensors.at("loss"));
  EXPECT_EQ(of_pass.at("val_loss").size(), 3u);
  EXPECT_EQ(steps_at_begin, -1);
  EXPECT_EQ(steps_at_end, 8);  // 60 of 70 stay
  EXPECT_FLOAT_EQ(float(b.evaluate(d, {.batch_size = 8}).at("loss")),
                  float(a.evaluate(whole[0], whole[1], {.batch_size = 8}).at("loss")));
  EXPECT_EQ(b.predict(d, {.batch_size = 7}).to_vector(), a.predict(whole[0], {}).to_vector());
}
TEST(Datasets, StepsGoOnThroughOnePass) {
  // Losses tell the batches: a weight that is not trained sees x = 0, 1, 2, ... in batches of two.
  std::vector<float> x(12);
  for (size_t i = 0; i < x.size(); ++i) x[i] = float(i);
  const Model m = one_weight();
  m.compile({.optimizer = SGD({.learning_rate = 0}), .loss = "mae"});
  const Dataset d = Dataset(floats(x, {12, 1}), zeros({12, 1})).batch(2);
  FitOptions o = quiet(2);
  o.steps_per_epoch = 2;
  EXPECT_EQ(m.fit(d, o).at("loss"), (std::vector<double>{1.5, 5.5}));
  o.epochs = 4;  // the data ends in the last
  EXPECT_EQ(m.fit(d, o).at("loss"), (std::vector<double>{1.5, 5.5, 9.5}));
  o.epochs = 5;
  EXPECT_EQ(m.fit(d.repeat(), o).at("loss"), (std::vector<double>{1.5, 5.5, 9.5, 1.5, 5.5}));
  EXPECT_EQ(m.evaluate(d, {.steps = 1}).at("loss"), .5);
  EXPECT_EQ(m.predict(d, {.steps = 2}).size(), 4);
}
TEST(Datasets, SaysWhatItCannotTrainOn) {
  const Model m = one_weight();
  const Dataset d = Dataset(ones({4, 1}), ones({4, 1}));
  EXPECT_EQ(refusal([&] { m.fit(d.repeat(), quiet()); }),
            "fit: the dataset has no end, expected steps_per_epoch");
  EXPECT_EQ(refusal([&] { m.evaluate(d.repeat(), {}); }),
            "evaluate: the dataset has no end, expected steps");
  EXPECT_THAT(refusal([&] {
                m.fit(
                    d.filter([](std::span<const float>, std::span<const float>) { return false; }),
                    quiet());
              }),
              HasSubstr("the dataset is empty"));
  FitOptions o = quiet();
  o.steps_per_epoch = -1;
  EXPECT_THAT(refusal([&] { m.fit(d, o); }), HasSubstr("steps_per_epoch is -1"));
  EXPECT_THAT(refusal([&] {
                m.fit(Dataset(Tensors{ones({4, 1})}), quiet());
              }),
              HasSubstr("has 1 column, expected x and y"));
}

}  // namespace
}  // namespace evenflow
