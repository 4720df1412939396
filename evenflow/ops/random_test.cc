// SPDX-License-Identifier: Apache-2.0
// Random numbers: pure functions of a draw, the same bits for any number of threads, other ones for
// each draw and call site.
#include "evenflow/ops/random.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "evenflow/core/parallel.h"
#include "evenflow/core/random.h"
#include "evenflow/graph/compile.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/reduce.h"
#include "tests/engine.h"

namespace evenflow {
namespace {
using engine::bits, engine::drawn, engine::error_of;
using testing::HasSubstr;

Tensor draw(int64_t key, int64_t counter) {
  return tensor(std::vector<int64_t>{key, counter}, {2});
}
struct Threads {
  int before = thread_count();
  explicit Threads(int n) { set_thread_count(n); }
  ~Threads() { set_thread_count(before); }
};
using Maker = Tensor (*)(const Tensor&, const Tensor&);
const Maker kMakers[] = {
    [](const Tensor& d, const Tensor& like) { return random_uniform_like(d, like, -1, 3); },
    [](const Tensor& d, const Tensor& like) { return random_normal_like(d, like, 1, 2); },
    [](const Tensor& d, const Tensor& like) { return random_truncated_normal_like(d, like, 1, 2); },
    [](const Tensor& d, const Tensor& like) { return dropout_mask(d, like, 0.25); },
};

// The known answers of Random123's kat_vectors for philox4x32-10.
TEST(Random, is_philox) {
  EXPECT_THAT(Philox{0}(0, 0),
              testing::ElementsAre(0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u));
  EXPECT_THAT(Philox{~uint64_t(0)}(~uint64_t(0), ~uint64_t(0)),
              testing::ElementsAre(0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu));
  EXPECT_THAT(Philox{0x299f31d0a4093822}(0x0370734413198a2e, 0x85a308d3243f6a88),
              testing::ElementsAre(0xd16cfe09u, 0x94fdcceb, 0x5001e420u, 0x24126ea1u));
}

TEST(Random, has_the_same_bits_for_any_number_of_threads) {
  for (DType d : {DType::f32, DType::f64, DType::bf16})
    for (size_t m = 0; m < std::size(kMakers); ++m) {
      const Tensor like = zeros({100003}, d);
      std::string one;
      {
        Threads t(1);
        one = bits(kMakers[m](draw(7, 3), like));
      }
      for (int n : {2, 3}) {
        Threads t(n);
        EXPECT_EQ(bits(kMakers[m](draw(7, 3), like)), one) << m << " " << str(d) << " " << n;
      }
      // A shorter one is the beginning of a longer: an element knows nothing of its neighbours.
      const std::string part = bits(kMakers[m](draw(7, 3), zeros({4097}, d)));
      EXPECT_EQ(part, one.substr(0, part.size()));
      EXPECT_NE(bits(kMakers[m](draw(7, 4), like)), one);
      EXPECT_NE(bits(kMakers[m](draw(8, 3), like)), one);
    }
}

TEST(Random, has_the_moments_that_it_should) {
  const int64_t n = 400000;
  const Tensor like = zeros({n});
  struct Expected {
    double mean, variance, low, high;
  };
  // Truncated at two deviations: variance 1 - 4 phi(2) / (2 Phi(2) - 1) = 0.7737413 of the whole.
  const Expected expected[] = {{1, 16. / 12, -1, 3},
                               {1, 4, -20, 22},
                               {1, 4 * 0.7737413, -3, 5},
                               {1, (4. / 3) - 1, 0, 4. / 3}};
  for (size_t m = 0; m < std::size(kMakers); ++m) {
    const auto v = kMakers[m](draw(11, 0), like).to_vector<double>();
    double sum = 0, squares = 0;
    for (double x : v) {
      sum += x;
      ASSERT_GE(x, expected[m].low);
      ASSERT_LE(x, expected[m].high + 1e-6);
    }
    const double mean = sum / double(n);
    for (double x : v) squares += (x - mean) * (x - mean);
    EXPECT_NEAR(mean, expected[m].mean, 5 * std::sqrt(expected[m].variance / double(n))) << m;
    EXPECT_NEAR(squares / double(n), expected[m].variance, 0.02 * expected[m].variance) << m;
  }
}

TEST(Random, is_never_merged_and_never_folded) {
  Generator gen(5);
  const Tensor like = zeros({64});
  auto body = [gen](const Tensor& x) {
    Tensor a = random_uniform_like(gen.next(), x), b = random_uniform_like(gen.next(), x);
    return Tensors{a, b};
  };
  auto f = compile(body);
  std::set<std::string> seen;
  for (int i = 0; i < 5; ++i)
    for (auto& t : f(like)) seen.insert(bits(t));
  EXPECT_EQ(seen.size(), 10u) << "two of each run, five runs";
  EXPECT_EQ(gen.state().read().to_vector<int64_t>()[1], 10);
  // The same in a Step and at once, from the same state.
  gen.state().assign(draw(5, 0));
  Tensors recorded;
  {
    Step s;
    recorded = body(like);
    s.commit();
  }
  gen.state().assign(draw(5, 0));
  const Tensors now = body(like);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_TRUE(seen.count(bits(recorded[i])));
    EXPECT_EQ(bits(now[i]), bits(recorded[i]));
  }
}

TEST(Random, a_generator_for_each_call_site_is_a_stream_of_its_own) {
  Generator a(1), b(2);
  const Tensor like = zeros({16});
  auto both = compile([=](const Tensor& x) {
    return Tensors{random_normal_like(a.next(), x), random_normal_like(b.next(), x)};
  });
  const Tensors r = both(like);
  EXPECT_NE(bits(r[0]), bits(r[1]));
  // Taking one away does not change what the other draws.
  Generator again(2);
  EXPECT_EQ(
      bits(compile([=](const Tensor& x) { return random_normal_like(again.next(), x); })(like)),
      bits(r[1]));
}

TEST(Random, recomputing_uses_the_same_draw) {
  Generator gen(3);
  Variable w(ones({1000}));
  Step s;
  Tensor mask = dropout_mask(gen.next(), w, 0.5), y = w * mask;
  const double sum = reduce_sum(y).item();
  Tensor d = gradient(y, w);  // the mask may have been thrown away by now
  EXPECT_EQ(bits(d), bits(mask)) << "forward and backward see one mask";
  EXPECT_EQ(reduce_sum(d).item(), sum);
  s.commit();
  EXPECT_EQ(gen.state().read().to_vector<int64_t>()[1], 1);
}

TEST(Random, a_skipped_step_draws_other_numbers_next_time) {
  for (Commit c : {Commit::Run, Commit::Step}) {
    Generator gen(3, c);
    auto f = compile([gen](const Tensor& ok, const Tensor& x) {
      require(ok);
      return random_uniform_like(gen.next(), x);
    });
    const Tensor like = zeros({8});
    const std::string first = bits(f(engine::truth(false), like));
    EXPECT_EQ(bits(f(engine::truth(true), like)) == first, c == Commit::Step);
  }
}

TEST(Random, refuses_what_it_cannot_draw) {
  EXPECT_THAT(error_of([] { random_uniform_like(zeros({3}, DType::i64), zeros({2})); }),
              HasSubstr("expected i64[2]"));
  EXPECT_THAT(error_of([] { random_uniform_like(zeros({2}), zeros({2})); }),
              HasSubstr("draw is f32"));
  EXPECT_THAT(error_of([] { random_uniform_like(draw(1, 2), zeros({2}, DType::i32)); }),
              HasSubstr("like is i32"));
  for (double rate : {-0.1, 1.0, std::nan("")})
    EXPECT_THAT(error_of([&] { dropout_mask(draw(1, 2), zeros({2}), rate); }),
                HasSubstr("rate is"));
}

}  // namespace
}  // namespace evenflow
