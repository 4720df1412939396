// SPDX-License-Identifier: Apache-2.0
#include "evenflow/ops/compare.h"

#include "evenflow/ops/elementwise_loops.h"

namespace evenflow {

static Sigs bool_broadcast(std::span<const Sig> in, const NoAttrs&) { return {{DType::boolean, broadcast(in[0].shape, in[1].shape)}}; }

#define COMPARE(name, types, text, body)                                                                                              \
  OP(name, NoAttrs) {                                                                                                                 \
    return {.summary = text, .inputs = {{"a", types, "[...]"}, {"b", types, "[...], broadcasts with a"}}, .outputs = {{"y", "bool, broadcast of a and b"}}, \
            .shape = bool_broadcast, .loop = [](const Call& c, const NoAttrs&) { detail::map2(c, [](auto a, auto b) { return body; }); }, \
            .no_gradient = "a truth value does not change smoothly", .traits = {.pointwise = true, .promotes = true},                 \
            .cases = {{"same", {integers({3, 4}, 0, 3), integers({3, 4}, 0, 3)}}, {"row", {integers({5, 63}, 0, 3), integers({63}, 0, 3)}}, \
                      {"empty", {integers({0, 3}, 0, 3), integers({3}, 0, 3)}},                                                        \
                      {"mismatch", {integers({3, 4}, 0, 2), integers({3}, 0, 2)}, {}, {.fails = "do not broadcast"}}}};                \
  }                                                                                                                                   \
  Tensor name(In a, In b) { return call(name##_op(), {a, b})[0]; }

COMPARE(equal, any_type, "a == b", a == b)
COMPARE(not_equal, any_type, "a != b", a != b)
COMPARE(less, any_type, "a < b", a < b)
COMPARE(less_equal, any_type, "a <= b", a <= b)
COMPARE(greater, any_type, "a > b", a > b)
COMPARE(greater_equal, any_type, "a >= b", a >= b)
COMPARE(logical_and, boolean_only.as('T'), "a and b", a && b)
COMPARE(logical_or, boolean_only.as('T'), "a or b", a || b)
COMPARE(logical_xor, boolean_only.as('T'), "either a or b", bool(a) != bool(b))
#undef COMPARE

OP(logical_not, NoAttrs) {
  return {.summary = "not x", .inputs = {{"x", boolean_only, "[...]"}}, .outputs = {{"y", "like x"}}, .shape = same_as_first,
          .loop = [](const Call& c, const NoAttrs&) { detail::map1(c, [](auto x) { return !x; }); },
          .no_gradient = "a truth value does not change smoothly", .traits = {.pointwise = true},
          .cases = {{"vector", {integers({33}, 0, 2)}}, {"empty", {integers({0, 3}, 0, 2)}}}};
}
Tensor logical_not(In x) { return call(logical_not_op(), {x})[0]; }

}  // namespace evenflow
