// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <set>

#include "cli/command_testing.h"
#include "evenflow/evenflow.h"
#include "evenflow/format/npy.h"

namespace evenflow::cli {
namespace {
using nlohmann::json;
using testing::AllOf, testing::HasSubstr, testing::Not, testing::StartsWith;

struct Files {
  Folder folder;
  std::string model = folder / "m.keras", x = folder / "x.npy", y = folder / "y.npy",
              trace = folder / "trace.json", html = folder / "profile.html";
  Files() {
    Sequential(
        {to_layer(Input({8, 8, 1})), Conv2D({.filters = 4, .kernel_size = 3, .name = "<first>"}),
         BatchNormalization(), ReLU(), Flatten(), Dense({.units = 10, .activation = "softmax"})},
        "small")
        .save(model);
    write(x, zeros({7, 8, 8, 1})), write(y, zeros({7}, DType::i64));
  }
  static void write(const std::string& path, const Tensor& t) {
    format::write_npy(path, {t.sig(), t.buffer()});
  }
};

TEST(Profile, of_inference_writes_a_trace_a_page_and_a_table) {
  Files f;
  const Said s = evenflow({"profile", f.model, "--steps", "3", "--batch-size", "5", "--trace",
                           f.trace, "--html", f.html});
  ASSERT_EQ(s.status, 0) << s.err;
  EXPECT_THAT(s.out, AllOf(StartsWith("Inference of "), HasSubstr("batch 5"), HasSubstr("conv2d ["),
                           HasSubstr("% of limit")));
  const json trace = json::parse(contents(f.trace));
  std::set<std::string> kinds, ops;
  int steps = 0;
  for (auto& e : trace.at("traceEvents")) {
    if (e.at("ph") != "X") continue;
    kinds.insert(e.at("cat")), ops.insert(e.at("name"));
    steps += e.at("cat") == "step";
    EXPECT_GE(e.at("ts"), 0);
    EXPECT_GE(e.at("dur"), 0);
  }
  EXPECT_EQ(kinds, (std::set<std::string>{"kernel", "step"}));
  EXPECT_EQ(steps, 3);
  EXPECT_TRUE(ops.contains("conv2d") && ops.contains("matmul") && ops.contains("inference 2"));
  const std::string page = contents(f.html);
  EXPECT_THAT(page, AllOf(StartsWith("<!DOCTYPE html>"), HasSubstr("class=\"sortable\""),
                          HasSubstr("&lt;first&gt;"), HasSubstr("<script>")));
  EXPECT_THAT(page, Not(HasSubstr("http"))) << "it needs no network";
  EXPECT_THAT(page, Not(HasSubstr("<first>")));
}
TEST(Profile, of_training_tells_numbers_that_add_up) {
  Files f;
  for (const auto& [loss, more] : std::vector<std::pair<std::string, std::vector<std::string>>>{
           {"sparse_categorical_crossentropy", {}},
           {"mse", {"--optimizer", "adam"}},
           {"sparse_categorical_crossentropy", {"--x", f.x, "--y", f.y}}}) {
    std::vector<std::string> words{"profile", f.model,  "--train", "--loss",
                                   loss,      "--json", "--steps", "2"};
    words.insert(words.end(), more.begin(), more.end());
    const Said s = evenflow(words);
    ASSERT_EQ(s.status, 0) << s.err;
    const json j = json::parse(s.out);
    EXPECT_EQ(j.at("mode"), "train");
    EXPECT_EQ(j.at("batch"), more.size() == 4 ? 7 : 32) << "no more than there are";
    EXPECT_EQ(j.at("steps"), 2);
    EXPECT_GT(j.at("limits").at("gflop_per_s"), 0);
    EXPECT_GT(j.at("limits").at("copy_gb_per_s"), 0);
    for (const char* table : {"kernels", "calls"}) {
      double us = 0;
      bool gradient = false;
      for (auto& k : j.at(table)) {
        us += k.at("us").get<double>();
        gradient |= k.at("op") == "conv2d_kernel_grad" && k.at("flops") > 0;
        EXPECT_EQ(k.contains("shapes"), std::string(table) == "calls");
      }
      EXPECT_NEAR(us / 2, j.at("kernels_us"), 1e-3 * us);
      EXPECT_TRUE(gradient) << s.out;
    }
  }
}
TEST(Profile, refuses_what_it_cannot_measure) {
  Files f;
  expect_usage_error({"profile"}, "model is required");
  expect_usage_error({"profile", f.model, "--train"}, "--loss");
  expect_usage_error({"profile", f.model, "--loss", "mse"}, "--train");
  expect_usage_error({"profile", f.model, "--train", "--loss", "fun"}, "fun");
  for (const char* option : {"--batch-size", "--steps"})
    for (const char* number : {"0", "-3", "many"})
      expect_usage_error({"profile", f.model, option, number}, option);
  expect_refusal({"profile", f.folder / "none.keras"}, "none.keras");
  expect_refusal({"profile", f.model, "--x", f.folder / "none.npy"}, "none.npy");
  expect_refusal({"profile", f.model, "--trace", f.folder / "no/t.json"}, "there is no folder");
  expect_refusal({"profile", f.model, "--html", f.folder / "."}, "is a folder");
  Files::write(f.x, zeros({0, 8, 8, 1}));
  expect_refusal({"profile", f.model, "--x", f.x}, "there are no samples");
  Files::write(f.x, zeros({4, 9, 8, 1}));
  expect_refusal({"profile", f.model, "--x", f.x}, "expected (None, 8, 8, 1)");
  Sequential({to_layer(Input({-1, 4})), Dense({.units = 2})}).save(f.model);
  expect_refusal({"profile", f.model}, "expected inputs by --x");
}

}  // namespace
}  // namespace evenflow::cli
