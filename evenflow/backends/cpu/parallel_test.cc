// SPDX-License-Identifier: Apache-2.0
#include "evenflow/core/parallel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <mutex>
#include <thread>
#include <vector>

#include "evenflow/core/error.h"

namespace evenflow {
namespace {

// Whatever a test sets, the next one begins with the default.
class Parallel : public testing::Test {
 protected:
  void TearDown() override { set_thread_count(threads_); }
  const int threads_ = thread_count();
};

using Chunk = std::pair<int64_t, int64_t>;
std::vector<Chunk> chunks_of(int64_t n, int64_t grain) {
  std::vector<Chunk> seen;
  std::mutex mutex;
  parallel_for(n, grain, [&](int64_t b, int64_t e) {
    std::lock_guard lock(mutex);
    seen.push_back({b, e});
  });
  std::sort(seen.begin(), seen.end());
  return seen;
}

TEST_F(Parallel, ChunksDoNotDependOnThreads) {
  for (int64_t n : {1, 2, 7, 64, 1000, 1001})
    for (int64_t grain : {1, 3, 64, 5000}) {
      std::vector<Chunk> expected;
      for (int64_t b = 0; b < n; b += grain) expected.push_back({b, std::min(n, b + grain)});
      for (int threads : {1, 2, 3, 8, 100}) {
        set_thread_count(threads);
        ASSERT_EQ(chunks_of(n, grain), expected) << n << " " << grain << " " << threads;
      }
    }
}

TEST_F(Parallel, EmptyAndOddArguments) {
  EXPECT_TRUE(chunks_of(0, 8).empty());
  EXPECT_TRUE(chunks_of(-5, 8).empty());
  EXPECT_EQ(chunks_of(2, 0), (std::vector<Chunk>{{0, 1}, {1, 2}}));
  EXPECT_EQ(chunks_of(2, -3), (std::vector<Chunk>{{0, 1}, {1, 2}}));
  EXPECT_EQ(chunks_of(5, INT64_MAX), (std::vector<Chunk>{{0, 5}}));
}

TEST_F(Parallel, ThreadCountIsChecked) {
  EXPECT_THROW(set_thread_count(0), Error);
  EXPECT_THROW(set_thread_count(-1), Error);
  EXPECT_THROW(set_thread_count(1 << 20), Error);
  set_thread_count(3);
  EXPECT_EQ(thread_count(), 3);
}

TEST_F(Parallel, OneChunkRunsOnTheCaller) {
  set_thread_count(4);
  std::thread::id where;
  parallel_for(10, 10, [&](int64_t, int64_t) { where = std::this_thread::get_id(); });
  EXPECT_EQ(where, std::this_thread::get_id());
  set_thread_count(1);
  parallel_for(10, 1, [&](int64_t, int64_t) { EXPECT_EQ(std::this_thread::get_id(), where); });
}

TEST_F(Parallel, NestedIsSerial) {
  set_thread_count(4);
  std::atomic<int> total{0};
  parallel_for(8, 1, [&](int64_t, int64_t) {
    const auto outer = std::this_thread::get_id();
    parallel_for(8, 1, [&](int64_t, int64_t) {
      EXPECT_EQ(std::this_thread::get_id(), outer);
      ++total;
    });
    on_executor([&] { ++total; });  // must not wait for the executor, which waits for this chunk
  });
  EXPECT_EQ(total, 8 * 9);
}

TEST_F(Parallel, ExceptionOfTheFirstChunk) {
  for (int threads : {1, 2, 8}) {
    set_thread_count(threads);
    for (int round = 0; round < 50; ++round) {
      try {
        parallel_for(100, 1, [](int64_t b, int64_t) {
          if (b % 7 == 3) fail({"chunk ", b});
        });
        FAIL() << "nothing thrown";
      } catch (const Error& e) {
        EXPECT_STREQ(e.what(), "chunk 3");
      }
    }
    EXPECT_EQ(chunks_of(10, 1).size(), 10u);  // and the pool is as good as new
  }
}

TEST_F(Parallel, OnExecutor) {
  for (int threads : {1, 2}) {
    set_thread_count(threads);
    EXPECT_THROW(on_executor([] { fail({"inside"}); }), Error);
    int depth = 0;
    on_executor([&] {
      const auto executor = std::this_thread::get_id();
      on_executor([&] { depth = executor == std::this_thread::get_id() ? 2 : -1; });
      int64_t sum = 0;
      parallel_for(10, 10, [&](int64_t b, int64_t e) { sum += e - b; });
      std::atomic<int64_t> parts{0};
      parallel_for(100, 1, [&](int64_t b, int64_t) { parts += b; });
      EXPECT_EQ(sum, 10);
      EXPECT_EQ(parts, 4950);
    });
    EXPECT_EQ(depth, 2);
  }
}

TEST_F(Parallel, ManyCallersMakeFewThreads) {
  set_thread_count(2);
  auto tasks = [] {
#ifdef __linux__
    namespace fs = std::filesystem;
    return int(std::distance(fs::directory_iterator("/proc/self/task"), fs::directory_iterator{}));
#else
    return 1;
#endif
  };
  constexpr int kCallers = 8, kExecutors = 1;
  // Sanitizers keep threads of their own, and earlier tests may have left a team: count what eight
  // callers add to one.
  const auto once = [] {
    std::atomic<int64_t> sum{0};
    parallel_for(64, 1, [&](int64_t b, int64_t) { sum += b; });
    on_executor([&] { parallel_for(64, 1, [&](int64_t b, int64_t) { sum += b; }); });
    return sum.load();
  };
  const int before = tasks();
  std::vector<std::thread> callers;
  std::atomic<int> wrong{0}, most{0};
  for (int c = 0; c < kCallers; ++c)
    callers.emplace_back([&, c] {
      for (int i = 0; i < 200; ++i) {
        if (once() != 2 * 64 * 63 / 2) ++wrong;
        if (c == 0) most = std::max(most.load(), tasks());
      }
    });
  for (auto& t : callers) t.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_LE(most, before + kCallers + kExecutors * 2);
}

}  // namespace
}  // namespace evenflow
