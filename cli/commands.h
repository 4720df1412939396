// SPDX-License-Identifier: Apache-2.0
// The sub-commands of `evenflow`, one a file: each adds itself to the parser and says what to run.
#pragma once
#include <CLI/CLI.hpp>
#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "evenflow/evenflow.h"
#include "evenflow/graph/op.h"

namespace evenflow::cli {

/// Thrown by a sub-command that has said all and ends with another status than 0.
struct Ended {
  int status;
};

/// Adds a sub-command; what it does runs when it was given.
void add_data(CLI::App& app);
void add_predict(CLI::App& app);
void add_train(CLI::App& app);
void add_evaluate(CLI::App& app);
void add_inspect(CLI::App& app);
void add_export(CLI::App& app);
void add_doctor(CLI::App& app);
void add_recalibrate(CLI::App& app);
void add_fold(CLI::App& app);
void add_bank(CLI::App& app);
void add_devices(CLI::App& app);
void add_demo(CLI::App& app);
void add_bench(CLI::App& app);
void add_profile(CLI::App& app);
void add_lab(CLI::App& app);
void add_ops(CLI::App& app);

/// The options --bank and --set of a command that runs a model.
struct BankSet {
  std::string bank, name;
  void add_to(CLI::App& command);
  /// While it lives, the model's inference uses the set; null where no bank was given.
  std::unique_ptr<doctor::UseStatistics> use(const Model& model) const;
};

/// A .npy file as a tensor.
Tensor read_tensor(const std::string& path);
/// Numbers for a model: integers, and floats of another width, become the model's f32.
Tensor read_input(const std::string& path);
/// Targets: integer labels stay integers. Throws InvalidArgument for a number that is not finite.
Tensor read_targets(const std::string& path);
/// Accuracy for a cross entropy, else none.
std::vector<Metric> metrics_for(const std::string& loss);
/// Refuses, before the work, a file that could not be written after it.
void check_writable(const std::string& path);
/// The same for a model: the name says that it is one.
void check_model_writable(const std::string& path);
/// "" is EVENFLOW_DEVICE or the default. Throws ValidationError for a word that is no device,
/// Unimplemented for one that is not there.
void check_device(const std::string& name);
/// What JSON has for a number: null when it is not finite.
nlohmann::json json_number(double v);
/// Columns as wide as their texts; the first stands left.
void print_table(const std::vector<std::vector<std::string>>& rows);
/// One line on standard output.
void print_json(const nlohmann::json& j);

/// Accepts a whole number that T holds, at least `low`, and says so otherwise.
template <class T>
std::function<std::string(const std::string&)> whole(T low) {
  return [low](const std::string& text) -> std::string {
    T value{};
    const char* end = text.data() + text.size();
    const auto [at, error] = std::from_chars(text.data(), end, value);
    if (error == std::errc{} && at == end && value >= low) return {};
    return concat({"the number is ", text, ", expected a whole number from ", low, " to ",
                   std::numeric_limits<T>::max()});
  };
}
/// Accepts a finite number, at least 0.
std::string rate(const std::string& text);

/// Accepts what T can be made of, and shows T's own refusal otherwise.
template <class T>
std::function<std::string(const std::string&)> makes() {
  return [](const std::string& text) -> std::string {
    try {
      T{text};
      return {};
    } catch (const Error& e) {
      return e.what();
    }
  };
}

}  // namespace evenflow::cli
