// SPDX-License-Identifier: Apache-2.0
#include "evenflow/data/progress.h"

#include "evenflow/data/source.h"

namespace evenflow::data {

void PassProgress::add(int64_t rows) {
  done_ += rows;
  const auto now = Clock::now();
  if (!out_ || now - last_ < std::chrono::milliseconds(200)) return;
  last_ = now;
  show("");
}
void PassProgress::end() {
  if (out_) show("\n");
}
void PassProgress::show(const char* behind) {
  const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  std::fprintf(out_, "\r%s: %lld", what_.c_str(), static_cast<long long>(done_));
  if (rows_ >= 0 && rows_ < kInfinite) std::fprintf(out_, "/%lld", static_cast<long long>(rows_));
  std::fprintf(out_, " rows, %.1f s%s", seconds, behind);
  std::fflush(out_);
}

}  // namespace evenflow::data
