// SPDX-License-Identifier: Apache-2.0
// What CUDA and SYCL share: an accelerator that compiles kernels from source while the program
// runs, and launches them. No operation's name is known here.
#pragma once
#include <array>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "evenflow/core/accelerator.h"

namespace evenflow::gpu {

/// A kernel that is ready for one device.
class Kernel {
 public:
  virtual ~Kernel() = default;
};
using KernelPtr = std::shared_ptr<const Kernel>;

/// Blocks of threads; `local_bytes` is what the threads of a block share.
struct Grid {
  int64_t blocks = 1;
  int threads = 256;
  int64_t local_bytes = 0;
};
struct Arg {
  const void* data;
  size_t bytes;
};

class Gpu : public Accelerator {
 public:
  using Accelerator::Accelerator;
  /// The kernel `name` of a source in the language of shim.h, compiled once. Throws Internal with
  /// the compiler's log.
  virtual KernelPtr compile(const std::string& source, const std::string& name) = 0;
  /// Asks for one run. Throws InvalidArgument for a grid that the device cannot have.
  virtual void launch(const Kernel& kernel, const Grid& grid, std::span<const Arg> args) = 0;
  /// Blocks of this kind that one processor holds at a time.
  virtual int resident(const Kernel& kernel, const Grid& grid) const = 0;
  virtual void zero(void* memory, int64_t bytes) = 0;
  /// Processors that run blocks side by side.
  virtual int processors() const = 0;
  /// Three numbers in its memory: a kernel that finds an index out of range puts 1, the index and
  /// the end there. Whoever waits next throws it.
  int64_t* errors() const { return errors_; }
  /// The queue, for libraries of the vendor; null where there is none.
  virtual void* stream() const { return nullptr; }

 protected:
  static constexpr int64_t kErrorBytes = 3 * sizeof(int64_t);
  void make_errors() {
    errors_ = static_cast<int64_t*>(allocate(kErrorBytes));
    zero(errors_, kErrorBytes);
  }
  /// Throws what the three numbers say, and forgets it.
  void check_errors(const int64_t* found) {
    if (!found[0]) return;
    zero(errors_, kErrorBytes);
    fail(Code::OutOfRange, {"an index is ", found[1], ", expected 0..", found[2] - 1});
  }
  int64_t* errors_ = nullptr;
};
/// Every accelerator is one.
inline Gpu& gpu_of(Accelerator* on) { return static_cast<Gpu&>(*on); }

/// A name and what it stands for in a source: {"T", "float"}.
using Defines = std::vector<std::pair<std::string, std::string>>;
/// The text of `file` ("ops/softmax.gpu.h") and of what it includes; the definitions hold in .gpu.h
/// files.
std::string source_of(std::string_view file, const Defines& defines);

/// A kernel with its arguments checked by nobody but the compiler of the kernel: pass exactly what
/// it takes, in types of the same size.
class Launcher {
 public:
  Launcher() = default;
  Launcher(Accelerator* on, std::string_view file, const std::string& name, const Defines& defines)
      : kernel_(gpu_of(on).compile(source_of(file, defines), name)) {}
  /// Blocks that the whole device holds at a time; 0 where there is no kernel.
  int64_t resident(Accelerator* on, const Grid& grid) const {
    if (!kernel_) return 0;
    return int64_t(gpu_of(on).resident(*kernel_, grid)) * gpu_of(on).processors();
  }
  template <class... T>
  void operator()(Accelerator* on, const Grid& grid, const T&... args) const {
    const std::array<Arg, sizeof...(T)> list{Arg{&args, sizeof args}...};
    gpu_of(on).launch(*kernel_, grid, list);
  }

 private:
  KernelPtr kernel_;
};

/// A source that is part of the library, under its path from evenflow/.
struct SourceEntry {
  const char *name, *text;
  const SourceEntry* next;
  SourceEntry(const char* name, const char* text);
  static const SourceEntry*& head();
};
std::vector<std::string_view> source_names();

}  // namespace evenflow::gpu
