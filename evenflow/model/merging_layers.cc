// SPDX-License-Identifier: Apache-2.0
#include "evenflow/model/merging_layers.h"

#include <algorithm>

#include "evenflow/model/layer_parts.h"
#include "evenflow/ops/matmul.h"
#include "evenflow/ops/reduce.h"

namespace evenflow {
namespace {
constexpr std::string_view merge_names[] = {"Add",     "Subtract", "Multiply",
                                            "Average", "Maximum",  "Minimum"};
template <Merge kMerge>
LayerEntry merge_entry() {
  return {merge_names[int(kMerge)].data(),
          []() -> std::shared_ptr<LayerImpl> { return std::make_shared<MergeImpl<kMerge>>(); }};
}
const LayerEntry entries[] = {merge_entry<Merge::add>(),      merge_entry<Merge::subtract>(),
                              merge_entry<Merge::multiply>(), merge_entry<Merge::average>(),
                              merge_entry<Merge::maximum>(),  merge_entry<Merge::minimum>()};
}  // namespace
LAYER(Concatenate);
LAYER(Dot);

template <Merge kMerge>
std::string_view MergeImpl<kMerge>::class_name() const {
  return merge_names[int(kMerge)];
}
template <Merge kMerge>
Dims MergeImpl<kMerge>::output_dims(const std::vector<Dims>& in) const {
  const bool two = kMerge == Merge::subtract;
  if (two ? in.size() != 2 : in.size() < 2)
    fail({class_name(), " \"", name, "\": ", in.size(), " inputs were given, expected ",
          two ? "2" : "at least 2"});
  Dims r = in[0];
  for (auto& d : in) {
    if (d.size() != r.size()) refuse("an input", d, "the rank of " + str_dims(in[0]));
    for (size_t i = 0; i < d.size(); ++i) {
      if (r[i] == d[i] || d[i] == 1) continue;
      if (r[i] == 1)
        r[i] = d[i];
      else if (r[i] < 0 || d[i] < 0)
        r[i] = std::max(r[i], d[i]);
      else
        refuse("an input", d, "extents of " + str_dims(in[0]) + " or 1");
    }
  }
  return r;
}
template <Merge kMerge>
Tensor MergeImpl<kMerge>::call(const Tensors& x, const CallContext&) {
  Tensor y = x[0];
  for (size_t i = 1; i < x.size(); ++i) {
    if (kMerge == Merge::add || kMerge == Merge::average) y = y + x[i];
    if (kMerge == Merge::subtract) y = y - x[i];
    if (kMerge == Merge::multiply) y = y * x[i];
    if (kMerge == Merge::maximum) y = maximum(y, x[i]);
    if (kMerge == Merge::minimum) y = minimum(y, x[i]);
  }
  return kMerge == Merge::average ? y / double(x.size()) : y;
}
template struct MergeImpl<Merge::add>;
template struct MergeImpl<Merge::subtract>;
template struct MergeImpl<Merge::multiply>;
template struct MergeImpl<Merge::average>;
template struct MergeImpl<Merge::maximum>;
template struct MergeImpl<Merge::minimum>;

Dims ConcatenateImpl::output_dims(const std::vector<Dims>& in) const {
  if (in.empty()) fail({"Concatenate \"", name, "\": no input was given, expected at least 1"});
  const int64_t rank = int64_t(in[0].size()),
                axis = config.axis < 0 ? config.axis + rank : config.axis;
  if (axis < 1 || axis >= rank)
    refuse("input", in[0], concat({"an axis ", config.axis, " besides the batch"}));
  Dims r = in[0];
  for (size_t k = 1; k < in.size(); ++k) {
    if (in[k].size() != r.size()) refuse("an input", in[k], "the rank of " + str_dims(in[0]));
    for (size_t i = 0; i < r.size(); ++i) {
      if (int64_t(i) == axis)
        r[i] = r[i] < 0 || in[k][i] < 0 ? -1 : checked_add(r[i], in[k][i]);
      else if (r[i] < 0)
        r[i] = in[k][i];
      else if (in[k][i] >= 0 && in[k][i] != r[i])
        refuse("an input", in[k],
               "extents of " + str_dims(in[0]) + concat({" but for axis ", config.axis}));
    }
  }
  return r;
}
Tensor ConcatenateImpl::call(const Tensors& x, const CallContext&) {
  return evenflow::concat(x, config.axis);
}

void DotImpl::check() const {
  expect(*this, config.axes.size() == 1 || config.axes.size() == 2, "axes", config.axes.size(),
         "one or two axes");
}
// Counted from the front.
int64_t DotImpl::axis(size_t input, int64_t rank) const {
  const int64_t a = config.axes[config.axes.size() == 2 ? input : 0];
  return a < 0 ? a + rank : a;
}
Dims DotImpl::output_dims(const std::vector<Dims>& in) const {
  check();
  if (in.size() != 2) fail({"Dot \"", name, "\": ", in.size(), " inputs were given, expected 2"});
  for (size_t i : {0, 1}) {
    const int64_t a = axis(i, int64_t(in[i].size()));
    if (a < 1 || a >= int64_t(in[i].size()))
      refuse("an input", in[i], concat({"an axis ", a, " besides the batch"}));
  }
  const int64_t a = axis(0, int64_t(in[0].size())), b = axis(1, int64_t(in[1].size()));
  const int64_t n = in[0][size_t(a)], m = in[1][size_t(b)];
  if (n >= 0 && m >= 0 && n != m)
    refuse("an input", in[1], concat({n, " on axis ", b, ", as the other on axis ", a}));
  Dims r = in[0];
  r.erase(r.begin() + a);
  for (size_t i = 1; i < in[1].size(); ++i)
    if (int64_t(i) != b) r.push_back(in[1][i]);
  if (r.size() > size_t(kMaxRank)) refuse("an input", in[1], "fewer extents");
  if (r.size() == 1) r.push_back(1);
  return r;
}
Tensor DotImpl::call(const Tensors& in, const CallContext&) {
  // [n, rest..., k] each, the rest one extent; then a product.
  Tensor part[2];
  std::vector<int64_t> extents{-1};
  for (size_t i : {0, 1}) {
    Tensor x = in[i];
    const int64_t a = axis(i, x.rank());
    if (config.normalize) x = x * minimum(rsqrt(reduce_sum(square(x), {a}, true)), 1e12);
    std::vector<int64_t> order;
    for (int64_t k = 0; k < x.rank(); ++k)
      if (k != a) order.push_back(k);
    order.push_back(a);
    const Shape s = in[i].sig().shape;
    int64_t rest = 1;
    for (int64_t k = 1; k < x.rank(); ++k)
      if (k != a) rest = checked_mul(rest, s[k]), extents.push_back(s[k]);
    part[i] = reshape(transpose(x, order), {-1, rest, s[a]});
  }
  if (extents.size() == 1) extents.push_back(1);
  return reshape(matmul(part[0], part[1], false, true), extents);
}

}  // namespace evenflow
