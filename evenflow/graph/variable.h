// SPDX-License-Identifier: Apache-2.0
// State is transactional: a step proposes writes to Variables; they are committed together at its
// end, or skipped together.
#pragma once
#include <atomic>
#include <memory>
#include <string>

#include "evenflow/graph/tensor.h"

namespace evenflow {

struct VarState;
class Transaction;

/// When a proposal is committed: with the step if all predicates hold / with the step, even a
/// skipped one (loss scale, skip count) / with every run (random and data cursors, accumulators).
enum class Commit : uint8_t { Step, Always, Run };

struct VariableOptions {
  std::string name = {};
  Commit commit = Commit::Step;
  bool fixed_address =
      false;  ///< its memory never moves (handed out to others); commits copy into it
};

/// A handle to a piece of state: copy it, capture it by value in compiled functions.
class Variable {
 public:
  Variable() = default;
  explicit Variable(In init, VariableOptions options = {});
  explicit Variable(std::shared_ptr<VarState> state) : state_(std::move(state)) {}
  explicit operator bool() const { return bool(state_); }
  operator Tensor() const { return read(); }
  /// The value; inside a transaction what it has proposed so far.
  Tensor read(Where where = Where::current()) const;
  /// Proposes a value of the same element type and shape; outside a Step this is a transaction of
  /// its own.
  void assign(In value) const;
  void assign_add(In value) const;
  void assign_sub(In value) const;
  const Sig& sig() const;
  const std::string& name() const;
  /// Commits so far.
  uint64_t version() const;
  const std::shared_ptr<VarState>& state() const { return state_; }
  bool operator==(const Variable&) const = default;

 private:
  std::shared_ptr<VarState> state_;
};

/// An eager transaction: what is not committed when it ends is dropped.
class Step {
 public:
  Step();
  ~Step();
  Step(const Step&) = delete;
  /// One run. False: a predicate failed, and only Commit::Always and Commit::Run writes happened.
  /// Twenty such in a row are an Error. Throws FailedPrecondition when another thread committed
  /// what this step has read.
  bool commit();

 private:
  std::unique_ptr<Transaction> transaction_;
};

/// The step is skipped unless this boolean scalar is true. Throws FailedPrecondition outside a
/// step.
void require(In predicate);

/// A mode that programs read while they are traced (training, trainable): a compiled function
/// traces again when it has changed.
class Setting {
 public:
  explicit Setting(int64_t value = 0) : value_(std::make_shared<std::atomic<int64_t>>(value)) {}
  int64_t get() const;
  void set(int64_t value) { value_->store(value); }

 private:
  std::shared_ptr<std::atomic<int64_t>> value_;
};

}  // namespace evenflow
