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
    for (int64_t i = 0; i < data.batches(); ++i) run(net, {data.batch_at(i)[0]}, how);
    for (const Norm& n : net.norms)
      if (finish && n.level == level) finish(n, found[n.layer]);
  }
  return found;
}

namespace {
void put(const Variable& v, const std::vector<double>& values) {
  v.assign(constant(values, v.sig().shape, v.sig().dtype));
}
// Makes these the layer's averages, and training that goes on takes them for what so many updates
// left, whatever the policy.
void store(const Norm& norm, const ChannelStats& all, int64_t updates) {
  BatchNormalizationImpl& bn = *norm.layer;
  std::vector<double> mean, m2, variance, deviation;
  for (const Stats& s : all) {
    mean.push_back(s.mean), m2.push_back(s.m2), variance.push_back(norm.stored_variance(s));
    deviation.push_back(std::sqrt(variance.back() + bn.config.epsilon));
  }
  put(bn.moving_mean, mean), put(bn.moving_variance, variance);
  if (bn.config.renorm)
    put(bn.renorm_mean, mean), put(bn.renorm_stddev, deviation), put(bn.moving_stddev, deviation);
  const double count = std::max(bn.update_count.read().item(), double(updates));
  bn.update_count.assign(full({}, count, DType::i64));
  const double n = all.empty() ? 0 : all[0].n;
  for (const Weight& w : bn.extra_state()) {
    // A window keeps the latest last; what is not there counts 0.
    auto last = [&](const std::vector<double>& values) {
      std::vector<double> r(size_t(w.variable.sig().shape.count()));
      std::copy(values.begin(), values.end(), r.end() - std::ptrdiff_t(values.size()));
      put(w.variable, r);
    };
    if (w.name == "total_n" || w.name == "window_n") last({n});
    if (w.name == "total_mean" || w.name == "window_mean") last(mean);
    if (w.name == "total_m2" || w.name == "window_m2") last(m2);
  }
}
}  // namespace

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
  const auto found = precise_statistics(net, some, o.batch_size);
  const int64_t batches = Dataset(Tensors{some}).batch(o.batch_size).batches();

  std::vector<Recalibrated> r;
  Step step;  // all or none
  for (const Norm& n : net.norms) {
    const ChannelStats& all = found.at(n.layer);
    for (size_t c = 0; c < all.size(); ++c)
      if (!std::isfinite(all[c].mean) || !std::isfinite(all[c].m2))
        fail({op, ": channel ", c, " of what layer \"", n.path, "\" receives has mean ",
              all[c].mean, " and variance ", population_variance(all[c]),
              ", expected finite numbers"});
    r.push_back({n.path, all.empty() ? 0 : all[0].n,
                 divergence(all, n.mean(), n.variance(), n.layer->config.epsilon)});
    store(n, all, batches);
  }
  step.commit();
  return r;
}

}  // namespace evenflow::doctor
