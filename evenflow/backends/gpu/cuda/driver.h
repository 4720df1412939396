// SPDX-License-Identifier: Apache-2.0
// The part of the CUDA driver's interface that is used here, declared so that it can be loaded
// while the program runs: one build serves machines with and without a GPU.
#pragma once
#include <cstddef>
#include <string>

namespace evenflow::gpu::cuda {

using Result = int;  // CUresult
using DevicePtr = unsigned long long;
using Handle = void*;  // of a context, stream, module, function, event, graph

/// A library opened by name or from one of the usual folders.
class Library {
 public:
  Library() = default;
  /// The first of `names` that opens. `why` tells what was tried.
  explicit Library(std::initializer_list<const char*> names);
  explicit operator bool() const { return handle_; }
  const std::string& why() const { return why_; }
  /// Null when it has no such symbol.
  void* find(const char* symbol) const;
  template <class F>
  void bind(F& f, const char* symbol) {
    f = reinterpret_cast<F>(find(symbol));
    if (handle_ && !f && why_.empty()) why_ = std::string(name_) + " has no " + symbol;
  }

 private:
  void* handle_ = nullptr;
  const char* name_ = "";
  std::string why_;
};

struct Driver {
  Library library;
  Result (*init)(unsigned);
  Result (*driver_version)(int*);
  Result (*device_count)(int*);
  Result (*device_get)(int*, int);
  Result (*device_name)(char*, int, int);
  Result (*total_memory)(size_t*, int);
  Result (*attribute)(int*, int, int);
  Result (*retain_context)(Handle*, int);
  Result (*set_context)(Handle);
  Result (*memory_info)(size_t*, size_t*);
  Result (*allocate)(DevicePtr*, size_t);
  Result (*free)(DevicePtr);
  Result (*to_device)(DevicePtr, const void*, size_t, Handle);
  Result (*to_host)(void*, DevicePtr, size_t, Handle);
  Result (*copy)(DevicePtr, DevicePtr, size_t, Handle);
  Result (*fill)(DevicePtr, unsigned char, size_t, Handle);
  Result (*create_stream)(Handle*, unsigned);
  Result (*wait_stream)(Handle);
  Result (*load_module)(Handle*, const void*);
  Result (*get_function)(Handle*, Handle, const char*);
  Result (*set_function_attribute)(Handle, int, int);
  Result (*launch)(Handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                   Handle, void**, void**);
  Result (*begin_capture)(Handle, int);
  Result (*end_capture)(Handle, Handle*);
  Result (*instantiate)(Handle*, Handle, unsigned long long);
  Result (*launch_graph)(Handle, Handle);
  Result (*destroy_graph)(Handle);
  Result (*destroy_executable)(Handle);
  Result (*resident)(int*, Handle, int, size_t);
  Result (*error_name)(Result, const char**);
  Result (*error_text)(Result, const char**);
  /// Why there is no driver, or none that can be used; empty: there is one.
  std::string why;
};
/// Loaded and initialised once.
const Driver& driver();
/// Throws ResourceExhausted for too little memory, else Internal, with what was tried.
void check(Result result, const char* what);

/// Compiles a source for an architecture ("sm_90") by NVRTC: machine code. Throws Internal with the
/// compiler's log, Unimplemented when there is no NVRTC.
std::string compile(const std::string& source, const std::string& architecture);
/// "NVRTC 13.0", for the key of what is kept; throws like compile().
std::string compiler_version();

}  // namespace evenflow::gpu::cuda
