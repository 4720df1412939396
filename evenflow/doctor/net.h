// SPDX-License-Identifier: Apache-2.0
// A model as the doctor walks it: models inside it unfolded, one node for each use of a layer. It
// can be run with the batch normalisation layers under other statistics than their own.
#pragma once
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "evenflow/core/statistics.h"
#include "evenflow/model/batch_normalization.h"
#include "evenflow/model/model.h"

namespace evenflow::doctor {

/// Statistics of what goes into a batch normalisation layer, channel by channel, in f64.
using ChannelStats = std::vector<Stats>;
/// Merges a batch into what was there; an empty `all` is none.
void merge_into(ChannelStats& all, const ChannelStats& batch);
/// Of x [...], with the layer's axes kept.
ChannelStats stats_of(const Tensor& x, const std::vector<int64_t>& axes);

struct Use {
  std::shared_ptr<LayerImpl> layer;
  std::string path;                    ///< the models that lead to it, and its name: "inner/dense"
  std::vector<int> inputs, consumers;  ///< numbers of uses
  Dims dims;                           ///< of the output
  bool trainable = true;               ///< it and all models around it are, and no mode holds it
  bool is_output = false;              ///< of the outermost model
};
/// A batch normalisation layer with all its uses.
struct Norm {
  BatchNormalizationImpl* layer = nullptr;
  std::string path;
  std::vector<int> uses;
  bool trainable = true;
  int level = 0;  ///< 0: no other lies before it; else 1 + the highest level of those that do
  std::vector<int64_t> axes() const;  ///< from the front, in order
  int64_t channels() const;
  double stored_variance(const Stats& s) const;  ///< population or sample, as the layer stores it
  std::vector<double> mean() const, variance() const, gamma() const, beta() const;
};

struct Net {
  std::vector<Use> uses;  ///< in order of execution
  std::vector<int> inputs, outputs;
  std::vector<Norm> norms;  ///< in order of their first use

  bool ordered = true;  ///< false: a norm with several uses depends on itself; levels mean nothing

  /// Throws FailedPrecondition for a model that is not built.
  explicit Net(const Model& model);
  /// Throws InvalidArgument, naming the layer, where there is no order of depth.
  void require_order(std::string_view op) const;
  const Norm* norm_of(int use) const;
  bool is(int use, std::string_view class_name) const;
  /// The one use that reads this one's output, or -1: several do, none does, or it is an output.
  int only_consumer(int use) const;
};
/// Noise for each input: normal numbers, or, where an Embedding reads it, rows of its table.
/// Extents that are open are 32.
Tensors random_inputs(const Net& net, int64_t samples);

struct Run {
  enum By {
    stored,  ///< moving_mean and moving_variance
    batch,   ///< the statistics of this batch
    given,   ///< `given_stats` where there are some, else the stored ones
    layer,   ///< what the layer itself does
  };
  By by = stored;
  const std::map<const LayerImpl*, ChannelStats>* given_stats = nullptr;
  bool training = false;  ///< what norms are told under Run::layer; other layers are never training
  int levels = std::numeric_limits<int>::max();  ///< norms of this level and above do not run, nor
                                                 ///< what lies behind them
  /// Sees every use with its inputs (cast to what it computes in) and its output; the output is
  /// empty for a norm that does not run.
  std::function<void(int use, const Tensors& in, const Tensor& out)> see = {};
};
/// The outputs for one batch, a tensor for each input; empty tensors for those that do not run.
/// Nothing is changed.
Tensors run(const Net& net, const Tensors& inputs, const Run& how = {});
/// The same over x cut into batches; the output is that of the one output, all batches together.
Tensor run_batches(const Net& net, const Tensor& x, int64_t batch_size, const Run& how = {});

/// Throws InvalidArgument for x that this input of the model does not take, or that has no sample.
void check_data(const Net& net, const Tensor& x, std::string_view op, size_t input);
/// The same for the one input; throws Unimplemented for a model of several.
void check_data(const Net& net, const Tensor& x, std::string_view op);

}  // namespace evenflow::doctor
