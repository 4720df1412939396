// SPDX-License-Identifier: Apache-2.0
#include "evenflow/backends/gpu/cuda/driver.h"

#include <dlfcn.h>

#include <cstdlib>

#include "evenflow/core/error.h"

namespace evenflow::gpu::cuda {
namespace {
constexpr Result kOutOfMemory = 2;
}

Library::Library(std::initializer_list<const char*> names) {
  std::string tried;
  for (const char* name : names) {
    std::string places[] = {name, "", "/usr/local/cuda/lib64/" + std::string(name)};
    if (const char* home = std::getenv("CUDA_HOME"))
      places[1] = std::string(home) + "/lib64/" + name;
    for (auto& p : places) {
      if (p.empty()) continue;
      if ((handle_ = dlopen(p.c_str(), RTLD_NOW | RTLD_LOCAL))) {
        name_ = name;
        return;
      }
    }
    tried += (tried.empty() ? "" : ", ") + std::string(name);
  }
  why_ = "none of these libraries can be loaded: " + tried;
}
void* Library::find(const char* symbol) const { return handle_ ? dlsym(handle_, symbol) : nullptr; }

const Driver& driver() {
  static const Driver loaded = [] {
    Driver d{};
    d.library = Library({"libcuda.so.1"});
    if (!d.library) {
      d.why = "libcuda.so.1, which the NVIDIA driver brings, cannot be loaded";
      return d;
    }
    Library& l = d.library;
    l.bind(d.init, "cuInit"), l.bind(d.driver_version, "cuDriverGetVersion");
    l.bind(d.device_count, "cuDeviceGetCount"), l.bind(d.device_get, "cuDeviceGet");
    l.bind(d.device_name, "cuDeviceGetName"), l.bind(d.total_memory, "cuDeviceTotalMem_v2");
    l.bind(d.attribute, "cuDeviceGetAttribute");
    l.bind(d.retain_context, "cuDevicePrimaryCtxRetain"), l.bind(d.set_context, "cuCtxSetCurrent");
    l.bind(d.memory_info, "cuMemGetInfo_v2");
    l.bind(d.allocate, "cuMemAlloc_v2"), l.bind(d.free, "cuMemFree_v2");
    l.bind(d.to_device, "cuMemcpyHtoDAsync_v2"), l.bind(d.to_host, "cuMemcpyDtoHAsync_v2");
    l.bind(d.copy, "cuMemcpyDtoDAsync_v2"), l.bind(d.fill, "cuMemsetD8Async");
    l.bind(d.create_stream, "cuStreamCreate"), l.bind(d.wait_stream, "cuStreamSynchronize");
    l.bind(d.load_module, "cuModuleLoadData"), l.bind(d.get_function, "cuModuleGetFunction");
    l.bind(d.set_function_attribute, "cuFuncSetAttribute"), l.bind(d.launch, "cuLaunchKernel");
    l.bind(d.begin_capture, "cuStreamBeginCapture_v2");
    l.bind(d.end_capture, "cuStreamEndCapture");
    l.bind(d.instantiate, "cuGraphInstantiateWithFlags");
    l.bind(d.launch_graph, "cuGraphLaunch"), l.bind(d.destroy_graph, "cuGraphDestroy");
    l.bind(d.destroy_executable, "cuGraphExecDestroy");
    l.bind(d.resident, "cuOccupancyMaxActiveBlocksPerMultiprocessor");
    l.bind(d.error_name, "cuGetErrorName"), l.bind(d.error_text, "cuGetErrorString");
    d.why = l.why();
    if (!d.why.empty()) return d;
    if (const Result r = d.init(0)) {
      const char* text = nullptr;
      d.error_text(r, &text);
      d.why = std::string("the driver does not start: ") + (text ? text : "unknown error");
      return d;
    }
    int version = 0;
    d.driver_version(&version);
    if (version < 12000)
      d.why = concat({"the driver knows CUDA ", version / 1000, ".", version % 1000 / 10,
                      ", expected 12.0 or later: install a newer NVIDIA driver"});
    return d;
  }();
  return loaded;
}

void check(Result r, const char* what) {
  if (!r) return;
  const char *name = nullptr, *text = nullptr;
  driver().error_name(r, &name), driver().error_text(r, &text);
  fail(r == kOutOfMemory ? Code::ResourceExhausted : Code::Internal,
       {"cuda: ", what, ": ", name ? name : "error", " (", text ? text : "unknown", ")"});
}

// ---- the compiler
namespace {
using Program = void*;
struct Nvrtc {
  Library library{"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"};
  Result (*version)(int*, int*);
  Result (*create)(Program*, const char*, const char*, int, const char* const*, const char* const*);
  Result (*compile)(Program, int, const char* const*);
  Result (*log_size)(Program, size_t*);
  Result (*log)(Program, char*);
  Result (*binary_size)(Program, size_t*);
  Result (*binary)(Program, char*);
  Result (*destroy)(Program*);
  Nvrtc() {
    Library& l = library;
    l.bind(version, "nvrtcVersion"), l.bind(create, "nvrtcCreateProgram");
    l.bind(compile, "nvrtcCompileProgram"), l.bind(log_size, "nvrtcGetProgramLogSize");
    l.bind(log, "nvrtcGetProgramLog"), l.bind(binary_size, "nvrtcGetCUBINSize");
    l.bind(binary, "nvrtcGetCUBIN"), l.bind(destroy, "nvrtcDestroyProgram");
  }
};
const Nvrtc& nvrtc() {
  static const Nvrtc n;
  if (!n.library.why().empty())
    fail(Code::Unimplemented,
         {"cuda: the run-time compiler NVRTC: ", n.library.why(),
          "; it comes with the CUDA toolkit, or set CUDA_HOME to where that is"});
  return n;
}
}  // namespace

std::string compiler_version() {
  int major = 0, minor = 0;
  nvrtc().version(&major, &minor);
  return concat({"NVRTC ", major, ".", minor});
}

std::string compile(const std::string& source, const std::string& architecture) {
  const Nvrtc& n = nvrtc();
  Program p = nullptr;
  if (const Result r = n.create(&p, source.c_str(), "kernel.cu", 0, nullptr, nullptr))
    fail(Code::Internal, {"cuda: NVRTC makes no program: error ", r});
  const std::string arch = "--gpu-architecture=" + architecture;
  const char* options[] = {arch.c_str(), "--std=c++20", "-DEVENFLOW_CUDA", "--fmad=true",
                           "-default-device"};
  const Result r = n.compile(p, std::size(options), options);
  std::string out;
  if (r) {
    size_t size = 0;
    n.log_size(p, &size);
    std::string log(size, '\0');
    n.log(p, log.data());
    n.destroy(&p);
    fail(Code::Internal, {"cuda: a kernel does not compile for ", architecture, ": ", log});
  }
  size_t size = 0;
  n.binary_size(p, &size);
  out.resize(size);
  n.binary(p, out.data());
  n.destroy(&p);
  return out;
}

}  // namespace evenflow::gpu::cuda
