// SPDX-License-Identifier: Apache-2.0
// What each pass makes of small nets, as text in tests/golden/. `passes_golden_test --write` writes
// it; read the difference before you keep it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <set>

#include "evenflow/backends/cpu/features.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/graph/hoist.h"
#include "evenflow/graph/pass.h"
#include "evenflow/graph/program.h"
#include "evenflow/graph/sub_graph.h"
#include "evenflow/ops/activations.h"
#include "evenflow/ops/batch_norm.h"
#include "evenflow/ops/conv.h"
#include "evenflow/ops/cross_entropy.h"
#include "evenflow/ops/depthwise_conv.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/matmul.h"
#include "evenflow/ops/pooling.h"
#include "evenflow/ops/reduce.h"
#include "evenflow/ops/shape.h"
#include "evenflow/ops/softmax.h"

namespace evenflow {
namespace {
namespace fs = std::filesystem;
const fs::path kFolder = fs::path(EVENFLOW_SOURCE_DIR) / "tests" / "golden";

// ---- nets of few channels, written with operations

// Variables by name. In a step they stand for what the optimizer changes.
class Weights {
 public:
  Variable operator()(const std::string& name, const Shape& s, double value = 0) {
    auto [it, fresh] = all_.try_emplace(name);
    if (fresh) it->second = Variable(full(s, value), {.name = name}), order_.push_back(name);
    return it->second;
  }
  std::vector<Variable> trained() const {
    std::vector<Variable> r;
    for (auto& name : order_)
      if (name.find("moving") == name.npos) r.push_back(all_.at(name));
    return r;
  }

 private:
  std::map<std::string, Variable> all_;
  std::vector<std::string> order_;
};
struct Context {
  Weights& w;
  bool training = false;
  Tensors written = {};  // new values, results of the step

  Tensor kernel(const std::string& name, const Shape& s, const Tensor& x) {
    return cast(w(name, s), x.dtype());
  }
  Tensor dense(const std::string& name, const Tensor& x, int64_t units) {
    return matmul(x, kernel(name + ".kernel", {x.shape()[1], units}, x)) +
           cast(w(name + ".bias", {units}), x.dtype());
  }
  Tensor conv(const std::string& name, const Tensor& x, int64_t size, int64_t filters,
              int64_t stride = 1) {
    return conv2d(x, kernel(name, {size, size, x.shape()[3], filters}, x),
                  {.strides = {stride, stride}, .padding = "same"});
  }
  Tensor norm(const std::string& name, const Tensor& x) {
    const Shape c{x.shape().dim(-1)};
    const Tensor gamma = w(name + ".gamma", c, 1), beta = w(name + ".beta", c);
    const Variable mean = w(name + ".moving_mean", c),
                   variance = w(name + ".moving_variance", c, 1);
    if (!training) return batch_normalize(x, mean, variance, gamma, beta);
    const BatchNormResult r = batch_norm(x, gamma, beta);
    written.push_back(mean.read() * .9 + r.statistics.mean * .1);
    written.push_back(variance.read() * .9 + r.statistics.variance() * .1);
    return r.y;
  }
  // What a step of gradient descent writes, without writing it.
  Tensors step(const Tensor& logits, const Tensor& labels) {
    const Tensor loss = reduce_mean(sparse_softmax_cross_entropy(cast(logits, DType::f32), labels));
    const std::vector<Variable> trained = w.trained();
    const Tensors d = gradient(loss, std::vector<Wrt>(trained.begin(), trained.end()));
    Tensors r{loss};
    for (size_t i = 0; i < d.size(); ++i) r.push_back(trained[i].read() - .1 * d[i]);
    r.insert(r.end(), written.begin(), written.end());
    return r;
  }
};
Tensor mlp(Context& c, Tensor x) {
  for (const char* layer : {"1", "2"})
    x = relu(c.norm(concat({"norm", layer}), c.dense(concat({"dense", layer}), x, 128)));
  return c.dense("out", x, 3);
}
Tensor residual(Context& c, Tensor x) {
  x = relu(c.norm("norm0", c.conv("conv0", x, 3, 16)));
  Tensor y = relu(c.norm("norm1", c.conv("conv1", x, 3, 32, 2)));
  y = c.norm("norm2", c.conv("conv2", y, 3, 32));
  x = relu(y + c.norm("short_norm", c.conv("short", x, 1, 32, 2)));
  return c.dense("out", reduce_mean(x, {1, 2}), 3);
}
Tensor separable(Context& c, Tensor x) {
  const int64_t channels = x.shape()[3];
  x = depthwise_conv2d(x, c.kernel("depthwise", {3, 3, channels, 2}, x), {.padding = "same"});
  x = relu6(c.norm("norm1", x));
  x = c.norm("norm2", c.conv("pointwise", x, 1, 4) + c.w("bias", {4}));
  return softmax(c.dense("out", reduce_mean(c.norm("norm3", x), {1, 2}), 3));
}
// As channels-first layers of a model are.
Tensor channels_first(Context& c, Tensor x) {
  const std::vector<int64_t> last{0, 2, 3, 1}, first{0, 3, 1, 2};
  auto norm = [&](const std::string& name, const Tensor& x) {
    const Shape s{x.shape()[1]};
    return batch_normalize(x, c.w(name + ".moving_mean", s), c.w(name + ".moving_variance", s, 1),
                           c.w(name + ".gamma", s, 1), c.w(name + ".beta", s), 1e-3, {1});
  };
  auto conv = [&](const std::string& name, const Tensor& x, int64_t size) {
    return transpose(c.conv(name, transpose(x, last), size, 4) + c.w(name + ".bias", {4}), first);
  };
  x = relu(norm("norm1", conv("conv1", x, 3)));
  x = relu(x + norm("norm2", conv("conv2", x, 1)));
  return c.dense("out", reduce_mean(transpose(x, last), {1, 2}), 3);
}
Tensor branches(Context& c, Tensor x) {
  const Tensor a = c.norm("norm_a", c.conv("conv_a", x, 1, 4)),
               b = relu(c.norm("norm_b", c.conv("conv_b", x, 3, 4)));
  x = c.norm("norm", concat({relu(a), sigmoid(b), sigmoid(identity(b))}));
  const Tensor y = reduce_mean(x, {1, 2});
  return concat({c.dense("out", y, 3), c.dense("out", y, 3)});
}

// ---- the text

struct Golden {
  std::string about;
  Shape x;
  DType type;
  std::function<Tensor(Context&, Tensor)> net;
  bool training;
  PassOptions options;
};
std::map<std::string, Golden> goldens() {
  return {
      {"mlp_step",
       {"Dense, batch norm and ReLU, twice: a training step that normalises again in the backward "
        "pass",
        {16, 6},
        DType::f32,
        mlp,
        true,
        {.activations = Activations::recompute}}},
      {"residual_step",
       {"A residual block's training step, in regions of two samples",
        {8, 8, 8, 16},
        DType::f32,
        residual,
        true,
        {.tile = 2}}},
      {"residual_inference",
       {"The same in inference", {8, 8, 8, 16}, DType::f32, residual, false, {}}},
      {"separable_inference",
       {"A separable convolution, and batch norm before a dense layer",
        {2, 6, 6, 3},
        DType::f32,
        separable,
        false,
        {}}},
      {"branches_inference",
       {"Branches that meet, and a layer that is used twice",
        {2, 6, 6, 3},
        DType::f32,
        branches,
        false,
        {}}},
      {"channels_first_inference",
       {"Convolutions with biases and batch norm, channels first",
        {2, 3, 6, 6},
        DType::f32,
        channels_first,
        false,
        {}}},
      {"bf16_step",
       {"Convolutions in bf16 with weights in f32: a training step",
        {8, 8, 8, 16},
        DType::bf16,
        residual,
        true,
        {}}},
      {"bf16_inference",
       {"The same in inference", {8, 8, 8, 16}, DType::bf16, residual, false, {}}},
  };
}
using Lines = std::vector<std::string>;
// A line a call; those of a sub-graph behind it, indented.
void add_lines(const Graph& g, const std::string& indent, Lines& lines) {
  for (const Graph::Call& c : g.calls) {
    Graph one = g;
    one.calls = {c};
    std::string line = str(one);
    line.pop_back();
    lines.push_back(indent + line);
    for (const AttrValue& v : c.op->get_attrs(c.attrs.get()))
      if (auto* body = std::get_if<SubGraphPtr>(&v))
        add_lines((*body)->graph, indent + "  ", lines);
  }
}
// Calls on variables alone are made before, and counted only.
Lines lines_of(const Graph& g, const std::vector<char>& steady) {
  Hoisted h;
  h.main = g;
  if (!steady.empty()) h = hoist(g, steady);
  Lines r;
  if (h.any()) r.push_back(concat({h.before.calls.size(), " calls on variables alone"}));
  add_lines(h.main, "", r);
  return r;
}
// The lines of both in order: "- " those that went, "+ " those that came; others are left out.
std::string changes(const Lines& a, const Lines& b) {
  std::vector<std::vector<int>> common(a.size() + 1, std::vector<int>(b.size() + 1));
  for (size_t i = a.size(); i-- > 0;)
    for (size_t j = b.size(); j-- > 0;)
      common[i][j] =
          a[i] == b[j] ? common[i + 1][j + 1] + 1 : std::max(common[i + 1][j], common[i][j + 1]);
  std::string s;
  for (size_t i = 0, j = 0; i < a.size() || j < b.size();) {
    if (i < a.size() && j < b.size() && a[i] == b[j])
      ++i, ++j;
    else if (j == b.size() || (i < a.size() && common[i + 1][j] >= common[i][j + 1]))
      s += "- " + a[i++] + "\n";
    else
      s += "+ " + b[j++] + "\n";
  }
  return s;
}
std::string text(const Golden& golden) {
  Weights weights;
  const Program p =
      trace({{golden.type, golden.x}, {DType::i64, {golden.x[0]}}}, [&](const Tensors& in) {
        Context c{weights, golden.training};
        const Tensor y = golden.net(c, in[0]);
        return golden.training ? c.step(y, in[1]) : Tensors{y};
      });
  std::string s = "# " + golden.about + "\n\n## leaves\n";
  PassOptions options = golden.options;
  for (size_t i = 0; i < p.leaves.size(); ++i) {
    const auto& l = p.leaves[i];
    const int v = p.graph.leaves[i];
    s += concat({"%", v, " ",
                 l.var   ? Variable(l.var).name()
                 : l.arg ? "labels"
                         : std::string("x"),
                 " : ", str(p.graph.values[size_t(v)]), "\n"});
    if (!golden.training) options.steady.push_back(bool(l.var));
  }
  Lines before = lines_of(p.graph, options.steady);
  s += "\n## traced\n";
  for (auto& line : before) s += line + "\n";
  optimise(
      p.graph, Passes::all,
      [&](std::string_view pass, const Graph& g) {
        Lines now = lines_of(g, options.steady);
        s += concat({"\n## ", pass, "\n", changes(before, now)});
        before = std::move(now);
      },
      options);
  return s;
}
std::string file_text(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(PassesGolden, each_pass_does_what_is_written) {
  std::set<std::string> names, files;
  for (auto& [name, golden] : goldens()) {
    names.insert(name + ".txt");
    // With AMX, Winograd leaves bf16 to it.
    if (golden.type == DType::bf16 && cpu::has_amx_bf16()) continue;
    EXPECT_EQ(text(golden), file_text(kFolder / (name + ".txt")))
        << name << ": passes_golden_test --write, and read the difference";
  }
  for (auto& entry : fs::directory_iterator(kFolder)) files.insert(entry.path().filename());
  EXPECT_EQ(files, names);
}
TEST(PassesGolden, every_pass_is_seen_at_work) {
  std::string all;
  for (auto& [name, golden] : goldens()) all += text(golden);
  for (const NamedPass& p : all_passes())
    EXPECT_NE(all.find(concat({"\n## ", p.name, "\n"})), all.npos) << p.name;
}

}  // namespace
}  // namespace evenflow

int main(int argc, char** argv) {
  if (argc == 2 && std::string(argv[1]) == "--write") {
    using namespace evenflow;
    fs::create_directories(kFolder);
    for (auto& entry : fs::directory_iterator(kFolder)) fs::remove(entry.path());
    for (auto& [name, golden] : goldens())
      std::ofstream(kFolder / (name + ".txt"), std::ios::binary) << text(golden);
    return 0;
  }
  testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
