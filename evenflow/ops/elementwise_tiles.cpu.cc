// SPDX-License-Identifier: Apache-2.0
// Runs of elements side by side. An output may lie over an input (a variable over itself): with
// several outputs all of a run is made before any of it is written.
#include <algorithm>
#include <cstring>

#include "evenflow/core/parallel.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/elementwise_tiles.h"

namespace evenflow {
namespace {
constexpr int64_t kRun = 4096, kChunkRuns = 4;

struct Runs {
  std::shared_ptr<const Plan> full, rest;  // of a run, and of the last, shorter one
  int64_t count, run, chunks;
  std::vector<int64_t> in_step, out_step;  // bytes of an element; 0: one for all
  int64_t runs() const { return (count - 1) / run + 1; }
  bool several() const { return out_step.size() > 1; }
  int64_t scratch() const {
    int64_t n = 0;
    for (int64_t step : out_step) n += several() ? run * step : 0;
    return n;
  }
};

std::shared_ptr<const Plan> plan_for(const CallSig& c, const ElementwiseTilesAttrs& a, int64_t n) {
  Graph g = a.body->graph;
  g.respecialise(elementwise_run(c.in, a.whole, n));
  std::shared_ptr<const Plan> p;
  serially([&] { p = std::make_shared<Plan>(g, std::vector<Role>(g.results.size())); });
  return p;
}

void run_chunk(const Runs& r, const Call& call, int64_t chunk) {
  const int64_t begin = r.runs() * chunk / r.chunks, end = r.runs() * (chunk + 1) / r.chunks;
  std::shared_ptr<Plan::Run> run = r.full->acquire();
  std::vector<void*> in(call.in.size()), out(call.out.size());
  char* const scratch = static_cast<char*>(call.scratch) + chunk * r.scratch();
  for (int64_t k = begin; k < end; ++k) {
    const int64_t at = k * r.run, n = std::min(r.run, r.count - at);
    const Plan* plan = r.full.get();
    if (n < r.run) plan = r.rest.get(), run = plan->acquire();
    for (size_t i = 0; i < in.size(); ++i)
      in[i] = static_cast<char*>(call.in[i].data) + at * r.in_step[i];
    char* apart = scratch;
    for (size_t i = 0; i < out.size(); ++i) {
      out[i] = r.several() ? apart : static_cast<char*>(call.out[i].data) + at * r.out_step[i];
      apart += r.run * r.out_step[i];
    }
    plan->execute_at(*run, in, out);
    if (!r.several()) continue;
    for (size_t i = 0; i < out.size(); ++i)
      std::memcpy(static_cast<char*>(call.out[i].data) + at * r.out_step[i], out[i],
                  size_t(n * r.out_step[i]));
  }
}

Prepared prepare(const CallSig& c, const ElementwiseTilesAttrs& a) {
  auto r = std::make_shared<Runs>();
  r->count = c.out[0].shape.count(), r->run = std::min(kRun, r->count);
  // An even number of chunks, as other loops have: each thread meets its elements again.
  r->chunks = std::min(r->runs(), (r->runs() / kChunkRuns + 3) / 4 * 4);
  r->chunks = std::max<int64_t>(1, r->chunks);
  r->full = plan_for(c, a, r->run);
  if (r->count % r->run) r->rest = plan_for(c, a, r->count % r->run);
  for (size_t i = 0; i < c.in.size(); ++i)
    r->in_step.push_back(a.whole[i] ? 0 : size_of(c.in[i].dtype));
  for (const Sig& s : c.out) r->out_step.push_back(size_of(s.dtype));
  return {[r](const Call& call) {
            parallel_for(r->chunks, 1, [&](int64_t begin, int64_t end) {
              for (int64_t chunk = begin; chunk < end; ++chunk) run_chunk(*r, call, chunk);
            });
          },
          r->chunks * r->scratch()};
}
}  // namespace

KERNEL(elementwise_tiles, ElementwiseTilesAttrs, tiles) {
  return {.declines = [](const CallSig& c, const ElementwiseTilesAttrs&) -> std::string {
            return c.out[0].shape.count() ? "" : "empty";
          },
          .prepare = prepare};
}

}  // namespace evenflow
