// SPDX-License-Identifier: Apache-2.0
#include "evenflow/train/optimizers.h"

#include <algorithm>
#include <cmath>

#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/reduce.h"

namespace evenflow {
namespace {
void check(bool ok, std::string_view what, double found, std::string_view expected) {
  if (!ok || !std::isfinite(found)) fail({what, " is ", found, ", expected ", expected});
}
void check_rate(std::string_view op, double rate, double decay) {
  check(rate >= 0, concat({op, ": learning_rate"}), rate, "a finite number, at least 0");
  check(decay >= 0, concat({op, ": weight_decay"}), decay, "a finite number, at least 0");
}

template <class Config>
void check_clipping(std::string_view op, const Config& c) {
  for (auto& v : {c.clipnorm, c.clipvalue, c.global_clipnorm})
    if (v)
      check(*v > 0, concat({op, ": what bounds the gradients"}), *v, "a finite number above 0");
  if (c.clipnorm.has_value() + c.clipvalue.has_value() + c.global_clipnorm.has_value() > 1)
    fail(
        {op, ": more than one of clipnorm, clipvalue and global_clipnorm was given, expected one"});
}
Tensor squares(const Tensor& g) { return reduce_sum(square(cast(g, DType::f32))); }
// g * bound / max(norm, bound)
Tensor bounded(const Tensor& g, const Tensor& squared_norm, double bound) {
  const Tensor norm = maximum(sqrt(squared_norm), bound);
  return g * cast(fill_like(norm, bound) / norm, g.dtype());
}

template <class Config>
class Base : public OptimizerImpl {
 public:
  Config config;
  void visit(ConfigVisitor& v) override { config.fields(v); }

 protected:
  double initial_rate() const override { return config.learning_rate; }
  Tensors clipped(Tensors gradients) const override {
    Tensor all;
    if (config.global_clipnorm)
      for (auto& g : gradients)
        if (g) all = all ? all + squares(g) : squares(g);
    for (auto& g : gradients) {
      if (!g) continue;
      if (config.clipvalue) g = clip(g, -*config.clipvalue, *config.clipvalue);
      if (config.clipnorm) g = bounded(g, squares(g), *config.clipnorm);
      if (all) g = bounded(g, all, *config.global_clipnorm);
    }
    return gradients;
  }
  // Decoupled weight decay, before the update, as Keras does it for every optimizer.
  Tensor decayed(const Variable& w, const Tensor& rate) const {
    Tensor v = w.read();
    return config.weight_decay ? v - v * (cast(rate, v.dtype()) * config.weight_decay) : v;
  }
};

class SgdImpl : public Base<SGDConfig> {
 public:
  std::string_view class_name() const override { return "SGD"; }
  void make_slots() override {
    velocity_ = config.momentum ? slots("momentum") : std::vector<Variable>{};
  }
  void update(size_t i, const Tensor& g, const Tensor& rate, const Tensor&) override {
    Tensor w = decayed(variables[i], rate), step = g * cast(rate, g.dtype());
    if (!config.momentum) return variables[i].assign(w - step);
    Tensor v = velocity_[i].read() * config.momentum - step;
    velocity_[i].assign(v);
    variables[i].assign(config.nesterov ? w + (v * config.momentum - step) : w + v);
  }

 private:
  std::vector<Variable> velocity_;
};

class RmspropImpl : public Base<RMSpropConfig> {
 public:
  std::string_view class_name() const override { return "RMSprop"; }
  void make_slots() override {
    square_ = slots("velocity");
    momentum_ = config.momentum ? slots("momentum") : std::vector<Variable>{};
    mean_ = config.centered ? slots("average_gradient") : std::vector<Variable>{};
  }
  void update(size_t i, const Tensor& g, const Tensor& rate, const Tensor&) override {
    Tensor w = decayed(variables[i], rate);
    Tensor s = square_[i].read() * config.rho + square(g) * (1 - config.rho), d = s;
    square_[i].assign(s);
    if (config.centered) {
      Tensor m = mean_[i].read() * config.rho + g * (1 - config.rho);
      mean_[i].assign(m);
      d = s - square(m);
    }
    Tensor step = g * cast(rate, g.dtype()) / sqrt(d + config.epsilon);
    if (config.momentum) {
      step = momentum_[i].read() * config.momentum + step;
      momentum_[i].assign(step);
    }
    variables[i].assign(w - step);
  }

 private:
  std::vector<Variable> square_, momentum_, mean_;
};

class AdamImpl : public Base<AdamConfig> {
 public:
  explicit AdamImpl(bool w) : decoupled_(w) {}
  std::string_view class_name() const override { return decoupled_ ? "AdamW" : "Adam"; }
  void make_slots() override {
    m_ = slots("momentum"), v_ = slots("velocity");
    largest_ = config.amsgrad ? slots("velocity_hat") : std::vector<Variable>{};
  }
  void update(size_t i, const Tensor& g, const Tensor& rate, const Tensor& step) override {
    const DType type = variables[i].sig().dtype;
    const Tensor t = cast(step, type), one = fill_like(t, 1);  // of twins the graph keeps one
    const Tensor scale =
        cast(rate, type) * sqrt(one - power(config.beta_2, t)) / (one - power(config.beta_1, t));
    Tensor w = decayed(variables[i], rate), old_m = m_[i].read(), old_v = v_[i].read();
    Tensor m = old_m + (g - old_m) * (1 - config.beta_1),
           v = old_v + (square(g) - old_v) * (1 - config.beta_2);
    m_[i].assign(m), v_[i].assign(v);
    if (config.amsgrad) {
      v = maximum(largest_[i].read(), v);
      largest_[i].assign(v);
    }
    variables[i].assign(w - m * scale / (sqrt(v) + config.epsilon));
  }

 private:
  bool decoupled_;
  std::vector<Variable> m_, v_, largest_;
};
}  // namespace

void OptimizerImpl::build(const std::vector<Weight>& weights) {
  bool known = false;
  variables.clear(), constraints_.clear();
  for (auto& w : weights) {
    variables.push_back(w.variable), constraints_.push_back(w.constraint);
    for (auto& s : slots_) known = known || s.owner == w.variable;
  }
  if (!learning_rate) learning_rate = Variable(full({}, initial_rate()), {.name = "learning_rate"});
  if (!known) {
    slots_.clear();
    iterations = Variable(full({}, 0, DType::i64), {.name = "iterations"});
  }
  make_slots();
}
std::vector<Variable> OptimizerImpl::slots(std::string_view name) {
  std::vector<Variable> r;
  for (auto& v : variables) {
    auto it = std::find_if(slots_.begin(), slots_.end(),
                           [&](const Slot& s) { return s.owner == v && s.name == name; });
    if (it == slots_.end()) {
      const Variable zero(zeros(v.sig().shape, v.sig().dtype),
                          VariableOptions{.name = v.name() + "/" + std::string(name)});
      it = slots_.insert(slots_.end(), {v, std::string(name), zero});
    }
    r.push_back(it->value);
  }
  return r;
}
std::vector<Variable> OptimizerImpl::state() const {
  std::vector<Variable> r{iterations, learning_rate};
  for (auto& s : slots_) r.push_back(s.value);
  return r;
}
void OptimizerImpl::apply(const Tensors& given) {
  if (given.size() != variables.size())
    fail({class_name(), ": ", given.size(), " gradients were given, expected ", variables.size()});
  const Tensors gradients = clipped(given);
  Tensor rate = learning_rate.read(), count = iterations.read() + 1, step = cast(count, DType::f32);
  iterations.assign(count);
  for (size_t i = 0; i < variables.size(); ++i) {
    if (!gradients[i]) continue;
    update(i, cast(gradients[i], variables[i].sig().dtype), rate, step);
    if (constraints_[i]) variables[i].assign(constraints_[i](variables[i].read()));
  }
}

Optimizer::Optimizer(const std::string& name) {
  const std::string n = snake_case(name);
  if (n == "sgd")
    impl_ = SGD().impl();
  else if (n == "rmsprop" || n == "rm_sprop")
    impl_ = RMSprop().impl();
  else if (n == "adam")
    impl_ = Adam().impl();
  else if (n == "adamw" || n == "adam_w")
    impl_ = AdamW().impl();
  else
    fail({"optimizer is \"", name, "\", expected \"sgd\", \"rmsprop\", \"adam\" or \"adamw\""});
}
void Optimizer::set_learning_rate(double rate) const {
  if (!impl_) fail({"optimizer: it is empty"});
  check(rate >= 0, "learning_rate", rate, "a finite number, at least 0");
  if (impl_->learning_rate)
    impl_->learning_rate.assign(full({}, rate));
  else
    impl_->learning_rate = Variable(full({}, rate), {.name = "learning_rate"});
}
double Optimizer::learning_rate() const {
  if (!impl_ || !impl_->learning_rate)
    fail(Code::FailedPrecondition, {"optimizer: it has no learning rate before it is built"});
  return impl_->learning_rate.read().item();
}

SGD::SGD(SGDConfig c) {
  check_rate("SGD", c.learning_rate, c.weight_decay);
  check_clipping("SGD", c);
  check(c.momentum >= 0 && c.momentum <= 1, "SGD: momentum", c.momentum, "between 0 and 1");
  auto impl = std::make_shared<SgdImpl>();
  impl->config = c, impl_ = impl;
}
RMSprop::RMSprop(RMSpropConfig c) {
  check_rate("RMSprop", c.learning_rate, c.weight_decay);
  check_clipping("RMSprop", c);
  check(c.rho >= 0 && c.rho < 1, "RMSprop: rho", c.rho, "between 0 and 1");
  check(c.momentum >= 0 && c.momentum <= 1, "RMSprop: momentum", c.momentum, "between 0 and 1");
  check(c.epsilon >= 0, "RMSprop: epsilon", c.epsilon, "at least 0");
  auto impl = std::make_shared<RmspropImpl>();
  impl->config = c, impl_ = impl;
}
namespace {
std::shared_ptr<OptimizerImpl> make_adam(const AdamConfig& c, bool decoupled) {
  const std::string_view name = decoupled ? "AdamW" : "Adam";
  check_rate(name, c.learning_rate, c.weight_decay);
  check_clipping(name, c);
  check(c.beta_1 >= 0 && c.beta_1 < 1, concat({name, ": beta_1"}), c.beta_1, "from 0, below 1");
  check(c.beta_2 >= 0 && c.beta_2 < 1, concat({name, ": beta_2"}), c.beta_2, "from 0, below 1");
  check(c.epsilon >= 0, concat({name, ": epsilon"}), c.epsilon, "at least 0");
  auto impl = std::make_shared<AdamImpl>(decoupled);
  impl->config = c;
  return impl;
}
}  // namespace
Adam::Adam(AdamConfig c) { impl_ = make_adam(c, false); }
AdamW::AdamW(AdamWConfig c) {
  impl_ = make_adam({.learning_rate = c.learning_rate,
                     .beta_1 = c.beta_1,
                     .beta_2 = c.beta_2,
                     .epsilon = c.epsilon,
                     .amsgrad = c.amsgrad,
                     .weight_decay = c.weight_decay,
                     .clipnorm = c.clipnorm,
                     .clipvalue = c.clipvalue,
                     .global_clipnorm = c.global_clipnorm},
                    true);
}

}  // namespace evenflow
