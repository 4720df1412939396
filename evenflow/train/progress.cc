// SPDX-License-Identifier: Apache-2.0
// Keras's progress bar (Progbar, width 20, redrawn at most every 50 ms; the first step does not
// count for ms/step).
#include <unistd.h>

#include <algorithm>

#include <chrono>
#include <cmath>

#include "evenflow/train/callbacks.h"

namespace evenflow {
namespace {
constexpr int kWidth = 20;
constexpr double kInterval = 0.05;

std::string format(const char* f, double v) {
  char b[64];
  std::snprintf(b, sizeof b, f, v);
  return b;
}
std::string eta(double seconds) {
  const long s = long(std::max(0.0, seconds));
  char b[64];
  if (s > 3600)
    std::snprintf(b, sizeof b, "%ld:%02ld:%02ld", s / 3600, s % 3600 / 60, s % 60);
  else if (s > 60)
    std::snprintf(b, sizeof b, "%ld:%02ld", s / 60, s % 60);
  else
    std::snprintf(b, sizeof b, "%lds", s);
  return b;
}
std::string per_step(double seconds) {
  if (seconds >= 1 || seconds == 0) return format("%.0fs/step", seconds);
  if (seconds >= 1e-3) return format("%.0fms/step", seconds * 1e3);
  return format("%.0fus/step", seconds * 1e6);
}
std::string shown(const Logs& logs) {
  std::vector<std::pair<std::string, double>> v =
      logs.values;  // Keras sorts by name, validation after
  auto val = [](const std::string& n) { return n.rfind("val_", 0) == 0; };
  std::stable_sort(v.begin(), v.end(), [&](auto& a, auto& b) {
    return val(a.first) != val(b.first) ? val(b.first) : a.first < b.first;
  });
  std::string s;
  for (auto& [n, x] : v)
    s += " - " + n + ": " + format(std::abs(x) > 1e-3 || std::isnan(x) ? "%.4f" : "%.4e", x);
  return s;
}

class Progbar : public Callback {
 public:
  explicit Progbar(std::function<double()> clock) : now_(std::move(clock)) {}
  void on_train_begin(TrainingState& s) override {
    terminal_ = isatty(fileno(s.out));
    target_ = s.steps;
  }
  void on_epoch_begin(TrainingState& s, int64_t epoch) override {
    if (!s.verbose) return;
    if (s.epochs > 1)
      std::fprintf(s.out, "Epoch %ld/%ld\n", long(epoch + 1), long(s.epochs)), std::fflush(s.out);
    start_ = now_(), drawn_ = -1;
    done_ = 0, previous_ = 0;
  }
  void on_train_batch_end(TrainingState& s, int64_t batch, const Logs& logs) override {
    done_ = batch + 1;
    const double now = now_();
    if (done_ == 1) first_ = now;
    if (s.verbose != 1 || !terminal_ || (drawn_ >= 0 && now - drawn_ < kInterval)) return;
    drawn_ = now;
    draw(s, logs, false);
  }
  void on_epoch_end(TrainingState& s, int64_t, const Logs& logs) override {
    if (target_ < 0) target_ = done_;  // known from now on
    if (s.verbose) draw(s, logs, true);
  }

 private:
  void draw(TrainingState& s, const Logs& logs, bool end) {
    const double now = now_();
    const double elapsed = now - start_;
    // The first step is slow, and the bar leaves it out; the line of verbose 2 does not.
    const bool later = done_ > 1 && s.verbose == 1;
    const double step = later   ? (now - first_) / double(done_ - 1)
                        : done_ ? elapsed / double(done_)
                                : 0;
    const bool is_known = target_ >= 0;
    const std::string steps = is_known ? std::to_string(target_) : "Unknown";
    const size_t digits = is_known ? steps.size() : 7;
    std::string count = std::to_string(end ? target_ : done_);
    count = std::string(digits - std::min(digits, count.size()), ' ') + count + "/" + steps;
    const std::string time =
        end || !is_known ? format("%.0fs", elapsed) : eta(step * double(target_ - done_));
    const std::string tail = per_step(step) + shown(logs);
    if (s.verbose == 2) {
      std::fprintf(s.out, "%s - %s - %s\n", count.c_str(), time.c_str(), tail.c_str());
      std::fflush(s.out);
      return;
    }
    const int full =
        end || !target_ ? kWidth : int(double(kWidth) * double(done_) / double(target_));
    auto pieces = [](int n) {
      std::string r;
      for (int i = 0; i < n; ++i) r += "━";
      return r;
    };
    if (!terminal_) {
      std::fprintf(s.out, "%s %s %s %s", count.c_str(), pieces(kWidth).c_str(), time.c_str(),
                   tail.c_str());
    } else if (!is_known) {
      const size_t width = count.size() + 1 + time.size() + 1 + tail.size();
      std::fprintf(s.out, "%s\r%s \x1b[1m%s\x1b[0m %s%s", std::string(previous_, '\b').c_str(),
                   count.c_str(), time.c_str(), tail.c_str(),
                   std::string(previous_ > width ? previous_ - width : 0, ' ').c_str());
      previous_ = width;
    } else {
      const size_t width = count.size() + 1 + kWidth + 1 + time.size() + 1 + tail.size();
      const std::string green = full ? "\x1b[32m" + pieces(full) + "\x1b[0m" : "";
      std::fprintf(s.out, "%s\r\x1b[1m%s\x1b[0m %s\x1b[37m%s\x1b[0m \x1b[1m%s\x1b[0m %s%s",
                   std::string(previous_, '\b').c_str(), count.c_str(), green.c_str(),
                   pieces(kWidth - full).c_str(), time.c_str(), tail.c_str(),
                   std::string(previous_ > width ? previous_ - width : 0, ' ').c_str());
      previous_ = width;
    }
    if (end) std::fprintf(s.out, "\n");
    std::fflush(s.out);
  }

  bool terminal_ = false;
  std::function<double()> now_;
  double start_ = 0, first_ = 0, drawn_ = -1;
  int64_t done_ = 0, target_ = 0;
  size_t previous_ = 0;
};
}  // namespace

CallbackPtr ProgbarLogger(std::function<double()> clock) {
  if (!clock)
    clock = [] {
      return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
          .count();
    };
  return std::make_shared<Progbar>(std::move(clock));
}

}  // namespace evenflow
