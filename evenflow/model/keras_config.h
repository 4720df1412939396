// SPDX-License-Identifier: Apache-2.0
// Layer configurations as Keras's JSON, both ways. For keras_file.cc.
#pragma once
#include <string>

#include "evenflow/format/json.h"
#include "evenflow/model/layer.h"

namespace evenflow {

/// {"module", "class_name", "config", "registered_name", "build_config"} of a layer, as Keras
/// writes it.
format::Json layer_json(LayerImpl& layer);
/// The layer that such an object describes. Throws Unimplemented, by name, for an unknown class and
/// for a setting that has no counterpart here; InvalidArgument or DataLoss for a value of the wrong
/// kind. `wrappers` are around it.
std::shared_ptr<LayerImpl> layer_from_json(const format::JsonValue& json, int wrappers = 0);
/// What Keras has no word for (LayerImpl::settings), for evenflow.json; {} for most.
format::Json settings_json(LayerImpl& layer);
/// Throws DataLoss, naming place and layer, for what the layer does not take.
void settings_from_json(LayerImpl& layer, const format::JsonValue& json);
format::Json policy_json(const std::string& name);
format::Json dims_json(const Dims& dims);
Dims dims_from_json(const format::JsonValue& json);

}  // namespace evenflow
