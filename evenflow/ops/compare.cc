// SPDX-License-Identifier: Apache-2.0
#include "evenflow/ops/compare.h"

#include <cmath>

#include "evenflow/ops/elementwise_loops.h"

namespace evenflow {
namespace {
Sigs bool_broadcast(std::span<const Sig> in, const NoAttrs&) {
  return {{DType::boolean, broadcast(in[0].shape, in[1].shape)}};
}
Op<NoAttrs> truth(std::string_view summary, Types types,
                  void (*loop)(const Call&, const NoAttrs&)) {
  Op<NoAttrs> op{
      .summary = summary,
      .inputs = {{"a", types, "[...]"}, {"b", types, "[...], broadcasts with a"}},
      .outputs = {{"y", "bool [...], a and b broadcast"}},
      .shape = bool_broadcast,
      .loop = loop,
      .no_gradient = "a truth value does not change smoothly",
      .traits = {.pointwise = true, .promotes = true},
      .cases = {
          {"same", {integers({3, 4}, 0, 2), integers({3, 4}, 0, 2)}},
          {"row", {integers({5, 63}, 0, 2), integers({63}, 0, 2)}},
          {"scalar", {integers({63}, 0, 2), integers({}, 0, 2)}},
          {"both", {integers({2, 1, 3}, 0, 2), integers({4, 1}, 0, 2)}},
          {"empty", {integers({0, 3}, 0, 2), integers({3}, 0, 2)}},
          {"mismatch", {integers({3, 4}, 0, 2), integers({3}, 0, 2)}, {}, {.fails = "broadcast"}}}};
  return op;
}
}  // namespace

#define TRUTH(name, types, summary, body)                            \
  OP(name, NoAttrs) {                                                \
    return truth(summary, types, [](const Call& c, const NoAttrs&) { \
      detail::map2<bool>(c, [](auto a, auto b) { return body; });    \
    });                                                              \
  }                                                                  \
  Tensor name(In a, In b) { return call(name##_op(), {std::move(a), std::move(b)})[0]; }
TRUTH(equal, any_type, "a == b", a == b)
TRUTH(not_equal, any_type, "a != b", a != b)
TRUTH(less, any_type, "a < b", a < b)
TRUTH(less_equal, any_type, "a <= b", a <= b)
TRUTH(greater, any_type, "a > b", a > b)
TRUTH(greater_equal, any_type, "a >= b", a >= b)
#undef TRUTH

#define LOGIC(name, summary, body)                                                                \
  OP(name, NoAttrs) {                                                                             \
    return truth(summary, boolean_only, [](const Call& c, const NoAttrs&) {                       \
      cpu::map_scalar([](bool a, bool b) { return body; }, c.out[0].shape(), c.out[0].as<bool>(), \
                      detail::operand<bool>(c.in[0]), detail::operand<bool>(c.in[1]));            \
    });                                                                                           \
  }                                                                                               \
  Tensor name(In a, In b) { return call(name##_op(), {std::move(a), std::move(b)})[0]; }
LOGIC(logical_and, "a and b", a&& b)
LOGIC(logical_or, "a or b", a || b)
LOGIC(logical_xor, "either a or b", a != b)
#undef LOGIC

OP(logical_not, NoAttrs) {
  return {.summary = "not x",
          .inputs = {{"x", boolean_only, "[...]"}},
          .outputs = {{"y", "like x"}},
          .shape = same_as_first,
          .loop =
              [](const Call& c, const NoAttrs&) {
                cpu::map_scalar([](bool x) { return !x; }, c.out[0].shape(), c.out[0].as<bool>(),
                                detail::operand<bool>(c.in[0]));
              },
          .no_gradient = "a truth value does not change smoothly",
          .traits = {.pointwise = true},
          .cases = {{"vector", {integers({33}, 0, 2)}},
                    {"one", {integers({1}, 0, 2)}},
                    {"empty", {integers({0, 3}, 0, 2)}}}};
}
Tensor logical_not(In x) { return call(logical_not_op(), {std::move(x)})[0]; }

}  // namespace evenflow
