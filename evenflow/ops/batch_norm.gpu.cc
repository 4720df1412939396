// SPDX-License-Identifier: Apache-2.0
// Batch normalisation on GPUs: how the work is cut, and which kernels of batch_norm.gpu.h run.
#include "evenflow/ops/batch_norm.h"

#include "evenflow/ops/batch_norm_rules.h"
#include "evenflow/ops/gpu_args.gpu.h"
#include "evenflow/ops/gpu_call.h"

namespace evenflow {
namespace {
using gpu::Defines;
using gpu::Grid;
using gpu::Launcher;

using gpu::Walk;

constexpr int kThreads = 256, kMergeThreads = 1024;
// Rounds of blocks of a pass that follows no other: more than one spread it better (measured on an
// H200: 0.88 for 0.87 of the copy's bandwidth). A second pass takes one, and finds in the cache
// what the first has left.
constexpr int kRounds = 4;

// How a call is cut: by channels, then along the batch in chunks, as many as run side by side. All
// passes of a call take the same chunks, the second from their ends: what the first read last is
// still in the cache.
struct Cut {
  bool last;
  int pack = 1, unroll = 4;
  int64_t count, n, channels, positions = 0;
  DType data, statistics;
  Walk walk{};

  Cut(const Sig& x, const std::vector<int64_t>& axis, Accelerator* on, int streams)
      : data(x.dtype), statistics(statistics_dtype(x.dtype)) {
    const ChannelLayout l = channel_layout(x, axis);
    count = x.shape.count(), channels = l.channels.count(), n = l.n;
    last = l.inner == 1;
    const int64_t along = last ? channels : l.inner, most = 16 / size_of(x.dtype);
    while (pack * 2 <= most && along % (pack * 2) == 0) pack *= 2;
    // Values of one tensor in registers: 32, fewer where there are several tensors.
    unroll = std::clamp(32 / pack / (streams > 1 ? 2 : 1), 1, 8);
    if (!count) return;
    positions = last ? l.outer : l.outer * (l.inner / pack);
    const int64_t packs = last ? channels / pack : 1;
    walk.positions = positions, walk.channels = channels, walk.plane = last ? 1 : l.inner / pack;
    walk.lanes = 1;
    while (last && walk.lanes < 32 && walk.lanes < packs) walk.lanes *= 2;
    walk.channel_blocks = int(last ? (packs + walk.lanes - 1) / walk.lanes : channels);
    // What is small is spread over more threads instead.
    const int64_t least = gpu::gpu_of(on).processors() * 2 / walk.channel_blocks;
    while (unroll > 1 && positions / step() < least) unroll /= 2;
    divide(gpu::gpu_of(on).processors() * 2);
  }
  int64_t step() const { return int64_t(unroll) * (kThreads / walk.lanes); }
  // Into chunks for so many blocks.
  void divide(int64_t blocks) {
    if (!count || !blocks) return;
    walk.groups = positions / step();
    const int64_t wanted = std::max<int64_t>(1, blocks / std::max(walk.channel_blocks, 1));
    walk.chunks = int(std::clamp<int64_t>(walk.groups, 1, wanted));
  }
  int64_t blocks() const { return int64_t(walk.chunks) * walk.channel_blocks; }
  int64_t partial_bytes() const {
    return count && walk.chunks > 1 ? 2 * walk.chunks * channels * size_of(statistics) : 0;
  }
  Defines defines(const BatchNormAttrs& a) const {
    return {{"T", gpu_type(data)},
            {"P", gpu_type(statistics)},
            {"N", std::to_string(pack)},
            {"U", std::to_string(unroll)},
            // Of 16-bit data more is on its way anyway, and registers are short.
            {"AHEAD", size_of(data) > 2 ? "1" : "0"},
            {"LAST", last ? "1" : "0"},
            {"RELU", a.activation == "relu" ? "1" : "0"},
            {"RESIDUAL", a.residual ? "1" : "0"},
            {"GAMMA", a.scale ? "1" : "0"},
            {"BETA", a.center ? "1" : "0"}};
  }
  Launcher kernel(Accelerator* on, const std::string& name, const BatchNormAttrs& a) const {
    return count ? Launcher(on, "ops/batch_norm.gpu.h", name, defines(a)) : Launcher();
  }
  Grid grid(int64_t local = 0) const { return {blocks(), kThreads, local}; }
  Grid statistics_grid() const { return grid(kThreads * 3 * size_of(statistics)); }
  Grid sums_grid() const { return grid(kThreads * 2 * size_of(statistics)); }
  Grid merge_grid(int64_t local_each) const {
    return {(channels + 31) / 32, kMergeThreads, kMergeThreads * local_each};
  }
};

std::string plain(const CallSig& c, const std::vector<int64_t>& axis, bool weighted,
                  int64_t ghosts) {
  if (weighted) return "there are weights";
  if (ghosts) return "there are ghost batches";
  const Sig& x = c.in[0];
  if (!channel_layout(x, axis).blocked) return "the channels are not neighbours";
  if (x.shape.count() / 4 > (int64_t(1) << 31)) return "more than 2^33 elements";
  for (size_t i = 1; i < c.in.size(); ++i)
    if (c.in[i].shape.count() != x.shape.count() && c.in[i].shape.rank() &&
        c.in[i].dtype != statistics_dtype(x.dtype))
      return "what belongs to channels is not of the type of the statistics";
  return {};
}
std::string declines(const CallSig& c, const BatchNormAttrs& a) {
  return plain(c, a.axis, a.weighted, a.virtual_batch_size);
}

void* at(const Call& c, int i) { return i < 0 ? nullptr : c.in[size_t(i)].data; }
void zero(const Call& c) {
  for (auto& v : c.out)
    if (const int64_t bytes = v.sig->bytes()) gpu::gpu_of(c.on).zero(v.data, bytes);
}

// Statistics of x into n, mean and M2.
struct StatisticsPass {
  Cut cut;
  Launcher statistics, merge;
  StatisticsPass(const Cut& c, Accelerator* on, const BatchNormAttrs& a)
      : cut(c), statistics(c.kernel(on, "statistics", a)), merge(c.kernel(on, "merge_chunks", a)) {
    cut.divide(statistics.resident(on, cut.statistics_grid()));
  }
  void operator()(Accelerator* on, const void* x, void* scratch, void* n, void* mean,
                  void* m2) const {
    const int64_t size = size_of(cut.statistics);
    void* part_m2 = static_cast<char*>(scratch) + cut.walk.chunks * cut.channels * size;
    statistics(on, cut.statistics_grid(), x, scratch, part_m2, n, mean, m2, cut.walk);
    if (cut.walk.chunks > 1)
      merge(on, cut.merge_grid(24), x, scratch, part_m2, n, mean, m2, cut.step(), cut.walk);
  }
};

struct Backward {
  Cut cut, second;
  double epsilon;
  bool hands_over;  // the first pass writes the residual's gradient, from which the second goes on
  Launcher sums, merge, dx;
  Backward(const Cut& c, Accelerator* on, const BatchNormAttrs& a, bool with_sums, bool with_dx)
      : cut(c),
        second(c),
        epsilon(a.epsilon),
        hands_over(with_sums && with_dx && a.residual && a.activation == "relu") {
    if (with_sums) sums = c.kernel(on, "backward_sums", a), merge = c.kernel(on, "merge_sums", a);
    BatchNormAttrs rest = a;
    if (hands_over) rest.residual = false, rest.activation = "linear";
    if (with_dx) dx = c.kernel(on, "dx", rest);
    cut.divide(sums.resident(on, cut.sums_grid()));
    second.divide(dx.resident(on, second.grid()) * (with_sums ? 1 : kRounds));
  }
  // Room for the sums of chunks; even one chunk's are merged, which makes dgamma and dbeta.
  int64_t partial_bytes() const {
    return cut.count ? 2 * cut.walk.chunks * cut.channels * size_of(cut.statistics) : 0;
  }
  void run_sums(const Call& c, const BatchNormPlaces& p, const void* n, const void* mean,
                const void* m2, void* scratch, void* sum_g, void* sum_gx, void* dgamma, void* dbeta,
                void* passed_on) const {
    const int64_t size = size_of(cut.statistics);
    void* part_gx = static_cast<char*>(scratch) + cut.walk.chunks * cut.channels * size;
    sums(c.on, cut.sums_grid(), c.in[0].data, c.in[1].data, at(c, p.residual), n, mean, m2,
         at(c, p.gamma), at(c, p.beta), scratch, part_gx, passed_on, epsilon, cut.walk);
    merge(c.on, cut.merge_grid(16), scratch, part_gx, n, m2, sum_g, sum_gx, dgamma, dbeta, epsilon,
          cut.walk);
  }
  void run_dx(const Call& c, const BatchNormPlaces& p, const void* grad, const void* n,
              const void* mean, const void* n_of_m2, const void* m2, const void* sum_g,
              const void* sum_gx, void* out, void* out_residual) const {
    dx(c.on, second.grid(), c.in[0].data, grad, at(c, p.residual), n, mean, n_of_m2, m2,
       at(c, p.gamma), at(c, p.beta), sum_g, sum_gx, out, out_residual, epsilon, second.walk);
  }
};
int streams(const BatchNormAttrs& a, bool backward) { return 1 + a.residual + backward; }
constexpr const void* kNone = nullptr;
}  // namespace

GPU_KERNEL(batch_norm_statistics, StatisticsAttrs, walk) {
  return {.declines = [](const CallSig& c, const StatisticsAttrs& a) -> std::string {
            if (a.wide && c.in[0].dtype != DType::f64) return "mean and M2 in f64";
            return plain(c, a.axis, a.weighted, a.virtual_batch_size);
          },
          .prepare = [](const CallSig& s, const StatisticsAttrs& a) -> Prepared {
            const Cut cut(s.in[0], a.axis, s.on, 1);
            const StatisticsPass pass(cut, s.on, {});
            return {[pass](const Call& c) {
                      if (!pass.cut.count) return zero(c);
                      pass(c.on, c.in[0].data, c.scratch, c.out[0].data, c.out[1].data,
                           c.out[2].data);
                    },
                    pass.cut.partial_bytes()};
          }};
}

GPU_KERNEL(batch_normalize, BatchNormAttrs, walk) {
  return {
      .declines = declines, .prepare = [](const CallSig& s, const BatchNormAttrs& a) -> Prepared {
        Cut cut(s.in[0], a.axis, s.on, streams(a, false));
        const Launcher normalize = cut.kernel(s.on, "normalize", a);
        cut.divide(normalize.resident(s.on, cut.grid()) * kRounds);
        return {[=, p = BatchNormPlaces(a, 3), epsilon = a.epsilon](const Call& c) {
          if (!cut.count) return;
          normalize(c.on, cut.grid(), c.in[0].data, at(c, p.residual), kNone, c.in[1].data,
                    c.in[2].data, at(c, p.gamma), at(c, p.beta), c.out[0].data, epsilon, cut.walk);
        }};
      }};
}

GPU_KERNEL(batch_norm, BatchNormAttrs, two_passes) {
  return {
      .declines = declines, .prepare = [](const CallSig& s, const BatchNormAttrs& a) -> Prepared {
        const Cut cut(s.in[0], a.axis, s.on, 1);
        Cut apply(s.in[0], a.axis, s.on, streams(a, false));
        const StatisticsPass pass(cut, s.on, {});
        const Launcher normalize = apply.kernel(s.on, "normalize", a);
        apply.divide(normalize.resident(s.on, apply.grid()));
        return {[=, p = BatchNormPlaces(a, 1), epsilon = a.epsilon](const Call& c) {
                  if (!cut.count) return zero(c);
                  pass(c.on, c.in[0].data, c.scratch, c.out[1].data, c.out[2].data, c.out[3].data);
                  normalize(c.on, apply.grid(), c.in[0].data, at(c, p.residual), c.out[1].data,
                            c.out[2].data, c.out[3].data, at(c, p.gamma), at(c, p.beta),
                            c.out[0].data, epsilon, apply.walk);
                },
                pass.cut.partial_bytes()};
      }};
}

GPU_KERNEL(batch_norm_backward_sums, BatchNormAttrs, walk) {
  return {.declines = declines,
          .prepare = [](const CallSig& s, const BatchNormAttrs& a) -> Prepared {
            const Cut cut(s.in[0], a.axis, s.on, streams(a, true));
            const Backward b(cut, s.on, a, true, false);
            return {[b, p = BatchNormPlaces(a, 4)](const Call& c) {
                      if (!b.cut.count) return zero(c);
                      b.run_sums(c, p, nullptr, c.in[2].data, c.in[3].data, c.scratch,
                                 c.out[0].data, c.out[1].data, nullptr, nullptr, nullptr);
                    },
                    b.partial_bytes()};
          }};
}

GPU_KERNEL(batch_norm_dx, BatchNormAttrs, walk) {
  return {
      .declines = declines, .prepare = [](const CallSig& s, const BatchNormAttrs& a) -> Prepared {
        const Cut cut(s.in[0], a.axis, s.on, streams(a, true));
        const Backward b(cut, s.on, a, false, true);
        return {[b, p = BatchNormPlaces(a, 7), residual = a.residual](const Call& c) {
          if (!b.cut.count) return;
          b.run_dx(c, p, c.in[1].data, c.in[2].data, c.in[3].data, nullptr, c.in[4].data,
                   c.in[5].data, c.in[6].data, c.out[0].data, residual ? c.out[1].data : nullptr);
        }};
      }};
}

GPU_KERNEL(batch_norm_grad, BatchNormAttrs, two_passes) {
  return {
      .declines = declines, .prepare = [](const CallSig& s, const BatchNormAttrs& a) -> Prepared {
        const Cut cut(s.in[0], a.axis, s.on, streams(a, true));
        const Backward b(cut, s.on, a, true, true);
        const int64_t part = b.partial_bytes(), size = cut.channels * size_of(cut.statistics);
        return {[=, p = BatchNormPlaces(a, 5), attrs = a](const Call& c) {
                  if (!cut.count) return zero(c);
                  char* sum_g = static_cast<char*>(c.scratch) + part;
                  char* sum_gx = sum_g + size;
                  size_t next = 1;
                  void* dgamma = attrs.scale ? c.out[next++].data : nullptr;
                  void* dbeta = attrs.center ? c.out[next++].data : nullptr;
                  void* other = attrs.residual ? c.out[next].data : nullptr;
                  b.run_sums(c, p, c.in[2].data, c.in[3].data, c.in[4].data, c.scratch, sum_g,
                             sum_gx, dgamma, dbeta, other);
                  b.run_dx(c, p, b.hands_over ? other : c.in[1].data, c.in[2].data, c.in[3].data,
                           c.in[2].data, c.in[4].data, sum_g, sum_gx, c.out[0].data, other);
                },
                part + 2 * size};
      }};
}

}  // namespace evenflow
