// SPDX-License-Identifier: Apache-2.0
// A GPU for tests: kernels are compiled by the host's compiler and run block by block, their
// threads taking turns between barriers. It checks what a driver would not: memory that is not its
// own, blocks given back twice, launches that are too large.
#pragma once
#include "evenflow/core/device.h"

namespace evenflow::emulated {

/// Makes the device "emulated" known, and gives it. Empty `why` of emulated_gpu_missing(): it
/// works.
Device emulated_gpu();
/// EVENFLOW_TEST_DEVICE, else the emulated one.
Device device_for_tests();
/// Why it cannot be used here (no compiler); empty: it can.
std::string emulated_gpu_missing();
/// The next allocations fail as if memory had run out.
void emulated_gpu_memory(int64_t most_bytes);

}  // namespace evenflow::emulated
