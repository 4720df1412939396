// SPDX-License-Identifier: Apache-2.0
// What the tests of the engine share: values drawn by a seed, bits, error texts, and an operation
// that fails when it is told to.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "evenflow/graph/compile.h"

namespace evenflow::engine {

/// Uniform in [-1, 1), f32, the same for the same seed.
Tensor drawn(const Shape& shape, uint64_t seed);
/// The bytes of a value, to be compared.
std::string bits(const Tensor& t);
/// The committed value of a variable, read without a transaction: what the world outside a step
/// sees.
std::string bits(const Variable& v);
std::vector<std::string> bits(const std::vector<Variable>& vs);
/// "invalid argument: <message>", or "no error".
template <class F>
std::string error_of(F f) {
  try {
    f();
  } catch (const Error& e) {
    return std::string(str(e.code())) + ": " + e.what();
  }
  return "no error";
}
/// x; fails when it runs and `bad`, bool [], holds. Its gradient passes.
Tensor fault(In x, In bad);
/// As tests say it: a bool scalar that is an argument.
inline Tensor truth(bool b) { return full({}, b, DType::boolean); }

}  // namespace evenflow::engine
