// SPDX-License-Identifier: Apache-2.0
// compile(f): traces a function once per signature (element types, ranks, settings read; extents
// only if it looked at one) and keeps the plan. TensorFlow's tf.function.
#pragma once
#include <functional>
#include <mutex>
#include <optional>
#include <type_traits>
#include <utility>

#include "evenflow/core/device.h"
#include "evenflow/graph/variable.h"

namespace evenflow {

/// Which passes rewrite a graph before it is planned: none; those that keep every bit; all.
enum class Passes : uint8_t { none, exact, all };
/// EVENFLOW_PASSES=none|exact|all, else all; what set_default_passes() said comes first. A compiled
/// function plans anew when it has changed.
Passes default_passes();
void set_default_passes(Passes which);

/// What the backward pass finds in memory of the forward pass's batch norms and activations. A
/// choice of the plan: weights are the same with each, and so are results but for rounding.
enum class Activations : uint8_t {
  automatic,  ///< what regions of the batch that fit the caches can make again is made again
  keep,       ///< inputs and outputs stay as they were computed
  recompute,  ///< inputs stay; outputs are normalised again where the backward pass reads them
  bitmask,    ///< of an output that only its ReLU's gradient reads, a bit an element stays
  in_place,   ///< outputs stay; inputs are made from them, where the activation can be inverted
};

struct CompileOptions {
  int micro_batches = 1;  ///< runs whose pooled values are merged before the step is applied
  bool use_reference =
      false;  ///< every operation by its reference: slow, the oracle of the tests; no passes
  std::optional<Passes> passes =
      {};  ///< which rewrites the graph goes through; absent: default_passes()
  std::optional<Device> device = {};  ///< where it runs; absent: default_device()
  size_t max_plans = 16;              ///< kept, least recently used first out
  Activations activations = Activations::automatic;
  /// Samples that go through a region along the batch at a time; 0: as many as fit the caches. All
  /// of them go through one batch norm before the next: the batch's own statistics, in the memory
  /// of a part of it.
  int64_t tile = 0;
};

/// The kept traces and plans of one function. Safe for concurrent callers.
class Function {
 public:
  using Body = std::function<Tensors(const Tensors&)>;
  explicit Function(CompileOptions options = {}, Where where = Where::current());
  ~Function();
  /// Runs the plan for these arguments, tracing `body` when there is none.
  Tensors operator()(const Tensors& args, const Body& body);
  /// Ends an incomplete group of micro-batches. False: skipped.
  bool apply();
  /// Whether this thread's last run was committed (false: skipped by a predicate).
  static bool committed();
  int traces() const;
  /// Why each trace was made, a line each.
  std::vector<std::string> log() const;
  /// What the last plan of this thread's last call costs.
  struct Stats {
    size_t calls = 0, early = 0, arena_bytes = 0, values_bytes = 0, in_place = 0,
           state_in_place = 0;
  };
  Stats stats() const;
  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

namespace detail {
inline Tensors to_tensors(Tensor t) { return {std::move(t)}; }
inline Tensors to_tensors(Tensors t) { return t; }
}  // namespace detail

/// A compiled function: call it like the original.
template <class F>
class Compiled {
 public:
  Compiled(F f, std::shared_ptr<Function> function)
      : f_(std::move(f)), function_(std::move(function)) {}
  template <class... T>
  auto operator()(const T&... args) const {
    using R =
        std::invoke_result_t<const F&, decltype((void(args), std::declval<const Tensor&>()))...>;
    auto body = [&](const Tensors& p) -> Tensors {
      return [&]<size_t... I>(std::index_sequence<I...>)->Tensors {
        if constexpr (std::is_void_v<R>) {
          f_(p[I]...);
          return {};
        } else
          return detail::to_tensors(f_(p[I]...));
      }
      (std::index_sequence_for<T...>{});
    };
    Tensors r = (*function_)({In(args).as()...}, body);
    if constexpr (std::is_same_v<R, Tensor>)
      return r[0];
    else if constexpr (!std::is_void_v<R>)
      return r;
  }
  Function& function() const { return *function_; }

 private:
  F f_;
  std::shared_ptr<Function> function_;
};
/// f takes tensors and returns a Tensor, Tensors or nothing. It is kept by value: capture Variables
/// by value too.
template <class F>
Compiled<F> compile(F f, CompileOptions options = {}, Where where = Where::current()) {
  return {std::move(f), std::make_shared<Function>(options, where)};
}

}  // namespace evenflow
