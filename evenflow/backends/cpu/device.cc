// SPDX-License-Identifier: Apache-2.0
#include "evenflow/core/device.h"

#include <atomic>
#include <charconv>
#include <cstdlib>
#include <fstream>
#ifdef __unix__
#include <unistd.h>
#endif

#include "evenflow/backends/cpu/features.h"
#include "evenflow/core/accelerator.h"
#include "evenflow/core/parallel.h"

namespace evenflow {
namespace {

constexpr std::string_view kKinds[] = {"cpu", "cuda", "sycl", "emulated"};

const AcceleratorKind* known(Device::Kind kind) {
  auto* k = AcceleratorKind::head();
  while (k && k->kind != kind) k = k->next;
  return k;
}

// What set_default_device() said; asked for by every call of a compiled function.
std::atomic<bool> is_chosen{false};
std::atomic<Device> chosen{Device()};

std::string brand() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name"))
      if (const size_t colon = line.find(": "); colon != line.npos) return line.substr(colon + 2);
  return "CPU";
}

std::string describe_cpu() {
  std::string s = brand() + ", ";
#ifdef _SC_NPROCESSORS_ONLN
  s += std::to_string(sysconf(_SC_NPROCESSORS_ONLN)) + " cores, ";
#endif
  s += cpu::isa_in_use() + ", " + std::to_string(thread_count()) + " threads";
#ifdef _SC_LEVEL2_CACHE_SIZE
  if (const long l2 = sysconf(_SC_LEVEL2_CACHE_SIZE); l2 > 0)
    s += ", L2 " + std::to_string(l2 >> 10) + " KiB";
#endif
  return s;
}

}  // namespace

Device::Device(std::string_view name) {
  if (name == "auto") {
    for (auto& d : devices())
      if (d.available && d.name != "cpu") {
        *this = Device(d.name);
        break;
      }
    return;
  }
  const size_t colon = name.find(':');
  const std::string_view word = name.substr(0, colon);
  int at = 0;
  while (at < int(std::size(kKinds)) && kKinds[at] != word) ++at;
  bool good = at < int(std::size(kKinds));
  if (good && colon != name.npos) {
    const char *begin = name.data() + colon + 1, *end = name.data() + name.size();
    const auto [stop, error] = std::from_chars(begin, end, index);
    good = begin != end && stop == end && error == std::errc{} && index >= 0;
  }
  if (!good)
    fail({"device is \"", name,
          "\", expected auto, cpu, cuda or sycl, or one with a number, as in cuda:0"});
  kind = Kind(at);
  accelerator(*this);
  if (kind == Kind::cpu && index > 0)
    fail(Code::Unimplemented, {"device ", name, ": there is one CPU, cpu:0"});
}

std::string str(const Device& device) {
  std::string s(kKinds[int(device.kind)]);
  return device.kind == Device::Kind::cpu ? s : s + ":" + std::to_string(device.index);
}

Device default_device() {
  if (is_chosen.load(std::memory_order_acquire)) return chosen.load(std::memory_order_relaxed);
  cpu::isa_limit();  // refuses what EVENFLOW_ISA names and is not there
  const char* name = std::getenv("EVENFLOW_DEVICE");
  return name && *name ? Device(name) : Device();
}

void set_default_device(const Device& device) {
  cpu::isa_limit();
  accelerator(device);
  chosen.store(device, std::memory_order_relaxed);
  is_chosen.store(true, std::memory_order_release);
}

std::vector<DeviceInfo> devices() {
  std::vector<DeviceInfo> all{{"cpu", describe_cpu(), true, ""}};
  for (auto kind : {Device::Kind::cuda, Device::Kind::sycl}) {
    if (auto* k = known(kind))
      for (auto& d : k->list()) all.push_back(d);
    else
      all.push_back({std::string(kKinds[int(kind)]), "", false, "this build has no such plug-in"});
  }
  return all;
}

}  // namespace evenflow
