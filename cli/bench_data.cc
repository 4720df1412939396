// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_data.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>

#include "evenflow/data/files.h"
#include "evenflow/format/file.h"

namespace evenflow::cli {
namespace {
using Clock = std::chrono::steady_clock;

double sum_of(const Tensors& batch) {
  double sum = 0;
  for (auto& t : batch) {
    const int64_t n = t.size();
    if (t.dtype() == DType::f32)
      for (int64_t i = 0; i < n; ++i) sum += t.data_as<float>()[i];
    else if (t.dtype() == DType::i64)
      for (int64_t i = 0; i < n; ++i) sum += double(t.data_as<int64_t>()[i]);
  }
  return sum;
}

const std::map<std::string, std::function<Dataset(const std::string&)>>& pipelines() {
  static const std::map<std::string, std::function<Dataset(const std::string&)>> all{
      {"jpeg",
       [](const std::string& folder) {
         return data::images({folder + "/jpeg/*.jpg"}, {.height = 224, .width = 224}).batch(32);
       }},
      {"tfrecord",
       [](const std::string& folder) {
         return data::tfrecord({folder + "/examples.tfrecord"},
                               {{.name = "x", .dims = {64}}, {.name = "y", .dtype = DType::i64}})
             .batch(256);
       }},
      {"csv",
       [](const std::string& folder) {
         return data::csv({folder + "/table.csv"}, {.label = "c20"}).batch(256);
       }},
      {"memory",
       [](const std::string& folder) {
         static const Dataset rows = data::npy(folder + "/memory.npy");
         return rows.shuffle(1).batch(256);
       }},
      {"numbers",
       [](const std::string&) {
         return data::range(1'000'000)
             .map([](int64_t i) { return i * 3; })
             .filter([](int64_t i) { return i % 2 == 0; })
             .map([](int64_t i) { return i + 1; })
             .batch(256);
       }},
  };
  return all;
}
}  // namespace

nlohmann::json measured_pipeline(const std::string& work, const std::string& folder,
                                 int64_t passes) {
  const auto at = pipelines().find(work);
  if (at == pipelines().end()) {
    std::string names;
    for (auto& [name, make] : pipelines()) names += (names.empty() ? "" : ", ") + name;
    fail({"bench: the pipeline is ", work, ", expected one of ", names});
  }
  if (work == "memory") at->second(folder);  // its file is no part of it
  if (!passes) {
    Iterator(at->second(folder)).next();
    return {{"bench", "data"}, {"work", work}};
  }
  std::vector<double> rates, first;
  double sum = 0;
  for (int64_t pass = 0; pass < passes; ++pass) {
    const auto start = Clock::now();
    auto since = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
    Iterator it(at->second(folder), {.epoch = pass});
    int64_t rows = 0;
    std::vector<Tensors> firsts;
    for (Tensors batch; !(batch = it.next()).empty();) {
      if (!rows) first.push_back(since());
      rows += batch[0].sig().shape[0];
      if (pass == 0) sum += sum_of(batch);
    }
    if (pass > 0 || passes == 1) rates.push_back(double(rows) / since());
  }
  std::sort(rates.begin(), rates.end());
  std::sort(first.begin(), first.end());
  return {{"bench", "data"},
          {"work", work},
          {"rows_per_second", rates[rates.size() / 2]},
          {"first_batch_ms", first[first.size() / 2] * 1e3},
          {"first_batch_cold_ms", first.back() * 1e3},
          {"sum", sum}};
}

}  // namespace evenflow::cli
