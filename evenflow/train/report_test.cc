// SPDX-License-Identifier: Apache-2.0
// Reports, charts, and the looking into a model that feeds them.
#include "evenflow/train/report.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "evenflow/evenflow.h"
#include "evenflow/train/chart_scale.h"
#include "evenflow/train/probe.h"

namespace evenflow {
namespace {
using testing::DoubleEq;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN(),
                 kInf = std::numeric_limits<double>::infinity();

size_t count(const std::string& s, const std::string& what) {
  size_t n = 0;
  for (size_t at = s.find(what); at != s.npos; at = s.find(what, at + 1)) ++n;
  return n;
}

// numpy.quantile([3, 1, 4, 1, 5, 9, 2, 6], [0, .15, .5, .85, 1]) of NumPy 2
TEST(Quantiles, are_numpys) {
  EXPECT_THAT(
      quantiles({3, 1, 4, 1, 5, 9, 2, 6}, {0, 0.15, 0.5, 0.85, 1}),
      ElementsAre(1, testing::DoubleNear(1.05, 1e-12), 3.5, testing::DoubleNear(5.95, 1e-12), 9));
  EXPECT_THAT(quantiles({7}, {0.15, 0.85}), ElementsAre(7, 7));
  EXPECT_THROW(quantiles({}, {0.5}), Error);
}

TEST(Scale, ticks_are_round_and_inside) {
  EXPECT_THAT(ticks({0, 1}, 5), ElementsAre(0, DoubleEq(0.2), DoubleEq(0.4),
                                            DoubleEq(0.6000000000000001), DoubleEq(0.8), 1));
  EXPECT_THAT(ticks({1, 8}, 7), ElementsAre(1, 2, 3, 4, 5, 6, 7, 8));
  EXPECT_THAT(ticks({-3, 40}, 4), ElementsAre(0, 20, 40));
  EXPECT_EQ(tick_text(0.25, 0.05, true), "25 %");
  EXPECT_EQ(tick_text(0.985, 0.005, true), "98.5 %");
  EXPECT_EQ(tick_text(-0.0, 0.5, false), "0.0");
  EXPECT_EQ(tick_text(200, 100, false), "200");
}
TEST(Scale, what_is_not_finite_has_no_part_in_a_range) {
  const LineChart c{"t", "x", "y", {{"a", {1, 2, 3}, {kNaN, 5, kInf}}}};
  const Range r = y_range(c);
  EXPECT_LT(r.low, 5);
  EXPECT_GT(r.high, 5);
  EXPECT_LT(r.high - r.low, 2);
  const Range none = y_range({"t", "x", "y", {{"a", {1}, {kNaN}}}});
  EXPECT_LT(none.low, none.high);
}

TEST(ChartText, a_line_runs_along_the_top) {
  const LineChart c{.title = "t",
                    .x_label = "epoch",
                    .y_label = "y",
                    .series = {{"a", {0, 1}, {1, 1}, 1, false}},
                    .y_min = 0,
                    .y_max = 1};
  const std::string s = chart_text(c, 4, 2, false);
  EXPECT_THAT(s, HasSubstr("⠉⠉⠉⠉\n"));  // the two uppermost dots of each character
  EXPECT_THAT(s, HasSubstr("    \n"));
  EXPECT_THAT(s, HasSubstr("epoch\n"));
  EXPECT_THAT(s, HasSubstr("── a"));
  EXPECT_THAT(s, Not(HasSubstr("\x1b")));
  EXPECT_THAT(chart_text(c, 4, 2, true), HasSubstr("\x1b[36m"));
  EXPECT_THROW(chart_text(c, 1, 2, false), Error);
}
TEST(ChartText, a_heat_map_is_numbers) {
  const HeatMap m{"t", "rate", "scale", {"0.1", "1"}, {"2"}, {0.984, kNaN}};
  EXPECT_EQ(chart_text(m, false),
            "  t\n"
            "  scale    0.1     1  rate\n"
            "      2     98     ×\n");
}
TEST(ChartText, images_stand_side_by_side) {
  EXPECT_EQ(images_text({{1, 2, {0, 1}, "7", "99 %", false}, {1, 2, {0.5, 0.3f}, "1", "x", false}}),
            "    ██  ▒▒░░ \n"
            "  7     1\n"
            "  99 %  x\n");
}

TEST(ChartHtml, lines_break_where_a_value_is_not_finite) {
  const std::string s =
      chart_html(LineChart{"<t>", "x", "y", {{"a", {1, 2, 3, 4, 5}, {1, 2, kNaN, 2, kInf}}}});
  EXPECT_EQ(count(s, "<circle"), 3u);
  const size_t at = s.find("class=\"line c0\" d=\"");
  ASSERT_NE(at, s.npos);
  EXPECT_EQ(count(s.substr(at, s.find("/>", at) - at), "M"), 2u);
  EXPECT_THAT(s, HasSubstr("&lt;t&gt;"));
  EXPECT_THAT(s, Not(HasSubstr("nan")));
  EXPECT_THAT(s, Not(HasSubstr("inf")));
}
TEST(ChartHtml, a_diverged_cell_is_marked) {
  const std::string s = chart_html(HeatMap{"t", "x", "y", {"1", "2"}, {"3"}, {1, kNaN}});
  EXPECT_EQ(count(s, "class=\"none\""), 1u);
  EXPECT_EQ(count(s, "rgb(248,228,84)"), 1u);
  EXPECT_THAT(s, HasSubstr("diverged"));
}
TEST(ChartHtml, images_are_paths_of_shades) {
  const std::string s = images_html({{2, 2, {0, 1, 0.5f, 1}, "3, not 5", "61 %", true}});
  EXPECT_THAT(s, HasSubstr("<path opacity=\"1\" d=\"M1 0h1v1h-1zM1 1h1v1h-1z\"/>"));
  EXPECT_THAT(s, HasSubstr("<path opacity=\"0.5\" d=\"M0 1h1v1h-1z\"/>"));
  EXPECT_THAT(s, HasSubstr("class=\"image wrong\""));
}
TEST(Report, is_one_page_that_escapes_what_it_is_given) {
  Report page("a < b", "x & y");
  page.section("s", "\"q\"");
  page.facts({{"98 %", "right", 1}});
  page.table({{"layer", "n"}, {"<l>", "1"}});
  page.code("a && b");
  page.heat_scale("share");
  const std::string s = page.html();
  EXPECT_THAT(s, testing::StartsWith("<!DOCTYPE html>\n<html lang=\"en\">"));
  EXPECT_THAT(s, HasSubstr("<title>a &lt; b</title>"));
  EXPECT_THAT(s, HasSubstr("x &amp; y"));
  EXPECT_THAT(s, HasSubstr("<th scope=\"row\">&lt;l&gt;</th><td>1</td>"));
  EXPECT_THAT(s, HasSubstr("prefers-color-scheme:dark"));
  EXPECT_THAT(s, Not(HasSubstr("http")));
}

TEST(Report, only_a_page_with_a_sortable_table_has_a_script) {
  Report page("t", "l");
  page.table({{"layer", "n"}, {"a", "1"}});
  EXPECT_THAT(page.html(), Not(HasSubstr("<script>")));
  page.table({{"layer", "n"}, {"a", "1"}}, true);
  EXPECT_THAT(page.html(), HasSubstr("<th><button type=\"button\">n</button></th>"));
  EXPECT_THAT(page.html(), HasSubstr("<script>"));
}

// ---- looking into a model

Sequential small() {
  set_random_seed(5);
  return Sequential({to_layer(Input({2})), Dense({.units = 3, .name = "d"}),
                     BatchNormalization({.momentum = 0.5, .name = "n"}), ReLU({.name = "r"})});
}
const Tensor& points() {
  static const Tensor x = tensor(std::vector<float>{1, 2, -1, 0, 3, -2, 0, 1}, {4, 2});
  return x;
}

TEST(Probe, sees_what_a_layer_receives_and_changes_nothing) {
  const Sequential model = small();
  const Tensor dense = model.get_layer("d")(points());
  const Tensors seen = layer_inputs(model, {"n", "d"}, points(), {.training = true});
  EXPECT_EQ(seen[0].to_vector(), dense.to_vector());
  EXPECT_EQ(seen[1].to_vector(), points().to_vector());
  for (auto& w : model.get_layer("n").weights()) {
    const bool ones = w.name == "gamma" || w.name == "moving_variance";
    EXPECT_EQ(w.variable.read().to_vector(), std::vector<float>(3, ones ? 1.f : 0.f)) << w.name;
  }
  EXPECT_THROW(layer_inputs(model, {"nobody"}, points()), Error);
}
TEST(Probe, in_training_a_layer_after_batch_norm_receives_normalised_values) {
  const Tensor r = layer_inputs(small(), {"r"}, points(), {.training = true})[0];
  const std::vector<double> v = r.to_vector<double>();
  for (size_t c = 0; c < 3; ++c) {
    double mean = 0;
    for (size_t i = 0; i < 4; ++i) mean += v[i * 3 + c] / 4;
    EXPECT_NEAR(mean, 0, 1e-6);
  }
}
TEST(Probe, moving_and_batch_statistics_agree_after_one_full_batch) {
  const Sequential model = small();
  model.compile({.optimizer = SGD({.learning_rate = 0}), .loss = "mse"});
  model.fit(points(), zeros({4, 3}), {.batch_size = 4, .verbose = 0});
  const std::vector<BatchNormReading> all = read_batch_norms(model, points());
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].layer, "n");
  EXPECT_EQ(all[0].updates, 1);
  const std::vector<double> d = model.get_layer("d")(points()).to_vector<double>();
  for (size_t c = 0; c < 3; ++c) {
    double mean = 0, variance = 0;
    for (size_t i = 0; i < 4; ++i) mean += d[i * 3 + c] / 4;
    for (size_t i = 0; i < 4; ++i) variance += (d[i * 3 + c] - mean) * (d[i * 3 + c] - mean) / 4;
    EXPECT_NEAR(all[0].batch_mean[c], mean, 1e-12);
    EXPECT_NEAR(all[0].batch_variance[c], variance, 1e-12);
    EXPECT_NEAR(all[0].moving_mean[c], mean, 1e-6);
    EXPECT_NEAR(all[0].moving_variance[c], variance, 1e-5);
  }
}
TEST(Probe, percentiles_are_recorded_while_it_trains_and_do_not_disturb) {
  std::vector<std::vector<float>> weights;
  for (bool watched : {false, true}) {
    const Sequential model = small();
    model.compile({.optimizer = "sgd", .loss = "mse"});
    auto recorder = std::make_shared<PercentileRecorder>("r", points(), 2);
    FitOptions o{.batch_size = 1, .epochs = 2, .verbose = 0, .shuffle = false};
    if (watched) o.callbacks = {recorder};
    model.fit(points(), zeros({4, 3}), o);
    weights.emplace_back();
    for (auto& w : model.weights())
      for (float v : w.variable.read().to_vector()) weights.back().push_back(v);
    if (!watched) continue;
    EXPECT_THAT(recorder->steps, ElementsAre(0, 2, 4, 6, 8));
    ASSERT_EQ(recorder->units.size(), 3u);
    for (auto& u : recorder->units)
      for (size_t i = 0; i < 5; ++i) {
        EXPECT_LE(u.low[i], u.middle[i]);
        EXPECT_LE(u.middle[i], u.high[i]);
      }
    EXPECT_LT(recorder->typical(), 3u);
  }
  EXPECT_EQ(weights[0], weights[1]);
  EXPECT_THROW(PercentileRecorder("r", points(), 0), Error);
}

}  // namespace
}  // namespace evenflow
