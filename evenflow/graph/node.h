// SPDX-License-Identifier: Apache-2.0
// Nodes: pure, immutable but for a write-once value. For the graph room and those who build passes.
#pragma once
#include <atomic>
#include <memory>
#include <span>
#include <string>

#include "evenflow/graph/attrs.h"
#include "evenflow/graph/tensor.h"

namespace evenflow {

struct OpDef;
struct VarState;
using VarPtr = std::shared_ptr<VarState>;

struct Node : std::enable_shared_from_this<Node> {
  const OpDef* op = nullptr;
  AttrPtr attrs;
  std::vector<Edge> in;
  Sigs sigs;  ///< of the outputs
  Where where;
  std::shared_ptr<const std::string> name;  ///< name scope, or null
  std::vector<BufferPtr> values;            ///< published once, with release
  std::atomic<bool> ready = false;
  std::atomic<int> handles = 0;  ///< user's Tensors; edges between nodes do not count
  VarPtr var;                    ///< `read` leaf
  int index = -1;                ///< placeholder number
  uint32_t scope = 0;            ///< transaction that made it
  bool symbolic = false;         ///< no value before a run
  bool tracked = false;          ///< depends on state or on a watched tensor
  bool cut = false;              ///< its history was dropped
  bool opaque = false;  ///< comes from variables that a compiled function read: there is no history
  ~Node();              // iterative: a chain of a million nodes must not recurse
};
/// "conv2d \"block1/conv\" (net.cc:12)"
std::string str(const Node& node);

/// A leaf that stands for an argument of a trace, or for a variable.
Tensor placeholder(const Sig& sig, int index, VarPtr var = nullptr);

/// The values of edges, running what is missing as one plan. `last`: nothing will be differentiated
/// any more.
std::vector<BufferPtr> evaluate(const std::vector<Edge>& edges, bool last = false);
/// Evaluates every held pending tensor that this thread made.
void flush();

enum class Eager {
  by_scope,
  lazy,
  immediate
};  ///< runs now unless a Step is open / is recorded / runs now
Eager& eager();
/// Recorded operations a thread may hold before they run.
size_t& pending_limit();
size_t plan_cache_size();
void clear_plan_cache();

/// Per thread, for tests and logs.
struct RunCounters {
  int64_t plans = 0, runs = 0, kernels = 0;
};
RunCounters& run_counters();

}  // namespace evenflow
