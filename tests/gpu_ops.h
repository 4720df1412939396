// SPDX-License-Identifier: Apache-2.0
// The harness of operations on a GPU: an emulated one, or with EVENFLOW_TEST_DEVICE=cuda the one
// that is there. With EVENFLOW_TEST_CUDA=sm_80,sm_90 the emulated one compiles each kernel for
// these too, where there is NVRTC.
#pragma once
#include <gtest/gtest.h>

#include "evenflow/core/accelerator.h"
#include "tests/emulated_gpu.h"
#include "tests/op_checks.h"

namespace evenflow {

class GpuOps : public ::testing::TestWithParam<const OpDef*> {
 protected:
  /// Every case: with each choice of element types, or with the first.
  void check(bool all_types) {
    if (const std::string why = emulated::emulated_gpu_missing(); !why.empty()) GTEST_SKIP() << why;
    const OpDef& op = *GetParam();
    bool ran = false, asked = false;
    int failures = 0;
    for (auto& c : op.cases) {
      int64_t elements = 0;
      for (auto& in : c.in) elements += in.shape.count();
      if (!c.flags.fails.empty() || elements > 200000) continue;
      auto points = checks::points(op, c);
      if (!all_types) points.resize(1);
      for (auto& p : points) {
        if (!p.fits) continue;
        asked = true;
        for (auto& text :
             checks::on_accelerator(p, accelerator(emulated::device_for_tests()), &ran))
          if (++failures <= 5) ADD_FAILURE() << text;
      }
    }
    if (asked && !ran) std::printf("%s: no kernel for accelerators yet\n", op.name.c_str());
  }
};

}  // namespace evenflow
