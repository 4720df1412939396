// SPDX-License-Identifier: Apache-2.0
#include "evenflow/data/dataset.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "evenflow/data/digits.h"

namespace evenflow {
namespace {
using testing::HasSubstr;

Dataset numbered(int64_t n) {
  std::vector<int64_t> v(static_cast<size_t>(n));
  std::iota(v.begin(), v.end(), 0);
  std::vector<float> x(v.begin(), v.end());
  std::vector<float> two;
  for (float f : x) two.push_back(f), two.push_back(-f);
  return Dataset(tensor(two, {n, 2}), tensor(v, {n}));
}
std::vector<int64_t> rows(const Tensors& batch) { return batch[1].to_vector<int64_t>(); }
std::vector<int64_t> counted(int64_t from, int64_t to) {
  std::vector<int64_t> v(static_cast<size_t>(to - from));
  std::iota(v.begin(), v.end(), from);
  return v;
}
template <class F>
std::string refusal(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(Permutation, IsOne) {
  for (int64_t n : {1, 2, 3, 4, 5, 7, 8, 16, 17, 64, 100, 255, 257, 1000, 1797, 4096, 50000}) {
    for (uint64_t seed : {0ull, 1ull, ~0ull}) {
      const Permutation p(n, seed, 3);
      std::vector<bool> met(static_cast<size_t>(n));
      for (int64_t i = 0; i < n; ++i) {
        const int64_t at = p(i);
        ASSERT_GE(at, 0);
        ASSERT_LT(at, n);
        ASSERT_FALSE(met[size_t(at)]) << n << " " << seed << " " << i;
        met[size_t(at)] = true;
      }
    }
  }
}

TEST(Permutation, HugeOnesNeedNoMemory) {
  const int64_t n = int64_t(1) << 40;
  const Permutation p(n, 5, 0);
  std::set<int64_t> met;
  for (int64_t i = 0; i < 1000; ++i) {
    const int64_t at = p(i);
    EXPECT_TRUE(at >= 0 && at < n && met.insert(at).second);
  }
  EXPECT_LT(*met.begin(), n / 100);  // all over the place
  EXPECT_GT(*met.rbegin(), n - n / 100);
}

TEST(Permutation, LooksRandom) {
  // Where element 0 goes, over many seeds: each place about as often. Chi square with 9 degrees of
  // freedom is below 33.7 but for one in 10,000; and fixed points are one a permutation, whatever
  // its length.
  std::vector<int> places(10);
  int64_t fixed = 0;
  constexpr int kSeeds = 5000;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const Permutation p(10, seed, 0);
    ++places[size_t(p(0))];
    for (int64_t i = 0; i < 10; ++i) fixed += p(i) == i;
  }
  double chi = 0;
  for (int k : places) chi += (k - kSeeds / 10.) * (k - kSeeds / 10.) / (kSeeds / 10.);
  EXPECT_LT(chi, 33.7);
  EXPECT_NEAR(double(fixed) / kSeeds, 1, 5 / std::sqrt(double(kSeeds)));
}

TEST(Dataset, BatchesInOrder) {
  const Dataset d = numbered(10).batch(4);
  EXPECT_EQ(d.size(), 10);
  EXPECT_EQ(d.batches(), 3);
  EXPECT_EQ(rows(d.batch_at(0)), counted(0, 4));
  EXPECT_EQ(rows(d.batch_at(2)), counted(8, 10));
  EXPECT_EQ(d.batch_at(2)[0].to_vector(), (std::vector<float>{8, -8, 9, -9}));
  EXPECT_EQ(d.batch_at(2)[0].sig().dtype, DType::f32);
  EXPECT_EQ(d.element_sig(0).shape, (Shape{4, 2}));
  const Dataset whole = numbered(10).batch(4, true);
  EXPECT_EQ(whole.batches(), 2);
  EXPECT_EQ(numbered(0).batch(4).batches(), 0);
  EXPECT_EQ(numbered(3).batch(100).batches(), 1);
}

TEST(Dataset, ShufflesEachEpochAnewAndTheSameForASeed) {
  const Dataset d = numbered(50).shuffle(9).batch(8);
  auto epoch = [&](const Dataset& k, int64_t e) {
    std::vector<int64_t> all;
    for (int64_t i = 0; i < k.batches(); ++i)
      for (int64_t r : rows(k.batch_at(i, e))) all.push_back(r);
    return all;
  };
  const auto first = epoch(d, 0), second = epoch(d, 1);
  EXPECT_NE(first, second);
  EXPECT_NE(first, counted(0, 50));
  EXPECT_EQ(first, epoch(d, 0));
  EXPECT_EQ(first, epoch(numbered(50).shuffle(9).batch(3), 0));  // whatever the batches
  EXPECT_NE(first, epoch(numbered(50).shuffle(10).batch(8), 0));
  EXPECT_EQ(first, rows(d.all(0)));
  for (auto v : {first, second}) {
    std::sort(v.begin(), v.end());
    EXPECT_EQ(v, counted(0, 50));
  }
}

TEST(Dataset, TakeSkipAndSplit) {
  const Dataset d = numbered(10);
  EXPECT_EQ(rows(d.take(3).all()), counted(0, 3));
  EXPECT_EQ(rows(d.skip(7).all()), counted(7, 10));
  EXPECT_EQ(rows(d.skip(2).take(3).skip(1).all()), counted(3, 5));
  EXPECT_EQ(d.take(99).size(), 10);
  EXPECT_EQ(d.skip(99).size(), 0);
  const auto [a, b] = d.skip(2).split(.8, 4);
  EXPECT_EQ(a.size(), 6);  // of 8, rounded down
  EXPECT_EQ(b.size(), 2);
  auto all = rows(a.all());
  for (int64_t r : rows(b.all())) all.push_back(r);
  EXPECT_NE(all, counted(2, 10));
  std::sort(all.begin(), all.end());
  EXPECT_EQ(all, counted(2, 10));
  const auto [c, e] = d.skip(2).split(.8, 4);
  EXPECT_EQ(rows(a.all()), rows(c.all()));
  // a part of a part
  const auto [f, g] = a.split(.5, 1);
  auto half = rows(f.all());
  for (int64_t r : rows(g.all())) half.push_back(r);
  auto whole = rows(a.all());
  std::sort(half.begin(), half.end()), std::sort(whole.begin(), whole.end());
  EXPECT_EQ(half, whole);
}

TEST(Dataset, AllElementTypesKeepTheirBits) {
  for (DType t : {DType::f32, DType::f64, DType::bf16, DType::f16, DType::i32, DType::i64,
                  DType::u8, DType::boolean}) {
    const Tensor x = constant({0, 1, 1, 0, 1, 1}, {3, 2}, t);
    const Dataset d = Dataset(Tensors{x}).batch(2);
    EXPECT_EQ(d.batch_at(1)[0].sig(), (Sig{t, {1, 2}}));
    EXPECT_EQ(d.batch_at(1)[0].to_vector<double>(), (std::vector<double>{1, 1}));
  }
}

TEST(Dataset, RefusesWhatMakesNoSense) {
  EXPECT_THAT(refusal([] { Dataset(Tensors{}); }), HasSubstr("there is no column"));
  EXPECT_THAT(refusal([] { Dataset(Tensors{Tensor()}); }),
              HasSubstr("column 0 is an empty tensor"));
  EXPECT_THAT(refusal([] { Dataset(Tensors{full({}, 1)}); }),
              HasSubstr("expected a leading extent"));
  EXPECT_THAT(refusal([] {
                Dataset(zeros({2, 1}), zeros({3}));
              }),
              HasSubstr("column 1 is f32[3], expected the leading extent 2"));
  const Dataset d = numbered(10);
  EXPECT_THAT(refusal([&] { d.batch(0); }), HasSubstr("size is 0"));
  EXPECT_THAT(refusal([&] { d.batch(2).batch(2); }), HasSubstr("batched already"));
  EXPECT_THAT(refusal([&] { d.batches(); }), HasSubstr("not batched"));
  EXPECT_THAT(refusal([&] { d.batch(4).batch_at(3); }), HasSubstr("expected 0..2"));
  EXPECT_THAT(refusal([&] { d.batch(4).batch_at(-1); }), HasSubstr("expected 0..2"));
  EXPECT_THAT(refusal([&] { d.take(-1); }), HasSubstr("n is -1"));
  EXPECT_THAT(refusal([&] { d.skip(-1); }), HasSubstr("n is -1"));
  for (double f : {0., 1., -1., double(NAN)})
    EXPECT_THAT(refusal([&] { d.split(f); }), HasSubstr("fraction is"));
  EXPECT_THAT(refusal([&] { d.element_sig(2); }), HasSubstr("column 2"));
  EXPECT_THAT(refusal([] { Dataset().size(); }), HasSubstr("it is empty"));
}

TEST(Digits, AreThere) {
  const Dataset d = data::digits();
  EXPECT_EQ(d.size(), 1797);
  EXPECT_EQ(d.element_sig(0).shape, (Shape{1797, 8, 8, 1}));
  const auto y = d.all()[1].to_vector<int64_t>();
  std::vector<int> of(10);
  for (int64_t v : y) ++of[size_t(v)];
  // The counts that the set's description gives.
  EXPECT_THAT(of, testing::ElementsAre(178, 182, 177, 183, 181, 182, 181, 179, 174, 180));
  const auto x = d.all()[0].to_vector();
  EXPECT_EQ(*std::max_element(x.begin(), x.end()), 1);
  EXPECT_EQ(*std::min_element(x.begin(), x.end()), 0);
}

}  // namespace
}  // namespace evenflow
