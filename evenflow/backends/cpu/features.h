// SPDX-License-Identifier: Apache-2.0
// What the processor has, where the choice between kernels depends on it.
#pragma once

namespace evenflow::cpu {

/// Whether matrix tiles of bf16 (AMX) are there and the system saves their state: then a library's
/// bf16 products are several times as fast as any in f32.
bool has_amx_bf16();

}  // namespace evenflow::cpu
