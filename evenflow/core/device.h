// SPDX-License-Identifier: Apache-2.0
// Where values live and kernels run. This build knows the CPU; other kinds are named, and refused
// with the reason.
#pragma once
#include <string>
#include <vector>

#include "evenflow/core/error.h"

namespace evenflow {

struct Device {
  enum class Kind { cpu, cuda, sycl };
  Kind kind = Kind::cpu;
  int index = 0;
  Device() = default;
  /// "cpu", "cuda:0", "sycl"; throws InvalidArgument for another word, Unimplemented (with the
  /// reason) for a device that is not there.
  Device(std::string_view name);  // NOLINT: implicit on purpose
  bool operator==(const Device&) const = default;
};
std::string str(const Device& device);
/// EVENFLOW_DEVICE, else the CPU.
Device default_device();

/// What `evenflow devices` shows.
struct DeviceInfo {
  std::string name, description;
  bool available;
  std::string reason;  ///< why not, when it is not available
};
std::vector<DeviceInfo> devices();

}  // namespace evenflow
