// SPDX-License-Identifier: Apache-2.0
// An optimizer from its Keras name and the settings in a reference file.
#pragma once
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

#include "evenflow/train/optimizers.h"

namespace evenflow::tests {

inline Optimizer optimizer_from_json(const std::string& name, const nlohmann::json& config) {
  const auto& c = config;
  auto maybe = [&](const char* key) {
    return c.contains(key) ? std::optional<double>(c[key].get<double>()) : std::nullopt;
  };
  auto common = [&](auto& o) {
    o.learning_rate = c.value("learning_rate", o.learning_rate);
    o.weight_decay = c.value("weight_decay", o.weight_decay);
    o.clipnorm = maybe("clipnorm"), o.clipvalue = maybe("clipvalue");
    o.global_clipnorm = maybe("global_clipnorm");
  };
  if (name == "SGD") {
    SGDConfig o;
    common(o);
    o.momentum = c.value("momentum", o.momentum), o.nesterov = c.value("nesterov", o.nesterov);
    return SGD(o);
  }
  if (name == "RMSprop") {
    RMSpropConfig o;
    common(o);
    o.rho = c.value("rho", o.rho), o.momentum = c.value("momentum", o.momentum);
    o.epsilon = c.value("epsilon", o.epsilon), o.centered = c.value("centered", o.centered);
    return RMSprop(o);
  }
  auto adam = [&](auto o) {
    common(o);
    o.beta_1 = c.value("beta_1", o.beta_1), o.beta_2 = c.value("beta_2", o.beta_2);
    o.epsilon = c.value("epsilon", o.epsilon), o.amsgrad = c.value("amsgrad", o.amsgrad);
    return o;
  };
  if (name == "Adam") return Adam(adam(AdamConfig{}));
  if (name == "AdamW") return AdamW(adam(AdamWConfig{}));
  throw std::runtime_error("an optimizer that is not here: " + name);
}

}  // namespace evenflow::tests
