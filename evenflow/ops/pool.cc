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
// a <- a merged with b.
void merge_into(const float* na, std::span<float* const> a, const float* nb,
                std::span<const float* const> b, std::span<const int64_t> counts, bool statistics,
                float* n_out) {
  const float n = *na + *nb;
  const double wa = *na, wb = *nb;
  if (wb != 0) {
    if (wa == 0)
      for (size_t i = 0; i < a.size(); ++i) std::copy_n(b[i], counts[i], a[i]);
    else if (statistics)
      for (int64_t j = 0; j < counts[0]; ++j) {
        const double d = double(b[0][j]) - a[0][j];
        a[1][j] = float(double(a[1][j]) + b[1][j] + d * d * wa * wb / (wa + wb));
        a[0][j] = float(a[0][j] + d * wb / (wa + wb));
      }
    else
      for (size_t i = 0; i < a.size(); ++i)
        for (int64_t j = 0; j < counts[i]; ++j)
          a[i][j] = float(a[i][j] + (double(b[i][j]) - a[i][j]) * wb / (wa + wb));
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
      .inputs = {{"parts", f32_only, "n_a [], values of a..., n_b [], values of b..."}},
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
            std::vector<float*> mine;
            std::vector<const float*> other;
            std::vector<int64_t> counts;
            for (size_t i = 1; i < n; ++i) {
              std::memcpy(c.out[i].data, c.in[i].data, size_t(c.out[i].sig->bytes()));
              mine.push_back(c.out[i].as()), other.push_back(c.in[n + i].as()),
                  counts.push_back(c.out[i].count());
            }
            merge_into(c.in[0].as(), mine, c.in[n].as(), other, counts, a.kind == "statistics",
                       c.out[0].as());
          },
      .no_gradient = "what is pooled is state, not a path of differentiation",
      .traits = {.variadic = true},
      .cases =
          {{"mean", {values({}, {3}), {4}, values({}, {5}), {4}}},
           {"statistics",
            {values({}, {3}), {4}, uniform({4}, 0, 9), values({}, {5}), {4}, uniform({4}, 0, 9)},
            {"statistics"}},
           {"none",
            {values({}, {0}), {4}, uniform({4}, 0, 9), values({}, {5}), {4}, uniform({4}, 0, 9)},
            {"statistics"}},
           {"odd", {values({}, {3}), {4}, values({}, {5})}, {}, {.fails = "even number"}},
           {"shape",
            {values({}, {3}), {4}, values({}, {5}), {3}},
            {},
            {.fails = "expected f32[4]"}}}};
}
OP(all_merge, PoolAttrs) {
  return {
      .summary =
          "Merges over the ranks of this thread's communicator, in rank order; alone: the parts",
      .inputs = {{"parts", f32_only, "n [], values..."}},
      .outputs = {{"merged", "n [], values..."}},
      .shape = [](std::span<const Sig> in, const PoolAttrs& a) -> Sigs {
        check_parts(in, a);
        return {in.begin(), in.end()};
      },
      .loop =
          [](const Call& c, const PoolAttrs& a) {
            Communicator* group = Communicator::current();
            const int ranks = group ? group->size() : 1;
            std::vector<std::vector<float>> all;  // of each part: its values on every rank
            for (auto& v : c.in) {
              all.emplace_back(size_t(v.count() * ranks));
              if (group)
                group->all_gather(v.data, all.back().data(), v.sig->bytes());
              else
                std::copy_n(v.as(), v.count(), all.back().data());
            }
            std::vector<float*> mine;
            std::vector<int64_t> counts;
            for (size_t i = 0; i < c.out.size(); ++i) {
              std::copy_n(all[i].data(), c.out[i].count(), c.out[i].as());
              if (i) mine.push_back(c.out[i].as()), counts.push_back(c.out[i].count());
            }
            for (int r = 1; r < ranks; ++r) {
              std::vector<const float*> other;
              for (size_t i = 1; i < c.out.size(); ++i)
                other.push_back(all[i].data() + r * counts[i - 1]);
              merge_into(c.out[0].as(), mine, &all[0][size_t(r)], other, counts,
                         a.kind == "statistics", c.out[0].as());
            }
          },
      .no_gradient = "what is pooled is state, not a path of differentiation",
      .traits = {.variadic = true, .random = true},
      .cases = {{"alone", {values({}, {3}), {4}}},
                {"statistics", {values({}, {3}), {4}, uniform({4}, 0, 9)}, {"statistics"}}}};
}

Tensors pool(Pooled kind, const Tensors& given) {
  const PoolAttrs attrs{kind == Pooled::mean ? "mean" : "statistics"};
  Sigs sigs;
  for (auto& p : given) {
    if (!p) fail({"pool: a part is an empty tensor"});
    sigs.push_back(p.sig());
    if (p.dtype() != DType::f32) fail({"pool: a part is ", str(p.sig()), ", expected f32"});
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
            make_state(s, zeros(s.shape).buffer(),
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
