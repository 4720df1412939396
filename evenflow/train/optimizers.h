// SPDX-License-Identifier: Apache-2.0
// Optimizers with Keras's names, defaults and formulas. An update proposes writes inside the step;
// a skipped step leaves slots as they were.
//   Adam({.learning_rate = 1e-3})
// clipnorm bounds the norm of each weight's gradient, global_clipnorm that of all together,
// clipvalue each element; one of them at most.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "evenflow/graph/variable.h"
#include "evenflow/model/layer.h"

namespace evenflow {

class OptimizerImpl {
 public:
  virtual ~OptimizerImpl() = default;
  virtual std::string_view class_name() const = 0;
  virtual void visit(ConfigVisitor&) = 0;
  /// Makes the slots for these weights. Weights that it had keep theirs, and the count goes on; if
  /// it had none of them it starts anew.
  void build(const std::vector<Weight>& weights);
  /// Proposes the new weights (held to their constraints), slots and count. gradients[i] belongs to
  /// weights[i]; empty: unchanged.
  void apply(const Tensors& gradients);

  Variable learning_rate;  ///< f32 [], read by every step: set it at any time
  Variable iterations;     ///< i64 []
  std::vector<Variable> variables;
  /// iterations, learning_rate and the slots of all weights.
  std::vector<Variable> state() const;

 protected:
  virtual void make_slots() = 0;
  /// Proposes the update of variable i. `step` is the f32 number of this update, from 1.
  virtual void update(size_t i, const Tensor& gradient, const Tensor& rate, const Tensor& step) = 0;
  virtual double initial_rate() const = 0;
  virtual Tensors clipped(Tensors gradients) const = 0;
  std::vector<Variable> slots(std::string_view name);

 private:
  struct Slot {
    Variable owner;
    std::string name;
    Variable value;
  };
  std::vector<Slot> slots_;
  std::vector<Constraint> constraints_;  ///< of the variables
};

class Optimizer {
 public:
  Optimizer() = default;
  explicit Optimizer(std::shared_ptr<OptimizerImpl> impl) : impl_(std::move(impl)) {}
  /// By Keras's name with its defaults: "sgd", "rmsprop", "adam", "adamw". Throws InvalidArgument
  /// for another.
  Optimizer(const char* name) : Optimizer(std::string(name)) {}  // NOLINT: implicit on purpose
  Optimizer(const std::string& name);                            // NOLINT
  void set_learning_rate(double rate) const;
  double learning_rate() const;
  explicit operator bool() const { return bool(impl_); }
  const std::shared_ptr<OptimizerImpl>& impl() const { return impl_; }

 protected:
  std::shared_ptr<OptimizerImpl> impl_;
};

/// w += v, v = momentum v - learning_rate g; nesterov: w += momentum v - learning_rate g with the
/// new v (Sutskever et al. 2013).
struct SGDConfig {
  double learning_rate = 0.01, momentum = 0;
  bool nesterov = false;
  double weight_decay = 0;
  std::optional<double> clipnorm = {}, clipvalue = {}, global_clipnorm = {};
  void fields(ConfigVisitor& v) {
    v.field("learning_rate", learning_rate), v.field("momentum", momentum),
        v.field("nesterov", nesterov), v.field("weight_decay", weight_decay),
        v.field("clipnorm", clipnorm), v.field("clipvalue", clipvalue),
        v.field("global_clipnorm", global_clipnorm);
  }
};
struct SGD : Optimizer {
  SGD(SGDConfig config = {});
};
/// Hinton 2012: the gradient over the root of its mean square.
struct RMSpropConfig {
  double learning_rate = 0.001, rho = 0.9, momentum = 0, epsilon = 1e-7;
  bool centered = false;
  double weight_decay = 0;
  std::optional<double> clipnorm = {}, clipvalue = {}, global_clipnorm = {};
  void fields(ConfigVisitor& v) {
    v.field("learning_rate", learning_rate), v.field("rho", rho), v.field("momentum", momentum),
        v.field("epsilon", epsilon), v.field("centered", centered),
        v.field("weight_decay", weight_decay), v.field("clipnorm", clipnorm),
        v.field("clipvalue", clipvalue), v.field("global_clipnorm", global_clipnorm);
  }
};
struct RMSprop : Optimizer {
  RMSprop(RMSpropConfig config = {});
};
/// Kingma & Ba 2015, with Keras's epsilon ("epsilon hat").
struct AdamConfig {
  double learning_rate = 0.001, beta_1 = 0.9, beta_2 = 0.999, epsilon = 1e-7;
  bool amsgrad = false;
  double weight_decay = 0;
  std::optional<double> clipnorm = {}, clipvalue = {}, global_clipnorm = {};
  void fields(ConfigVisitor& v) {
    v.field("learning_rate", learning_rate), v.field("beta_1", beta_1), v.field("beta_2", beta_2),
        v.field("epsilon", epsilon), v.field("amsgrad", amsgrad),
        v.field("weight_decay", weight_decay), v.field("clipnorm", clipnorm),
        v.field("clipvalue", clipvalue), v.field("global_clipnorm", global_clipnorm);
  }
};
struct Adam : Optimizer {
  Adam(AdamConfig config = {});
};
/// Loshchilov & Hutter 2019: Adam, and w -= learning_rate weight_decay w before the update.
struct AdamWConfig {
  double learning_rate = 0.001, weight_decay = 0.004, beta_1 = 0.9, beta_2 = 0.999, epsilon = 1e-7;
  bool amsgrad = false;
  std::optional<double> clipnorm = {}, clipvalue = {}, global_clipnorm = {};
};
struct AdamW : Optimizer {
  AdamW(AdamWConfig config = {});
};

}  // namespace evenflow
