// SPDX-License-Identifier: Apache-2.0
// .keras files from strangers: each wrong one is a typed Error that names file, member and place,
// soon and within little memory.
#include <gmock/gmock.h>
#include <sys/resource.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>

#include "evenflow/core/checksum.h"
#include "evenflow/format/hdf5_writer.h"
#include "evenflow/format/zip.h"
#include "evenflow/model/batch_normalization.h"
#include "evenflow/model/layers.h"
#include "evenflow/ops/elementwise.h"
#include "tests/keras_nets.h"

namespace evenflow {
namespace {
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

class HostileKerasFiles : public testing::Test {
 protected:
  void SetUp() override {
    std::string f = testing::TempDir() + "evenflow_hostile_XXXXXX";
    folder_ = mkdtemp(f.data());
    path_ = folder_ + "/m.keras";
    auto x = Input({4}, "x");
    const Model m(
        {x},
        {Dense({.units = 2, .name = "out"})(Dropout({.rate = .5, .name = "drop"})(
            BatchNormalization({.name = "bn"})(Dense({.units = 3, .name = "dense"})(x))))},
        "net");
    m.save(path_);
    members_ = members(path_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  using Members = std::vector<std::pair<std::string, std::string>>;
  static Members members(const std::string& path) {
    const format::ZipReader zip(format::read_file(path));
    Members r;
    for (auto& m : zip.members()) r.emplace_back(m.name, zip.read(m.name));
    return r;
  }
  std::string& member(const std::string& name) {
    for (auto& [n, bytes] : members_)
      if (n == name) return bytes;
    throw std::runtime_error("no member " + name);
  }
  json config() { return json::parse(member("config.json")); }
  json& layer(json& c, const std::string& name) {
    for (json& l : c["config"]["layers"])
      if (l["config"]["name"] == name) return l;
    throw std::runtime_error("no layer " + name);
  }
  // What load_model says of these members: "" if it takes them.
  std::string why(const Members& all) {
    format::ZipWriter zip;
    for (auto& [n, bytes] : all) zip.add(n, bytes);
    return why_bytes(zip.finish());
  }
  std::string why_bytes(const std::string& bytes) {
    format::write_file_atomically(path_, bytes);
    try {
      const Model m = load_model(path_);
      m.summary();
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr("m.keras"));
      EXPECT_TRUE(e.code() == Code::DataLoss || e.code() == Code::Unimplemented ||
                  e.code() == Code::ResourceExhausted)
          << e.what() << " is " << str(e.code());
      return e.what();
    }
    return "";
  }
  std::string why_config(const json& c) { return why_config_text(c.dump()); }
  std::string why_config_text(const std::string& text) {
    Members all = members_;
    for (auto& [n, bytes] : all)
      if (n == "config.json") bytes = text;
    return why(all);
  }
  std::string why_state(const json& s) {
    Members all = members_;
    for (auto& [n, bytes] : all)
      if (n == "evenflow.json") bytes = s.dump();
    return why(all);
  }
  // With one place of the configuration of a layer changed.
  std::string why_setting(const std::string& name, const std::string& key, const json& value) {
    json c = config();
    layer(c, name)["config"][key] = value;
    return why_config(c);
  }
  std::string folder_, path_;
  Members members_;
};

TEST_F(HostileKerasFiles, TheOneWeStartFromIsGood) { EXPECT_EQ(why(members_), ""); }

TEST_F(HostileKerasFiles, TruncatedOrEmptyOrNoZip) {
  const std::string whole = format::read_file(path_);
  for (size_t n = 0; n < whole.size(); n += whole.size() / 60 + 1)
    EXPECT_NE(why_bytes(whole.substr(0, n)), "") << n;
  EXPECT_NE(why_bytes(std::string(10000, 'x')), "");
  EXPECT_THROW(load_model(folder_ + "/none.keras"), Error);
  EXPECT_THROW(load_model(folder_), Error);
}

TEST_F(HostileKerasFiles, MembersThatAreMissingOrTooMuch) {
  for (const char* name : {"config.json", "model.weights.h5"}) {
    Members all;
    for (auto& m : members_)
      if (m.first != name) all.push_back(m);
    EXPECT_THAT(why(all), HasSubstr(std::string("has no ") + name));
  }
  Members all = members_;
  all.emplace_back("something/else.txt", "ignored, as Keras does");
  EXPECT_EQ(why(all), "");
  // Ours is all right to be missing; a bomb of zeros is not.
  all = members_;
  format::ZipWriter zip;
  for (auto& [n, bytes] : members_) zip.add(n, bytes);
  zip.add("assets/zeros", std::string(size_t(200) << 20, '\0'), true);
  EXPECT_THAT(why_bytes(zip.finish()), HasSubstr("inflates"));
}

TEST_F(HostileKerasFiles, MembersWithWaysOut) {
  // The writer refuses such names; so they are put over a name of the same length.
  for (const char* bad :
       {"../../etc/passwd", "/etc/passwd/abcd", "a/../../b/c/defg", "C:\\windows\\abcde"}) {
    ASSERT_EQ(std::string(bad).size(), 16u) << bad;
    format::ZipWriter zip;
    for (auto& [n, bytes] : members_) zip.add(n, bytes);
    zip.add("aaaaaaaaaaaaaaaa", "text");
    std::string bytes = zip.finish();
    for (size_t at; (at = bytes.find("aaaaaaaaaaaaaaaa")) != std::string::npos;)
      bytes.replace(at, 16, bad);
    EXPECT_NE(why_bytes(bytes), "") << bad;
  }
}

TEST_F(HostileKerasFiles, JsonThatIsNone) {
  EXPECT_THAT(why_config_text(""), HasSubstr("config.json"));
  EXPECT_THAT(why_config_text("{"), HasSubstr("config.json"));
  EXPECT_THAT(why_config_text("[]"), HasSubstr("config.json"));
  EXPECT_THAT(why_config_text("null"), HasSubstr("config.json"));
  EXPECT_THAT(why_config_text("{\"class_name\": \"Sequential\", \"config\": NaN}"),
              HasSubstr("config.json"));
  EXPECT_THAT(why_config_text(std::string(10000, '[') + std::string(10000, ']')),
              HasSubstr("config.json"));
  std::string deep;
  for (int i = 0; i < 10000; ++i) deep += "{\"config\":";
  EXPECT_THAT(why_config_text(deep + "1" + std::string(10000, '}')), HasSubstr("config.json"));
  // Models within models, as deep as JSON may be.
  std::string nested = "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"s\",\"layers\":[";
  std::string text;
  for (int i = 0; i < 2000; ++i) text += nested;
  EXPECT_THAT(why_config_text(text), HasSubstr("config.json"));
}

TEST_F(HostileKerasFiles, ClassesOfOthers) {
  json c = config();
  c["class_name"] = "Model";
  EXPECT_THAT(why_config(c), AllOf(HasSubstr("config.json: class_name is \"Model\""),
                                   HasSubstr("Sequential or Functional")));
  c = config();
  layer(c, "dense")["class_name"] = "Lambda";
  EXPECT_THAT(why_config(c), HasSubstr("config.json: config.layers[1].class_name is \"Lambda\""));
  c = config();
  layer(c, "dense")["registered_name"] = "evil>Dense";
  EXPECT_THAT(why_config(c), HasSubstr("config.layers[1].registered_name is \"evil>Dense\""));
  c = config();
  layer(c, "dense")["class_name"] = std::string(1 << 20, 'A');
  EXPECT_LT(why_config(c).size(), 2000u);
}

TEST_F(HostileKerasFiles, NumbersOutOfRange) {
  for (const json& units :
       {json(int64_t(1'000'000'000'000'000'000)), json(1e18), json(-3), json(0), json(1e300),
        json("many"), json(2.5), json(true), json::array({3}), json()}) {
    const std::string said = why_setting("dense", "units", units);
    EXPECT_THAT(said, HasSubstr("config.json: config.layers[1]")) << units;
    EXPECT_THAT(said, HasSubstr("units")) << units;
  }
  // Possible, but far more than the file has weights for; and no memory is asked for before that is
  // seen.
  rusage before{}, after{};
  getrusage(RUSAGE_SELF, &before);
  EXPECT_THAT(why_setting("dense", "units", int64_t(1) << 31),
              AllOf(HasSubstr("Dense \"dense\": kernel has the shape [4,2147483648]"),
                    HasSubstr("in the file")));
  json c = config();
  c["config"]["layers"][0]["config"]["batch_shape"] = {nullptr, int64_t(1) << 40};
  EXPECT_THAT(why_config(c), HasSubstr("in the file"));
  c["config"]["layers"][0]["config"]["batch_shape"] = {nullptr,
                                                       std::numeric_limits<int64_t>::max()};
  EXPECT_NE(why_config(c), "");
  c["config"]["layers"][0]["config"]["batch_shape"] = {nullptr, -5};
  EXPECT_NE(why_config(c), "");
  getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 64 * 1024);
  for (const json& v : {json(1.5), json(-.1), json(1e300), json("x")})
    EXPECT_THAT(why_setting("bn", "momentum", v), HasSubstr("config.layers[2]")) << v;
  auto clipping = [&](const json& limits) {
    json c = config();
    layer(c, "bn")["config"]["renorm"] = true;
    layer(c, "bn")["config"]["renorm_clipping"] = limits;
    return why_config(c);
  };
  EXPECT_THAT(clipping({{"rmax", 3}, {"surprise", 1}}),
              AllOf(HasSubstr("config.layers[2].config: \"bn\""),
                    HasSubstr("renorm_clipping has \"surprise\", expected rmax, rmin and dmax")));
  EXPECT_THAT(clipping({{"rmax", .5}, {"rmin", 1}}),
              HasSubstr("BatchNormalization \"bn\": renorm_clipping: rmax is 0.5"));
  EXPECT_THAT(clipping({{"dmax", -1}}), HasSubstr("renorm_clipping: dmax is -1"));
  EXPECT_THAT(clipping({{"dmax", "x"}}), HasSubstr("config.renorm_clipping.dmax"));
  EXPECT_THAT(why_setting("bn", "gamma_constraint",
                          json{{"class_name", "MaxNorm"}, {"config", {{"axis", 3}}}}),
              HasSubstr("BatchNormalization \"bn\": gamma: MaxNorm: axis is 3"));
  EXPECT_THAT(why_setting("bn", "epsilon", -1), HasSubstr("epsilon is -1"));
  for (int axis : {0, 2, -3, 1 << 30})
    EXPECT_THAT(why_setting("bn", "axis", axis), HasSubstr("BatchNormalization \"bn\"")) << axis;
  EXPECT_THAT(why_setting("drop", "rate", 2), HasSubstr("Dropout \"drop\": rate is 2"));
  EXPECT_THAT(why_setting("out", "activation", "evil"),
              HasSubstr("Dense \"out\": activation is \"evil\""));
  EXPECT_THAT(why_setting("out", "activation", json{{"class_name", "function"}}),
              HasSubstr("activation"));
  EXPECT_THAT(
      why_setting("out", "kernel_regularizer", json{{"class_name", std::string(1 << 20, 'B')}}),
      HasSubstr("kernel_regularizer"));
  EXPECT_THAT(why_setting("out", "kernel_initializer", json{{"class_name", "Pickle"}}),
              HasSubstr("kernel_initializer"));
}

TEST_F(HostileKerasFiles, SettingsThatAreNotHere) {
  EXPECT_THAT(why_setting("dense", "surprise", 1),
              HasSubstr("config.layers[1].config.surprise is 1"));
  EXPECT_THAT(why_setting("dense", "kernel_constraint", json{{"class_name", "Lambda"}}),
              HasSubstr("kernel_constraint.class_name is \"Lambda\", expected MaxNorm"));
  EXPECT_THAT(why_setting("bn", "surprise", true), HasSubstr("surprise"));
  EXPECT_THAT(why_setting("dense", "dtype", "int8"), HasSubstr("\"int8\""));
  EXPECT_EQ(why_setting("bn", "synchronized", true), "");
  EXPECT_EQ(why_setting("dense", "surprise", nullptr), "");  // off is off
}

TEST_F(HostileKerasFiles, NamesThatAreNone) {
  for (const json& name : {json(""), json("a/b"), json(std::string("a\0b", 3)),
                           json(std::string(1000, 'n')), json(5), json()}) {
    json c = config();
    json& l = layer(c, "dense");
    l["config"]["name"] = name, l["name"] = name;
    EXPECT_THAT(why_config(c), HasSubstr("config.json")) << name;
  }
  EXPECT_THAT(why_setting("dense", "name", "out"), HasSubstr("name"));
  json c = config();
  c["config"]["name"] = "a/b";
  EXPECT_THAT(why_config(c), HasSubstr("config.json: config.name"));
}

TEST_F(HostileKerasFiles, GraphsThatAreNone) {
  auto link = [](json& l) -> json& {
    return l["inbound_nodes"][0]["args"][0]["config"]["keras_history"];
  };
  json c = config();
  link(layer(c, "bn")) = {"out", 0, 0};
  EXPECT_THAT(why_config(c), HasSubstr("without cycles"));
  c = config();
  link(layer(c, "bn")) = {"bn", 0, 0};
  EXPECT_THAT(why_config(c), HasSubstr("without cycles"));
  for (const json& bad :
       {json::array({"nobody", 0, 0}), json::array({"dense", 7, 0}), json::array({"dense", -1, 0}),
        json::array({"dense", 0, 1}), json::array({"dense", 0}), json::array(), json("dense"),
        json::array({0, 0, 0}), json()}) {
    c = config();
    link(layer(c, "bn")) = bad;
    EXPECT_THAT(why_config(c), HasSubstr("config.layers[2].inbound_nodes[0]")) << bad;
  }
  c = config();
  layer(c, "bn")["inbound_nodes"] = json::array();
  EXPECT_THAT(why_config(c), HasSubstr("inbound_nodes"));
  c = config();
  layer(c, "bn")["inbound_nodes"][0]["kwargs"]["mask"] = 5;
  EXPECT_THAT(why_config(c), HasSubstr("mask"));
  c = config();
  layer(c, "bn")["inbound_nodes"][0]["args"][0] =
      json::array({layer(c, "bn")["inbound_nodes"][0]["args"][0],
                   layer(c, "bn")["inbound_nodes"][0]["args"][0]});
  EXPECT_THAT(why_config(c), HasSubstr("2 inputs were given"));
  for (const char* ends : {"input_layers", "output_layers"})
    for (const json& bad : {json(), json::array(), json::array({"nobody", 0, 0}), json(3),
                            json::array({json::array()})}) {
      c = config();
      c["config"][ends] = bad;
      EXPECT_THAT(why_config(c), HasSubstr("config.json")) << ends << " " << bad;
    }
  c = config();
  c["config"]["input_layers"] = {"dense", 0, 0};
  EXPECT_THAT(why_config(c), HasSubstr("an input layer"));
  c = config();
  c["config"]["output_layers"] = {"dense", 0, 0};
  EXPECT_THAT(why_config(c), HasSubstr("no output depends on layer"));
  c = config();
  c["config"]["layers"].push_back(c["config"]["layers"][1]);
  EXPECT_THAT(why_config(c), HasSubstr("a name of its own"));
  c = config();
  c["config"]["layers"] = 5;
  EXPECT_THAT(why_config(c), HasSubstr("layers"));
}

TEST_F(HostileKerasFiles, MoreLayersThanAnyModelHas) {
  json c = config();
  json one = layer(c, "dense");
  for (int i = 0; i < 11000; ++i) {
    one["config"]["name"] = one["name"] = "d" + std::to_string(i);
    c["config"]["layers"].push_back(one);
  }
  EXPECT_THAT(why_config(c), HasSubstr("at most 10000 layers"));
}

TEST_F(HostileKerasFiles, WeightsThatDoNotFit) {
  auto written =
      [&](const std::function<void(format::Hdf5Writer&, const std::string&, const Tensor&)>& put,
          const std::string& special) {
        format::Hdf5Writer h5;
        const std::vector<std::pair<std::string, Tensor>> sets{
            {"layers/dense/vars/0", zeros({4, 3})},
            {"layers/dense/vars/1", zeros({3})},
            {"layers/batch_normalization/vars/0", zeros({3})},
            {"layers/batch_normalization/vars/1", zeros({3})},
            {"layers/batch_normalization/vars/2", zeros({3})},
            {"layers/batch_normalization/vars/3", zeros({3})},
            {"layers/dense_1/vars/0", zeros({3, 2})},
            {"layers/dense_1/vars/1", zeros({2})}};
        for (auto& [name, t] : sets) {
          if (name == special)
            put(h5, name, t);
          else
            h5.dataset(name, {t.sig(), t.buffer()});
        }
        Members all = members_;
        for (auto& [n, bytes] : all)
          if (n == "model.weights.h5") bytes = h5.finish();
        return why(all);
      };
  auto as = [](const Tensor& t) {
    return [t](format::Hdf5Writer& h, const std::string& n, const Tensor&) {
      h.dataset(n, {t.sig(), t.buffer()});
    };
  };
  const std::string kernel = "layers/dense/vars/0";
  EXPECT_EQ(written(as(cast(zeros({4, 3}), DType::f64)), kernel), "");  // another width is taken
  EXPECT_THAT(
      written(as(zeros({3, 4})), kernel),
      AllOf(HasSubstr("model.weights.h5: layers/dense/vars/0 is f32[3,4], expected f32[4,3]"),
            HasSubstr("dense/kernel")));
  EXPECT_THAT(written(as(zeros({12})), kernel), HasSubstr("layers/dense/vars/0"));
  EXPECT_THAT(written(as(cast(zeros({4, 3}), DType::i32)), kernel),
              HasSubstr("layers/dense/vars/0 is i32[4,3]"));
  EXPECT_THAT(written(as(cast(zeros({4, 3}), DType::boolean)), kernel),
              HasSubstr("layers/dense/vars/0"));
  EXPECT_NE(written([](auto&, auto&, auto&) {}, kernel), "");
  EXPECT_THAT(written([](auto&, auto&, auto&) {}, "layers/dense_1/vars/1"),
              AllOf(HasSubstr("layers/dense_1/vars has 1 weights, expected 2"),
                    HasSubstr("layer \"out\"")));
  // Statistics that no training makes: a NaN would stay for ever.
  const std::string mean = "layers/batch_normalization/vars/2",
                    variance = "layers/batch_normalization/vars/3";
  EXPECT_THAT(written(as(full({3}, NAN)), mean),
              HasSubstr("BatchNormalization \"bn\": bn/moving_mean holds what is not finite"));
  EXPECT_THAT(written(as(full({3}, INFINITY)), variance), HasSubstr("bn/moving_variance"));
  EXPECT_THAT(written(as(full({3}, -1)), variance), HasSubstr("bn/moving_variance"));
  Members all = members_;
  for (auto& [n, bytes] : all)
    if (n == "model.weights.h5") bytes = "";
  EXPECT_THAT(why(all), HasSubstr("model.weights.h5"));
}

TEST_F(HostileKerasFiles, OurOwnMember) {
  const json good = json::parse(member("evenflow.json"));
  EXPECT_EQ(why_state(good), "");
  auto with = [&](const std::string& pointer, const json& v) {
    json s = good;
    s[json::json_pointer(pointer)] = v;
    return why_state(s);
  };
  EXPECT_THAT(with("/version", 3), HasSubstr("evenflow.json: version is 3"));
  EXPECT_THAT(with("/version", nullptr), HasSubstr("evenflow.json"));
  EXPECT_THAT(with("/weights_crc32c", "x"), HasSubstr("evenflow.json: weights_crc32c"));
  EXPECT_THAT(with("/layers", 5), HasSubstr("evenflow.json"));
  EXPECT_THAT(with("/layers/bn/mode", "turbo"),
              HasSubstr("evenflow.json: layers.bn.mode is \"turbo\""));
  EXPECT_THAT(with("/layers/bn/mode", 5), HasSubstr("evenflow.json: layers.bn.mode"));
  for (const json& n : {json(-1), json(1.5), json(1e300),
                        json(std::numeric_limits<uint64_t>::max()), json("x"), json()})
    EXPECT_THAT(with("/layers/bn/state/update_count", json::array({n})),
                HasSubstr("evenflow.json: layers.bn.state.update_count"))
        << n;
  EXPECT_THAT(with("/layers/bn/state/update_count", json::array()), HasSubstr("update_count"));
  EXPECT_THAT(with("/layers/bn/state/update_count", 3), HasSubstr("update_count"));
  EXPECT_THAT(with("/layers/drop/state/draw", json::array({1, 2, 3})),
              HasSubstr("evenflow.json: layers.drop.state.draw"));
  auto set = [&](const std::string& key, const json& v) {
    return with("/layers/bn/settings/" + key, v);
  };
  const std::string place = "evenflow.json: layers.bn.settings";
  EXPECT_THAT(set("mode", "turbo"),
              AllOf(HasSubstr(place), HasSubstr("BatchNormalization \"bn\": mode is \"turbo\", "
                                                "expected one of train, eval")));
  EXPECT_THAT(set("averages", "mean"), HasSubstr("averages is \"mean\""));
  EXPECT_THAT(set("variance", "both"), HasSubstr("variance is \"both\""));
  EXPECT_THAT(set("mode", 5), HasSubstr(place + ".mode"));
  EXPECT_THAT(set("surprise", 5), HasSubstr(place + ".surprise is 5"));
  for (int64_t n : {int64_t(0), int64_t(-1), int64_t(1) << 40})
    EXPECT_THAT(set("window", n), HasSubstr("window is")) << n;
  EXPECT_THAT(set("virtual_batch_size", -2), HasSubstr("virtual_batch_size is -2"));
  EXPECT_THAT(set("statistics_dtype", "float16"), HasSubstr("statistics_dtype is \"float16\""));
  const json noise{{"scale_low", .5}, {"scale_high", 1.5}, {"bias_low", 0}, {"bias_high", 0}};
  EXPECT_EQ(set("adjustment", noise), "");
  auto but = [&](const char* key, const json& v) {
    json n = noise;
    n[key] = v;
    return set("adjustment", n);
  };
  EXPECT_THAT(but("scale_low", 0), HasSubstr("adjustment: scale is 0..1.5"));
  EXPECT_THAT(but("bias_low", 1), HasSubstr("adjustment: bias is 1..0"));
  EXPECT_THAT(but("surprise", 1), HasSubstr("adjustment is surprise"));
  EXPECT_THAT(set("adjustment", json{{"scale_low", .5}}), HasSubstr("without scale_high"));
  EXPECT_EQ(with("/layers/nobody", json{{"mode", "x"}}), "");  // says nothing of any layer here
  EXPECT_EQ(with("/weights_crc32c", 1), "");                   // other weights: Keras's
}

TEST_F(HostileKerasFiles, AModelThatLoadsMayStillAskTooMuch) {
  const Sequential m({to_layer(Input({2, 2, 1})), ZeroPadding2D({.padding = 1 << 20}),
                      ZeroPadding2D({.padding = 1 << 20}), GlobalMaxPooling2D()});
  m.save(path_);
  EXPECT_THROW(load_model(path_)(zeros({1, 2, 2, 1})), Error);
}

}  // namespace
}  // namespace evenflow
