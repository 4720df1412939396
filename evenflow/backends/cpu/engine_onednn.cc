// SPDX-License-Identifier: Apache-2.0
#include "evenflow/backends/cpu/engine_onednn.h"

#include "evenflow/backends/cpu/features.h"
#include "evenflow/core/error.h"

namespace evenflow::cpu {
namespace {

// The library reads its limit once, at its first use.
void hold_to_limit() {
  const auto limit = isa_limit();
  if (!limit) return;
  const auto most = *limit == Isa::sse4     ? dnnl::cpu_isa::sse41
                    : *limit == Isa::avx2   ? dnnl::cpu_isa::avx2
                    : *limit == Isa::avx512 ? dnnl::cpu_isa::avx512_core
                                            : dnnl::cpu_isa::isa_default;
  if (dnnl::set_max_cpu_isa(most) != dnnl::status::success)
    fail(Code::FailedPrecondition, {"EVENFLOW_ISA is ", str(*limit),
                                    ", but this program has used oneDNN before Evenflow did: ",
                                    "expected ONEDNN_MAX_CPU_ISA, which limits it from the start"});
}

}  // namespace

const dnnl::engine& onednn_engine() {
  static const dnnl::engine* e = [] {
    hold_to_limit();
    return new dnnl::engine(dnnl::engine::kind::cpu, 0);
  }();
  return *e;
}

}  // namespace evenflow::cpu
