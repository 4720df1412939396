// SPDX-License-Identifier: Apache-2.0
// Channels-first nets: their transposes meet and go, what they compute stays.
#include <gtest/gtest.h>

#include <cmath>

#include "evenflow/graph/gradient.h"
#include "evenflow/graph/pass.h"
#include "evenflow/graph/program.h"
#include "evenflow/ops/activations.h"
#include "evenflow/ops/batch_norm.h"
#include "evenflow/ops/conv.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/matmul.h"
#include "evenflow/ops/pooling.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"
#include "tests/engine.h"

namespace evenflow {
namespace {
using Perm = std::vector<int64_t>;
const Perm kToLast{0, 2, 3, 1}, kToFirst{0, 3, 1, 2};
using Body = Function::Body;

std::string graph_of(const Body& f, const Sigs& in, bool sunk) {
  Program p = trace(in, f);
  for (const NamedPass& pass : all_passes())
    if (pass.name == "drop_aliases" || (sunk && pass.name == "sink_transposes"))
      pass.def.run(p.graph, {});
  return str(p.graph);
}
int transposes(const Body& f, const Sigs& in) {
  const std::string s = graph_of(f, in, true), what = "= transpose(";
  int n = 0;
  for (size_t at = s.find(what); at != s.npos; at = s.find(what, at + 1)) ++n;
  return n;
}
bool stays(const Body& f, const Sigs& in) {
  return graph_of(f, in, true) == graph_of(f, in, false);
}
// Against the references in f64.
void expect_right(const Body& f, const Tensors& in) {
  Tensors wide;
  for (auto& t : in) wide.push_back(cast(t, DType::f64));
  Function fast({.passes = Passes::all}), reference({.use_reference = true});
  const Tensors got = fast(in, f), want = reference(wide, f);
  ASSERT_EQ(got.size(), want.size());
  const double unit = in[0].dtype() == DType::f64   ? 1e-13
                      : in[0].dtype() == DType::f32 ? 1e-5
                                                    : 0.1;
  for (size_t k = 0; k < got.size(); ++k) {
    SCOPED_TRACE(k);
    ASSERT_EQ(got[k].shape(), want[k].shape());
    const auto a = got[k].to_vector<double>(), b = want[k].to_vector<double>();
    double largest = 0, worst = 0;
    for (size_t i = 0; i < a.size(); ++i)
      largest = std::max(largest, std::abs(b[i])), worst = std::max(worst, std::abs(a[i] - b[i]));
    EXPECT_GT(largest, 0);
    EXPECT_LT(worst, unit * largest) << "of " << largest;
  }
}
Tensor conv_first(const Tensor& x, const Tensor& kernel, int64_t stride = 1) {
  return transpose(
      conv2d(transpose(x, kToLast), kernel, {.strides = {stride, stride}, .padding = "same"}),
      kToFirst);
}
Tensor pool_first(const Tensor& x) {
  return transpose(max_pool2d(transpose(x, kToLast), {.pool_size = {2, 2}, .strides = {2, 2}}),
                   kToFirst);
}
Tensor draw(const Shape& s, uint64_t seed, DType t) { return cast(engine::drawn(s, seed), t); }
Tensor parameter(const Tensor& t) { return t.dtype() == DType::f64 ? t : cast(t, DType::f32); }
// A residual block and a pooling, channels first. In: x, two kernels, the shortcut's, four
// parameters of channels.
Tensor block(const Tensors& in, bool training) {
  auto norm = [&](const Tensor& x) {
    const Tensor gamma = parameter(in[4]), beta = parameter(in[5]);
    BatchNormAttrs a;
    a.axis = {1};
    if (training) return batch_norm(x, gamma, beta, a).y;
    return batch_normalize(x, parameter(in[6]), square(parameter(in[7])), gamma, beta, 1e-3, {1});
  };
  const Tensor y = relu(norm(conv_first(in[0], in[1], 2)));
  return pool_first(relu(norm(conv_first(y, in[2])) + norm(conv_first(in[0], in[3], 2))));
}
Tensors block_inputs(DType t) {
  Tensors in{draw({3, 4, 8, 8}, 1, t), draw({3, 3, 4, 6}, 2, t), draw({3, 3, 6, 6}, 3, t),
             draw({1, 1, 4, 6}, 4, t)};
  for (uint64_t k = 5; k < 9; ++k) in.push_back(draw({6}, k, t));
  return in;
}
Sigs sigs(const Tensors& in) {
  Sigs r;
  for (auto& t : in) r.push_back(t.sig());
  return r;
}

TEST(SinkTransposes, an_inference_has_them_at_its_ends_alone) {
  const Body f = [](const Tensors& in) -> Tensors { return {block(in, false)}; };
  for (const DType t : {DType::f32, DType::f64, DType::bf16, DType::f16}) {
    SCOPED_TRACE(str(t));
    const Tensors in = block_inputs(t);
    EXPECT_EQ(transposes(f, sigs(in)), 2) << graph_of(f, sigs(in), true);
    expect_right(f, in);
  }
}
TEST(SinkTransposes, a_training_step_has_them_at_its_ends_alone) {
  const Body f = [](const Tensors& in) -> Tensors {
    Tensors w;
    for (size_t k = 0; k < 6; ++k) w.push_back(watch(in[k]));
    w.insert(w.end(), in.begin() + 6, in.end());
    const Tensor pooled = reduce_mean(transpose(block(w, true), kToLast), {1, 2});
    const Tensor loss = reduce_mean(square(pooled));
    Tensors r = gradient(loss, {w[0], w[1], w[2], w[3], w[4], w[5]});
    r.push_back(loss);
    return r;
  };
  for (const DType t : {DType::f32, DType::f64}) {
    SCOPED_TRACE(str(t));
    const Tensors in = block_inputs(t);
    EXPECT_EQ(transposes(f, sigs(in)), 2) << graph_of(f, sigs(in), true);
    expect_right(f, in);
  }
}
TEST(SinkTransposes, those_that_are_not_inverse_become_one) {
  const Body f = [](const Tensors& in) -> Tensors {
    return {transpose(tanh(transpose(in[0], {2, 0, 1})) * 2, {2, 1, 0})};
  };
  const Tensors in{draw({2, 3, 4}, 9, DType::f32)};
  EXPECT_EQ(transposes(f, sigs(in)), 1);
  expect_right(f, in);
  const Body reversed = [](const Tensors& in) -> Tensors {
    return {transpose(exp(transpose(in[0])))};
  };
  EXPECT_EQ(transposes(reversed, sigs(in)), 0);
  expect_right(reversed, in);
}
TEST(SinkTransposes, a_result_in_between_is_as_it_was) {
  const Body f = [](const Tensors& in) -> Tensors {
    const Tensor y = transpose(in[0], {1, 0}), z = exp(y);
    return {y, z, transpose(z, {1, 0})};
  };
  expect_right(f, {draw({3, 4}, 10, DType::f32)});
}
TEST(SinkTransposes, what_is_seen_both_ways_stays) {
  // Moving the transpose behind tanh would leave it before the product as well.
  EXPECT_TRUE(stays(
      [](const Tensors& in) -> Tensors {
        const Tensor y = transpose(in[0], {1, 0});
        return {matmul(y, in[0]), tanh(y)};
      },
      {{DType::f32, {3, 4}}}));
  // Vectors along an axis: not one for one.
  EXPECT_TRUE(stays(
      [](const Tensors& in) -> Tensors {
        return {transpose(in[0], {1, 0}) + in[1]};
      },
      {{DType::f32, {3, 4}}, {DType::f32, {3}}}));
  // Two orders meet.
  EXPECT_TRUE(stays(
      [](const Tensors& in) -> Tensors {
        return {transpose(in[0], {1, 0, 2}) + transpose(in[1], {2, 1, 0})};
      },
      {{DType::f32, {3, 4, 5}}, {DType::f32, {5, 3, 4}}}));
}
TEST(SinkTransposes, a_norm_of_several_axes_or_of_weights_stays) {
  const Sigs x{{DType::f32, {3, 4, 5}}};
  auto normed = [](BatchNormAttrs a, const Tensor& weights) -> Body {
    return [=](const Tensors& in) -> Tensors {
      return {batch_norm(transpose(in[0], {0, 2, 1}), {}, {}, a, {}, weights).y};
    };
  };
  BatchNormAttrs one, two, ghosts;
  one.axis = {1}, two.axis = {1, 2}, ghosts.axis = {1}, ghosts.virtual_batch_size = 2;
  EXPECT_FALSE(stays(normed(one, {}), x));
  EXPECT_TRUE(stays(normed(two, {}), x));
  EXPECT_TRUE(stays(normed(ghosts, {}), x));
  EXPECT_TRUE(stays(normed(one, ones({3, 1, 1})), x));
}

}  // namespace
}  // namespace evenflow
