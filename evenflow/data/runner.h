// SPDX-License-Identifier: Apache-2.0
// Threads that work ahead. Each stage that may work ahead keeps a window of chunks in order; a
// worker takes what the window next to the end has room for, so parallelism goes by itself to where
// the others wait, and the windows grow where somebody had to wait.
#pragma once
#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "evenflow/data/stage.h"

namespace evenflow::data {

class Window;

class Runner {
 public:
  /// threads may be 0: then the caller of next() does all.
  Runner(int threads, int64_t memory, bool any_order);
  ~Runner();
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  int threads() const { return threads_wanted_; }
  void start();
  bool any_order() const { return any_order_; }
  void add(std::shared_ptr<Window> window);
  void remove(const Window* window);
  /// There may be something to do.
  void wake();
  /// Everybody who waits throws, or ends.
  void cancel();
  bool cancelled() const { return cancelled_.load(); }
  /// Throws FailedPrecondition where the pass that this thread works for was cancelled.
  static void check_cancelled();
  /// Bytes that wait in all windows.
  bool has_memory_for(int64_t bytes) const { return held_.load() + bytes <= memory_; }
  void hold(int64_t bytes) { held_ += bytes; }

 private:
  void serve();

  const int threads_wanted_;
  const int64_t memory_;
  const bool any_order_;
  std::mutex mutex_;
  std::condition_variable work_;
  uint64_t calls_ = 0;
  std::atomic<bool> cancelled_{false};
  std::atomic<int64_t> held_{0};
  std::vector<std::shared_ptr<Window>> windows_;
  std::vector<std::thread> workers_;
};

/// What this thread does meanwhile it does for a runner.
class WorksFor {
 public:
  explicit WorksFor(const Runner* runner);
  ~WorksFor();
  WorksFor(const WorksFor&) = delete;

 private:
  const Runner* outer_;
};

/// A feed that runs `work` ahead, in its window. elements: how many may wait at most; 0: that is
/// found by itself. batched: chunks go through whole.
FeedPtr ahead(const Pass& pass, Work work, bool batched, int64_t elements = 0);

}  // namespace evenflow::data
