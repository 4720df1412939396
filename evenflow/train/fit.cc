// SPDX-License-Identifier: Apache-2.0
// The training loop: Model's compile, fit, evaluate, predict. A step is one compiled function:
// forward, loss, gradient, update, statistics.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <memory>
#include <set>

#include "evenflow/graph/compile.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/pool.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"
#include "evenflow/train/train.h"

namespace evenflow {

struct Training {
  CompileModelOptions options;
  std::unique_ptr<Function> train_step;
  int micro_batches = 1;  // of a full batch
  Function test_step;

  /// For so many micro-batches a step; a new one when that changes, or `anew`.
  Function& step_of(int parts, bool anew = false) {
    if (!train_step || anew || parts > micro_batches) {
      micro_batches = parts;
      CompileOptions o{.micro_batches = parts, .activations = options.activations};
      if (options.exact_micro_batches) o.tile = options.micro_batch_size;
      train_step = std::make_unique<Function>(o, Where::current());
    }
    return *train_step;
  }
};

namespace {
// Sums over batches, to means over the samples.
class Means {
 public:
  void add(const std::vector<double>& values, double count) {
    sums_.resize(values.size());
    for (size_t i = 0; i < values.size(); ++i) sums_[i] += values[i] * count;
    count_ += count;
  }
  double operator[](size_t i) const {
    return i < sums_.size() && count_ ? sums_[i] / count_ : std::nan("");
  }

 private:
  std::vector<double> sums_;
  double count_ = 0;
};

std::vector<std::string> names(const Training& t, std::string_view prefix = "") {
  std::vector<std::string> r{std::string(prefix) + "loss"};
  for (auto& m : t.options.metrics) r.push_back(std::string(prefix) + m.name());
  return r;
}
Training& compiled(const ModelImpl& m, std::string_view op) {
  if (!m.training)
    fail(Code::FailedPrecondition,
         {op, ": model \"", m.name, "\" is not compiled, expected compile({...}) first"});
  return *m.training;
}
Tensor with_regularization(const ModelImpl& m, Tensor loss) {
  for (auto& l : m.leaves())
    for (auto& w : l.layer->weights) {
      if (!w.regularizer || !w.trainable || !l.trainable) continue;
      Tensor v = w.variable.read();
      if (w.regularizer.l1) loss = loss + cast(reduce_sum(abs(v)) * w.regularizer.l1, loss.dtype());
      if (w.regularizer.l2)
        loss = loss + cast(reduce_sum(square(v)) * w.regularizer.l2, loss.dtype());
    }
  return loss;
}
// loss, then the mean of each metric; `y` is columns 1.. of a batch: targets, and weights if there
// are.
Tensors measured(const Model& model, const Training& t, const Tensors& batch,
                 const Tensor& predicted) {
  Tensors r{with_regularization(
      model.impl(), t.options.loss(batch[1], predicted, batch.size() > 2 ? batch[2] : Tensor()))};
  for (auto& m : t.options.metrics) r.push_back(reduce_mean(m.values(batch[1], predicted)));
  return r;
}
void build_for(const Model& model, const Sig& x) {
  Dims d(x.shape.begin(), x.shape.end());
  if (d.empty()) fail({"model \"", model.name(), "\": x is ", str(x), ", expected a batch"});
  d[0] = -1;
  if (!model.built()) model.build(d);
}
void build_for(const Model& model, const Dataset& data) {
  if (model.built()) return;
  const data::Field& x = data.schema()[0];
  if (x.kind != data::ColumnKind::dense)
    fail({"model \"", model.name(), "\": x is ", str(data::Schema{x}), ", expected dense values"});
  Dims d{-1};
  d.insert(d.end(), x.dims.begin(), x.dims.end());
  model.build(d);
}
void build_optimizer(const Model& model, Training& t) {
  OptimizerImpl& optimizer = *t.options.optimizer.impl();
  const std::vector<Weight> trainable = model.trainable_weights();
  std::vector<Variable> now;
  for (auto& w : trainable) now.push_back(w.variable);
  if (now == optimizer.variables && optimizer.iterations) return;
  optimizer.build(trainable);
  t.train_step = nullptr, t.micro_batches = 1;  // the traces hold the slots of before
  model.impl().optimizer_variables = optimizer.state();
}
[[noreturn]] void fail_empty(std::string_view op) {
  fail({op, ": the dataset is empty, expected at least one element"});
}
void check_batch(const Dataset& data, std::string_view op) {
  if (!data.size()) fail_empty(op);
  if (data.columns() < 2)
    fail({op, ": the dataset has ", data.columns(), " column, expected x and y"});
}
void check_steps(const Dataset& data, int64_t steps, std::string_view op, std::string_view name) {
  if (steps < 0) fail({op, ": ", name, " is ", steps, ", expected at least 0"});
  if (!steps && data.size() == data::kInfinite)
    fail({op, ": the dataset has no end, expected ", name});
}

// The batches of one epoch after the other. With a number of steps one pass goes on through the
// epochs, else each has a pass of its own.
class EpochBatches {
 public:
  EpochBatches(const Dataset& data, int64_t steps)
      : data_(data),
        wanted_(steps),
        steps_(!steps               ? data.batches()
               : data.batches() < 0 ? steps
                                    : std::min(steps, data.batches())) {}
  /// Of an epoch; -1 while nobody knows.
  int64_t steps() const { return steps_; }
  void begin(int64_t epoch) {
    done_ = 0;
    if (!pass_)
      pass_.emplace(data_, IteratorOptions{.epoch = epoch});
    else if (!wanted_)
      pass_->restart(epoch);
  }
  /// Empty at the end of the epoch.
  Tensors next() {
    Tensors batch;
    if (!wanted_ || done_ < wanted_) batch = pass_->next();
    done_ += !batch.empty();
    if (batch.empty() && !wanted_) steps_ = done_;
    return batch;
  }
  /// The data ended before the steps did.
  bool ran_out() const { return done_ < wanted_; }

 private:
  const Dataset data_;
  const int64_t wanted_;
  int64_t steps_, done_ = 0;
  std::optional<Iterator> pass_;
};

// Pooled over micro-batches and ranks, each with the weight of its samples.
void pool_gradients(const Tensor& x, Tensors& gradients) {
  Tensors parts{sample_count(x)};
  for (auto& g : gradients) parts.push_back(g.dtype() == DType::f64 ? g : cast(g, DType::f32));
  const Tensors pooled = pool(Pooled::mean, parts);
  for (size_t i = 0; i < gradients.size(); ++i)
    gradients[i] = cast(pooled[i + 1], gradients[i].dtype());
}
std::vector<double> train_batch(const Model& model, Training& t, const Tensors& batch) {
  const int64_t n = batch[0].sig().shape[0], size = t.options.micro_batch_size;
  const bool is_cut = size > 0 && size < n && !t.options.exact_micro_batches;
  const int64_t parts = is_cut ? (n - 1) / size + 1 : 1;
  Function& step = t.step_of(int(parts));
  auto body = [&](const Tensors& b) {
    Tensor predicted = model(b[0], {.training = true});
    Tensors results = measured(model, t, b, predicted);
    const auto& weights = t.options.optimizer.impl()->variables;
    std::vector<Wrt> wrt(weights.begin(), weights.end());
    if (wrt.empty()) return results;
    Tensors gradients = gradient(results[0], wrt);
    if (t.micro_batches > 1 || has_ranks()) pool_gradients(b[0], gradients);
    require(
        all_finite(gradients));  // a bad batch leaves weights, slots and statistics as they were
    t.options.optimizer.impl()->apply(gradients);
    return results;
  };
  Means means;
  for (int64_t begin = 0; begin < n; begin += is_cut ? size : n) {
    const int64_t rows = is_cut ? std::min(size, n - begin) : n;
    Tensors part = batch;
    if (is_cut)
      for (auto& c : part) {
        std::vector<int64_t> from(size_t(c.rank()), 0), extent(size_t(c.rank()), -1);
        from[0] = begin, extent[0] = rows;
        c = slice(c, from, extent);
      }
    std::vector<double> v;
    for (auto& r : step(part, body)) v.push_back(r.item());
    means.add(v, double(rows));
  }
  if (parts < t.micro_batches) step.apply();
  std::vector<double> v;
  for (size_t i = 0; i <= t.options.metrics.size(); ++i) v.push_back(means[i]);
  return v;
}
using AfterBatch = std::function<void(int64_t, const Means&)>;
Means evaluated(const Model& model, Training& t, EpochBatches& data, std::string_view op,
                const AfterBatch& after = {}) {
  Means means;
  data.begin(0);
  int64_t i = 0;
  for (Tensors batch; !(batch = data.next()).empty(); ++i) {
    Tensors r =
        t.test_step(batch, [&](const Tensors& b) { return measured(model, t, b, model(b[0])); });
    std::vector<double> v;
    for (auto& x : r) v.push_back(x.item());
    means.add(v, double(batch[0].sig().shape[0]));
    if (after) after(i, means);
  }
  if (!i) fail_empty(op);
  return means;
}
Dataset batched(const Dataset& data, int64_t size) {
  return data.batch_size() ? data : data.batch(size);
}
}  // namespace

void Model::compile(CompileModelOptions options) const {
  if (!options.loss) fail({"compile: loss is missing, expected a name or a Loss"});
  if (!options.optimizer) fail({"compile: optimizer is missing"});
  std::set<std::string> seen{"loss"};
  for (auto& m : options.metrics)
    if (!seen.insert(m.name()).second)
      fail({"compile: two metrics have the name \"", m.name(), "\""});
  if (options.micro_batch_size < 0)
    fail({"compile: micro_batch_size is ", options.micro_batch_size, ", expected at least 0"});
  if (options.exact_micro_batches && !options.micro_batch_size)
    fail({"compile: exact_micro_batches was given without micro_batch_size"});
  impl().training = std::make_shared<Training>();
  impl().training->options = std::move(options);
}

History Model::fit(const Tensor& x, const Tensor& y, FitOptions o) const {
  if (!x || !y) fail({"fit: x or y is an empty tensor"});
  Dataset data(o.sample_weight ? Tensors{x, y, o.sample_weight} : Tensors{x, y});
  if (!(o.validation_split >= 0 && o.validation_split < 1))
    fail({"fit: validation_split is ", o.validation_split, ", expected from 0, below 1"});
  if (o.batch_size < 1) fail({"fit: batch_size is ", o.batch_size, ", expected at least 1"});
  if (o.validation_split > 0) {
    if (o.validation_data)
      fail({"fit: validation_split and validation_data were both given, expected one"});
    const int64_t first = int64_t(std::floor(double(data.size()) * (1 - o.validation_split)));
    if (first < 1 || first >= data.size())
      fail({"fit: validation_split ", o.validation_split, " of ", data.size(),
            " elements leaves one part empty"});
    o.validation_data = data.skip(first);
    data = data.take(first);
  }
  if (o.shuffle) data = data.shuffle(o.seed ? *o.seed : next_seed());
  o.sample_weight = Tensor(), o.validation_split = 0;
  return fit(data.batch(o.batch_size), o);
}

History Model::fit(const Dataset& given, FitOptions o) const {
  Training& t = compiled(impl(), "fit");
  check_batch(given, "fit");
  if (o.epochs < 0 || o.initial_epoch < 0)
    fail({"fit: epochs is ", o.epochs, " and initial_epoch ", o.initial_epoch,
          ", expected at least 0"});
  if (o.validation_freq < 1)
    fail({"fit: validation_freq is ", o.validation_freq, ", expected at least 1"});
  if (o.batch_size < 1 || o.validation_batch_size < 0)
    fail({"fit: batch_size is ", o.batch_size, " and validation_batch_size ",
          o.validation_batch_size, ", expected at least 1 and 0"});
  if (o.sample_weight)
    fail({"fit: sample_weight was given with a dataset, expected a third column of the dataset"});
  if (o.validation_split != 0)
    fail({"fit: validation_split was given with a dataset, expected validation_data"});
  check_steps(given, o.steps_per_epoch, "fit", "steps_per_epoch");
  EpochBatches batches(batched(given, o.batch_size), o.steps_per_epoch);
  build_for(*this, given);
  build_optimizer(*this, t);
  std::optional<EpochBatches> validation;
  if (o.validation_data) {
    check_batch(*o.validation_data, "fit: validation_data");
    check_steps(*o.validation_data, o.validation_steps, "fit", "validation_steps");
    validation.emplace(batched(*o.validation_data,
                               o.validation_batch_size ? o.validation_batch_size : o.batch_size),
                       o.validation_steps);
  }
  TrainingState state{*this,     o.epochs, batches.steps(), 0,
                      o.verbose, o.out,    false,           validation.has_value()};
  std::vector<CallbackPtr> callbacks = o.callbacks;
  if (o.verbose) callbacks.push_back(ProgbarLogger());  // last, as in Keras
  History history;
  double seconds = 0;  // of the steps
  int64_t steps = 0;
  const auto train_names = names(t), val_names = names(t, "val_");
  auto all = [&](auto f) {
    for (auto& c : callbacks) f(*c);
  };
  all([&](Callback& c) { c.on_train_begin(state); });
  for (int64_t epoch = o.initial_epoch; epoch < o.epochs && !state.stop_training; ++epoch) {
    state.epoch = epoch;
    all([&](Callback& c) { c.on_epoch_begin(state, epoch); });
    Means means;
    Logs logs;
    int64_t skipped = 0, i = 0;
    batches.begin(epoch);
    for (Tensors batch; !state.stop_training && !(batch = batches.next()).empty(); ++i) {
      const auto start = std::chrono::steady_clock::now();
      std::vector<double> v = train_batch(*this, t, batch);
      seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      ++steps;
      if (Function::committed())
        means.add(v, double(batch[0].sig().shape[0]));
      else
        ++skipped;
      for (size_t k = 0; k < train_names.size(); ++k) logs.set(train_names[k], means[k]);
      if (skipped) logs.set("skipped_steps", double(skipped));
      all([&](Callback& c) { c.on_train_batch_end(state, i, logs); });
    }
    if (!i && !state.stop_training && epoch == o.initial_epoch) fail_empty("fit");
    state.steps = batches.steps();
    if (batches.ran_out() && !state.stop_training) {
      state.stop_training = true;
      if (o.verbose)
        std::fprintf(o.out,
                     "fit: the data ended after %lld of %lld steps; training ends. "
                     "Datasets are repeated by repeat().\n",
                     static_cast<long long>(i), static_cast<long long>(o.steps_per_epoch));
    }
    if (validation && (epoch + 1) % o.validation_freq == 0) {
      Means val = evaluated(*this, t, *validation, "fit: validation_data");
      for (size_t k = 0; k < val_names.size(); ++k) logs.set(val_names[k], val[k]);
    }
    history.add(epoch, logs);
    all([&](Callback& c) { c.on_epoch_end(state, epoch, logs); });
  }
  all([&](Callback& c) { c.on_train_end(state); });
  if (o.verbose && t.options.exact_micro_batches && steps)
    std::fprintf(o.out, "exact micro-batches of %lld: %.1f MB in the arena, %.3g ms a step\n",
                 static_cast<long long>(t.options.micro_batch_size),
                 double(t.train_step->stats().arena_bytes) / 1e6, seconds * 1e3 / double(steps));
  return history;
}

Logs Model::train_on_batch(const Tensor& x, const Tensor& y) const {
  Training& t = compiled(impl(), "train_on_batch");
  if (!x || !y) fail({"train_on_batch: x or y is an empty tensor"});
  check_batch(Dataset(x, y), "train_on_batch");
  build_for(*this, x.sig());
  build_optimizer(*this, t);
  std::vector<double> v = train_batch(*this, t, {x, y});
  Logs logs;
  const auto n = names(t);
  for (size_t k = 0; k < n.size(); ++k) logs.set(n[k], v[k]);
  if (!Function::committed()) logs.set("skipped_steps", 1);
  return logs;
}

Logs Model::evaluate(const Tensor& x, const Tensor& y, EvaluateOptions o) const {
  if (!x || !y) fail({"evaluate: x or y is an empty tensor"});
  return evaluate(Dataset(x, y), o);
}
Logs Model::evaluate(const Dataset& given, EvaluateOptions o) const {
  Training& t = compiled(impl(), "evaluate");
  check_batch(given, "evaluate");
  if (o.batch_size < 1) fail({"evaluate: batch_size is ", o.batch_size, ", expected at least 1"});
  check_steps(given, o.steps, "evaluate", "steps");
  EpochBatches data(batched(given, o.batch_size), o.steps);
  build_for(*this, given);
  const auto n = names(t);
  TrainingState state{*this, 1, data.steps(), 0, o.verbose, o.out};
  const CallbackPtr bar = o.verbose ? ProgbarLogger() : std::make_shared<Callback>();
  bar->on_train_begin(state), bar->on_epoch_begin(state, 0);
  Logs logs;
  evaluated(*this, t, data, "evaluate", [&](int64_t i, const Means& means) {
    for (size_t k = 0; k < n.size(); ++k) logs.set(n[k], means[k]);
    bar->on_train_batch_end(state, i, logs);
  });
  bar->on_epoch_end(state, 0, logs);
  return logs;
}

namespace {
void check_predict(const Model& model, const PredictOptions& o) {
  const ModelImpl& m = model.impl();
  if (m.outputs.size() != 1)
    fail({"predict: model \"", m.name, "\" has ", m.outputs.size(),
          " outputs, expected one; use call()"});
  if (o.batch_size < 1) fail({"predict: batch_size is ", o.batch_size, ", expected at least 1"});
}
Tensor predicted(const Model& model, const Tensor& x) {
  auto body = [&](const Tensors& b) { return Tensors{model(b[0])}; };
  return (*model.impl().predict_step)({x}, body)[0];
}
}  // namespace

Tensor Model::predict(const Tensor& x) const { return predict(x, PredictOptions{}); }
Tensor Model::predict(const Tensor& x, PredictOptions o) const {
  if (!x) fail({"predict: x is an empty tensor"});
  build_for(*this, x.sig());
  check_predict(*this, o);
  if (x.sig().shape[0] <= o.batch_size) return predicted(*this, x);
  return predict(Dataset(Tensors{x}), o);
}
Tensor Model::predict(const Dataset& given, PredictOptions o) const {
  check_steps(given, o.steps, "predict", "steps");
  build_for(*this, given);
  check_predict(*this, o);
  EpochBatches batches(batched(given, o.batch_size), o.steps);
  batches.begin(0);
  std::vector<data::Chunk> outputs;
  for (Tensors batch; !(batch = batches.next()).empty();) {
    const Tensor y = predicted(*this, batch[0]);
    outputs.push_back({{data::Column(y)}, y.sig().shape[0]});
  }
  if (outputs.empty()) fail_empty("predict");
  return data::concatenate(outputs).columns[0].tensor();
}

}  // namespace evenflow
