// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/bank.h"

#include <gmock/gmock.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "evenflow/data/digits.h"
#include "evenflow/format/file.h"
#include "evenflow/format/npz.h"
#include "evenflow/model/layers.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/reduce.h"

namespace evenflow::doctor {
namespace {
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Tensor digits(int64_t n, int64_t skip = 0) { return data::digits().skip(skip).take(n).all()[0]; }
Tensors labelled(int64_t n, int64_t skip) { return data::digits().skip(skip).take(n).all(); }
BatchNormalizationImpl& norm(const Model& m, const std::string& name) {
  return static_cast<BatchNormalizationImpl&>(*m.get_layer(name).impl());
}
std::vector<double> get(const Variable& v) { return v.read().to_vector<double>(); }
Model net() {
  set_random_seed(21);
  const Sequential m({to_layer(Input({8, 8, 1})),
                      Conv2D({.filters = 4, .kernel_size = 3, .padding = "same"}),
                      BatchNormalization({.name = "first"}), ReLU(),
                      Conv2D({.filters = 6, .kernel_size = 3, .padding = "same"}),
                      BatchNormalization({.name = "second"}), ReLU(), Flatten(),
                      Dense({.units = 10, .activation = "softmax", .name = "class"})});
  recalibrate(m, digits(200));
  return m;
}
template <class F>
std::pair<Code, std::string> refused(F f) {
  try {
    f();
  } catch (const Error& e) {
    return {e.code(), e.what()};
  }
  ADD_FAILURE() << "nothing was refused";
  return {Code::Internal, ""};
}
struct TemporaryFile {
  std::string path = testing::TempDir() + "evenflow_bank_test.npz";
  ~TemporaryFile() { std::filesystem::remove(path); }
};

TEST(Bank, what_was_captured_comes_back) {
  const Model m = net();
  StatisticsBank bank;
  bank.capture("a", m);
  const auto mean = get(norm(m, "first").moving_mean), gamma = get(norm(m, "first").gamma);
  recalibrate(m, digits(100, 500) * 2);
  bank.capture("b", m, {.affine = true});
  EXPECT_THAT(bank.names(), ElementsAre("a", "b"));
  EXPECT_NE(get(norm(m, "first").moving_mean), mean);
  norm(m, "first").gamma.assign(full({4}, 3));
  bank.apply("a", m);
  EXPECT_EQ(get(norm(m, "first").moving_mean), mean);
  EXPECT_EQ(get(norm(m, "first").gamma), std::vector<double>(4, 3.)) << "a shares gamma";
  bank.apply("b", m);
  EXPECT_EQ(get(norm(m, "first").gamma), gamma) << "b has its own";
  bank.erase("a");
  EXPECT_THAT(bank.names(), ElementsAre("b"));
}
// (N m_s + n m_t) / (N + n) for means and for second moments, in f64 from the pixels themselves.
TEST(Bank, adapting_shrinks_means_and_second_moments_towards_the_source) {
  const Sequential m({to_layer(Input({8, 8, 1})), BatchNormalization({.name = "n"})});
  recalibrate(m, digits(300));
  const double ms = get(norm(m, "n").moving_mean)[0], vs = get(norm(m, "n").moving_variance)[0];
  const Tensor x = digits(20, 900) * 2 + 1;
  const std::vector<double> v = x.to_vector<double>();
  double mt = 0, second = 0;
  for (double p : v) mt += p / double(v.size()), second += p * p / double(v.size());
  for (double prior : {0., 16., 1000.}) {
    StatisticsBank bank;
    const auto moved = bank.adapt("dark", m, x, {.prior = prior, .batch_size = 8});
    const double n = 20, mean = (prior * ms + n * mt) / (prior + n),
                 moment = (prior * (vs + ms * ms) + n * second) / (prior + n);
    const auto& l = bank.at("dark").at("n");
    EXPECT_NEAR(l.mean[0], mean, 1e-6);
    EXPECT_NEAR(l.variance[0], moment - mean * mean, 1e-6);
    EXPECT_EQ(moved[0].layer, "n");
    EXPECT_GT(moved[0].divergence, 0);
  }
  EXPECT_EQ(get(norm(m, "n").moving_mean)[0], ms) << "the model stays as it is";
}
TEST(Bank, without_a_prior_it_is_recalibration) {
  const Model m = net(), other = net();
  StatisticsBank bank;
  bank.adapt("t", m, digits(64, 700) * 3, {.prior = 0, .batch_size = 10});
  recalibrate(other, digits(64, 700) * 3);
  for (const char* name : {"first", "second"}) {
    const auto want = get(norm(other, name).moving_variance);
    for (size_t c = 0; c < want.size(); ++c)
      EXPECT_NEAR(bank.at("t").at(name).variance[c], want[c], 1e-5 * want[c] + 1e-7);
  }
}
TEST(Bank, adapting_may_start_from_a_set) {
  const Model m = net();
  StatisticsBank bank;
  bank.adapt("night", m, digits(50) * 0.2f, {.prior = 0});
  bank.adapt("still night", m, digits(1), {.prior = 1e9, .source = "night"});
  for (const char* name : {"first", "second"}) {
    const auto &a = bank.at("night").at(name), &b = bank.at("still night").at(name);
    for (size_t c = 0; c < a.mean.size(); ++c) EXPECT_NEAR(b.mean[c], a.mean[c], 1e-6);
  }
}
TEST(Bank, a_set_that_fits_its_domain_predicts_better_there) {
  const Model m = net();
  m.compile({.optimizer = Adam({.learning_rate = 3e-3}),
             .loss = "sparse_categorical_crossentropy",
             .metrics = {"accuracy"}});
  const Tensors t = labelled(800, 0), test = labelled(400, 1000);
  m.fit(t[0], t[1], {.epochs = 4, .verbose = 0, .seed = 1});
  const Tensor dark = test[0] * 0.3f + 0.5f;
  StatisticsBank bank;
  bank.capture("day", m);
  bank.adapt("dark", m, labelled(200, 800)[0] * 0.3f + 0.5f);
  auto accuracy = [&](const std::string& set) {
    const Tensor y = argmax(predict(m, dark, bank, set), 1);
    const auto said = y.to_vector<int64_t>(), is = test[1].to_vector<int64_t>();
    double right = 0;
    for (size_t i = 0; i < is.size(); ++i) right += said[i] == is[i];
    return right / double(is.size());
  };
  EXPECT_LT(accuracy("day"), 0.7);
  EXPECT_GT(accuracy("dark"), accuracy("day") + 0.15);
}
TEST(UseStatistics, holds_for_one_thread_and_one_scope) {
  const Model m = net();
  StatisticsBank bank;
  bank.capture("own", m);
  bank.adapt("other", m, digits(64) * 3, {.prior = 0});
  const Tensor x = digits(40, 100);
  const auto own = m.predict(x).to_vector();
  const auto mean = get(norm(m, "first").moving_mean);
  std::vector<float> other;
  {
    const UseStatistics use(bank, "other", m);
    other = m.predict(x).to_vector();
    EXPECT_NE(other, own);
    EXPECT_EQ(m.predict(x, {.batch_size = 7}).to_vector().size(), own.size());
    std::thread([&] { EXPECT_EQ(m.predict(x).to_vector(), own); }).join();
  }
  EXPECT_EQ(m.predict(x).to_vector(), own);
  EXPECT_EQ(get(norm(m, "first").moving_mean), mean);
  const Model applied = net();
  bank.apply("other", applied);
  const auto want = applied.predict(x).to_vector();
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(other[i], want[i], 1e-6);
  EXPECT_EQ(predict(m, x, bank, "own").to_vector(), own);
}
TEST(UseStatistics, an_error_inside_restores_all) {
  const Model m = net();
  StatisticsBank bank;
  bank.adapt("other", m, digits(64) * 3, {.prior = 0});
  const auto own = m.predict(digits(8)).to_vector();
  EXPECT_EQ(refused([&] {
              predict(m, zeros({2, 3}), bank, "other");
            }).first,
            Code::InvalidArgument);
  EXPECT_EQ(m.predict(digits(8)).to_vector(), own);
}
TEST(UseStatistics, callers_choose_their_sets_at_the_same_time) {
  const Model m = net();
  StatisticsBank bank;
  bank.capture("a", m);
  bank.adapt("b", m, digits(64) * 3, {.prior = 0});
  const Tensor x = digits(16);
  const std::vector<float> want[] = {predict(m, x, bank, "a").to_vector(),
                                     predict(m, x, bank, "b").to_vector()};
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i)
        wrong += predict(m, x, bank, t % 2 ? "b" : "a").to_vector() != want[t % 2];
    });
  for (auto& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
}
TEST(Bank, refuses_with_the_reason) {
  const Model m = net();
  StatisticsBank bank;
  EXPECT_THAT(refused([&] { bank.at("x"); }).second, HasSubstr("captured or adapted"));
  bank.capture("day", m), bank.capture("night", m);
  const auto unknown = refused([&] { predict(m, digits(2), bank, "dawn"); });
  EXPECT_EQ(unknown.first, Code::NotFound);
  EXPECT_THAT(unknown.second, AllOf(HasSubstr("\"dawn\""), HasSubstr("day, night")));
  EXPECT_EQ(refused([&] { bank.adapt("z", m, digits(2), {.source = "dawn"}); }).first,
            Code::NotFound);

  StatisticsBank::Set set = bank.at("day");
  set["second"].mean.pop_back();
  EXPECT_THAT(refused([&] { bank.put("bad", set); }).second,
              AllOf(HasSubstr("second"), HasSubstr("6 numbers"), HasSubstr("5, as the mean")));
  set["second"].variance.pop_back();
  bank.put("short", set);
  const auto before = get(norm(m, "first").moving_mean);
  set["first"].mean[0] = 9;
  bank.put("short", set);
  const auto length = refused([&] { bank.apply("short", m); });
  EXPECT_EQ(length.first, Code::InvalidArgument);
  EXPECT_THAT(length.second, AllOf(HasSubstr("\"second\" has 5 numbers"), HasSubstr("expected 6")));
  EXPECT_EQ(get(norm(m, "first").moving_mean), before) << "all or none";

  set = bank.at("day"), set["third"] = set["first"];
  bank.put("more", set);
  EXPECT_THAT(refused([&] { bank.apply("more", m); }).second, HasSubstr("a layer \"third\""));
  set = bank.at("day"), set.erase("first");
  bank.put("less", set);
  EXPECT_THAT(refused([&] { bank.apply("less", m); }).second, HasSubstr("no layer \"first\""));
  set = bank.at("day"), set["first"].variance[1] = -1;
  EXPECT_THAT(refused([&] { bank.put("bad", set); }).second, HasSubstr("at least 0"));
  set = bank.at("day"), set["first"].mean[1] = NAN;
  EXPECT_THAT(refused([&] { bank.put("bad", set); }).second, HasSubstr("a finite number"));
  EXPECT_THAT(refused([&] {
                bank.adapt("z", m, full({2, 8, 8, 1}, NAN));
              }).second,
              HasSubstr("a finite number"));
  EXPECT_THAT(refused([&] { bank.adapt("z", m, digits(2), {.prior = -1}); }).second,
              HasSubstr("prior is -1"));
  EXPECT_THAT(refused([&] { bank.put("", {}); }).second, HasSubstr("name"));
  const Sequential bare({to_layer(Input({4})), BatchNormalization({.scale = false, .name = "n"})});
  bank.put("scaled", {{"n", {{0, 0, 0, 0}, {1, 1, 1, 1}, {2, 2, 2, 2}}}});
  EXPECT_THAT(refused([&] { bank.apply("scaled", bare); }).second, HasSubstr("gamma"));
}
TEST(Bank, files_come_back) {
  const Model m = net();
  const TemporaryFile file;
  StatisticsBank bank;
  bank.capture("day", m, {.affine = true});
  bank.adapt("Nacht é", m, digits(9) + 1, {});
  bank.save(file.path);
  const StatisticsBank again = StatisticsBank::load(file.path);
  EXPECT_EQ(again.names(), bank.names());
  for (auto& name : bank.names())
    for (auto& [layer, l] : bank.at(name)) {
      EXPECT_EQ(again.at(name).at(layer).mean, l.mean);
      EXPECT_EQ(again.at(name).at(layer).variance, l.variance);
      EXPECT_EQ(again.at(name).at(layer).gamma, l.gamma);
      EXPECT_EQ(again.at(name).at(layer).beta, l.beta);
    }
}
TEST(Bank, files_that_are_none_are_refused) {
  const TemporaryFile file;
  auto load = [&] { StatisticsBank::load(file.path); };
  EXPECT_EQ(refused(load).first, Code::NotFound);
  auto write = [&](const std::map<std::string, Array>& arrays) {
    format::write_file_atomically(file.path, format::npz_bytes(arrays));
  };
  auto text = [](const std::string& s) {
    Array a = make_array({DType::u8, Shape{int64_t(s.size())}});
    std::copy(s.begin(), s.end(), static_cast<char*>(a.data->data()));
    return a;
  };
  auto numbers = [](std::vector<double> v) {
    const Tensor t = tensor(v, {int64_t(v.size())});
    return Array{t.sig(), t.buffer()};
  };
  write({{"0", numbers({1})}});
  EXPECT_THAT(refused(load).second, HasSubstr("no \"index\""));
  write({{"index", text("{")}});
  EXPECT_EQ(refused(load).first, Code::DataLoss);
  write({{"index", text(R"({"version":2,"sets":{}})")}});
  EXPECT_EQ(refused(load).first, Code::Unimplemented);
  const std::string one = R"({"version":1,"sets":{"s":{"n":{"mean":"0","variance":"1"}}}})";
  write({{"index", text(one)}, {"0", numbers({1})}});
  EXPECT_THAT(refused(load).second, HasSubstr("sets.s.n.variance"));
  write({{"index", text(one)}, {"0", numbers({1})}, {"1", numbers({1, 2})}});
  EXPECT_EQ(refused(load).first, Code::DataLoss);
  write({{"index", text(one)}, {"0", numbers({1})}, {"1", numbers({-1})}});
  EXPECT_EQ(refused(load).first, Code::DataLoss);
  write({{"index", text(one)}, {"0", numbers({1})}, {"1", numbers({2})}});
  EXPECT_THAT(StatisticsBank::load(file.path).at("s").at("n").variance, ElementsAre(2));
}

}  // namespace
}  // namespace evenflow::doctor
