// SPDX-License-Identifier: Apache-2.0
// What collectives need of a group of ranks. dist/ implements it over MPI and NCCL; threads of one
// process can be ranks too.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace evenflow {

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// Gathers `bytes` bytes of every rank, in rank order, into out [size * bytes]. Throws when a
  /// rank has failed.
  virtual void all_gather(const void* in, void* out, int64_t bytes) = 0;

  /// The group of this thread, or null. Merges at pool() go through it.
  static Communicator*& current() {
    static thread_local Communicator* c = nullptr;
    return c;
  }
};

}  // namespace evenflow
