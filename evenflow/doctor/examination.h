// SPDX-License-Identifier: Apache-2.0
// What a check sees. For doctor/checks/*.cc.
#pragma once
#include <algorithm>
#include <cmath>
#include <functional>

#include "evenflow/doctor/doctor.h"
#include "evenflow/doctor/net.h"

namespace evenflow::doctor {

/// Makes a check known: DOCTOR_CHECK(S1) { return {.name = ..., .run = ...}; }
struct CheckEntry {
  const char* id;
  Check (*declare)();
  const CheckEntry* next;
  CheckEntry(const char* id, Check (*declare)());
  static const CheckEntry*& head();
};
#define DOCTOR_CHECK(id)                               \
  static Check id##_check();                           \
  static const CheckEntry id##_entry{#id, id##_check}; \
  static Check id##_check()

/// Statistics of x in a layer, merged over all batches, under different statistics before it.
struct Observed {
  std::map<const LayerImpl*, ChannelStats> stored;  ///< what inference sees
  std::map<const LayerImpl*, ChannelStats> batch;   ///< what training sees
  std::map<const LayerImpl*, ChannelStats>
      precise;  ///< layer by layer; empty where there is no order
};

class Examination {
 public:
  Examination(const Model& model, const Options& options);

  const Net& net() const { return net_; }
  const Model& model() const { return model_; }
  const Options& options() const { return options_; }
  double threshold() const { return check_.check.threshold; }
  /// The samples of options.x that are looked at, and their targets.
  const Tensor& x() const { return x_; }
  const Tensor& y() const { return y_; }

  /// Runs x through the net, once for all checks.
  const Observed& observed();
  const Gap& gap();
  const std::vector<Reading>& readings();

  /// What was found, told of the check that runs.
  struct Told {
    Level level = Level::warning;
    std::string layer = {};
    std::vector<int64_t> channels = {};
    double value = 0;
    std::string saw, fix = {};
  };
  void find(Told told);

 private:
  friend Diagnosis examine(const Model& model, const Options& options);
  const Model& model_;
  const Options& options_;
  Net net_;
  Tensor x_, y_;
  Declared check_;
  std::optional<Observed> observed_;
  std::optional<Gap> gap_;
  std::vector<Reading> readings_;
  Diagnosis diagnosis_;
};

/// KL(N(mean, variance) || N(stored mean, stored variance)), the mean over channels; epsilon is
/// added to both variances, as normalising does.
double divergence(const ChannelStats& seen, const std::vector<double>& mean,
                  const std::vector<double>& variance, double epsilon);
/// The channels for which f(channel) holds.
std::vector<int64_t> channels_where(int64_t channels, const std::function<bool(size_t)>& f);
/// "3 of 16 channels"
std::string counted(const std::vector<int64_t>& some, int64_t of);
/// Four digits that count.
std::string number(double v);
double median(std::vector<double> v);  ///< of at least one value
/// What all uses of the layer feed through nothing but identities: "relu", "sigmoid", "tanh", or
/// "".
std::string activation_after(const Net& net, const Norm& norm);
/// The layer before a use that is not an identity in inference (dropout, a linear activation), or
/// -1 where there are several inputs.
int source_of(const Net& net, int use);
/// Whether the use computes x W + b with no activation of its own.
bool is_linear(const LayerImpl& layer);
/// Whether the averages are those of a new layer, mean 0 and variance 1 (or what its initialisers
/// say), and no update was counted.
bool untouched(const Norm& norm);
/// What plain averages are without their initial values: (moving - left initial) / (1 - left) with
/// left = momentum^updates, as mean and variance; empty where that gives no variance.
struct Debiased {
  std::vector<double> mean, variance;
};
std::optional<Debiased> debiased(const Norm& norm);
/// The axis of the output's channels of such a layer, from the front.
int64_t channel_axis(LayerImpl& layer, int64_t rank);
/// The linear layer whose bias feeds this norm, the same channels, and nothing else, or -1.
int biased_source(const Net& net, const Norm& norm);
/// A field of the layer's configuration; empty when it has none of that name and kind.
std::optional<bool> bool_field(LayerImpl& layer, std::string_view name);
std::optional<std::string> text_field(LayerImpl& layer, std::string_view name);
std::optional<int64_t> integer_field(LayerImpl& layer, std::string_view name);

}  // namespace evenflow::doctor
