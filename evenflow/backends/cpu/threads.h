// SPDX-License-Identifier: Apache-2.0
// What parallel_openmp.cc, parallel_std.cc and parallel_none.cc share with parallel.cc. Not for
// other rooms: they include evenflow/core/parallel.h.
#pragma once
#include <cstdint>

#include "evenflow/core/parallel.h"

namespace evenflow::cpu {

inline constexpr int kMaxThreads = 1024;

/// What the calling thread is; decides which work it may start.
struct Role {
  bool leads =
      false;  ///< an executor, or a thread of its team while it works: on_executor runs at once
  bool serial = false;  ///< inside a chunk: parallel_for is serial
};
Role& role();

/// Sets the calling thread's role for a scope.
class RoleScope {
 public:
  explicit RoleScope(Role r) : before_(role()) { role() = r; }
  ~RoleScope() { role() = before_; }
  RoleScope(const RoleScope&) = delete;
  RoleScope& operator=(const RoleScope&) = delete;

 private:
  Role before_;
};

/// Runs work(member), members 0..threads-1, at once on an executor's team, and returns true when
/// all have ended; at once false when every executor is busy. Fewer members may come: a member must
/// be ready to do all of the work. `work` does not throw.
bool lead(int threads, FunctionRef<void(int member)> work);

}  // namespace evenflow::cpu
