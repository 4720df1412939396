// SPDX-License-Identifier: Apache-2.0
#include "evenflow/train/preprocess.h"

#include <gtest/gtest.h>

#include "evenflow/model/layers.h"

namespace evenflow {
namespace {

TEST(Preprocess, IsAFunctionOfTheElement) {
  std::vector<float> v(40 * 4 * 4);
  for (size_t i = 0; i < v.size(); ++i) v[i] = float(i % 97);
  const Dataset images(tensor(v, {40, 4, 4, 1}), tensor(std::vector<int64_t>(40, 1), {40}));
  const Layer layer = RandomTranslation({.height_factor = .4, .width_factor = .4, .seed = 3});
  auto all = [&](const Dataset& d, int threads, int64_t epoch = 0) {
    std::vector<float> r;
    Iterator it(d, {.epoch = epoch, .threads = threads});
    for (Tensors t; !(t = it.next()).empty();)
      for (float x : t[0].to_vector()) r.push_back(x);
    return r;
  };
  const std::vector<float> once = all(preprocess(images, layer).batch(8), 0);
  EXPECT_NE(once, v);
  EXPECT_EQ(once, all(preprocess(images, layer).batch(8), 3));
  EXPECT_EQ(once, all(preprocess(images.batch(7), layer), 2));
  EXPECT_NE(once, all(preprocess(images, layer).batch(8), 0, 1));
  EXPECT_EQ(all(preprocess(images, layer, false).batch(8), 2), v);
  EXPECT_EQ(preprocess(images, layer).batch(8).batch_at(4)[1].size(), 8);
}

}  // namespace
}  // namespace evenflow
