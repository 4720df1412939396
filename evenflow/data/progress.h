// SPDX-License-Identifier: Apache-2.0
// A live line of a pass over data that takes long: what it is for, rows, seconds.
#pragma once
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace evenflow::data {

/// Written over itself a few times a second: "caching: 1200/5000 rows, 0.3 s".
class PassProgress {
 public:
  /// out: null for none. rows: of the whole pass, kUnknown or kInfinite.
  PassProgress(std::FILE* out, std::string what, int64_t rows)
      : out_(out), what_(std::move(what)), rows_(rows) {}
  void add(int64_t rows);
  void end();

 private:
  using Clock = std::chrono::steady_clock;
  void show(const char* behind);

  std::FILE* out_;
  const std::string what_;
  const int64_t rows_;
  int64_t done_ = 0;
  const Clock::time_point start_ = Clock::now();
  Clock::time_point last_ = start_;
};

}  // namespace evenflow::data
