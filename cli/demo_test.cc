// SPDX-License-Identifier: Apache-2.0
// A short demo: what it prints, what it writes, what its report shows.
#include <gmock/gmock.h>

#include <regex>

#include "cli/command_testing.h"
#include "evenflow/evenflow.h"
#include "evenflow/format/npy.h"

namespace evenflow::cli {
namespace {
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

size_t count(const std::string& s, const std::string& what) {
  size_t n = 0;
  for (size_t at = s.find(what); at != s.npos; at = s.find(what, at + 1)) ++n;
  return n;
}

TEST(Demo, shows_trains_saves_and_reports) {
  Folder folder;
  const std::string out = folder / "demo";
  const Said s =
      evenflow({"demo", "--epochs", "2", "--sweep", "small", "--seed", "4", "--out", out});
  ASSERT_EQ(s.status, 0) << s.err;
  EXPECT_THAT(s.err, testing::IsEmpty());
  EXPECT_THAT(s.out, AllOf(HasSubstr("Evenflow " EVENFLOW_VERSION " on cpu"),
                           HasSubstr("Model: \"digits\""), HasSubstr("CC BY 4.0"),
                           HasSubstr("seed 4"), HasSubstr("18 short trainings")));
  EXPECT_THAT(s.out, AllOf(HasSubstr("Accuracy on the test digits"),
                           HasSubstr("With batch normalisation"), HasSubstr("the same bits")));
  // Keras's line at the end of each of two epochs of two nets.
  const std::regex line(
      R"(45/45 (?:━)+ \d+s \d+[mu]?s/step - accuracy: 0\.\d{4} - loss: \d\.\d{4} - val_accuracy: 0\.\d{4} - val_loss: \d\.\d{4}\n)");
  EXPECT_EQ(std::distance(std::sregex_iterator(s.out.begin(), s.out.end(), line), {}), 4);

  const std::string page = contents(out + "/report.html");
  // Two line charts, two heat maps, two percentile charts, two scatter charts.
  EXPECT_EQ(count(page, "<div class=\"chart\">"), 8u);
  EXPECT_EQ(count(page, "class=\"cell "), 18u);
  EXPECT_EQ(count(page, "<path class=\"area "), 2u);
  EXPECT_EQ(count(page, "<tr><th scope=\"row\">batch_norm_"), 4u);
  EXPECT_GE(count(page, "<div class=\"image"), 24u);
  // A point for each channel of each layer in both scatter charts: 32 + 32 + 64 + 64.
  EXPECT_EQ(count(page, "<circle class=\"point "), 2u * 192);
  for (const char* tag : {"div", "svg", "g", "text", "title", "table", "tr", "p", "h2", "h3"})
    EXPECT_EQ(count(page, "<" + std::string(tag) + ">") + count(page, "<" + std::string(tag) + " "),
              count(page, "</" + std::string(tag) + ">"))
        << tag;
  // Nothing comes from elsewhere, and no number went wrong.
  for (const char* text : {"http", "src=", "url(", "@import", "<script", "<link", "nan", "inf "})
    EXPECT_THAT(page, Not(HasSubstr(text)));
  EXPECT_THAT(page, HasSubstr("doi:10.24432/C50P49"));

  // What was saved is what the other commands take.
  const Said e = evenflow({"evaluate", out + "/digits.keras", "--x", out + "/x.npy", "--y",
                           out + "/y.npy", "--loss", "sparse_categorical_crossentropy"});
  ASSERT_EQ(e.status, 0) << e.err;
  std::smatch last;
  std::string rest = s.out;
  std::string accuracy;
  const std::regex value(R"(val_accuracy: (\d\.\d{4}))");
  for (; std::regex_search(rest, last, value); rest = last.suffix()) accuracy = last[1];
  std::smatch evaluated;
  ASSERT_TRUE(std::regex_search(e.out, evaluated, std::regex(R"(accuracy: (\S+))")));
  EXPECT_NEAR(std::stod(evaluated[1]), std::stod(accuracy), 6e-5);
  const Model saved = load_model(out + "/digits.keras");
  for (auto& l : saved.layers()) {
    if (auto* b = dynamic_cast<const BatchNormalizationImpl*>(l.impl().get())) {
      EXPECT_EQ(b->update_count.read().item(), 90);
    }
  }
}
TEST(Demo, the_same_seed_draws_the_same_curves) {
  Folder folder;
  std::vector<std::string> curves;
  for (const char* name : {"a", "b"}) {
    const Said s = evenflow({"demo", "--epochs", "1", "--sweep", "none", "--out", folder / name});
    ASSERT_EQ(s.status, 0) << s.err;
    std::string values;
    const std::regex value(R"(loss: \d\.\d{4})");
    for (std::sregex_iterator i(s.out.begin(), s.out.end(), value), end; i != end; ++i)
      values += i->str() + "\n";
    curves.push_back(values);
  }
  EXPECT_EQ(count(curves[0], "loss"), 4u);
  EXPECT_EQ(curves[0], curves[1]);
}
TEST(Demo, refuses_a_place_where_nothing_can_be_written) {
  Folder folder;
  std::ofstream(folder / "file") << "here";
  const Said s = evenflow({"demo", "--out", folder / "file"});
  EXPECT_EQ(s.status, 1);
  EXPECT_THAT(s.err, HasSubstr("there is no folder"));
  EXPECT_EQ(evenflow({"demo", "--epochs", "0"}).status, 2);
  EXPECT_EQ(evenflow({"demo", "--sweep", "wide"}).status, 2);
}
TEST(Demo, an_interrupt_in_the_sweep_ends_it) {
  Folder folder;
  Process p({EVENFLOW_COMMAND, "demo", "--epochs", "1", "--out", folder / "demo"});
  ASSERT_TRUE(p.await("short trainings"));
  p.interrupt();
  EXPECT_EQ(p.wait().signal, SIGINT);
  EXPECT_FALSE(std::filesystem::exists(folder / "demo/report.html"));
}

}  // namespace
}  // namespace evenflow::cli
