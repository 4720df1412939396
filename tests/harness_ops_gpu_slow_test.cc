// SPDX-License-Identifier: Apache-2.0
// Every operation, every case, at each choice of element types, on a GPU.
#include "tests/gpu_ops.h"

namespace evenflow {
namespace {

TEST_P(GpuOps, ValuesAsTheOracle) { check(true); }
INSTANTIATE_TEST_SUITE_P(All, GpuOps, ::testing::ValuesIn(all_ops()),
                         [](auto& info) { return info.param->name; });

}  // namespace
}  // namespace evenflow
