// SPDX-License-Identifier: Apache-2.0
// What an examination sees of data: statistics under different statistics before them, and losses.
#include <algorithm>

#include "evenflow/data/dataset.h"
#include "evenflow/doctor/examination.h"
#include "evenflow/doctor/recalibrate.h"
#include "evenflow/ops/compare.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/reduce.h"

namespace evenflow::doctor {
namespace {

// Batches of a size; without the last one where it is smaller, for statistics of a batch's own.
std::vector<Tensor> batches(const Tensor& x, int64_t size, bool whole) {
  const bool some = whole && x.sig().shape[0] >= size;
  const Dataset data = Dataset(Tensors{x}).batch(size, some);
  std::vector<Tensor> r;
  for (int64_t i = 0; i < data.batches(); ++i) r.push_back(data.batch_at(i)[0]);
  return r;
}
std::vector<int64_t> axes_but(const Tensor& x, const std::vector<int64_t>& axes) {
  std::vector<int64_t> r;
  for (int64_t a = 0; a < x.rank(); ++a)
    if (std::find(axes.begin(), axes.end(), a) == axes.end()) r.push_back(a);
  return r;
}
// Where an activation is flat: its slope is below a hundredth of its largest.
Tensor flat(const std::string& activation, const Tensor& y) {
  if (activation == "relu") return y <= 0;
  return abs(y) > (activation == "sigmoid" ? 6. : 3.);
}
double loss_of(const Loss& loss, const Tensor& y, const Tensor& predicted) {
  return reduce_mean(cast(loss(y, predicted), DType::f64)).item();
}
}  // namespace

const Observed& Examination::observed() {
  if (observed_) return *observed_;
  observed_.emplace();
  auto watch = [this](std::map<const LayerImpl*, ChannelStats>& into) {
    return [this, &into](int use, const Tensors& in, const Tensor&) {
      if (const Norm* n = net_.norm_of(use)) merge_into(into[n->layer], stats_of(in[0], n->axes()));
    };
  };
  for (const Tensor& b : batches(x_, options_.batch_size, false))
    run(net_, {b}, {.by = Run::stored, .see = watch(observed_->stored)});
  for (const Tensor& b : batches(x_, options_.batch_size, true))
    run(net_, {b}, {.by = Run::batch, .see = watch(observed_->batch)});
  if (net_.ordered) observed_->precise = precise_statistics(net_, x_, options_.batch_size);
  return *observed_;
}

const std::vector<Reading>& Examination::readings() {
  if (!readings_.empty()) return readings_;
  for (const Norm& n : net_.norms)
    readings_.push_back({n.path, activation_after(net_, n),
                         int64_t(n.layer->update_count.read().item()), n.layer->config.epsilon,
                         n.mean(), n.variance(), n.gamma(), n.beta()});
  if (!x_) return readings_;
  for (size_t i = 0; i < net_.norms.size(); ++i) {
    const Norm& n = net_.norms[i];
    Reading& r = readings_[i];
    const ChannelStats& m = observed().stored.at(n.layer);
    for (const Stats& s : m)
      r.data_mean.push_back(s.mean), r.data_variance.push_back(population_variance(s));
    r.divergence = divergence(m, r.mean, r.variance, r.epsilon);
    if (!r.activation.empty()) r.inactive.assign(m.size(), 0);
  }
  std::vector<double> seen(net_.norms.size());
  for (const Tensor& b : batches(x_, options_.batch_size, false))
    run(net_, {b}, {.by = Run::stored, .see = [&](int use, const Tensors&, const Tensor& out) {
                      const Norm* n = net_.norm_of(use);
                      if (!n) return;
                      const size_t i = size_t(n - net_.norms.data());
                      Reading& r = readings_[i];
                      if (r.activation.empty()) return;
                      const auto share = reduce_mean(cast(flat(r.activation, out), DType::f32),
                                                     axes_but(out, n->axes()))
                                             .to_vector<double>();
                      const double many = double(b.sig().shape[0]);
                      seen[i] += many;
                      for (size_t c = 0; c < share.size(); ++c)
                        r.inactive[c] += (share[c] - r.inactive[c]) * many / seen[i];
                    }});
  for (Reading& r : readings_) {
    auto& list = r.activation == "relu" ? r.dead : r.saturated;
    list = channels_where(int64_t(r.inactive.size()),
                          [&](size_t c) { return r.inactive[c] >= 0.999; });
  }
  return readings_;
}

const Gap& Examination::gap() {
  if (gap_) return *gap_;
  Gap& g = gap_.emplace();
  const int64_t n = x_.sig().shape[0], size = options_.batch_size;
  // The same samples for all: whole batches, where there is one.
  const int64_t used = n >= size ? n / size * size : n;
  const Tensors data = Dataset(x_, y_).take(used).all();
  auto predicted = [&](const Run& how) { return run_batches(net_, data[0], size, how); };
  auto loss = [&](const Run& how) { return loss_of(options_.loss, data[1], predicted(how)); };
  const Tensor stored = predicted({.by = Run::stored});
  g.stored = loss_of(options_.loss, data[1], stored);
  const Tensor mean = reduce_mean(cast(stored, DType::f32), std::vector<int64_t>{0}, true);
  g.constant = loss_of(options_.loss, data[1], mean + fill_like(cast(stored, DType::f32), 0));
  g.batch = loss({.by = Run::batch});
  g.inference = loss({.by = Run::layer});
  g.training = loss({.by = Run::layer, .training = true});
  g.precise = g.stored;
  if (net_.ordered) g.precise = loss({.by = Run::given, .given_stats = &observed().precise});
  const double least = 0.1 * g.constant;
  if (!(std::abs(g.inference - g.stored) <= least))
    g.guilty = "mode";
  else if (!(g.stored - g.precise <= least))
    g.guilty = "averages";
  else if (!(g.precise - g.batch <= least))
    g.guilty = "batch noise";
  return g;
}

}  // namespace evenflow::doctor
