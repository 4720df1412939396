// SPDX-License-Identifier: Apache-2.0
// The laboratory's tools, and a tiny run of each experiment: what they measure is no test's
// business.
#include "evenflow/lab/lab.h"

#include <gmock/gmock.h>

#include <atomic>
#include <cmath>
#include <filesystem>
#include <limits>

#include "evenflow/core/parallel.h"
#include "evenflow/format/file.h"
#include "evenflow/format/npy.h"
#include "evenflow/graph/compile.h"
#include "evenflow/lab/bench.h"
#include "evenflow/ops/elementwise.h"

namespace evenflow::lab {
namespace {
using testing::ElementsAre;
using testing::HasSubstr;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST(Lab, JobsRunOnceEach) {
  const int threads = thread_count();
  std::vector<std::atomic<int>> times(37);
  size_t told = 0;
  run_jobs(
      times.size(), [&](size_t i) { ++times[i]; }, [&](size_t) { ++told; });
  for (auto& t : times) EXPECT_EQ(t, 1);
  EXPECT_EQ(told, times.size());
  EXPECT_THROW(run_jobs(5,
                        [](size_t i) {
                          if (i == 3) fail({"three"});
                        }),
               Error);
  EXPECT_EQ(thread_count(), threads);
  run_jobs(0, [](size_t) { FAIL(); });
}
TEST(Lab, Spreads) {
  const Spread s({1, 2, 3, 4});  // NumPy: mean 2.5, std(ddof=1) 1.2909944487358056
  EXPECT_DOUBLE_EQ(s.mean, 2.5);
  EXPECT_NEAR(s.deviation, 1.2909944487358056, 1e-12);
  EXPECT_EQ(s.text("%.1f"), "2.5 ± 1.3");
  EXPECT_EQ(Spread({kInfinity, kInfinity}).text(), "never");
  EXPECT_EQ(Spread({3, kInfinity}).text(), "not always");
  EXPECT_EQ(median({5, 1, 3}), 3);
  EXPECT_EQ(median({4, 1, 3, 2}), 2.5);
  EXPECT_EQ(median({1, kInfinity, kInfinity, kInfinity}), kInfinity);
  EXPECT_TRUE(json(kInfinity).is_null());
}
TEST(Lab, CurvesKnowWhenTheyArrive) {
  const Curve c{{0, 10, 20, 30}, {0.1, 0.8, 0.7, 0.9}, {3, 1, 1, 1}};
  EXPECT_EQ(c.steps_to(0.75), 10);
  EXPECT_EQ(c.steps_to(0.95), kInfinity);
  EXPECT_EQ(c.best(), 0.9);
  EXPECT_EQ(c.last(), 0.9);
}
// The same kernels and the same order, so that nothing else differs.
TEST(Lab, BothFormsBeginAlike) {
  Net plain, normed;
  normed.norm = Net::batch;
  const Sequential a = plain.make(3), b = normed.make(3), c = plain.make(4);
  for (auto* m : {&a, &b, &c}) m->build({-1, 8, 8, 1});
  auto kernels = [](const Model& m) {
    std::vector<std::vector<float>> k;
    for (auto& w : m.weights())
      if (w.name == "kernel") k.push_back(w.variable.read().to_vector());
    return k;
  };
  EXPECT_EQ(kernels(a), kernels(b));
  EXPECT_NE(kernels(a), kernels(c));
  EXPECT_EQ(kernels(a).size(), 4u);
}
TEST(Lab, TrainingIsAFunctionOfItsSeed) {
  Options o = digits();
  const Bench bench(o);
  const Training t{.rate = 1, .batch = 60, .steps = 30, .every = 10};
  const Curve a = bench.train(Net{}.make(1), t, 1), b = bench.train(Net{}.make(1), t, 1),
              c = bench.train(Net{}.make(2), t, 2);
  EXPECT_EQ(a.loss, b.loss);
  EXPECT_NE(a.loss, c.loss);
  EXPECT_THAT(a.step, ElementsAre(0, 10, 20, 30));
}
TEST(Lab, DivergenceEndsATraining) {
  Options o = digits();
  Net net;
  net.activation = "relu";
  net.deviation = 1e20;
  const Curve c = Bench(o).train(net.make(1), {.rate = 1e10, .steps = 50}, 1);
  EXPECT_TRUE(c.diverged);
  EXPECT_EQ(c.last(), 0);
}

// R6: parts of a batch, normalised together or each by itself.
TEST(Lab, ExactMicroBatchesTrainAsTheWholeBatch) {
  Options o = digits();
  const Bench bench(o);
  Net net;
  net.norm = Net::batch;
  const Training whole{.rate = 0.1, .batch = 32, .steps = 20, .every = 10};
  Training parts = whole;
  parts.micro_batch = 2;
  Training exact = parts;
  exact.exact = true;
  const Curve a = bench.train(net.make(1), whole, 1), b = bench.train(net.make(1), parts, 1),
              c = bench.train(net.make(1), exact, 1);
  for (size_t i = 0; i < a.loss.size(); ++i) EXPECT_NEAR(c.loss[i], a.loss[i], 1e-3 * a.loss[i]);
  EXPECT_GT(std::abs(b.loss[2] - a.loss[2]), 1e-2 * a.loss[2]);
}
TEST(Lab, SynchronizedRanksTrainAsTheWholeBatch) {
  Options o = digits();
  const Bench bench(o);
  Net net;
  net.norm = Net::batch;
  const Training whole{.rate = 0.1, .batch = 32, .steps = 20, .every = 20};
  const double want = bench.train(net.make(1), whole, 1).loss.back();
  Training shared = whole;
  shared.ranks = 4;
  EXPECT_GT(std::abs(bench.train_over_ranks(net, shared, 1).loss.back() - want), 1e-3 * want);
  net.batch_norm.synchronized = true;
  EXPECT_NEAR(bench.train_over_ranks(net, shared, 1).loss.back(), want, 1e-4 * want);
}
TEST(Lab, HesKernels) {  // He et al. 2015, equation 10: the deviation is the root of 2 / inputs
  Net net;
  net.deviation = 0;
  const Sequential m = net.make(1);
  m.build({-1, 8, 8, 1});
  std::vector<double> deviations;
  for (auto& w : m.weights())
    if (w.name == "kernel")
      deviations.push_back(Spread(w.variable.read().to_vector<double>()).deviation);
  ASSERT_EQ(deviations.size(), 4u);
  EXPECT_NEAR(deviations[0], std::sqrt(2. / 64), 0.01);
  for (size_t i = 1; i < 4; ++i) EXPECT_NEAR(deviations[i], std::sqrt(2. / 100), 0.01);
}

// Few digits, one seed: that every experiment runs, reports and says what it has seen.
TEST(Lab, EveryExperimentReports) {
  Options o = digits();
  o.train = o.train.take(240), o.test = o.test.take(60);
  o.quick = true, o.seeds = 1, o.steps = 20;
  int told = 0;
  const Passes passes = default_passes();
  set_default_passes(Passes::all);  // R8 recomputes by one
  const auto outcomes = run(choose({"all"}), o, [&](const Outcome&) { ++told; });
  set_default_passes(passes);
  ASSERT_EQ(outcomes.size(), 8u);
  EXPECT_EQ(told, 8);
  const std::string html = report_html(outcomes, o, "evenflow lab --seed 1");
  const format::Json j = report_json(outcomes, o);
  EXPECT_EQ(j["experiments"].size(), 8u);
  for (size_t i = 0; i < 8; ++i) {
    SCOPED_TRACE(outcomes[i].id);
    EXPECT_EQ(j["experiments"][i]["id"], concat({"R", i + 1}));
    ASSERT_FALSE(outcomes[i].claims.empty());
    for (auto& c : outcomes[i].claims) {
      EXPECT_THAT(html, HasSubstr(html_text(c.says)));
      EXPECT_THAT(html, HasSubstr(html_text(c.seen)));
    }
  }
  EXPECT_THAT(html, HasSubstr("BN-x30"));
  EXPECT_THAT(html, testing::Not(HasSubstr("<script")));
  EXPECT_THAT(html, testing::Not(HasSubstr("http://")));
  EXPECT_THAT(j["experiments"][1]["data"].dump(), HasSubstr("relu"));
  for (const char* arm : {"accumulated", "accumulated, exact"})
    EXPECT_TRUE(j["experiments"][5]["data"].contains(arm)) << arm;
  EXPECT_THAT(html, HasSubstr("Recomputed activations."));
  // Of R8 everything holds whatever the data: it is promised.
  for (auto& c : outcomes[7].claims) EXPECT_TRUE(c.holds) << c.says << " " << c.seen;
}
TEST(Lab, ChoosesByName) {
  EXPECT_EQ(choose({"R3", "R1"}).size(), 2u);
  EXPECT_STREQ(choose({"R3", "R1"})[0].id, "R1");
  EXPECT_THROW(choose({"R9"}), Error);
}

// ---- MNIST from files
std::string temporary(const std::string& name) {
  return testing::TempDir() + "evenflow_lab_" + name;
}
// Digit i has label i % 10 and one bright pixel, i.
std::string csv(bool label_first, const char* end = "\n") {
  std::string s;
  for (int i = 0; i < 20; ++i) {
    std::string pixels;
    for (int k = 0; k < 784; ++k) pixels += (k ? "," : "") + std::to_string(k == i ? 255 : 0);
    const std::string label = std::to_string(i % 10);
    s += (label_first ? label + "," + pixels : pixels + "," + label) + end;
  }
  return s;
}
void expect_digits(const Options& o) {
  EXPECT_EQ(o.train.size(), 15);
  EXPECT_EQ(o.test.size(), 5);
  for (const Dataset& d : {o.train, o.test}) {
    const Tensors all = d.all();
    EXPECT_EQ(all[0].shape(), Shape({d.size(), 28, 28, 1}));
    const auto x = all[0].to_vector();
    const auto y = all[1].to_vector<int64_t>();
    for (size_t i = 0; i < y.size(); ++i) {
      const long bright =
          std::max_element(x.begin() + long(i * 784), x.begin() + long(i * 784 + 784)) - x.begin() -
          long(i * 784);
      EXPECT_EQ(bright % 10, y[i]);
      EXPECT_EQ(x[i * 784 + size_t(bright)], 1);
    }
  }
}
TEST(Mnist, LabelFirstOrLast) {
  for (const bool first : {true, false})
    for (const char* end : {"\n", "\r\n"}) {
      format::write_file_atomically(temporary("m.csv"), csv(first, end));
      expect_digits(mnist(temporary("m.csv"), 0.25));
    }
}
TEST(Mnist, Npy) {
  std::vector<float> v(20 * 785);
  for (size_t i = 0; i < 20; ++i) v[i * 785] = float(i % 10), v[i * 785 + 1 + i] = 255;
  const Tensor t = tensor(v, {20, 785});
  format::write_npy(temporary("m.npy"), {t.sig(), t.buffer()});
  expect_digits(mnist(temporary("m.npy"), 0.25));
}
TEST(Mnist, RefusesWhatIsNoMnist) {
  auto why = [](const std::string& text) -> std::string {
    format::write_file_atomically(temporary("bad.csv"), text);
    try {
      mnist(temporary("bad.csv"));
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::DataLoss);
      return e.what();
    }
    return "nothing was refused";
  };
  EXPECT_THAT(why("a,b"), HasSubstr("line 1 holds \"a\""));
  EXPECT_THAT(why("1,2,3\n"), HasSubstr("line 1 has 3 numbers, expected 785"));
  EXPECT_THAT(why(csv(true).substr(0, 3000)), HasSubstr("expected 785"));
  EXPECT_THAT(why(""), HasSubstr("holds 0 digits"));
  std::string text = csv(true);
  text.replace(text.find("255"), 3, "256");
  EXPECT_THAT(why(text), HasSubstr("has a pixel of 256"));
}

}  // namespace
}  // namespace evenflow::lab
