// SPDX-License-Identifier: Apache-2.0
// The sub-commands of `evenflow`, one a file: each adds itself to the parser and says what to run.
#pragma once
#include <CLI/CLI.hpp>
#include <string>

#include "evenflow/evenflow.h"
#include "evenflow/graph/op.h"

namespace evenflow::cli {

/// Adds a sub-command; what it does runs when it was given.
void add_predict(CLI::App& app);
void add_train(CLI::App& app);
void add_evaluate(CLI::App& app);
void add_inspect(CLI::App& app);
void add_export(CLI::App& app);
void add_devices(CLI::App& app);
void add_demo(CLI::App& app);
void add_bench(CLI::App& app);

/// A .npy file as a tensor.
Tensor read_tensor(const std::string& path);
/// Numbers for a model: integers, and floats of another width, become the model's f32.
Tensor read_input(const std::string& path);
/// Targets: integer labels stay integers.
Tensor read_targets(const std::string& path);

}  // namespace evenflow::cli
