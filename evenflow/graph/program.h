// SPDX-License-Identifier: Apache-2.0
// A traced function in flat form: what compile() keeps and what is saved.
#pragma once
#include "evenflow/graph/compile.h"
#include "evenflow/graph/plan.h"
#include "evenflow/graph/transaction.h"

namespace evenflow {

struct Program {
  struct Leaf {
    int arg = -1;  ///< number of the argument, or
    VarPtr var;    ///< the variable read
  };
  Graph graph;               ///< results: outputs, predicates, proposals
  std::vector<Leaf> leaves;  ///< of graph.leaves
  size_t outputs = 0, predicates = 0;
  std::vector<VarPtr> targets;
  std::vector<Role> roles;
  bool shape_seen =
      false;  ///< by trace(): the function looked at an extent, and serves these extents only
  std::shared_ptr<Plan> plan;
  /// What depends on variables alone, in a program that writes nothing; null if there is no such
  /// part. Its results are the last leaves of `plan`, kept as long as the variables keep their
  /// versions.
  struct Before {
    std::shared_ptr<Plan> plan;
    std::vector<int> leaves;  ///< numbers of the program's leaves
    std::mutex mutex;
    std::vector<uint64_t> versions;
    std::vector<BufferPtr> values;
  };
  std::shared_ptr<Before> before;
};

/// Traces `body` for arguments of these signatures, without running or keeping it. Throws
/// InvalidArgument when it proposes writes: a saved function is pure.
Program trace(const Sigs& args, const Function::Body& body);

}  // namespace evenflow
