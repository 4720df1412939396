// SPDX-License-Identifier: Apache-2.0
// Fused element-wise calls against the same graph without any pass: the same bits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "evenflow/core/parallel.h"
#include "evenflow/graph/compile.h"
#include "evenflow/graph/pass.h"
#include "evenflow/graph/program.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/matmul.h"
#include "evenflow/ops/reduce.h"

namespace evenflow {
namespace {

std::string fused(const Sigs& in, const std::function<Tensors(const Tensors&)>& f) {
  Graph g = trace(in, f).graph;
  for (const NamedPass& p : all_passes())
    if (p.name == "fuse_elementwise") {
      EXPECT_TRUE(p.def.keeps_bits);
      p.def.run(g, {});
    }
  return str(g);
}
Sig f32(Shape s) { return {DType::f32, s}; }

// Adam (Kingma and Ba 2015) without its corrections.
Tensors adam(const Tensor& w, const Tensor& g, const Tensor& m, const Tensor& v) {
  const Tensor m1 = m + (g - m) * 0.1, v1 = v + (square(g) - v) * 0.001;
  return {w - m1 / (sqrt(v1) + 1e-7) * 0.01, m1, v1};
}

TEST(FuseElementwise, AnUpdateIsOneCallWithAllItsResults) {
  const Sig s = f32({200, 100});
  EXPECT_THAT(fused({s, s, s, s}, [](const Tensors& t) { return adam(t[0], t[1], t[2], t[3]); }),
              testing::MatchesRegex("%[0-9]+, %[0-9]+, %[0-9]+ = elementwise_tiles\\([^\n]*\n"));
}
TEST(FuseElementwise, LeavesWhatIsNotForIt) {
  const auto count = [](const std::string& g) {
    size_t n = 0;
    for (size_t at = 0; (at = g.find("elementwise_tiles", at)) != std::string::npos; ++at) ++n;
    return n;
  };
  auto chain = [](const Tensors& t) -> Tensors { return {sqrt(square(t[0]) + 1)}; };
  EXPECT_EQ(count(fused({f32({20000})}, chain)), 1u);
  EXPECT_EQ(count(fused({f32({2000})}, chain)), 0u);  // in the first caches anyway
  // A row that is broadcast.
  EXPECT_EQ(count(fused({f32({200, 100}), f32({100})},
                        [](const Tensors& t) -> Tensors { return {sqrt(t[0] + t[1])}; })),
            0u);
  // What another call reads stays outside.
  const std::string g = fused({f32({200, 100})}, [](const Tensors& t) -> Tensors {
    const Tensor a = square(t[0]);
    return {sqrt(a) * 2, reduce_sum(a)};
  });
  EXPECT_EQ(count(g), 1u);
  EXPECT_THAT(g, testing::HasSubstr("square("));
}

// Weights and slots are written over themselves; the last run of elements is a part of one.
TEST(FuseElementwise, TheSameBitsAsOneByOne) {
  const int before = thread_count();
  for (DType d : {DType::f32, DType::f64, DType::bf16})
    for (const Shape& s : {Shape{150, 120}, Shape{41003}}) {
      std::vector<std::vector<std::vector<double>>> all;
      for (auto [passes, threads] :
           {std::pair(Passes::none, 1), std::pair(Passes::exact, 1), std::pair(Passes::all, 3)}) {
        set_thread_count(threads);
        std::vector<double> w(size_t(s.count())), g(w.size());
        for (size_t i = 0; i < w.size(); ++i) w[i] = std::sin(double(i)), g[i] = std::cos(i * 0.7);
        const Variable weight(constant(w, s, d)), m(zeros(s, d)), v(zeros(s, d));
        auto step = compile(
            [=](const Tensor& grad) {
              const Tensors next = adam(Tensor(weight), grad, Tensor(m), Tensor(v));
              weight.assign(next[0]), m.assign(next[1]), v.assign(next[2]);
              return reduce_sum(grad);
            },
            {.passes = passes});
        for (int i = 0; i < 3; ++i) step(constant(g, s, d));
        const auto stats = step.function().stats();
        EXPECT_EQ(stats.state_in_place, 3u);
        EXPECT_EQ(stats.calls <= 2, passes != Passes::none);
        all.push_back({weight.read().to_vector<double>(), m.read().to_vector<double>(),
                       v.read().to_vector<double>()});
      }
      EXPECT_EQ(all[1], all[0]) << str(d);
      EXPECT_EQ(all[2], all[0]) << str(d);
    }
  set_thread_count(before);
}
}  // namespace
}  // namespace evenflow
