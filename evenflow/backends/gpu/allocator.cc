// SPDX-License-Identifier: Apache-2.0
#include "evenflow/backends/gpu/allocator.h"

#include <algorithm>

namespace evenflow::gpu {
namespace {
// Small blocks by 512 bytes, large ones by 2 MiB: then they fit each other's users.
int64_t rounded(int64_t bytes) {
  const int64_t by = bytes < (1 << 20) ? 512 : 2 << 20;
  if (bytes > INT64_MAX - by)
    fail(Code::ResourceExhausted, {"device memory: ", bytes, " bytes are not to be had"});
  return std::max<int64_t>((bytes + by - 1) / by * by, by);
}
}  // namespace

void* CachingAllocator::allocate(int64_t bytes) {
  const int64_t size = rounded(bytes);
  std::lock_guard lock(mutex_);
  void* p = nullptr;
  // A block up to an eighth too large is taken before another is made.
  if (auto it = kept_.lower_bound(size); it != kept_.end() && it->first - size <= size / 8) {
    p = it->second;
    kept_.erase(it);
  } else {
    p = get_(size);
    if (!p) {
      free_kept();
      p = get_(size);
    }
    if (!p)
      fail(Code::ResourceExhausted,
           {"device memory: ", bytes, " bytes are not to be had, ", memory_.live, " are in use"});
    size_[p] = size;
    memory_.reserved += size;
  }
  memory_.live += size_[p];
  memory_.peak = std::max(memory_.peak, memory_.live);
  return p;
}

void CachingAllocator::release(void* p) noexcept {
  std::lock_guard lock(mutex_);
  memory_.live -= size_[p];
  kept_.emplace(size_[p], p);
}

void CachingAllocator::free_kept() {
  for (auto& [size, p] : kept_) {
    free_(p);
    size_.erase(p);
    memory_.reserved -= size;
  }
  kept_.clear();
}

Accelerator::Memory CachingAllocator::memory() const {
  std::lock_guard lock(mutex_);
  return memory_;
}

}  // namespace evenflow::gpu
