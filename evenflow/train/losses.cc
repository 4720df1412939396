// SPDX-License-Identifier: Apache-2.0
#include "evenflow/train/losses.h"

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
  return is_integer(l.dtype()) && l.dtype() != DType::u8 ? l : cast(l, DType::i64);
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
  constexpr std::string_view name = "sparse_categorical_crossentropy";
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
Loss::Loss(const std::string& name) {
  const std::string n = snake_case(name);
  if (n == "sparse_categorical_crossentropy")
    *this = SparseCategoricalCrossentropy();
  else if (n == "categorical_crossentropy")
    *this = CategoricalCrossentropy();
  else if (n == "binary_crossentropy")
    *this = BinaryCrossentropy();
  else if (n == "mean_squared_error" || n == "mse")
    *this = MeanSquaredError();
  else if (n == "mean_absolute_error" || n == "mae")
    *this = MeanAbsoluteError();
  else
    fail({"loss is \"", name,
          "\", expected sparse_categorical_crossentropy, categorical_crossentropy, "
          "binary_crossentropy, mean_squared_error or mean_absolute_error"});
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
  if (mean || !w) return reduce_mean(weighted);
  return or_zero(reduce_sum(weighted), reduce_sum(w));
}

// ---- metrics ----
Metric::Metric(const std::string& name) {
  const std::string n = snake_case(name);
  auto sparse = [](const Tensor& t, const Tensor& p) {
    return matches(cast(labels_for(t, p, "sparse_categorical_accuracy"), DType::i64),
                   argmax(p, -1));
  };
  auto categorical = [](const Tensor& t, const Tensor& p) {
    return matches(argmax(t, -1), argmax(p, -1));
  };
  auto binary = [](const Tensor& t, const Tensor& given) {
    auto [truth, p] = fitted(t, as_float(given), "binary_accuracy");
    return mean_last(matches(truth, cast(greater(p, 0.5), p.dtype())));
  };
  name_ = n;
  if (n == "accuracy" || n == "acc")
    f_ = [=](const Tensor& t, const Tensor& p) {
      const int64_t classes = p.rank() ? p.sig().shape.dim(-1) : 1;
      if (p.rank() < 2 || classes == 1) return binary(t, p);
      const bool dense = t.rank() == p.rank() && t.sig().shape.dim(-1) == classes;
      return dense ? categorical(t, p) : sparse(t, p);
    };
  else if (n == "binary_accuracy")
    f_ = binary;
  else if (n == "categorical_accuracy")
    f_ = categorical;
  else if (n == "sparse_categorical_accuracy")
    f_ = sparse;
  else if (n == "sparse_top_k_categorical_accuracy")
    f_ = [](const Tensor& t, const Tensor& p) {
      Tensor labels = cast(labels_for(t, p, "sparse_top_k_categorical_accuracy"), DType::i64);
      Tensor best = cast(top_k(p, std::min<int64_t>(5, p.sig().shape.dim(-1))).indices, DType::i64);
      return reduce_max(matches(expand_dims(labels, -1), best), {-1});
    };
  else if (n == "mse" || n == "mean_squared_error")
    f_ = [](const Tensor& t, const Tensor& p) { return MeanSquaredError().per_sample(t, p); };
  else if (n == "mae" || n == "mean_absolute_error")
    f_ = [](const Tensor& t, const Tensor& p) { return MeanAbsoluteError().per_sample(t, p); };
  else
    fail({"metric is \"", name,
          "\", expected accuracy, binary_accuracy, categorical_accuracy, "
          "sparse_categorical_accuracy, sparse_top_k_categorical_accuracy, mse or mae"});
}
Tensor Metric::values(const Tensor& t, const Tensor& p) const {
  if (!f_) fail(Code::FailedPrecondition, {"metric: it is empty"});
  return f_(t, p);
}

}  // namespace evenflow
