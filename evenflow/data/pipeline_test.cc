// SPDX-License-Identifier: Apache-2.0
// The stages against what they mean, and passes that are stopped and taken up again.
#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <thread>

#include "evenflow/core/log.h"
#include "evenflow/core/random.h"
#include "evenflow/data/dataset.h"
#include "evenflow/format/file.h"
#include "evenflow/ops/elementwise.h"

namespace evenflow {
namespace {
using data::Chunk;
using data::Column;
using testing::ElementsAre;
using testing::HasSubstr;
using Numbers = std::vector<int64_t>;

Numbers counted(int64_t from, int64_t to) {
  Numbers v(static_cast<size_t>(to - from));
  std::iota(v.begin(), v.end(), from);
  return v;
}
Dataset numbers(int64_t n) { return Dataset(Tensors{tensor(counted(0, n), {n})}); }

// The numbers 0..n-1, known only one after the other, in pieces of up to seven.
class Counter final : public data::Stream {
 public:
  explicit Counter(int64_t n) : n_(n) {}
  const data::Schema& schema() const override { return schema_; }
  std::unique_ptr<data::Cursor> open(int64_t shard, int64_t shards) const override {
    class At final : public data::Cursor {
     public:
      At(int64_t n, int64_t at, int64_t step) : n_(n), at_(at), step_(step) {}
      Chunk next(int64_t at_most) override {
        Numbers v;
        for (; at_ < n_ && int64_t(v.size()) < std::min<int64_t>(at_most, 7); at_ += step_)
          v.push_back(at_);
        if (v.empty()) return {};
        const int64_t rows = int64_t(v.size());
        return {{Column(tensor(v, {rows}))}, rows};
      }
      std::string position() const override { return std::to_string(at_); }
      void seek(std::string_view to) override { at_ = std::stoll(std::string(to)); }

     private:
      const int64_t n_;
      int64_t at_;
      const int64_t step_;
    };
    return std::make_unique<At>(n_, shard, shards);
  }

 private:
  const int64_t n_;
  const data::Schema schema_{{.name = "n", .dtype = DType::i64}};
};
Dataset stream(int64_t n) { return Dataset::from(std::make_shared<Counter>(n)); }

Numbers column(const Chunk& c, size_t k = 0) { return c.columns[k].tensor().to_vector<int64_t>(); }
Numbers rest(Iterator& it, int64_t at_most = 5) {
  Numbers all;
  for (Chunk c; (c = it.next_chunk(at_most)).rows;)
    for (int64_t v : column(c)) all.push_back(v);
  return all;
}
Numbers values(const Dataset& d, IteratorOptions o = {}) {
  Iterator it(d, o);
  return rest(it);
}
Numbers sorted(Numbers v) {
  std::sort(v.begin(), v.end());
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
Numbers even_squares(int64_t n) {
  Numbers v;
  for (int64_t i = 0; i < n; ++i)
    if (i * i % 2 == 0) v.push_back(i * i);
  return v;
}
// [1], [2, 2], [], [4, 4, 4, 4], ...: number i, i % 5 times.
Dataset ragged(int64_t n, bool indexed = true) {
  return (indexed ? numbers(n) : stream(n)).map([](int64_t i) {
    return std::pair(i, Numbers(size_t(i % 5), i));
  });
}

TEST(Pipeline, MapsElementsOfEveryKind) {
  const Dataset d =
      numbers(3)
          .map([](int64_t i) {
            return std::tuple(float(i) / 2, std::array<double, 2>{double(i), double(-i)},
                              std::to_string(i), Numbers(size_t(i), 7), i == 1);
          })
          .map([](float half, std::span<const double> pair, std::string_view text,
                  std::span<const int64_t> sevens, bool is_one) {
            return std::tuple(half + float(pair[1]), std::string(text) + "!",
                              int64_t(sevens.size()), is_one ? uint8_t(9) : uint8_t(8));
          });
  EXPECT_EQ(str(d.schema()), "f32[], string, i64[], u8[]");
  Iterator it(d);
  const Chunk c = it.next_chunk(100);
  EXPECT_THAT(c.columns[0].tensor().to_vector(), ElementsAre(0, -.5, -1));
  EXPECT_EQ(c.columns[1].strings()[2], "2!");
  EXPECT_EQ(column(c, 2), counted(0, 3));
  EXPECT_THAT(column(c, 3), ElementsAre(8, 9, 8));
  EXPECT_EQ(it.next_chunk().rows, 0);
  EXPECT_EQ(it.next_chunk().rows, 0);
}
TEST(Pipeline, MapsTensorsOfABatch) {
  const Dataset d = numbers(5).batch(2).map([](const Tensor& x) {
    return Tensors{x * 2, cast(x, DType::f32)};
  });
  std::vector<Tensors> all;
  for (const Tensors& batch : d) all.push_back(batch);
  ASSERT_EQ(all.size(), 3u);
  EXPECT_THAT(all[1][0].to_vector<int64_t>(), ElementsAre(4, 6));
  EXPECT_THAT(all[2][1].to_vector(), ElementsAre(4));
  EXPECT_EQ(d.batch_at(2)[0].to_vector<int64_t>(), Numbers{8});
}
TEST(Pipeline, SaysWhatAFunctionCannotTake) {
  auto run = [](const Dataset& d) { return refusal([&] { values(d); }); };
  EXPECT_EQ(run(numbers(3).map([](float x) { return x; })),
            "map: argument 0 of the function takes f32[], column 0 is i64[]");
  EXPECT_EQ(run(numbers(3).map([](int64_t a, int64_t b) { return a + b; })),
            "map: the function takes 2 arguments, expected 1, one for each column");
  EXPECT_EQ(run(numbers(3).map([](std::string_view s) { return std::string(s); })),
            "map: argument 0 of the function takes string, column 0 is i64[]");
  EXPECT_THAT(run(numbers(3).map([](const Chunk& c) { return c.slice(0, 1); })),
              HasSubstr("has 1 rows, expected the 3"));
  EXPECT_THAT(run(numbers(4).map([](const Tensor&) { return zeros({1}, DType::i64); })),
              HasSubstr("expected 4 rows"));
}

TEST(Pipeline, FiltersAndMapsWhateverTheSource) {
  for (const Dataset& d : {numbers(1000), stream(1000)})
    for (int threads : {0, 1, 3}) {
      const Dataset squares =
          d.map([](int64_t i) { return i * i; }).filter([](int64_t i) { return i % 2 == 0; });
      EXPECT_EQ(squares.size(), data::kUnknown);
      EXPECT_EQ(values(squares, {.threads = threads}), even_squares(1000));
      EXPECT_EQ(values(squares.batch(7), {.threads = threads}), even_squares(1000));
    }
}
TEST(Pipeline, TakesSkipsShardsAndRepeats) {
  for (const Dataset& d : {numbers(10), stream(10)}) {
    EXPECT_EQ(values(d.take(4)), counted(0, 4));
    EXPECT_EQ(values(d.skip(7)), counted(7, 10));
    EXPECT_EQ(values(d.skip(20)), Numbers());
    EXPECT_EQ(values(d.skip(2).take(3)), counted(2, 5));
    EXPECT_THAT(values(d.shard(3, 1)), ElementsAre(1, 4, 7));
    EXPECT_THAT(values(d.map([](int64_t i) { return i; }).shard(4, 3)), ElementsAre(3, 7));
    EXPECT_THAT(values(d.take(2).repeat(3)), ElementsAre(0, 1, 0, 1, 0, 1));
    EXPECT_EQ(values(d.repeat(0)), Numbers());
    EXPECT_EQ(values(d.take(0).repeat()), Numbers());
    EXPECT_THAT(values(d.skip(8).repeat().take(5)), ElementsAre(8, 9, 8, 9, 8));
    // Behind batch() the elements are batches.
    EXPECT_EQ(values(d.batch(4).take(2)), counted(0, 8));
    EXPECT_EQ(values(d.batch(4).skip(2)), counted(8, 10));
    EXPECT_THAT(values(d.batch(3).shard(2, 1)), ElementsAre(3, 4, 5, 9));
    EXPECT_THAT(values(d.batch(4).skip(2).repeat(2)), ElementsAre(8, 9, 8, 9));
    EXPECT_EQ(values(d.batch(4, true)), counted(0, 8));
    EXPECT_EQ(values(d.batch(4).unbatch()), counted(0, 10));
  }
  EXPECT_EQ(numbers(10).batch(4).skip(1).size(), 6);
  EXPECT_EQ(numbers(10).batch(4).skip(1).batches(), 2);
  EXPECT_EQ(numbers(10).repeat().size(), data::kInfinite);
  EXPECT_EQ(stream(10).size(), data::kUnknown);
}
TEST(Pipeline, ShufflesWhole) {
  const Dataset d = numbers(100).shuffle(5);
  const Numbers once = values(d);
  EXPECT_EQ(sorted(once), counted(0, 100));
  EXPECT_EQ(once, values(d));
  EXPECT_NE(once, values(d, {.epoch = 1}));
  // Another order in each repetition, and another one in the next epoch.
  std::set<Numbers> orders;
  for (int64_t epoch : {0, 1}) {
    const Numbers v = values(d.repeat(3), {.epoch = epoch});
    for (int i = 0; i < 3; ++i) {
      const Numbers part(v.begin() + i * 100, v.begin() + i * 100 + 100);
      EXPECT_EQ(sorted(part), counted(0, 100));
      orders.insert(part);
    }
  }
  EXPECT_EQ(orders.size(), 6u);
  EXPECT_THAT(refusal([] { stream(5).shuffle(); }), HasSubstr("use shuffle_window(), or cache()"));
  EXPECT_THAT(refusal([] { numbers(5).repeat().shuffle(); }), HasSubstr("before repeat"));
  EXPECT_EQ(sorted(values(stream(50).cache().shuffle(1))), counted(0, 50));
  EXPECT_EQ(sorted(values(numbers(50).batch(8).shuffle(1))), counted(0, 50));
}
TEST(Pipeline, ShufflesWindowsTheSameWayWhateverTheSource) {
  for (int64_t window : {1, 7, 32, 100, 1000}) {
    const Numbers v = values(numbers(100).shuffle_window(window, 3));
    EXPECT_EQ(v, values(stream(100).shuffle_window(window, 3)));
    EXPECT_EQ(sorted(v), counted(0, 100));
    for (size_t i = 0; i < v.size(); ++i) EXPECT_EQ(v[i] / window, int64_t(i) / window);
    if (window > 1) {
      EXPECT_NE(v, counted(0, 100));
      EXPECT_NE(v, values(stream(100).shuffle_window(window, 3), {.epoch = 1}));
    }
  }
  EXPECT_EQ(sorted(values(stream(30).batch(4).shuffle_window(3, 1))), counted(0, 30));
}

TEST(Pipeline, ZipsAndConcatenates) {
  for (bool a : {true, false})
    for (bool b : {true, false}) {
      const Dataset x = a ? numbers(5) : stream(5), y = b ? numbers(8) : stream(8);
      const Dataset both = Dataset::zip({x, y.map([](int64_t i) { return -i; })});
      Iterator it(both);
      Numbers left, right;
      for (Chunk c; (c = it.next_chunk(3)).rows;) {
        for (int64_t v : column(c, 0)) left.push_back(v);
        for (int64_t v : column(c, 1)) right.push_back(-v);
      }
      EXPECT_EQ(left, counted(0, 5));
      EXPECT_EQ(right, counted(0, 5));
      EXPECT_EQ(values(Dataset::zip({y, x})), counted(0, 5));
      EXPECT_THAT(values(Dataset::concatenate({x.take(2), y.skip(6), x.take(1)})),
                  ElementsAre(0, 1, 6, 7, 0));
      EXPECT_EQ(values(Dataset::concatenate({x, y.skip(5)}).batch(3)), counted(0, 8));
      EXPECT_THAT(values(Dataset::concatenate({x.batch(3), y.batch(3)})),
                  ElementsAre(0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 6, 7));
    }
  EXPECT_EQ(sorted(values(Dataset::concatenate({numbers(3), numbers(4)}).shuffle(1))),
            (Numbers{0, 0, 1, 1, 2, 2, 3}));
  EXPECT_EQ(
      refusal([] {
        Dataset::concatenate({numbers(3), numbers(3).map([](int64_t i) { return float(i); })});
      }),
      "concatenate: dataset 1 has f32[], expected i64[] as dataset 0");
}
// The first two are from the documentation of tf.data.Dataset.interleave.
TEST(Pipeline, Interleaves) {
  auto fives = [](int64_t i) { return numbers(6).map([i](int64_t) { return i; }); };
  const std::vector<Dataset> all{fives(1), fives(2), fives(3), fives(4), fives(5)};
  EXPECT_THAT(values(Dataset::interleave(all, 2, 4)),
              ElementsAre(1, 1, 1, 1, 2, 2, 2, 2, 1, 1, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 3, 3, 4, 4, 5,
                          5, 5, 5, 5, 5));
  EXPECT_THAT(values(Dataset::interleave({numbers(2), stream(4), numbers(1)})),
              ElementsAre(0, 0, 0, 1, 1, 2, 3));
  EXPECT_EQ(values(Dataset::interleave({numbers(4).batch(2), numbers(4).batch(2)})),
            (Numbers{0, 1, 0, 1, 2, 3, 2, 3}));
}
TEST(Pipeline, SamplesByWeight) {
  auto of = [](int64_t i) { return stream(8000).map([i](int64_t) { return i; }); };
  const Dataset d = Dataset::sample({of(0), of(1), of(2)}, {.5, .2, .3}, 4);
  const Numbers v = values(d.take(10000));
  // Within four deviations of a binomial count.
  const double expected[] = {.5, .2, .3};
  for (int64_t k = 0; k < 3; ++k) {
    const double p = expected[k], n = double(std::count(v.begin(), v.end(), k));
    EXPECT_NEAR(n, p * 10000, 4 * std::sqrt(p * (1 - p) * 10000)) << k;
  }
  const Numbers whole = values(d);
  EXPECT_EQ(whole.size(), 24000u);
  for (int64_t k = 0; k < 3; ++k) EXPECT_EQ(std::count(whole.begin(), whole.end(), k), 8000) << k;
}
TEST(Pipeline, RebalancesClasses) {
  // One in ten is of class 1.
  const Dataset d = numbers(20000).map([](int64_t i) { return int64_t(i % 10 == 0); });
  for (bool is_told : {true, false}) {
    const Numbers v = values(
        d.rebalance(0, {.5, .5}, is_told ? std::vector<double>{.9, .1} : std::vector<double>{}, 2));
    EXPECT_EQ(std::count(v.begin(), v.end(), 1), 2000);  // the rare class is kept whole
    EXPECT_NEAR(double(std::count(v.begin(), v.end(), 0)), 2000, 4 * std::sqrt(18000 / 9. * 8 / 9));
  }
  EXPECT_THAT(refusal([&] {
                values(d.rebalance(0, {1, 1}, {1, 0}));
              }),
              HasSubstr("class 1 is wanted"));
  EXPECT_THAT(refusal([&] { values(d.rebalance(0, {1})); }),
              HasSubstr("a class is 1, expected 0..0"));
}

TEST(Pipeline, PadsRaggedBatches) {
  for (bool indexed : {true, false}) {
    const Dataset d = ragged(5, indexed).padded_batch(3, {.values = {0, -1}});
    Iterator it(d);
    Tensors batch = it.next();
    EXPECT_EQ(batch[1].shape(), (Shape{3, 2}));
    EXPECT_THAT(batch[1].to_vector<int64_t>(), ElementsAre(-1, -1, 1, -1, 2, 2));
    batch = it.next();
    EXPECT_THAT(batch[1].to_vector<int64_t>(), ElementsAre(3, 3, 3, -1, 4, 4, 4, 4));
    EXPECT_TRUE(it.next().empty());
  }
  const Tensors fixed = Iterator(ragged(5).padded_batch(5, {.lengths = {-1, 6}})).next();
  EXPECT_EQ(fixed[1].shape(), (Shape{5, 6}));
  EXPECT_THAT(refusal([] {
                values(ragged(5).padded_batch(5, {.lengths = {-1, 3}}));
              }),
              HasSubstr("a row has length 4, expected at most 3"));
  Iterator kept(ragged(5).batch(5));
  EXPECT_THAT(kept.next_chunk().columns[1].splits(), ElementsAre(0, 0, 1, 3, 6, 10));
}
TEST(Pipeline, BatchesByLength) {
  const Dataset d = ragged(100, false)
                        .bucket_by_length({.column = 1,
                                           .boundaries = {2, 4},
                                           .batch_sizes = {10, 6, 4},
                                           .padding_values = {0, -1}});
  Iterator it(d);
  Numbers seen;
  for (Tensors batch; !(batch = it.next()).empty();) {
    const Numbers ids = batch[0].to_vector<int64_t>(), v = batch[1].to_vector<int64_t>();
    const int64_t width = batch[1].shape()[1];
    std::set<int64_t> buckets;
    int64_t longest = 0;
    for (size_t r = 0; r < ids.size(); ++r) {
      const int64_t length = ids[r] % 5;
      buckets.insert(length < 2 ? 0 : length < 4 ? 1 : 2);
      longest = std::max(longest, length);
      for (int64_t k = 0; k < width; ++k)
        EXPECT_EQ(v[r * size_t(width) + size_t(k)], k < length ? ids[r] : -1);
      seen.push_back(ids[r]);
    }
    EXPECT_EQ(buckets.size(), 1u);
    EXPECT_EQ(width, longest);
  }
  EXPECT_EQ(sorted(seen), counted(0, 100));
}

TEST(Pipeline, CachesInMemoryAndInAFile) {
  const std::string path =
      (std::filesystem::temp_directory_path() / "evenflow_pipeline_cache").string();
  std::filesystem::remove(path);
  auto calls = std::make_shared<std::atomic<int>>(0);
  const Dataset slow = stream(300).map([calls](int64_t i) {
    ++*calls;
    return std::tuple(i, std::to_string(i), Numbers(size_t(i % 3), i));
  });
  auto check = [&](const Dataset& d) {
    const Dataset mixed = d.shuffle(3);
    EXPECT_EQ(d.size(), 300);
    EXPECT_EQ(sorted(values(mixed)), counted(0, 300));
    Iterator it(mixed);
    for (Chunk c; (c = it.next_chunk(11)).rows;)
      for (int64_t r = 0; r < c.rows; ++r) {
        const int64_t i = column(c)[size_t(r)];
        EXPECT_EQ(c.columns[1].strings()[r], std::to_string(i));
        EXPECT_EQ(c.columns[2].splits()[size_t(r) + 1] - c.columns[2].splits()[size_t(r)], i % 3);
      }
  };
  const Dataset in_memory = slow.cache();
  check(in_memory);
  check(in_memory);
  EXPECT_LE(*calls, 301);  // 1 for the schema
  check(slow.cache(path));
  const int before = *calls;
  check(slow.cache(path));  // the file that is there
  EXPECT_LE(*calls, before + 1);
  // Of another pipeline, or not whole: made again.
  EXPECT_EQ(values(stream(300).filter([](int64_t i) { return i < 9; }).cache(path)), counted(0, 9));
  check(slow.cache(path));
  EXPECT_EQ(values(numbers(10).batch(4).cache().repeat(2)).size(), 20u);
  EXPECT_EQ(values(numbers(10).batch(4).cache(path)), counted(0, 10));
  std::filesystem::remove(path);
}
TEST(Pipeline, SkipsAndCountsErrorsWhenAsked) {
  auto third = [](int64_t i) {
    if (i % 3 == 0) fail(Code::DataLoss, {"record ", i, " is damaged"});
    return i;
  };
  for (const Dataset& d : {numbers(100), stream(100)}) {
    auto skipped = std::make_shared<std::atomic<int64_t>>(0);
    Numbers expected;
    for (int64_t i = 0; i < 100; ++i)
      if (i % 3) expected.push_back(i);
    EXPECT_EQ(values(d.map(third).skip_errors(skipped)), expected);
    EXPECT_EQ(*skipped, 34);
    EXPECT_THAT(refusal([&] { values(d.map(third).skip_errors({}, 10)); }),
                HasSubstr("is damaged"));
    EXPECT_EQ(refusal([&] { values(d.map(third)); }), "record 0 is damaged");
  }
}
TEST(Pipeline, AnErrorComesInItsTurnAndAgain) {
  for (int threads : {0, 3}) {
    Iterator it(numbers(100).batch(10).map([](int64_t i) {
      if (i == 57) fail(Code::DataLoss, {"57 is damaged"});
      return i;
    }),
                {.threads = threads});
    for (int64_t i = 0; i < 5; ++i) EXPECT_EQ(it.next()[0].to_vector<int64_t>()[0], i * 10);
    EXPECT_EQ(refusal([&] { it.next(); }), "57 is damaged");
    EXPECT_EQ(refusal([&] { it.next(); }), "57 is damaged");
  }
}

// ---- stopped and taken up again

std::vector<std::pair<std::string, Dataset>> pipelines() {
  auto square = [](int64_t i) { return i * i; };
  auto odd = [](int64_t i) { return i % 2 == 1; };
  const Dataset s = stream(200), n = numbers(200);
  return {
      {"in memory", n.shuffle(1).repeat(2).batch(7)},
      {"mapped", n.map(square).shuffle(2).batch(9)},
      {"rows", n.shuffle(2).map(square)},
      {"stream", s.map(square).repeat(3).batch(16)},
      {"filter", s.map(square).filter(odd).batch(5).repeat(2)},
      {"filter of an index", n.shuffle(3).filter(odd).map(square).repeat(2).batch(6)},
      {"window", s.shuffle_window(33, 4).map(square).repeat(2).batch(10)},
      {"window of batches", s.batch(6).shuffle_window(5, 4).map([](int64_t i) { return i; })},
      {"interleave", Dataset::interleave({s, n.map(square), s.filter(odd)}, 2, 3).batch(8)},
      {"sample", Dataset::sample({s, n.shuffle(7), s.map(square)}, {1, 2, 3}, 5).batch(8)},
      {"concatenate", Dataset::concatenate({s, n.shuffle(4), s}).map(square).batch(11)},
      {"zip", Dataset::zip({s, n.shuffle(6)})
                  .map([](int64_t a, int64_t b) { return a * 1000 + b; })
                  .batch(4)},
      {"unbatch", s.batch(9).unbatch().filter(odd).batch(4)},
      {"shards", s.map(square).shard(3, 1).repeat(3).batch(5)},
      {"take and skip", s.filter(odd).skip(11).take(77).repeat(2).batch(5)},
      {"prefetch", s.map(square).prefetch(3).filter(odd).prefetch(2).batch(5)},
      {"cache", s.filter(odd).cache().shuffle(8).repeat(2).batch(6)},
      {"buckets",
       ragged(300, false)
           .bucket_by_length(
               {.column = 1, .boundaries = {1, 3}, .batch_sizes = {3, 5, 7}, .max_wait = 50})
           .repeat(2)},
      {"everything", Dataset::interleave({n.shuffle(1).map(square), s.shuffle_window(20, 2)})
                         .filter([](int64_t i) { return i % 5 != 0; })
                         .repeat()
                         .map(square)
                         .batch(13)
                         .take(60)},
  };
}
TEST(Resume, FiveHundredStopsLoseAndRepeatNothing) {
  std::mt19937 random(11);
  const auto all = pipelines();
  std::vector<Numbers> whole;
  for (auto& [name, d] : all) {
    whole.push_back(values(d, {.threads = 0}));
    EXPECT_EQ(whole.back(), values(d, {.threads = 3})) << name;
    EXPECT_GT(whole.back().size(), 90u) << name;
  }
  for (int stop = 0; stop < 500; ++stop) {
    const size_t which = size_t(stop) % all.size();
    auto& [name, d] = all[which];
    const int threads = int(random() % 4);
    std::string state;
    Numbers seen;
    const int64_t until = int64_t(random() % whole[which].size());
    {
      Iterator it(d, {.threads = threads});
      while (int64_t(seen.size()) < until)
        for (int64_t v : column(it.next_chunk(1 + random() % 6))) seen.push_back(v);
      state = it.state();
      EXPECT_EQ(state.size(), it.state().size());
    }
    EXPECT_LE(state.size(), 1024u) << name;
    Iterator again(d, {.threads = int(random() % 4)});
    again.restore(state);
    // And once more at once, from a state that nothing was read from.
    Iterator third(d, {.threads = 1});
    third.restore(again.state());
    for (int64_t v : rest(third)) seen.push_back(v);
    EXPECT_EQ(seen, whole[which]) << name << " at " << until;
  }
}
TEST(Resume, InAnyOrderToo) {
  std::mt19937 random(5);
  const Dataset d = stream(400)
                        .map([](int64_t i) {
                          if (i % 17 == 0)
                            std::this_thread::sleep_for(std::chrono::microseconds(300));
                          return i;
                        })
                        .filter([](int64_t i) { return i % 3 != 0; });
  Numbers expected;
  for (int64_t i = 0; i < 400; ++i)
    if (i % 3) expected.push_back(i);
  for (int stop = 0; stop < 60; ++stop) {
    Numbers seen;
    std::string state;
    const size_t until = random() % expected.size();
    {
      Iterator it(d, {.threads = 3, .any_order = true});
      while (seen.size() < until)
        for (int64_t v : column(it.next_chunk(1 + random() % 9))) seen.push_back(v);
      state = it.state();
    }
    EXPECT_LE(state.size(), 1024u);
    Iterator again(d, {.threads = int(random() % 4), .any_order = true});
    again.restore(state);
    for (int64_t v : rest(again)) seen.push_back(v);
    EXPECT_EQ(sorted(seen), expected) << until;
  }
}
TEST(Resume, ShardsOfAClusterSeeEachElementOnce) {
  for (const Dataset& d :
       {numbers(101).shuffle(3), stream(101), stream(101).map([](int64_t i) { return i; })})
    for (int64_t shards = 1; shards <= 5; ++shards) {
      Numbers all;
      for (int64_t k = 0; k < shards; ++k)
        for (int64_t v : values(d.shard(shards, k))) all.push_back(v);
      EXPECT_EQ(sorted(all), counted(0, 101));
    }
}
TEST(Resume, RefusesWhatIsNotItsState) {
  const Dataset d = stream(50).batch(4);
  Iterator it(d);
  it.next();
  const std::string state = it.state();
  Iterator other(stream(50).batch(5));
  EXPECT_THAT(refusal([&] { other.restore(state); }), HasSubstr("of another pipeline"));
  for (size_t n = 0; n < state.size(); ++n) {
    Iterator again(d);
    EXPECT_NE(refusal([&] { again.restore(std::string_view(state).substr(0, n)); }), "") << n;
  }
  EXPECT_THAT(refusal([&] { it.restore(state + "x"); }), HasSubstr("goes on behind its end"));
}
TEST(Resume, RestartBeginsAnotherEpoch) {
  const Dataset d = numbers(20).shuffle(1).batch(6);
  Iterator it(d);
  it.next();
  it.restart(2);
  EXPECT_EQ(it.epoch(), 2);
  EXPECT_EQ(rest(it), values(d, {.epoch = 2}));
}

// ---- how it runs

TEST(Running, KeepsToItsMemory) {
  // Elements of 1 MB, of which 3 MB may wait, and one for each stage.
  auto alive = std::make_shared<std::atomic<int64_t>>(0);
  auto most = std::make_shared<std::atomic<int64_t>>(0);
  auto begun = std::make_shared<std::atomic<int64_t>>(0);
  const Dataset d = numbers(200).batch(1).map([=](const Chunk& c) {
    const int64_t now = ++*begun - *alive;
    if (now > *most) *most = now;
    return Chunk{{Column(make_array({DType::u8, {1, 1 << 20}}))}, c.rows};
  });
  Iterator it(d, {.threads = 2, .memory = 3 << 20});
  while (!it.next().empty()) {
    ++*alive;
    std::this_thread::sleep_for(std::chrono::microseconds(500));
  }
  EXPECT_EQ(*alive, 200);
  EXPECT_LE(*most, 3 + 1 + 2);  // waiting, given out, begun
}
TEST(Running, EndsWhileItWorksAhead) {
  for (int i = 0; i < 20; ++i) {
    Iterator it(stream(100000).map([](int64_t v) { return v; }).shuffle_window(100).batch(10),
                {.threads = 3});
    it.next();
  }
}
TEST(Running, CancelReachesThoseWhoWait) {
  // A generator that never gives anything within the test's patience, in small naps.
  auto stop = std::make_shared<std::atomic<bool>>(false);
  const Dataset d = stream(1000).map([stop](int64_t v) {
    while (v > 20 && !*stop) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return v;
  });
  Iterator it(d.batch(4), {.threads = 2});
  it.next();
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    it.cancel();
    *stop = true;
  });
  EXPECT_THAT(refusal([&] {
                for (int i = 0; i < 1000; ++i) it.next();
              }),
              HasSubstr("was cancelled"));
  other.join();
}
TEST(Running, ReportsTheBottleneck) {
  std::string lines;
  set_log("data", [&](std::string_view line) { lines += std::string(line) + "\n"; });
  {
    Iterator it(stream(200)
                    .map_chunks(
                        [](const Chunk& c, const data::Place&) {
                          std::this_thread::sleep_for(std::chrono::milliseconds(2));
                          return c;
                        },
                        "slow")
                    .batch(10),
                {.threads = 2});
    rest(it);
  }
  set_log("");
  EXPECT_THAT(lines, HasSubstr("data: 200 rows"));
  EXPECT_THAT(lines, HasSubstr("bottleneck: slow"));
}
TEST(Running, RandomNumbersOfAMapFollowTheElement) {
  auto draw = [](const Chunk& c, const data::Place& p) {
    Numbers v;
    for (int64_t i : p.indices) v.push_back(int64_t(Philox{7}(uint64_t(p.epoch), uint64_t(i))[0]));
    return Chunk{{Column(tensor(v, {c.rows}))}, c.rows};
  };
  const Numbers all = values(numbers(90).map(draw));
  EXPECT_EQ(std::set<int64_t>(all.begin(), all.end()).size(), 90u);
  EXPECT_EQ(all, values(stream(90).map(draw), {.threads = 2}));
  EXPECT_EQ(all, values(stream(90).batch(8).map(draw), {.threads = 2}));
  EXPECT_EQ(all, values(numbers(90).batch(7).map(draw)));
  EXPECT_NE(all, values(numbers(90).map(draw), {.epoch = 1}));
}

}  // namespace
}  // namespace evenflow
