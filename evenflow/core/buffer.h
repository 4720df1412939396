// SPDX-License-Identifier: Apache-2.0
// Memory of one value. Immutable once published, unless its only owner writes over it.
#pragma once
#include <atomic>
#include <memory>

#include "evenflow/core/error.h"

namespace evenflow {

class Buffer {
 public:
  static constexpr int64_t kAlignment = 64;
  /// Uninitialised memory; throws ResourceExhausted when there is none.
  explicit Buffer(int64_t bytes);
  /// Memory that belongs to `owner`: read, never written (DLPack, NumPy, a mapped file).
  Buffer(const void* data, int64_t bytes, std::shared_ptr<const void> owner);
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  int64_t bytes() const { return bytes_; }
  void* data() { return data_; }
  const void* data() const { return data_; }
  bool imported() const { return imported_; }

  /// Bytes alive, buffers ever made, and the most bytes ever alive, in this process.
  struct Counters {
    std::atomic<int64_t> live{0}, made{0}, peak{0};
  };
  static Counters& counters();

 private:
  int64_t bytes_;
  void* data_;
  bool imported_ = false;
  std::shared_ptr<const void> owner_;
  alignas(kAlignment) char small_[64];  // most scalars never see the allocator
};
using BufferPtr = std::shared_ptr<Buffer>;
BufferPtr make_buffer(int64_t bytes);
/// A new buffer with the first `bytes` bytes of b.
BufferPtr copy_of(const Buffer& b, int64_t bytes);

}  // namespace evenflow
