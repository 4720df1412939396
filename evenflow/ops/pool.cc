// SPDX-License-Identifier: Apache-2.0
// Merging by Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample
// variances" (1979).
#include "evenflow/ops/pool.h"

#include <algorithm>
#include <cstring>

#include "evenflow/core/communicator.h"
#include "evenflow/graph/op.h"
#include "evenflow/graph/transaction.h"

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
      .loop =
          [](const Call& c, const PoolAttrs& a) {
            Communicator* group = Communicator::current();
            const int ranks = group ? group->size() : 1;
            std::vector<std::vector<char>> all;  // of each part: its bytes on every rank
            for (auto& v : c.in) {
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
              if (c.out[i].count())
                std::memcpy(c.out[i].data, of_rank(i, 0), size_t(c.out[i].sig->bytes()));
              if (i) mine.push_back(c.out[i].data), sigs.push_back(*c.out[i].sig);
            }
            for (int r = 1; r < ranks; ++r) {
              std::vector<const void*> other;
              for (size_t i = 1; i < c.out.size(); ++i) other.push_back(of_rank(i, r));
              merge_into(c.out[0].as(), mine, static_cast<const float*>(of_rank(0, r)), other, sigs,
                         a.kind == "statistics", c.out[0].as());
            }
          },
      .no_gradient = "what is pooled is state, not a path of differentiation",
      .traits = {.variadic = true, .random = true},
      .cases = {{"alone", {values({}, {3}).of(DType::f32), {4}}},
                {"statistics",
                 {values({}, {3}).of(DType::f32), {4}, uniform({4}, 0, 9)},
                 {"statistics"}}}};
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
