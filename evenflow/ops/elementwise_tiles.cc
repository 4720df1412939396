// SPDX-License-Identifier: Apache-2.0
#include "evenflow/ops/elementwise_tiles.h"

#include "evenflow/graph/op.h"
#include "evenflow/ops/elementwise.h"

namespace evenflow {

Sigs elementwise_run(std::span<const Sig> in, const std::vector<int64_t>& whole, int64_t n) {
  Sigs r;
  for (size_t i = 0; i < in.size(); ++i) r.push_back({in[i].dtype, whole[i] ? Shape{} : Shape{n}});
  return r;
}

namespace {
// w - s g, and the running sum m + g if asked for.
SubGraphPtr example(bool two) {
  Tensors in{placeholder({DType::f32, {5, 7}}, 0), placeholder({DType::f32, {}}, 1),
             placeholder({DType::f32, {5, 7}}, 2)};
  std::vector<Edge> roots{(in[0] - in[1] * in[2]).edge()};
  if (two) roots.push_back((in[0] * in[2] + in[2]).edge());
  Extracted x = extract(roots, [](const Node& n) { return n.in.empty(); });
  auto sub = std::make_shared<SubGraph>();
  sub->graph = std::move(x.graph);
  return sub;
}
}  // namespace

OP(elementwise_tiles, ElementwiseTilesAttrs) {
  return {
      .summary = "Element-wise calls that run together, some thousand elements at a time",
      .inputs = {{"inputs", any_type.as(0), "[...], all of one shape but those of one element"}},
      .outputs = {{"outputs", "as the body says, in that shape"}},
      .shape = [](std::span<const Sig> in, const ElementwiseTilesAttrs& a) -> Sigs {
        if (!a.body) fail({"body is absent"});
        if (in.size() != a.whole.size() || in.size() != a.body->graph.leaves.size())
          fail({in.size(), " inputs were given, expected ", a.body->graph.leaves.size()});
        const Shape* shape = nullptr;
        for (size_t i = 0; i < in.size(); ++i) {
          if (a.whole[i]) {
            if (in[i].shape.count() != 1)
              fail({"inputs[", i, "] is ", str(in[i]), ", expected one element"});
            continue;
          }
          if (shape && *shape != in[i].shape)
            fail({"inputs[", i, "] is ", str(in[i]), ", expected shape ", str(*shape)});
          shape = &in[i].shape;
        }
        if (!shape) fail({"whole is 1 for every input, expected one of many elements"});
        const Sigs out = a.body->result_sigs(in);
        // The body may come from a file: what a run of elements gives must fit where it is put.
        const Sigs run = a.body->result_sigs(elementwise_run(in, a.whole, shape->count()));
        for (size_t i = 0; i < out.size(); ++i)
          if (out[i].shape != *shape || run[i] != Sig{out[i].dtype, {shape->count()}})
            fail({"outputs[", i, "] is ", str(out[i]), ", of a run ", str(run[i]),
                  ", expected the shape of the inputs ", str(*shape)});
        return out;
      },
      .reference = [](const Tensors& in, const ElementwiseTilesAttrs& a) -> Tensors {
        return a.body->instantiate(in);
      },
      .traits = {.pointwise = true, .variadic = true},
      .cases = {{"one", {{5, 7}, normal({}), {5, 7}}, {example(false), {0, 1, 0}}},
                {"two", {{5, 7}, normal({}), {5, 7}}, {example(true), {0, 1, 0}}},
                {"shape",
                 {{5, 7}, normal({}), {5, 8}},
                 {example(false), {0, 1, 0}},
                 {.fails = "inputs[2] is f32[5,8], expected shape [5,7]"}}}};
}

}  // namespace evenflow
