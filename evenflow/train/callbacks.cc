// SPDX-License-Identifier: Apache-2.0
#include "evenflow/train/callbacks.h"

#include <algorithm>
#include <cmath>

namespace evenflow {

double Logs::at(std::string_view name) const {
  if (auto v = find(name)) return *v;
  std::string names;
  for (auto& [n, v] : values) names += (names.empty() ? "" : ", ") + n;
  fail(Code::NotFound, {"logs: there is no \"", name, "\", expected one of ", names});
}
std::optional<double> Logs::find(std::string_view name) const {
  for (auto& [n, v] : values)
    if (n == name) return v;
  return {};
}
void Logs::set(const std::string& name, double value) {
  for (auto& [n, v] : values)
    if (n == name) return void(v = value);
  values.emplace_back(name, value);
}
const std::vector<double>& History::at(std::string_view name) const {
  for (auto& [n, v] : history)
    if (n == name) return v;
  fail(Code::NotFound, {"history: there is no \"", name, "\""});
}

void History::add(int64_t e, const Logs& logs) {
  epoch.push_back(e);
  skipped_steps.push_back(int64_t(logs.find("skipped_steps").value_or(0)));
  for (auto& [n, v] : logs.values) {
    if (n == "skipped_steps") continue;
    auto it = std::find_if(history.begin(), history.end(), [&](auto& h) { return h.first == n; });
    if (it == history.end()) it = history.insert(it, {n, {}});
    it->second.push_back(v);
  }
}

namespace {

// Whether a value is better than another, as Keras decides it from the mode or the name.
class Judge {
 public:
  Judge(std::string_view op, const std::string& monitor, const std::string& mode, double min_delta)
      : monitor_(monitor), delta_(std::abs(min_delta)) {
    if (mode != "auto" && mode != "min" && mode != "max")
      fail({op, ": mode is \"", mode, "\", expected auto, min or max"});
    larger_ = mode == "max" || (mode == "auto" && (monitor.find("acc") != std::string::npos ||
                                                   monitor.find("auc") != std::string::npos ||
                                                   monitor.find("f1") != std::string::npos));
  }
  /// The first value is an improvement.
  bool better(double v, std::optional<double> than) const {
    if (!than) return true;
    return larger_ ? v - delta_ > *than : v + delta_ < *than;
  }
  /// Nothing in an epoch without validation.
  std::optional<double> value(std::string_view op, const TrainingState& s, const Logs& logs) const {
    if (auto v = logs.find(monitor_)) return v;
    const bool val = monitor_.rfind("val_", 0) == 0;
    if (val && s.validates && logs.find(monitor_.substr(4))) return {};
    std::string names;
    for (auto& [n, v] : logs.values) names += (names.empty() ? "" : ", ") + n;
    fail({op, ": monitor is \"", monitor_, "\", expected one of ", names,
          val && !s.validates ? " (there is no validation data)" : ""});
  }

 private:
  std::string monitor_;
  double delta_;
  bool larger_;
};

class EarlyStoppingImpl : public Callback {
 public:
  explicit EarlyStoppingImpl(EarlyStoppingConfig c)
      : config_(std::move(c)),
        judge_("EarlyStopping", config_.monitor, config_.mode, config_.min_delta) {
    if (config_.patience < 0)
      fail({"EarlyStopping: patience is ", config_.patience, ", expected at least 0"});
  }
  void on_train_begin(TrainingState&) override {
    wait_ = 0, stopped_ = -1, best_epoch_ = 0;
    best_.reset();
    kept_.clear();
  }
  void on_epoch_end(TrainingState& s, int64_t epoch, const Logs& logs) override {
    const auto v = judge_.value("EarlyStopping", s, logs);
    if (!v || epoch < config_.start_from_epoch) return;
    ++wait_;
    if (judge_.better(*v, best_)) {
      best_ = *v, best_epoch_ = epoch;
      if (config_.restore_best_weights) keep(s);
      if (judge_.better(*v, config_.baseline)) wait_ = 0;
      return;
    }
    if (wait_ >= config_.patience && epoch > 0) stopped_ = epoch, s.stop_training = true;
  }
  void on_train_end(TrainingState& s) override {
    if (stopped_ >= 0 && config_.verbose)
      std::fprintf(s.out, "Epoch %ld: early stopping\n", long(stopped_ + 1));
    if (!config_.restore_best_weights || kept_.empty()) return;
    if (config_.verbose)
      std::fprintf(s.out, "Restoring model weights from the end of the best epoch: %ld.\n",
                   long(best_epoch_ + 1));
    for (auto& [v, value] : kept_) v.assign(value);
  }

 private:
  void keep(TrainingState& s) {
    kept_.clear();
    for (auto& l : s.model.impl().leaves()) {
      for (auto& w : l.layer->weights) kept_.emplace_back(w.variable, w.variable.read());
      for (auto& w : l.layer->extra_state()) kept_.emplace_back(w.variable, w.variable.read());
    }
  }
  EarlyStoppingConfig config_;
  Judge judge_;
  std::optional<double> best_;
  int64_t wait_ = 0, stopped_ = -1, best_epoch_ = 0;
  std::vector<std::pair<Variable, Tensor>> kept_;  // a read pins its version: nothing is copied
};

class ModelCheckpointImpl : public Callback {
 public:
  explicit ModelCheckpointImpl(ModelCheckpointConfig c)
      : config_(std::move(c)), judge_("ModelCheckpoint", config_.monitor, config_.mode, 0) {
    if (config_.filepath.size() < 7 ||
        config_.filepath.substr(config_.filepath.size() - 6) != ".keras")
      fail({"ModelCheckpoint: filepath is \"", config_.filepath,
            "\", expected a name that ends in .keras"});
    best_ = config_.initial_value_threshold;
  }
  void on_epoch_end(TrainingState& s, int64_t epoch, const Logs& logs) override {
    if (!config_.save_best_only) return save(s, epoch, logs, "");
    const auto v = judge_.value("ModelCheckpoint", s, logs);
    if (!v) return;
    const std::string was = best_ ? digits(*best_) : "None";
    if (judge_.better(*v, best_)) {
      best_ = v;
      save(s, epoch, logs,
           concat({config_.monitor, " improved from ", was, " to ", digits(*v), ", "}));
    } else if (config_.verbose) {
      say(s, epoch, concat({config_.monitor, " did not improve from ", was}));
    }
  }

 private:
  static std::string digits(double v) {
    char b[400];
    std::snprintf(b, sizeof b, "%.5f", v);
    return b;
  }
  static void say(TrainingState& s, int64_t epoch, const std::string& what) {
    std::fprintf(s.out, "\nEpoch %ld: %s\n", long(epoch + 1), what.c_str());
  }
  void save(TrainingState& s, int64_t epoch, const Logs& logs, const std::string& why) {
    const std::string path = filled(epoch, logs);
    if (config_.verbose) say(s, epoch, concat({why, "saving model to ", path}));
    s.model.save(path);
    if (config_.verbose) say(s, epoch, concat({"finished saving model to ", path}));
  }
  // "{name}" and "{name:.2f}", "{epoch:02d}".
  std::string filled(int64_t epoch, const Logs& logs) const {
    std::string r;
    const std::string& p = config_.filepath;
    for (size_t i = 0; i < p.size(); ++i) {
      const size_t end = p[i] == '{' ? p.find('}', i) : std::string::npos;
      if (end == std::string::npos) {
        r += p[i];
        continue;
      }
      const std::string field = p.substr(i + 1, end - i - 1),
                        name = field.substr(0, field.find(':'));
      const std::string format = field.size() > name.size() ? field.substr(name.size() + 1) : "";
      if (name == "epoch") {
        std::string n = std::to_string(epoch + 1);
        if (format.size() > 1 && format[0] == '0')
          while (n.size() < size_t(std::atoi(format.c_str()))) n = "0" + n;
        r += n;
      } else {
        const double v = logs.at(name);
        int digits = 6;
        if (format.size() > 1 && format[0] == '.')
          digits = std::clamp(std::atoi(format.c_str() + 1), 0, 17);
        char b[400];
        std::snprintf(b, sizeof b, "%.*f", digits, v);
        r += b;
      }
      i = end;
    }
    return r;
  }
  ModelCheckpointConfig config_;
  Judge judge_;
  std::optional<double> best_;
};
}  // namespace

CallbackPtr EarlyStopping(EarlyStoppingConfig c) {
  return std::make_shared<EarlyStoppingImpl>(std::move(c));
}
CallbackPtr ModelCheckpoint(ModelCheckpointConfig c) {
  return std::make_shared<ModelCheckpointImpl>(std::move(c));
}

}  // namespace evenflow
