// SPDX-License-Identifier: Apache-2.0
// The training loop: Model's compile, fit, evaluate, predict. A step is one compiled function:
// forward, loss, gradient, update, statistics.
#include <algorithm>
#include <cmath>

#include "evenflow/graph/compile.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/train/train.h"

namespace evenflow {

struct Training {
  CompileModelOptions options;
  Function train_step, test_step, predict_step;
  std::vector<Variable> weights;  // those the optimizer was built for
};

namespace {
// Sums over batches, to means over the samples.
class Means {
 public:
  void add(const std::vector<double>& values, const std::vector<double>& counts) {
    sums_.resize(values.size()), counts_.resize(values.size());
    for (size_t i = 0; i < values.size(); ++i)
      sums_[i] += values[i] * counts[i], counts_[i] += counts[i];
  }
  double operator[](size_t i) const {
    return i < sums_.size() && counts_[i] ? sums_[i] / counts_[i] : 0;
  }

 private:
  std::vector<double> sums_, counts_;
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
      if (!w.regularizer) continue;
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
void build_optimizer(const Model& model, Training& t) {
  std::vector<Variable> now;
  const std::vector<Weight> trainable = model.trainable_weights();
  for (auto& w : trainable) now.push_back(w.variable);
  if (now == t.weights && t.options.optimizer.impl()->iterations) return;
  t.options.optimizer.impl()->build(trainable);
  t.weights = std::move(now);
}
void check_batch(const Dataset& data, std::string_view op) {
  if (data.columns() < 2)
    fail({op, ": the dataset has ", data.columns(), " column, expected x and y"});
  if (!data.size()) fail({op, ": the dataset is empty, expected at least one element"});
}

std::vector<double> train_batch(const Model& model, Training& t, const Tensors& batch) {
  Tensors r = t.train_step(batch, [&](const Tensors& b) {
    Tensor predicted = model(b[0], {.training = true});
    Tensors results = measured(model, t, b, predicted);
    std::vector<Wrt> wrt(t.weights.begin(), t.weights.end());
    if (wrt.empty()) return results;
    Tensors gradients = gradient(results[0], wrt);
    require(
        all_finite(gradients));  // a bad batch leaves weights, slots and statistics as they were
    t.options.optimizer.impl()->apply(gradients);
    return results;
  });
  std::vector<double> v;
  for (auto& x : r) v.push_back(x.item());
  return v;
}
Means evaluated(const Model& model, Training& t, const Dataset& data) {
  Means means;
  const int64_t n = data.batches();
  for (int64_t i = 0; i < n; ++i) {
    Tensors batch = data.batch_at(i);
    Tensors r =
        t.test_step(batch, [&](const Tensors& b) { return measured(model, t, b, model(b[0])); });
    std::vector<double> v;
    for (auto& x : r) v.push_back(x.item());
    means.add(v, std::vector<double>(v.size(), double(batch[0].sig().shape[0])));
  }
  return means;
}
Dataset batched(const Dataset& data, int64_t size) {
  return data.batch_size() ? data : data.batch(size);
}
}  // namespace

void Model::compile(CompileModelOptions options) const {
  if (!options.loss) fail({"compile: loss is missing, expected a name or a Loss"});
  if (!options.optimizer) fail({"compile: optimizer is missing"});
  impl().training = std::make_shared<Training>();
  impl().training->options = std::move(options);
}

History Model::fit(const Tensor& x, const Tensor& y, FitOptions o) const {
  if (!x || !y) fail({"fit: x or y is an empty tensor"});
  Dataset data(x, y);
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
  const Dataset data = batched(given, o.batch_size);
  build_for(*this, data.element_sig(0));
  build_optimizer(*this, t);
  std::optional<Dataset> validation;
  if (o.validation_data) {
    check_batch(*o.validation_data, "fit: validation_data");
    validation = batched(*o.validation_data,
                         o.validation_batch_size ? o.validation_batch_size : o.batch_size);
  }
  TrainingState state{*this, o.epochs, data.batches(), 0, o.verbose, o.out, false};
  std::vector<CallbackPtr> callbacks = o.callbacks;
  if (o.verbose) callbacks.insert(callbacks.begin(), ProgbarLogger());
  History history;
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
    for (int64_t i = 0; i < state.steps && !state.stop_training; ++i) {
      Tensors batch = data.batch_at(i, epoch);
      std::vector<double> v = train_batch(*this, t, batch);
      means.add(v, std::vector<double>(v.size(), double(batch[0].sig().shape[0])));
      for (size_t k = 0; k < train_names.size(); ++k) logs.set(train_names[k], means[k]);
      all([&](Callback& c) { c.on_train_batch_end(state, i, logs); });
    }
    if (validation && (epoch + 1) % o.validation_freq == 0) {
      Means val = evaluated(*this, t, *validation);
      for (size_t k = 0; k < val_names.size(); ++k) logs.set(val_names[k], val[k]);
    }
    history.epoch.push_back(epoch);
    for (auto& [n, v] : logs.values) {
      auto it = std::find_if(history.history.begin(), history.history.end(),
                             [&](auto& h) { return h.first == n; });
      if (it == history.history.end()) it = history.history.insert(it, {n, {}});
      it->second.push_back(v);
    }
    all([&](Callback& c) { c.on_epoch_end(state, epoch, logs); });
  }
  all([&](Callback& c) { c.on_train_end(state); });
  return history;
}

Logs Model::train_on_batch(const Tensor& x, const Tensor& y) const {
  Training& t = compiled(impl(), "train_on_batch");
  if (!x || !y) fail({"train_on_batch: x or y is an empty tensor"});
  build_for(*this, x.sig());
  build_optimizer(*this, t);
  std::vector<double> v = train_batch(*this, t, {x, y});
  Logs logs;
  const auto n = names(t);
  for (size_t k = 0; k < n.size(); ++k) logs.set(n[k], v[k]);
  return logs;
}

Logs Model::evaluate(const Tensor& x, const Tensor& y, EvaluateOptions o) const {
  if (!x || !y) fail({"evaluate: x or y is an empty tensor"});
  return evaluate(Dataset(x, y), o);
}
Logs Model::evaluate(const Dataset& given, EvaluateOptions o) const {
  Training& t = compiled(impl(), "evaluate");
  check_batch(given, "evaluate");
  const Dataset data = batched(given, o.batch_size);
  build_for(*this, data.element_sig(0));
  Means means = evaluated(*this, t, data);
  Logs logs;
  const auto n = names(t);
  for (size_t k = 0; k < n.size(); ++k) logs.set(n[k], means[k]);
  if (o.verbose) {
    TrainingState state{*this, 1, data.batches(), 0, o.verbose, o.out, false};
    auto bar = ProgbarLogger();
    bar->on_train_begin(state), bar->on_epoch_begin(state, 0), bar->on_epoch_end(state, 0, logs);
  }
  return logs;
}

Tensor Model::predict(const Tensor& x) const { return predict(x, PredictOptions{}); }
Tensor Model::predict(const Tensor& x, PredictOptions o) const {
  if (!x) fail({"predict: x is an empty tensor"});
  build_for(*this, x.sig());
  ModelImpl& m = impl();
  if (!m.training)
    m.training = std::make_shared<Training>();  // a place for the compiled function: predict needs
                                                // no compile()
  if (m.outputs.size() != 1)
    fail({"predict: model \"", m.name, "\" has ", m.outputs.size(),
          " outputs, expected one; use call()"});
  if (o.batch_size < 1) fail({"predict: batch_size is ", o.batch_size, ", expected at least 1"});
  const Dataset data = Dataset(Tensors{x}).batch(o.batch_size);
  auto body = [&](const Tensors& b) { return Tensors{(*this)(b[0])}; };
  const int64_t n = data.batches();
  if (n <= 1) return m.training->predict_step({x}, body)[0];
  BufferPtr all;
  Sig sig;
  int64_t at = 0;
  for (int64_t i = 0; i < n; ++i) {
    Tensor y = m.training->predict_step(data.batch_at(i), body)[0];
    if (!all) {
      sig = {y.dtype(), y.sig().shape.with(0, x.sig().shape[0])};
      all = make_buffer(sig.bytes());
    }
    std::copy_n(static_cast<const char*>(y.data()), y.sig().bytes(),
                static_cast<char*>(all->data()) + at);
    at += y.sig().bytes();
  }
  return tensor(sig, all);
}

}  // namespace evenflow
