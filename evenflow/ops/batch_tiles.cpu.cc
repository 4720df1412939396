// SPDX-License-Identifier: Apache-2.0
// Chunks of tiles run side by side, each tile in an arena that stays in the cache. Sums are kept by
// chunk and statistics by tile, then merged in order: the bits do not depend on the threads.
#include <algorithm>
#include <cstring>

#include "evenflow/core/parallel.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/batch_tiles.h"

namespace evenflow {
namespace {
constexpr int64_t kChunks = 8;  // also the sums that are kept: more would help more threads

int64_t aligned(int64_t n) {
  return (n + Buffer::kAlignment - 1) / Buffer::kAlignment * Buffer::kAlignment;
}
DType sum_type(DType d) { return d == DType::f64 || is_integer(d) ? d : DType::f32; }

struct Result {
  BatchRule::Join join;
  Sig sig;            // of the whole
  int64_t row = 0;    // rows: bytes of one
  int64_t place = 0;  // sums: offset in a chunk's memory; statistics: in a tile's
  bool adds = false;  // sums: the kernel adds by itself
};

struct Tiles {
  SubGraphPtr body;
  std::shared_ptr<const Plan> full, rest;  // of a tile, and of the last, smaller one
  int64_t batch, tile, tiles, chunks;
  std::vector<int64_t> row;  // of each input: bytes of a row; 0: whole
  std::vector<Result> results;
  int64_t sum_bytes = 0, temporary_bytes = 0, statistics_bytes = 0;

  int64_t sums_at() const { return 0; }
  int64_t temporaries_at() const { return chunks * sum_bytes; }
  int64_t statistics_at() const { return temporaries_at() + chunks * temporary_bytes; }
  int64_t bytes() const { return statistics_at() + tiles * statistics_bytes; }
};

Sigs tile_sigs(const CallSig& c, const BatchTilesAttrs& a, int64_t rows) {
  Sigs r(c.in.begin(), c.in.end());
  for (size_t i = 0; i < r.size(); ++i)
    if (!a.whole[i]) r[i].shape = r[i].shape.with(0, rows);
  return r;
}
std::shared_ptr<const Plan> plan_for(const CallSig& c, const BatchTilesAttrs& a, int64_t rows) {
  Graph g = a.body->graph;
  g.respecialise(tile_sigs(c, a, rows));
  std::shared_ptr<const Plan> p;
  serially([&] { p = std::make_shared<Plan>(g, std::vector<Role>(g.results.size())); });
  return p;
}

template <class F>
void in_sum_type(DType d, F f) {
  visit(sum_type(d), [&](auto zero) {
    using S = decltype(zero);
    if constexpr (!std::is_same_v<S, bf16> && !std::is_same_v<S, f16> && !std::is_same_v<S, bool>)
      f(zero);
  });
}
// sum (+)= x, element by element; sums are in a type that can hold them.
template <class S>
void add_to(S* sum, DType d, const void* x, int64_t n, bool first) {
  visit(d, [&](auto zero) {
    using T = decltype(zero);
    const T* from = static_cast<const T*>(x);
    if (first)
      for (int64_t i = 0; i < n; ++i) sum[i] = static_cast<S>(from[i]);
    else
      for (int64_t i = 0; i < n; ++i) sum[i] += static_cast<S>(from[i]);
  });
}

void run_chunk(const Tiles& t, const Call& call, int64_t chunk) {
  char* const scratch = static_cast<char*>(call.scratch);
  const int64_t begin = t.tiles * chunk / t.chunks, end = t.tiles * (chunk + 1) / t.chunks;
  std::shared_ptr<Plan::Run> run = t.full ? t.full->acquire() : nullptr;
  std::vector<void*> in(call.in.size()), out(call.out.size());
  std::vector<char> accumulate(call.out.size());
  char *sums = scratch + t.sums_at() + chunk * t.sum_bytes,
       *temporaries = scratch + t.temporaries_at() + chunk * t.temporary_bytes;
  for (int64_t k = begin; k < end; ++k) {
    const int64_t at = k * t.tile, rows = std::min(t.tile, t.batch - at);
    const Plan* plan = t.full.get();
    if (rows < t.tile) plan = t.rest.get(), run = plan->acquire();
    for (size_t i = 0; i < in.size(); ++i)
      in[i] = static_cast<char*>(call.in[i].data) + (call.in[i].data ? at * t.row[i] : 0);
    int64_t temporary = 0;
    for (size_t i = 0; i < out.size(); ++i) {
      const Result& r = t.results[i];
      accumulate[i] = 0;
      if (r.join == BatchRule::rows)
        out[i] = static_cast<char*>(call.out[i].data) + at * r.row;
      else if (r.join == BatchRule::statistics)
        out[i] = scratch + t.statistics_at() + k * t.statistics_bytes + r.place;
      else if (r.adds)
        out[i] = sums + r.place, accumulate[i] = k > begin;
      else
        out[i] = temporaries + temporary, temporary += aligned(r.sig.bytes());
    }
    plan->execute_at(*run, in, out, accumulate);
    for (size_t i = 0; i < out.size(); ++i) {
      const Result& r = t.results[i];
      if (r.join != BatchRule::sum || r.adds) continue;
      in_sum_type(r.sig.dtype, [&](auto zero) {
        add_to(reinterpret_cast<decltype(zero)*>(sums + r.place), r.sig.dtype, out[i],
               r.sig.shape.count(), k == begin);
      });
    }
  }
}

void merge_sums(const Tiles& t, const Call& call, size_t i) {
  const Result& r = t.results[i];
  char* const base = static_cast<char*>(call.scratch) + t.sums_at() + r.place;
  in_sum_type(r.sig.dtype, [&](auto zero) {
    using S = decltype(zero);
    parallel_for(r.sig.shape.count(), 16384, [&](int64_t b, int64_t e) {
      S* sum = reinterpret_cast<S*>(base);
      for (int64_t c = 1; c < t.chunks; ++c) {
        const S* x = reinterpret_cast<const S*>(base + c * t.sum_bytes);
        for (int64_t j = b; j < e; ++j) sum[j] += x[j];
      }
      visit(r.sig.dtype, [&](auto z) {
        using T = decltype(z);
        for (int64_t j = b; j < e; ++j) call.out[i].as<T>()[j] = static_cast<T>(sum[j]);
      });
    });
  });
}
// Results i, i + 1, i + 2: n, mean, M2.
void merge_statistics_of(const Tiles& t, const Call& call, size_t i) {
  const char* const base = static_cast<const char*>(call.scratch) + t.statistics_at();
  visit(t.results[i + 1].sig.dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_floating_point_v<T>) {
      constexpr int64_t kBlock = 64;
      const int64_t channels = t.results[i + 1].sig.shape.count();
      double total = 0;
      for (int64_t from = 0; from < std::max<int64_t>(channels, 1); from += kBlock) {
        const int64_t m = std::min(kBlock, channels - from);
        double mean[kBlock] = {}, m2[kBlock] = {}, n = 0;
        for (int64_t k = 0; k < t.tiles; ++k) {
          const char* tile = base + k * t.statistics_bytes;
          const double nk = *reinterpret_cast<const float*>(tile + t.results[i].place);
          const T* mean_k = reinterpret_cast<const T*>(tile + t.results[i + 1].place) + from;
          const T* m2_k = reinterpret_cast<const T*>(tile + t.results[i + 2].place) + from;
          if (nk == 0) continue;
          const double share = nk / (n + nk), weight = n * share;
          for (int64_t j = 0; j < m; ++j) {
            const double d = double(mean_k[j]) - mean[j];
            mean[j] += d * share;
            m2[j] += double(m2_k[j]) + d * d * weight;
          }
          n += nk;
        }
        for (int64_t j = 0; j < m; ++j) {
          call.out[i + 1].as<T>()[from + j] = T(mean[j]);
          call.out[i + 2].as<T>()[from + j] = T(m2[j]);
        }
        total = n;
      }
      *call.out[i].as<float>() = float(total);
    }
  });
}

Prepared prepare(const CallSig& c, const BatchTilesAttrs& a) {
  auto t = std::make_shared<Tiles>();
  t->body = a.body;
  const size_t first = size_t(std::find(a.whole.begin(), a.whole.end(), 0) - a.whole.begin());
  t->batch = c.in[first].shape[0], t->tile = std::min(a.tile, t->batch);
  t->tiles = (t->batch - 1) / t->tile + 1, t->chunks = std::min(kChunks, t->tiles);
  if (t->batch >= t->tile) t->full = plan_for(c, a, t->tile);
  if (t->batch % t->tile) t->rest = plan_for(c, a, t->batch % t->tile);
  for (size_t i = 0; i < c.in.size(); ++i)
    t->row.push_back(a.whole[i] ? 0 : c.in[i].bytes() / t->batch);
  for (size_t i = 0; i < c.out.size(); ++i) {
    Result r{BatchRule::Join(a.joins[i]), c.out[i]};
    if (r.join == BatchRule::rows) {
      r.row = r.sig.bytes() / t->batch;
    } else if (r.join == BatchRule::sum) {
      r.place = t->sum_bytes;
      t->sum_bytes += aligned(r.sig.shape.count() * size_of(sum_type(r.sig.dtype)));
      r.adds = r.sig.dtype == sum_type(r.sig.dtype) && t->full->accumulates(i) &&
               (!t->rest || t->rest->accumulates(i));
      if (!r.adds) t->temporary_bytes += aligned(r.sig.bytes());
    } else {
      r.place = t->statistics_bytes;
      t->statistics_bytes += aligned(r.sig.bytes());
    }
    t->results.push_back(std::move(r));
  }
  return {[t](const Call& call) {
            parallel_for(t->chunks, 1, [&](int64_t begin, int64_t end) {
              for (int64_t chunk = begin; chunk < end; ++chunk) run_chunk(*t, call, chunk);
            });
            for (size_t i = 0; i < t->results.size(); ++i) {
              if (t->results[i].join == BatchRule::sum) merge_sums(*t, call, i);
              if (t->results[i].join == BatchRule::statistics)
                merge_statistics_of(*t, call, i), i += 2;
            }
          },
          t->bytes()};
}
}  // namespace

KERNEL(batch_tiles, BatchTilesAttrs, tiles) {
  return {.declines = [](const CallSig& c, const BatchTilesAttrs& a) -> std::string {
            const size_t first =
                size_t(std::find(a.whole.begin(), a.whole.end(), 0) - a.whole.begin());
            return c.in[first].shape[0] ? "" : "empty";
          },
          .prepare = prepare};
}

}  // namespace evenflow
