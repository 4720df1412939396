// SPDX-License-Identifier: Apache-2.0
// .keras files: those of Keras (tests/reference/nets), and there and back again.
#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>

#include "evenflow/core/checksum.h"
#include "evenflow/format/zip.h"
#include "evenflow/model/batch_normalization.h"
#include "evenflow/model/layers.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/shape.h"
#include "tests/keras_nets.h"

namespace evenflow {
namespace {
using nlohmann::json;
using testing::HasSubstr;

std::string temporary(const std::string& name) {
  static const std::string folder = [] {
    std::string f = testing::TempDir() + "evenflow_keras_XXXXXX";
    return std::string(mkdtemp(f.data()));
  }();
  return folder + "/" + name;
}
Tensors run(const Model& m, const Tensors& x) { return m.call(x); }
bool same_bits(const Tensor& a, const Tensor& b) {
  return a.sig() == b.sig() && !std::memcmp(a.data(), b.data(), size_t(a.sig().bytes()));
}
std::string refusal(const std::string& path) {
  try {
    load_model(path);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(KerasFiles, NetsOfKerasPredictAsInKeras) {
  int predicted = 0, refused = 0;
  for (const json& net : reference::nets()) {
    SCOPED_TRACE(net["name"].get<std::string>() + " " + net.value("note", ""));
    const std::string path = reference::net_file(net["model"]), expect = net["expect"];
    if (expect == "refuse") {
      EXPECT_THAT(refusal(path), HasSubstr(net["because"].get<std::string>()));
      ++refused;
      continue;
    }
    if (expect == "predict_or_refuse") {
      const std::string why = refusal(path);
      if (!why.empty()) {
        EXPECT_THAT(why, HasSubstr("\"bfloat16\""));  // all other policies are there
        ++refused;
        continue;
      }
    }
    const Model model = load_model(path);
    const Tensors y = run(model, reference::net_arrays(net["x"])),
                  want = reference::net_arrays(net["prediction"]);
    ASSERT_EQ(y.size(), want.size());
    for (size_t i = 0; i < y.size(); ++i)
      EXPECT_EQ(
          reference::difference(cast(y[i], DType::f32), want[i], {net.value("tolerance", 2e-5), 0}),
          "");
    ++predicted;
  }
  EXPECT_EQ(refused, 4);
  EXPECT_GE(predicted, 45);
}

TEST(KerasFiles, SavedAndLoadedAndSavedAgainIsTheSameFile) {
  for (const json& net : reference::nets()) {
    if (net["expect"] == "refuse" || net["name"] == "edge_bfloat16") continue;
    SCOPED_TRACE(net["name"].get<std::string>());
    const Model first = load_model(reference::net_file(net["model"]));
    first.save(temporary("a.keras"));
    const Model second = load_model(temporary("a.keras"));
    second.save(temporary("b.keras"));
    EXPECT_EQ(format::read_file(temporary("a.keras")), format::read_file(temporary("b.keras")));
    const Tensors x = reference::net_arrays(net["x"]), y = run(first, x), z = run(second, x);
    ASSERT_EQ(y.size(), z.size());
    for (size_t i = 0; i < y.size(); ++i) EXPECT_TRUE(same_bits(y[i], z[i]));
    const auto a = first.weights(), b = second.weights();
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i)
      EXPECT_TRUE(same_bits(a[i].variable.read(), b[i].variable.read()));
  }
}

// A batch norm that has seen two batches, and a dropout that has drawn.
Model trained() {
  Sequential m({to_layer(Input({3})), Dense({.units = 4, .name = "a dense"}),
                BatchNormalization({.momentum = .9, .name = "bn-1.x"}),
                Dropout({.rate = .5, .seed = 7}), Dense({.units = 2})},
               "näme with ünusual ©haracters");
  const Tensor x = cast(arange(15), DType::f32);
  for (int i = 0; i < 2; ++i) {
    Step s;
    m(reshape(x, {5, 3}) * (i + 1.0), {.training = true});
    s.commit();
  }
  return m;
}
BatchNormalizationImpl& bn(const Model& m) {
  return static_cast<BatchNormalizationImpl&>(*m.get_layer("bn-1.x").impl());
}

TEST(KerasFiles, CountsAndModesComeBack) {
  const Model m = trained();
  EXPECT_EQ(bn(m).update_count.read().item(), 2);
  m.save(temporary("m.keras"));
  const Model n = load_model(temporary("m.keras"));
  EXPECT_EQ(n.name(), "näme with ünusual ©haracters");
  EXPECT_EQ(bn(n).update_count.read().item(), 2);
  EXPECT_EQ(bn(n).averages(), BatchNormAverages::exponential);
  auto draw = [](const Model& k) {
    return static_cast<DropoutImpl&>(*k.layers()[2].impl()).draw.read();
  };
  EXPECT_TRUE(same_bits(draw(m), draw(n)));
  // Both go on in the same way.
  const Tensor x = reshape(cast(arange(6), DType::f32), {2, 3});
  for (const Model& k : {m, n}) {
    Step s;
    k(x, {.training = true});
    s.commit();
  }
  EXPECT_TRUE(same_bits(bn(m).moving_mean, bn(n).moving_mean));
  EXPECT_TRUE(same_bits(draw(m), draw(n)));
}

// The members of an archive, some replaced; an empty text removes one.
void rewrite(const std::string& from, const std::string& to,
             const std::map<std::string, std::string>& with) {
  format::ZipReader zip(format::read_file(from));
  format::ZipWriter out;
  for (auto& member : zip.members()) {
    auto it = with.find(member.name);
    if (it == with.end())
      out.add(member.name, zip.read(member.name));
    else if (!it->second.empty())
      out.add(member.name, it->second);
  }
  format::write_file_atomically(to, out.finish());
}
std::string member(const std::string& path, const char* name) {
  return format::ZipReader(format::read_file(path)).read(name);
}

TEST(KerasFiles, WeightsThatSomebodyChangedAreKerass) {
  const Model m = trained();
  m.save(temporary("m.keras"));
  bn(m).moving_mean.assign(zeros({4}));  // the same model with other weights: what Keras would save
  m.save(temporary("other.keras"));
  rewrite(temporary("m.keras"), temporary("changed.keras"),
          {{"model.weights.h5", member(temporary("other.keras"), "model.weights.h5")}});
  rewrite(temporary("m.keras"), temporary("without.keras"), {{"evenflow.json", ""}});
  for (const char* name : {"changed.keras", "without.keras"}) {
    const Model n = load_model(temporary(name));
    EXPECT_EQ(bn(n).averages(), BatchNormAverages::plain) << name;
    EXPECT_EQ(bn(n).update_count.read().item(), 0) << name;
  }
}

// Version 1 of evenflow.json (until 2026-11-25) had no settings: a mode, debiased or plain, said
// which averages a batch norm takes, and its state was update_count alone.
TEST(KerasFiles, Version1OfOurMemberIsRead) {
  const Model m = trained();
  m.save(temporary("m.keras"));
  const std::string weights = member(temporary("m.keras"), "model.weights.h5");
  const Tensor x = reshape(cast(arange(6), DType::f32), {2, 3});
  for (const char* mode : {"debiased", "plain"}) {
    SCOPED_TRACE(mode);
    rewrite(temporary("m.keras"), temporary("v1.keras"),
            {{"evenflow.json",
              concat({R"({"version":1,"weights_crc32c":)", crc32c(weights.data(), weights.size()),
                      R"(,"layers":{"bn-1.x":{"mode":")", mode,
                      R"(","state":{"update_count":[2]}}}})"})}});
    const Model n = load_model(temporary("v1.keras"));
    EXPECT_EQ(bn(n).averages(), mode == std::string("plain") ? BatchNormAverages::plain
                                                             : BatchNormAverages::exponential);
    EXPECT_EQ(bn(n).mode(), BatchNormMode::train);
    EXPECT_EQ(bn(n).update_count.read().item(), 2);
    EXPECT_EQ(bn(n).rejected_count.read().item(), 0);
    EXPECT_TRUE(same_bits(m(x), n(x)));
  }
  rewrite(temporary("m.keras"), temporary("v1.keras"),
          {{"evenflow.json",
            concat({R"({"version":1,"weights_crc32c":)", crc32c(weights.data(), weights.size()),
                    R"(,"layers":{"bn-1.x":{"mode":"turbo"}}})"})}});
  try {
    load_model(temporary("v1.keras"));
    ADD_FAILURE() << "a mode that there never was is taken";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("layers.bn-1.x.mode is \"turbo\""));
  }
}

TEST(KerasFiles, ALayerUsedTwiceAndModelsWithinModels) {
  // The second use of a shared layer comes before the first one in the graph's order.
  auto x = Input({4}, "x"), y = Input({4}, "y");
  Dense shared({.units = 4, .activation = "tanh", .name = "shared"});
  auto a = shared(x), b = shared(Dense({.units = 4})(y));
  auto u = Input({4}, "u");
  const Model inner(u, BatchNormalization({.name = "bn"})(Dense({.units = 3, .name = "dense"})(u)),
                    "inner");
  const Layer block = to_layer(inner);
  auto joined = Add()({block(a), block(b)});
  const Sequential tail({Dense({.units = 2, .name = "dense"}), Softmax()}, "tail");
  const Model model({x, y}, {to_layer(tail)(joined), Concatenate()({a, joined})}, "outer");
  EXPECT_EQ(model.weights().size(), 2u + 2 + 2 + 4 + 2);
  EXPECT_EQ(model.trainable_weights().size(), 10u);
  const Tensors in{reshape(cast(arange(8), DType::f32) * .1, {2, 4}),
                   reshape(cast(arange(8), DType::f32) * -.2, {2, 4})};
  model.save(temporary("graph.keras"));
  const Model back = load_model(temporary("graph.keras"));
  const Tensors p = model.call(in), q = back.call(in);
  ASSERT_EQ(q.size(), 2u);
  for (size_t i = 0; i < 2; ++i) EXPECT_TRUE(same_bits(p[i], q[i]));
  back.save(temporary("again.keras"));
  EXPECT_EQ(format::read_file(temporary("graph.keras")),
            format::read_file(temporary("again.keras")));
  // What is frozen stays so.
  back.get_layer("inner").set_trainable(false);
  EXPECT_EQ(back.trainable_weights().size(), 6u);
  back.save(temporary("frozen.keras"));
  EXPECT_EQ(load_model(temporary("frozen.keras")).trainable_weights().size(), 6u);
}

TEST(KerasFiles, Float64AndMixedPoliciesComeBack) {
  for (const char* policy : {"float64", "mixed_bfloat16", "mixed_float16"}) {
    const Sequential m(
        {to_layer(Input({3}, "", std::string(policy) == "float64" ? DType::f64 : DType::f32)),
         Dense({.units = 4, .dtype = policy}), BatchNormalization({.dtype = policy})});
    m.save(temporary("p.keras"));
    const Model n = load_model(temporary("p.keras"));
    EXPECT_EQ(n.layers()[0].impl()->dtype, policy);
    const Tensor x = constant({.1, .2, .3}, {1, 3}, DType::f64);
    EXPECT_EQ(n(x).dtype(), n.layers()[1].impl()->compute_dtype());
    EXPECT_TRUE(same_bits(m(x), n(x)));
  }
}

TEST(KerasFiles, SavingRefusesWhatCannotBe) {
  auto why = [](const Model& m, const std::string& path) {
    try {
      m.save(path);
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_THAT(why(Sequential({Dense({.units = 2})}), temporary("x.keras")),
              HasSubstr("is not built"));
  EXPECT_THAT(why(trained(), temporary("x.h5")), HasSubstr("expected a name that ends in .keras"));
  EXPECT_THAT(why(trained(), temporary("none/x.keras")), HasSubstr("none"));
}

TEST(KerasFiles, AFailedSaveLeavesTheOldFile) {
  const std::string path = temporary("kept.keras");
  trained().save(path);
  const std::string old = format::read_file(path);
  const Sequential big({to_layer(Input({1000})), Dense({.units = 1000})});
  // No room: files may not grow beyond a million bytes, and the model has four.
  rlimit limit{};
  getrlimit(RLIMIT_FSIZE, &limit);
  rlimit small = limit;
  small.rlim_cur = 1'000'000;
  auto* handler = std::signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &small);
  EXPECT_THROW(big.save(path), Error);
  setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(format::read_file(path), old);
  EXPECT_EQ(load_model(path).layers().size(), 4u);
  size_t files = 0;  // and nothing half-written beside it
  for (auto& e : std::filesystem::directory_iterator(std::filesystem::path(path).parent_path()))
    files += e.path().filename().string().find("kept") != std::string::npos;
  EXPECT_EQ(files, 1u);
  big.save(path);
  EXPECT_NE(format::read_file(path), old);
}

TEST(KerasFiles, AFolderThatCannotBeWrittenLeavesTheOldFile) {
  std::string folder = testing::TempDir() + "evenflow_locked_XXXXXX";
  ASSERT_TRUE(mkdtemp(folder.data()));
  trained().save(folder + "/m.keras");
  const std::string old = format::read_file(folder + "/m.keras");
  const bool root = !geteuid();  // who may write everywhere: so as somebody else
  if (root) {
    ASSERT_EQ(chown(folder.c_str(), 65534, 65534), 0);
  }
  ASSERT_EQ(chmod(folder.c_str(), 0500), 0);
  if (root) {
    ASSERT_EQ(seteuid(65534), 0);
  }
  EXPECT_THROW(trained().save(folder + "/m.keras"), Error);
  if (root) {
    ASSERT_EQ(seteuid(0), 0);
  }
  EXPECT_EQ(format::read_file(folder + "/m.keras"), old);
  ASSERT_EQ(chmod(folder.c_str(), 0700), 0);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace evenflow
