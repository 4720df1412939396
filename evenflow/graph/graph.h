// SPDX-License-Identifier: Apache-2.0
// The flat form of a graph: what passes, planning, sub-graphs and saving work on. Values are
// numbers, calls are in topological order.
#pragma once
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "evenflow/graph/node.h"
#include "evenflow/graph/op.h"

namespace evenflow {

struct Graph {
  struct Call {
    const OpDef* op;
    AttrPtr attrs;
    std::vector<int> in, out;
    Where where;
    std::shared_ptr<const std::string> name;
    bool again = false;  ///< made a second time on purpose: no twin of the first
  };
  Sigs values;  ///< signature of each value
  std::vector<Call> calls;
  std::vector<int> leaves;                           ///< values given to a run
  std::vector<std::pair<int, BufferPtr>> constants;  ///< values that are known
  std::vector<int> results;

  int add_value(const Sig& sig) {
    values.push_back(sig);
    return int(values.size()) - 1;
  }
  Sigs sigs(const std::vector<int>& ids) const;
  /// The same graph for other extents: the shape rules run again; throws when they refuse.
  void respecialise(std::span<const Sig> leaf_sigs);
};
/// A line a call: "%5 = conv2d(%1, %2) strides=[1, 1] : f32[8,8,8,16]".
std::string str(const Graph& graph);

/// Pointer nodes to the flat form. Leaves are nodes for which is_leaf holds. Twins (same operation,
/// attributes, inputs) are merged.
struct Extracted {
  Graph graph;
  std::vector<Edge> leaves;  ///< of graph.leaves
  Key key;                   ///< structure and leaf signatures
  std::vector<NodePtr> visited;
};
class Extractor {
 public:
  explicit Extractor(std::function<bool(const Node&)> is_leaf);
  ~Extractor();
  void walk(const std::vector<Edge>& roots);
  int id(const Edge& e) const;
  bool keeps(const Node& n) const;
  Extracted x;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};
Extracted extract(const std::vector<Edge>& roots, std::function<bool(const Node&)> is_leaf);

/// Nodes again: for gradients of sub-graphs.
Tensors instantiate(const Graph& graph, const Tensors& leaves);

/// The reference of a call as a graph of its own; its leaves are the call's inputs.
Graph reference_of(const Graph& graph, const Graph::Call& call);

/// Replaces calls that no kernel takes where they are to run (or, with use_reference, all that have
/// one) by their references.
Graph lower(const Graph& graph, bool use_reference, Accelerator* on = nullptr);

}  // namespace evenflow
