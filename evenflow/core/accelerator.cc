// SPDX-License-Identifier: Apache-2.0
#include "evenflow/core/accelerator.h"

#include <map>
#include <mutex>

namespace evenflow {

const AcceleratorKind*& AcceleratorKind::head() {
  static constinit const AcceleratorKind* h = nullptr;
  return h;
}
AcceleratorKind::AcceleratorKind(Device::Kind k, std::vector<DeviceInfo> (*l)(),
                                 std::unique_ptr<Accelerator> (*o)(int))
    : kind(k), list(l), open(o), next(head()) {
  head() = this;
}

Accelerator* accelerator(const Device& device) {
  if (device.kind == Device::Kind::cpu) return nullptr;
  static std::mutex mutex;
  // Never closed: buffers may live as long as the process, and drivers are gone before the end.
  static auto& open = *new std::map<std::pair<Device::Kind, int>, std::unique_ptr<Accelerator>>;
  std::lock_guard lock(mutex);
  auto& a = open[{device.kind, device.index}];
  if (!a) {
    for (auto* k = AcceleratorKind::head(); k && !a; k = k->next)
      if (k->kind == device.kind) a = k->open(device.index);
    if (!a) fail(Code::Unimplemented, {"device ", str(device), ": this build has no such plug-in"});
  }
  return a.get();
}

}  // namespace evenflow
