// SPDX-License-Identifier: Apache-2.0
// CUDA devices: the primary context, one stream, a caching allocator.
#include <algorithm>
#include <map>
#include <mutex>
#include <unordered_map>

#include "evenflow/backends/gpu/allocator.h"
#include "evenflow/backends/gpu/cache.h"
#include "evenflow/backends/gpu/cuda/driver.h"
#include "evenflow/backends/gpu/gpu.h"
#include "evenflow/core/log.h"

namespace evenflow::gpu::cuda {
namespace {

// Numbers of CUdevice_attribute and CUfunction_attribute.
constexpr int kMultiprocessors = 16, kMajor = 75, kMinor = 76, kLocalBytes = 97;
constexpr int kMaxDynamicLocal = 8;
constexpr int64_t kPlainLocal = 48 << 10;  // more of a block's memory has to be asked for

class CudaKernel : public Kernel {
 public:
  CudaKernel(Handle f, std::string n) : function(f), name(std::move(n)) {}
  Handle function;
  std::string name;
};

class CudaRecording : public Accelerator::Recording {
 public:
  explicit CudaRecording(Handle e) : executable(e) {}
  ~CudaRecording() override { driver().destroy_executable(executable); }
  Handle executable;
};

class CudaDevice : public Gpu {
 public:
  explicit CudaDevice(int index) : Gpu(Device(Device::Kind::cuda, index)) {
    const Driver& d = driver();
    check(d.device_get(&id_, index), "cuDeviceGet");
    check(d.retain_context(&context_, id_), "cuDevicePrimaryCtxRetain");
    enter();
    check(d.create_stream(&stream_, 1), "cuStreamCreate");
    int major = 0, minor = 0;
    d.attribute(&major, kMajor, id_), d.attribute(&minor, kMinor, id_);
    d.attribute(&processors_, kMultiprocessors, id_);
    d.attribute(&most_local_, kLocalBytes, id_);
    target_ = concat({"sm_", major, minor});
    char name[256] = "";
    d.device_name(name, sizeof name, id_);
    size_t total = 0;
    d.total_memory(&total, id_);
    make_errors();
    description_ =
        concat({name, ", ", total >> 30, " GiB, compute capability ", major, ".", minor});
  }
  std::string description() const override { return description_; }
  int processors() const override { return processors_; }
  void* stream() const override { return stream_; }

  void* allocate(int64_t bytes) override {
    enter();
    return allocator_.allocate(bytes);
  }
  void release(void* p) noexcept override { allocator_.release(p); }
  Memory memory() const override { return allocator_.memory(); }

  RecordingPtr record(const std::function<void()>& work) override {
    const Exclusive alone(*this);  // what others ask for must not get into it
    constexpr int kThisThread = 1;
    check(driver().begin_capture(stream_, kThisThread), "begin to record");
    Handle graph = nullptr, executable = nullptr;
    try {
      work();
    } catch (...) {
      driver().end_capture(stream_, &graph);
      if (graph) driver().destroy_graph(graph);
      throw;
    }
    check(driver().end_capture(stream_, &graph), "end of a recording");
    const Result r = driver().instantiate(&executable, graph, 0);
    driver().destroy_graph(graph);
    check(r, "a recording");
    return std::make_shared<CudaRecording>(executable);
  }
  void replay(const Recording& recording) override {
    const Exclusive alone(*this);
    check(driver().launch_graph(static_cast<const CudaRecording&>(recording).executable, stream_),
          "recorded work");
  }
  void upload(void* to, const void* from, int64_t bytes) override {
    const Exclusive alone(*this);
    check(driver().to_device(address(to), from, size_t(bytes), stream_), "copy to the device");
  }
  void download(void* to, const void* from, int64_t bytes) override {
    const Exclusive alone(*this);
    check(driver().to_host(to, address(from), size_t(bytes), stream_), "copy to the host");
    synchronize();
  }
  void copy(void* to, const void* from, int64_t bytes) override {
    const Exclusive alone(*this);
    check(driver().copy(address(to), address(from), size_t(bytes), stream_), "copy on the device");
  }
  void zero(void* p, int64_t bytes) override {
    const Exclusive alone(*this);
    check(driver().fill(address(p), 0, size_t(bytes), stream_), "fill");
  }
  void synchronize() override {
    const Exclusive alone(*this);
    int64_t found[3] = {};
    check(driver().to_host(found, address(errors_), kErrorBytes, stream_), "copy to the host");
    check(driver().wait_stream(stream_), "work that was asked for earlier");
    check_errors(found);
  }

  KernelPtr compile(const std::string& source, const std::string& name) override {
    std::lock_guard lock(mutex_);
    auto& kernel = kernels_[{source, name}];
    if (!kernel) {
      enter();
      Handle module = module_of(source), function = nullptr;
      check(driver().get_function(&function, module, name.c_str()), name.c_str());
      driver().set_function_attribute(function, kMaxDynamicLocal, most_local_);
      kernel = std::make_shared<CudaKernel>(function, name);
    }
    return kernel;
  }
  int resident(const Kernel& kernel, const Grid& g) const override {
    enter();
    int blocks = 0;
    check(driver().resident(&blocks, static_cast<const CudaKernel&>(kernel).function, g.threads,
                            size_t(g.local_bytes)),
          "cuOccupancyMaxActiveBlocksPerMultiprocessor");
    return std::max(blocks, 1);
  }
  void launch(const Kernel& kernel, const Grid& g, std::span<const Arg> args) override {
    auto& k = static_cast<const CudaKernel&>(kernel);
    if (g.blocks < 1 || g.blocks > INT32_MAX || g.threads < 1 || g.threads > 1024 ||
        g.local_bytes > most_local_)
      fail({"launch of ", k.name, ": ", g.blocks, " blocks of ", g.threads, " threads and ",
            g.local_bytes, " bytes, expected at most ", INT32_MAX, ", 1024 and ", most_local_});
    void* pointers[32];
    if (args.size() > std::size(pointers)) fail({"launch of ", k.name, ": too many arguments"});
    for (size_t i = 0; i < args.size(); ++i) pointers[i] = const_cast<void*>(args[i].data);
    const Exclusive alone(*this);
    check(driver().launch(k.function, unsigned(g.blocks), 1, 1, unsigned(g.threads), 1, 1,
                          unsigned(g.local_bytes), stream_, pointers, nullptr),
          k.name.c_str());
  }

 private:
  static DevicePtr address(const void* p) { return DevicePtr(p); }
  // The stream has one user at a time, and the thread is in the device's context.
  struct Exclusive {
    explicit Exclusive(CudaDevice& d) : lock(d.stream_mutex_) { d.enter(); }
    std::lock_guard<std::recursive_mutex> lock;
  };
  // Contexts belong to threads: any thread may come here.
  void enter() const {
    static thread_local Handle current = nullptr;
    if (current == context_) return;
    check(driver().set_context(context_), "cuCtxSetCurrent");
    current = context_;
  }
  Handle module_of(const std::string& source) {
    auto& module = modules_[source];
    if (module) return module;
    const std::string key = compiler_version() + " " + target_ + "\n" + source;
    std::optional<std::string> binary = cached_binary(key);
    if (binary && !driver().load_module(&module, binary->data())) return module;
    binary = cuda::compile(source, target_);
    check(driver().load_module(&module, binary->data()), "cuModuleLoadData");
    keep_binary(key, *binary);
    return module;
  }

  int id_ = 0, processors_ = 1, most_local_ = 0;
  Handle context_ = nullptr, stream_ = nullptr;
  std::string target_, description_;
  std::recursive_mutex stream_mutex_;
  std::mutex mutex_;
  std::map<std::pair<std::string, std::string>, KernelPtr> kernels_;
  std::unordered_map<std::string, Handle> modules_;
  CachingAllocator allocator_{[this](int64_t bytes) -> void* {
                                DevicePtr p = 0;
                                if (const Result r = driver().allocate(&p, size_t(bytes)); r == 2)
                                  return nullptr;
                                else
                                  check(r, "cuMemAlloc");
                                return reinterpret_cast<void*>(p);
                              },
                              [this](void* p) {
                                enter();
                                driver().wait_stream(stream_);
                                driver().free(address(p));
                              }};
};

std::string missing(int index) {
  const Driver& d = driver();
  if (!d.why.empty()) return d.why;
  int count = 0;
  if (d.device_count(&count) || !count) return "the driver sees no GPU";
  if (index >= count) return concat({"there are ", count, " CUDA devices"});
  return {};
}

const AcceleratorKind kind{Device::Kind::cuda,
                           []() -> std::vector<DeviceInfo> {
                             if (const std::string why = missing(0); !why.empty())
                               return {{"cuda", "", false, why}};
                             std::vector<DeviceInfo> r;
                             int count = 0;
                             driver().device_count(&count);
                             for (int i = 0; i < count; ++i) {
                               Device d;
                               d.kind = Device::Kind::cuda, d.index = i;
                               r.push_back({str(d), accelerator(d)->description(), true, ""});
                             }
                             return r;
                           },
                           [](int index) -> std::unique_ptr<Accelerator> {
                             if (const std::string why = missing(index); !why.empty())
                               fail(Code::Unimplemented, {"device cuda:", index, ": ", why});
                             return std::make_unique<CudaDevice>(index);
                           }};

}  // namespace
}  // namespace evenflow::gpu::cuda
