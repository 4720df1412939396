// SPDX-License-Identifier: Apache-2.0
// What plans run, kernel by kernel: one record, from which EVENFLOW_LOG=exec, tables of time and
// Chrome traces are made.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "evenflow/graph/op.h"

namespace evenflow {

/// A kernel call of a plan as those see it who watch it run.
struct KernelCall {
  std::string op, kernel;
  std::string name;  ///< scope of names it was made in, or empty
  Sigs in, out;
  Cost cost;  ///< bytes of what it reads and writes, once each; the operation's own count of FLOPs
  bool has_graph = false;  ///< runs a graph of its own, on several threads maybe
};
/// "conv2d [onednn] "block1/conv" 812.4 us, 96 GFlop/s, 12 GB/s"
std::string str(const KernelCall& call, double us);
/// "f32[8,8,8,3], f32[3,3,3,16] -> f32[8,8,8,16]"
std::string shapes_of(const KernelCall& call);

/// One run of it, by a steady clock.
struct Execution {
  std::shared_ptr<const KernelCall> call;
  int64_t begin_ns = 0, end_ns = 0;
  int thread = 0;       ///< in the order in which threads were first seen
  bool nested = false;  ///< ran inside another call's kernel: a tile, a turn of a loop
};

/// Collects what all threads execute while it lives. There is one at a time: the constructor throws
/// FailedPrecondition.
class Recorder {
 public:
  Recorder();
  ~Recorder();
  Recorder(const Recorder&) = delete;
  /// Marks the time of f, on this thread, with a name: a step.
  void span(const std::string& name, const std::function<void()>& f);
  /// So far, in the order in which they ended; spans are calls without an operation.
  std::vector<Execution> executions() const;
  std::vector<Execution> spans() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  friend class Watched;
};

/// Around the run of a kernel, by the plan. `on()` is cheap enough for every run of a plan.
class Watched {
 public:
  static bool on();
  explicit Watched(bool nested);
  /// The kernel has run: tells the log and the recorder.
  void done(const std::shared_ptr<const KernelCall>& call);
  ~Watched();

 private:
  bool nested_;
  int64_t begin_ns_;
};

/// The most that a machine gives, all its threads together.
struct MachineLimits {
  int threads = 1;
  double flops_per_s = 0;  ///< multiply-adds of f32, two FLOPs each
  /// Bytes read and written when each thread copies this many bytes again and again.
  std::function<double(double bytes)> copy_bytes_per_s;
};

/// Time of equal calls. The times of a table add up to the time in which kernels ran: what ran
/// inside another call's kernel, side by side on several threads, is counted with its part of that
/// call's time, and the call itself with the rest.
struct KernelTime {
  std::string op, kernel;
  std::string name, shapes;  ///< empty where calls of all layers and shapes are taken together
  int64_t calls = 0;
  double us = 0, bytes = 0, flops = 0;
  double limit_us = 0;  ///< the least time for these bytes and FLOPs; 0: nothing is known of them
};
/// Longest first.
std::vector<KernelTime> kernel_times(const std::vector<Execution>& executions,
                                     const MachineLimits& limits, bool each_layer);
/// In Chrome's trace event format, for chrome://tracing and Perfetto: an event "X" an execution,
/// and one a span.
std::string chrome_trace(const std::vector<Execution>& executions,
                         const std::vector<Execution>& spans);

}  // namespace evenflow
