// SPDX-License-Identifier: Apache-2.0
// Threads from OpenMP: the one file that includes omp.h. libgomp keeps a team of threads for every
// thread that ever entered a parallel region, so only executors do.
#include <omp.h>

#include "evenflow/backends/cpu/executor.h"

namespace evenflow {
namespace {

void team(int threads, FunctionRef<void(int)> work) {
#pragma omp parallel num_threads(threads)
  {
    omp_set_num_threads(1);  // a library called from a chunk stays on its thread
    cpu::RoleScope inside({.leads = true, .serial = true});
    work(omp_get_thread_num());
  }
}

// A library reads the number of threads from the calling thread's setting.
void with_threads(int threads, FunctionRef<void()> f) {
  struct Restore {
    int before = omp_get_max_threads();
    ~Restore() { omp_set_num_threads(before); }
  } restore;
  omp_set_num_threads(threads);
  f();
}

}  // namespace

bool cpu::lead(int threads, FunctionRef<void(int)> work) {
  if (role().leads) return team(threads, work), true;
  Executor* e = Executors::get().try_take();
  if (!e) return false;
  run_and_give(e, [&] { team(threads, work); });
  return true;
}

void on_executor(FunctionRef<void()> f) {
  const cpu::Role role = cpu::role();
  if (role.leads && role.serial) return f();
  const int threads = thread_count();
  if (role.leads || threads == 1) return with_threads(threads, f);
  cpu::run_and_give(cpu::Executors::get().take(), [&] { with_threads(threads, f); });
}

}  // namespace evenflow
