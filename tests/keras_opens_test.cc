// SPDX-License-Identifier: Apache-2.0
// Models that Evenflow saves are opened by Keras itself, predict the same there, and come back.
// Needs a Python with Keras: EVENFLOW_REFERENCE_PYTHON, or the environment that
// tests/reference/README.md makes.
#include <gmock/gmock.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "evenflow/doctor/fold.h"
#include "evenflow/format/npy.h"
#include "evenflow/model/batch_normalization.h"
#include "evenflow/model/layers.h"
#include "evenflow/model/normalization.h"
#include "evenflow/model/normalization_layers.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/shape.h"
#include "evenflow/train/train.h"

namespace evenflow {
namespace {

// Numbers about 0, never twice the same.
Tensor numbers(const Shape& shape) {
  static uint64_t s = 1;
  std::vector<float> v(static_cast<size_t>(shape.count()));
  for (float& x : v)
    s = s * 6364136223846793005u + 1442695040888963407u, x = float(s >> 40) / float(1 << 22) - 2;
  return tensor(v, shape);
}
// Weights that are not where initializers leave them.
void stir(const Model& m) {
  for (auto& w : m.weights()) {
    if (w.name == "count" || !is_floating(w.variable.sig().dtype)) continue;
    const Tensor old = w.variable.read(), noise = cast(numbers(old.shape()), old.dtype()) * .1;
    w.variable.assign(w.name.find("variance") == std::string::npos ? old + noise
                                                                   : old + square(noise));
  }
}

class KerasOpens : public testing::Test {
 protected:
  void SetUp() override {
    std::string f = testing::TempDir() + "evenflow_for_keras_XXXXXX";
    folder_ = mkdtemp(f.data());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  // `said` is what Keras should predict, where it is not what the model does.
  void add(const std::string& name, const Model& m, const Tensors& x, double tolerance = 2e-5,
           const Tensors& said = {}) {
    const std::string path = folder_ + "/" + name;
    const Tensors y = said.empty() ? m.call(x) : said;
    m.save(path + ".keras");
    auto write = [&](const char* kind, const Tensors& ts) {
      for (size_t i = 0; i < ts.size(); ++i) {
        const Tensor t = is_floating(ts[i].dtype()) ? cast(ts[i], DType::f32) : ts[i];
        format::write_npy(concat({path, ".", kind, i, ".npy"}), {t.sig(), t.buffer()});
      }
    };
    write("x", x), write("y", y);
    std::ofstream(path + ".json") << nlohmann::json{{"tolerance", tolerance},
                                                    {"weights", m.weights().size()},
                                                    {"trainable", m.trainable_weights().size()}};
    kept_.push_back({name, x, y, tolerance});
  }
  void add(const std::string& name, const std::vector<Layer>& layers, const Shape& x,
           double tolerance = 2e-5) {
    const Sequential m(layers);
    const Tensor in = numbers(x);
    m(in);
    stir(m);
    add(name, m, {in}, tolerance);
  }
  // Runs the script; false where there is no Keras.
  bool opened() {
    const char* given = std::getenv("EVENFLOW_REFERENCE_PYTHON");
    const std::string python = given ? given : EVENFLOW_SOURCE_DIR "/build/reference/bin/python";
    if (!given && !std::filesystem::exists(python)) return false;
    std::FILE* p =
        popen(concat({"'", python, "' '" EVENFLOW_SOURCE_DIR "/tests/reference/check_saved.py' '",
                      folder_, "' 2>&1"})
                  .c_str(),
              "r");
    std::string said;
    for (std::array<char, 4096> b; std::fgets(b.data(), int(b.size()), p);) said += b.data();
    const int status = pclose(p);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) return false;
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << said;
    EXPECT_THAT(said, testing::HasSubstr(concat({kept_.size(), " models, 0 differ"})));
    return true;
  }
  // What Keras saved again predicts the same here.
  void read_again() {
    for (auto& k : kept_) {
      SCOPED_TRACE(k.name);
      const Model m = load_model(folder_ + "/" + k.name + ".again.keras");
      const Tensors y = m.call(k.x);
      ASSERT_EQ(y.size(), k.y.size());
      for (size_t i = 0; i < y.size(); ++i) {
        const auto a = y[i].to_vector<double>(), b = k.y[i].to_vector<double>();
        EXPECT_THAT(a, testing::Pointwise(testing::DoubleNear(k.tolerance), b));
      }
      for (auto& l : m.impl().leaves())
        if (!l.layer->summary_note().empty()) {
          EXPECT_EQ(l.layer->summary_note(), "train/plain");
        }
    }
  }

 private:
  struct Kept {
    std::string name;
    Tensors x, y;
    double tolerance;
  };
  std::string folder_;
  std::vector<Kept> kept_;
};

TEST_F(KerasOpens, WhatWeSave) {
  const std::string no_keras =
      "Keras is not installed: EVENFLOW_REFERENCE_PYTHON names no Python that has it, and there is "
      "no build/reference (tests/reference/README.md)";
  set_random_seed(3);
  const Shape images{3, 8, 7, 4};
  add("dense",
      {Dense({.units = 5,
              .activation = "tanh",
              .kernel_initializer = "he_uniform",
              .kernel_regularizer = {.l1 = .01, .l2 = .02},
              .bias_regularizer = {.l2 = .1}}),
       Dense({.units = 3, .use_bias = false, .kernel_regularizer = {.l1 = .5}})},
      {3, 4});
  add("dense_rank_3", {Dense({.units = 5}), BatchNormalization({.axis = 1})}, {3, 6, 4});
  for (const char* a :
       {"celu",         "elu",         "exponential", "gelu",        "hard_shrink",
        "hard_sigmoid", "hard_silu",   "hard_swish",  "hard_tanh",   "leaky_relu",
        "linear",       "log_sigmoid", "log_softmax", "mish",        "relu",
        "relu6",        "selu",        "sigmoid",     "silu",        "soft_shrink",
        "softmax",      "softplus",    "softsign",    "sparse_plus", "sparse_sigmoid",
        "sparsemax",    "squareplus",  "swish",       "tanh",        "tanh_shrink",
        "glu"})
    add(std::string("activation_") + a, {Activation(a)}, {4, 6},
        std::string(a) == "exponential" ? 1e-4 : 2e-5);
  for (const char* f : {"channels_last", "channels_first"}) {
    const std::string format = f;
    // (Keras 3.15 adds a channels-first bias along the width where that has as many elements as
    // there are channels.)
    const Shape x = format == "channels_last" ? images : Shape{3, 4, 8, 7};
    add("conv_" + format,
        {Conv2D({.filters = 8,
                 .kernel_size = {3, 2},
                 .strides = {2, 1},
                 .data_format = format,
                 .groups = 2,
                 .activation = "relu"})},
        x);
    add("conv_same_" + format,
        {Conv2D({.filters = 5,
                 .kernel_size = 3,
                 .padding = "same",
                 .data_format = format,
                 .dilation_rate = {2, 1},
                 .use_bias = false})},
        x);
    add("transposed_" + format,
        {Conv2DTranspose({.filters = 5,
                          .kernel_size = {3, 4},
                          .strides = {2, 3},
                          .padding = "same",
                          .output_padding = Size2(0, 2),
                          .data_format = format,
                          .kernel_regularizer = {.l2 = .1}}),
         Conv2DTranspose({.filters = 3,
                          .kernel_size = 2,
                          .data_format = format,
                          .activation = "tanh",
                          .use_bias = false})},
        x);
    add("depthwise_" + format,
        {DepthwiseConv2D({.kernel_size = 3,
                          .strides = 2,
                          .padding = "same",
                          .depth_multiplier = 2,
                          .data_format = format})},
        x);
    add("separable_" + format,
        {SeparableConv2D(
            {.filters = 3, .kernel_size = {2, 3}, .data_format = format, .depth_multiplier = 2})},
        x);
    add("pools_" + format,
        {MaxPooling2D(
             {.pool_size = {3, 2}, .strides = 1, .padding = "same", .data_format = format}),
         AveragePooling2D(
             {.pool_size = 3, .strides = 2, .padding = "same", .data_format = format})},
        x);
    add("padding_" + format,
        {ZeroPadding2D({.padding = Padding2(1, 0, 2, 3), .data_format = format}),
         BatchNormalization({.axis = format == "channels_last" ? -1 : 1})},
        x);
    add("global_max_" + format, {GlobalMaxPooling2D({.data_format = format, .keepdims = true})}, x);
    add("global_average_" + format,
        {GlobalAveragePooling2D({.data_format = format}), Dense({.units = 2})}, x);
    add("flatten_" + format, {Flatten({.data_format = format})}, x);
  }
  add("sequences",
      {Conv1D({.filters = 6, .kernel_size = 3, .padding = "causal", .dilation_rate = 2}),
       DepthwiseConv1D({.kernel_size = 2, .depth_multiplier = 2}), MaxPooling1D(),
       ELU({.alpha = .5}), SeparableConv1D({.filters = 5, .kernel_size = 3, .padding = "same"}),
       Conv1DTranspose({.filters = 4, .kernel_size = 3, .strides = 2, .output_padding = 1}),
       AveragePooling1D({.strides = 1}), ZeroPadding1D({.padding = {1, 0}}),
       PReLU({.shared_axes = {1}}), UpSampling1D(), Cropping1D({.cropping = {0, 1}}),
       Permute({.dims = {2, 1}}), GlobalMaxPooling1D(), RepeatVector({.n = 3}),
       GlobalAveragePooling1D({.data_format = "channels_first"})},
      {3, 14, 4});
  add("noises",
      {GaussianNoise({.stddev = .5, .seed = 3}), GaussianDropout({.rate = .2}),
       AlphaDropout({.rate = .1}), SpatialDropout1D({.rate = .3}), Identity()},
      {3, 5, 4});
  add("images",
      {UpSampling2D({.size = {1, 2}, .interpolation = "bilinear"}), SpatialDropout2D(),
       UpSampling2D(), Cropping2D({.cropping = Padding2(1, 0, 2, 1)})},
      images);
  add("batch_norms",
      {BatchNormalization({.axis = 1, .momentum = .7, .epsilon = 1e-5}),
       BatchNormalization({.center = false}),
       BatchNormalization({.scale = false, .synchronized = true}),
       BatchNormalization({.center = false, .scale = false})},
      images);
  for (BatchNormAverages a : {BatchNormAverages::exponential, BatchNormAverages::cumulative,
                              BatchNormAverages::window, BatchNormAverages::precise})
    for (bool renorm : {false, true}) {  // whatever the averages are, Keras predicts by them
      BatchNormalizationConfig c{.renorm = renorm, .averages = a, .virtual_batch_size = 2};
      if (renorm) c.renorm_clipping = {.rmax = 2, .dmax = 1}, c.statistics_dtype = "float64";
      c.gamma_constraint = max_norm(), c.beta_constraint = min_max_norm(.1, 1, .5, {-1});
      const Sequential m(
          {to_layer(Input({4})),
           Dense({.units = 3, .kernel_constraint = "UnitNorm", .bias_constraint = "NonNeg"}),
           BatchNormalization(c)});
      m.compile({.optimizer = Adam({.learning_rate = .01}), .loss = "mse"});
      m.fit(numbers({40, 4}) * 2 + 3, numbers({40, 3}), {.batch_size = 8, .verbose = 0});
      add(concat({"averages_", name_of(a), renorm ? "_renorm" : ""}), m, {numbers({5, 4})});
    }
  for (BatchNormMode mode :
       {BatchNormMode::eval, BatchNormMode::frozen_statistics, BatchNormMode::frozen})
    add(concat({"mode_", name_of(mode)}), {BatchNormalization({.mode = mode})}, {3, 4});
  add("layer_norms",
      {LayerNormalization({.axis = {1, 2, 3}, .epsilon = 1e-5}), LayerNormalization({.axis = {-1}}),
       LayerNormalization({.axis = {1, 3}, .center = false}),
       LayerNormalization({.center = false, .scale = false}),
       LayerNormalization({.gamma_regularizer = {.l2 = .1}, .rms_scaling = true})},
      images);
  add("group_norms",
      {GroupNormalization({.groups = 2}), GroupNormalization({.groups = -1, .epsilon = 1e-2}),
       GroupNormalization({.groups = 4, .axis = 1, .scale = false})},
      images);
  add("rms_and_unit_norms",
      {RMSNormalization(), RMSNormalization({.axis = {-2, -1}, .epsilon = 1e-4}),
       UnitNormalization({.axis = {1, 2}}), UnitNormalization()},
      images);
  add("spectral_norms",
      {SpectralNormalization(Conv2D({.filters = 3, .kernel_size = 2}), {.power_iterations = 2}),
       Flatten(), SpectralNormalization(Dense({.units = 2, .activation = "tanh"}))},
      images);
  add("relus",
      {ReLU({.max_value = 1.5, .negative_slope = .1, .threshold = .2}),
       LeakyReLU({.negative_slope = .2}), Softmax({.axis = 1}), ReLU()},
      images);
  add("shapes",
      {Reshape({.target_shape = {7, -1}}), Dropout({.rate = .3, .seed = 4}), Flatten(),
       Rescaling({.scale = .5, .offset = -1})},
      images);
  add("normalization_given",
      {Normalization({.mean = {{1., 2., 3., 4.}}, .variance = {{1., 4., 9., .25}}})}, {3, 4});
  add("normalization_one",
      {Normalization({.axis = {}, .mean = {{1.5}}, .variance = {{2.}}, .invert = true})}, {3, 4});
  {
    Normalization n({.axis = {1, -1}});
    n.adapt(numbers({50, 3, 4}) * 3 + 1);
    add("normalization_adapted", Sequential({to_layer(Input({3, 4})), n}), {numbers({2, 3, 4})});
  }
  for (const char* i :
       {"zeros", "ones", "constant", "random_normal", "random_uniform", "truncated_normal",
        "variance_scaling", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform",
        "lecun_normal", "lecun_uniform", "orthogonal", "identity"})
    add(std::string("initializer_") + i, {Dense({.units = 4, .kernel_initializer = i})}, {2, 3});
  add("float64",
      {Dense({.units = 4, .dtype = "float64"}), BatchNormalization({.dtype = "float64"})}, {3, 5});
  for (const char* policy : {"mixed_bfloat16", "mixed_float16"})
    add(policy,
        {Conv2D({.filters = 3, .kernel_size = 3, .dtype = policy}),
         BatchNormalization({.dtype = policy}), ReLU({.dtype = policy}), Flatten({.dtype = policy}),
         Dense({.units = 3, .activation = "softmax"})},
        images, .02);
  add("bytes",
      Sequential({to_layer(Input({2, 2, 1}, "bytes", DType::u8)), Rescaling({.scale = 1 / 255.}),
                  Flatten(), Dense({.units = 2})}),
      {cast(numbers({3, 2, 2, 1}) * 20 + 100, DType::u8)});
  {  // Trained with debiased averages: what is written to moving_* is what Keras predicts with.
    const Sequential m({to_layer(Input({4})), Dense({.units = 6, .use_bias = false}),
                        BatchNormalization(), ReLU(),
                        Dense({.units = 2, .activation = "softmax"})});
    m.compile(
        {.optimizer = Adam({.learning_rate = .01}), .loss = "sparse_categorical_crossentropy"});
    m.fit(numbers({40, 4}) * 2 + 3,
          cast(arange(40), DType::f32) - floor(cast(arange(40), DType::f32) / 2) * 2,
          {.batch_size = 16, .epochs = 3, .verbose = 0});
    EXPECT_EQ(
        static_cast<BatchNormalizationImpl&>(*m.layers()[1].impl()).update_count.read().item(), 9);
    add("trained", m, {numbers({5, 4})});
  }
  {  // Equal shapes everywhere: weights that changed places would show.
    auto x = Input({4}, "left"), y = Input({4}, "right hand ©");
    Dense shared({.units = 4, .activation = "tanh", .name = "shared.1-a"});
    auto second = shared(Dense({.units = 4, .name = "früh"})(y)), first = shared(x);
    auto u = Input({4}, "u"), v = Input({4}, "v");
    const Layer block = to_layer(Model(
        {u, v},
        {Add()({BatchNormalization({.name = "bn"})(Dense({.units = 4, .name = "dense"})(u)), v})},
        "block"));
    auto a = block({first, second}), b = block({second, a});
    const Layer tail =
        to_layer(Sequential({Dense({.units = 4, .name = "dense"}), Dense({.units = 4})}, "tail"));
    auto t = tail(b);
    const Model m({y, x},
                  {Dense({.units = 4})(t), Concatenate()({a, Dense({.units = 4})(first), t}),
                   Add()({a, b, t})},
                  "graph");
    stir(m);
    m.get_layer("tail").set_trainable(false);
    add("graph", m, {numbers({3, 4}), numbers({3, 4})});
  }
  {  // A functional model that is itself an output, used twice.
    auto x = Input({4}), u = Input({4});
    const Layer block = to_layer(Model(u, Dense({.units = 4, .activation = "tanh"})(u), "block"));
    auto once = block(x);
    const Model m({x}, {block(once), once});
    stir(m);
    add("ends", m, {numbers({3, 4})});
  }
  {  // Branches whose depth differs, so that Keras's order is not the order of building.
    auto x = Input({4});
    auto shallow = Dense({.units = 4})(x);
    auto deep = x;
    for (int i = 0; i < 4; ++i) deep = Dense({.units = 4, .activation = "relu"})(deep);
    auto middle = Dense({.units = 4})(Dense({.units = 4})(x));
    const Model m(
        {x}, {Dense({.units = 4})(Add()({shallow, middle, deep})), Dense({.units = 4})(shallow)});
    stir(m);
    add("depths", m, {numbers({3, 4})});
  }
  if (!opened()) GTEST_SKIP() << no_keras;
  read_again();
}

TEST_F(KerasOpens, WhatIsFoldedAndPredictsWhatWasNotFolded) {
  set_random_seed(4);
  auto fold = [this](const std::string& name, const Model& m, const Tensors& x, size_t many) {
    stir(m);
    const doctor::Folded f = doctor::fold(m, {.x = x});
    EXPECT_EQ(f.folds.size(), many) << doctor::certificate_text(f);
    add(name, f.model, x, 1e-5, m.call(x));
  };
  const Tensor images = numbers({3, 8, 8, 4});
  fold("convolutions",
       Sequential({to_layer(Input({8, 8, 4})),
                   Conv2D({.filters = 8, .kernel_size = 3, .groups = 2, .use_bias = false}),
                   BatchNormalization(), ReLU(), DepthwiseConv2D({.kernel_size = 2}),
                   BatchNormalization(), ReLU(),
                   SeparableConv2D({.filters = 4, .kernel_size = 2, .use_bias = false}),
                   BatchNormalization(), Flatten(), Dense({.units = 3}), BatchNormalization()}),
       {images}, 4);
  fold("transposed",
       Sequential(
           {to_layer(Input({8, 8, 4})),
            Conv2DTranspose({.filters = 5, .kernel_size = 3, .strides = 2}), BatchNormalization(),
            ReLU(),
            Conv2DTranspose({.filters = 3, .kernel_size = 4, .padding = "same", .use_bias = false}),
            BatchNormalization()}),
       {images}, 2);
  fold("behind",
       Sequential({to_layer(Input({8, 8, 4})), BatchNormalization(),
                   SeparableConv2D({.filters = 4, .kernel_size = 2, .activation = "relu"}),
                   BatchNormalization(), Flatten(), Dense({.units = 3})}),
       {images}, 2);
  {
    const SymbolicTensor x = Input({8, 8, 4});
    const SymbolicTensor a = ReLU()(BatchNormalization()(
        Conv2D({.filters = 4, .kernel_size = 3, .padding = "same", .use_bias = false})(x)));
    const Layer inner =
        to_layer(Sequential({to_layer(Input({8, 8, 4})), Conv2D({.filters = 4, .kernel_size = 1}),
                             BatchNormalization()},
                            "inner"));
    fold("residual", Model(x, Add()(std::vector{a, inner(a)})), {images}, 2);
  }
  if (!opened()) GTEST_SKIP() << "Keras is not installed";
}

}  // namespace
}  // namespace evenflow
