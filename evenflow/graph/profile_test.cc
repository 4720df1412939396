// SPDX-License-Identifier: Apache-2.0
#include "evenflow/graph/profile.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "evenflow/core/log.h"
#include "evenflow/core/parallel.h"
#include "evenflow/graph/compile.h"
#include "evenflow/ops/compare.h"
#include "evenflow/ops/control_flow.h"
#include "evenflow/ops/elementwise.h"
#include "evenflow/ops/matmul.h"
#include "evenflow/ops/reduce.h"
#include "tests/engine.h"

namespace evenflow {
namespace {
using engine::drawn, engine::error_of;
using nlohmann::json;
using testing::AllOf, testing::HasSubstr, testing::StartsWith;

std::shared_ptr<const KernelCall> made(const std::string& op, Cost cost = {}) {
  const Sig sig{DType::f32, {2}};
  return std::make_shared<const KernelCall>(
      KernelCall{op, "loop", "layer", {sig}, {sig}, cost, op == "loop" || op == "tiles"});
}
Execution ran(const std::string& op, int64_t begin_us, int64_t end_us, int thread, bool nested,
              Cost cost = {}) {
  return {made(op, cost), begin_us * 1000, end_us * 1000, thread, nested};
}
const KernelTime& of(const std::vector<KernelTime>& times, std::string_view op) {
  return *std::find_if(times.begin(), times.end(), [&](auto& t) { return t.op == op; });
}
double sum(const std::vector<KernelTime>& times) {
  double us = 0;
  for (auto& t : times) us += t.us;
  return us;
}

TEST(KernelTimes, add_up_calls_and_stand_longest_first) {
  const auto times = kernel_times({ran("a", 0, 10, 0, false, {100, 0}), ran("b", 10, 50, 0, false),
                                   ran("a", 60, 75, 0, false, {100, 0})},
                                  {}, false);
  ASSERT_EQ(times.size(), 2u);
  EXPECT_EQ(times[0].op, "b");
  EXPECT_EQ(times[1].calls, 2);
  EXPECT_DOUBLE_EQ(times[1].us, 25);
  EXPECT_DOUBLE_EQ(times[1].bytes, 200);
  EXPECT_DOUBLE_EQ(times[1].limit_us, 0) << "nothing is known of the machine";
}
TEST(KernelTimes, what_ran_inside_others_has_its_part_of_their_time) {
  // 100 us on two threads: 90 and 60 us of tiles, so 75 of the 100 us, and 25 for the call itself.
  const auto times =
      kernel_times({ran("tile", 0, 90, 0, true, {10, 0}), ran("tile", 20, 80, 1, true, {10, 0}),
                    ran("tiles", 0, 100, 0, false, {1000, 0}), ran("next", 100, 107, 0, false)},
                   {}, false);
  EXPECT_DOUBLE_EQ(of(times, "tile").us, 75);
  EXPECT_DOUBLE_EQ(of(times, "tiles").us, 25);
  EXPECT_DOUBLE_EQ(of(times, "tile").bytes, 20);
  EXPECT_DOUBLE_EQ(of(times, "tiles").bytes, 0) << "they are those of what ran inside";
  EXPECT_DOUBLE_EQ(sum(times), 107);
}
TEST(KernelTimes, nests_count_once) {
  // A loop on thread 0 runs tiles on 0 and 1; one tile holds a call of its own.
  const auto times = kernel_times(
      {ran("inner", 30, 50, 1, true), ran("tile", 20, 60, 1, true), ran("tile", 10, 60, 0, true),
       ran("loop", 0, 80, 0, false), ran("other", 0, 80, 2, false)},
      {}, false);
  EXPECT_DOUBLE_EQ(of(times, "inner").us, 10);
  EXPECT_DOUBLE_EQ(of(times, "tile").us, 35);
  EXPECT_DOUBLE_EQ(of(times, "loop").us, 35);
  EXPECT_DOUBLE_EQ(of(times, "other").us, 80) << "another caller's";
  EXPECT_DOUBLE_EQ(sum(times), 160);
}
TEST(KernelTimes, the_limit_is_the_slower_of_bytes_and_arithmetic) {
  std::vector<double> asked;
  const MachineLimits limits{2, 1e9, [&](double bytes) {
                               asked.push_back(bytes);
                               return 1e9;
                             }};
  const auto times = kernel_times(
      {ran("bytes", 0, 10, 0, false, {4000, 1000}), ran("flops", 10, 20, 0, false, {4000, 8000}),
       ran("inside", 20, 30, 0, true, {4000, 0})},
      limits, true);
  EXPECT_DOUBLE_EQ(of(times, "bytes").limit_us, 4);
  EXPECT_DOUBLE_EQ(of(times, "flops").limit_us, 8);
  EXPECT_EQ(asked, (std::vector<double>{2000, 2000, 4000}))
      << "two threads share a call, a tile is one thread's";
  EXPECT_EQ(of(times, "bytes").shapes, "f32[2] -> f32[2]");
  EXPECT_EQ(of(times, "bytes").name, "layer");
}

TEST(Recorder, sees_every_kernel_of_a_plan_once) {
  const auto f = compile([](const Tensor& x) { return reduce_sum(matmul(x, x) + 1); },
                         {.passes = Passes::none});
  const Tensor x = drawn({8, 8}, 1);
  f(x).data();
  Recorder recorder;
  recorder.span("step", [&] { f(x).data(); });
  const auto all = recorder.executions();
  std::vector<std::string> ops;
  for (auto& e : all) {
    ops.push_back(e.call->op);
    EXPECT_LE(recorder.spans()[0].begin_ns, e.begin_ns);
    EXPECT_LE(e.begin_ns, e.end_ns);
    EXPECT_LE(e.end_ns, recorder.spans()[0].end_ns);
    EXPECT_FALSE(e.nested);
  }
  EXPECT_EQ(ops, (std::vector<std::string>{"matmul", "add", "reduce_sum"}));
  EXPECT_DOUBLE_EQ(all[0].call->cost.flops, 2 * 8 * 8 * 8);
  EXPECT_DOUBLE_EQ(all[0].call->cost.bytes, 3 * 8 * 8 * 4);
  EXPECT_EQ(shapes_of(*all[0].call), "f32[8,8], f32[8,8] -> f32[8,8]");
  f(x).data();
  EXPECT_EQ(recorder.executions().size(), 6u);
}
TEST(Recorder, marks_what_runs_inside_a_loop) {
  const auto f = compile([](const Tensor& x) {
    return while_loop([](const Tensors& s) { return less(reduce_sum(s[0]), 100); },
                      [](const Tensors& s) { return Tensors{s[0] * 2}; }, {x})[0];
  });
  const Tensor x = tensor(std::vector<float>{1, 2}, {2});
  Recorder recorder;
  f(x).data();
  int doubled = 0, loops = 0;
  for (auto& e : recorder.executions()) {
    doubled += e.call->op == "multiply" && e.nested;
    loops += e.call->op == "while_loop" && !e.nested;
  }
  EXPECT_EQ(doubled, 6) << "3 doubled six times is 192";
  EXPECT_EQ(loops, 1);
}
TEST(Recorder, there_is_one_at_a_time_and_none_sees_nothing) {
  {
    const Recorder one;
    EXPECT_THAT(error_of([] { Recorder another; }), HasSubstr("one at a time"));
  }
  const auto f = compile([](const Tensor& x) { return x + 1; });
  f(ones({2})).data();
  const Recorder fresh;
  EXPECT_TRUE(fresh.executions().empty());
}

TEST(ExecLog, has_a_line_a_call_from_the_same_record) {
  const KernelCall call{"conv2d", "onednn", "block1/conv", {}, {}, {2e6, 4e6}, false};
  EXPECT_EQ(str(call, 100), "conv2d [onednn] \"block1/conv\" 100 us, 40 GFlop/s, 20 GB/s");
  const auto f = compile([](const Tensor& x) { return matmul(x, x); });
  std::vector<std::string> lines;
  set_log("exec", [&](std::string_view line) { lines.emplace_back(line); });
  f(ones({8, 8})).data();
  set_log("");
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines[0], AllOf(StartsWith("evenflow exec: matmul ["), HasSubstr(" GFlop/s"),
                              HasSubstr(" GB/s")));
}

TEST(ChromeTrace, has_an_event_an_execution) {
  Execution named = ran("a", 105, 115, 3, false, {8, 2});
  const json trace = json::parse(
      chrome_trace({named, ran("b", 120, 121, 4, true)}, {ran("", 100, 130, 0, false)}));
  std::vector<json> events;
  for (auto& e : trace.at("traceEvents"))
    if (e.at("ph") == "X") events.push_back(e);
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].at("cat"), "step");
  EXPECT_EQ(events[0].at("ts"), 0) << "times begin with the first event";
  EXPECT_EQ(events[0].at("dur"), 30);
  EXPECT_EQ(events[1].at("name"), "a");
  EXPECT_EQ(events[1].at("ts"), 5);
  EXPECT_EQ(events[1].at("tid"), 3);
  EXPECT_EQ(events[1].at("args"), (json{{"kernel", "loop"},
                                        {"shapes", "f32[2] -> f32[2]"},
                                        {"bytes", 8},
                                        {"name", "layer"},
                                        {"flops", 2}}));
  EXPECT_FALSE(events[2].at("args").contains("flops"));
}
TEST(ChromeTrace, is_json_whatever_a_layer_is_called) {
  Execution e = ran("a", 0, 1, 0, false);
  e.call = std::make_shared<const KernelCall>(KernelCall{"a", "k", "\"\xff\n", {}, {}, {}, false});
  EXPECT_NO_THROW(json::parse(chrome_trace({e}, {})));
  EXPECT_NO_THROW(json::parse(chrome_trace({}, {})));
}

}  // namespace
}  // namespace evenflow
