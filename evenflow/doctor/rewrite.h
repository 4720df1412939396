// SPDX-License-Identifier: Apache-2.0
// A model made from another, in which some layers are changed or left out. For folding and fixing.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "evenflow/model/model.h"

namespace evenflow::doctor {

/// What becomes of a layer.
struct Edit {
  bool dropped = false;  ///< what goes into it takes its place
  /// Fields, as "use_bias", that change.
  std::map<std::string, std::variant<bool, std::string>> config;
  std::map<std::string, std::vector<double>> weights;  ///< new values by name, row-major
};
struct Rewritten {
  Model model;
  std::map<const LayerImpl*, const LayerImpl*> layers;  ///< old to new
};
/// A copy: names, weights, counts and settings are the old ones where no edit says otherwise; the
/// model is not compiled. Models inside are copied, too, once each.
Rewritten rewritten(const Model& model, const std::map<const LayerImpl*, Edit>& edits);

}  // namespace evenflow::doctor
