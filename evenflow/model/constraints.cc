// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "evenflow/model/constraint.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/reduce.h"

namespace evenflow {

Constraint::Constraint(const char* n) : Constraint(std::string(n)) {}
Constraint::Constraint(const std::string& n) {
  for (auto [long_name, short_name] : {std::pair{"MaxNorm", "max_norm"},
                                       {"NonNeg", "non_neg"},
                                       {"UnitNorm", "unit_norm"},
                                       {"MinMaxNorm", "min_max_norm"}})
    if (n == long_name || n == short_name) name = long_name;
  if (name.empty())
    fail({"constraint is \"", n.substr(0, 80),
          "\", expected MaxNorm, NonNeg, UnitNorm or MinMaxNorm"});
  if (name == "MaxNorm") max_value = 2;
}
Constraint max_norm(double max_value, std::vector<int64_t> axis) {
  Constraint c("MaxNorm");
  c.max_value = max_value, c.axis = std::move(axis);
  return c;
}
Constraint non_neg() { return "NonNeg"; }
Constraint unit_norm(std::vector<int64_t> axis) {
  Constraint c("UnitNorm");
  c.axis = std::move(axis);
  return c;
}
Constraint min_max_norm(double min_value, double max_value, double rate,
                        std::vector<int64_t> axis) {
  Constraint c("MinMaxNorm");
  c.min_value = min_value, c.max_value = max_value, c.rate = rate, c.axis = std::move(axis);
  return c;
}

void Constraint::check(int rank) const {
  if (name.empty() || name == "NonNeg") return;
  if (!(min_value >= 0 && min_value <= max_value) || !std::isfinite(max_value) ||
      !(rate >= 0 && rate <= 1))
    fail({name, ": min_value is ", min_value, ", max_value ", max_value, " and rate ", rate,
          ", expected 0 <= min_value <= max_value and 0 <= rate <= 1"});
  for (int64_t a : axis)
    if (a < -rank || a >= rank) fail({name, ": axis is ", a, ", expected ", -rank, "..", rank - 1});
}
Tensor Constraint::operator()(const Tensor& w) const {
  check(w.rank());
  if (name.empty()) return w;
  if (name == "NonNeg") return maximum(w, 0);
  const Tensor norm = sqrt(reduce_sum(square(w), axis, true));
  if (name == "UnitNorm") return w / (norm + 1e-7);
  const Tensor clipped = clip(norm, name == "MaxNorm" ? 0 : min_value, max_value);
  return w * ((name == "MaxNorm" ? clipped : clipped * rate + norm * (1 - rate)) / (norm + 1e-7));
}

}  // namespace evenflow
