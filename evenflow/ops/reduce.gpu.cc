// SPDX-License-Identifier: Apache-2.0
#include "evenflow/ops/gpu_args.gpu.h"
#include "evenflow/ops/gpu_call.h"
#include "evenflow/ops/reduce_attrs.h"

namespace evenflow {
namespace {
using gpu::Grid;
using gpu::Launcher;

using gpu::Axes;

int64_t count_of(const Axes& a) {
  int64_t n = 1;
  for (int64_t d = 0; d < a.rank; ++d) n *= a.extent[d];
  return n;
}
// Kept and reduced axes of a shape; neighbours of a kind are joined.
struct Split {
  Axes kept, gone;
  Split(const Shape& s, const std::vector<bool>& reduced) {
    int64_t stride = 1;
    std::vector<std::pair<int64_t, int64_t>> axes[2];  // from the last axis on
    int previous = -1;
    for (int d = s.rank(); d--; stride *= s[d]) {
      if (s[d] == 1) continue;
      const int kind = reduced[size_t(d)];
      if (kind == previous)
        axes[kind].back().first *= s[d];
      else
        axes[kind].emplace_back(s[d], stride);
      previous = kind;
    }
    for (int kind : {0, 1}) {
      Axes& a = kind ? gone : kept;
      for (size_t i = axes[kind].size(); i--;)
        a.extent[a.rank] = axes[kind][i].first, a.stride[a.rank++] = axes[kind][i].second;
    }
    if (!gone.rank) gone.rank = 1, gone.extent[0] = 1, gone.stride[0] = 0;
  }
};

std::string lowest(DType d) {
  switch (d) {
    case DType::i32:
      return "(-2147483647LL - 1)";
    case DType::i64:
      return "(-9223372036854775807LL - 1)";
    case DType::u8:
    case DType::boolean:
      return "0";
    default:
      return "-infinity()";
  }
}
std::string highest(DType d) {
  switch (d) {
    case DType::i32:
      return "2147483647LL";
    case DType::i64:
      return "9223372036854775807LL";
    case DType::u8:
    case DType::boolean:
      return "255";
    default:
      return "infinity()";
  }
}
enum Kind { sum, mean, prod, max, min, any, all };
gpu::Defines defines(Kind kind, DType d) {
  const char* start[] = {"0", "0", "1", "", "", "0", "1"};
  const char* step[] = {"(a) + (b)",     "(a) + (b)",       "(a) * (b)",      "larger(a, b)",
                        "smaller(a, b)", "ACC((a) || (b))", "ACC((a) && (b))"};
  // Products of f32 go far below and above f32 on the way.
  const bool is_wide = d == DType::f64 || (kind == prod && is_floating(d));
  return {{"T", gpu_type(d)},
          {"TO", gpu_type(d)},
          {"ACC", is_wide          ? "double"
                  : is_floating(d) ? "float"
                                   : "int64_t"},
          {"START", "ACC(" +
                        (kind == max   ? lowest(d)
                         : kind == min ? highest(d)
                                       : start[kind]) +
                        ")"},
          {"STEP(a, b)", step[kind]},
          {"END(a, n)", kind == mean ? "((a) / ACC(n))" : "(a)"}};
}
template <class Reduced>
Prepared prepare(Kind kind, const CallSig& s, Reduced&& reduced_of) {
  const Sig x = s.in[0];
  const int64_t results = s.out[0].shape.count(), total = x.shape.count();
  const std::vector<bool> reduced = reduced_of;
  const Split split(x.shape, reduced);
  if (!results) return {[](const Call&) {}};
  const auto d = defines(kind, x.dtype);
  const int64_t acc = d[2].second == "float" ? 4 : 8;
  const int64_t count = total ? count_of(split.gone) : 0;
  const double n = double(total) / double(results);
  // Neighbouring results side by side where the last axis stays; else a block for each.
  const bool columns = split.kept.rank && split.kept.stride[split.kept.rank - 1] == 1;
  int64_t lanes = 1;
  while (columns && lanes < 32 && lanes < results) lanes *= 2;
  const int64_t groups = (results + lanes - 1) / lanes, rows = 256 / lanes;
  const int64_t wanted = int64_t(gpu::gpu_of(s.on).processors()) * 4 / groups;
  const int64_t parts = std::clamp<int64_t>(std::min(wanted, count / (rows * 16)), 1, 1024);
  const Launcher reduce(s.on, "ops/reduce.gpu.h", "reduce", d);
  const Launcher finish = parts > 1 ? Launcher(s.on, "ops/reduce.gpu.h", "finish", d) : Launcher();
  return {[=](const Call& c) {
            const Grid grid{std::min<int64_t>(groups * parts, 1 << 20), 256, 256 * acc};
            reduce(c.on, grid, c.in[0].data, c.out[0].data, c.scratch, results, count, parts, lanes,
                   n, split.kept, split.gone);
            if (parts > 1)
              finish(c.on, grid_for(c.on, results), c.scratch, c.out[0].data, results, parts, n);
          },
          parts > 1 ? parts * results * acc : 0};
}
template <Kind kKind>
KernelSheet<ReduceAttrs> sheet() {
  return {.prepare = [](const CallSig& s, const ReduceAttrs& a) -> Prepared {
    return prepare(kKind, s, reduced_axes(s.in[0].shape, a.axes));
  }};
}
}  // namespace

GPU_KERNEL(reduce_sum, ReduceAttrs, blocks) { return sheet<sum>(); }
GPU_KERNEL(reduce_mean, ReduceAttrs, blocks) { return sheet<mean>(); }
GPU_KERNEL(reduce_prod, ReduceAttrs, blocks) { return sheet<prod>(); }
GPU_KERNEL(reduce_max, ReduceAttrs, blocks) { return sheet<max>(); }
GPU_KERNEL(reduce_min, ReduceAttrs, blocks) { return sheet<min>(); }
GPU_KERNEL(reduce_any, ReduceAttrs, blocks) { return sheet<any>(); }
GPU_KERNEL(reduce_all, ReduceAttrs, blocks) { return sheet<all>(); }
GPU_KERNEL(sum_like, LikeAttrs, blocks) {
  return {.prepare = [](const CallSig& s, const LikeAttrs& a) -> Prepared {
    const bool averages = a.mean && s.in[0].shape.count();
    return prepare(averages ? mean : sum, s, broadcast_axes(s.in[0].shape, s.in[1].shape));
  }};
}
GPU_KERNEL(all_finite, NoAttrs, flag) {
  return {.prepare = [](const CallSig& s, const NoAttrs&) -> Prepared {
    std::vector<Launcher> search;
    std::vector<int64_t> counts;
    bool small = s.in.size() <= 3;
    for (auto& x : s.in) small &= x.dtype == s.in[0].dtype && x.shape.count() <= 65536;
    if (small) {
      const Launcher all(s.on, "ops/reduce.gpu.h", "all_small", defines(sum, s.in[0].dtype));
      return {[=](const Call& c) {
        const void* x[3] = {};
        int64_t n[3] = {};
        for (size_t i = 0; i < c.in.size(); ++i) x[i] = c.in[i].data, n[i] = c.in[i].count();
        all(c.on, Grid{1, 256, 16}, x[0], n[0], x[1], n[1], x[2], n[2], c.out[0].data);
      }};
    }
    for (auto& x : s.in) {
      counts.push_back(x.shape.count());
      search.emplace_back(s.on, "ops/reduce.gpu.h", "not_finite", defines(sum, x.dtype));
    }
    const Launcher judge(s.on, "ops/reduce.gpu.h", "is_zero", defines(sum, DType::f32));
    return {[=](const Call& c) {
              gpu::gpu_of(c.on).zero(c.scratch, 4);
              for (size_t i = 0; i < search.size(); ++i)
                if (counts[i])
                  search[i](c.on, grid_for(c.on, counts[i]), c.in[i].data, c.scratch, counts[i]);
              judge(c.on, Grid{1, 32, 0}, c.scratch, c.out[0].data);
            },
            4};
  }};
}

}  // namespace evenflow
