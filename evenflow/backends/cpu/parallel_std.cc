// SPDX-License-Identifier: Apache-2.0
// Threads from the standard library alone: for thread sanitizers, which do not understand libgomp,
// and for systems without OpenMP.
#include "evenflow/backends/cpu/pool.h"

namespace evenflow {

bool cpu::lead(int threads, FunctionRef<void(int)> work) { return lead_team(threads, work); }

void on_executor(FunctionRef<void()> f) {
  if (cpu::role().leads || thread_count() == 1) return f();
  cpu::run_and_give(cpu::Executors::get().take(), f);
}

}  // namespace evenflow
