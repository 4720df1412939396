// SPDX-License-Identifier: Apache-2.0
// Ranks that are threads of this process.
#pragma once
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <vector>

#include "evenflow/core/communicator.h"

namespace evenflow {

class RankThreads {
 public:
  explicit RankThreads(int ranks) : parts_(size_t(ranks)) {}
  /// f(rank) on a thread for each rank, whose Communicator this group is. When one throws, what the
  /// others gather fails (FailedPrecondition); the first exception is thrown here when all have
  /// ended. Afterwards the group can run again.
  void run(const std::function<void(int rank)>& f);
  /// From within a rank: makes what the others gather fail.
  void abort();

 private:
  class Rank;
  void meet();
  std::mutex mutex_;
  std::condition_variable moved_;
  std::vector<const void*> parts_;  // what each rank gives
  int here_ = 0, round_ = 0;
  bool aborted_ = false;
};

}  // namespace evenflow
