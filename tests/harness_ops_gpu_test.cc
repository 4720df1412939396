// SPDX-License-Identifier: Apache-2.0
// Every operation, every case, every element type on a GPU: an emulated one, or with
// EVENFLOW_TEST_DEVICE=cuda the one that is there.
#include <gtest/gtest.h>

#include <cstdlib>

#include "evenflow/core/accelerator.h"
#include "tests/emulated_gpu.h"
#include "tests/op_checks.h"

namespace evenflow {
namespace {

class GpuOps : public testing::TestWithParam<const OpDef*> {
 protected:
  static Accelerator* device() {
    if (const char* name = std::getenv("EVENFLOW_TEST_DEVICE"); name && *name)
      return accelerator(Device(name));
    return accelerator(emulated::emulated_gpu());
  }
};

TEST_P(GpuOps, ValuesAsTheOracle) {
  if (const std::string why = emulated::emulated_gpu_missing(); !why.empty())
    GTEST_SKIP() << why;
  const OpDef& op = *GetParam();
  bool ran = false, asked = false;
  int failures = 0;
  for (auto& c : op.cases) {
    int64_t elements = 0;
    for (auto& in : c.in) elements += in.shape.count();
    if (!c.flags.fails.empty() || elements > 200000) continue;
    for (auto& p : checks::points(op, c)) {
      if (!p.fits) continue;
      asked = true;
      for (auto& text : checks::on_accelerator(p, device(), &ran))
        if (++failures <= 5) ADD_FAILURE() << text;
    }
  }
  if (asked && !ran) std::printf("%s: no kernel for accelerators yet\n", op.name.c_str());
}
INSTANTIATE_TEST_SUITE_P(All, GpuOps, testing::ValuesIn(all_ops()),
                         [](auto& info) { return info.param->name; });

}  // namespace
}  // namespace evenflow
