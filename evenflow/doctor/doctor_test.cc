// SPDX-License-Identifier: Apache-2.0
// The declarations of the checks, what examine() refuses, and how a diagnosis reads.
#include "evenflow/doctor/doctor.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "evenflow/doctor/doctor_testing.h"
#include "evenflow/doctor/examination.h"

namespace evenflow::doctor {
namespace {
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// ---- the declarations ----
TEST(Checks, are_all_there_and_say_everything) {
  std::vector<std::string> have;
  for (auto& c : checks()) {
    have.push_back(c.id);
    for (const char* text : {c.check.name, c.check.looks_for, c.check.why, c.check.advice})
      EXPECT_GT(std::string_view(text ? text : "").size(), 3u) << c.id;
    EXPECT_TRUE(c.check.run) << c.id;
  }
  EXPECT_THAT(have,
              ElementsAre("S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "T1", "T2",
                          "T3", "T4", "T5", "T6", "T7", "T8", "T9", "D1", "D2", "D3", "D4", "D5"));
}
TEST(Checks, run_where_they_have_what_they_need) {
  const Model m = small_net(0);
  const Diagnosis d = examine(m);
  EXPECT_EQ(d.ran.size() + d.skipped.size(), checks().size());
  EXPECT_THAT(d.ran, Not(Contains("D3")));
  EXPECT_THAT(examine(m, {.x = digits(8).x}).ran, Contains("D3"));
  EXPECT_THAT(examine(m, {.only = {"S1"}}).ran, ElementsAre("S1"));
}
TEST(Examine, refuses_with_the_reason) {
  auto refused = [](auto f) -> std::string {
    try {
      f();
    } catch (const Error& e) {
      return concat({str(e.code()), ": ", e.what()});
    }
    return "";
  };
  const Model m = small_net(0);
  const Tensor x = digits(4).x;
  EXPECT_THAT(refused([&] { examine(Sequential({conv(2)})); }), HasSubstr("not built"));
  EXPECT_THAT(refused([&] {
                examine(m, {.x = zeros({4, 9, 9, 1})});
              }),
              AllOf(HasSubstr("[4,9,9,1]"), HasSubstr("(None, 8, 8, 1)")));
  EXPECT_THAT(refused([&] { examine(m, {.x = zeros({0, 8, 8, 1})}); }), HasSubstr("one sample"));
  EXPECT_THAT(refused([&] { examine(m, {.y = x}); }), HasSubstr("without x"));
  EXPECT_THAT(refused([&] { examine(m, {.x = x, .batch_size = 0}); }),
              HasSubstr("batch_size is 0"));
  EXPECT_THAT(refused([&] { examine(m, {.only = {"S99"}}); }),
              AllOf(HasSubstr("S99"), HasSubstr("S1, S2"), HasSubstr("D5")));
}
TEST(Examine, changes_nothing) {
  const Model m = small_net(1);
  std::vector<std::vector<double>> before;
  for (auto& w : m.weights()) before.push_back(get(w.variable));
  const double count = norm(m, "first").update_count.read().item();
  examine(m, with_data(96));
  for (size_t i = 0; i < before.size(); ++i) EXPECT_EQ(get(m.weights()[i].variable), before[i]);
  EXPECT_EQ(norm(m, "first").update_count.read().item(), count);
}

// ---- what it says ----
TEST(Diagnosis, json_has_everything_a_program_needs) {
  const Model m = small_net();
  auto b = get(norm(m, "first").beta);
  b[3] = -20;
  set(norm(m, "first").beta, b);
  const auto j = nlohmann::json::parse(diagnosis_json(examine(m, with_data(96))));
  EXPECT_EQ(j["healthy"], false);
  EXPECT_EQ(j["findings"][0]["id"], "T9");
  EXPECT_EQ(j["findings"][0]["channels"], nlohmann::json({3}));
  EXPECT_EQ(j["layers"][0]["dead"], nlohmann::json({3}));
  EXPECT_EQ(j["layers"][1]["data_mean"].size(), 16u);
  EXPECT_TRUE(j["loss"]["stored"].is_number());
}
TEST(Diagnosis, the_page_is_self_contained_and_shows_every_layer) {
  const Model m = small_net();
  const std::string page = diagnosis_html(examine(m, with_data(96)));
  EXPECT_THAT(page, AllOf(StartsWith("<!DOCTYPE html>"), HasSubstr("<h2>first</h2>"),
                          HasSubstr("<h2>second</h2>"), HasSubstr("Who is guilty of the gap"),
                          HasSubstr("the stored averages"), HasSubstr("Share of x")));
  for (const char* outside : {"http:", "https:", "<script", "src=", "<link", "url("})
    EXPECT_THAT(page, Not(HasSubstr(outside)));
  const std::string bare = diagnosis_html(examine(m));
  EXPECT_THAT(bare, AllOf(HasSubstr("Without data only what is stored"), HasSubstr("Not checked"),
                          Not(HasSubstr("<svg"))));
}
TEST(Diagnosis, text_names_layer_channels_and_what_to_do) {
  const Model m = small_net();
  auto b = get(norm(m, "first").beta);
  b[3] = -20;
  set(norm(m, "first").beta, b);
  const std::string s = diagnosis_text(examine(m));
  EXPECT_THAT(
      s, AllOf(StartsWith("warning T9 dead_relu, layer first"), HasSubstr("channels: 3\n"),
               HasSubstr("what to do: "), HasSubstr("not healthy"), HasSubstr("not checked: ")));
}
TEST(Diagnosis, the_manual_has_the_table_of_the_declarations) {
  std::ifstream in(EVENFLOW_SOURCE_DIR "/docs/doctor.md");
  std::stringstream page;
  page << in.rdbuf();
  EXPECT_NE(page.str().find(checks_table()), std::string::npos)
      << "the table is what `build/evenflow doctor --checks` prints";
}

}  // namespace
}  // namespace evenflow::doctor
