// SPDX-License-Identifier: Apache-2.0
#include "tests/emulated_gpu.h"

#include <dlfcn.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>
#include <utility>

#include "evenflow/backends/gpu/allocator.h"
#include "evenflow/backends/gpu/cache.h"
#include "evenflow/backends/gpu/cuda/driver.h"
#include "evenflow/backends/gpu/gpu.h"

namespace evenflow::emulated {
namespace {
using namespace gpu;
namespace fs = std::filesystem;

// As in shim.h.
struct Item {
  int thread, threads;
  int64_t block, blocks;
  void* local;
  void (*barrier)();
};

struct EmulatedKernel : Kernel {
  void (*run)(void**);
  Item** item;
  std::string name;
};

// The threads of a block, as contexts that take turns.
class Block {
 public:
  static constexpr size_t kStack = 64 << 10;
  void run(const EmulatedKernel& k, void** args, Item item) {
    if (int(threads_.size()) < item.threads) threads_.resize(size_t(item.threads));
    current = this;
    *k.item = &item_;
    item_ = item;
    item_.barrier = [] { current->yield(); };
    kernel_ = &k, args_ = args;
    int alive = item.threads;
    for (int t = 0; t < item.threads; ++t) {
      Thread& thread = threads_[size_t(t)];
      if (!thread.stack) thread.stack = std::make_unique<char[]>(kStack);
      getcontext(&thread.context);
      thread.context.uc_stack.ss_sp = thread.stack.get();
      thread.context.uc_stack.ss_size = kStack;
      thread.context.uc_link = &scheduler_;
      thread.done = false;
      makecontext(
          &thread.context, [] { current->body(); }, 0);
    }
    while (alive > 0) {
      int waiting = 0;
      for (at_ = 0; at_ < item.threads; ++at_) {
        Thread& thread = threads_[size_t(at_)];
        if (thread.done) continue;
        item_.thread = at_;
        swapcontext(&scheduler_, &thread.context);
        thread.done ? --alive : ++waiting;
      }
      // A barrier that only some threads reach hangs a GPU.
      if (waiting && waiting != item.threads && alive != item.threads && waiting != alive)
        broken = true;
      if (alive && alive != item.threads) broken = true;
    }
  }
  bool broken = false;

 private:
  struct Thread {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    bool done = false;
  };
  void body() {
    kernel_->run(args_);
    threads_[size_t(at_)].done = true;
  }
  void yield() {
    const int t = at_;
    swapcontext(&threads_[size_t(t)].context, &scheduler_);
    item_.thread = t;
  }
  static thread_local Block* current;
  std::vector<Thread> threads_;
  ucontext_t scheduler_;
  Item item_;
  const EmulatedKernel* kernel_ = nullptr;
  void** args_ = nullptr;
  int at_ = 0;
};
thread_local Block* Block::current = nullptr;

// EVENFLOW_TEST_CUDA=sm_80,sm_90: each kernel is also compiled for these, where there is NVRTC.
void compile_for_cuda(const std::string& source) {
  const char* list = std::getenv("EVENFLOW_TEST_CUDA");
  if (!list || !*list) return;
  std::istringstream all(list);
  for (std::string architecture; std::getline(all, architecture, ',');) {
    const std::string key = cuda::compiler_version() + " " + architecture + "\n" + source;
    if (!cached_binary(key)) keep_binary(key, cuda::compile(source, architecture));
  }
}

const char* compiler() {
  const char* cxx = std::getenv("CXX");
  return cxx && *cxx ? cxx : "c++";
}
int64_t most_bytes = INT64_MAX;

// Launches and fills, with copies of their arguments.
struct EmulatedRecording : Accelerator::Recording {
  std::vector<std::function<void()>> work;
};

class Emulated : public Gpu {
 public:
  Emulated() : Gpu(Device(Device::Kind::emulated, 0)) {
    char name[] = "/tmp/evenflow_emulated_XXXXXX";
    if (!mkdtemp(name)) fail(Code::Internal, {"emulated: no temporary folder"});
    folder_ = name;
    make_errors();
  }
  ~Emulated() override { fs::remove_all(folder_); }
  std::string description() const override { return "a GPU emulated on the host, for tests"; }
  int processors() const override { return 3; }
  void* allocate(int64_t bytes) override { return allocator_.allocate(bytes); }
  void release(void* p) noexcept override { allocator_.release(p); }
  Memory memory() const override { return allocator_.memory(); }
  void upload(void* to, const void* from, int64_t bytes) override {
    check(to, bytes);
    std::memcpy(to, from, size_t(bytes));
  }
  void download(void* to, const void* from, int64_t bytes) override {
    check(from, bytes);
    std::memcpy(to, from, size_t(bytes));
    synchronize();
  }
  void copy(void* to, const void* from, int64_t bytes) override {
    check(to, bytes), check(from, bytes);
    std::memmove(to, from, size_t(bytes));
  }
  void zero(void* p, int64_t bytes) override {
    if (recording_) return recording_->work.push_back([=, this] { zero(p, bytes); });
    check(p, bytes);
    std::memset(p, 0, size_t(bytes));
  }
  void synchronize() override {
    const int64_t found[3] = {errors_[0], errors_[1], errors_[2]};
    check_errors(found);
  }

  KernelPtr compile(const std::string& source, const std::string& name) override {
    std::lock_guard lock(mutex_);
    auto& library = libraries_[source];
    if (!library) {
      compile_for_cuda(source);
      const std::string stem = folder_ + "/" + std::to_string(libraries_.size());
      std::optional<std::string> kept = cached_binary("emulated\n" + source);
      if (kept)
        std::ofstream(stem + ".so", std::ios::binary) << *kept;
      else {
        std::ofstream(stem + ".cc") << source;
        const std::string command = concat({compiler(),
                                            " -std=c++20 -O0 -fPIC -shared -ffp-contract=off -w "
                                            "-DEVENFLOW_EMULATED -o ",
                                            stem, ".so ", stem, ".cc 2> ", stem, ".log"});
        if (std::system(command.c_str())) {
          std::ifstream in(stem + ".log");
          const std::string log(std::istreambuf_iterator<char>(in), {});
          libraries_.erase(source);
          fail(Code::Internal, {"emulated: a kernel does not compile: ", log});
        }
        std::ifstream in(stem + ".so", std::ios::binary);
        keep_binary("emulated\n" + source, std::string(std::istreambuf_iterator<char>(in), {}));
      }
      library = dlopen((stem + ".so").c_str(), RTLD_NOW | RTLD_LOCAL);
      if (!library) fail(Code::Internal, {"emulated: ", dlerror()});
    }
    auto k = std::make_shared<EmulatedKernel>();
    k->run = reinterpret_cast<void (*)(void**)>(dlsym(library, name.c_str()));
    k->item = static_cast<Item**>(dlsym(library, "evenflow_item"));
    k->name = name;
    if (!k->run) fail(Code::Internal, {"emulated: the source has no kernel ", name});
    return k;
  }
  int resident(const Kernel&, const Grid&) const override { return 2; }
  RecordingPtr record(const std::function<void()>& work) override {
    auto r = std::make_shared<EmulatedRecording>();
    recording_ = r.get();
    work();
    recording_ = nullptr;
    return r;
  }
  void replay(const Recording& r) override {
    for (auto& f : static_cast<const EmulatedRecording&>(r).work) f();
  }
  void launch(const Kernel& kernel, const Grid& g, std::span<const Arg> args) override {
    if (recording_) {
      std::vector<std::vector<char>> copies;
      for (auto& a : args)
        copies.emplace_back(static_cast<const char*>(a.data),
                            static_cast<const char*>(a.data) + a.bytes);
      recording_->work.push_back([this, &kernel, g, copies] {
        std::vector<Arg> again;
        for (auto& c : copies) again.push_back({c.data(), c.size()});
        launch(kernel, g, again);
      });
      return;
    }
    auto& k = static_cast<const EmulatedKernel&>(kernel);
    if (g.blocks < 1 || g.threads < 1 || g.threads > 1024 || g.local_bytes > (48 << 10))
      fail({"launch of ", k.name, ": ", g.blocks, " blocks of ", g.threads, " threads and ",
            g.local_bytes, " bytes"});
    std::vector<void*> pointers;
    for (auto& a : args) {
      pointers.push_back(const_cast<void*>(a.data));
      // What looks like an address of this process must be of the device: a GPU would fault.
      uint64_t v = 0;
      if (a.bytes == sizeof v) std::memcpy(&v, a.data, sizeof v);
      if (v >= (uint64_t(1) << 32) && v < (uint64_t(1) << 47))
        check(reinterpret_cast<const void*>(v), 1, k.name.c_str());
    }
    std::lock_guard lock(mutex_);
    std::vector<char> local(size_t(g.local_bytes) + 16);
    void* aligned =
        reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(local.data()) + 15) / 16 * 16);
    for (int64_t b = 0; b < g.blocks; ++b) {
      std::memset(local.data(), 0xcd, local.size());
      block_.run(k, pointers.data(), {0, g.threads, b, g.blocks, aligned, nullptr});
    }
    if (std::exchange(block_.broken, false))
      fail(Code::Internal, {"launch of ", k.name, ": a barrier was reached by some threads only"});
  }

 private:
  void check(const void* p, int64_t bytes, const char* who = "copy") {
    std::lock_guard lock(mutex_);
    auto it = blocks_.upper_bound(const_cast<void*>(p));
    if (it == blocks_.begin() ||
        static_cast<const char*>(p) + bytes >
            static_cast<char*>(std::prev(it)->first) + std::prev(it)->second)
      fail(Code::Internal, {"emulated: ", who, ": memory that is not the device's"});
  }
  EmulatedRecording* recording_ = nullptr;
  std::mutex mutex_;
  std::map<void*, int64_t> blocks_;
  std::map<std::string, void*> libraries_;
  std::string folder_;
  Block block_;
  CachingAllocator allocator_{
      [this](int64_t bytes) -> void* {
        std::lock_guard lock(mutex_);
        if (memory_used_ + bytes > most_bytes) return nullptr;
        void* p = std::aligned_alloc(256, size_t(bytes));
        if (!p) return nullptr;
        std::memset(p, 0xcd, size_t(bytes));  // what nobody wrote is no number that helps
        memory_used_ += bytes;
        blocks_[p] = bytes;
        return p;
      },
      [this](void* p) {
        std::lock_guard lock(mutex_);
        memory_used_ -= blocks_[p];
        blocks_.erase(p);
        std::free(p);
      }};
  int64_t memory_used_ = 0;
};

}  // namespace

Device emulated_gpu() {
  static const AcceleratorKind kind{
      Device::Kind::emulated,
      []() -> std::vector<DeviceInfo> {
        return {{"emulated:0", "for tests", true, ""}};
      },
      [](int) -> std::unique_ptr<Accelerator> { return std::make_unique<Emulated>(); }};
  return Device(Device::Kind::emulated, 0);
}
Device device_for_tests() {
  const char* name = std::getenv("EVENFLOW_TEST_DEVICE");
  return name && *name ? Device(name) : emulated_gpu();
}
std::string emulated_gpu_missing() {
  static const bool there =
      !std::system(concat({compiler(), " --version > /dev/null 2>&1"}).c_str());
  return there ? "" : concat({"there is no compiler ", compiler()});
}
void emulated_gpu_memory(int64_t bytes) { most_bytes = bytes; }

}  // namespace evenflow::emulated
