// SPDX-License-Identifier: Apache-2.0
#include "evenflow/core/rank_threads.h"

#include <cstring>
#include <thread>

#include "evenflow/core/error.h"

namespace evenflow {

class RankThreads::Rank : public Communicator {
 public:
  Rank(RankThreads& group, int rank) : group_(group), rank_(rank) { current() = this; }
  ~Rank() override { current() = nullptr; }
  int rank() const override { return rank_; }
  int size() const override { return int(group_.parts_.size()); }
  void all_gather(const void* in, void* out, int64_t bytes) override {
    group_.parts_[size_t(rank_)] = in;
    group_.meet();
    if (bytes)
      for (size_t r = 0; r < group_.parts_.size(); ++r)
        std::memcpy(static_cast<char*>(out) + int64_t(r) * bytes, group_.parts_[r], size_t(bytes));
    group_.meet();
  }

 private:
  RankThreads& group_;
  int rank_;
};

void RankThreads::run(const std::function<void(int)>& f) {
  std::exception_ptr error;
  std::vector<std::thread> all;
  here_ = 0, aborted_ = false;
  for (int r = 0; r < int(parts_.size()); ++r)
    all.emplace_back([&, r] {
      Rank mine(*this, r);
      try {
        f(r);
      } catch (...) {
        {
          std::lock_guard l(mutex_);
          if (!error) error = std::current_exception();
        }
        abort();
      }
    });
  for (auto& t : all) t.join();
  if (error) std::rethrow_exception(error);
}
void RankThreads::abort() {
  std::lock_guard l(mutex_);
  aborted_ = true;
  moved_.notify_all();
}
void RankThreads::meet() {
  std::unique_lock l(mutex_);
  const int round = round_;
  if (!aborted_ && ++here_ == int(parts_.size())) {
    here_ = 0, ++round_;
    moved_.notify_all();
  } else {
    moved_.wait(l, [&] { return round_ != round || aborted_; });
  }
  if (aborted_) fail(Code::FailedPrecondition, {"another rank has failed"});
}

}  // namespace evenflow
