// SPDX-License-Identifier: Apache-2.0
// Batch normalisation on GPUs. Each thread keeps the channels it works for and walks over positions
// (rows of channels-last data, or packs along a plane of channels-first data), several at a time. A
// block's threads, then the blocks of a channel, are merged in a fixed order: the same bits each
// time.
//
// Definitions from outside: T the data, P the statistics, N elements of a pack, LAST 1 for channels
// last, RELU, RESIDUAL, GAMMA, BETA 0 or 1, U positions at a time, AHEAD 1 to load the next ones
// before these are used.
#pragma once
#include "evenflow/backends/gpu/shim.h"
#include "evenflow/ops/gpu_args.gpu.h"

using evenflow::gpu::Walk;

constexpr int kChannels = LAST ? N : 1;  // of a thread
constexpr int kEach = LAST ? 1 : N;      // elements of a channel in a pack
FUNCTION constexpr int channel_of(int j) { return LAST ? j : 0; }
using W = wide_t<T>;

/// This thread's part.
struct Mine {
  int64_t channel;  // the first of its channels
  int64_t chunk;
  int lane, row, rows;
  bool works;
  const Walk& w;
  FUNCTION explicit Mine(const Walk& w) : w(w) {
    lane = thread_index() % w.lanes, row = thread_index() / w.lanes, rows = threads() / w.lanes;
    channel = (block_index() % w.channel_blocks * w.lanes + lane) * kChannels;
    chunk = block_index() / w.channel_blocks;
    works = channel < w.channels;
  }
  FUNCTION int64_t address(int64_t q) const {
    if (LAST) return q * w.channels + channel;
    const uint32_t o = uint32_t(q) / uint32_t(w.plane), i = uint32_t(q) - o * uint32_t(w.plane);
    return ((int64_t(o) * w.channels + channel) * w.plane + i) * N;
  }
  /// Of the u-th of the positions that this thread takes together.
  FUNCTION int64_t address(int64_t q, int u) const {
    return LAST ? address(q) + u * (int64_t(rows) * w.channels) : address(q + int64_t(u) * rows);
  }
};
/// Positions that a chunk takes.
FUNCTION int64_t positions_of(const Walk& w, int64_t chunk, int64_t step) {
  const int64_t whole = chunk < w.groups ? (w.groups - 1 - chunk) / w.chunks + 1 : 0;
  return whole * step + (chunk == w.groups % w.chunks ? w.positions - w.groups * step : 0);
}

/// use(first position, load(first position)) for groups, the next one's load on its way;
/// one(position) for those left over. From the end to the beginning if `backwards`: what was read
/// last is still in the cache.
template <class Load, class Use, class One>
FUNCTION void walk(const Mine& m, bool backwards, Load load, Use use, One one) {
  const int64_t step = int64_t(U) * m.rows, chunks = m.w.chunks, groups = m.w.groups;
  const bool has_rest = m.chunk == groups % chunks;
  if (backwards && has_rest)
    for (int64_t q = groups * step + m.row; q < m.w.positions; q += m.rows) one(q);
  const int64_t count = m.chunk < groups ? (groups - 1 - m.chunk) / chunks + 1 : 0;
  if (count) {
    const int64_t stride = (backwards ? -chunks : chunks) * step;
    int64_t q = (m.chunk + (backwards ? (count - 1) * chunks : 0)) * step + m.row;
#if AHEAD
    auto now = load(q);
    for (int64_t k = 1; k < count; ++k, q += stride) {
      const auto next = load(q + stride);
      use(q, now);
      now = next;
    }
    use(q, now);
#else
    for (int64_t k = 0; k < count; ++k, q += stride) use(q, load(q));
#endif
  }
  if (!backwards && has_rest)
    for (int64_t q = groups * step + m.row; q < m.w.positions; q += m.rows) one(q);
}
/// The packs of a group, of up to three tensors.
struct One {
  Pack<T, N> x[U];
};
struct Two {
  Pack<T, N> x[U], r[U];
};
struct Three {
  Pack<T, N> x[U], g[U], r[U];
};

// ---- statistics: (n, mean, M2) merged by Chan's formula, of x less its first value, so that a
// large mean costs no digits
template <class S>
struct Triple {
  S n, mean, m2;
};
template <class S>
FUNCTION Triple<S> merged(Triple<S> a, Triple<S> b) {
  const S n = a.n + b.n;
  if (n == 0) return {0, 0, 0};
  const S d = b.mean - a.mean, w = b.n / n;
  return {n, a.mean + d * w, a.m2 + b.m2 + d * d * a.n * w};
}

KERNEL(statistics, const T* x, P* part_mean, P* part_m2, float* n, P* mean, P* m2, Walk w) {
  const Mine m(w);
  Triple<P> t[kChannels];
  W pivot[kChannels];
  for (int c = 0; c < kChannels; ++c) {
    t[c] = {0, 0, 0};
    pivot[c] = m.works ? wide(x[LAST ? m.channel + c : m.channel * w.plane * N]) : W(0);
  }
  if (m.works)
    walk(
        m, false,
        [&](int64_t q) {
          One v;
#pragma unroll
          for (int u = 0; u < U; ++u) v.x[u] = load_pack<N>(x + m.address(q, u));
          return v;
        },
        [&](int64_t, const One& v) {
          P d[U][N], sum[kChannels], square[kChannels];
#pragma unroll
          for (int c = 0; c < kChannels; ++c) sum[c] = square[c] = 0;
#pragma unroll
          for (int u = 0; u < U; ++u)
#pragma unroll
            for (int j = 0; j < N; ++j) {
              d[u][j] = P(wide(v.x[u].v[j]) - pivot[channel_of(j)]);
              sum[channel_of(j)] += d[u][j];
            }
#pragma unroll
          for (int c = 0; c < kChannels; ++c) sum[c] *= P(1.0 / (U * kEach));
#pragma unroll
          for (int u = 0; u < U; ++u)
#pragma unroll
            for (int j = 0; j < N; ++j) {
              const P e = d[u][j] - sum[channel_of(j)];
              square[channel_of(j)] += e * e;
            }
          const P all = t[0].n + P(U * kEach), share = P(U * kEach) / all, old = t[0].n * share;
#pragma unroll
          for (int c = 0; c < kChannels; ++c) {
            const P d = sum[c] - t[c].mean;
            t[c].n = all, t[c].mean += d * share, t[c].m2 += square[c] + d * d * old;
          }
        },
        [&](int64_t q) {
          const Pack<T, N> p = load_pack<N>(x + m.address(q));
#pragma unroll
          for (int j = 0; j < N; ++j) {
            Triple<P>& s = t[channel_of(j)];
            const P d = P(wide(p.v[j]) - pivot[channel_of(j)]) - s.mean;
            s.n += 1;
            s.mean += d / s.n;
            s.m2 += d * (P(wide(p.v[j]) - pivot[channel_of(j)]) - s.mean);
          }
        });
  Triple<P>* local = static_cast<Triple<P>*>(local_memory());
#pragma unroll
  for (int c = 0; c < kChannels; ++c)
    t[c] = reduce_rows(t[c], local, w.lanes, [](auto a, auto b) { return merged(a, b); });
  if (!m.works || m.row) return;
  for (int c = 0; c < kChannels; ++c) {
    if (w.chunks == 1) {
      mean[m.channel + c] = P(pivot[c]) + t[c].mean, m2[m.channel + c] = t[c].m2;
      if (m.channel + c == 0) *n = float(t[c].n);
    } else {
      part_mean[m.chunk * w.channels + m.channel + c] = t[c].mean;
      part_m2[m.chunk * w.channels + m.channel + c] = t[c].m2;
    }
  }
}

/// Merges chunks in f64, 32 channels a block.
KERNEL(merge_chunks, const T* x, const P* part_mean, const P* part_m2, float* n, P* mean, P* m2,
       int64_t step, Walk w) {
  const int64_t channel = block_index() * 32 + thread_index() % 32;
  const int row = thread_index() / 32, rows = threads() / 32;
  Triple<double> t{0, 0, 0};
  if (channel < w.channels)
    for (int64_t k = row; k < w.chunks; k += rows)
      t = merged(
          t, {double(positions_of(w, k, step) * kEach), double(part_mean[k * w.channels + channel]),
              double(part_m2[k * w.channels + channel])});
  t = reduce_rows(t, static_cast<Triple<double>*>(local_memory()), 32,
                  [](auto a, auto b) { return merged(a, b); });
  if (row || channel >= w.channels) return;
  mean[channel] = P(double(wide(x[LAST ? channel : channel * w.plane * N])) + t.mean);
  m2[channel] = P(t.m2);
  if (channel == 0) *n = float(t.n);
}

/// 1 / sqrt(variance + epsilon), 0 where that would be 1 / 0; without n, m2 is the variance.
FUNCTION P inverse_deviation(const float* n, const P* m2, int64_t channel, double epsilon) {
  const P count = n ? P(*n) : P(1), v = (count > 0 ? m2[channel] / count : P(0)) + P(epsilon);
  return v == 0 ? P(0) : P(1) / std::sqrt(v);
}

// ---- what normalising needs of this thread's channels
struct Affine {
  P mean[kChannels], inverse[kChannels], scale[kChannels], beta[kChannels];
  FUNCTION Affine(const Mine& m, const float* n, const P* mean_of, const P* m2, const P* gamma,
                  const P* beta_of, double epsilon) {
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      mean[c] = inverse[c] = scale[c] = beta[c] = 0;
      if (!m.works) continue;
      const int64_t at = m.channel + c;
      mean[c] = mean_of[at];
      inverse[c] = inverse_deviation(n, m2, at, epsilon);
      scale[c] = GAMMA ? inverse[c] * gamma[at] : inverse[c];
      if (BETA) beta[c] = beta_of[at];
    }
  }
  FUNCTION P y(int j, P x) const {
    return (x - mean[channel_of(j)]) * scale[channel_of(j)] + beta[channel_of(j)];
  }
};

KERNEL(normalize, const T* x, const T* residual, const float* n, const P* mean, const P* m2,
       const P* gamma, const P* beta, T* y, double epsilon, Walk w) {
  const Mine m(w);
  if (!m.works) return;
  const Affine a(m, n, mean, m2, gamma, beta, epsilon);
  auto finish = [&](int64_t at, const Pack<T, N>& p, const Pack<T, N>& r) {
    Pack<T, N> q;
#pragma unroll
    for (int j = 0; j < N; ++j) {
      P v = a.y(j, P(wide(p.v[j])));
      if (RESIDUAL) v += P(wide(r.v[j]));
      if (RELU) v = v > 0 || v != v ? v : P(0);
      q.v[j] = narrow<T>(v);
    }
    store_last(y + at, q);
  };
  walk(
      m, true,
      [&](int64_t q) {
        Two v;
#pragma unroll
        for (int u = 0; u < U; ++u) {
          v.x[u] = load_last<N>(x + m.address(q, u));
          if (RESIDUAL) v.r[u] = load_last<N>(residual + m.address(q, u));
        }
        return v;
      },
      [&](int64_t q, const Two& v) {
#pragma unroll
        for (int u = 0; u < U; ++u) finish(m.address(q, u), v.x[u], v.r[u]);
      },
      [&](int64_t q) {
        const int64_t at = m.address(q);
        Pack<T, N> r;
        if (RESIDUAL) r = load_last<N>(residual + at);
        finish(at, load_last<N>(x + at), r);
      });
}

// ---- backward
template <class S>
struct Sums {
  S g, gx;
};
template <class S>
FUNCTION Sums<S> added(Sums<S> a, Sums<S> b) {
  return {a.g + b.g, a.gx + b.gx};
}
/// The gradient that passes the activation.
FUNCTION P passed(const Affine& a, int j, P x, P g, P r) {
  if (!RELU) return g;
  P y = a.y(j, x);
  if (RESIDUAL) y += r;
  return y > 0 ? g : P(0);
}

KERNEL(backward_sums, const T* x, const T* grad, const T* residual, const float* n, const P* mean,
       const P* m2, const P* gamma, const P* beta, P* sum_g, P* sum_gx, T* passed_on,
       double epsilon, Walk w) {
  const Mine m(w);
  const Affine a(m, n, mean, m2, gamma, beta, epsilon);
  Sums<P> t[kChannels];
  for (int c = 0; c < kChannels; ++c) t[c] = {0, 0};
  // With a residual and a ReLU the gradient that passes is the residual's: it is written here, and
  // the second pass reads it in place of the gradient and the residual.
  auto add = [&](int64_t at, const Pack<T, N>& p, const Pack<T, N>& g, const Pack<T, N>& r,
                 Sums<P>* s) {
    Pack<T, N> out;
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const P v = P(wide(p.v[j]));
      const P k = passed(a, j, v, P(wide(g.v[j])), RESIDUAL && RELU ? P(wide(r.v[j])) : P(0));
      s[channel_of(j)].g += k, s[channel_of(j)].gx += k * (v - a.mean[channel_of(j)]);
      if (RESIDUAL && RELU) out.v[j] = narrow<T>(k);
    }
    if (RESIDUAL && RELU && passed_on) store_pack(passed_on + at, out);
  };
  if (m.works)
    walk(
        m, false,
        [&](int64_t q) {
          Three v;
#pragma unroll
          for (int u = 0; u < U; ++u) {
            const int64_t at = m.address(q, u);
            v.x[u] = load_pack<N>(x + at), v.g[u] = load_pack<N>(grad + at);
            if (RESIDUAL && RELU) v.r[u] = load_pack<N>(residual + at);
          }
          return v;
        },
        [&](int64_t q, const Three& v) {
          Sums<P> s[kChannels];
#pragma unroll
          for (int c = 0; c < kChannels; ++c) s[c] = {0, 0};
#pragma unroll
          for (int u = 0; u < U; ++u) add(m.address(q, u), v.x[u], v.g[u], v.r[u], s);
#pragma unroll
          for (int c = 0; c < kChannels; ++c) t[c].g += s[c].g, t[c].gx += s[c].gx;
        },
        [&](int64_t q) {
          const int64_t at = m.address(q);
          Pack<T, N> r;
          if (RESIDUAL && RELU) r = load_pack<N>(residual + at);
          add(at, load_pack<N>(x + at), load_pack<N>(grad + at), r, t);
        });
  Sums<P>* local = static_cast<Sums<P>*>(local_memory());
#pragma unroll
  for (int c = 0; c < kChannels; ++c)
    t[c] = reduce_rows(t[c], local, w.lanes, [](auto a, auto b) { return added(a, b); });
  if (!m.works || m.row) return;
  for (int c = 0; c < kChannels; ++c) {
    sum_g[m.chunk * w.channels + m.channel + c] = t[c].g;
    sum_gx[m.chunk * w.channels + m.channel + c] = t[c].gx;
  }
}

/// Adds up chunks in f64, 32 channels a block; dgamma and dbeta on the way, where they are wanted.
KERNEL(merge_sums, const P* part_g, const P* part_gx, const float* n, const P* m2, P* sum_g,
       P* sum_gx, P* dgamma, P* dbeta, double epsilon, Walk w) {
  const int64_t channel = block_index() * 32 + thread_index() % 32;
  const int row = thread_index() / 32, rows = threads() / 32;
  Sums<double> t{0, 0};
  if (channel < w.channels)
    for (int64_t k = row; k < w.chunks; k += rows)
      t.g += part_g[k * w.channels + channel], t.gx += part_gx[k * w.channels + channel];
  t = reduce_rows(t, static_cast<Sums<double>*>(local_memory()), 32,
                  [](auto a, auto b) { return added(a, b); });
  if (row || channel >= w.channels) return;
  sum_g[channel] = P(t.g), sum_gx[channel] = P(t.gx);
  if (dbeta) dbeta[channel] = P(t.g);
  if (dgamma) dgamma[channel] = P(t.gx) * inverse_deviation(n, m2, channel, epsilon);
}

KERNEL(dx, const T* x, const T* grad, const T* residual, const float* n, const P* mean,
       const float* n_of_m2, const P* m2, const P* gamma, const P* beta, const P* sum_g,
       const P* sum_gx, T* out, T* out_residual, double epsilon, Walk w) {
  const Mine m(w);
  if (!m.works) return;
  const Affine a(m, n_of_m2, mean, m2, gamma, beta, epsilon);
  P level[kChannels], slope[kChannels];
#pragma unroll
  for (int c = 0; c < kChannels; ++c) {
    const P count = P(*n), share = count > 0 ? P(1) / count : P(0);
    level[c] = sum_g[m.channel + c] * share;
    slope[c] = a.inverse[c] * a.inverse[c] * (sum_gx[m.channel + c] * share);
  }
  auto finish = [&](int64_t at, const Pack<T, N>& p, const Pack<T, N>& g, const Pack<T, N>& r) {
    Pack<T, N> q, k;
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const int c = channel_of(j);
      const P v = P(wide(p.v[j]));
      const P s = passed(a, j, v, P(wide(g.v[j])), RESIDUAL && RELU ? P(wide(r.v[j])) : P(0));
      q.v[j] = narrow<T>(a.scale[c] * (s - level[c] - (v - a.mean[c]) * slope[c]));
      if (RESIDUAL) k.v[j] = narrow<T>(s);
    }
    store_last(out + at, q);
    if (RESIDUAL) store_last(out_residual + at, k);
  };
  walk(
      m, true,
      [&](int64_t q) {
        Three v;
#pragma unroll
        for (int u = 0; u < U; ++u) {
          const int64_t at = m.address(q, u);
          v.x[u] = load_last<N>(x + at), v.g[u] = load_last<N>(grad + at);
          if (RESIDUAL && RELU) v.r[u] = load_last<N>(residual + at);
        }
        return v;
      },
      [&](int64_t q, const Three& v) {
#pragma unroll
        for (int u = 0; u < U; ++u) finish(m.address(q, u), v.x[u], v.g[u], v.r[u]);
      },
      [&](int64_t q) {
        const int64_t at = m.address(q);
        Pack<T, N> r;
        if (RESIDUAL && RELU) r = load_last<N>(residual + at);
        finish(at, load_last<N>(x + at), load_last<N>(grad + at), r);
      });
}
