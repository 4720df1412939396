// SPDX-License-Identifier: Apache-2.0
// Every case that is marked `bench`, through the kernel that a plan would choose; the answer is
// checked first.
//   build/bin/ops_bench --benchmark_filter=conv2d
#include <benchmark/benchmark.h>

#include <map>

#include "evenflow/graph/plan.h"
#include "evenflow/graph/program.h"
#include "tests/op_checks.h"

namespace evenflow {
namespace {

void run(benchmark::State& state, const OpDef* op, const OpDef::Case* c, size_t which) {
  static std::map<std::string, std::string> checked;
  const checks::Point p = checks::points(*op, *c)[which];
  auto [it, fresh] = checked.try_emplace(p.name);
  if (fresh)
    for (auto& complaint : checks::kernels(p)) it->second += complaint + "; ";
  if (!it->second.empty()) return state.SkipWithError(it->second.c_str());
  Tensors in = p.tensors();
  const Program program =
      trace(p.sigs, [&](const Tensors& x) { return apply(*op, c->attrs, to_inputs(x)); });
  const Plan plan(program.graph, std::vector<Role>(program.graph.results.size()));
  std::vector<BufferPtr> leaves;
  for (auto& l : program.leaves) leaves.push_back(in[size_t(l.arg)].buffer());
  auto run = plan.acquire();
  plan.bind(*run, leaves);
  for (auto _ : state) plan.execute(*run, false), plan.execute(*run, true);
  const Sigs out = op->shape(p.sigs, c->attrs.get());
  Cost cost;
  if (op->cost)
    cost = op->cost({p.sigs, out}, c->attrs.get());
  else
    for (auto* list : {&p.sigs, &out})
      for (auto& s : *list) cost.bytes += double(s.bytes());
  const double n = double(state.iterations());
  state.counters["bytes"] = benchmark::Counter(cost.bytes * n, benchmark::Counter::kIsRate);
  if (cost.flops > 0)
    state.counters["flops"] = benchmark::Counter(cost.flops * n, benchmark::Counter::kIsRate);
  const std::string listing = plan.listing();
  const size_t kernel = listing.find('[');
  state.SetLabel(plan.calls() == 1 ? listing.substr(kernel, listing.find(']') + 1 - kernel)
                                   : std::to_string(plan.calls()) + " calls");
}

}  // namespace
}  // namespace evenflow

int main(int argc, char** argv) {
  using namespace evenflow;
  benchmark::Initialize(&argc, argv);
  for (const OpDef* op : all_ops())
    for (const OpDef::Case& c : op->cases) {
      if (!c.flags.bench || !c.flags.fails.empty()) continue;
      const auto points = checks::points(*op, c, false);
      for (size_t i = 0; i < points.size(); ++i)
        if (points[i].fits && (i == 0 || points[i].sigs[0].dtype == DType::bf16))
          benchmark::RegisterBenchmark(points[i].name.c_str(), [op, &c, i](benchmark::State& s) {
            run(s, op, &c, i);
          })->UseRealTime();
    }
  benchmark::RunSpecifiedBenchmarks();
}
