// SPDX-License-Identifier: Apache-2.0
// Pieces of scratch memory for the chunks of a parallel_for that need some only while they run.
#pragma once
#include <atomic>
#include <bit>
#include <cstdint>
#include <thread>

namespace evenflow::cpu {

/// A chunk takes the lowest free piece, so that few threads touch few pieces, again and again.
class Slots {
 public:
  static constexpr int64_t kMost = 64;
  /// 1..kMost. With fewer pieces than chunks at work, chunks wait for one another.
  explicit Slots(int64_t count)
      : free_(count == kMost ? ~uint64_t(0) : (uint64_t(1) << count) - 1) {}

  class Slot {
   public:
    explicit Slot(Slots& all) : all_(all) {
      uint64_t free = all.free_.load(std::memory_order_relaxed);
      do {
        for (; !free; free = all.free_.load(std::memory_order_relaxed)) std::this_thread::yield();
      } while (!all.free_.compare_exchange_weak(free, free & (free - 1), std::memory_order_acquire,
                                                std::memory_order_relaxed));
      index_ = std::countr_zero(free);
    }
    ~Slot() { all_.free_.fetch_or(uint64_t(1) << index_, std::memory_order_release); }
    Slot(const Slot&) = delete;
    int index() const { return index_; }

   private:
    Slots& all_;
    int index_;
  };

 private:
  std::atomic<uint64_t> free_;
};

}  // namespace evenflow::cpu
