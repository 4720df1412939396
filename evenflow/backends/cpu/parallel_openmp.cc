// SPDX-License-Identifier: Apache-2.0
// Threads of our own for our loops, and OpenMP for a library that brings it: the one file that
// includes omp.h. libgomp keeps a team of threads for every thread that ever entered a parallel
// region, so only executors do. Its threads either spin for milliseconds or sleep at once, and a
// sleeper costs tens of microseconds, more than many a loop: hence a pool that stays awake between
// the loops of a step.
#include <omp.h>

#include <cstdlib>
#include <thread>

#include "evenflow/backends/cpu/pool.h"

namespace evenflow {
namespace {

// At a barrier libgomp spins 300,000 rounds, some 15 ms, before it sleeps, but very few when it
// knows of more threads than cores. On a machine that others use too, the long spin keeps the
// members that still have work from their cores: a training step took 20 times as long. So a second
// team sleeps for ever beside ours, unless the environment says how to wait.
void spin_briefly() {
  [[maybe_unused]] static const bool once = [] {
    if (std::getenv("OMP_WAIT_POLICY") || std::getenv("GOMP_SPINCOUNT")) return false;
    static std::atomic<int> there{0};
    std::thread([] {
#pragma omp parallel num_threads(2)
      there.fetch_add(1);
      there.notify_one();
      for (;;) std::this_thread::sleep_for(std::chrono::hours(24));
    }).detach();
    there.wait(0);
    return true;
  }();
}

// A library reads the number of threads from the calling thread's setting.
void with_threads(int threads, FunctionRef<void()> f) {
  if (threads > 1) spin_briefly();
  struct Restore {
    int before = omp_get_max_threads();
    ~Restore() { omp_set_num_threads(before); }
  } restore;
  omp_set_num_threads(threads);
  f();
}

}  // namespace

bool cpu::lead(int threads, FunctionRef<void(int)> work) {
  return lead_team(threads, [&](int member) {
    omp_set_num_threads(1);  // a library called from a chunk stays on its thread
    work(member);
  });
}

void on_executor(FunctionRef<void()> f) {
  const cpu::Role role = cpu::role();
  if (role.leads && role.serial) return with_threads(1, f);
  const int threads = thread_count();
  if (role.leads || threads == 1) return with_threads(threads, f);
  cpu::run_and_give(cpu::Executors::get().take(), [&] { with_threads(threads, f); });
}

}  // namespace evenflow
