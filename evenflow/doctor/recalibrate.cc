// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/recalibrate.h"

#include <algorithm>
#include <cmath>

#include "evenflow/data/dataset.h"
#include "evenflow/doctor/examination.h"

namespace evenflow::doctor {

std::map<const LayerImpl*, ChannelStats> precise_statistics(
    const Net& net, const Tensor& x, int64_t batch_size,
    const std::function<void(const Norm&, ChannelStats&)>& finish) {
  std::map<const LayerImpl*, ChannelStats> found;
  int levels = 0;
  for (const Norm& n : net.norms) levels = std::max(levels, n.level + 1);
  const Dataset data = Dataset(Tensors{x}).batch(batch_size);
  for (int level = 0; level < levels; ++level) {
    const Run how{.by = Run::given,
                  .given_stats = &found,
                  .levels = level,
                  .see = [&](int use, const Tensors& in, const Tensor&) {
                    const Norm* n = net.norm_of(use);
                    if (n && n->level == level)
                      merge_into(found[n->layer], stats_of(in[0], n->axes()));
                  }};
    for (int64_t i = 0; i < data.batches(); ++i) run(net, data.batch_at(i)[0], how);
    for (const Norm& n : net.norms)
      if (finish && n.level == level) finish(n, found[n.layer]);
  }
  return found;
}

std::vector<Recalibrated> recalibrate(const Model& model, const Tensor& x, RecalibrateOptions o) {
  constexpr std::string_view op = "recalibrate";
  const Net net(model);
  check_data(net, x, op);
  net.require_order(op);
  if (o.samples < 0) fail({op, ": samples is ", o.samples, ", expected at least 0"});
  if (o.batch_size < 1) fail({op, ": batch_size is ", o.batch_size, ", expected at least 1"});
  if (net.norms.empty())
    fail(Code::NotFound, {op, ": model \"", model.name(), "\" has no BatchNormalization layer"});
  const Tensor some =
      o.samples ? Dataset(Tensors{x}).take(std::min(o.samples, x.sig().shape[0])).all()[0] : x;
  const auto moments = precise_statistics(net, some, o.batch_size);
  const int64_t batches = Dataset(Tensors{some}).batch(o.batch_size).batches();

  std::vector<Recalibrated> r;
  Step step;  // all or none
  for (const Norm& n : net.norms) {
    const ChannelStats& m = moments.at(n.layer);
    std::vector<double> mean, variance;
    for (const Stats& s : m) {
      mean.push_back(s.mean), variance.push_back(population_variance(s));
      if (!std::isfinite(mean.back()) || !std::isfinite(variance.back()))
        fail({op, ": channel ", mean.size() - 1, " of what layer \"", n.path,
              "\" receives has mean ", mean.back(), " and variance ", variance.back(),
              ", expected finite numbers"});
    }
    r.push_back({n.path, m.empty() ? 0 : m[0].n,
                 divergence(m, n.mean(), n.variance(), n.layer->config.epsilon)});
    const Sig& sig = n.layer->moving_mean.sig();
    n.layer->moving_mean.assign(constant(mean, sig.shape, sig.dtype));
    n.layer->moving_variance.assign(constant(variance, sig.shape, sig.dtype));
    // Training that goes on takes them for an average of as many batches.
    const int64_t count = std::max(int64_t(n.layer->update_count.read().item()), batches);
    n.layer->update_count.assign(full({}, double(count), DType::i64));
  }
  step.commit();
  return r;
}

}  // namespace evenflow::doctor
