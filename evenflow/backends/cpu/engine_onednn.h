// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <oneapi/dnnl/dnnl.hpp>

namespace evenflow::cpu {

/// oneDNN's CPU, held to EVENFLOW_ISA. All that uses the library asks here first.
const dnnl::engine& onednn_engine();

}  // namespace evenflow::cpu
