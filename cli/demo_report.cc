// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "cli/demo.h"
#include "evenflow/train/report.h"

namespace evenflow::cli {
namespace {

constexpr int kPlainColor = 0, kNormedColor = 1;
constexpr const char *kPlain = "without batch normalisation", *kNormed = "with batch normalisation";

std::string text(const char* format, double v) {
  char b[40];
  std::snprintf(b, sizeof b, format, v);
  return b;
}
std::string percent(double share) { return text("%.1f %%", share * 100); }

std::vector<double> epochs_of(const History& h) {
  std::vector<double> x;
  for (int64_t e : h.epoch) x.push_back(double(e + 1));
  return x;
}
Series curve(const Trained& t, const char* value, std::string name, int color, bool dashed) {
  return {std::move(name), epochs_of(t.history), t.history.at(value), color, dashed};
}

// The first epoch that ends at this accuracy, or "never".
std::string reached(const Trained& t, double least) {
  const std::vector<double>& v = t.history.at("val_accuracy");
  const auto at = std::find_if(v.begin(), v.end(), [&](double a) { return a >= least; });
  return at == v.end() ? "never" : "epoch " + std::to_string(at - v.begin() + 1);
}

LineChart percentiles(const Trained& t, size_t unit, const char* title, int color) {
  const PercentileRecorder::Unit& u = t.percentiles->units[unit];
  return {.title = title,
          .x_label = "training step",
          .y_label = "input of the activation",
          .bands = {{"15th, 50th and 85th percentile", t.percentiles->steps, u.low, u.middle,
                     u.high, color}}};
}

void curves(Report& page, const DemoResults& r) {
  page.section("Two trainings",
               "Each epoch shows the net all training digits once; the test digits are never "
               "trained on. Both nets begin with the same kernels, see the same digits in the same "
               "order, and take steps of the same size.");
  page.charts<LineChart>({accuracy_chart(r), loss_chart(r)});
}

void sweep(Report& page, const DemoResults& r) {
  const Sweep& s = r.sweep;
  if (s.rates.empty()) return;
  page.section(
      "Which settings work",
      concat({"Each cell is one training of ", s.epochs, s.epochs == 1 ? " epoch" : " epochs",
              "; its number is the accuracy on the test digits in percent. To the right the "
              "learning rate grows; downwards all kernels at the start are multiplied by a larger "
              "factor (1 is He initialisation). Without batch normalisation only few settings "
              "learn. With it the scale of a kernel cancels in the normalisation, and a step that "
              "is too long for a small kernel makes the kernel larger, so most settings work."}));
  page.heat_scale("Accuracy");
  page.charts<HeatMap>({s.map(false), s.map(true)});
}

void inside(Report& page, const DemoResults& r) {
  const size_t unit = r.plain.percentiles->typical();
  LineChart plain = percentiles(r.plain, unit, "Without batch normalisation", kPlainColor),
            normed = percentiles(r.normed, unit, "With batch normalisation", kNormedColor);
  double low = 0, high = 0;
  for (auto* c : {&plain, &normed})
    for (auto* line : {&c->bands[0].low, &c->bands[0].high})
      for (double v : *line)
        if (std::isfinite(v)) low = std::min(low, v), high = std::max(high, v);
  const double room = (high - low) * 0.05;
  for (auto* c : {&plain, &normed}) c->y_min = low - room, c->y_max = high + room;
  page.section("What a hidden unit sees",
               concat({"What the last hidden activation of unit ", unit, " of ",
                       r.plain.percentiles->units.size(),
                       " receives over all test digits, step by step: the middle line is the "
                       "median, 70 % of the values lie in the band. It is the unit whose median "
                       "wanders a middling way without batch normalisation, and the same unit in "
                       "both nets. (Figure 1 of Ioffe and Szegedy, 2015, for this net.)"}));
  page.charts<LineChart>({plain, normed});
}

void statistics(Report& page, const DemoResults& r) {
  ScatterChart means{
      "Mean of each channel", "batch statistics, all training digits", "moving average", {}},
      deviations{"Standard deviation of each channel",
                 "batch statistics, all training digits",
                 "moving average",
                 {}};
  std::vector<std::vector<std::string>> rows{{"layer", "channels", "updates",
                                              "mean off by, in σ: median", "largest",
                                              "σ off by: median", "largest"}};
  int color = 2;
  for (auto& b : r.readings) {
    std::vector<double> moving_sd, batch_sd, mean_off, sd_off;
    for (size_t c = 0; c < b.batch_mean.size(); ++c) {
      moving_sd.push_back(std::sqrt(b.moving_variance[c]));
      batch_sd.push_back(std::sqrt(b.batch_variance[c]));
      if (batch_sd[c] == 0) continue;  // a channel that is constant
      mean_off.push_back(std::abs(b.moving_mean[c] - b.batch_mean[c]) / batch_sd[c]);
      sd_off.push_back(std::abs(moving_sd[c] / batch_sd[c] - 1));
    }
    means.series.push_back({b.layer, b.batch_mean, b.moving_mean, color});
    deviations.series.push_back({b.layer, batch_sd, moving_sd, color++});
    if (mean_off.empty()) continue;
    const auto m = quantiles(mean_off, {0.5, 1}), s = quantiles(sd_off, {0.5, 1});
    rows.push_back({b.layer, std::to_string(b.batch_mean.size()), std::to_string(b.updates),
                    text("%.3f", m[0]), text("%.3f", m[1]), percent(s[0]), percent(s[1])});
  }
  page.section("Moving averages against the batch",
               "In training a batch is normalised by its own statistics, afterwards by moving "
               "averages of them. Every point is a channel of the trained net; on the dashed line "
               "both agree, and predictions mean what training meant. Points far from it would be "
               "the classical accident: good in training, bad in use.");
  page.charts<ScatterChart>({means, deviations});
  page.table(rows);
  page.paragraph(
      "The averages are zero-debiased (each update counts as in Adam), so that they are "
      "right from the first step on although they forget slowly (momentum 0.99).");
}

void pictures(Report& page, const DemoResults& r) {
  std::vector<Image> some, wrong;
  for (size_t i = 0; i < r.predictions.size(); ++i) {
    const Image image = digit_image(r, i);
    if (some.size() < 24) some.push_back(image);
    if (image.wrong) wrong.push_back(image);
  }
  page.section("What it says",
               concat({"The batch-normalised net is wrong about ", wrong.size(), " of ",
                       r.predictions.size(),
                       " test digits. Below each picture stands its answer, and how sure it is."}));
  if (!wrong.empty()) {
    wrong.resize(std::min<size_t>(wrong.size(), 24));
    page.paragraph("Its mistakes:");
    page.images(wrong);
  }
  page.paragraph("The first digits of the test set:");
  page.images(some);
}

void conditions(Report& page, const DemoResults& r) {
  page.section(
      "How it was done",
      concat({"1797 digits of 8 × 8 pixels, ", r.train_size, " to train on and ", r.test.size(),
              " to test, split at random. Net: three 3 × 3 convolutions (32, 32, 64 "
              "filters), two max-poolings, a dense layer of 64, softmax. Loss: cross "
              "entropy; optimizer: SGD without momentum, learning rate ",
              kLearningRate, ", batches of ", kBatch,
              ". Varied: batch normalisation before each ReLU (its beta stands for the "
              "bias) or not; in the sweep the learning rate and one factor on all kernels "
              "too. One seed, so small differences mean nothing: try others."}));
  page.code(concat({"evenflow demo --seed ", r.seed, " --epochs ", r.epochs}));
  page.paragraph(
      "Data: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI "
      "Machine Learning Repository (1998), doi:10.24432/C50P49, CC BY 4.0. Method: S. "
      "Ioffe and C. Szegedy, Batch Normalization: Accelerating Deep Network Training by "
      "Reducing Internal Covariate Shift (2015).");
}

}  // namespace

LineChart accuracy_chart(const DemoResults& r) {
  return {.title = "Accuracy on the test digits",
          .x_label = "epoch",
          .y_label = "val_accuracy",
          .series = {curve(r.plain, "val_accuracy", kPlain, kPlainColor, false),
                     curve(r.normed, "val_accuracy", kNormed, kNormedColor, false)},
          .y_max = 1,
          .percent = true};
}
LineChart loss_chart(const DemoResults& r) {
  return {.title = "Loss on the test digits (dashed: on the training digits)",
          .x_label = "epoch",
          .y_label = "cross entropy",
          .series = {curve(r.plain, "val_loss", "without", kPlainColor, false),
                     curve(r.normed, "val_loss", "with", kNormedColor, false),
                     curve(r.plain, "loss", "without, training", kPlainColor, true),
                     curve(r.normed, "loss", "with, training", kNormedColor, true)},
          .y_min = 0};
}

Image digit_image(const DemoResults& r, size_t i) {
  const Prediction& p = r.predictions[i];
  const Tensors one = r.test.skip(int64_t(i)).take(1).all();
  Image image{8,
              8,
              one[0].to_vector<float>(),
              std::to_string(p.predicted),
              percent(p.confidence),
              p.label != p.predicted};
  if (image.wrong) image.label += ", not " + std::to_string(p.label);
  return image;
}

std::string demo_report(const DemoResults& r) {
  Report page("Batch normalisation on hand-written digits",
              "The same small convolutional net, trained with and without batch normalisation.");
  const double plain = r.plain.history.at("val_accuracy").back(),
               normed = r.normed.history.at("val_accuracy").back();
  std::vector<Report::Fact> facts{
      {percent(normed), "of the test digits right, with batch normalisation", kNormedColor},
      {percent(plain), "without batch normalisation", kPlainColor},
      {reached(r.normed, 0.96),
       concat({"first at 96\u00a0% with batch normalisation; without: ", reached(r.plain, 0.96)}),
       kNormedColor}};
  if (!r.sweep.rates.empty())
    facts.push_back(
        {concat({Sweep::count(r.sweep.normed, 0.9), " / ", Sweep::count(r.sweep.plain, 0.9)}),
         concat({"of ", r.sweep.plain.size(), " settings reach 90\u00a0%, with / without"})});
  facts.push_back({text("%.0f s", r.seconds), "for everything here, on " + r.device});
  page.facts(facts);
  curves(page, r);
  sweep(page, r);
  inside(page, r);
  statistics(page, r);
  pictures(page, r);
  conditions(page, r);
  return page.html();
}

}  // namespace evenflow::cli
