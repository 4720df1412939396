// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "evenflow/backends/cpu/features.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/graph/pass.h"
#include "evenflow/graph/program.h"
#include "evenflow/ops/conv.h"
#include "evenflow/ops/winograd.h"

namespace evenflow {
namespace {

Sig f32(Shape s) { return {DType::f32, s}; }
Graph graph_of(const Sigs& in, const std::function<Tensors(const Tensors&)>& f) {
  return trace(in, f).graph;
}
std::string after_winograd(Graph g) {
  for (const NamedPass& p : all_passes())
    if (p.name == "winograd") {
      EXPECT_FALSE(p.def.keeps_bits);
      p.def.run(g, {});
    }
  return str(g);
}

TEST(WinogradPass, ForwardAndGradientsAndKernelsThatAreShared) {
  const Graph g =
      graph_of({f32({8, 16, 16, 32}), f32({3, 3, 32, 32})}, [](const Tensors& in) -> Tensors {
        const Tensor y = conv2d(conv2d(in[0], in[1], {.padding = "same"}), in[1], {});
        return gradient({y}, {y}, {in[0], in[1]});
      });
  EXPECT_EQ(str(g), R"(%2 = conv2d(%1, %0) padding="same" : f32[8,16,16,32]
%3 = conv2d(%2, %0) : f32[8,14,14,32]
%4 = conv2d_input_grad(%0, %3, %2) : f32[8,16,16,32]
%5 = conv2d_input_grad(%0, %4, %1) padding="same" : f32[8,16,16,32]
%6 = conv2d_kernel_grad(%2, %3, %0) : f32[3,3,32,32]
%7 = conv2d_kernel_grad(%1, %4, %0) padding="same" : f32[3,3,32,32]
%8 = add(%6, %7) : f32[3,3,32,32]
)");
  EXPECT_EQ(after_winograd(g), R"(%9 = winograd_kernel(%0) : f32[36,32,32]
%10 = winograd_conv2d(%1, %9) : f32[8,16,16,32]
%11 = winograd_conv2d(%10, %9) paddings=[0, 0, 0, 0] : f32[8,14,14,32]
%12 = winograd_kernel(%0) flip=true : f32[36,32,32]
%13 = winograd_conv2d(%11, %12) paddings=[2, 2, 2, 2] : f32[8,16,16,32]
%14 = winograd_conv2d(%13, %12) : f32[8,16,16,32]
%15 = winograd_conv2d_kernel_grad(%10, %11) paddings=[0, 0, 0, 0] : f32[36,32,32]
%16 = winograd_kernel_grad(%15) : f32[3,3,32,32]
%17 = winograd_conv2d_kernel_grad(%1, %13) : f32[36,32,32]
%18 = winograd_kernel_grad(%17) : f32[3,3,32,32]
%8 = add(%16, %18) : f32[3,3,32,32]
)");
}

TEST(WinogradPass, SameNumbersToItsError) {
  const Shape x = {9, 15, 14, 16}, k = {3, 3, 16, 32};
  auto noise = [](const Shape& s, double step) {
    std::vector<double> v(size_t(s.count()));
    for (size_t i = 0; i < v.size(); ++i)
      v[i] = std::sin(step * double(i + 1) * double(i % 97 + 1));
    return constant(v, s, DType::f32);
  };
  const Tensors in = {noise(x, 0.7), noise(k, 1.3)};
  for (const Conv2DAttrs& a :
       {Conv2DAttrs{}, Conv2DAttrs{.padding = "same"},
        Conv2DAttrs{.padding = "explicit", .explicit_paddings = {2, 0, 1, 2}}}) {
    const Function::Body body = [&](const Tensors& t) -> Tensors {
      const Tensor u = watch(t[0]), w = watch(t[1]), y = conv2d(u, w, a);
      Tensors r = gradient({y}, {y}, {u, w});
      r.push_back(y);
      return r;
    };
    Function with({.passes = Passes::all}), without({.passes = Passes::none});
    const Tensors got = with(in, body), want = without(in, body);
    for (size_t i = 0; i < want.size(); ++i) {
      const auto g = got[i].to_vector<double>(), w = want[i].to_vector<double>();
      double scale = 0, worst = 0;
      for (size_t j = 0; j < w.size(); ++j)
        scale += w[j] * w[j] / double(w.size()), worst = std::max(worst, std::abs(g[j] - w[j]));
      EXPECT_LT(worst, 2e-5 * std::sqrt(scale)) << i;
      EXPECT_GT(worst, 0) << "the pass did nothing";
    }
  }
}

TEST(WinogradPass, LeavesWhatIsNotForIt) {
  auto stays = [](Shape x, Shape k, Conv2DAttrs a, DType d = DType::f32) {
    const Graph g = graph_of(
        {{d, x}, {d, k}}, [&](const Tensors& in) -> Tensors { return {conv2d(in[0], in[1], a)}; });
    return after_winograd(g) == str(g);
  };
  EXPECT_FALSE(stays({8, 16, 16, 32}, {3, 3, 32, 32}, {}));
  EXPECT_FALSE(stays({8, 16, 16, 32}, {3, 3, 32, 32},
                     {.padding = "explicit", .explicit_paddings = {2, 2, 0, 2}}));
  EXPECT_TRUE(stays({8, 16, 16, 32}, {3, 3, 32, 32},
                    {.padding = "explicit", .explicit_paddings = {3, 2, 0, 2}}));
  EXPECT_TRUE(stays({8, 16, 16, 32}, {3, 3, 32, 32}, {.strides = {1, 2}}));
  EXPECT_TRUE(stays({8, 16, 16, 32}, {3, 3, 32, 32}, {.dilations = {2, 1}}));
  EXPECT_TRUE(stays({8, 16, 16, 32}, {3, 3, 16, 32}, {.groups = 2}));
  EXPECT_TRUE(stays({8, 16, 16, 32}, {3, 1, 32, 32}, {}));
  EXPECT_TRUE(stays({8, 16, 16, 3}, {3, 3, 3, 32}, {}));
  EXPECT_TRUE(stays({0, 16, 16, 32}, {3, 3, 32, 32}, {}));
  EXPECT_TRUE(stays({8, 16, 16, 32}, {3, 3, 32, 32}, {}, DType::f64));
  EXPECT_EQ(stays({8, 16, 16, 32}, {3, 3, 32, 32}, {}, DType::bf16), cpu::has_amx_bf16());
}

TEST(WinogradPass, ChoosesTheTileThatIsFaster) {
  // Measured with bench/conv_bench.cc.
  EXPECT_EQ(winograd_tile(128, 32, 32, 16, 16), 4);
  EXPECT_EQ(winograd_tile(128, 8, 8, 64, 64), 4);
  EXPECT_EQ(winograd_tile(8, 14, 14, 256, 256), 4);
  EXPECT_EQ(winograd_tile(4, 7, 7, 512, 512), 0);   // u does not fit any cache
  EXPECT_EQ(winograd_tile(128, 32, 32, 3, 16), 0);  // few channels
  EXPECT_EQ(winograd_tile(32, 2, 2, 64, 64), 2);
  EXPECT_FALSE(winograd_pays(8, 64, 32, 32, 4));
}

}  // namespace
}  // namespace evenflow
