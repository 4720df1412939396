// SPDX-License-Identifier: Apache-2.0
// A transaction: reads see its own proposals; nothing is visible outside before the commit. A trace
// is one, a Step is one, a branch of a control-flow operation is one.
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <utility>
#include <vector>

#include "evenflow/graph/node.h"
#include "evenflow/graph/variable.h"

namespace evenflow {

struct VarState {
  uint64_t id = 0;    ///< order of creation: writers lock in this order
  std::mutex writer;  ///< held by a run that proposes a write
  BufferPtr value;    ///< guarded by state_mutex(), like version
  uint64_t version = 0;
  Sig sig;
  Commit commit = Commit::Step;
  bool fixed_address = false;
  std::string name;
};
VarPtr make_state(const Sig& sig, BufferPtr value, VariableOptions options);
/// Snapshot (shared) against commit (exclusive).
std::shared_mutex& state_mutex();
/// Puts a value in place; call with state_mutex() held exclusively.
void publish(VarState& v, const BufferPtr& value);
/// Locks the writers of these variables in one fixed order.
std::vector<std::unique_lock<std::mutex>> lock_writers(std::vector<VarState*> states);
/// Counts skipped steps in a row; throws FailedPrecondition at the twentieth.
void count_skip(int& in_a_row, bool committed);

class Transaction {
 public:
  enum Kind { kStep, kTrace, kBranch };
  explicit Transaction(Kind kind);
  ~Transaction();
  Transaction(const Transaction&) = delete;

  static Transaction*& current();
  Transaction* root();
  bool tracing() const { return kind != kStep; }
  Edge* proposal(const VarPtr& v);
  void propose(const VarPtr& v, const Tensor& t);

  Kind kind;
  Transaction* outer;
  uint32_t scope;
  std::vector<std::pair<VarPtr, Edge>> proposals, reads;
  std::vector<uint64_t> versions;  ///< of reads
  std::vector<std::pair<VarPtr, Edge>>
      carried;  ///< in a loop body: parameters that stand for variables
  std::vector<Edge> predicates;
  std::vector<std::weak_ptr<Node>> made;  ///< what can be differentiated until the step commits
  bool shape_seen = false;
  std::vector<std::pair<std::shared_ptr<std::atomic<int64_t>>, int64_t>>
      settings;  ///< modes read while tracing
  int micro_batches = 1;
  std::vector<VarPtr> accumulators;  ///< of what is pooled over micro-batches
  std::vector<VarPtr> earlier;       ///< accumulators of an earlier trace, to be used again
  std::map<const void*, std::shared_ptr<void>>
      kept;             ///< what others keep for as long as it is open, by their address
  bool pooled = false;  ///< pool() was called: whether there is a group of ranks matters
};

/// Code in its scope runs as if no transaction were open: references of kernels, tracing inside a
/// step.
class Detached {
 public:
  Detached()
      : saved_(std::exchange(Transaction::current(), nullptr)),
        eager_(std::exchange(eager(), Eager::by_scope)) {}
  ~Detached() {
    Transaction::current() = saved_;
    eager() = eager_;
  }
  Detached(const Detached&) = delete;

 private:
  Transaction* saved_;
  Eager eager_;
};

/// While a gradient rule or a reference runs, its nodes inherit the line and the name of the
/// forward call.
struct Origin {
  const Where* where;
  const std::shared_ptr<const std::string>* name;
  static const Origin*& current();
};
class OriginScope {
 public:
  explicit OriginScope(const Where& where, const std::shared_ptr<const std::string>& name)
      : mine_{&where, &name}, outer_(Origin::current()) {
    if (!outer_) Origin::current() = &mine_;
  }
  ~OriginScope() { Origin::current() = outer_; }
  OriginScope(const OriginScope&) = delete;

 private:
  Origin mine_;
  const Origin* outer_;
};

/// Guards the walking of edges (shared) against dropping them (exclusive).
std::shared_mutex& walk_mutex();
/// Nodes this thread made and has not run.
std::vector<std::weak_ptr<Node>>& pending();
const OpDef& constant_op();
const OpDef& argument_op();
const OpDef& read_op();
/// (value, variable) -> value, and a gradient goes to the variable: a read of what was written,
/// inside a branch or loop body.
const OpDef& assigned_op();
/// A result of a compiled function; its inputs are what the function depends on, and no gradient
/// passes. Not registered: its value is always there, so it is neither run nor saved.
const OpDef& compiled_op();
NodePtr make_leaf_node(const OpDef& op, const Sig& sig, Where where = Where::current());
/// Runs one node now, by its kernel or its reference.
void run_now(Node& node);

}  // namespace evenflow
