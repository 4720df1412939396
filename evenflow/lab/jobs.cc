// SPDX-License-Identifier: Apache-2.0
#include "evenflow/lab/jobs.h"

#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "evenflow/core/parallel.h"

namespace evenflow::lab {

void run_jobs(size_t n, const std::function<void(size_t)>& job,
              const std::function<void(size_t)>& done) {
  struct OneThreadEach {
    int before = thread_count();
    OneThreadEach() { set_thread_count(1); }
    ~OneThreadEach() { set_thread_count(before); }
  } threads;
  std::atomic<size_t> next{0};
  size_t ended = 0;
  std::exception_ptr error;
  std::mutex mutex;
  auto work = [&] {
    try {
      for (size_t i; (i = next++) < n;) {
        job(i);
        std::lock_guard lock(mutex);
        if (done) done(++ended);
      }
    } catch (...) {
      std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
      next = n;
    }
  };
  std::vector<std::thread> workers;
  for (int i = 1; i < threads.before && size_t(i) < n; ++i) workers.emplace_back(work);
  work();
  for (auto& w : workers) w.join();
  if (error) std::rethrow_exception(error);
}

}  // namespace evenflow::lab
