// SPDX-License-Identifier: Apache-2.0
// Where values live and compiled functions run.
#pragma once
#include <string>
#include <vector>

#include "evenflow/core/error.h"

namespace evenflow {

struct Device {
  /// `emulated` runs kernels of GPUs on the host, for tests.
  enum class Kind { cpu, cuda, sycl, emulated };
  Kind kind = Kind::cpu;
  int index = 0;
  Device() = default;
  /// Without asking whether it is there.
  Device(Kind k, int i) : kind(k), index(i) {}
  /// "cpu", "cuda:0", "sycl", or "auto": the first GPU, else the CPU. Throws InvalidArgument for
  /// another word, Unimplemented (with the reason) for a device that is not there.
  Device(std::string_view name);  // NOLINT: implicit on purpose
  bool operator==(const Device&) const = default;
};
std::string str(const Device& device);
/// Where compiled functions run that ask for no other: what set_default_device() said, else
/// EVENFLOW_DEVICE, else the CPU.
Device default_device();
void set_default_device(const Device& device);

/// What `evenflow devices` shows.
struct DeviceInfo {
  std::string name, description;
  bool available;
  std::string reason;  ///< why not, when it is not available
};
std::vector<DeviceInfo> devices();

}  // namespace evenflow
