// SPDX-License-Identifier: Apache-2.0
// Memory of one value. Immutable once published, unless its only owner writes over it.
#pragma once
#include <atomic>
#include <memory>

#include "evenflow/core/error.h"

namespace evenflow {

class Accelerator;
class Buffer;
using BufferPtr = std::shared_ptr<Buffer>;

class Buffer {
 public:
  static constexpr int64_t kAlignment = 64;
  /// Uninitialised memory; throws ResourceExhausted when there is none.
  explicit Buffer(int64_t bytes);
  /// Uninitialised memory of an accelerator, which the host cannot reach; throws ResourceExhausted
  /// when there is none.
  Buffer(int64_t bytes, Accelerator& on);
  /// Memory that belongs to `owner`: read, never written (DLPack, NumPy, a mapped file).
  Buffer(const void* data, int64_t bytes, std::shared_ptr<const void> owner);
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  int64_t bytes() const { return bytes_; }
  void* data() { return data_; }
  const void* data() const { return data_; }
  bool imported() const { return imported_; }
  /// Where it lies; null: on the host.
  Accelerator* accelerator() const { return accelerator_; }

  /// Bytes alive, buffers ever made, and the most bytes ever alive, in this process.
  struct Counters {
    std::atomic<int64_t> live{0}, made{0}, peak{0};
  };
  static Counters& counters();

 private:
  int64_t bytes_;
  void* data_;
  bool imported_ = false;
  Accelerator* accelerator_ = nullptr;
  // The same value elsewhere, kept until this memory is written again.
  std::atomic<BufferPtr> mirror_;
  friend BufferPtr placed(const BufferPtr&, Accelerator*);
  friend void written(Buffer&);
  std::shared_ptr<const void> owner_;
  alignas(kAlignment) char small_[64];  // most scalars never see the allocator
};
/// On the host, or on an accelerator.
BufferPtr make_buffer(int64_t bytes, Accelerator* on = nullptr);
/// The same value in memory of `on` (null: of the host): b itself, or a copy, which b keeps so that
/// it is made once. Waits for what is still to be computed when it copies to the host.
BufferPtr placed(const BufferPtr& b, Accelerator* on);
/// Before memory gets a new value: copies of the old one are let go.
void written(Buffer& b);
/// A new buffer with the first `bytes` bytes of b.
BufferPtr copy_of(const Buffer& b, int64_t bytes);

}  // namespace evenflow
