// SPDX-License-Identifier: Apache-2.0
// A plan: kernel calls in order, with offsets into one arena. Running it allocates nothing, looks
// nothing up, faults no pages.
#pragma once
#include <mutex>

#include "evenflow/graph/graph.h"
#include "evenflow/graph/profile.h"

namespace evenflow {

/// Whether EVENFLOW_CHECK=nan was asked for; throws OutOfRange for the first value that is not
/// finite.
bool checks_nan();
void check_finite(std::span<const View> out);

/// What becomes of a result: a proposal may finish after the predicate, written over this leaf (-1:
/// none).
struct Role {
  bool late = false;
  int over = -1;
};

class Plan {
 public:
  /// Memory of one run. Taken from a pool, so that two threads never share an arena.
  struct Run {
    BufferPtr arena;
    std::vector<void*> ptr;
    std::vector<BufferPtr> leaves, results, spare;
    std::vector<View> views;
    std::span<const char> accumulate;  ///< of results
    bool nested = false;               ///< inside a kernel
    /// On an accelerator: the work of the early and the late part, for places of values that came
    /// before.
    struct Recorded {
      std::vector<void*> ptr;
      Accelerator::RecordingPtr work;
    };
    std::vector<Recorded> recorded[2];
  };

  /// Lowers what has no kernel, drops what nobody needs, chooses kernels, lays out memory.
  /// For the host, or for an accelerator: then the arena and results are in its memory, and running
  /// is asking for the work.
  Plan(const Graph& graph, std::vector<Role> roles, bool use_reference = false,
       Accelerator* on = nullptr);

  std::shared_ptr<Run> acquire() const;
  /// Leaves in the order of graph().leaves. over[i] (absent: all): give result i a buffer of its
  /// own though it could be written in place.
  void bind(Run& run, std::vector<BufferPtr> leaves, const std::vector<char>& over = {}) const;
  /// Gives result i (and what shares its memory) this buffer: for proposals whose place is decided
  /// at the commit.
  void place(Run& run, size_t i, const BufferPtr& buffer) const;
  /// The early part may throw; the late part (pointwise, feeds only proposals) cannot.
  void execute(Run& run, bool late) const;

  /// A whole run in raw memory: leaf and result i at these places. For a plan without proposals,
  /// inside a kernel. Where accumulate[i] is set (only where accumulates(i)), result i is added to
  /// what lies there.
  void execute_at(Run& run, std::span<void* const> leaves, std::span<void* const> results,
                  std::span<const char> accumulate = {}) const;
  /// Whether the kernel that makes result i, and nothing else, can add to it.
  bool accumulates(size_t i) const;

  Accelerator* on() const { return on_; }
  const Graph& graph() const { return graph_; }
  const std::vector<Role>& roles() const { return roles_; }
  /// The result whose buffer result i shares: itself, but where one value is several results.
  size_t home(size_t i) const {
    const Storage& s = storages_[size_t(storage_[size_t(graph_.results[i])])];
    return s.kind == Storage::kResult ? size_t(s.index) : i;
  }
  const Sig& result_sig(size_t i) const { return graph_.values[size_t(graph_.results[i])]; }
  size_t calls() const { return order_.size(); }
  size_t early() const { return early_; }
  int64_t arena_bytes() const { return arena_bytes_; }
  int64_t values_bytes() const { return values_bytes_; }  ///< what separate buffers would take
  int in_place() const { return in_place_; }
  int state_in_place() const { return state_in_place_; }
  /// A line a kernel call: operation, kernel, shapes, where its memory is.
  std::string listing() const;

 private:
  struct Storage {
    enum { kArena, kLeaf, kResult } kind = kArena;
    int index = -1;
    int64_t offset = -1;
  };
  struct Step {
    int call;
    Prepared kernel;
    std::string kernel_name;
    int64_t scratch = -1;  // offset
    bool accumulates = false;
    int result = -1;  // the only output is this result
  };
  bool shape_only(const Graph::Call& c, size_t i) const {
    return i < 32 && (c.op->traits.shape_only >> i & 1);
  }
  bool alias(const Graph::Call& c) const;
  void schedule();
  void choose_kernels();
  void lay_out();
  const std::shared_ptr<const KernelCall>& described(size_t position) const;
  bool replay(Run& run, bool late, const std::function<void()>& body) const;

  Accelerator* on_;
  Graph graph_;
  std::vector<Role> roles_;
  std::vector<Step> order_;
  std::vector<int> storage_;  // value -> value whose memory it shares
  std::vector<Storage> storages_;
  size_t early_ = 0;
  int64_t arena_bytes_ = 0, values_bytes_ = 0, work_bytes_ = 0;
  int in_place_ = 0, state_in_place_ = 0;
  struct Pool {
    std::mutex mutex;
    std::vector<std::unique_ptr<Run>> free;
  };
  std::shared_ptr<Pool> pool_ = std::make_shared<Pool>();
  struct Descriptions {  // of order_, made when somebody watches
    std::once_flag made;
    std::vector<std::shared_ptr<const KernelCall>> calls;
  };
  std::shared_ptr<Descriptions> descriptions_ = std::make_shared<Descriptions>();
};

}  // namespace evenflow
