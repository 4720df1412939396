// SPDX-License-Identifier: Apache-2.0
#include "evenflow/train/preprocess.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <span>
#include <string>

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

TEST(Adapt, OfADatasetItIsThatOfItsRowsAndShowsHowFarItIs) {
  std::vector<float> v(3000);
  for (size_t i = 0; i < v.size(); ++i) v[i] = float((i * 7919) % 3000);
  const Tensor x = tensor(v, {3000, 1});
  const Dataset d =
      Dataset(Tensors{x}).map([](std::span<const float> row) { return std::array{row[0]}; });
  const Discretization bins({.num_bins = 4}), of_rows({.num_bins = 4});
  std::FILE* out = std::tmpfile();
  bins.adapt(d.batch(3000), out);
  of_rows.adapt(x);
  EXPECT_EQ(bins(x).to_vector<int32_t>(), of_rows(x).to_vector<int32_t>());
  std::string text(size_t(std::ftell(out)), ' ');
  std::rewind(out);
  ASSERT_EQ(std::fread(text.data(), 1, text.size(), out), text.size());
  std::fclose(out);
  EXPECT_EQ(text.find("\radapting: 3000/3000 rows, "), 0u);
  EXPECT_EQ(text.back(), '\n');
  EXPECT_THROW(bins.adapt(d.repeat()), Error);
}

}  // namespace
}  // namespace evenflow
