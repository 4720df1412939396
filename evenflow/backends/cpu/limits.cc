// SPDX-License-Identifier: Apache-2.0
#include "evenflow/backends/cpu/limits.h"

#include <algorithm>
#include <array>
#include <barrier>
#include <chrono>
#include <cmath>
#include <cstring>
#include <thread>
#include <vector>

#include "evenflow/core/buffer.h"
#include "evenflow/core/parallel.h"

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "evenflow/backends/cpu/limits.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace evenflow::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Ten chains of multiply-adds, more than two units with a latency of four need. Returns the FLOPs;
// what they give goes to `result`, so that they are not left out.
double multiply_adds(int64_t rounds, float* result) {
  const hn::ScalableTag<float> d;
  const auto x = hn::Set(d, 0.5f), y = hn::Set(d, 1.0f);
  // Each from a number of its own, or the compiler would make them one.
  auto a = hn::Set(d, 1.f), b = hn::Set(d, 2.f), c = hn::Set(d, 3.f), e = hn::Set(d, 4.f),
       f = hn::Set(d, 5.f), g = hn::Set(d, 6.f), h = hn::Set(d, 7.f), i = hn::Set(d, 8.f),
       j = hn::Set(d, 9.f), k = hn::Set(d, 10.f);
  for (int64_t r = 0; r < rounds; ++r) {
    a = hn::MulAdd(a, x, y), b = hn::MulAdd(b, x, y), c = hn::MulAdd(c, x, y);
    e = hn::MulAdd(e, x, y), f = hn::MulAdd(f, x, y), g = hn::MulAdd(g, x, y);
    h = hn::MulAdd(h, x, y), i = hn::MulAdd(i, x, y), j = hn::MulAdd(j, x, y);
    k = hn::MulAdd(k, x, y);
  }
  a = hn::Add(hn::Add(hn::Add(a, b), hn::Add(c, e)), hn::Add(hn::Add(f, g), hn::Add(h, i)));
  *result = hn::GetLane(hn::Add(a, hn::Add(j, k)));
  return 20. * double(hn::Lanes(d)) * double(rounds);
}

}  // namespace evenflow::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace evenflow::cpu {
HWY_EXPORT(multiply_adds);
namespace {

// What work(t) does in a second on all threads at once: the sum of the threads' own rates, in the
// best of some rounds. Threads of our own: those of parallel_for help each other, and a thread that
// is slow to wake up would be taken for a slow machine.
template <class F>
double rate(int threads, double amount, const F& work) {
  constexpr int kRounds = 4;
  using Clock = std::chrono::steady_clock;
  std::vector<std::array<double, kRounds>> rates(static_cast<size_t>(threads));
  std::barrier start(threads);
  auto body = [&](int t) {
    for (double& r : rates[size_t(t)]) {
      start.arrive_and_wait();
      const auto begin = Clock::now();
      work(t);
      r = amount / std::chrono::duration<double>(Clock::now() - begin).count();
    }
  };
  {
    std::vector<std::jthread> others;
    for (int t = 1; t < threads; ++t) others.emplace_back(body, t);
    body(0);
  }
  double best = 0;
  for (size_t round = 0; round < kRounds; ++round) {
    double sum = 0;
    for (auto& r : rates) sum += r[round];
    best = std::max(best, sum);
  }
  return best;
}
constexpr int kLeast = 12, kMost = 26;  // powers of two of bytes
constexpr int64_t kAtOnce = int64_t(1) << 28;
constexpr int64_t kMoved = int64_t(1) << 24, kTurns = 1 << 20;  // some milliseconds
}  // namespace

Limits::Limits() : threads(thread_count()) {
  std::vector<float> results(static_cast<size_t>(threads));
  flops_per_s =
      rate(threads, HWY_DYNAMIC_DISPATCH(multiply_adds)(1, results.data()) * kTurns, [&](int t) {
        HWY_DYNAMIC_DISPATCH(multiply_adds)(kTurns, &results[size_t(t)]);
      });
  int most = kMost;
  while (most > kLeast && (int64_t(threads) << most) > kAtOnce) --most;
  const BufferPtr memory = make_buffer(int64_t(threads) << most);
  std::memset(memory->data(), 1, size_t(memory->bytes()));
  for (int power = kLeast; power <= most; ++power) {
    const int64_t half = int64_t(1) << (power - 1), times = std::max<int64_t>(1, kMoved >> power);
    copies_[power] = rate(threads, double(2 * half * times), [&](int t) {
      char* at = static_cast<char*>(memory->data()) + (int64_t(t) << most);
      for (int64_t k = 0; k < times; ++k) std::memcpy(at + half, at, size_t(half));
    });
  }
}

double Limits::copy_bytes_per_s(double bytes) const {
  const double power = std::round(std::log2(std::max(bytes, 1.)));
  return copies_.at(
      int(std::clamp(power, double(copies_.begin()->first), double(copies_.rbegin()->first))));
}

}  // namespace evenflow::cpu
#endif
