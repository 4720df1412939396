// SPDX-License-Identifier: Apache-2.0
// Recalibration ("precise batch norm"; Wu & Johnson 2021, arXiv:2105.07576): new averages from
// data, for fixed weights. After averaging, pruning or quantising weights, and where averages lag
// behind.
#pragma once
#include <string>
#include <vector>

#include "evenflow/doctor/net.h"

namespace evenflow::doctor {

struct RecalibrateOptions {
  int64_t samples = 4096;    ///< the first so many of x; 0: all
  int64_t batch_size = 256;  ///< samples at a time: memory, not the result
};
struct Recalibrated {
  std::string layer;
  double n = 0;           ///< elements to a channel
  double divergence = 0;  ///< KL(new || old), the mean over channels
};
/// Replaces the averages of every batch normalisation layer by the statistics of what it receives
/// from x [samples, ...]: the total variance E[sigma^2] + Var[mu], by merging (n, mean, M2) over
/// all batches. Layers are taken in the order of depth, those before them recalibrated already; all
/// change together or none does. Costs as many runs over x as norms lie behind one another. Throws
/// InvalidArgument for x that the model does not take, and for statistics that are not finite.
std::vector<Recalibrated> recalibrate(const Model& model, const Tensor& x,
                                      RecalibrateOptions options = {});

/// Those statistics, without changing the model. `finish` may change what a level of layers is
/// given before the next is looked at.
std::map<const LayerImpl*, ChannelStats> precise_statistics(
    const Net& net, const Tensor& x, int64_t batch_size,
    const std::function<void(const Norm&, ChannelStats&)>& finish = {});

}  // namespace evenflow::doctor
