// SPDX-License-Identifier: Apache-2.0
// A saved graph (.efg): pure functions in flat form with their weights, which a program runs that
// knows nothing of models. docs/design/saved-graph.md has the format.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "evenflow/core/parallel.h"
#include "evenflow/graph/program.h"

namespace evenflow {

struct NamedSig {
  std::string name;
  Sig sig;
};

/// A function as it is saved. Inputs are in the order of graph.leaves, outputs of graph.results;
/// weights are constants.
struct SavedFunction {
  std::string name;
  std::vector<std::string> inputs, outputs;
  Graph graph;
  bool fixed_extents = false;  ///< its trace looked at an extent: it serves these extents only
};

/// Traces `body` for these inputs. Variables that it reads become constants with the values that
/// they have now. Throws InvalidArgument when it writes one, or when it returns another number of
/// tensors than `outputs` names.
SavedFunction saved_function(std::string name, const std::vector<NamedSig>& inputs,
                             std::vector<std::string> outputs, const Function::Body& body);

/// Hands the bytes of a file to `append`, piece by piece: weights are not copied. A weight of
/// several functions is stored once. Throws InvalidArgument for functions without or of the same
/// name, and for texts that are not UTF-8.
void write_saved_graph(const std::vector<SavedFunction>& functions,
                       const std::map<std::string, std::string>& metadata,
                       FunctionRef<void(std::string_view)> append);
/// The same in one piece.
std::string saved_graph_bytes(const std::vector<SavedFunction>& functions,
                              const std::map<std::string, std::string>& metadata = {});

/// What a file may ask for. A file is data of unknown origin.
struct LoadLimits {
  int64_t header_bytes = int64_t(16) << 20;
  int depth = 8;                          ///< of sub-graphs in sub-graphs
  int64_t run_bytes = int64_t(16) << 30;  ///< of one run: the arena and the results
  size_t max_plans = 16;                  ///< kept for each function, least recently used first out
};

/// Functions that were loaded; safe for concurrent callers, cheap to copy.
class SavedGraph {
 public:
  struct Signature {
    std::string name;
    std::vector<NamedSig> inputs, outputs;  ///< with the extents of the trace
    bool fixed_extents = false;
  };
  std::vector<Signature> signatures() const;
  /// Throws NotFound, naming those that are there.
  Signature signature(std::string_view name) const;
  const std::map<std::string, std::string>& metadata() const;
  /// The flat form, for pictures and listings.
  const Graph& graph(std::string_view name) const;
  int64_t weight_bytes() const;

  /// Runs a function; other extents than those of its trace take a plan of their own, made on first
  /// use. On inputs of a trace, or inputs that are watched, its operations join the caller's graph
  /// and can be differentiated.
  Tensors operator()(std::string_view name, const Tensors& inputs) const;

  struct Impl;
  explicit SavedGraph(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

 private:
  std::shared_ptr<Impl> impl_;
};

/// Reads a file. Nothing in it is trusted: sizes are checked before memory is taken, every shape
/// rule runs again. Throws DataLoss for damaged, truncated or hostile bytes, Unimplemented for
/// operations or versions that this build has not.
SavedGraph load_graph(std::string_view bytes, LoadLimits limits = {});

}  // namespace evenflow
