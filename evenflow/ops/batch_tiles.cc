// SPDX-License-Identifier: Apache-2.0
#include "evenflow/ops/batch_tiles.h"

#include "evenflow/graph/op.h"
#include "evenflow/ops/batch_norm.h"
#include "evenflow/ops/elementwise.h"

namespace evenflow {
namespace {

// x [rows, c] -> sum over rows, as twice the statistics of x; for the cases below.
SubGraphPtr example(bool with_statistics) {
  Tensors in{placeholder({DType::f32, {6, 3}}, 0), placeholder({DType::f32, {3}}, 1)};
  Tensor y = in[0] * in[1];
  std::vector<Edge> roots{y.edge()};
  if (with_statistics) {
    Statistics s = batch_norm_statistics(y);
    for (const Tensor& t : {s.n, s.mean, s.m2}) roots.push_back(t.edge());
  }
  Extracted x = extract(roots, [](const Node& n) { return n.in.empty(); });
  auto sub = std::make_shared<SubGraph>();
  sub->graph = std::move(x.graph);
  return sub;
}
// The extent that is cut.
int64_t batch_of(std::span<const Sig> in, const std::vector<int64_t>& whole) {
  int64_t n = -1;
  for (size_t i = 0; i < in.size(); ++i) {
    if (whole[i]) continue;
    if (!in[i].shape.rank()) fail({"inputs[", i, "] is ", str(in[i]), ", expected a batch"});
    if (n >= 0 && in[i].shape[0] != n)
      fail({"inputs[", i, "] is ", str(in[i]), ", expected a batch of ", n});
    n = in[i].shape[0];
  }
  if (n < 0) fail({"whole is 1 for every input, expected one that is cut"});
  return n;
}
void check_joins(const Sigs& out, const std::vector<int64_t>& joins, int64_t batch) {
  for (size_t i = 0; i < out.size(); ++i) {
    if (joins[i] == BatchRule::rows) {
      if (!out[i].shape.rank() || out[i].shape[0] != batch)
        fail({"outputs[", i, "] is ", str(out[i]), ", expected rows of a batch of ", batch});
    } else if (joins[i] == BatchRule::sum) {
      if (out[i].dtype == DType::boolean)
        fail({"outputs[", i, "] is ", str(out[i]), ", expected numbers to add"});
    } else if (joins[i] == BatchRule::statistics) {
      const bool three = i + 2 < out.size() && joins[i + 1] == joins[i] && joins[i + 2] == joins[i];
      if (!three || out[i] != Sig{DType::f32, {}} || out[i + 1] != out[i + 2] ||
          (out[i + 1].dtype != DType::f32 && out[i + 1].dtype != DType::f64))
        fail({"outputs[", i, "] is ", str(out[i]), ", expected (n, mean, M2) to merge"});
      i += 2;
    } else {
      fail({"joins holds ", joins[i], ", expected 0, 1 or 2"});
    }
  }
}
// What a tile of so many rows gives must fit where it is put: the body may come from a file.
void check_tile(std::span<const Sig> in, const Sigs& out, const BatchTilesAttrs& a, int64_t rows) {
  Sigs part(in.begin(), in.end());
  for (size_t i = 0; i < part.size(); ++i)
    if (!a.whole[i]) part[i].shape = part[i].shape.with(0, rows);
  const Sigs got = a.body->result_sigs(part);
  for (size_t i = 0; i < out.size(); ++i) {
    Sig expected = out[i];
    if (a.joins[i] == BatchRule::rows) expected.shape = expected.shape.with(0, rows);
    if (got[i] != expected)
      fail({"outputs[", i, "] of a tile of ", rows, " rows is ", str(got[i]), ", expected ",
            str(expected)});
  }
}
}  // namespace

OP(batch_tiles, BatchTilesAttrs) {
  return {
      .summary = "Calls that run together, tile by tile along the batch",
      .doc =
          "Rows of the tiles are put one behind the other, sums added up, statistics merged by "
          "Chan's formula, in the order of the tiles; the tiles depend on the extents alone.",
      .inputs = {{"inputs", any_type.as(0), "[batch, ...] where they are cut"}},
      .outputs = {{"outputs", "as the body says"}},
      .shape = [](std::span<const Sig> in, const BatchTilesAttrs& a) -> Sigs {
        if (!a.body) fail({"body is absent"});
        if (in.size() != a.whole.size() || in.size() != a.body->graph.leaves.size())
          fail({in.size(), " inputs were given, expected ", a.body->graph.leaves.size()});
        if (a.joins.size() != a.body->graph.results.size())
          fail({"joins has ", a.joins.size(), " entries, expected ", a.body->graph.results.size()});
        if (a.tile < 1) fail({"tile is ", a.tile, ", expected at least 1"});
        const int64_t batch = batch_of(in, a.whole);
        const Sigs out = a.body->result_sigs(in);
        check_joins(out, a.joins, batch);
        for (int64_t rows : {a.tile, batch % a.tile})
          if (rows && rows < batch) check_tile(in, out, a, rows);
        return out;
      },
      .reference = [](const Tensors& in, const BatchTilesAttrs& a) -> Tensors {
        return a.body->instantiate(in);
      },
      .traits = {.variadic = true},
      .cases = {{"rows", {{6, 3}, {3}}, {example(false), {0, 1}, {0}, 4}},
                {"statistics", {{6, 3}, {3}}, {example(true), {0, 1}, {0, 2, 2, 2}, 4}},
                {"sum_of_rows",
                 {{6, 3}, {3}},
                 {example(false), {0, 1}, {1}, 4},
                 {.fails = "of a tile of 4 rows is f32[4,3], expected f32[6,3]"}},
                {"tile", {{6, 3}, {3}}, {example(false), {0, 1}, {0}, 0}, {.fails = "tile is 0"}}}};
}

}  // namespace evenflow
