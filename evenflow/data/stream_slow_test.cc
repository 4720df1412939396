// SPDX-License-Identifier: Apache-2.0
// Ten gigabytes of records pass through a process of 200 MB.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "evenflow/data/files.h"
#include "evenflow/format/example.h"
#include "evenflow/format/tfrecord.h"

namespace evenflow::data {
namespace {

double peak_mb() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind("VmHWM:", 0) == 0) return std::stod(line.substr(6)) / 1024;
  return 0;
}

TEST(Stream, TenGigabytesInTwoHundredMegabytes) {
  constexpr int64_t kValues = 16384, kRecords = 10'000'000'000 / (kValues * 4) + 1;
  const std::string path =
      (std::filesystem::temp_directory_path() / "evenflow_ten_gigabytes.tfrecord").string();
  if (std::filesystem::space(std::filesystem::temp_directory_path()).available < 12'000'000'000)
    GTEST_SKIP() << "needs 12 GB in " << path;
  format::write_tfrecord(path, [&](format::TfRecordWriter& w) {
    std::vector<float> x(kValues);
    for (int64_t i = 0; i < kRecords; ++i) {
      x[size_t(i % kValues)] = float(i);
      format::ExampleWriter e;
      e.floats("x", x).integers("y", std::span(&i, 1));
      w.write(e.finish());
    }
  });
  EXPECT_GT(std::filesystem::file_size(path), 10'000'000'000);
  const Dataset d =
      tfrecord({path}, {{.name = "x", .dims = {kValues}}, {.name = "y", .dtype = DType::i64}})
          .shuffle_window(512)
          .map([](std::span<const float> x, int64_t y) {
            return std::pair(std::array{x[0], x[1]}, y);
          })
          .batch(64);
  int64_t rows = 0, sum = 0;
  for (const Tensors& batch : d)
    for (int64_t y : batch[1].to_vector<int64_t>()) ++rows, sum += y;
  std::filesystem::remove(path);
  EXPECT_EQ(rows, kRecords);
  EXPECT_EQ(sum, kRecords * (kRecords - 1) / 2);
  EXPECT_LE(peak_mb(), 200);
}

}  // namespace
}  // namespace evenflow::data
