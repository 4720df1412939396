// SPDX-License-Identifier: Apache-2.0
// Memory of a device, kept when it is given back. There is one queue, so what is given back may be
// given out again at once: its next user runs behind its last.
#pragma once
#include <functional>
#include <map>
#include <mutex>
#include <unordered_map>

#include "evenflow/core/accelerator.h"

namespace evenflow::gpu {

class CachingAllocator {
 public:
  /// `get` gives null when there is no memory; `free` waits for the queue first.
  CachingAllocator(std::function<void*(int64_t)> get, std::function<void(void*)> free)
      : get_(std::move(get)), free_(std::move(free)) {}
  /// Throws ResourceExhausted when also after freeing what is kept there is not enough.
  void* allocate(int64_t bytes);
  void release(void* p) noexcept;
  Accelerator::Memory memory() const;

 private:
  void free_kept();
  std::function<void*(int64_t)> get_;
  std::function<void(void*)> free_;
  mutable std::mutex mutex_;
  std::multimap<int64_t, void*> kept_;
  std::unordered_map<void*, int64_t> size_;
  Accelerator::Memory memory_;
};

}  // namespace evenflow::gpu
