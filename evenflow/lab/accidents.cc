// SPDX-License-Identifier: Apache-2.0
// R8: the classical accidents of moving statistics, and what they leave behind here.
#include <algorithm>
#include <cstring>

#include "evenflow/graph/compile.h"
#include "evenflow/lab/bench.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/shape.h"
#include "evenflow/train/memory.h"
#include "evenflow/train/train.h"

namespace evenflow::lab {
namespace {
std::vector<std::string> bits_of(const Model& m, bool counts = true) {
  std::vector<std::string> all;
  auto add = [&](const Variable& v) {
    const Tensor t = v.read();
    all.emplace_back(static_cast<const char*>(t.data()), size_t(t.sig().bytes()));
  };
  for (auto& l : m.impl().leaves()) {
    for (auto& w : l.layer->weights) add(w.variable);
    for (auto& w : l.layer->extra_state())
      if (counts && w.name != "rejected_count") add(w.variable);
  }
  return all;
}
BatchNormalization first_norm(const Model& m) {
  for (auto& l : m.layers())
    if (l.impl()->class_name() == "BatchNormalization") {
      BatchNormalization b;
      static_cast<Layer&>(b) = l;
      return b;
    }
  fail(Code::Internal, {"R8: there is no batch normalisation"});
}
double largest(const Tensor& a, const Tensor& b) {
  const auto x = a.to_vector<double>(), y = b.to_vector<double>();
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i)
    worst = std::max(worst, std::abs(x[i] - y[i]) / std::max(1e-3, std::abs(y[i])));
  return worst;
}
Net normed(std::vector<int64_t> hidden = {32}) {
  Net net;
  net.norm = Net::batch;
  net.hidden = std::move(hidden);
  return net;
}
// Of a step's values, as the plan lays them out.
int64_t arena_bytes(const Model& m, int64_t batch, Activations choice) {
  for (auto& use : training_memory(m, batch))
    if (use.choice == choice) return use.arena_bytes;
  fail(Code::Internal, {"R8: no memory was measured"});
}
}  // namespace

Outcome run_r8(Bench& bench) {
  Outcome o{"R8", "Accidents that leave no trace"};
  const int64_t size = std::min<int64_t>(64, bench.options.train.size() / 2 * 2);
  const Dataset data = bench.train_batches(size, bench.options.seed);
  const int64_t batches = std::min<int64_t>(8, data.batches());
  auto fresh = [&](const char* policy = "float32", const Net& net = normed(),
                   Activations activations = Activations::automatic) {
    const std::string before = dtype_policy();
    set_dtype_policy(policy);
    Sequential m = net.make(bench.options.seed);
    set_dtype_policy(before);
    m.compile({.optimizer = SGD({.learning_rate = 0.1}),
               .loss = "sparse_categorical_crossentropy",
               .activations = activations});
    return m;
  };
  std::vector<std::vector<std::string>> rows{{"accident", "elsewhere", "here"}};
  auto judge = [&](const std::string& what, const std::string& elsewhere, const std::string& here,
                   bool holds) {
    rows.push_back({what, elsewhere, here});
    o.claims.push_back({what, here, holds});
    o.data["accidents"].push_back({{"what", what}, {"seen", here}, {"holds", holds}});
  };
  // Trains on all batches; `accident` may do something before each.
  auto trained = [&](const Sequential& m,
                     const std::function<void(const Sequential&, int64_t)>& accident) {
    for (int64_t i = 0; i < batches; ++i) {
      if (accident) accident(m, i);
      const Tensors b = data.batch_at(i);
      m.train_on_batch(b[0], b[1]);
    }
    return bits_of(m);
  };
  const auto undisturbed = trained(fresh(), {});

  int64_t skipped = 0;
  const bool same = undisturbed == trained(fresh(), [&](const Sequential& m, int64_t i) {
                      if (i % 3 != 1) return;
                      const Tensors b = data.batch_at(i);
                      const Tensor bad =
                          b[0] * select(full({}, true, DType::boolean), INFINITY, 1.f);
                      skipped += m.train_on_batch(bad, b[1]).find("skipped_steps").value_or(0) > 0;
                    });
  judge("Batches with infinities among the others.",
        "NaN in the moving averages for ever (pytorch#88474)",
        concat({skipped, " steps skipped; weights, averages and counts ",
                same ? "have the bits of the training without them." : "differ."}),
        same && skipped > 0);

  const auto half = trained(fresh("mixed_float16"), {});
  skipped = 0;
  const bool same_half =
      half == trained(fresh("mixed_float16"), [&](const Sequential& m, int64_t i) {
        if (i % 3 != 1) return;
        const Tensors b = data.batch_at(i);
        skipped += m.train_on_batch(b[0] * 1e38f, b[1]).find("skipped_steps").value_or(0) > 0;
      });
  judge("Batches that overflow float16.",
        "the loss scaler skips weights, not statistics (pytorch#115500)",
        concat({skipped, " steps skipped; ", same_half ? "the same bits." : "the bits differ."}),
        same_half && skipped > 0);

  // Two halves of a batch, pooled, against the batch.
  auto forward = [](const Model& m, CompileOptions options) {
    return compile([m](const Tensor& x) { return m(x, {.training = true}); }, options);
  };
  const Tensor x = data.batch_at(0)[0];
  std::vector<int64_t> start(size_t(x.rank()), 0), rows_of(start.size(), -1);
  rows_of[0] = size / 2;
  const Tensor first = slice(x, start, rows_of);
  start[0] = size / 2;
  const Tensor second = slice(x, start, rows_of);
  const Sequential whole = fresh(), accumulated = fresh(), twice = fresh();
  for (auto* m : {&whole, &accumulated, &twice}) (*m)(x);
  forward(whole, {})(x);
  {
    auto f = forward(accumulated, {.micro_batches = 2});
    f(first), f(second);
  }
  compile([m = twice](const Tensor& a, const Tensor& b) {
    return m(a, {.training = true}) + m(b, {.training = true});
  })(first, second);
  auto compare = [&](const Sequential& m, const std::string& what, const std::string& elsewhere) {
    const auto &a = first_norm(m).impl(), &b = first_norm(whole).impl();
    const double updates = a.update_count.read().item(),
                 off = std::max(largest(a.moving_mean, b.moving_mean),
                                largest(a.moving_variance, b.moving_variance));
    judge(what, elsewhere,
          concat({updates, updates == 1 ? " update" : " updates",
                  " of the averages; they differ from those of the whole batch by ", number(off),
                  " of their size."}),
          updates == 1 && off < 1e-5);
  };
  compare(accumulated, "Gradient accumulation: a batch in two halves.",
          "one update for each half (keras#16633)");
  compare(twice, "Two calls in one step, as in a GAN.",
          "two updates; in PyTorch an error with DDP (pytorch#175024)");

  // Normalised a second time for the backward pass, against kept; layers enough for that to show.
  {
    const Net deep = normed(std::vector<int64_t>(8, 64));
    const Sequential kept = fresh("float32", deep, Activations::keep),
                     again = fresh("float32", deep, Activations::recompute);
    trained(kept, {}), trained(again, {});
    const int64_t bytes = arena_bytes(kept, size, Activations::keep),
                  fewer = arena_bytes(kept, size, Activations::recompute);
    const auto &a = first_norm(again).impl(), &b = first_norm(kept).impl();
    const double updates = a.update_count.read().item(),
                 off = std::max(largest(a.moving_mean, b.moving_mean),
                                largest(a.moving_variance, b.moving_variance));
    judge("Recomputed activations.", "averages updated again in the backward pass (pytorch#96136)",
          concat({updates, " updates of the averages in ", batches, " steps of ", fewer / 1024,
                  " KiB instead of ", bytes / 1024,
                  "; they differ from those of kept activations by ", number(off),
                  " of their size."}),
          updates == double(batches) && off < 1e-4 && fewer < bytes);
  }

  // Reading the model in between: evaluation does not touch the statistics.
  const bool looked = undisturbed == trained(fresh(), [&](const Sequential& m, int64_t i) {
                        if (i)
                          m.predict(data.batch_at(0)[0]),
                              m.evaluate(data.batch_at(1)[0], data.batch_at(1)[1], {});
                      });
  judge("Predictions and evaluations between the steps.", "a forgotten mode updates statistics",
        looked ? "The same bits." : "The bits differ.", looked);

  o.show = [=](Report& page) {
    page.section(o.title,
                 concat({"A small net is trained on ", batches, " batches of ", size,
                         " samples, with and without an accident. A step either commits everything "
                         "that it proposes, weights and statistics, or nothing."}));
    page.table(rows);
  };
  return o;
}

}  // namespace evenflow::lab
