// SPDX-License-Identifier: Apache-2.0
// This program links the runtime alone: what serves a saved graph needs no model.
#include "evenflow/graph/saved_graph.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <regex>
#include <thread>

#include "evenflow/core/checksum.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/ops/control_flow.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/reduce.h"

namespace evenflow {
namespace {
using testing::HasSubstr;

const Variable& weights() {
  static const Variable w(tensor(std::vector<float>{1, 2, 3}, {3}), {.name = "w"});
  return w;
}
// Two functions over one weight; the second has a sub-graph.
std::vector<SavedFunction> two() {
  const Variable w = weights();
  NameScope scope("block");
  return {saved_function("scale", {{"x", {DType::f32, {2, 3}}}}, {"y"},
                         [w](const Tensors& in) -> Tensors { return {in[0] * w + 1}; }),
          saved_function("sum", {{"x", {DType::f32, {4, 3}}}, {"unused", {DType::i64, {}}}},
                         {"total", "last"}, [w](const Tensors& in) -> Tensors {
                           const ScanResult r = scan(
                               [w](const Tensors& s, const Tensors& x) -> Tensors {
                                 return {s[0] + x[0] * w, s[0]};
                               },
                               {zeros({3})}, {in[0]});
                           return {r.state[0], reduce_sum(r.outputs[0])};
                         })};
}
std::string bytes() { return saved_graph_bytes(two(), {{"model", "two"}, {"note", "größer"}}); }

TEST(SavedGraph, runs_what_was_saved_at_any_batch_size) {
  const SavedGraph g = load_graph(bytes());
  EXPECT_EQ(g.metadata().at("note"), "größer");
  EXPECT_EQ(g.weight_bytes(), 64 / 64 * 12 + 4 + 12)
      << "w once, the number 1, and the initial state";
  ASSERT_EQ(g.signatures().size(), 2u);
  EXPECT_EQ(g.signature("scale").inputs[0].name, "x");
  EXPECT_EQ(str(g.signature("scale").outputs[0].sig), "f32[2,3]");
  for (int64_t n : {2, 5, 1, 0}) {
    const Tensor x = full({n, 3}, 2);
    EXPECT_EQ(g("scale", {x})[0].to_vector(), (x * weights() + 1).to_vector()) << n;
    const Tensors r = g("sum", {x, full({}, 7, DType::i64)});
    EXPECT_EQ(r[0].to_vector(),
              (std::vector<float>{2.f * float(n), 4.f * float(n), 6.f * float(n)}))
        << n;
  }
}

TEST(SavedGraph, saved_again_it_has_the_same_bytes) {
  const std::string first = bytes();
  EXPECT_EQ(first, bytes());
  const SavedGraph g = load_graph(first);
  std::vector<SavedFunction> again;
  for (auto& s : g.signatures()) {
    SavedFunction f{s.name, {}, {}, g.graph(s.name), s.fixed_extents};
    for (auto& i : s.inputs) f.inputs.push_back(i.name);
    for (auto& o : s.outputs) f.outputs.push_back(o.name);
    again.push_back(f);
  }
  EXPECT_EQ(saved_graph_bytes(again, g.metadata()), first);
}

TEST(SavedGraph, a_later_step_does_not_change_what_was_saved) {
  const Variable w(full({3}, 1), {.name = "w"});
  const auto f = saved_function("f", {{"x", {DType::f32, {3}}}}, {"y"},
                                [w](const Tensors& in) -> Tensors { return {in[0] * w}; });
  w.assign(full({3}, 5));
  EXPECT_EQ(load_graph(saved_graph_bytes({f}))("f", {full({3}, 2)})[0].to_vector(),
            (std::vector<float>{2, 2, 2}));
}

TEST(SavedGraph, joins_a_trace_and_is_differentiated) {
  const SavedGraph g = load_graph(bytes());
  const Tensor x = watch(full({2, 3}, 2));
  EXPECT_EQ(gradient(g("scale", {x})[0], x).to_vector(), (std::vector<float>{1, 2, 3, 1, 2, 3}));
  auto f = compile([g](const Tensor& x) { return g("scale", {x})[0] * 2; });
  EXPECT_EQ(f(full({1, 3}, 1)).to_vector(), (std::vector<float>{4, 6, 8}));
}

TEST(SavedGraph, callers_run_side_by_side) {
  const SavedGraph g = load_graph(bytes());
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        const int64_t n = 1 + (t + i) % 3;
        wrong += g("scale", {full({n, 3}, t)})[0].to_vector()[1] != float(2 * t + 1);
      }
    });
  for (auto& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
}

template <class F>
std::string message(F f) {
  try {
    f();
  } catch (const Error& e) {
    return std::string(str(e.code())) + ": " + e.what();
  }
  return "nothing was thrown";
}
TEST(SavedGraph, wrong_calls_are_refused) {
  const SavedGraph g = load_graph(bytes());
  EXPECT_THAT(message([&] { g("scales", {}); }),
              HasSubstr("no function \"scales\"; it has \"scale\", \"sum\""));
  EXPECT_THAT(message([&] { g("scale", {}); }), HasSubstr("0 inputs were given, expected 1"));
  EXPECT_THAT(message([&] { g("scale", {zeros({3})}); }),
              HasSubstr("input \"x\" is f32[3], expected f32[2,3]"));
  EXPECT_THAT(message([&] {
                g("scale", {zeros({2, 3}, DType::f64)});
              }),
              HasSubstr("input \"x\" is f64[2,3]"));
  EXPECT_THAT(message([&] { g("scale", {zeros({2, 4})}); }), HasSubstr("do not broadcast"));
  const auto looked = saved_function(
      "f", {{"x", {DType::f32, {2}}}}, {"y"},
      [](const Tensors& in) -> Tensors { return {in[0] * double(in[0].shape()[0])}; });
  EXPECT_THAT(message([&] { load_graph(saved_graph_bytes({looked}))("f", {zeros({3})}); }),
              HasSubstr("traced for these extents only"));
  const Variable w(full({3}, 1), {.name = "w"});
  EXPECT_THAT(message([&] {
                saved_function("f", {}, {"y"}, [w](const Tensors&) -> Tensors {
                  w.assign(full({3}, 2));
                  return {w.read()};
                });
              }),
              HasSubstr("writes variable \"w\""));
}

// ---- hostile files
// --------------------------------------------------------------------------------------------------------
constexpr size_t kStart = 24;
std::string with_header(const std::string& file, const std::string& header) {
  const auto size = [](const std::string& f) {
    uint64_t n;
    std::memcpy(&n, f.data() + 16, 8);
    return n;
  };
  auto up = [](size_t n) { return (n + 63) / 64 * 64; };
  std::string r = file.substr(0, 12);
  const uint32_t sum = crc32c(header.data(), header.size());
  const uint64_t n = header.size();
  r.append(reinterpret_cast<const char*>(&sum), 4)
      .append(reinterpret_cast<const char*>(&n), 8)
      .append(header);
  r.resize(up(r.size()));
  return r + file.substr(std::min(file.size(), up(kStart + size(file))));
}
std::string header_of(const std::string& file) {
  uint64_t n;
  std::memcpy(&n, file.data() + 16, 8);
  return file.substr(kStart, n);
}
// Refused with an Error, or it loads and runs; anything else ends this program. Returns whether it
// loaded.
bool survive(const std::string& file, const std::string& what) {
  const int64_t before = Buffer::counters().peak;
  try {
    const SavedGraph g = load_graph(file, {.run_bytes = 1 << 24});
    for (auto& s : g.signatures()) {
      Tensors in;
      for (auto& i : s.inputs)
        in.push_back(zeros(i.sig.shape.count() > 10000 ? Shape() : i.sig.shape, i.sig.dtype));
      try {
        for (auto& t : g(s.name, in)) t.data();
      } catch (const Error&) {
      }
    }
    return true;
  } catch (const Error& e) {
    EXPECT_NE(e.code(), Code::Internal) << what << ": " << e.what();
  } catch (const std::exception& e) {
    ADD_FAILURE() << what << ": threw " << e.what();
  }
  EXPECT_LT(Buffer::counters().peak - before, int64_t(1) << 26) << what;
  return false;
}

TEST(SavedGraph, every_flipped_bit_of_a_byte_is_noticed) {
  const std::string good = bytes();
  ASSERT_TRUE(survive(good, "good"));
  int loaded = 0;
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = char(bad[i] ^ (1 << i % 8));
    loaded += survive(bad, "flipped " + std::to_string(i));
  }
  EXPECT_LT(loaded, 64 * 4) << "only the padding may change";
}
TEST(SavedGraph, every_truncation_is_refused) {
  const std::string good = bytes();
  for (size_t n = 0; n < good.size() - 64; ++n)
    EXPECT_FALSE(survive(good.substr(0, n), "truncated to " + std::to_string(n)));
}
TEST(SavedGraph, a_hostile_header_with_a_right_checksum) {
  const std::string good = bytes(), header = header_of(good);
  auto each = [&](const std::string& pattern, std::initializer_list<const char*> others) {
    int n = 0;
    const std::regex re(pattern);
    for (auto it = std::sregex_iterator(header.begin(), header.end(), re);
         it != std::sregex_iterator(); ++it)
      for (auto* other : others) {
        std::string h = header;
        h.replace(size_t(it->position(1)), size_t(it->length(1)), other);
        survive(with_header(good, h),
                "with " + std::string(other) + " at " + std::to_string(it->position(1)));
        ++n;
      }
    EXPECT_GT(n, 0);
  };
  each("[^\"\\w.](-?\\d+)", {"-1", "0", "1", "3", "1000000", "4294967296", "9223372036854775807",
                             "18446744073709551615", "1e300", "null", "\"x\"", "[]", "{}", "true"});
  each("(\"[^\"]*\")", {"\"\"", "\"x\"", "\"add\"", "\"read\"", "\"constant\"", "\"argument\"",
                        "\"f64\"", "\"bool\"", "0", "null", "[[]]"});
  each("(\\[[^\\[\\]]*\\])", {"[]", "{}", "0", "[0]", "[0,0]", "[[[]]]", "[-1,1e9]"});
  each("(:true|:false)", {":0", ":null"});
  std::mt19937_64 g(5);
  for (int i = 0; i < 3000; ++i) {
    std::string h = header;
    for (int k = 0; k < 1 + i % 4; ++k) {
      const size_t at = g() % h.size();
      switch (g() % 4) {
        case 0:
          h[at] = char(g());
          break;
        case 1:
          h.erase(at, g() % 20);
          break;
        case 2:
          h.insert(at, h.substr(g() % h.size(), g() % 20));
          break;
        default:
          h[at] = "0123456789-[]{},:\"e"[g() % 19];
      }
    }
    survive(with_header(good, h), "mutation " + std::to_string(i));
  }
}
TEST(SavedGraph, depth_size_and_versions_are_limited) {
  const std::string good = bytes(), header = header_of(good);
  EXPECT_THAT(message([&] { load_graph(with_header(good, std::string(1 << 20, '['))); }),
              HasSubstr("nested more than"));
  EXPECT_THAT(message([&] { load_graph(good, {.header_bytes = 100}); }),
              HasSubstr("expected at most 100"));
  EXPECT_THAT(message([&] { load_graph(good, {.depth = 0}); }),
              HasSubstr("sub-graphs are nested more than 0 deep"));
  auto changed = [&](const char* from, const char* to) {
    return with_header(good, std::regex_replace(header, std::regex(from), to,
                                                std::regex_constants::format_first_only));
  };
  EXPECT_THAT(message([&] { load_graph(changed("\"multiply\":1", "\"multiply\":2")); }),
              HasSubstr("version 2 of operation \"multiply\", expected 1"));
  EXPECT_THAT(message([&] { load_graph(changed("\"multiply\":1", "\"multipy\":1")); }),
              HasSubstr("the nearest is \"multiply\""));
  EXPECT_THAT(message([&] { load_graph(changed("\\[\"f32\",2,3\\]", "[\"f32\",2,4]")); }),
              HasSubstr("saved graph: "));
  std::string later = good;
  later[8] = 2;
  EXPECT_THAT(message([&] { load_graph(later); }), HasSubstr("its format is 2, expected 1"));
  std::string weight = good;
  weight[weight.size() - 64] = char(weight[weight.size() - 64] ^ 1);
  EXPECT_THAT(message([&] { load_graph(weight); }), HasSubstr("checksum of weight"));
  EXPECT_THAT(message([&] {
                load_graph(good, {.run_bytes = 8})("scale", {zeros({2, 3})});
              }),
              HasSubstr("expected at most 8"));
}

}  // namespace
}  // namespace evenflow
