// SPDX-License-Identifier: Apache-2.0
// Mutated .keras files are an Error, or a model that works. EVENFLOW_MUTATIONS sets how many are
// tried, EVENFLOW_SEED from where.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>

#include "evenflow/core/checksum.h"
#include "evenflow/format/zip.h"
#include "evenflow/model/batch_normalization.h"
#include "evenflow/model/layers.h"
#include "tests/keras_nets.h"

namespace evenflow {
namespace {
using nlohmann::json;
using Members = std::vector<std::pair<std::string, std::string>>;

int64_t setting(const char* name, int64_t otherwise) {
  const char* s = std::getenv(name);
  return s ? std::atoll(s) : otherwise;
}

class Mutator {
 public:
  explicit Mutator(uint64_t seed) : r_(seed) {}
  size_t below(size_t n) { return n ? size_t(r_() % n) : 0; }

  // Flips, cuts, repeats or overwrites a few bytes.
  void bytes(std::string& s) {
    for (size_t k = 1 + below(4); k-- && !s.empty();) {
      const size_t at = below(s.size());
      switch (below(6)) {
        case 0:
          s[at] = char(r_());
          break;
        case 1:
          s[at] = char(s[at] ^ (1 << below(8)));
          break;
        case 2:
          s.resize(at);
          break;
        case 3:
          s.insert(at, s.substr(below(s.size()), below(64)));
          break;
        case 4:
          s.erase(at, below(64));
          break;
        default:
          for (size_t i = at; i < std::min(s.size(), at + 8); ++i) s[i] = char(below(2) ? 0xff : 0);
      }
    }
  }
  // Changes one place somewhere in a document.
  void value(json& document) {
    std::vector<json*> places;
    collect(document, places);
    json& at = *places[below(places.size())];
    static const std::vector<json> strange{nullptr,
                                           true,
                                           false,
                                           0,
                                           1,
                                           -1,
                                           2,
                                           3,
                                           1.5,
                                           -0.25,
                                           1e18,
                                           1e300,
                                           -1e300,
                                           int64_t(1) << 31,
                                           int64_t(1) << 40,
                                           INT64_MAX,
                                           INT64_MIN,
                                           UINT64_MAX,
                                           "",
                                           "x",
                                           "same",
                                           "valid",
                                           "relu",
                                           "glu",
                                           "softmax",
                                           "sparsemax",
                                           "channels_first",
                                           "float64",
                                           "mixed_bfloat16",
                                           "mixed_float16",
                                           "Dense",
                                           "Conv2D",
                                           "Flatten",
                                           "Add",
                                           "Concatenate",
                                           "Reshape",
                                           "BatchNormalization",
                                           "InputLayer",
                                           "Sequential",
                                           "Functional",
                                           "orthogonal",
                                           "identity",
                                           json::array(),
                                           json::object(),
                                           json::array({1, 1}),
                                           json::array({nullptr, 3}),
                                           json::array({0, 0, 0})};
    switch (below(5)) {
      case 0:
        at = *places[below(places.size())];
        break;  // a piece of elsewhere
      case 1:
        if (at.is_number()) {
          at = at.get<double>() == int64_t(at.get<double>())
                   ? json(int64_t(at.get<double>()) + int64_t(below(5)) - 2)
                   : json(at.get<double>() * 3);
          break;
        }
        [[fallthrough]];
      case 2:
        if (at.is_structured() && !at.empty()) {
          auto it = at.begin();
          std::advance(it, long(below(at.size())));
          at.erase(it);
          break;
        }
        [[fallthrough]];
      case 3:
        if (at.is_array() && !at.empty()) {
          at.push_back(json(at[below(at.size())]));
          break;
        }
        [[fallthrough]];
      default:
        at = strange[below(strange.size())];
    }
  }

 private:
  static void collect(json& j, std::vector<json*>& to) {
    to.push_back(&j);
    if (j.is_structured())
      for (auto& v : j) collect(v, to);
  }
  std::mt19937_64 r_;
};

// Uses a model in all ways, if it is small.
void use(const Model& m, const std::string& path) {
  m.summary();
  m.save(path);
  int64_t most = 0;
  Tensors x;
  for (auto& d : m.input_dims()) {
    std::vector<int64_t> shape;
    for (int64_t n : d) shape.push_back(n < 0 ? 2 : n);
    most = std::max(most, Shape(shape).count());
    if (most > 1 << 18) return;
    x.push_back(zeros(Shape(shape)));
  }
  for (auto& c : m.impl().calls) {
    int64_t n = 1;
    for (int64_t e : c.dims) n = n > (1 << 18) ? n : n * (e < 0 ? 8 : e);
    most = std::max(most, n);
  }
  if (most > 1 << 18) return;
  for (auto& w : m.weights())
    if (w.variable.sig().shape.count() > 1 << 18) return;
  m.call(x);
  Step s;
  m.call(x, {.training = true});
  s.commit();
}

TEST(MutatedKerasFiles, AreAnErrorOrAModel) {
  std::string folder = testing::TempDir() + "evenflow_mutations_XXXXXX";
  ASSERT_TRUE(mkdtemp(folder.data()));
  std::vector<Members> seeds;
  auto add = [&](const std::string& path) {
    const format::ZipReader zip(format::read_file(path));
    Members all;
    for (auto& m : zip.members()) all.emplace_back(m.name, zip.read(m.name));
    seeds.push_back(all);
  };
  for (const char* net : {"random_02", "random_07", "random_15", "random_16", "random_28",
                          "edge_nested", "edge_shared_layer", "edge_two_inputs_two_outputs",
                          "edge_mixed_bfloat16", "edge_no_input_layer", "edge_compiled"}) {
    add(reference::net_file(std::string(net) + ".keras"));
    load_model(reference::net_file(std::string(net) + ".keras")).save(folder + "/ours.keras");
    add(folder + "/ours.keras");
  }
  const int64_t count = setting("EVENFLOW_MUTATIONS", 2000), seed = setting("EVENFLOW_SEED", 1);
  int64_t models = 0, errors = 0, refused = 0;
  for (int64_t i = 0; i < count; ++i) {
    Mutator r(uint64_t(seed * 1'000'000 + i));
    Members all = seeds[r.below(seeds.size())];
    const size_t kind = r.below(10);
    std::string archive;
    if (kind == 9) {
      format::ZipWriter zip;
      for (auto& [n, b] : all) zip.add(n, b, r.below(2));
      archive = zip.finish();
      r.bytes(archive);
    } else {
      for (auto& [n, b] : all) {
        if (kind < 6   ? n == "config.json"
            : kind < 7 ? n == "evenflow.json"
                       : kind < 9 && n == "model.weights.h5") {
          if (kind == 5 || kind > 6)
            r.bytes(b);
          else {
            json j = json::parse(b);
            for (size_t k = 1 + r.below(2); k--;) r.value(j);
            b = j.dump(-1, ' ', false, json::error_handler_t::replace);
          }
        }
      }
      format::ZipWriter zip;
      for (auto& [n, b] : all) zip.add(n, b);
      archive = zip.finish();
    }
    const std::string path = folder + "/m.keras";
    format::write_file_atomically(path, archive);
    SCOPED_TRACE(concat({"mutation ", i, " of seed ", seed}));
    try {
      const Model m = load_model(path);
      ++models;
      try {
        use(m, folder + "/again.keras");
      } catch (const Error&) {
        ++refused;  // what cannot run must say so
      }
    } catch (const Error& e) {
      ++errors;
      EXPECT_NE(std::string(e.what()).find("m.keras"), std::string::npos) << e.what();
      EXPECT_NE(e.code(), Code::Internal) << e.what();
      EXPECT_NE(e.code(), Code::InvalidArgument) << e.what();
    }
  }
  // Both ways are met often.
  EXPECT_GT(models, count / 10);
  EXPECT_GT(errors, count / 10);
  std::filesystem::remove_all(folder);
  RecordProperty("models", int(models));
  RecordProperty("refused_in_use", int(refused));
}

}  // namespace
}  // namespace evenflow
