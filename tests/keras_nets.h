// SPDX-License-Identifier: Apache-2.0
// tests/reference/nets/: models that Keras saved, their data, and what Keras made of it.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "evenflow/format/npy.h"
#include "evenflow/model/model.h"
#include "tests/reference_values.h"

namespace evenflow::reference {

inline std::string net_file(const std::string& name) {
  return EVENFLOW_SOURCE_DIR "/tests/reference/nets/" + name;
}
inline Tensor net_array(const std::string& name) {
  const Array a = format::read_npy(net_file(name));
  return tensor(a.sig, a.data);
}
/// One file, or a list of them.
inline Tensors net_arrays(const nlohmann::json& names) {
  Tensors r;
  if (names.is_string()) return {net_array(names)};
  for (auto& n : names) r.push_back(net_array(n));
  return r;
}
inline const nlohmann::json& nets() { return document("nets/nets.json")["nets"]; }

}  // namespace evenflow::reference
