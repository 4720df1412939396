// SPDX-License-Identifier: Apache-2.0
// The moving averages of BatchNormalization: what an update proposes, by policy.
#include "evenflow/graph/transaction.h"
#include "evenflow/model/batch_norm_update.h"
#include "evenflow/ops/compare.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/pool.h"
#include "evenflow/ops/random.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"

namespace evenflow {
namespace {
// Whether averages of these stay finite: twice a mean is, so that differences of two are; and the
// root of what is negative is not.
Tensor sound(const Statistics& s) { return all_finite({sqrt(s.n), s.mean * 2, sqrt(s.m2)}); }
Statistics only_if(const Tensor& condition, const Statistics& s) {
  return {select(condition, s.n, 0), select(condition, s.mean, 0), select(condition, s.m2, 0)};
}
Statistics in_type(const Statistics& s, DType type) {
  return {s.n, cast(s.mean, type), cast(s.m2, type)};
}
Tensor running_variance(const Statistics& s, BatchNormVariance kind) {
  if (kind == BatchNormVariance::population) return s.variance();
  return s.m2 / maximum(cast(s.n, s.m2.dtype()) - 1, 1);
}
}  // namespace

// ---- state ----
void BatchNormalizationImpl::make_state() {
  const Shape channels = moving_mean.sig().shape;  // a copy: the variable may be replaced below
  const DType type = state_dtype();
  auto state = [&](const char* what, const Tensor& value, Commit commit = Commit::Step) {
    return Variable(value, {.name = name + "/" + what, .commit = commit});
  };
  for (Variable* v : {&moving_mean, &moving_variance, &moving_stddev, &renorm_mean, &renorm_stddev})
    if (*v && v->sig().dtype != type) {
      const Variable wide(cast(v->read(), type), {.name = v->name()});
      for (Weight& w : weights)
        if (w.variable == *v) w.variable = wide;
      *v = wide;
    }
  if (!update_count) {
    update_count = state("update_count", full({}, 0, DType::i64));
    rejected_count = state("rejected_count", full({}, 0, DType::i64), Commit::Run);
  }
  if (config.adjustment && !draw_)
    draw_ = Generator(seed & 0xffffffffffffu).state();  // 48 bits: exact as a number in JSON
  if (averages() == BatchNormAverages::window &&
      (!window_n_ || window_n_.sig().shape[0] != config.window)) {
    std::vector<int64_t> all(channels.begin(), channels.end());
    all.insert(all.begin(), config.window);
    window_n_ = state("window_n", zeros({config.window}));
    window_mean_ = state("window_mean", zeros(Shape(all), type));
    window_m2_ = state("window_m2", zeros(Shape(all), type));
  }
  if (averages() == BatchNormAverages::precise && !total_n_) {
    total_n_ = state("total_n", zeros({}, DType::f64));
    total_mean_ = state("total_mean", zeros(channels, DType::f64));
    total_m2_ = state("total_m2", zeros(channels, DType::f64));
  }
}
std::vector<Weight> BatchNormalizationImpl::extra_state() const {
  std::vector<Weight> r;
  auto add = [&](const char* what, const Variable& v) {
    if (v) r.push_back({what, v, false});
  };
  add("update_count", update_count), add("rejected_count", rejected_count), add("draw", draw_);
  if (averages() == BatchNormAverages::window)
    add("window_n", window_n_), add("window_mean", window_mean_), add("window_m2", window_m2_);
  if (averages() == BatchNormAverages::precise)
    add("total_n", total_n_), add("total_mean", total_mean_), add("total_m2", total_m2_);
  return r;
}
void BatchNormalizationImpl::set_averages(BatchNormAverages a) {
  averages_.set(a == config.averages ? -1 : int64_t(a));
  if (built) make_state();
}
void BatchNormalizationImpl::reset_statistics() {
  if (!built) return;
  for (const Variable& v : {update_count, rejected_count, window_n_, window_mean_, window_m2_,
                            total_n_, total_mean_, total_m2_})
    if (v) v.assign(zeros(v.sig().shape, v.sig().dtype));
  auto begin = [&](const Variable& v, const Initializer& init) {
    if (v) v.assign(cast(tensor(init(v.sig().shape, seed), v.sig().shape), v.sig().dtype));
  };
  for (const Variable& v : {moving_mean, renorm_mean}) begin(v, config.moving_mean_initializer);
  for (const Variable& v : {moving_variance, moving_stddev, renorm_stddev})
    begin(v, config.moving_variance_initializer);
  for (const Variable& v : {moving_stddev, renorm_stddev})
    if (v) v.assign(sqrt(v.read()));
}

// ---- updates ----
// Keras takes one update after the other; every other policy one a step.
std::shared_ptr<BatchNormalizationImpl::Update> BatchNormalizationImpl::open_update() const {
  Transaction* t = Transaction::current();
  if (!t || averages() == BatchNormAverages::plain) return std::make_shared<Update>();
  std::shared_ptr<void>& kept = t->kept[this];
  if (auto old = std::static_pointer_cast<Update>(kept)) {
    const Edge* now = t->proposal(moving_mean.state());
    // Else somebody assigned in between, and that is what the next update starts from.
    if (now ? *now == old->proposed : !old->proposed.node) return old;
  }
  auto fresh = std::make_shared<Update>();
  kept = fresh;
  return fresh;
}

void BatchNormalizationImpl::update(Statistics s) {
  const Tensor good = sound(s);
  rejected_count.assign(rejected_count.read() + cast(logical_not(good), DType::i64));
  s = only_if(good, s);
  const Tensors pooled = pool(Pooled::statistics, {s.n, s.mean, s.m2});  // micro-batches and ranks
  s = in_type({pooled[0], pooled[1], pooled[2]}, state_dtype());
  const std::shared_ptr<Update> step = open_update();
  if (step->statistics.n) s = merge_statistics(step->statistics, s);
  s = step->statistics = only_if(sound(s), s);

  const BatchNormAverages policy = averages();
  const Tensor any = greater(s.n, 0), count = step->before(update_count) + cast(any, DType::i64);
  const double momentum = policy == BatchNormAverages::cumulative ? 1 : config.momentum;
  auto put = [&](const Variable& v, const Tensor& value) {
    const Tensor old = step->before(v);
    v.assign(select(any, cast(value, old.dtype()), old));
  };
  auto average = [&](const Variable& v, const Tensor& value, double keep) {
    v.assign(moving_average(step->before(v), value, s.n, count, keep,
                            policy != BatchNormAverages::plain));
  };
  // The statistics that the averages stand for, where they are kept as such.
  auto adopt = [&](const Statistics& all) {
    put(moving_mean, all.mean), put(moving_variance, running_variance(all, config.variance));
  };
  const Tensor variance = running_variance(s, config.variance);
  const Tensor stddev = config.renorm ? sqrt(variance + config.epsilon) : Tensor();
  if (policy == BatchNormAverages::window) {
    auto shifted = [&](const Variable& v, const Tensor& next) {
      const Tensor old = step->before(v);
      std::vector<int64_t> from(size_t(old.rank())), size(size_t(old.rank()), -1);
      from[0] = 1;
      put(v, evenflow::concat({slice(old, from, size), expand_dims(next, 0)}, 0));
      return v.read();
    };
    const Tensor n = shifted(window_n_, s.n), mean = shifted(window_mean_, s.mean);
    adopt(merge_stacked_statistics({n, mean, shifted(window_m2_, s.m2)}));
  } else if (policy == BatchNormAverages::precise) {  // in f64: a count in f32 ends at 2^24
    const Statistics one = in_type(s, DType::f64);
    const Tensor m = cast(s.n, DType::f64), n0 = step->before(total_n_), n = n0 + m,
                 mean0 = step->before(total_mean_), d = one.mean - mean0,
                 share = divide_no_nan(m, n);
    const Tensor mean = mean0 + d * share,
                 m2 = step->before(total_m2_) + one.m2 + square(d) * (n0 * share);
    put(total_n_, n), put(total_mean_, mean), put(total_m2_, m2);
    put(moving_mean, mean);
    put(moving_variance, config.variance == BatchNormVariance::population ? divide_no_nan(m2, n)
                                                                          : m2 / maximum(n - 1, 1));
  } else {
    average(moving_mean, s.mean, momentum);
    if (config.renorm) {
      average(moving_stddev, stddev, momentum);
      put(moving_variance, maximum(square(moving_stddev.read()) - config.epsilon, 0));
    } else
      average(moving_variance, variance, momentum);
  }
  if (config.renorm) {
    if (policy == BatchNormAverages::window || policy == BatchNormAverages::precise)
      put(moving_stddev, sqrt(moving_variance.read() + config.epsilon));
    average(renorm_mean, s.mean, config.renorm_momentum);
    average(renorm_stddev, stddev, config.renorm_momentum);
  }
  update_count.assign(count);
  if (Transaction* t = Transaction::current()) step->proposed = *t->proposal(moving_mean.state());
}

}  // namespace evenflow
