// SPDX-License-Identifier: Apache-2.0
// Merging by Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample
// variances" (1979).
#include "evenflow/ops/pool.h"

#include <algorithm>
#include <cstring>

#include "evenflow/core/communicator.h"
#include "evenflow/graph/op.h"
#include "evenflow/graph/transaction.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"

namespace evenflow {
namespace {
struct PoolAttrs {
  std::string kind = "mean";
  static void fields(auto& self, auto&& field) {
    field("kind", self.kind, "\"mean\": (n, mean...) or \"statistics\": (n, mean, M2)");
  }
};
void check_parts(std::span<const Sig> parts, const PoolAttrs& a) {
  if (a.kind != "mean" && a.kind != "statistics")
    fail({"kind is \"", a.kind, "\", expected \"mean\" or \"statistics\""});
  if (a.kind == "statistics" ? parts.size() != 3 : parts.size() < 2)
    fail({parts.size(), " parts were given, expected ",
          a.kind == "statistics" ? "3 (n, mean, M2)" : "at least 2 (n, mean...)"});
  if (parts[0] != Sig{DType::f32, {}}) fail({"n is ", str(parts[0]), ", expected f32[]"});
  if (a.kind == "statistics" && parts[1] != parts[2])
    fail({"M2 is ", str(parts[2]), ", expected ", str(parts[1]), " (like mean)"});
}
template <class T>
void merge_means(T* a, const T* b, int64_t count, double wa, double wb) {
  for (int64_t j = 0; j < count; ++j) a[j] = T(a[j] + (double(b[j]) - a[j]) * wb / (wa + wb));
}
template <class T>
void merge_m2(T* m2, const T* mean, const T* m2_b, const T* mean_b, int64_t count, double wa,
              double wb) {
  for (int64_t j = 0; j < count; ++j) {
    const double d = double(mean_b[j]) - mean[j];
    m2[j] = T(double(m2[j]) + m2_b[j] + d * d * wa * wb / (wa + wb));
  }
}
// a <- a merged with b: the values behind n, of these signatures.
void merge_into(const float* na, std::span<void* const> a, const float* nb,
                std::span<const void* const> b, std::span<const Sig> sigs, bool statistics,
                float* n_out) {
  const float n = *na + *nb;
  const double wa = *na, wb = *nb;
  auto merge = [&](auto zero, size_t i, bool m2) {
    using T = decltype(zero);
    auto mine = [&](size_t k) { return static_cast<T*>(a[k]); };
    auto other = [&](size_t k) { return static_cast<const T*>(b[k]); };
    if (m2)
      merge_m2(mine(i), mine(0), other(i), other(0), sigs[i].shape.count(), wa, wb);
    else
      merge_means(mine(i), other(i), sigs[i].shape.count(), wa, wb);
  };
  if (wb != 0)
    for (size_t i = a.size(); i-- > 0;) {  // M2 before the mean that it is made with
      if (wa == 0)
        std::memcpy(a[i], b[i], size_t(sigs[i].bytes()));
      else if (sigs[i].dtype == DType::f64)
        merge(double(), i, statistics && i == 1);
      else
        merge(float(), i, statistics && i == 1);
    }
  *n_out = n;
}
// The parts of all ranks merged in rank order, into as many outputs.
void merge_ranks(const Call& c, bool statistics) {
  Communicator* group = Communicator::current();
  const int ranks = group ? group->size() : 1;
  std::vector<std::vector<char>> all;  // of each part: its bytes on every rank
  for (auto& v : c.in.first(c.out.size())) {
    const size_t bytes = size_t(v.sig->bytes());
    all.emplace_back(bytes * size_t(ranks));
    if (group)
      group->all_gather(v.data, all.back().data(), v.sig->bytes());
    else if (bytes)
      std::memcpy(all.back().data(), v.data, bytes);
  }
  auto of_rank = [&](size_t i, int r) -> const void* {
    return all[i].data() + r * c.out[i].sig->bytes();
  };
  std::vector<void*> mine;
  Sigs sigs;
  for (size_t i = 0; i < c.out.size(); ++i) {
    if (c.out[i].count()) std::memcpy(c.out[i].data, of_rank(i, 0), size_t(c.out[i].sig->bytes()));
    if (i) mine.push_back(c.out[i].data), sigs.push_back(*c.out[i].sig);
  }
  for (int r = 1; r < ranks; ++r) {
    std::vector<const void*> other;
    for (size_t i = 1; i < c.out.size(); ++i) other.push_back(of_rank(i, r));
    merge_into(c.out[0].as(), mine, static_cast<const float*>(of_rank(0, r)), other, sigs,
               statistics, c.out[0].as());
  }
}
}  // namespace

OP(merge_pooled, PoolAttrs) {
  return {
      .summary = "Merges two partial means or statistics; n = 0 is the identity",
      .doc =
          "mean: m = m_a + (m_b - m_a) n_b / n. statistics: also M2 = M2_a + M2_b + d^2 n_a n_b / "
          "n with d = mean_b - mean_a. In f64, rounded once.",
      .inputs = {{"parts", only(DType::f32) | only(DType::f64),
                  "n_a [], values of a..., n_b [], values of b..."}},
      .outputs = {{"merged", "n [], values..."}},
      .shape = [](std::span<const Sig> in, const PoolAttrs& a) -> Sigs {
        if (in.size() % 2) fail({in.size(), " inputs were given, expected an even number"});
        const auto x = in.first(in.size() / 2), y = in.subspan(in.size() / 2);
        check_parts(x, a);
        for (size_t i = 0; i < x.size(); ++i)
          if (x[i] != y[i])
            fail({"part ", i, " of b is ", str(y[i]), ", expected ", str(x[i]), " (like a)"});
        return {x.begin(), x.end()};
      },
      .loop =
          [](const Call& c, const PoolAttrs& a) {
            const size_t n = c.out.size();
            std::vector<void*> mine;
            std::vector<const void*> other;
            Sigs sigs;
            for (size_t i = 1; i < n; ++i) {
              std::memcpy(c.out[i].data, c.in[i].data, size_t(c.out[i].sig->bytes()));
              mine.push_back(c.out[i].data), other.push_back(c.in[n + i].data),
                  sigs.push_back(*c.out[i].sig);
            }
            merge_into(c.in[0].as(), mine, c.in[n].as(), other, sigs, a.kind == "statistics",
                       c.out[0].as());
          },
      .no_gradient = "what is pooled is state, not a path of differentiation",
      .traits = {.variadic = true},
      .cases = {{"mean",
                 {values({}, {3}).of(DType::f32), {4}, values({}, {5}).of(DType::f32), {4}}},
                {"statistics",
                 {values({}, {3}).of(DType::f32),
                  {4},
                  uniform({4}, 0, 9),
                  values({}, {5}).of(DType::f32),
                  {4},
                  uniform({4}, 0, 9)},
                 {"statistics"}},
                {"wide",
                 {values({}, {3}).of(DType::f32), normal({4}).of(DType::f64),
                  uniform({4}, 0, 9).of(DType::f64), values({}, {5}).of(DType::f32),
                  normal({4}).of(DType::f64), uniform({4}, 0, 9).of(DType::f64)},
                 {"statistics"}},
                {"none",
                 {values({}, {0}).of(DType::f32),
                  {4},
                  uniform({4}, 0, 9),
                  values({}, {5}).of(DType::f32),
                  {4},
                  uniform({4}, 0, 9)},
                 {"statistics"}},
                {"odd",
                 {values({}, {3}).of(DType::f32), {4}, values({}, {5}).of(DType::f32)},
                 {},
                 {.fails = "even number"}},
                {"shape",
                 {values({}, {3}).of(DType::f32), {4}, values({}, {5}).of(DType::f32), {3}},
                 {},
                 {.fails = "expected f32[4]"}}}};
}
OP(all_merge, PoolAttrs) {
  return {
      .summary =
          "Merges over the ranks of this thread's communicator, in rank order; alone: the parts",
      .inputs = {{"parts", only(DType::f32) | only(DType::f64), "n [], values..."}},
      .outputs = {{"merged", "n [], values..."}},
      .shape = [](std::span<const Sig> in, const PoolAttrs& a) -> Sigs {
        check_parts(in, a);
        return {in.begin(), in.end()};
      },
      .loop = [](const Call& c, const PoolAttrs& a) { merge_ranks(c, a.kind == "statistics"); },
      .no_gradient = "what is pooled is state, not a path of differentiation",
      .traits = {.variadic = true, .random = true},
      .cases = {{"alone", {values({}, {3}).of(DType::f32), {4}}},
                {"statistics",
                 {values({}, {3}).of(DType::f32), {4}, uniform({4}, 0, 9)},
                 {"statistics"}}}};
}
OP(all_sum, NoAttrs) {
  return {.summary = "Sum over the ranks of this thread's communicator, in rank order; alone: x",
          .inputs = {{"x", only(DType::f32) | only(DType::f64), "[...]"}},
          .outputs = {{"sum", "like x"}},
          .shape = same_as_first,
          .loop =
              [](const Call& c, const NoAttrs&) {
                visit(c.in[0].dtype(), [&](auto zero) {
                  using T = decltype(zero);
                  if constexpr (std::is_same_v<T, float> || std::is_same_v<T, double>) {
                    const size_t n = size_t(c.in[0].count());
                    Communicator* group = Communicator::current();
                    std::vector<T> all(n * size_t(group ? group->size() : 1));
                    if (group)
                      group->all_gather(c.in[0].data, all.data(), c.in[0].sig->bytes());
                    else
                      std::copy_n(c.in[0].as<T>(), n, all.data());
                    for (size_t i = 0; i < n; ++i) {
                      double sum = 0;
                      for (size_t at = i; at < all.size(); at += n) sum += all[at];
                      c.out[0].as<T>()[i] = T(sum);
                    }
                  }
                });
              },
          .gradient = [](const Tensors&, const Tensors&, const Tensors& g,
                         const NoAttrs&) -> Tensors { return {all_sum(g[0])}; },
          .traits = {.random = true},
          .cases = {{"vector", {{4}}}, {"scalar", {{}}}, {"empty", {{0, 3}}}}};
}
Tensor all_sum(In x) { return call(all_sum_op(), {std::move(x)})[0]; }
OP(synchronize_statistics, NoAttrs) {
  constexpr Types types = only(DType::f32) | only(DType::f64);
  return {
      .summary = "Statistics of all ranks together, with their gradient",
      .doc =
          "Chan's formula over the ranks. With G the sum over ranks of rows times the gradient, "
          "over the rows here, and d = mean_r - mean: dmean_r = G_mean n_r / n + 2 G_M2 n_r d, "
          "dM2_r "
          "= G_M2, dn_r = G_n + sum(G_mean d / n + G_M2 d^2).",
      .inputs = {{"n", f32_only, "[]"},
                 {"mean", types, "[...]"},
                 {"M2", types, "like mean"},
                 {"rows", f32_only, "[]: samples of this rank"}},
      .outputs = {{"n", "[]"}, {"mean", "like mean"}, {"M2", "like mean"}},
      .shape = [](std::span<const Sig> in, const NoAttrs&) -> Sigs {
        check_parts(in.first(3), {"statistics"});
        if (in[3].shape.rank()) fail({"rows is ", str(in[3]), ", expected f32[]"});
        return {in[0], in[1], in[2]};
      },
      .loop = [](const Call& c, const NoAttrs&) { merge_ranks(c, true); },
      .gradient = [](const Tensors& in, const Tensors& out, const Tensors& grad,
                     const NoAttrs&) -> Tensors {
        const DType type = in[1].dtype();
        auto or_zero = [&](size_t i) { return grad[i] ? grad[i] : fill_like(out[i], 0); };
        const Tensor rows = cast(in[3], type), n = cast(in[0], type), away = in[1] - out[1];
        auto of_all = [&](size_t i) {
          return divide_no_nan(all_sum(or_zero(i) * cast(rows, out[i].dtype())),
                               cast(rows, out[i].dtype()));
        };
        const Tensor by_m2 = of_all(2), by_mean = divide_no_nan(of_all(1), cast(out[0], type));
        return {of_all(0) + cast(reduce_sum(by_mean * away + by_m2 * square(away)), DType::f32),
                by_mean * n + 2 * by_m2 * n * away, by_m2, Tensor()};
      },
      .traits = {.random = true},
      .cases = {{"alone",
                 {values({}, {3}).of(DType::f32),
                  {4},
                  uniform({4}, 0, 9),
                  values({}, {2}).of(DType::f32)}},
                {"one_sample",
                 {values({}, {1}).of(DType::f32),
                  {2, 3},
                  values({2, 3}, std::vector<double>(6)),
                  values({}, {1}).of(DType::f32)}},
                {"shape",
                 {values({}, {3}).of(DType::f32), {4}, {3}, values({}, {2}).of(DType::f32)},
                 {},
                 {.fails = "like mean"}}}};
}

Tensor sample_count(In x) {
  std::vector<int64_t> from(size_t(x.t.rank()), 0), extent(size_t(x.t.rank()), -1);
  extent.at(0) = 1;
  return count_like(x, slice(x, from, extent));
}
bool has_ranks() {
  if (Transaction* t = Transaction::current()) t->root()->pooled = true;
  return Communicator::current();
}
Tensors synchronize_statistics(const Tensors& s, In rows) {
  if (!has_ranks()) return s;
  if (Transaction* t = Transaction::current(); t && t->root() != t)
    fail(Code::FailedPrecondition, {"synchronize_statistics: it is called in a branch or loop "
                                    "body, which not every rank may take"});
  return call(synchronize_statistics_op(), {s[0], s[1], s[2], rows});
}

Tensors pool(Pooled kind, const Tensors& given) {
  const PoolAttrs attrs{kind == Pooled::mean ? "mean" : "statistics"};
  Sigs sigs;
  for (auto& p : given) {
    if (!p) fail({"pool: a part is an empty tensor"});
    sigs.push_back(p.sig());
    if (p.dtype() != DType::f32 && p.dtype() != DType::f64)
      fail({"pool: a part is ", str(p.sig()), ", expected f32 or f64"});
  }
  check_parts(sigs, attrs);
  Tensors parts = given;
  Transaction* t = Transaction::current() ? Transaction::current()->root() : nullptr;
  const bool accumulates = t && t->tracing() && t->micro_batches > 1;
  if (t) t->pooled = true;
  if (t && t != Transaction::current() && (accumulates || Communicator::current()))
    fail(Code::FailedPrecondition, {"pool: it is called in a branch or loop body, which not every "
                                    "rank and micro-batch may take"});
  if (accumulates) {
    Tensors acc;
    std::vector<VarPtr> vars;
    for (auto& s : sigs) {
      const size_t at = t->accumulators.size() +
                        vars.size();  // a group goes on when its function is traced again
      if (at < t->earlier.size() && t->earlier[at]->sig == s)
        vars.push_back(t->earlier[at]);
      else
        vars.push_back(
            make_state(s, zeros(s.shape, s.dtype).buffer(),
                       {.name = vars.empty() ? "pooled/n" : "pooled", .commit = Commit::Run}));
      acc.push_back(placeholder(s, -1, vars.back()));
      acc.back().edge().node->scope = t->scope;
    }
    Tensors both = acc;
    both.insert(both.end(), parts.begin(), parts.end());
    Tensors sum = call(merge_pooled_op(), to_inputs(both), attrs);
    for (size_t i = 0; i < vars.size(); ++i) {
      t->propose(vars[i], sum[i]);
      t->accumulators.push_back(vars[i]);
    }
    parts = acc;  // in the program that applies the step the same leaf is the pooled value
  }
  return Communicator::current() ? call(all_merge_op(), to_inputs(parts), attrs) : parts;
}

}  // namespace evenflow
