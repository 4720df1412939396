// SPDX-License-Identifier: Apache-2.0
#include "tests/engine.h"

#include <cstring>
#include <mutex>
#include <shared_mutex>

#include "evenflow/core/random.h"
#include "evenflow/graph/op.h"
#include "evenflow/graph/transaction.h"

namespace evenflow {

OP(fault, NoAttrs) {
  return {
      .summary = "x, and a failure when bad holds: for tests",
      .inputs = {{"x", floating, "[...]"}, {"bad", boolean_only, "[]"}},
      .outputs = {{"y", "like x"}},
      .shape = same_as_first,
      .loop =
          [](const Call& c, const NoAttrs&) {
            if (*c.in[1].as<bool>()) fail(Code::OutOfRange, {"bad holds"});
            std::memcpy(c.out[0].data, c.in[0].data, size_t(c.in[0].sig->bytes()));
          },
      .gradient = [](const Tensors&, const Tensors&, const Tensors& g, const NoAttrs&) -> Tensors {
        return {g[0], Tensor()};
      }};
}

namespace engine {

Tensor drawn(const Shape& shape, uint64_t seed) {
  std::vector<float> v(size_t(shape.count()));
  for (size_t i = 0; i < v.size(); ++i) v[i] = 2 * uniform_f32(Philox{seed}(0, i)[0]) - 1;
  return tensor(v, shape);
}
std::string bits(const Tensor& t) {
  return {static_cast<const char*>(t.data()), size_t(t.sig().bytes())};
}
std::string bits(const Variable& v) {
  std::shared_lock l(state_mutex());
  return {static_cast<const char*>(v.state()->value->data()), size_t(v.sig().bytes())};
}
std::vector<std::string> bits(const std::vector<Variable>& vs) {
  std::vector<std::string> r;
  for (auto& v : vs) r.push_back(bits(v));
  return r;
}
Tensor fault(In x, In bad) { return call(fault_op(), {std::move(x), std::move(bad)})[0]; }

}  // namespace engine
}  // namespace evenflow
