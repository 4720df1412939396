// SPDX-License-Identifier: Apache-2.0
#include "evenflow/train/losses.h"

#include <algorithm>
#include <limits>

#include "evenflow/graph/node.h"
#include "evenflow/graph/op.h"
#include "evenflow/model/layer.h"
#include "evenflow/ops/activations.h"
#include "evenflow/ops/compare.h"
#include "evenflow/ops/cross_entropy.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/index.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"
#include "evenflow/ops/softmax.h"

namespace evenflow {
namespace {
constexpr double kEpsilon = 1e-7;  // Keras's backend epsilon

void check(const CrossentropyConfig& c, std::string_view name) {
  if (!(c.label_smoothing >= 0 && c.label_smoothing <= 1))
    fail({name, ": label_smoothing is ", c.label_smoothing, ", expected between 0 and 1"});
}
// What went into a softmax (over the last axis) or a sigmoid, if y is the output of one.
Tensor before(const Tensor& y, std::string_view op) {
  const Node* n = y.edge().node.get();
  if (n->op->name == "cast" && !n->in.empty()) n = n->in[0].node.get();
  if (n->op->name != op || n->in.empty()) return {};
  for (auto& v : n->op->get_attrs(n->attrs.get()))
    if (auto* axis = std::get_if<int64_t>(&v); axis && *axis != -1 && *axis != y.rank() - 1)
      return {};
  return Tensor(n->in[0]);
}
Tensor as_float(const Tensor& x) {
  return is_floating(x.dtype()) && size_of(x.dtype()) >= 4 ? x : cast(x, DType::f32);
}
Tensor clipped(const Tensor& p) { return clip(p, kEpsilon, 1 - kEpsilon); }
// Targets and predictions of one shape: Keras drops an extent of 1 at the end of the longer one, or
// gives it to a rank of 1.
struct Pair {
  Tensor truth, predicted;
};
Pair fitted(const Tensor& t, const Tensor& p, std::string_view loss) {
  Pair r{t, p};
  if (t.rank() == p.rank() + 1 && t.sig().shape.dim(-1) == 1) {
    if (p.rank() == 1)
      r.predicted = expand_dims(p, -1);
    else
      r.truth = squeeze(t, {-1});
  } else if (t.rank() + 1 == p.rank() && p.sig().shape.dim(-1) == 1) {
    if (t.rank() == 1)
      r.truth = expand_dims(t, -1);
    else
      r.predicted = squeeze(p, {-1});
  }
  bool fits = r.truth.rank() == r.predicted.rank();
  for (int i = 1; fits && i < r.truth.rank(); ++i)
    fits = r.truth.sig().shape[i] == r.predicted.sig().shape[i];
  if (!fits)
    fail({loss, ": y_true is ", str(t.sig()), ", expected the shape of y_pred ", str(p.sig())});
  r.truth = cast(r.truth, p.dtype());
  return r;
}
Tensor labels_for(const Tensor& t, const Tensor& p, std::string_view what) {
  if (p.rank() < 1)
    fail({what, ": y_pred is ", str(p.sig()), ", expected a last extent of classes"});
  Tensor l = t;
  if (l.rank() == p.rank() && l.sig().shape.dim(-1) == 1) l = squeeze(l, {-1});
  if (l.rank() != p.rank() - 1)
    fail({what, ": y_true is ", str(t.sig()), ", expected one label for each row of y_pred ",
          str(p.sig())});
  if (is_integer(l.dtype()) && l.dtype() != DType::u8) return l;
  if (is_floating(l.dtype())) l = select(equal(l, l), l, fill_like(l, -1));  // NaN is no label
  return cast(l, DType::i64);
}
// a / b, or 0 where b is 0.
Tensor or_zero(const Tensor& a, const Tensor& b) {
  const Tensor none = equal(b, 0);
  return select(none, fill_like(a, 0), a / select(none, fill_like(b, 1), b));
}
Tensor mean_last(const Tensor& x) { return x.rank() > 1 ? reduce_mean(x, {-1}) : x; }
Tensor matches(const Tensor& a, const Tensor& b) { return cast(equal(a, b), DType::f32); }
}  // namespace

Loss SparseCategoricalCrossentropy(CrossentropyConfig c) {
  static constexpr std::string_view name = "sparse_categorical_crossentropy";
  if (c.label_smoothing) fail({name, ": label_smoothing is ", c.label_smoothing, ", expected 0"});
  auto counts = [c](const Tensor& labels) { return not_equal(labels, double(*c.ignore_class)); };
  auto values = [c, counts](const Tensor& t, const Tensor& p) {
    Tensor labels = labels_for(t, p, name);
    Tensor logits = c.from_logits ? as_float(p) : before(p, "softmax");
    const Tensor scores = logits ? as_float(logits) : log(clipped(as_float(p)));
    if (!c.ignore_class) return sparse_softmax_cross_entropy(scores, labels);
    const Tensor on = counts(labels);
    return sparse_softmax_cross_entropy(scores, labels * cast(on, labels.dtype())) *
           cast(on, scores.dtype());
  };
  Loss::PerSample mask;
  if (c.ignore_class)
    mask = [counts](const Tensor& t, const Tensor& p) { return counts(labels_for(t, p, name)); };
  return Loss(std::string(name), values, c.reduction, mask);
}
Loss CategoricalCrossentropy(CrossentropyConfig c) {
  check(c, "categorical_crossentropy");
  return Loss(
      "categorical_crossentropy",
      [c](const Tensor& y, const Tensor& given) {
        auto [t, p] = fitted(y, as_float(given), "categorical_crossentropy");
        if (p.rank() < 2)
          fail({"categorical_crossentropy: y_pred is ", str(p.sig()),
                ", expected a last extent of classes"});
        if (c.label_smoothing)
          t = t * (1 - c.label_smoothing) + c.label_smoothing / double(p.sig().shape.dim(-1));
        Tensor logits = c.from_logits ? p : before(given, "softmax");
        if (logits) return softmax_cross_entropy(as_float(logits), t);
        return -reduce_sum(t * log(clipped(p / reduce_sum(p, {-1}, true))), {-1});
      },
      c.reduction);
}
Loss BinaryCrossentropy(CrossentropyConfig c) {
  check(c, "binary_crossentropy");
  return Loss(
      "binary_crossentropy",
      [c](const Tensor& y, const Tensor& given) {
        const Tensor before_sigmoid = c.from_logits ? Tensor() : before(given, "sigmoid");
        auto [t, p] =
            fitted(y, as_float(before_sigmoid ? before_sigmoid : given), "binary_crossentropy");
        if (c.label_smoothing) t = t * (1 - c.label_smoothing) + 0.5 * c.label_smoothing;
        if (c.from_logits || before_sigmoid) return mean_last(sigmoid_cross_entropy(p, t));
        Tensor q = clipped(p);
        return mean_last(-(t * log(q) + (1 - t) * log(1 - q)));
      },
      c.reduction);
}
Loss MeanSquaredError(std::string reduction) {
  return Loss(
      "mean_squared_error",
      [](const Tensor& y, const Tensor& given) {
        auto [t, p] = fitted(y, as_float(given), "mean_squared_error");
        return mean_last(square(p - t));
      },
      std::move(reduction));
}
Loss MeanAbsoluteError(std::string reduction) {
  return Loss(
      "mean_absolute_error",
      [](const Tensor& y, const Tensor& given) {
        auto [t, p] = fitted(y, as_float(given), "mean_absolute_error");
        return mean_last(abs(p - t));
      },
      std::move(reduction));
}

Loss::Loss(std::string name, PerSample f, std::string reduction, PerSample mask)
    : name_(std::move(name)),
      reduction_(std::move(reduction)),
      f_(std::move(f)),
      mask_(std::move(mask)) {
  if (reduction_ != "sum_over_batch_size" && reduction_ != "sum" &&
      reduction_ != "mean_with_sample_weight" && reduction_ != "none")
    fail({name_, ": reduction is \"", reduction_,
          "\", expected sum_over_batch_size, sum, mean_with_sample_weight or none"});
}
namespace {
struct Named {
  std::string_view name, short_name;
  Loss (*make)();
};
constexpr Named kLosses[] = {
    {"sparse_categorical_crossentropy", "", [] { return SparseCategoricalCrossentropy(); }},
    {"categorical_crossentropy", "", [] { return CategoricalCrossentropy(); }},
    {"binary_crossentropy", "", [] { return BinaryCrossentropy(); }},
    {"mean_squared_error", "mse", [] { return MeanSquaredError(); }},
    {"mean_absolute_error", "mae", [] { return MeanAbsoluteError(); }}};
bool is_loss(const std::string& n) {
  return std::any_of(std::begin(kLosses), std::end(kLosses), [&](const Named& k) {
    return n == k.name || (n == k.short_name && !n.empty());
  });
}
}  // namespace
Loss::Loss(const std::string& name) {
  const std::string n = snake_case(name);
  std::string all;
  for (const Named& k : kLosses) {
    if (n == k.name || (n == k.short_name && !n.empty())) *this = k.make();
    all += concat({all.empty() ? "" : ", ", k.name});
  }
  if (!f_) fail({"loss is \"", name.substr(0, 80), "\", expected one of ", all});
}
Tensor Loss::per_sample(const Tensor& t, const Tensor& p) const {
  if (!f_) fail(Code::FailedPrecondition, {"loss: it is empty"});
  if (!t || !p) fail({name_, ": y_true or y_pred is an empty tensor"});
  return f_(t, p);
}
Tensor Loss::operator()(const Tensor& t, const Tensor& p, const Tensor& weight) const {
  const Tensor l = per_sample(t, p);
  Tensor w;
  if (weight) {
    w = cast(weight, l.dtype());
    if (w.rank() == l.rank() + 1 && w.sig().shape.dim(-1) == 1) w = squeeze(w, {-1});
    bool fits = w.rank() == l.rank();
    for (int i = 0; fits && i < w.rank(); ++i)
      fits = w.sig().shape[i] == l.sig().shape[i] || (i && w.sig().shape[i] == 1);
    if (!fits)
      fail({name_, ": sample_weight is ", str(weight.sig()), ", expected a weight for each of ",
            str(l.sig())});
  }
  const bool mean = reduction_ == "sum_over_batch_size";
  if (mask_) {
    Tensor on = cast(mask_(t, p), l.dtype());
    if (mean) on = or_zero(on, reduce_mean(on));
    w = w ? w * on : on;
  }
  const Tensor weighted = w ? l * w : l;
  if (reduction_ == "none") return weighted;
  if (reduction_ == "sum") return reduce_sum(weighted);
  if (mean || !w) return reduce_sum(weighted) / maximum(reduce_sum(fill_like(l, 1)), 1);
  return or_zero(reduce_sum(weighted), reduce_sum(w));
}

// ---- metrics ----
namespace {
Tensor sparse_accuracy(const Tensor& t, const Tensor& p) {
  const Tensor labels = labels_for(t, p, "sparse_categorical_accuracy");
  return matches(cast(labels, DType::i64), argmax(p, -1));
}
Tensor categorical_accuracy(const Tensor& y, const Tensor& given) {
  auto [t, p] = fitted(y, as_float(given), "categorical_accuracy");
  return matches(argmax(t, -1), argmax(p, -1));
}
Tensor binary_accuracy(const Tensor& y, const Tensor& given, double threshold) {
  auto [t, p] = fitted(y, as_float(given), "binary_accuracy");
  return mean_last(matches(t, cast(greater(p, threshold), p.dtype())));
}
Tensor in_top_k(const Tensor& labels, const Tensor& given, int64_t k) {
  const Tensor p = as_float(given);
  const Tensor hot = one_hot(cast(labels, DType::i64), p.sig().shape.dim(-1), 1, 0, DType::f32);
  const double low = -std::numeric_limits<double>::infinity();
  const Tensor own = reduce_max(select(greater(hot, 0), p, fill_like(p, low)), {-1}, true);
  const Tensor above = reduce_sum(cast(greater(p, own), DType::f32), {-1});
  return cast(less(above, double(k)), DType::f32);
}
}  // namespace
Metric BinaryAccuracy(double threshold) {
  return Metric("binary_accuracy", [threshold](const Tensor& t, const Tensor& p) {
    return binary_accuracy(t, p, threshold);
  });
}
Metric TopKCategoricalAccuracy(int64_t k) {
  if (k < 1) fail({"top_k_categorical_accuracy: k is ", k, ", expected at least 1"});
  return Metric("top_k_categorical_accuracy", [k](const Tensor& y, const Tensor& given) {
    auto [t, p] = fitted(y, as_float(given), "top_k_categorical_accuracy");
    return in_top_k(argmax(t, -1), p, k);
  });
}
Metric SparseTopKCategoricalAccuracy(int64_t k) {
  if (k < 1) fail({"sparse_top_k_categorical_accuracy: k is ", k, ", expected at least 1"});
  return Metric("sparse_top_k_categorical_accuracy", [k](const Tensor& t, const Tensor& p) {
    return in_top_k(labels_for(t, p, "sparse_top_k_categorical_accuracy"), p, k);
  });
}
Metric::Metric(const std::string& name) {
  const std::string n = snake_case(name);
  if (n == "accuracy" || n == "acc") {
    *this = Metric("accuracy", [](const Tensor& t, const Tensor& p) {
      if (!p.rank() || p.sig().shape.dim(-1) == 1) return binary_accuracy(t, p, 0.5);
      const bool sparse = t.rank() < p.rank() || t.sig().shape.dim(-1) == 1;
      return sparse ? sparse_accuracy(t, p) : categorical_accuracy(t, p);
    });
  } else if (n == "binary_accuracy") {
    *this = BinaryAccuracy();
  } else if (n == "categorical_accuracy") {
    *this = Metric(n, categorical_accuracy);
  } else if (n == "sparse_categorical_accuracy") {
    *this = Metric(n, sparse_accuracy);
  } else if (n == "top_k_categorical_accuracy") {
    *this = TopKCategoricalAccuracy();
  } else if (n == "sparse_top_k_categorical_accuracy") {
    *this = SparseTopKCategoricalAccuracy();
  } else if (is_loss(n)) {
    const Loss loss(n);
    *this = Metric(n, [loss](const Tensor& t, const Tensor& p) { return loss.per_sample(t, p); });
  } else {
    fail({"metric is \"", name.substr(0, 80),
          "\", expected accuracy, binary_accuracy, categorical_accuracy, "
          "sparse_categorical_accuracy, top_k_categorical_accuracy, "
          "sparse_top_k_categorical_accuracy or the name of a loss"});
  }
  name_ = n == "acc" ? "acc" : n;
}
Tensor Metric::values(const Tensor& t, const Tensor& p) const {
  if (!f_) fail(Code::FailedPrecondition, {"metric: it is empty"});
  if (!t || !p) fail({name_, ": y_true or y_pred is an empty tensor"});
  return f_(t, p);
}

}  // namespace evenflow
