// SPDX-License-Identifier: Apache-2.0
// The few threads that may start parallel work, and the hand-over to them: spin briefly, yield,
// then sleep, on both sides. Included by parallel_openmp.cc and parallel_std.cc, by pool.h, only.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "evenflow/backends/cpu/threads.h"
#include "evenflow/core/error.h"

namespace evenflow::cpu {

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Returns when `value` is no longer `old`. Yields early: with as many team threads as cores a
/// spinning waiter would keep one of them from its core.
inline uint32_t await_change(const std::atomic<uint32_t>& value, uint32_t old,
                             std::chrono::microseconds patience) {
  uint32_t now;
  for (int i = 0; i < 64; ++i) {
    if ((now = value.load(std::memory_order_acquire)) != old) return now;
    relax();
  }
  for (const auto start = std::chrono::steady_clock::now();
       std::chrono::steady_clock::now() - start < patience;) {
    for (int i = 0; i < 8; ++i) {
      if ((now = value.load(std::memory_order_acquire)) != old) return now;
      std::this_thread::yield();
    }
  }
  while ((now = value.load(std::memory_order_acquire)) == old)
    value.wait(old, std::memory_order_acquire);
  return now;
}

class Executor {
 public:
  Executor() : thread_([this] { serve(); }) { thread_.detach(); }
  bool try_take() { return !busy_.load() && !busy_.exchange(true); }
  void give() { busy_.store(false); }

  /// Runs f on the thread and waits; the caller has taken the executor.
  void run(FunctionRef<void()> f) {
    job_.emplace(f);
    const uint32_t ticket = done_.load(std::memory_order_relaxed);
    posted_.store(ticket + 1, std::memory_order_release);
    posted_.notify_one();
    await_change(done_, ticket, kCallerPatience);
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

 private:
  // The thread stays awake between the steps of a loop; the caller sleeps early, since the team
  // needs its core.
  static constexpr std::chrono::microseconds kPatience{200}, kCallerPatience{100};

  void serve() {
    role() = {.leads = true, .serial = false};
    for (uint32_t seen = 0;;) {
      seen = await_change(posted_, seen, kPatience);
      try {
        (*job_)();
      } catch (...) {
        error_ = std::current_exception();
      }
      done_.store(seen, std::memory_order_release);
      done_.notify_one();
    }
  }

  alignas(64) std::atomic<uint32_t> posted_{0};
  alignas(64) std::atomic<uint32_t> done_{0};
  alignas(64) std::atomic<bool> busy_{false};
  std::optional<FunctionRef<void()>> job_;
  std::exception_ptr error_;
  std::thread thread_;
};

/// All of them. Never destroyed: the threads sleep until the process ends, and static destructors
/// may still call parallel_for.
class Executors {
 public:
  static Executors& get() {
    static Executors* all = new Executors;
    return *all;
  }
  Executor* try_take() {
    for (auto& e : executors_)
      if (e->try_take()) return e.get();
    return nullptr;
  }
  Executor* take() {
    if (Executor* e = try_take()) return e;
    std::unique_lock lock(mutex_);
    ++waiting_;
    Executor* e;
    free_.wait(lock, [&] { return (e = try_take()); });
    --waiting_;
    return e;
  }
  void give(Executor* e) {
    e->give();
    if (!waiting_.load()) return;
    {
      std::lock_guard lock(mutex_);
    }  // the waiter is either before its look at the executors, or asleep
    free_.notify_one();
  }

 private:
  Executors() {
    int n = 1;
    if (const char* text = std::getenv("EVENFLOW_EXECUTORS"); text && *text) {
      char* end;
      const long wish = std::strtol(text, &end, 10);
      if (*end || wish < 1 || wish > 64) fail({"EVENFLOW_EXECUTORS is ", text, ", expected 1..64"});
      n = int(wish);
    }
    for (int i = 0; i < n; ++i) executors_.push_back(std::make_unique<Executor>());
  }

  std::vector<std::unique_ptr<Executor>> executors_;
  std::mutex mutex_;
  std::condition_variable free_;
  std::atomic<int> waiting_{0};
};

/// Runs f on an executor that was taken, and gives it back whatever happens.
inline void run_and_give(Executor* executor, FunctionRef<void()> f) {
  struct Give {
    Executor* e;
    ~Give() { Executors::get().give(e); }
  } give{executor};
  executor->run(f);
}

}  // namespace evenflow::cpu
