// SPDX-License-Identifier: Apache-2.0
// Own kernels of convolutions on each instruction set that this machine has, at every case, against
// the loops. (A kernel made ready serves the instruction set it was made for: nothing is called
// here that keeps one.)
#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <cmath>
#include <random>

#include "evenflow/graph/op.h"

namespace evenflow {
namespace {

class ConvTargets : public testing::TestWithParam<const char*> {};

std::vector<float> draw(int64_t n, unsigned seed) {
  std::mt19937 bits(seed);
  std::normal_distribution<float> normal;
  std::vector<float> v(static_cast<size_t>(n));
  for (float& x : v) x = normal(bits);
  return v;
}

// The kernels that accept a case; returns how many.
int check(const OpDef& op, const OpDef::Case& c) {
  Sigs in;
  std::vector<std::vector<float>> values;
  std::vector<View> views;
  for (const CaseInput& i : c.in) in.push_back({DType::f32, i.shape});
  const Sigs out = op.shape(in, c.attrs.get());
  for (const Sig& s : in)
    values.push_back(draw(s.shape.count(), unsigned(values.size()))),
        views.push_back({&s, values.back().data()});
  auto run = [&](const std::function<void(const Call&)>& f, int64_t scratch_bytes) {
    std::vector<float> result(size_t(out[0].shape.count()));
    const BufferPtr scratch = make_buffer(scratch_bytes);
    const View view[] = {{&out[0], result.data()}};
    f({views, view, scratch->data()});
    return result;
  };
  const std::vector<float> want = run([&](const Call& call) { op.loop(call, c.attrs.get()); }, 0);
  double scale = 1e-30;
  for (float v : want) scale += double(v) * v / double(want.size());
  int n = 0;
  for (const KernelDef& k : op.kernels()) {
    if (k.name.find("onednn") != k.name.npos) continue;
    if (k.declines && !k.declines({in, out}, c.attrs.get()).empty()) continue;
    const Prepared p = k.prepare({in, out}, c.attrs.get());
    const std::vector<float> got = run(p.run, p.scratch_bytes);
    double worst = 0;
    for (size_t i = 0; i < want.size(); ++i)
      worst = std::max(worst, std::abs(double(got[i]) - want[i]));
    EXPECT_LT(worst, 1e-5 * std::sqrt(scale)) << k.name;
    ++n;
    if (!k.accumulates) continue;
    const auto twice = run(
        [&](Call call) {
          p.run(call);
          call.accumulate = true;
          p.run(call);
        },
        p.scratch_bytes);
    for (size_t i = 0; i < want.size(); ++i) EXPECT_FLOAT_EQ(twice[i], 2 * got[i]) << k.name;
  }
  return n;
}

TEST_P(ConvTargets, agree_with_the_loop) {
  const OpDef& op = find_op(GetParam());
  for (int64_t target : hwy::SupportedAndGeneratedTargets()) {
    SCOPED_TRACE(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    int n = 0;
    for (const OpDef::Case& c : op.cases) {
      if (c.flags.bench || !c.flags.fails.empty()) continue;
      SCOPED_TRACE(c.name);
      n += check(op, c);
    }
    EXPECT_GT(n, 0);
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}
INSTANTIATE_TEST_SUITE_P(, ConvTargets,
                         testing::Values("conv2d", "conv2d_input_grad", "conv2d_kernel_grad",
                                         "winograd_kernel", "winograd_kernel_grad",
                                         "winograd_conv2d", "winograd_conv2d_kernel_grad"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace evenflow
