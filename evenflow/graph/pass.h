// SPDX-License-Identifier: Apache-2.0
// Passes: rewrites of the flat graph between tracing and planning. General ones are in
// graph/passes/, those that know an operation lie beside it: ops/x.pass.cc. A pass sees concrete
// extents: for others it runs again.
//
//   PASS(drop_aliases) {
//     return {.summary = "x for identity(x)", .order = 10, .run = [](Graph& g, auto&) { ... }};
//   }
#pragma once
#include <functional>
#include <string_view>
#include <vector>

#include "evenflow/graph/compile.h"
#include "evenflow/graph/graph.h"

namespace evenflow {

/// What passes are asked for, besides which of them run.
struct PassOptions {
  Activations activations = Activations::automatic;
  int64_t tile = 0;
  /// Of each leaf, in a program that writes nothing: whether it is a variable, and keeps its value
  /// from run to run. Empty: of none.
  std::vector<char> steady = {};
  Accelerator* on = nullptr;  ///< where the graph is to run; null: on the host
};
struct PassDef {
  std::string_view summary;
  int order = 0;           ///< low ones run first
  bool keeps_bits = true;  ///< false: results may differ in rounding
  bool host_only = false;  ///< suits the caches of a CPU; left out for accelerators
  void (*run)(Graph& graph, const PassOptions& options) = nullptr;
};
struct PassEntry {
  const char* name;
  PassDef (*make)();
  const PassEntry* next;
  PassEntry(const char* name, PassDef (*make)());
  static const PassEntry*& head();
};
/// Declares a pass; nothing else names it.
#define PASS(pass_name)                                                                    \
  static ::evenflow::PassDef pass_name##_pass();                                           \
  static const ::evenflow::PassEntry pass_name##_pass_entry{#pass_name, pass_name##_pass}; \
  static ::evenflow::PassDef pass_name##_pass()

struct NamedPass {
  std::string_view name;
  PassDef def;
};
/// In the order in which they run.
std::vector<NamedPass> all_passes();
/// The graph after them; `after` sees the graph after each pass that changed it.
Graph optimise(Graph graph, Passes which,
               const std::function<void(std::string_view pass, const Graph&)>& after = {},
               const PassOptions& options = {});

/// Edits a graph while it is walked: who makes and who reads a value is kept up to date. Calls may
/// be emitted in any order; finish() sorts them, and drops what nobody needs.
class Rewriter {
 public:
  explicit Rewriter(Graph& graph);
  Graph& graph() { return g_; }
  const Graph::Call& call(int i) const { return g_.calls[size_t(i)]; }
  int calls() const { return int(g_.calls.size()); }
  bool alive(int call) const { return alive_[size_t(call)]; }
  const Sig& sig(int value) const { return g_.values[size_t(value)]; }
  /// The call that makes a value; -1 for leaves and constants.
  int producer(int value) const { return producer_[size_t(value)]; }
  /// Calls that read a value, for its shape alone too; a call that reads it twice is there twice.
  const std::vector<int>& readers(int value) const { return readers_[size_t(value)]; }
  bool is_result(int value) const;
  /// The producer, if it is alive and of that operation; else -1.
  int made_by(int value, std::string_view op) const;
  /// Adds a call with the line and name of call `like`, to run about where that runs; gives its
  /// outputs.
  std::vector<int> emit(const OpDef& op, AttrPtr attrs, std::vector<int> in, int like);
  /// Adds the calls of `part`, with these values for its leaves; gives its results.
  std::vector<int> insert(const Graph& part, const std::vector<int>& in, int like);
  /// This call takes `by` from now on where it took `value`.
  void reroute(int call, int value, int by);
  /// Puts the reference of a call in its place, one level deep.
  void expand(int call);
  /// Readers and results take `by` from now on.
  void replace(int value, int by);
  void erase(int call);
  void finish();

 private:
  void attach(int call);
  void detach(int call);
  Graph& g_;
  std::vector<char> alive_;
  std::vector<int> place_;  // the call that this one stands for
  std::vector<int> producer_;
  std::vector<std::vector<int>> readers_;
};

}  // namespace evenflow
