// SPDX-License-Identifier: Apache-2.0
// Nets on the digits for the doctor's tests, and what was found in them.
#pragma once
#include <gmock/gmock.h>

#include <map>
#include <set>

#include "evenflow/data/digits.h"
#include "evenflow/doctor/doctor.h"
#include "evenflow/doctor/rewrite.h"
#include "evenflow/model/batch_normalization.h"
#include "evenflow/model/layers.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/train/train.h"

namespace evenflow::doctor {

struct Digits {
  Tensor x, y;
};
inline Digits digits(int64_t n, int64_t skip = 0) {
  const Tensors t = data::digits().skip(skip).take(n).all();
  return {t[0], t[1]};
}
inline const char* const kLoss = "sparse_categorical_crossentropy";

inline void train(const Model& m, int64_t epochs, FitOptions o = {}) {
  m.compile({.optimizer = Adam({.learning_rate = 2e-3}), .loss = kLoss});
  const Digits d = digits(640);
  o.epochs = epochs, o.verbose = 0, o.seed = 3;
  m.fit(d.x, d.y, o);
}
inline Layer top() { return Dense({.units = 10, .activation = "softmax", .name = "class"}); }
inline Layer conv(int64_t filters, bool bias = false) {
  return Conv2D({.filters = filters, .kernel_size = 3, .padding = "same", .use_bias = bias});
}
// Trained once, then copied for each test.
inline Model small_net(int64_t epochs = 4) {
  static std::map<int64_t, Model> made;
  if (!made.count(epochs)) {
    set_random_seed(5);
    const Sequential m({to_layer(Input({8, 8, 1})), conv(8), BatchNormalization({.name = "first"}),
                        ReLU(), MaxPooling2D(), conv(16), BatchNormalization({.name = "second"}),
                        ReLU(), Flatten(), top()});
    if (epochs) train(m, epochs);
    made[epochs] = m;
  }
  return rewritten(made[epochs], {}).model;
}
inline BatchNormalizationImpl& norm(const Model& m, const std::string& name) {
  return static_cast<BatchNormalizationImpl&>(*m.get_layer(name).impl());
}
inline void set(const Variable& v, const std::vector<double>& values) {
  v.assign(constant(values, v.sig().shape, v.sig().dtype));
}
inline std::vector<double> get(const Variable& v) { return v.read().to_vector<double>(); }

inline Options with_data(int64_t n = 512, int64_t skip = 700) {
  const Digits d = digits(n, skip);
  return {.x = d.x, .y = d.y, .loss = kLoss};
}
inline std::string ids(const Diagnosis& d, Level least = Level::warning) {
  std::set<std::string> s;
  for (auto& f : d.findings)
    if (f.level >= least) s.insert(f.id);
  std::string r;
  for (auto& id : s) r += (r.empty() ? "" : " ") + id;
  return r;
}
inline const Finding& found(const Diagnosis& d, const std::string& id) {
  for (auto& f : d.findings)
    if (f.id == id) return f;
  ADD_FAILURE() << id << " is not among\n" << diagnosis_text(d);
  static const Finding none;
  return none;
}

}  // namespace evenflow::doctor
