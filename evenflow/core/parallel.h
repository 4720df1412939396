// SPDX-License-Identifier: Apache-2.0
// Work on all cores. backends/cpu implements it (OpenMP, std::thread, or none).
#pragma once
#include <cstdint>
#include <memory>
#include <type_traits>

namespace evenflow {

/// A reference to a callable, valid while the call that takes it runs.
template <class>
class FunctionRef;
template <class R, class... A>
class FunctionRef<R(A...)> {
 public:
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef> &&
           std::is_invocable_r_v<R, F&, A...>) FunctionRef(F&& f)  // NOLINT: implicit on purpose
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
        call_([](void* o, A... a) -> R {
          return (*static_cast<std::remove_reference_t<F>*>(o))(static_cast<A>(a)...);
        }) {}
  R operator()(A... a) const { return call_(object_, static_cast<A>(a)...); }

 private:
  void* object_;
  R (*call_)(void*, A...);
};

/// Threads that parallel_for may use: EVENFLOW_NUM_THREADS, else the cores this process may run on.
int thread_count();
void set_thread_count(int threads);

/// Calls f(begin, end) for the chunks [0,grain), [grain,2 grain), ... of [0,n), on several threads.
/// The chunks depend on n and grain alone, never on the number of threads, so what is reduced chunk
/// by chunk has the same bits for any number. Inside a chunk a nested parallel_for is serial (a
/// lone chunk runs on the caller, and is not a nest). The exception of the first chunk that throws
/// is thrown here when all have ended; chunks behind it may not have run. n <= 0 does nothing; a
/// grain below 1 is 1.
void parallel_for(int64_t n, int64_t grain, FunctionRef<void(int64_t begin, int64_t end)> f);

/// Threads that a parallel_for would use here: 1 inside a chunk, else thread_count().
int available_threads();
/// Runs f as if inside a chunk: what it prepares is for one thread.
void serially(FunctionRef<void()> f);

/// Runs f on one of the few executor threads that may start parallel work, and waits. On such a
/// thread: at once. A library with threads of its own (oneDNN) is called only from here, or every
/// caller would own a team of threads.
void on_executor(FunctionRef<void()> f);

}  // namespace evenflow
