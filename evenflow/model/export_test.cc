// SPDX-License-Identifier: Apache-2.0
#include "evenflow/model/export.h"

#include <gmock/gmock.h>

#include <cstring>
#include <filesystem>
#include <set>

#include "evenflow/evenflow.h"
#include "evenflow/format/file.h"
#include "evenflow/format/npy.h"

namespace evenflow {
namespace {
using testing::HasSubstr;

SavedGraph exported(const Model& model) {
  return load_graph(saved_graph_bytes({inference_function(model)}));
}
void expect_same_bits(const Tensor& a, const Tensor& b, const std::string& what) {
  ASSERT_EQ(a.sig(), b.sig()) << what;
  EXPECT_EQ(std::memcmp(a.data(), b.data(), size_t(a.sig().bytes())), 0) << what;
}

TEST(Export, every_net_that_keras_saved_predicts_the_same_bits) {
  int nets = 0;
  std::set<std::string> refused;
  for (auto& entry :
       std::filesystem::directory_iterator(EVENFLOW_SOURCE_DIR "/tests/reference/nets")) {
    const std::string path = entry.path().string(), stem = path.substr(0, path.size() - 6);
    if (!path.ends_with(".keras") || !std::filesystem::exists(stem + "_x.npy")) continue;
    Model model;
    try {
      model = load_model(path);
    } catch (const Error&) {  // layers that are not built here
      refused.insert(entry.path().stem().string());
      continue;
    }
    if (!model.built()) continue;
    const Array a = format::read_npy(stem + "_x.npy");
    const SavedGraph graph = exported(model);
    const Tensor x = cast(tensor(a.sig, a.data), graph.signature("predict").inputs[0].sig.dtype);
    expect_same_bits(graph("predict", {x})[0], model(x), path);
    ++nets;
  }
  EXPECT_GE(nets, 20);
  EXPECT_LE(refused.size(), 6u) << testing::PrintToString(refused);
}
TEST(Export, takes_batches_of_any_size) {
  Sequential model({to_layer(Input({6, 6, 2}, "picture")), Conv2D({.filters = 3, .kernel_size = 3}),
                    BatchNormalization(), ReLU(), Flatten(),
                    Dense({.units = 2, .name = "logits"})});
  const SavedGraph graph = exported(model);
  const SavedGraph::Signature s = graph.signature("predict");
  EXPECT_EQ(s.inputs[0].name, "picture");
  EXPECT_EQ(s.outputs[0].name, "logits");
  EXPECT_FALSE(s.fixed_extents);
  for (int64_t n : {0, 1, 2, 7}) {
    const Tensor x = full({n, 6, 6, 2}, 0.25);
    expect_same_bits(graph("predict", {x})[0], model(x), std::to_string(n));
  }
}
TEST(Export, normalises_by_the_averages_and_drops_nothing) {
  set_random_seed(3);
  Sequential model(
      {to_layer(Input({4})), BatchNormalization(), Dropout({.rate = 0.9}), Dense({.units = 1})});
  model.compile({.optimizer = "sgd", .loss = "mse"});
  const Tensor x = tensor(std::vector<float>{1, 2, 3, 4, 5, 6, 7, 9}, {2, 4});
  model.fit(x, zeros({2, 1}), {.epochs = 3, .verbose = 0});
  const SavedFunction f = inference_function(model);
  std::set<std::string> ops;
  for (auto& c : f.graph.calls) ops.insert(c.op->name);
  EXPECT_EQ(ops.count("batch_normalize"), 1u);
  EXPECT_EQ(ops.count("batch_norm") + ops.count("dropout_mask"), 0u);
  const Passes before = default_passes();
  set_default_passes(Passes::exact);  // a saved graph runs as it was traced
  const Tensor want = model.predict(x);
  set_default_passes(before);
  expect_same_bits(exported(model)("predict", {x})[0], want, "");
}
TEST(Export, several_inputs_and_outputs_keep_their_names) {
  auto a = Input({3}, "a"), b = Input({3}, "b");
  auto sum = Add({.name = "sum"})({a, b});
  const Model model({a, b}, {sum, Dense({.units = 2, .name = "d"})(sum), sum});
  const SavedGraph graph = exported(model);
  const SavedGraph::Signature s = graph.signature("predict");
  EXPECT_EQ(s.inputs[1].name, "b");
  EXPECT_EQ(s.outputs[0].name, "sum");
  EXPECT_EQ(s.outputs[1].name, "d");
  EXPECT_EQ(s.outputs[2].name, "sum_1");
  const Tensor x = full({2, 3}, 1.5), y = full({2, 3}, 2);
  EXPECT_EQ(graph("predict", {x, y})[0].to_vector(), std::vector<float>(6, 3.5f));
}
TEST(Export, refuses_what_has_no_weights_yet) {
  Sequential model({Dense({.units = 2})});
  try {
    inference_function(model);
    FAIL() << "expected an Error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::FailedPrecondition);
    EXPECT_THAT(e.what(), HasSubstr("not built"));
  }
}
TEST(Export, the_file_says_where_it_comes_from) {
  const std::string path = testing::TempDir() + "evenflow_export_test.efg";
  export_model(Sequential({to_layer(Input({3})), Dense({.units = 2})}, "small"), path);
  const SavedGraph graph = load_graph(format::read_file(path));
  EXPECT_EQ(graph.metadata().at("model"), "small");
  EXPECT_EQ(graph.metadata().at("producer"), "evenflow " EVENFLOW_VERSION);
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace evenflow
