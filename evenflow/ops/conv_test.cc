// SPDX-License-Identifier: Apache-2.0
// Values by PyTorch and TensorFlow; what an attribute may be.
#include "evenflow/ops/conv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <thread>

#include "evenflow/core/parallel.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/graph/op.h"
#include "evenflow/ops/conv_transpose.h"
#include "evenflow/ops/depthwise_conv.h"
#include "tests/reference_values.h"

namespace evenflow {
namespace {
using testing::HasSubstr;

Conv2DAttrs attrs_of(const nlohmann::json& a) {
  return {.strides = a["strides"].get<std::vector<int64_t>>(),
          .padding = a["padding"],
          .dilations = a["dilation_rate"].get<std::vector<int64_t>>(),
          .groups = a.value("groups", int64_t(1))};
}
template <class F>
std::string message(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(Conv, AgreesWithPyTorch) {
  EXPECT_EQ(21, reference::check("conv2d",
                                 [](const Tensors& x, const nlohmann::json& a) -> Tensors {
                                   return {conv2d(x[0], x[1], attrs_of(a))};
                                 },
                                 {.absolute = 1e-5, .relative = 1e-5}));
}
TEST(DepthwiseConv, AgreesWithTensorFlow) {
  EXPECT_EQ(9, reference::check("depthwise_conv2d",
                                [](const Tensors& x, const nlohmann::json& a) -> Tensors {
                                  return {depthwise_conv2d(x[0], x[1], attrs_of(a))};
                                },
                                {.absolute = 1e-5, .relative = 1e-5}));
}
TEST(ConvTranspose, AgreesWithPyTorchAndKeras) {
  EXPECT_EQ(
      12, reference::check("conv2d_transpose",
                           [](const Tensors& x, const nlohmann::json& a) -> Tensors {
                             return {conv2d_transpose(
                                 x[0], x[1],
                                 {.strides = a["strides"].get<std::vector<int64_t>>(),
                                  .padding = a["padding"],
                                  .output_padding = a["output_padding"].get<std::vector<int64_t>>(),
                                  .dilations = a["dilation_rate"].get<std::vector<int64_t>>()})};
                           },
                           {.absolute = 1e-5, .relative = 1e-5}));
}

// One number for both axes is Keras's short form, not an attribute's.
TEST(Conv, RefusesAttributesThatMakeNoSense) {
  const Tensor x = zeros({1, 5, 5, 4}), k = zeros({3, 3, 4, 6});
  const auto refusal = [&](Conv2DAttrs a) { return message([&] { conv2d(x, k, a); }); };
  constexpr int64_t most = INT64_MAX;
  EXPECT_THAT(refusal({.strides = {1}}), HasSubstr("expected 2"));
  EXPECT_THAT(refusal({.strides = {0, 1}}), HasSubstr("stride of height is 0"));
  EXPECT_THAT(refusal({.strides = {1, -2}}), HasSubstr("stride of width is -2"));
  EXPECT_THAT(refusal({.strides = {most, 1}}), HasSubstr("stride of height"));
  EXPECT_THAT(refusal({.padding = "full"}), HasSubstr("\"valid\", \"same\" or"));
  EXPECT_THAT(refusal({.dilations = {1, 1, 1}}), HasSubstr("expected 2"));
  EXPECT_THAT(refusal({.dilations = {1, most}}), HasSubstr("dilation of width"));
  EXPECT_THAT(refusal({.dilations = {3, 1}}), HasSubstr("expected at most 5"));
  EXPECT_THAT(refusal({.groups = 0}), HasSubstr("groups is 0"));
  EXPECT_THAT(refusal({.groups = -2}), HasSubstr("groups is -2"));
  EXPECT_THAT(refusal({.groups = 4}), HasSubstr("groups is 4"));
}
TEST(ConvTranspose, RefusesAttributesThatMakeNoSense) {
  const Tensor x = zeros({1, 5, 5, 4}), k = zeros({3, 3, 6, 4});
  const auto refusal = [&](Conv2DTransposeAttrs a) {
    return message([&] { conv2d_transpose(x, k, a); });
  };
  constexpr int64_t most = INT64_MAX;
  EXPECT_THAT(refusal({.strides = {1}}), HasSubstr("strides has 1 numbers, expected 2"));
  EXPECT_THAT(refusal({.strides = {0, 1}}), HasSubstr("stride of height is 0"));
  EXPECT_THAT(refusal({.strides = {1, most}}), HasSubstr("stride of width"));
  EXPECT_THAT(refusal({.padding = "full"}), HasSubstr("\"valid\", \"same\" or"));
  EXPECT_THAT(refusal({.strides = {2, 2}, .output_padding = {1}}), HasSubstr("expected 2 or none"));
  EXPECT_THAT(refusal({.strides = {2, 2}, .output_padding = {0, 2}}),
              HasSubstr("output_padding of width is 2, expected from 0 to below the stride 2"));
  EXPECT_THAT(refusal({.strides = {2, 2}, .output_padding = {-1, 0}}),
              HasSubstr("output_padding of height is -1"));
  EXPECT_THAT(refusal({.dilations = {1, most}}), HasSubstr("dilation of width"));
  EXPECT_THAT(refusal({.groups = 3}), HasSubstr("groups is 3"));
  EXPECT_THAT(refusal({.padding = "same", .explicit_paddings = {0, 0, 0, 0}}),
              HasSubstr("explicit_paddings has 4 numbers, expected 0"));
  EXPECT_THAT(refusal({.padding = "explicit", .explicit_paddings = {0, -1, 0, 0}}),
              HasSubstr("explicit_paddings has -1"));
}

// Extents beside a zero may be beyond all bounds, and cost nothing.
TEST(Conv, NothingOfMuch) {
  constexpr int64_t much = int64_t(1) << 28;
  const Tensor x = zeros({much, much, 3, 0}), k = zeros({1, 1, 0, 0});
  const Tensor y = conv2d(x, k);
  EXPECT_EQ(y.shape(), x.shape());
  EXPECT_EQ(conv2d_input_grad(k, y, x).shape(), x.shape());
  EXPECT_EQ(conv2d_kernel_grad(x, y, k).shape(), k.shape());
  EXPECT_EQ(conv2d(zeros({1, 9, 9, 0}), zeros({3, 3, 0, 2})).to_vector(),
            std::vector<float>(98, 0));
}

// What "same" works out, given by hand; and rows that see nothing but zeros.
TEST(Conv, ExplicitPadding) {
  std::vector<float> vx, vk;
  for (int i = 0; i < 2 * 5 * 6 * 3; ++i) vx.push_back(float(i % 11 - 5));
  for (int i = 0; i < 4 * 2 * 3 * 4; ++i) vk.push_back(float(i % 7 - 3));
  const Tensor x = watch(tensor(vx, {2, 5, 6, 3})), k = watch(tensor(vk, {4, 2, 3, 4}));
  const Tensor same = conv2d(x, k, {.padding = "same"});
  const Tensor given = conv2d(x, k, {.padding = "explicit", .explicit_paddings = {1, 2, 0, 1}});
  EXPECT_EQ(reference::difference(given, same), "");
  const Tensors a = gradient(given, {Wrt(x), Wrt(k)}), b = gradient(same, {Wrt(x), Wrt(k)});
  for (size_t i : {0, 1}) EXPECT_EQ(reference::difference(a[i], b[i]), "");
  const Tensor far = conv2d(x, k, {.padding = "explicit", .explicit_paddings = {9, 0, 0, 0}});
  ASSERT_EQ(far.shape(), (Shape{2, 11, 5, 4}));
  for (int i = 0; i < 6 * 5 * 4; ++i) EXPECT_EQ(far.data_as<float>()[i], 0) << i;
  const auto refusal = [&](Conv2DAttrs c) { return message([&] { conv2d(x, k, c); }); };
  EXPECT_THAT(refusal({.padding = "explicit"}), HasSubstr("has 0 numbers, expected 4"));
  EXPECT_THAT(refusal({.padding = "same", .explicit_paddings = {1, 1, 1, 1}}),
              HasSubstr("has 4 numbers, expected 0"));
  EXPECT_THAT(refusal({.padding = "explicit", .explicit_paddings = {1, -1, 1, 1}}),
              HasSubstr("has -1"));
  EXPECT_THAT(refusal({.padding = "explicit", .explicit_paddings = {1, INT64_MAX, 1, 1}}),
              HasSubstr("explicit_paddings has"));
}

// Windows may reach far over a padded image: every tap but those in the middle meets zeros.
TEST(Conv, DilationsBeyondTheImage) {
  const Conv2DAttrs a{.padding = "same", .dilations = {1 << 20, 1 << 20}};
  const Tensor x = ones({2, 4, 5, 3}), k = ones({3, 3, 3, 2});
  EXPECT_EQ(conv2d(x, k, a).to_vector(), std::vector<float>(2 * 4 * 5 * 2, 3));
}

// What a kernel may not do: read or leave stale memory between two runs with other values.
TEST(Conv, KernelsHaveNoMemory) {
  const Conv2DAttrs a{.strides = {2, 2}, .padding = "same"};
  const Tensor k = ones({1, 1, 3, 2}), like = zeros({2, 5, 5, 3});
  const Tensor one = conv2d_input_grad(k, ones({2, 3, 3, 2}), like, a);
  const Tensor two = conv2d_input_grad(k, full({2, 3, 3, 2}, 2), like, a);
  for (int i = 0; i < 150; ++i) {
    const bool met = i / 15 % 5 % 2 == 0 && i / 3 % 5 % 2 == 0;
    EXPECT_EQ(one.data_as<float>()[i], met ? 2 : 0);
    EXPECT_EQ(two.data_as<float>()[i], met ? 4 : 0);
  }
}

// A library divides its work when a kernel is made ready; the number of threads may be another when
// it runs, and callers may come together.
TEST(Conv, RunsForAnyNumberOfThreadsAndCallers) {
  const int before = thread_count();
  const auto attrs = std::make_shared<const Conv2DAttrs>(Conv2DAttrs{.padding = "same"});
  const Sig x{DType::f32, {4, 12, 12, 16}}, kernel{DType::f32, {3, 3, 16, 32}},
      y{DType::f32, {4, 12, 12, 32}};
  struct Job {
    const char* op;
    Sigs in;
    Sig out;
  };
  for (const Job& job : {Job{"conv2d", {x, kernel}, y}, Job{"conv2d_input_grad", {kernel, y, x}, x},
                         Job{"conv2d_kernel_grad", {x, y, kernel}, kernel}}) {
    SCOPED_TRACE(job.op);
    std::vector<std::vector<float>> in;
    std::vector<View> views;
    for (const Sig& s : job.in) {
      in.emplace_back();
      for (int64_t i = 0; i < s.shape.count(); ++i)
        in.back().push_back(float(i * 37 % 101) / 50 - 1);
    }
    for (size_t i = 0; i < in.size(); ++i) views.push_back({&job.in[i], in[i].data()});
    const CallSig sig{job.in, {&job.out, 1}};
    for (int made : {1, 2}) {
      set_thread_count(made);
      const Prepared p = select_kernel(find_op(job.op), sig, attrs).prepared;
      const auto run = [&] {
        std::vector<float> out(size_t(job.out.shape.count()));
        const View view{&job.out, out.data()};
        const BufferPtr scratch = make_buffer(p.scratch_bytes);
        p.run({views, {&view, 1}, scratch->data()});
        return out;
      };
      const std::vector<float> want = run();
      const auto check = [&](const std::vector<float>& got) {
        for (size_t i = 0; i < want.size(); ++i)
          if (!(std::abs(got[i] - want[i]) <= 1e-3)) return false;
        return true;
      };
      for (int threads : {1, 3, 2}) {
        set_thread_count(threads);
        EXPECT_TRUE(check(run())) << threads;
        std::atomic<int> wrong{0};
        {
          std::vector<std::jthread> callers;
          for (int c = 0; c < 3; ++c)
            callers.emplace_back([&] {
              for (int i = 0; i < 5; ++i) wrong += !check(run());
            });
        }
        EXPECT_EQ(wrong, 0) << threads;
      }
    }
  }
  set_thread_count(before);
}

}  // namespace
}  // namespace evenflow
