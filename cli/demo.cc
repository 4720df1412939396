// SPDX-License-Identifier: Apache-2.0
#include "cli/demo.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "cli/commands.h"
#include "cli/interrupt.h"
#include "evenflow/format/file.h"
#include "evenflow/format/npy.h"

namespace evenflow::cli {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::string out = "demo", sweep = "full";
  int64_t epochs = 8;
  uint64_t seed = 1;
};

Trained train_form(bool batch_norm, const Options& o, const Dataset& train, const Dataset& test) {
  const int64_t steps = train.batches();
  Trained t{digits_net(batch_norm, o.seed), {}, nullptr};
  t.percentiles = std::make_shared<PercentileRecorder>(kWatchedLayer, test.all()[0],
                                                       std::max<int64_t>(1, steps * o.epochs / 72));
  t.model.compile({.optimizer = SGD({.learning_rate = kLearningRate}),
                   .loss = "sparse_categorical_crossentropy",
                   .metrics = {"accuracy"}});
  t.history = t.model.fit(train, {.epochs = o.epochs,
                                  .callbacks = {interrupt_between_batches(), t.percentiles},
                                  .validation_data = test});
  return t;
}

std::vector<Prediction> predictions_of(const Tensor& p, const Tensor& y) {
  const std::vector<float> v = p.to_vector<float>();
  const std::vector<int64_t> labels = y.to_vector<int64_t>();
  const size_t classes = v.size() / labels.size();
  std::vector<Prediction> all;
  for (size_t i = 0; i < labels.size(); ++i) {
    const auto row = v.begin() + long(i * classes);
    const auto best = std::max_element(row, row + long(classes));
    all.push_back({labels[i], best - row, *best});
  }
  return all;
}

// Saves the net, loads it and predicts again: the answers have to be the same bits.
void save_and_check(const Model& model, const Tensor& x, const Tensor& expected,
                    const std::string& path) {
  model.save(path);
  const Tensor again = load_model(path).predict(x, {.batch_size = x.sig().shape[0]});
  if (again.sig() != expected.sig() ||
      std::memcmp(again.data(), expected.data(), size_t(expected.sig().bytes())))
    fail(Code::Internal, {"demo: ", path, " predicts other bits after loading than before saving"});
  std::printf("\nSaved %s, loaded it, predicted %lld digits again: the same bits.\n", path.c_str(),
              static_cast<long long>(x.sig().shape[0]));
}

Sweep sweep_of(const std::string& size) {
  if (size == "none") return {};
  if (size == "small") return {{0.003, 0.1, 1}, {0.1, 1, 10}, 1, {}, {}};
  return {{0.003, 0.01, 0.03, 0.1, 0.3, 1}, {0.1, 0.3, 1, 3, 10}, 3, {}, {}};
}

void print_digits(const DemoResults& r) {
  std::vector<Image> some, wrong;
  for (size_t i = 0; i < r.predictions.size(); ++i) {
    const Image image = digit_image(r, i);
    if (some.size() < 4) some.push_back(image);
    if (image.wrong && wrong.size() < 4) wrong.push_back(image);
  }
  const int64_t mistakes =
      std::count_if(r.predictions.begin(), r.predictions.end(),
                    [](const Prediction& p) { return p.label != p.predicted; });
  std::printf("\nThe first digits of the test set, and what the batch-normalised net says:\n%s",
              images_text(some).c_str());
  std::printf("\nIt is wrong about %lld of %zu%s\n%s", static_cast<long long>(mistakes),
              r.predictions.size(), wrong.empty() ? "." : ", such as these:",
              wrong.empty() ? "" : images_text(wrong).c_str());
}

std::string device_line() {
  for (auto& d : devices())
    if (d.name == str(default_device())) return d.name + ": " + d.description;
  return str(default_device());
}

void run(const Options& o) {
  const auto start = Clock::now();
  const bool terminal = isatty(STDOUT_FILENO);
  std::error_code error;
  std::filesystem::create_directories(o.out, error);
  const std::string report = o.out + "/report.html", keras = o.out + "/digits.keras";
  check_writable(report), check_writable(keras);
  Interruptible between_batches;

  auto [train, test] = data::digits().split(0.8);
  DemoResults r{o.seed, o.epochs, device_line(), 0, {}, {}, sweep_of(o.sweep), {},
                test,   {},       train.size()};
  train = train.shuffle(o.seed).batch(kBatch), test = test.batch(test.size());
  std::printf("Evenflow %s on %s\n", EVENFLOW_VERSION, r.device.c_str());
  std::printf(
      "1797 hand-written digits (UCI, CC BY 4.0): %lld to train on, %lld to test; seed %llu\n",
      static_cast<long long>(r.train_size), static_cast<long long>(r.test.size()),
      static_cast<unsigned long long>(o.seed));
  std::printf("\n%s", digits_net(true, o.seed).summary().c_str());

  std::printf(
      "\nWithout batch normalisation: the same net, a bias in its place. SGD, learning "
      "rate %g.\n",
      kLearningRate);
  std::fflush(stdout);
  r.plain = train_form(false, o, train, test);
  std::printf("\nWith batch normalisation: the same data, order, kernels and learning rate.\n");
  std::fflush(stdout);
  r.normed = train_form(true, o, train, test);
  LineChart loss = loss_chart(r);  // two lines are enough for a terminal
  loss.title = "Loss on the test digits";
  std::erase_if(loss.series, [](const Series& l) { return l.dashed; });
  std::printf("\n%s\n%s", chart_text(accuracy_chart(r), 60, 11, terminal).c_str(),
              chart_text(loss, 60, 9, terminal).c_str());

  if (!r.sweep.rates.empty()) {
    const size_t all = 2 * r.sweep.rates.size() * r.sweep.scales.size();
    std::printf(
        "\n%zu short trainings (%lld epoch%s each): learning rates, and kernels scaled at "
        "the start.\n",
        all, static_cast<long long>(r.sweep.epochs), r.sweep.epochs == 1 ? "" : "s");
    std::fflush(stdout);
    run_sweep(r.sweep, train, test, o.seed, [&](size_t done, size_t of) {
      if (!terminal) return;
      std::printf("\r  %zu of %zu%s", done, of, done < of ? "" : "\r                    \r");
      std::fflush(stdout);
    });
    std::printf("Accuracy on the test digits, in %% (× diverged):\n%s\n%s",
                chart_text(r.sweep.map(false), terminal).c_str(),
                chart_text(r.sweep.map(true), terminal).c_str());
    std::printf("  90 %% or more: %lld of %zu without, %lld of %zu with batch normalisation.\n",
                static_cast<long long>(Sweep::count(r.sweep.plain, 0.9)), all / 2,
                static_cast<long long>(Sweep::count(r.sweep.normed, 0.9)), all / 2);
  }

  Interruptible::check();
  const Tensors digits = r.test.all();
  const Tensor p = r.normed.model.predict(digits[0], {.batch_size = r.test.size()});
  r.predictions = predictions_of(p, digits[1]);
  r.readings = read_batch_norms(r.normed.model, train.all()[0]);
  print_digits(r);
  save_and_check(r.normed.model, digits[0], p, keras);
  format::write_npy(o.out + "/x.npy", {digits[0].sig(), digits[0].buffer()});
  format::write_npy(o.out + "/y.npy", {digits[1].sig(), digits[1].buffer()});
  r.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  format::write_file_atomically(report, demo_report(r));

  const char* d = o.out.c_str();
  std::printf("\nIn %.1f s. Next:\n", r.seconds);
  std::printf("  open %s/report.html in a browser\n", d);
  std::printf("  evenflow inspect %s/digits.keras --graph %s/graph.html\n", d, d);
  std::printf(
      "  evenflow evaluate %s/digits.keras --x %s/x.npy --y %s/y.npy --loss "
      "sparse_categorical_crossentropy\n",
      d, d, d);
  std::printf("  in Python: keras.models.load_model(\"%s/digits.keras\")\n", d);
}

}  // namespace

void add_demo(CLI::App& app) {
  auto o = std::make_shared<Options>();
  auto* c = app.add_subcommand(
      "demo",
      "Trains on hand-written digits with and without batch normalisation; writes a report");
  c->add_option("--out", o->out, "folder for report.html, digits.keras, x.npy and y.npy")
      ->capture_default_str()
      ->type_name("DIR");
  c->add_option("--epochs", o->epochs, "of both trainings")
      ->check(CLI::Range(int64_t(1), int64_t(1000)))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--seed", o->seed, "of kernels and order")
      ->check(whole<uint64_t>(0))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--sweep", o->sweep, "over learning rates and scales: full, small or none")
      ->check(CLI::IsMember({"full", "small", "none"}))
      ->capture_default_str()
      ->type_name("SIZE");
  c->callback([o] { run(*o); });
}

}  // namespace evenflow::cli
