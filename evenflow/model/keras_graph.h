// SPDX-License-Identifier: Apache-2.0
// Models as Keras's JSON, both ways: the "config.json" of a .keras file, or a model inside another.
// For keras_file.cc.
#pragma once
#include "evenflow/format/json.h"
#include "evenflow/model/model.h"

namespace evenflow {

/// A built model.
format::Json model_json(const ModelImpl& model);
/// The model that such an object describes, built, with the weights that its initialisers make.
/// Throws DataLoss for what contradicts itself (links to nothing, cycles, names used twice),
/// Unimplemented, by name, for what is not known here.
Model model_from_json(const format::JsonValue& json);

}  // namespace evenflow
