// SPDX-License-Identifier: Apache-2.0
// The threads that help an executor. Included by parallel_openmp.cc and parallel_std.cc only.
#pragma once
#include "evenflow/backends/cpu/executor.h"

namespace evenflow::cpu {

// The helpers of one executor. A job stands behind a door: helpers that come while it is open join
// in, the leader shuts it when no work is left to begin and waits only for those inside.
class Pool {
 public:
  void run(int threads, FunctionRef<void(int)> work) {
    while (int(helpers_) < threads - 1) {
      std::thread([this, seen = call_.load()] { help(seen); }).detach();
      ++helpers_;
    }
    work_.emplace(work);
    last_member_.store(threads - 1, std::memory_order_relaxed);
    member_.store(0, std::memory_order_relaxed);
    door_.store(kOpen, std::memory_order_release);
    call_.fetch_add(1, std::memory_order_release);
    call_.notify_all();
    {
      RoleScope inside({.leads = true, .serial = true});
      work(0);
    }
    uint32_t door = door_.fetch_and(~kOpen, std::memory_order_acq_rel) & ~kOpen;
    while (door) door = await_change(door_, door, std::chrono::microseconds(50));
  }

 private:
  static constexpr uint32_t kOpen = 1u << 31;

  void help(uint32_t seen) {
    role() = {.leads = true, .serial = true};
    for (;;) {
      seen = await_change(call_, seen, std::chrono::microseconds(200));
      uint32_t door = door_.load(std::memory_order_relaxed);
      while (door & kOpen &&
             !door_.compare_exchange_weak(door, door + 1, std::memory_order_acq_rel)) {
      }
      if (!(door & kOpen)) continue;
      if (const int member = member_.fetch_add(1, std::memory_order_relaxed) + 1;
          member <= last_member_.load(std::memory_order_relaxed))
        (*work_)(member);
      if (door_.fetch_sub(1, std::memory_order_acq_rel) == 1) door_.notify_one();
    }
  }

  int helpers_ = 0;
  std::optional<FunctionRef<void(int)>> work_;
  alignas(64) std::atomic<uint32_t> call_{0};
  alignas(64) std::atomic<uint32_t> door_{0};
  std::atomic<int> member_{0}, last_member_{0};
};

/// work(member) on this executor and its helpers.
inline void team(int threads, FunctionRef<void(int)> work) {
  thread_local Pool* pool = new Pool;  // an executor's: both live until the process ends
  pool->run(threads, work);
}

inline bool lead_team(int threads, FunctionRef<void(int)> work) {
  if (role().leads) return team(threads, work), true;
  Executor* e = Executors::get().try_take();
  if (!e) return false;
  run_and_give(e, [&] { team(threads, work); });
  return true;
}

}  // namespace evenflow::cpu
