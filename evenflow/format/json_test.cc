// SPDX-License-Identifier: Apache-2.0
#include "evenflow/format/json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace evenflow::format {
namespace {

template <class F>
Error error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e;
  }
  ADD_FAILURE() << "no error";
  return Error(Code::Internal, "");
}
Code code_of(const std::string& text, const JsonLimits& limits = {}) {
  return error_of([&] { parse_json(text, "x.json", limits); }).code();
}

constexpr std::string_view kConfig = R"({"layers": [{"name": "a", "config": {"filters": "x",
    "size": [3, 3], "rate": 0.5, "bias": true, "none": null, "big": 18446744073709551615}}]})";

TEST(Json, Getters) {
  const JsonValue v = parse_json(kConfig, "config.json");
  const JsonValue config = v["layers"][0]["config"];
  EXPECT_EQ(v["layers"][0]["name"].string(), "a");
  EXPECT_EQ(config["size"].integers(), (std::vector<int64_t>{3, 3}));
  EXPECT_EQ(config["rate"].number(), 0.5);
  EXPECT_EQ(config["size"][1].number(), 3);
  EXPECT_TRUE(config["bias"].boolean());
  EXPECT_TRUE(config["none"].is_null());
  EXPECT_FALSE(config.find("none"));
  EXPECT_FALSE(config.find("other"));
  EXPECT_EQ(config.find("rate")->number(), 0.5);
  EXPECT_EQ(v.keys(), std::vector<std::string>{"layers"});
  EXPECT_EQ(config.place(), "config.json: layers[0].config");
}

TEST(Json, ErrorsNameThePlace) {
  const JsonValue v = parse_json(kConfig, "config.json");
  const JsonValue config = v["layers"][0]["config"];
  const auto message = [](auto&& f) { return std::string(error_of(f).what()); };
  EXPECT_EQ(message([&] { config["filters"].integer(); }),
            "config.json: layers[0].config.filters is \"x\", expected an integer");
  EXPECT_EQ(message([&] { config["rate"].integer(); }),
            "config.json: layers[0].config.rate is 0.5, expected an integer");
  EXPECT_EQ(
      message([&] { config["big"].integer(); }),
      "config.json: layers[0].config.big is 18446744073709551615, expected an integer of 64 bits");
  EXPECT_EQ(message([&] { config["size"][0].integer(4); }),
            "config.json: layers[0].config.size[0] is 3, expected an integer of at least 4");
  EXPECT_EQ(message([&] { config["size"][2]; }),
            "config.json: layers[0].config.size has 2 elements, expected one at 2");
  EXPECT_EQ(message([&] { config["units"]; }), "config.json: layers[0].config lacks \"units\"");
  EXPECT_EQ(message([&] { config["bias"]["x"]; }),
            "config.json: layers[0].config.bias is true, expected an object");
  EXPECT_EQ(message([&] { v.boolean(); }),
            "config.json: the document is an object, expected true or false");
  EXPECT_EQ(message([&] { v["layers"].string(); }),
            "config.json: layers is an array of 1, expected a string");
}

TEST(Json, RefusesWhatIsNotJson) {
  for (const char* text : {"", "{", "[1,]", "{\"a\" 1}", "nul", "NaN", "[1] x", "'a'", "\"\xff\"",
                           "1e999", "{\"a\": 1, \"a\": 2}", "// c\n1", "\"\x01\""}) {
    EXPECT_EQ(code_of(text), Code::DataLoss) << text;
  }
  EXPECT_EQ(code_of(std::string("\"a\0b\"", 5)), Code::DataLoss);
  EXPECT_EQ(std::string(error_of([] { parse_json("[1,]", "x.json"); }).what())
                .find("json \"x.json\": parse error at line 1"),
            0u);
}

TEST(Json, Limits) {
  const auto nested = [](int n) {
    return std::string(size_t(n), '[') + std::string(size_t(n), ']');
  };
  EXPECT_TRUE(parse_json(nested(100), "x").is_array());
  EXPECT_EQ(code_of(nested(101)), Code::ResourceExhausted);
  EXPECT_EQ(code_of(std::string(1 << 20, '[')), Code::ResourceExhausted);
  EXPECT_EQ(code_of("[1, 2, 3]", {.max_bytes = 8}), Code::ResourceExhausted);
  EXPECT_EQ(code_of("[1, 2, 3]", {.max_values = 3}), Code::ResourceExhausted);
}

TEST(Json, TheDocumentLivesWithItsValues) {
  const JsonValue name = parse_json(kConfig, "x")["layers"][0]["name"];
  EXPECT_EQ(name.string(), "a");
}

TEST(Json, Text) {
  EXPECT_EQ(json_text(Json{{"b", 1}, {"a", {1.5, nullptr}}}), R"({"a":[1.5,null],"b":1})");
  EXPECT_EQ(error_of([] { json_text("\xff"); }).code(), Code::InvalidArgument);
  EXPECT_EQ(error_of([] { json_text(Json{1.0, INFINITY}); }).code(), Code::InvalidArgument);
}

TEST(Json, EveryTruncationAndEveryByteFlipped) {
  const std::string good(kConfig);
  for (size_t n = 0; n < good.size(); ++n) EXPECT_EQ(code_of(good.substr(0, n)), Code::DataLoss);
  for (size_t i = 0; i < good.size(); ++i) {
    for (int flip = 1; flip < 256; ++flip) {
      std::string bytes = good;
      bytes[i] = char(bytes[i] ^ flip);
      try {
        parse_json(bytes, "x");
      } catch (const Error&) {
      }
    }
  }
}

}  // namespace
}  // namespace evenflow::format
