// SPDX-License-Identifier: Apache-2.0
// What the backward pass keeps of batch norm and its activation (CompileOptions::activations).
#include <algorithm>
#include <cmath>
#include <map>

#include "evenflow/graph/pass.h"
#include "evenflow/ops/batch_norm.h"
#include "evenflow/ops/elementwise_attrs.h"

namespace evenflow {
namespace {

// A graph of a step, forward and then backward.
class Keeper {
 public:
  explicit Keeper(Graph& g) : r_(g), calls_(r_.calls()) {
    auto is_backward = [](const std::string& op) {
      return op.find("_grad") != std::string::npos || op.find("backward") != std::string::npos;
    };
    while (first_ < calls_ && !is_backward(r_.call(first_).op->name)) ++first_;
  }
  // Outputs of batch norm, and of what is cheap behind it, again where the backward pass reads
  // them.
  void recompute() {
    for (int i = 0; i < first_; ++i) {
      if (!r_.alive(i) || r_.call(i).op->name != "batch_norm") continue;
      if (!is_made_again(i)) continue;
      const int x = r_.call(i).in[0];
      r_.expand(i);
      for (int j : r_.readers(x))
        if (r_.alive(j) && r_.call(j).op->name == "batch_normalize") cheap_[r_.call(j).out[0]] = j;
    }
    for (int i = 0; i < first_; ++i) {
      if (!r_.alive(i)) continue;
      const Graph::Call& c = r_.call(i);
      if (c.op->traits.pointwise && !c.op->traits.random && c.out.size() == 1 && c.in.size() == 1 &&
          cheap_.count(c.in[0]))
        cheap_[c.out[0]] = i;
    }
    for (const auto& [value, made] : std::map<int, int>(cheap_)) {
      const std::vector<int> late = late_readers(value);
      if (late.empty() || r_.is_result(value)) continue;
      const int again = make_again(value, late[0]);
      for (int j : late) r_.reroute(j, value, again);
    }
    r_.finish();
  }
  void bitmask() {
    for (int i = first_; i < calls_; ++i) {
      if (!r_.alive(i) || r_.call(i).op->name != "relu_grad") continue;
      const Graph::Call c = r_.call(i);
      const auto& a = *static_cast<const ReluAttrs*>(c.attrs.get());
      const int y = c.in[0], made = r_.producer(y);
      if (made < 0 || made >= first_ || r_.is_result(y)) continue;
      if (a.negative_slope != 0 || a.threshold != 0 || !std::isinf(a.max_value)) continue;
      const std::vector<int> late = late_readers(y);
      if (!std::all_of(late.begin(), late.end(),
                       [&](int j) { return r_.call(j).op->name == "relu_grad"; }))
        continue;
      const int bits =
          r_.emit(find_op("positive_bits"), find_op("positive_bits").defaults, {y}, made)[0];
      r_.replace(c.out[0], r_.emit(find_op("keep_where_bit"), find_op("keep_where_bit").defaults,
                                   {bits, c.in[1]}, i)[0]);
      r_.erase(i);
    }
    r_.finish();
  }
  void in_place() {
    for (int i = first_; i < calls_; ++i)
      if (r_.alive(i) && r_.call(i).op->name == "batch_norm_grad") invert(i);
    r_.finish();
  }

 private:
  // In the backward pass, for more than its shape.
  std::vector<int> late_readers(int value) const {
    std::vector<int> late;
    for (int j : r_.readers(value)) {
      const Graph::Call& c = r_.call(j);
      if (j < first_ || j >= calls_ || !r_.alive(j)) continue;
      for (size_t k = 0; k < c.in.size(); ++k)
        if (c.in[k] == value && !(c.op->traits.shape_only >> k & 1)) {
          late.push_back(j);
          break;
        }
    }
    std::sort(late.begin(), late.end());
    return late;
  }
  bool is_made_again(int batch_norm) const {
    const auto& a = *static_cast<const BatchNormAttrs*>(r_.call(batch_norm).attrs.get());
    if (a.residual) return false;  // it would have to stay instead
    const int y = r_.call(batch_norm).out[0];
    if (!late_readers(y).empty()) return true;
    for (int j : r_.readers(y))
      if (j < first_ && r_.call(j).op->traits.pointwise && r_.call(j).in.size() == 1 &&
          !late_readers(r_.call(j).out[0]).empty())
        return true;
    return false;
  }
  int make_again(int value, int like) {
    const auto it = cheap_.find(value);
    if (it == cheap_.end()) return value;
    const Graph::Call c = r_.call(it->second);
    std::vector<int> in = c.in;
    in[0] = make_again(in[0], like);
    const int made = r_.emit(*c.op, c.attrs, std::move(in), like)[0];
    r_.graph().calls.back().again = true;
    return made;
  }
  // Slope below 0 of an activation that has an inverse; 0 for others.
  static double slope_of(const Graph::Call& c) {
    if (c.op->name == "leaky_relu")
      return static_cast<const LeakyReluAttrs*>(c.attrs.get())->negative_slope;
    if (c.op->name != "relu") return 0;
    const auto& a = *static_cast<const ReluAttrs*>(c.attrs.get());
    return a.threshold == 0 && std::isinf(a.max_value) ? a.negative_slope : 0;
  }
  void invert(int grad) {
    const int x = r_.call(grad).in[0];
    int forward = -1;
    for (int j : r_.readers(x))
      if (j < first_ && r_.alive(j) && r_.call(j).op->name == "batch_norm") forward = j;
    if (forward < 0 || late_readers(x).size() != 1 || r_.is_result(x)) return;
    const Graph::Call bn = r_.call(forward);
    BatchNormAttrs a = *static_cast<const BatchNormAttrs*>(bn.attrs.get());
    if (a.residual || a.weighted || a.virtual_batch_size || a.activation != "linear") return;
    const int z = bn.out[0];
    int y = z;
    double slope = 1;
    for (int j : r_.readers(z))
      if (j < first_ && slope_of(r_.call(j)) > 0)
        y = r_.call(j).out[0], slope = slope_of(r_.call(j));
    for (int j : late_readers(z)) {
      if (y == z) continue;
      if (r_.call(j).op->name != "relu_grad") return;  // the sign is that of y
    }
    if (late_readers(y).empty()) return;  // it would stay instead of x
    for (int j : late_readers(z))
      if (y != z) r_.reroute(j, z, y);
    int back = y;
    if (slope != 1)
      back =
          r_.emit(find_op("leaky_relu"),
                  std::make_shared<const LeakyReluAttrs>(LeakyReluAttrs{1 / slope}), {y}, grad)[0];
    const int variance = variance_of(bn, grad);
    std::vector<int> in{back, bn.out[2], variance};
    in.insert(in.end(), bn.in.begin() + 1, bn.in.end());
    const int again = r_.emit(find_op("batch_norm_invert"),
                              std::make_shared<const BatchNormAttrs>(a), std::move(in), grad)[0];
    r_.reroute(grad, x, again);
  }
  int variance_of(const Graph::Call& bn, int like) {
    return r_.emit(
        find_op("divide_no_nan"), find_op("divide_no_nan").defaults,
        {bn.out[3],
         r_.sig(bn.out[3]).dtype == DType::f32
             ? bn.out[1]
             : r_.emit(find_op("cast"), std::make_shared<const CastAttrs>(CastAttrs{DType::f64}),
                       {bn.out[1]}, like)[0]},
        like)[0];
  }

  Rewriter r_;
  const int calls_;
  int first_ = 0;             // call of the backward pass
  std::map<int, int> cheap_;  // value -> the call that makes it from what stays
};
}  // namespace

PASS(keep_activations) {
  return {.summary = "what stays of batch norm for the backward pass, as it was asked for",
          .order = 35,
          .keeps_bits = false,
          .host_only = true,
          .run = [](Graph& g, const PassOptions& o) {
            if (o.activations == Activations::recompute) Keeper(g).recompute();
            if (o.activations == Activations::bitmask) Keeper(g).bitmask();
            if (o.activations == Activations::in_place) Keeper(g).in_place();
          }};
}

}  // namespace evenflow
