// SPDX-License-Identifier: Apache-2.0
#include "evenflow/graph/picture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <regex>

#include "evenflow/graph/compile.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/graph/program.h"
#include "evenflow/ops/activations.h"
#include "evenflow/ops/batch_norm.h"
#include "evenflow/ops/conv.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/reduce.h"

namespace evenflow {
namespace {
using testing::HasSubstr;
using testing::Not;

const std::string& file() {
  static const std::string name = testing::TempDir() + "evenflow_picture_test.html";
  return name;
}
// Before the library looks at it.
const int kSet = setenv("EVENFLOW_VIZ", file().c_str(), 1);

// A residual block of a small network, and its gradients.
Tensors block(const Tensors& in) {
  const Tensor &x = in[0], &k1 = in[1], &k2 = in[2], &gamma = in[3], &beta = in[4];
  Tensor h = x;
  {
    NameScope scope("block1/conv <a>");
    h = conv2d(h, k1, {.padding = "same"});
  }
  {
    NameScope scope("block1/bn");
    h = batch_norm(h, gamma, beta, {.activation = "relu"}).y;
  }
  h = batch_norm(conv2d(h, k2, {.padding = "same"}), gamma, beta).y;
  Tensor loss = reduce_mean(square(relu(h + x)));
  Tensors r = gradient(loss, {k1, k2, gamma, beta});
  r.insert(r.begin(), loss);
  return r;
}
const Sigs kSigs{{DType::f32, {8, 6, 6, 4}},
                 {DType::f32, {3, 3, 4, 4}},
                 {DType::f32, {3, 3, 4, 4}},
                 {DType::f32, {4}},
                 {DType::f32, {4}}};

size_t count(const std::string& s, const std::string& what) {
  size_t n = 0;
  for (size_t at = s.find(what); at != s.npos; at = s.find(what, at + 1)) ++n;
  return n;
}

TEST(Picture, shows_every_call_and_runs_nothing_from_elsewhere) {
  const Graph g = trace(kSigs, block).graph;
  const std::string page = picture_html(g, "A <block> & its gradients");
  EXPECT_EQ(count(page, "<g class=\"n "), g.calls.size() + g.leaves.size() + g.results.size());
  EXPECT_EQ(count(page, "<g "), count(page, "</g>"));
  EXPECT_THAT(page, HasSubstr("A &lt;block&gt; &amp; its gradients"));
  EXPECT_THAT(page, HasSubstr("block1/conv &lt;a&gt;"));
  EXPECT_THAT(page, HasSubstr("padding = &quot;same&quot;"));
  EXPECT_THAT(page, Not(HasSubstr("http")));
  EXPECT_THAT(page, Not(HasSubstr("nan")));
}
TEST(Picture, an_empty_and_a_long_graph_are_drawn) {
  EXPECT_THAT(picture_html(Graph(), "nothing"), HasSubstr("</html>"));
  const Graph g = trace({{DType::f32, {2}}}, [](const Tensors& in) -> Tensors {
                    Tensor x = in[0];
                    for (int i = 0; i < 2500; ++i) x = x + 1;
                    return {x};
                  }).graph;
  EXPECT_THAT(picture_html(g, "long"), HasSubstr("The first 2000 of 2500 calls"));
}
TEST(Picture, every_new_plan_is_drawn_when_asked_for) {
  Tensors args;
  for (auto& s : kSigs) args.push_back(full(s.shape, 0.5));
  Function f;
  f(args, block);
  std::ifstream in(file(), std::ios::binary);
  const std::string page{std::istreambuf_iterator<char>(in), {}};
  EXPECT_THAT(page, HasSubstr("compiled at picture_test.cc:"));
  EXPECT_THAT(page, HasSubstr("as traced"));
  EXPECT_THAT(page, HasSubstr("<pre>  conv2d ["));
  if (!std::getenv("EVENFLOW_KEEP_PICTURE")) std::remove(file().c_str());
}

}  // namespace
}  // namespace evenflow
