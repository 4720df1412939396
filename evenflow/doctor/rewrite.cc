// SPDX-License-Identifier: Apache-2.0
#include "evenflow/doctor/rewrite.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "evenflow/model/batch_normalization.h"
#include "evenflow/model/keras_config.h"
#include "evenflow/ops/elementwise.h"

namespace evenflow::doctor {
namespace {

class Rewriter {
 public:
  Rewriter(const std::map<const LayerImpl*, Edit>& edits, Rewritten& out)
      : edits_(edits), out_(out) {}

  Model model(const ModelImpl& m) {
    const Model made = m.class_name == "Sequential" ? sequential(m) : functional(m);
    made.impl().trainable.set(m.trainable.get());
    return made;
  }
  // When all are built.
  void copy_weights() {
    for (auto& [old, layer] : made_) {
      if (old->model()) continue;
      const Edit* edit = find(old);
      auto copy = [&](const std::vector<Weight>& from, const std::vector<Weight>& to) {
        for (const Weight& w : to) {
          const Sig& sig = w.variable.sig();
          auto same = [&](auto& other) { return other.name == w.name; };
          auto it = std::find_if(from.begin(), from.end(), same);
          if (edit && edit->weights.count(w.name))
            w.variable.assign(constant(edit->weights.at(w.name), sig.shape, sig.dtype));
          else if (it != from.end())
            w.variable.assign(it->variable.read());
        }
      };
      copy(old->weights, layer->weights);
      copy(old->extra_state(), layer->extra_state());
    }
  }

 private:
  const Edit* find(const LayerImpl* l) const {
    auto it = edits_.find(l);
    return it == edits_.end() ? nullptr : &it->second;
  }
  bool dropped(const LayerImpl* l) const {
    const Edit* e = find(l);
    return e && e->dropped;
  }
  Layer layer(const std::shared_ptr<LayerImpl>& old) {
    auto& made = made_[old.get()];
    if (!made) {
      if (const ModelImpl* inner = old->model()) {
        made = to_layer(model(*inner)).impl();
        made->name = old->name;
      } else {
        made = copied(*old);
      }
      out_.layers[old.get()] = made.get();
    }
    return Layer(made);
  }
  std::shared_ptr<LayerImpl> copied(LayerImpl& old) const {
    if (auto* bn = dynamic_cast<BatchNormalizationImpl*>(&old)) return copied_norm(*bn);
    format::Json j = layer_json(old);
    if (const Edit* e = find(&old))
      for (auto& [name, value] : e->config)
        std::visit([&, &name = name](auto& v) { j["config"][name] = v; }, value);
    auto made =
        layer_from_json(format::parse_json(format::json_text(j), "layer \"" + old.name + "\""));
    made->seed = old.seed;
    if (const format::Json ours = settings_json(old); !ours.empty())
      settings_from_json(*made, format::parse_json(format::json_text(ours), old.name));
    return made;
  }
  // Not by way of Keras's words, which know one axis and no activation here.
  std::shared_ptr<LayerImpl> copied_norm(const BatchNormalizationImpl& old) const {
    auto made = std::make_shared<BatchNormalizationImpl>();
    made->config = old.config;
    if (const Edit* e = find(&old))
      for (auto& [name, value] : e->config)
        (name == "scale" ? made->config.scale : made->config.center) = std::get<bool>(value);
    made->name = old.name, made->dtype = old.dtype, made->seed = old.seed;
    made->trainable.set(old.trainable.get());
    made->set_mode(old.mode()), made->set_averages(old.averages());
    return made;
  }
  Model sequential(const ModelImpl& m) {
    std::vector<Layer> layers;
    for (auto& l : m.layers)
      if (!dropped(l.get())) layers.push_back(layer(l));
    return Sequential(layers, m.name);
  }
  Model functional(const ModelImpl& m) {
    std::vector<SymbolicTensor> at, inputs, outputs;
    for (auto& c : m.calls) {
      std::vector<SymbolicTensor> in;
      for (int i : c.inputs) in.push_back(at[size_t(i)]);
      at.push_back(dropped(c.layer.get()) ? in.at(0) : layer(c.layer)(in));
    }
    for (int i : m.inputs) inputs.push_back(at[size_t(i)]);
    for (int o : m.outputs) outputs.push_back(at[size_t(o)]);
    return Model(inputs, outputs, m.name);
  }

  const std::map<const LayerImpl*, Edit>& edits_;
  Rewritten& out_;
  std::map<LayerImpl*, std::shared_ptr<LayerImpl>> made_;
};
}  // namespace

Rewritten rewritten(const Model& model, const std::map<const LayerImpl*, Edit>& edits) {
  Rewritten r;
  Rewriter rewriter(edits, r);
  {
    const BuildLimit zeros(std::numeric_limits<int64_t>::max());  // the weights come afterwards
    r.model = rewriter.model(model.impl());
  }
  rewriter.copy_weights();
  return r;
}

}  // namespace evenflow::doctor
