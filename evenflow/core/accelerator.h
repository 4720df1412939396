// SPDX-License-Identifier: Apache-2.0
// A machine beside the host, with memory of its own and one queue of work: what is asked of it runs
// in the order of asking, later. backends/ implements it; nothing here knows a vendor.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "evenflow/core/device.h"

namespace evenflow {

class Accelerator {
 public:
  explicit Accelerator(Device device) : device_(device) {}
  virtual ~Accelerator() = default;
  Accelerator(const Accelerator&) = delete;
  const Device& device() const { return device_; }
  /// "NVIDIA H200, 140 GiB, compute capability 9.0".
  virtual std::string description() const = 0;

  /// Memory, aligned to 256 bytes. Throws ResourceExhausted, after which the device still works.
  virtual void* allocate(int64_t bytes) = 0;
  /// Gives memory back; what was asked for earlier may still use it.
  virtual void release(void* memory) noexcept = 0;
  /// Host memory to the device; `from` may be changed when this returns.
  virtual void upload(void* to, const void* from, int64_t bytes) = 0;
  /// Device memory to the host, when all earlier work is done. Throws what went wrong in it.
  virtual void download(void* to, const void* from, int64_t bytes) = 0;
  virtual void copy(void* to, const void* from, int64_t bytes) = 0;
  /// Waits for all that was asked for; throws Internal for what went wrong in it.
  virtual void synchronize() = 0;

  /// Work that is asked for once and done many times: what `work` asks for is kept, not done. Null:
  /// this device keeps nothing.
  class Recording {
   public:
    virtual ~Recording() = default;
  };
  using RecordingPtr = std::shared_ptr<const Recording>;
  virtual RecordingPtr record(const std::function<void()>& work) { return (void)work, nullptr; }
  virtual void replay(const Recording&) {}

  /// Bytes in use and the most ever in use, of what was allocated here.
  struct Memory {
    int64_t live = 0, peak = 0, reserved = 0;
  };
  virtual Memory memory() const = 0;

 private:
  Device device_;
};

/// A kind of accelerator that this build knows. Those of one kind are found when they are asked for
/// first.
struct AcceleratorKind {
  Device::Kind kind;
  /// Those that are there; if there are none, one entry with the reason.
  std::vector<DeviceInfo> (*list)();
  /// Opens one; throws Unimplemented with what was sought and is not there.
  std::unique_ptr<Accelerator> (*open)(int index);
  const AcceleratorKind* next;
  AcceleratorKind(Device::Kind kind, std::vector<DeviceInfo> (*list)(),
                  std::unique_ptr<Accelerator> (*open)(int index));
  static const AcceleratorKind*& head();
};

/// The machine behind a device, opened once; null for the CPU. Throws Unimplemented with the reason
/// when it is not there.
Accelerator* accelerator(const Device& device);

}  // namespace evenflow
