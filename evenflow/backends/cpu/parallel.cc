// SPDX-License-Identifier: Apache-2.0
// The part of parallel_for that does not depend on where the threads come from.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <limits>
#include <mutex>
#include <string>
#include <thread>
#ifdef __linux__
#include <sched.h>
#endif

#include "evenflow/backends/cpu/features.h"
#include "evenflow/backends/cpu/threads.h"
#include "evenflow/core/error.h"

namespace evenflow {
namespace {

int check_threads(int64_t threads, std::string_view what, std::string_view found) {
  if (threads < 1 || threads > cpu::kMaxThreads)
    fail({what, " is ", found, ", expected 1..", cpu::kMaxThreads});
  return int(threads);
}

int default_threads() {
  cpu::isa_limit();  // what computes in parallel is refused with a set that is not there
  if (const char* text = std::getenv("EVENFLOW_NUM_THREADS"); text && *text) {
    char* end;
    const long threads = std::strtol(text, &end, 10);
    return check_threads(*end ? 0 : threads, "EVENFLOW_NUM_THREADS", text);
  }
  int cores = int(std::thread::hardware_concurrency());
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) cores = CPU_COUNT(&set);
#endif
  return std::clamp(cores, 1, cpu::kMaxThreads);
}

std::atomic<int>& threads_setting() {
  static std::atomic<int> threads{default_threads()};
  return threads;
}

// Each member begins with its own stretch of chunks, so that it meets the same data again in the
// next loop, and then helps with what the others have not begun: a member that the system has put
// to sleep holds up nobody.
class Chunks {
 public:
  Chunks(int64_t n, int64_t grain, int members, FunctionRef<void(int64_t, int64_t)> f)
      : n_(n), grain_(grain), members_(std::min(members, kStretches)), f_(f) {
    const int64_t chunks = (n - 1) / grain + 1, each = chunks / members_, more = chunks % members_;
    int64_t at = 0;
    for (int i = 0; i < members_; ++i) {
      stretches_[i].next.store(at, std::memory_order_relaxed);
      stretches_[i].end = at += each + (i < more);
    }
  }
  void work(int member) noexcept {
    for (int i = 0; i < members_; ++i) {
      Stretch& s = stretches_[(member + i) % members_];
      if (s.next.load(std::memory_order_relaxed) >= s.end) continue;
      for (int64_t c; (c = s.next.fetch_add(1, std::memory_order_relaxed)) < s.end;) run(c);
    }
  }
  void rethrow() {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  static constexpr int kStretches = 64;
  struct alignas(64) Stretch {
    std::atomic<int64_t> next;
    int64_t end;
  };

  // Chunks behind one that failed are dropped; those before it run, so that the exception is the
  // same as without threads.
  void run(int64_t chunk) noexcept {
    if (chunk > failed_.load(std::memory_order_relaxed)) return;
    try {
      f_(chunk * grain_, std::min(n_, (chunk + 1) * grain_));
    } catch (...) {
      std::lock_guard lock(mutex_);
      if (chunk >= failed_.load(std::memory_order_relaxed)) return;
      failed_.store(chunk, std::memory_order_relaxed);
      error_ = std::current_exception();
    }
  }

  const int64_t n_, grain_;
  const int members_;
  FunctionRef<void(int64_t, int64_t)> f_;
  std::atomic<int64_t> failed_{std::numeric_limits<int64_t>::max()};
  std::mutex mutex_;
  std::exception_ptr error_;
  Stretch stretches_[kStretches];
};

}  // namespace

cpu::Role& cpu::role() {
  thread_local Role r;
  return r;
}

int thread_count() { return threads_setting().load(std::memory_order_relaxed); }
void set_thread_count(int threads) {
  threads_setting().store(check_threads(threads, "thread count", std::to_string(threads)),
                          std::memory_order_relaxed);
}

int available_threads() { return cpu::role().serial ? 1 : thread_count(); }
void serially(FunctionRef<void()> f) {
  on_executor([&] {
    cpu::RoleScope inside({.leads = true, .serial = true});
    on_executor(f);  // at once, with a library's threads set to one
  });
}

void parallel_for(int64_t n, int64_t grain, FunctionRef<void(int64_t, int64_t)> f) {
  if (n <= 0) return;
  grain = std::clamp<int64_t>(grain, 1, n);
  const int64_t chunks = (n - 1) / grain + 1;
  if (chunks == 1) return f(0, n);
  const int threads = int(std::min<int64_t>(thread_count(), chunks));
  const cpu::Role role = cpu::role();
  if (threads > 1 && !role.serial) {
    Chunks all(n, grain, threads, f);
    if (cpu::lead(threads, [&](int member) { all.work(member); })) return all.rethrow();
  }
  // One thread, or somebody else's parallel work keeps the executors busy: better to begin alone
  // than to wait.
  cpu::RoleScope inside({.leads = role.leads, .serial = true});
  for (int64_t c = 0; c < chunks; ++c) f(c * grain, std::min(n, (c + 1) * grain));
}

}  // namespace evenflow
