// SPDX-License-Identifier: Apache-2.0
// What is folded computes what the operations' references compute in f64; and what must not be
// folded stays.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "evenflow/graph/gradient.h"
#include "evenflow/graph/pass.h"
#include "evenflow/graph/program.h"
#include "evenflow/ops/activations.h"
#include "evenflow/ops/batch_norm.h"
#include "evenflow/ops/conv.h"
#include "evenflow/ops/conv_transpose.h"
#include "evenflow/ops/depthwise_conv.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/matmul.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"
#include "tests/engine.h"

namespace evenflow {
namespace {
using testing::HasSubstr;
using testing::Not;

// Weights by name: variables, or what the reference computes with.
using Weights = std::map<std::string, Tensor>;
using Net = std::function<Tensor(const Tensor& x, const Weights& w)>;

struct Vars {
  std::map<std::string, Variable> all;
  void add(const std::string& name, const Shape& s, double low = -1, double high = 1) {
    const Tensor t = engine::drawn(s, all.size() + 1) * ((high - low) / 2) + (low + high) / 2;
    all.emplace(name, Variable(t));
  }
  void add_norm(const std::string& p, int64_t channels) {
    add(p + "mean", {channels}), add(p + "variance", {channels}, .05, 2);
    add(p + "gamma", {channels}, -1.5, 1.5), add(p + "beta", {channels});
  }
  Weights read() const {
    Weights w;
    for (auto& [name, v] : all) w[name] = v.read();
    return w;
  }
  Weights values(DType type) const {
    Weights w;
    for (auto& [name, v] : all) w[name] = cast(v.read(), type);
    return w;
  }
};
Tensor norm(const Tensor& x, const Weights& w, const std::string& p = "") {
  const DType t = x.dtype() == DType::f64 ? DType::f64 : DType::f32;
  auto in = [&](const char* name) { return cast(w.at(p + name), t); };
  return batch_normalize(x, in("mean"), in("variance"), in("gamma"), in("beta"));
}
Tensor like(const Tensor& x, const Tensor& w) { return cast(w, x.dtype()); }

// The graph, and what the pass makes of it.
std::string graph_after(const Net& net, const Vars& vars, const Sig& x, bool fused = false,
                        bool sunk = false) {
  Program p = trace({x}, [&](const Tensors& in) -> Tensors { return {net(in[0], vars.read())}; });
  PassOptions options;
  for (auto& l : p.leaves) options.steady.push_back(bool(l.var));
  for (const NamedPass& pass : all_passes())
    if (pass.name == "fold_batch_norm" || (fused && pass.name == "fuse_batch_norm") ||
        (sunk && pass.name == "sink_transposes")) {
      EXPECT_FALSE(pass.def.keeps_bits);
      pass.def.run(p.graph, options);
    }
  return str(p.graph);
}
constexpr const char* kOnlyShifts = "epsilon=0 scale=false center=false";
int count(const std::string& s, const std::string& what) {
  int n = 0;
  for (size_t at = s.find(what); at != s.npos; at = s.find(what, at + 1)) ++n;
  return n;
}
Tensor run(const Net& net, const Vars& vars, const Tensor& x, Passes passes) {
  return compile([&](const Tensor& x) { return net(x, vars.read()); }, {.passes = passes})(x);
}
// Against the references in f64, by the largest value.
void expect_right(const Net& net, const Vars& vars, const Tensor& x) {
  const Weights w = vars.values(DType::f64);
  const auto want = compile([&](const Tensor& x) { return net(x, w); },
                            {.use_reference = true})(cast(x, DType::f64))
                        .to_vector<double>();
  const auto got = run(net, vars, x, Passes::all).to_vector<double>();
  ASSERT_EQ(got.size(), want.size());
  double largest = 0, worst = 0;
  for (size_t i = 0; i < want.size(); ++i)
    largest = std::max(largest, std::abs(want[i])),
    worst = std::max(worst, std::abs(got[i] - want[i]));
  const double unit = x.dtype() == DType::f64 ? 1e-15 : x.dtype() == DType::f32 ? 1e-7 : 1e-3;
  EXPECT_LT(worst, 16 * unit * largest) << "of " << largest;
  EXPECT_GT(largest, 0);
}

struct Kind {
  const char* name;
  Shape x, kernel;
  std::function<Tensor(const Tensor& x, const Tensor& k)> f;
};
std::vector<Kind> kinds() {
  std::vector<Kind> r;
  for (const std::string padding : {"valid", "same", "explicit"})
    for (int64_t groups : {1, 2}) {
      Conv2DAttrs a{.strides = {1, groups}, .padding = padding, .groups = groups};
      if (padding == "explicit") a.explicit_paddings = {1, 0, 2, 1};
      r.push_back({"conv", {3, 6, 7, 4}, {3, 3, 4 / groups, 6}, [a](auto& x, auto& k) {
                     return conv2d(x, k, a);
                   }});
    }
  for (const std::string padding : {"valid", "same"})
    for (int64_t multiplier : {1, 3})
      r.push_back({"depthwise", {2, 6, 5, 4}, {3, 2, 4, multiplier}, [padding](auto& x, auto& k) {
                     return depthwise_conv2d(x, k, {.padding = padding});
                   }});
  for (const std::string padding : {"valid", "same"})
    for (int64_t groups : {1, 2}) {
      const Conv2DTransposeAttrs a{.strides = {2, groups}, .padding = padding, .groups = groups};
      r.push_back({"spreads", {2, 4, 5, 4}, {3, 2, 6 / groups, 4}, [a](auto& x, auto& k) {
                     return conv2d_transpose(x, k, a);
                   }});
    }
  r.push_back({"dense", {5, 7}, {7, 6}, [](auto& x, auto& k) { return matmul(x, k); }});
  r.push_back({"sequence", {2, 3, 7}, {7, 6}, [](auto& x, auto& k) { return matmul(x, k); }});
  r.push_back(
      {"transposed", {5, 7}, {6, 7}, [](auto& x, auto& k) { return matmul(x, k, false, true); }});
  return r;
}

TEST(FoldBatchNorm, into_what_lies_before_it) {
  for (const Kind& kind : kinds())
    for (const bool bias : {false, true})
      for (const bool residual : {false, true})
        for (const bool rectified : {false, true})
          for (const DType type : {DType::f32, DType::f64, DType::bf16}) {
            SCOPED_TRACE(concat({kind.name, " ", str(Sig{type, kind.x}), bias ? " bias" : "",
                                 residual ? " residual" : "", rectified ? " relu" : ""}));
            const Tensor x = cast(engine::drawn(kind.x, 77), type);
            const Shape y = kind.f(x, zeros(kind.kernel, type)).shape();
            Vars v;
            v.add("kernel", kind.kernel), v.add("bias", {y.dim(-1)}), v.add_norm("", y.dim(-1));
            const Net net = [&](const Tensor& x, const Weights& w) {
              Tensor z = kind.f(x, like(x, w.at("kernel")));
              if (bias) z = z + like(x, w.at("bias"));
              if (residual) {
                // Not of z, which nobody else may read.
                z = norm(z, w);
                Tensor r = reduce_sum(x, {-1}, true);
                r = kind.x.rank() == 4 ? reduce_mean(r, {1, 2}, true) : r;
                z = z + (zeros(y, x.dtype()) + r);
              } else
                z = norm(z, w);
              return rectified ? relu(z) : z;
            };
            const std::string after = graph_after(net, v, x.sig(), true);
            EXPECT_THAT(after, HasSubstr(kOnlyShifts));
            EXPECT_EQ(count(after, "batch_normalize"), 1) << after;
            expect_right(net, v, x);
          }
}
TEST(FoldBatchNorm, into_what_lies_behind_it) {
  for (const Kind& kind : kinds())
    for (const DType type : {DType::f32, DType::f64, DType::bf16})
      for (const int next : {0, 1, 2}) {  // a ReLU, a bias, another norm
        SCOPED_TRACE(concat({kind.name, " ", str(Sig{type, kind.x}), " ", next}));
        const Tensor x = cast(engine::drawn(kind.x, 78), type);
        const Shape y = kind.f(x, zeros(kind.kernel, type)).shape();
        Vars v;
        v.add("kernel", kind.kernel), v.add("bias", {y.dim(-1)});
        v.add_norm("", kind.x.dim(-1)), v.add_norm("next_", y.dim(-1));
        const Net net = [&](const Tensor& x, const Weights& w) {
          const Tensor z = kind.f(norm(x, w), like(x, w.at("kernel")));
          return next == 0 ? relu(z) : next == 1 ? z + like(x, w.at("bias")) : norm(z, w, "next_");
        };
        const std::string before = graph_after(net, v, x.sig());
        const Tensor ones_in = ones(kind.x, DType::f64), k = ones(kind.kernel, DType::f64);
        const auto sums = kind.f(ones_in, k).to_vector<double>();
        const bool pads =
            std::any_of(sums.begin(), sums.end(), [&](double s) { return s != sums[0]; });
        // Padding is zeros behind the norm: its shift does not reach there.
        const bool grows = next == 0 && y.count() > kind.x.count();
        EXPECT_EQ(count(before, "batch_normalize"), (next == 2 ? 1 : 0) + !(next == 2 && !pads))
            << before;
        EXPECT_EQ(count(before, kOnlyShifts), pads ? next == 2 : !grows) << before;
        expect_right(net, v, x);
      }
}
TEST(FoldBatchNorm, norms_behind_one_another_become_one) {
  for (const DType type : {DType::f32, DType::f64, DType::bf16}) {
    const Tensor x = cast(engine::drawn({6, 5}, 79) * 3, type);
    Vars v;
    v.add("kernel", {5, 5}), v.add("bias", {5});
    for (const char* p : {"a_", "b_", "c_"}) v.add_norm(p, 5);
    const Net alone = [](const Tensor& x, const Weights& w) {
      return relu(norm(norm(norm(exp(x), w, "a_") + like(x, w.at("bias")), w, "b_"), w, "c_"));
    };
    EXPECT_EQ(count(graph_after(alone, v, x.sig()), "batch_normalize"), 1);
    EXPECT_THAT(graph_after(alone, v, x.sig()), Not(HasSubstr(kOnlyShifts)));
    expect_right(alone, v, x);
    const Net around = [](const Tensor& x, const Weights& w) {
      return norm(norm(matmul(norm(x, w, "a_"), like(x, w.at("kernel"))), w, "b_"), w, "c_");
    };
    EXPECT_EQ(count(graph_after(around, v, x.sig()), "batch_normalize"), 1);
    EXPECT_EQ(count(graph_after(around, v, x.sig()), kOnlyShifts), 1);
    expect_right(around, v, x);
  }
}
// As in a residual net's blocks that change the shape: the shortcut's norm is gone entirely.
TEST(FoldBatchNorm, a_shortcut_s_shift_goes_where_the_sum_is) {
  const Tensor x = engine::drawn({2, 6, 6, 4}, 80);
  Vars v;
  v.add("kernel", {3, 3, 4, 8}), v.add("short", {1, 1, 4, 8});
  v.add_norm("", 8), v.add_norm("short_", 8);
  const Net net = [](const Tensor& x, const Weights& w) {
    const Tensor y = norm(conv2d(x, w.at("kernel"), {.padding = "same"}), w);
    return relu(y + norm(conv2d(x, w.at("short")), w, "short_"));
  };
  const std::string after = graph_after(net, v, x.sig(), true);
  EXPECT_EQ(count(after, "batch_normalize"), 1) << after;
  EXPECT_THAT(after, Not(HasSubstr("f32[2,6,6,8]\n%.*add")));
  expect_right(net, v, x);
}

// As channels-first layers are: each between two transposes, batch norm of axis 1 outside of them.
TEST(FoldBatchNorm, channels_first_nets_fold_too) {
  const std::vector<int64_t> to_last{0, 2, 3, 1}, to_first{0, 3, 1, 2};
  for (const DType type : {DType::f32, DType::f64, DType::bf16})
    for (const bool bias : {false, true})
      for (const bool residual : {false, true}) {
        SCOPED_TRACE(concat({str(type), bias ? " bias" : "", residual ? " residual" : ""}));
        const Tensor x = cast(engine::drawn({2, 4, 6, 5}, 90), type);
        Vars v;
        v.add("kernel", {3, 3, 4, 4}), v.add("deep", {3, 3, 4, 1}), v.add("bias", {4});
        v.add_norm("", 4), v.add_norm("deep_", 4), v.add_norm("last_", 4);
        const Net net = [=](const Tensor& x, const Weights& w) {
          auto normed = [&](const Tensor& x, const std::string& p) {
            const DType t = x.dtype() == DType::f64 ? DType::f64 : DType::f32;
            auto in = [&](const char* name) { return cast(w.at(p + name), t); };
            return batch_normalize(x, in("mean"), in("variance"), in("gamma"), in("beta"), 1e-3,
                                   {1});
          };
          auto with_bias = [&](const Tensor& y) {
            return transpose(bias ? y + like(y, w.at("bias")) : y, to_first);
          };
          Tensor y = with_bias(
              conv2d(transpose(x, to_last), like(x, w.at("kernel")), {.padding = "same"}));
          y = relu(normed(y, ""));
          Tensor z = with_bias(
              depthwise_conv2d(transpose(y, to_last), like(x, w.at("deep")), {.padding = "same"}));
          z = normed(z, "deep_");
          // Into the convolution behind it, which does not pad.
          const Tensor u = normed(relu(residual ? z + y : z), "last_");
          return with_bias(conv2d(transpose(u, to_last), like(x, w.at("kernel"))));
        };
        const std::string after = graph_after(net, v, x.sig(), true, true);
        for (const char* perm : {"perm=[0, 2, 3, 1]", "perm=[0, 3, 1, 2]"})
          EXPECT_EQ(count(after, perm), 1) << after;
        EXPECT_EQ(count(after, "batch_normalize"), 3) << after;
        EXPECT_EQ(count(after, kOnlyShifts), 3) << after;
        expect_right(net, v, x);
      }
}

TEST(FoldBatchNorm, keeps_what_others_read_or_what_is_not_known) {
  const Sig x{DType::f32, {4, 5}};
  Vars v;
  v.add("kernel", {5, 5}), v.add_norm("", 5);
  auto stays = [&](const Net& net, DType type = DType::f32) {
    const Sig s{type, x.shape};
    const Program p =
        trace({s}, [&](const Tensors& in) -> Tensors { return {net(in[0], v.read())}; });
    return graph_after(net, v, s) == str(p.graph);
  };
  auto product = [](const Tensor& x, const Weights& w) {
    return matmul(x, like(x, w.at("kernel")));
  };
  EXPECT_FALSE(stays([&](auto& x, auto& w) { return norm(product(x, w), w); }));
  EXPECT_TRUE(stays([&](auto& x, auto& w) { return norm(product(x, w), w); }, DType::f16));
  EXPECT_TRUE(stays([&](auto& x, auto& w) {  // two readers
    const Tensor y = product(x, w);
    return norm(y, w) * exp(y);
  }));
  EXPECT_TRUE(stays([&](auto& x, auto& w) {  // the kernel depends on x
    return norm(matmul(transpose(x), x), w);
  }));
  EXPECT_TRUE(stays([&](auto& x, auto& w) {  // the batch's own mean
    const Tensor y = product(x, w);
    return batch_normalize(y, reduce_mean(x, {0}), w.at("variance"), w.at("gamma"), w.at("beta"));
  }));
  EXPECT_TRUE(stays(
      [&](auto& x, auto& w) { return batch_norm(product(x, w), w.at("gamma"), w.at("beta")).y; }));
  EXPECT_TRUE(stays([&](auto& x, auto& w) {  // a norm of rows
    return batch_normalize(matmul(x, w.at("kernel")), zeros({4}), ones({4}), {}, {}, 1e-3, {0});
  }));
  EXPECT_TRUE(stays([&](auto& x, auto& w) { return relu(norm(x, w)); }));
}
TEST(FoldBatchNorm, a_result_in_between_stays) {
  Vars v;
  v.add("kernel", {5, 5}), v.add_norm("", 5);
  const Tensor x = engine::drawn({4, 5}, 81);
  auto f = [&](Passes passes) {
    return compile(
        [&](const Tensor& x) {
          const Weights w = v.read();
          const Tensor y = matmul(x, w.at("kernel"));
          return Tensors{y, norm(y, w)};
        },
        {.passes = passes})(x);
  };
  const Tensors got = f(Passes::all), want = f(Passes::none);
  for (size_t i : {0, 1}) EXPECT_EQ(engine::bits(got[i]), engine::bits(want[i]));
}
TEST(FoldBatchNorm, a_program_that_writes_is_left_alone) {
  Vars v;
  v.add("kernel", {5, 5}), v.add_norm("", 5);
  Variable calls(zeros({}));
  const Tensor x = engine::drawn({4, 5}, 82);
  auto f = [&](bool writes, Passes passes) {
    return engine::bits(compile(
        [&](const Tensor& x) {
          const Weights w = v.read();
          if (writes) calls.assign_add(1);
          return norm(matmul(x, w.at("kernel")), w);
        },
        {.passes = passes})(x));
  };
  EXPECT_EQ(f(true, Passes::all), f(true, Passes::none));
  EXPECT_EQ(f(false, Passes::exact), f(false, Passes::none));
  EXPECT_NE(f(false, Passes::all), f(false, Passes::none)) << "nothing was folded";
}
TEST(FoldBatchNorm, the_gradient_in_a_pure_function_is_right) {
  Vars v;
  v.add("kernel", {5, 5}), v.add("bias", {5}), v.add_norm("", 5);
  const Tensor x = engine::drawn({4, 5}, 83);
  auto f = [&](Passes passes) {
    return compile(
               [&](const Tensor& x) {
                 const Weights w = v.read();
                 const Tensor u = watch(x);
                 const Tensor y = relu(norm(matmul(u, w.at("kernel")) + w.at("bias"), w));
                 return gradient({y}, {y}, {u})[0];
               },
               {.passes = passes})(x)
        .to_vector();
  };
  EXPECT_THAT(f(Passes::all), testing::Pointwise(testing::FloatNear(1e-5), f(Passes::none)));
}
TEST(FoldBatchNorm, a_variable_that_changes_shows_in_the_next_run) {
  Vars v;
  v.add("kernel", {5, 5}), v.add_norm("", 5);
  auto f = compile([&](const Tensor& x) {
    const Weights w = v.read();
    return norm(matmul(x, w.at("kernel")), w);
  });
  const Tensor x = engine::drawn({4, 5}, 84);
  const auto first = f(x).to_vector();
  for (const char* name : {"gamma", "beta", "mean", "variance", "kernel"}) {
    SCOPED_TRACE(name);
    const Variable& w = v.all.at(name);
    w.assign(w.read() * 2 + .5);
    const auto want = norm(matmul(x, v.all.at("kernel").read()), v.read()).to_vector();
    EXPECT_THAT(f(x).to_vector(), testing::Pointwise(testing::FloatNear(1e-5), want));
    EXPECT_NE(f(x).to_vector(), first);
  }
}
TEST(FoldBatchNorm, degenerate_channels_are_as_without_it) {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN(),
                  inf = std::numeric_limits<float>::infinity();
  const std::vector<float> variance{0, nan, inf, 1e-30f, -1, 1}, gamma{1, 1, 1, 0, 1, nan},
      mean{1, 1, 1, 1, 1, 1};
  const Tensor x = engine::drawn({4, 5}, 85);
  const Variable k(engine::drawn({5, 6}, 86)), m(tensor(mean, {6})), s(tensor(variance, {6})),
      g(tensor(gamma, {6})), b(engine::drawn({6}, 87));
  for (const double epsilon : {0., 1e-3}) {
    auto f = [&](Passes passes) {
      return compile(
                 [&](const Tensor& x) {
                   return batch_normalize(matmul(x, k.read()), m.read(), s.read(), g, b, epsilon);
                 },
                 {.passes = passes})(x)
          .to_vector();
    };
    const auto got = f(Passes::all), want = f(Passes::none);
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_EQ(std::isnan(got[i]), std::isnan(want[i])) << epsilon << " " << i;
      if (std::isfinite(want[i])) {
        EXPECT_NEAR(got[i], want[i], 1e-5 * (1 + std::abs(want[i]))) << epsilon << " " << i;
      }
    }
  }
}
// The slope makes up for what the mean takes away.
TEST(FoldBatchNorm, a_large_mean_costs_no_more_than_without_it) {
  const Tensor x = engine::drawn({64, 5}, 88) + 1000;
  Vars v;
  v.add("kernel", {5, 5}), v.add_norm("", 5);
  const Weights w = v.read();
  v.all.at("mean").assign(reduce_mean(matmul(x, w.at("kernel")), {0}));
  const Net net = [](const Tensor& x, const Weights& w) {
    return norm(matmul(x, w.at("kernel")), w);
  };
  const Weights exact = v.values(DType::f64);
  const auto want = net(cast(x, DType::f64), exact).to_vector<double>();
  auto error = [&](Passes passes) {
    const auto got = run(net, v, x, passes).to_vector<double>();
    double sum = 0;
    for (size_t i = 0; i < got.size(); ++i) sum += std::abs(got[i] - want[i]);
    return sum / double(got.size());
  };
  EXPECT_LT(error(Passes::all), 3 * error(Passes::none));
}

}  // namespace
}  // namespace evenflow
