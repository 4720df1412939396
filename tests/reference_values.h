// SPDX-License-Identifier: Apache-2.0
// Reads the files of tests/reference (values made by TensorFlow, Keras and PyTorch) and compares.
// tests/reference/README.md says what is in it.
#pragma once
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "evenflow/graph/tensor.h"

namespace evenflow::reference {

/// A file of tests/reference/, such as "losses.json".
const nlohmann::json& document(const std::string& name);
/// {"dtype", "shape", "data"} as a tensor; an empty one for null.
Tensor to_tensor(const nlohmann::json& value);

struct Case {
  std::string op, from, note;
  bool exact = false;  ///< computed in f64 and rounded once
  nlohmann::json attrs;
  Tensors inputs, outputs;
  Tensors grad_outputs, grad_inputs;  ///< empty where the case has none; an empty tensor for null
};
/// Of a file of single operations, in its order; `from` chooses who computed, empty: all.
std::vector<Case> cases(std::string_view op, std::string_view from = {},
                        const std::string& file = "ops.json");

/// |got - want| <= absolute + relative |want|; NaN equals NaN, and types and shapes must be equal.
struct Tolerance {
  double absolute = 1e-6, relative = 2e-6;
};
/// Empty, or what is wrong.
std::string difference(const Tensor& got, const Tensor& want, Tolerance tolerance = {});

/// Runs f over each case, and compares outputs and gradients by EXPECT; f skips a case by returning
/// nothing. Returns how many were compared, so that a test can see that it tested something.
using Function = std::function<Tensors(const Tensors& inputs, const nlohmann::json& attrs)>;
int check(std::string_view op, const Function& f, Tolerance tolerance = {},
          std::string_view from = {}, const std::string& file = "ops.json");

}  // namespace evenflow::reference
