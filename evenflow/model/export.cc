// SPDX-License-Identifier: Apache-2.0
#include "evenflow/model/export.h"

#include <algorithm>

#include "evenflow/format/file.h"
#include "evenflow/model/layers.h"

namespace evenflow {
namespace {

// "logits", "logits_1": two outputs may be of one layer.
std::string unlike(const std::vector<std::string>& taken, const std::string& name) {
  std::string r = name;
  for (int i = 1; std::count(taken.begin(), taken.end(), r); ++i) r = concat({name, "_", i});
  return r;
}

}  // namespace

SavedFunction inference_function(const Model& model) {
  const ModelImpl& m = model.impl();
  if (!model.built())
    fail(Code::FailedPrecondition,
         {"export: model \"", m.name, "\" is not built, expected an Input layer or a call first"});
  // An extent that is not known takes one that is large enough for pooling; the trace serves all.
  constexpr int64_t kBatch = 2, kOther = 64;
  std::vector<NamedSig> inputs;
  for (int i : m.inputs) {
    const ModelImpl::Call& call = m.calls[size_t(i)];
    Dims dims = call.dims;
    for (size_t d = 0; d < dims.size(); ++d)
      if (dims[d] < 0) dims[d] = d ? kOther : kBatch;
    const auto* layer = dynamic_cast<const InputLayerImpl*>(call.layer.get());
    inputs.push_back({call.layer->name,
                      {layer ? parse_dtype(layer->config.input_dtype) : DType::f32, Shape(dims)}});
  }
  std::vector<std::string> outputs;
  for (int i : m.outputs) outputs.push_back(unlike(outputs, m.calls[size_t(i)].layer->name));
  return saved_function("predict", inputs, outputs,
                        [&](const Tensors& x) { return model.call(x); });
}

void export_model(const Model& model, const std::string& path) {
  const SavedFunction f = inference_function(model);
  format::write_file_atomically(path, [&](format::FileWriter& out) {
    write_saved_graph({f}, {{"model", model.name()}, {"producer", "evenflow " EVENFLOW_VERSION}},
                      [&](std::string_view piece) { out.append(piece); });
  });
}

}  // namespace evenflow
