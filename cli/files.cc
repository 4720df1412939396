// SPDX-License-Identifier: Apache-2.0
// What several commands do with files, options and tables.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <span>

#include "cli/commands.h"
#include "evenflow/format/json.h"
#include "evenflow/format/npy.h"

namespace evenflow::cli {

Tensor read_tensor(const std::string& path) {
  Array a = format::read_npy(path);
  return tensor(a.sig, a.data);
}
Tensor read_input(const std::string& path) {
  Tensor x = read_tensor(path);
  if (!x.rank()) fail({path, ": the array is ", str(x.sig()), ", expected a batch"});
  return cast(x, DType::f32);
}
Tensor read_targets(const std::string& path) {
  Tensor y = read_tensor(path);
  if (!y.rank()) fail({path, ": the array is ", str(y.sig()), ", expected a batch"});
  if (!is_floating(y.dtype())) return cast(y, DType::i64);
  y = cast(y, DType::f32);
  const std::span<const float> v(y.data_as<float>(), size_t(y.sig().shape.count()));
  const auto bad = std::find_if_not(v.begin(), v.end(), [](float f) { return std::isfinite(f); });
  if (bad == v.end()) return y;
  const int64_t each = int64_t(v.size()) / y.sig().shape[0];
  fail({path, ": the targets of sample ", (bad - v.begin()) / each, " have ", *bad,
        ", expected finite numbers"});
}

std::vector<Metric> metrics_for(const std::string& loss) {
  if (Loss(loss).name().find("crossentropy") == std::string::npos) return {};
  return {"accuracy"};
}

void check_writable(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (fs::is_directory(path, error))
    fail({path, ": it is a folder, expected the name of a file to write"});
  const fs::path folder = fs::absolute(path, error).parent_path();
  if (!fs::is_directory(folder, error))
    fail(Code::NotFound, {path, ": cannot be written: there is no folder ", folder.string()});
  if (access(folder.c_str(), W_OK) != 0)
    fail(Code::FailedPrecondition,
         {path, ": cannot be written: ", folder.string(), ": ", std::strerror(errno)});
}

void check_model_writable(const std::string& path) {
  if (!path.ends_with(".keras")) fail({path, ": expected a name that ends in .keras"});
  check_writable(path);
}
std::string rate(const std::string& text) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  if (error == std::errc{} && at == end && std::isfinite(value) && value >= 0) return {};
  return concat({"the number is ", text, ", expected a finite number, at least 0"});
}

void check_device(const std::string& name) {
  if (name.empty()) {
    default_device();  // refuses what EVENFLOW_DEVICE names and is not there
    return;
  }
  try {
    set_default_device(evenflow::Device{name});
  } catch (const Error& e) {
    if (e.code() != Code::InvalidArgument) throw;
    throw CLI::ValidationError("--device", e.what());
  }
}

nlohmann::json json_number(double v) {
  return std::isfinite(v) ? nlohmann::json(v) : nlohmann::json();
}
void print_json(const nlohmann::json& j) { std::printf("%s\n", format::json_text(j).c_str()); }

void print_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> width(rows[0].size());
  for (auto& r : rows)
    for (size_t i = 0; i < r.size(); ++i) width[i] = std::max(width[i], r[i].size());
  for (auto& r : rows) {
    for (size_t i = 0; i < r.size(); ++i)
      std::printf(i ? "  %*s" : " %-*s", int(width[i]), r[i].c_str());
    std::printf("\n");
  }
}

}  // namespace evenflow::cli
